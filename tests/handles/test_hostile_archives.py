"""Archives that are made to do harm."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import random
import shutil
import stat
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable

import pytest
from archives_made import tar_with
from loopback import tar_of, zip_of

import hub_compat as hub
from hub_compat._handles import archives


def zip_with(name: str, mode: int = stat.S_IFREG | 0o644, flags: int = 0) -> bytes:
    """A zip with a model and one more member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("saved_model.pb", b"xx")
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, b"/etc/passwd")
    data = bytearray(out.getvalue())
    if flags:
        # Of the central directory's last entry, and of the local header.
        data[data.rindex(b"PK\x01\x02") + 8] |= flags
        data[data.rindex(b"PK\x03\x04") + 6] |= flags
    return bytes(data)


def bomb() -> bytes:
    """A thousand times as much as it has bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member = tarfile.TarInfo("saved_model.pb")
        member.size = 64 << 20
        archive.addfile(member, _Zeros(member.size))
    return out.getvalue()


class _Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        super().__init__()
        self._left = size

    def read(self, size: int = -1) -> bytes:
        given = min(size, self._left)
        self._left -= given
        return bytes(given)


HOSTILE = {
    "up": lambda: tar_with("../evil", size=1),
    "up within": lambda: tar_with("a/../../evil", size=1),
    "up to a name": lambda: tar_with("a/..", type=tarfile.DIRTYPE),
    "link": lambda: tar_with("l", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "link within": lambda: tar_with(
        "l", type=tarfile.SYMTYPE, linkname="saved_model.pb"
    ),
    "hard link": lambda: tar_with("l", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "pipe": lambda: tar_with("p", type=tarfile.FIFOTYPE),
    "device": lambda: tar_with("d", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block device": lambda: tar_with("d", type=tarfile.BLKTYPE),
    "case": lambda: tar_with("Saved_Model.pb", size=1),
    "twice": lambda: tar_with("saved_model.pb", size=1),
    "beneath a file": lambda: tar_with("saved_model.pb/x", size=1),
    "long name": lambda: tar_with("x" * 300, size=1),
    "deep": lambda: tar_with("d/" * 200 + "x", size=1),
    "backslash": lambda: tar_with("..\\evil", size=1),
    "drive": lambda: tar_with("C:evil", size=1),
    "zip up": lambda: zip_with("../evil"),
    "zip link": lambda: zip_with("l", stat.S_IFLNK | 0o777),
    "zip device": lambda: zip_with("l", stat.S_IFCHR | 0o666),
    "zip encrypted": lambda: zip_with("secret", flags=1),
    "zip cut": lambda: zip_of({"saved_model.pb": b"x" * 1000})[:-30],
    "tar cut": lambda: tar_of({"saved_model.pb": os.urandom(9000)}, "w")[:5000],
    "checksum": lambda: _flipped(tar_of({"saved_model.pb": os.urandom(9000)})),
    "zip checksum": lambda: _flipped(zip_of({"saved_model.pb": os.urandom(9000)})),
    "bomb": bomb,
}


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_refused(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    """With an error of our own; nothing is left, and nothing is outside."""
    make: Callable[[], bytes] = HOSTILE[kind]
    monkeypatch.setattr("hub_compat._handles.target._FREE", 16 << 20)
    cache = tmp_path / "deep" / "cache"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache))
    path = tmp_path / "archive"
    path.write_bytes(make())
    with pytest.raises(hub.errors.ArchiveError, match="Received: "):
        hub.resolve(path)
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")}
    assert {name for name in left if not name.endswith(".lock")} == {
        "archive",
        "deep",
        "deep/cache",
    }


def test_absolute_names_are_relative(tmp_path: Path, monkeypatch: Any) -> None:
    """As tar and TensorFlow Hub have it; and no bits but the usual ones."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "archive"
    path.write_bytes(tar_with("/assets/words", size=3, mode=0o6777))
    found = Path(hub.resolve(path))
    assert (found / "assets" / "words").read_bytes() == b"xxx"
    assert not (found / "assets" / "words").stat().st_mode & 0o6022


