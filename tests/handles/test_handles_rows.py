"""What TensorFlow Hub's resolver does in public, row by row, and what we do.

The rows are those of the notes on its behaviour, section 1.2: R1 to R17. "Theirs" says
what TensorFlow Hub 0.12 and 0.16 do where we differ, and why.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from loopback import Answer, Server, serving, tar_of

import hub_compat as hub
from hub_compat._handles import settings, shelf, transfer

requests = pytest.importorskip("requests")

FILES = {
    "saved_model.pb": b"\x08\x01",
    "tfhub_module.pb": b"\x08\x03",
    "variables/variables.index": b"index",
    "assets/empty.txt": b"",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: Any) -> Path:
    """A cache of the test's own."""
    for name in list(os.environ):
        if name.startswith("TFHUB_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("hub_compat._handles.transfer._FIRST_PAUSE", 0.01)
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server."""
    with serving() as found:
        yield found


def content(folder: str) -> Dict[str, bytes]:
    """The files of a directory."""
    found = [p for p in Path(folder).rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def entry_of(cache: Path, handle: str) -> Path:
    """Where TensorFlow Hub has a handle."""
    return cache / hashlib.sha1(handle.encode()).hexdigest()


def test_r1_resolvers(monkeypatch: Any) -> None:
    """Newest first; a path is what nobody else wants."""
    monkeypatch.setattr("hub_compat._handles.resolving._resolvers", [])
    hub.register_resolver(lambda handle: "/old" if "old" in handle else None)
    hub.register_resolver(lambda handle: "/new" if "new" in handle else None)
    assert hub.resolve("newold") == "/new"
    assert hub.resolve("old") == "/old"
    assert hub.resolve("neither") == "neither"


def test_r2_kinds(server: Server, tmp_path: Path) -> None:
    """A directory, file://, gs://, an address, one of an archive."""
    assert hub.resolve(str(tmp_path)) == str(tmp_path)
    assert hub.resolve(tmp_path.as_uri()) == str(tmp_path)
    assert hub.resolve("gs://bucket/module") == "gs://bucket/module"
    # An archive on a server that ignores the query.
    found = hub.resolve(server.on("/files/m.tar.gz", Answer(tar_of(FILES))))
    assert content(found) == FILES
    # Theirs: OSError at once. Ours: load() says so, an OSError as well.
    assert hub.resolve(str(tmp_path / "none")) == str(tmp_path / "none")
    # Theirs: hub.load refuses pathlib.
    assert hub.resolve(tmp_path) == str(tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_r3_compressed(server: Server, mode: str) -> None:
    """The query is added to; redirects are followed; a tar of any compression."""
    server.on("/archive", Answer(tar_of(FILES, mode)))
    moved = Answer(status=302, headers={"Location": "/archive?signed=1"})
    address = server.on("/m/1", moved) + "?a=b&tf-hub-format=x"
    assert content(hub.resolve(address)) == FILES
    assert [path for path, _ in server.asked] == [
        "/m/1?a=b&tf-hub-format=x&tf-hub-format=compressed",
        "/archive?signed=1",
    ]


def test_r4_uncompressed(server: Server, monkeypatch: Any) -> None:
    """303 with gs:// in the body; of all else a ValueError that has the code."""
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    address = server.on("/m/1", Answer(b"gs://bucket/m/1", 303)) + "?a=b"
    assert hub.resolve(address) == "gs://bucket/m/1"
    assert server.asked[0][0] == "/m/1?a=b&tf-hub-format=uncompressed"
    for code in (200, 302, 404, 500):
        to = {"Location": server.base + "/m/1"}
        with pytest.raises(ValueError, match=str(code)) as raised:
            hub.resolve(server.on("/m/2", Answer(b"gs://bucket/m/2", code, to)))
        assert isinstance(raised.value, hub.errors.HandleError)
    for body in (b"", b"/tmp/m", b"https://host/m", b"\xff\xfe"):
        with pytest.raises(ValueError, match="303"):
            hub.resolve(server.on("/m/3", Answer(body, 303)))


@pytest.mark.parametrize("variable", ["COMPRESSED", "AUTO", "", None])
def test_r5_load_format(variable: Any, monkeypatch: Any) -> None:
    """Theirs: a typo of the variable ends in "File system scheme not implemented"."""
    if variable is not None:
        monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", variable)
    assert settings.load_format() == "COMPRESSED"
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESED")
    with pytest.raises(hub.errors.OptionsError, match="UNCOMPRESSED"):
        hub.resolve("https://localhost/m")


def test_r5_r6_flags(tmp_path: Path) -> None:
    """They are read without being parsed, and a variable beats them."""
    script = (
        "import os, sys\n"
        "from absl import flags\n"
        "import hub_compat as hub\n"
        "from hub_compat._handles import settings, shelf\n"
        "assert settings.load_format() == 'COMPRESSED'\n"
        "flags.FLAGS(['x', '--tfhub_cache_dir=/f', "
        "'--tfhub_model_load_format=UNCOMPRESSED'])\n"
        "assert settings.load_format() == 'UNCOMPRESSED'\n"
        "assert shelf.root() == '/f'\n"
        "os.environ['TFHUB_CACHE_DIR'] = '/v'\n"
        "assert shelf.root() == '/v'\n"
        "try:\n    flags.FLAGS(['x', '--tfhub_model_load_format=other'])\n"
        "except flags.IllegalFlagValueError:\n    print('refused')\n"
    )
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    del environ["TFHUB_CACHE_DIR"]
    said = subprocess.check_output([sys.executable, "-c", script], env=environ)
    assert said.split() == [b"refused"]


def test_r6_cache_dir(tmp_path: Path, monkeypatch: Any) -> None:
    """Theirs: else <tmp>/tfhub_modules. Ours: if it is there, else the user's own."""
    monkeypatch.delenv("TFHUB_CACHE_DIR")
    monkeypatch.delenv("HUB_COMPAT_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert shelf.root() == str(tmp_path / "own" / "hub_compat" / "downloads")
    (tmp_path / "tfhub_modules").mkdir(mode=0o700)
    assert shelf.root() == str(tmp_path / "tfhub_modules")
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://bucket/cache")
    assert shelf.root() == "gs://bucket/cache"


def test_r7_key(server: Server, cache: Path) -> None:
    """SHA-1 of the handle without the format; an empty directory is none."""
    address = server.on("/m/1", Answer(tar_of(FILES))) + "?a=b"
    entry = entry_of(cache, address)
    entry.mkdir(parents=True, mode=0o700)
    cache.chmod(0o700)
    assert hub.resolve(address) == str(entry)
    assert content(str(entry)) == FILES
    assert hub.resolve(address) == str(entry)
    assert len(server.asked) == 1


def test_r8_lock(server: Server, cache: Path) -> None:
    """A lock that is left behind holds up nobody. Theirs: 10 to 20 minutes."""
    address = server.on("/m/1", Answer(tar_of(FILES)))
    entry = entry_of(cache, address)
    cache.mkdir(mode=0o700)
    Path(str(entry) + ".lock").write_text("host.1.abc")
    (cache / ".{}.lock".format(entry.name)).write_text("1 elsewhere\n")
    started = time.monotonic()
    assert content(hub.resolve(address)) == FILES
    assert time.monotonic() - started < 5
    # Nothing of ours is left but the file of the lock.
    left = {p.name.replace(entry.name, "") for p in cache.iterdir()}
    assert left == {"", ".lock", "..lock", ".hub_compat.json", ".descriptor.txt"}


@pytest.mark.parametrize(("code", "requests_sent"), [(404, 1), (403, 1), (503, 3)])
def test_r9_retries(
    server: Server, code: int, requests_sent: int, monkeypatch: Any
) -> None:
    """What cannot change is not repeated. Theirs: all else for ever."""
    monkeypatch.setenv("HUB_COMPAT_RETRIES", "2")
    with pytest.raises(hub.errors.HandleError, match=str(code)):
        hub.resolve(server.on("/m/1", Answer(b"", code, {"Retry-After": "0"})))
    assert len(server.asked) == requests_sent


def test_r10_descriptor(server: Server, cache: Path) -> None:
    """For people; never read where there is anything better."""
    address = server.on("/m/1", Answer(tar_of(FILES)))
    found = hub.resolve(address)
    text = Path(found + ".descriptor.txt").read_text()
    for part in (
        "Module: " + address,
        "Download Time: ",
        "(PID:{})".format(os.getpid()),
    ):
        assert part in text
    Path(found + ".descriptor.txt").write_text("nonsense")
    assert hub.resolve(address) == found


def test_r11_extraction(server: Server) -> None:
    """Files and directories, below the destination; without directories' own members.

    Theirs: "..foo" is refused, and so is an archive without members of directories.
    """
    names = {"/saved_model.pb": b"x", "a/..foo": b"y", "./b//./c": b"z", "d/e": b""}
    found = content(hub.resolve(server.on("/m/1", Answer(tar_of(names)))))
    assert found == {"saved_model.pb": b"x", "a/..foo": b"y", "b/c": b"z", "d/e": b""}
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            member = tarfile.TarInfo("x")
            member.type, member.linkname = kind, "saved_model.pb"
            archive.addfile(member)
        with pytest.raises(ValueError, match="'x' is"):
            hub.resolve(server.on("/m/2", Answer(out.getvalue())))
    address = server.on("/m/3", Answer(b"no archive"))
    with pytest.raises(IOError, match="neither a tar") as raised:
        hub.resolve(address)
    assert repr(address) in str(raised.value)


@pytest.mark.parametrize("value", ["", "1"])
def test_r12_progress(server: Server, value: str, capfd: Any, monkeypatch: Any) -> None:
    """Bytes and rate if asked for; where there is no terminal, nothing else."""
    pytest.importorskip("tqdm")
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    monkeypatch.delitem(sys.modules, "ipykernel")
    monkeypatch.setenv("TFHUB_DOWNLOAD_PROGRESS", value)
    body = tar_of(dict(FILES, big=os.urandom(300000)))
    assert len(content(hub.resolve(server.on("/m/nnlm", Answer(body)) + "?key=x"))) == 5
    said = capfd.readouterr()
    assert said.out == ""
    assert ("nnlm: 100%" in said.err and "B/s" in said.err) is bool(value)
    assert value or said.err == ""


def test_r13_certificates(monkeypatch: Any) -> None:
    """Exactly "true". Theirs: read when the library is imported."""
    for value, verified in (("true", False), ("True", True), ("1", True), ("", True)):
        monkeypatch.setenv("TFHUB_DISABLE_CERT_VALIDATION", value)
        assert settings.verifies_certificates() is verified


def test_r14_china() -> None:
    """Files of another host, without a query."""
    found = transfer.mirrored("https://hub.tensorflow.google.cn/google/m/1")
    assert found == ["https://gcs.tensorflow.google.cn/tfhub-modules/google/m/1.tar.gz"]
    assert transfer.mirrored("https://tfhub.dev/google/m/1") == [
        "https://tfhub.dev/google/m/1?tf-hub-format=compressed"
    ]


@pytest.mark.parametrize("top", ["", "./", "/", "model/", "./model/"])
def test_r15_root(server: Server, top: str) -> None:
    """The archive's root is the model's, or its only directory; also with dots."""
    address = server.on("/m", Answer(tar_of(FILES, top=top)))
    assert content(hub.resolve(address)) == FILES
    # Without a version, the latest when it was first asked for, for ever.
    server.on("/m", Answer(tar_of(dict(FILES, new=b"x"))))
    assert content(hub.resolve(address)) == FILES


def test_r16_by_hand(server: Server, cache: Path, tmp_path: Path) -> None:
    """The recipe of the message works: both ways."""
    address = server.on("/m/1", Answer(b"", 403))
    with pytest.raises(hub.errors.HandleError) as raised:
        hub.resolve(address)
    entry = entry_of(cache, address)
    assert repr(str(entry)) in str(raised.value)
    archive = tmp_path / "by_hand"
    archive.write_bytes(tar_of(FILES))
    assert content(hub.resolve(archive)) == FILES
    os.umask(os.umask(0o022))
    with tarfile.open(str(archive)) as opened:
        entry.mkdir(mode=0o700)
        opened.extractall(str(entry))
    assert hub.resolve(address) == str(entry)


def test_r17_beyond(server: Server, monkeypatch: Any) -> None:
    """Theirs: no checksums, no time limits, no offline mode. Ours has them."""
    assert settings.connect_timeout() == 10
    assert settings.read_timeout() == 60
    monkeypatch.setenv("HUB_COMPAT_OFFLINE", "1")
    with pytest.raises(hub.errors.HandleError, match="HUB_COMPAT_OFFLINE"):
        hub.resolve(server.on("/m/1", Answer(tar_of(FILES))))
    assert not server.asked
