"""Archives that are made to do harm."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Callable

import pytest
from loopback import tar_of, zip_of

import hub_compat as hub


def tar_with(name: str, **fields: Any) -> bytes:
    """A tar with a model and one more member."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        good = tarfile.TarInfo("saved_model.pb")
        good.size = 2
        archive.addfile(good, io.BytesIO(b"xx"))
        member = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(b"x" * member.size))
    return out.getvalue()


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
    monkeypatch.setattr("hub_compat._handles.archives._FREE", 16 << 20)
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
    monkeypatch.setattr("hub_compat._handles.archives._FREE", 1000)
    variable = "HUB_COMPAT_ARCHIVE_MAX_" + name
    path = tmp_path / "archive"
    path.write_bytes(tar_of({"saved_model.pb": bytes(20000), "more": b"x"}))
    hub.resolve(path)
    path.write_bytes(tar_of({"saved_model.pb": bytes(20000), "more": b"y"}))
    monkeypatch.setenv(variable, value)
    with pytest.raises(hub.errors.ArchiveError, match=variable):
        hub.resolve(path)