@pytest.mark.parametrize(
    ("name", "value"),
    [("FILES", "1"), ("BYTES", "100"), ("RATIO", "0")],
)
def test_limits(name: str, value: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Each has a variable, which the message names."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("hub_compat._handles.target._FREE", 1000)
    variable = "HUB_COMPAT_ARCHIVE_MAX_" + name
    path = tmp_path / "archive"
    path.write_bytes(tar_of({"saved_model.pb": bytes(20000), "more": b"x"}))
    hub.resolve(path)
    path.write_bytes(tar_of({"saved_model.pb": bytes(20000), "more": b"y"}))
    monkeypatch.setenv(variable, value)
    with pytest.raises(hub.errors.ArchiveError, match=variable):
        hub.resolve(path)


def header_bomb(kind: bytes, size: int) -> bytes:
    """A tar whose own header is of that size, as memory would have it."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as packed:
        member = tarfile.TarInfo("x")
        member.type, member.size = kind, size
        packed.write(member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size >> 20):
            packed.write(b"A" * (1 << 20))
    return out.getvalue()


def many_headers() -> bytes:
    """A tar of nothing but headers for all."""
    member = tarfile.TarInfo("x")
    member.type, member.size = b"g", 512
    one = member.tobuf(tarfile.USTAR_FORMAT) + b"11 a=bcdef\n".ljust(512, b"\0")
    return gzip.compress(one * 20000)


HUNGRY = {
    "pax header": lambda: header_bomb(b"x", 64 << 20),
    "global header": lambda: header_bomb(b"g", 64 << 20),
    "long name": lambda: header_bomb(b"L", 64 << 20),
    "long link": lambda: header_bomb(b"K", 64 << 20),
    "headers": many_headers,
    "behind the end": lambda: gzip.compress(
        tar_of({"saved_model.pb": b"xx"}, "w") + bytes(64 << 20)
    ),
    "twice": lambda: gzip.compress(
        gzip.compress(tar_of({"saved_model.pb": bytes(64 << 20)}, "w"))
    ),
    "xz": lambda: _with_large_dictionary(),
    "zip": lambda: zip_of({"saved_model.pb": bytes(64 << 20)}),
}


def _with_large_dictionary() -> bytes:
    """An xz whose header asks for 1.5 GB, though it needs nothing of it."""
    data = bytearray(lzma.compress(tar_of({"saved_model.pb": b"xx"}, "w")))
    # The header of the block: its size, flags, LZMA2 with one property, and a CRC.
    start = 12
    end = start + (data[start] + 1) * 4 - 4
    assert data[start + 2 : start + 4] == b"\x21\x01"
    data[start + 4] = 37
    data[end : end + 4] = zlib.crc32(bytes(data[start:end])).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("kind", sorted(HUNGRY))
def test_memory(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    """What would take memory or time is refused before it does."""
    monkeypatch.setattr("hub_compat._handles.target._FREE", 16 << 20)
    data = HUNGRY[kind]()
    tracemalloc.start()
    try:
        with pytest.raises(hub.errors.ArchiveError):
            archives.extract(io.BytesIO(data), str(tmp_path), "it")
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_memory_is_flat(tmp_path: Path) -> None:
    """However large the archive is."""
    out = io.BytesIO()
    piece = os.urandom(1 << 20)
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("saved_model.pb")
        member.size = 96 << 20
        archive.addfile(member, _Same(piece))
    source = io.BytesIO(out.getvalue())
    del out
    tracemalloc.start()
    try:
        found = archives.extract(source, str(tmp_path), "it")
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()
    assert found["saved_model.pb"].size == 96 << 20


class _Same(io.RawIOBase):
    def __init__(self, piece: bytes) -> None:
        super().__init__()
        self._piece = piece

    def read(self, size: int = -1) -> bytes:
        return (self._piece * (size // len(self._piece) + 1))[:size]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """An archive with something changed in it."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed))
        how = chance.randrange(5)
        if how == 0:
            del changed[place:]
        elif how == 1:
            changed[place:place] = chance.getrandbits(64).to_bytes(8, "big")
        elif how == 2:
            del changed[place : place + chance.randint(1, 600)]
        else:
            changed[place] = chance.randrange(256)
        if not changed:
            break
    return bytes(changed)


def mutated_header(data: bytes, chance: random.Random) -> bytes:
    """A tar with a field of a header changed, and the header's sum made right."""
    changed = bytearray(data)
    start = 512 * chance.choice([0, 2, 4])
    header = changed[start : start + 512]
    fields = [(0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 99)]
    place, length = chance.choice(fields)
    for _ in range(chance.randint(1, 3)):
        value = chance.choice([0, 0x2E, 0x2F, 0x37, 0x4C, 0x67, 0x78, 0x80, 0xFF])
        header[place + chance.randrange(min(length, 6))] = value
    header[148:156] = b" " * 8
    header[148:156] = "{:06o}\0 ".format(sum(header)).encode()
    changed[start : start + 512] = header
    return bytes(changed)


def test_random_damage(tmp_path: Path) -> None:
    """500 seeds: it is unpacked, or refused by our error; nothing is outside."""
    files = {"saved_model.pb": b"graph" * 20, "assets/x": b"", "variables/a": b"xyz"}
    whole = {mode: tar_of(files, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")}
    whole["zip"] = zip_of(files)
    caught = 0
    for seed in range(500):
        chance = random.Random(seed)
        kind = chance.choice(sorted(whole) + ["header", "header"])
        if kind == "header":
            data = mutated_header(whole["w"], chance)
        else:
            data = mutated(whole[kind], chance)
        folder = tmp_path / str(seed) / "deep" / "in"
        folder.mkdir(parents=True)
        try:
            archives.extract(io.BytesIO(data), str(folder), "it")
        except hub.errors.ArchiveError:
            caught += 1
        for path in (tmp_path / str(seed)).rglob("*"):
            mode = os.lstat(str(path)).st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode)
            assert folder in path.parents or path in (folder, folder.parent)
        shutil.rmtree(str(tmp_path / str(seed)))
    assert not list(tmp_path.iterdir())
    assert caught > 250
