"""Where the cache of downloads is, and whose: full, read-only, shared, reaped, gone."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from loopback import Answer, Server, serving, tar_of

import hub_compat as hub

requests = pytest.importorskip("requests")

FILES = {"saved_model.pb": b"\x08\x01", "variables/variables.index": b"index"}
BIG = dict(FILES, big=os.urandom(1 << 20) * 6)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server."""
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: Any) -> Path:
    """A cache of the test's own."""
    for name in list(os.environ):
        if name.startswith(("TFHUB_", "HUB_COMPAT_CACHE", "XDG_")):
            monkeypatch.delenv(name)
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("hub_compat._handles.transfer._FIRST_PAUSE", 0.01)
    return tmp_path / "cache"


def content(folder: Any) -> Dict[str, bytes]:
    """The files of a directory."""
    found = [p for p in Path(folder).rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def tree(folder: Path) -> List[Any]:
    """All that is below a directory, with times and modes."""
    found = [folder, *sorted(folder.rglob("*"))]
    facts = [(p, os.lstat(str(p))) for p in found]
    return [(str(p), f.st_mode, f.st_size, f.st_mtime_ns) for p, f in facts]


def mounted(folder: Path, *options: str) -> bool:
    """Whether a file system of memory could be mounted there."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", *options, "hub_compat", str(folder)]
    try:
        return not subprocess.call(command, stderr=subprocess.DEVNULL)
    except OSError:
        return False


def test_full_disk(server: Server, cache: Path) -> None:
    """A real one, of 4 MB: our error, all space given back, and then it works."""
    if not mounted(cache, "-o", "size=4m,mode=700"):
        pytest.skip("nothing can be mounted; the next two tests are without")
    try:
        before = shutil.disk_usage(str(cache)).free
        for size in (5, 2):
            # More than there is, as the header says; and more by and by.
            files = {"f{}".format(n): os.urandom(size << 20) for n in range(3)}
            address = server.on("/m{}".format(size), Answer(tar_of(files)))
            with pytest.raises(hub.errors.CacheError, match="TFHUB_CACHE_DIR"):
                hub.resolve(address)
            # The lock's file stays.
            assert before - shutil.disk_usage(str(cache)).free <= 16384
        address = server.on("/m2", Answer(tar_of(FILES)))
        assert content(hub.resolve(address)) == FILES
    finally:
        subprocess.check_call(["umount", str(cache)])


def test_file_that_is_too_large(server: Server, tmp_path: Path) -> None:
    """As a quota has it: the limit of the process on a file's size."""
    address = server.on("/m", Answer(tar_of(BIG)))
    script = (
        "import resource, signal, sys, hub_compat as hub\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n    hub.resolve(sys.argv[1])\n"
        "except hub.errors.CacheError as error:\n    print(error)\n"
    )
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    said = subprocess.check_output([sys.executable, "-c", script, address], env=environ)
    assert b"File too large" in said
    assert b"TFHUB_CACHE_DIR" in said
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    assert not [n for n in os.listdir(str(tmp_path / "cache")) if "tmp" in n]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_disk_that_fails_while_it_is_written(
    server: Server, cache: Path, code: int, monkeypatch: Any
) -> None:
    """In the thread that writes: our error, and nothing is left."""
    from hub_compat._handles import streams

    def fail(file: Any, data: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(streams, "_write_all", fail)
    with pytest.raises(hub.errors.CacheError, match="TFHUB_CACHE_DIR"):
        hub.resolve(server.on("/m", Answer(tar_of(BIG))))
    assert [n for n in os.listdir(str(cache)) if not n.endswith(".lock")] == []


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077, 0o277])
def test_umask(server: Server, tmp_path: Path, mask: int, monkeypatch: Any) -> None:
    """Directories are for the user alone, also those above the cache."""
    place = tmp_path / "a" / "b" / "cache"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(place))
    before = os.umask(mask)
    try:
        if mask == 0o277 and os.geteuid():
            pytest.skip("nobody but root can write then")
        found = hub.resolve(server.on("/m", Answer(tar_of(FILES))))
        assert hub.resolve(server.base + "/m") == found
    finally:
        os.umask(before)
    for path in (found, str(place), str(place.parent), str(place.parent.parent)):
        assert os.stat(path).st_mode & 0o077 == 0
    for path in place.rglob("*"):
        assert path.stat().st_mode & 0o7022 == 0, path


def test_no_home(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    """Where there is no home, or none that can be made, the error says what to set."""
    monkeypatch.delenv("TFHUB_CACHE_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    address = server.on("/m", Answer(tar_of(FILES)))
    monkeypatch.setenv("HOME", "/dev/null/home")
    with pytest.raises(hub.errors.CacheError, match="Received: '/dev/null"):
        hub.resolve(address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert hub.resolve(address).startswith(str(tmp_path / "xdg" / "hub_compat"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    # The system's list of users has one.
    from hub_compat._handles import shelf

    assert os.path.isabs(shelf.root())


def test_no_working_directory(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    """Absolute paths do not need one; of relative ones the error is ours."""
    address = server.on("/m", Answer(tar_of(FILES)))
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert content(hub.resolve(address)) == FILES
        assert hub.resolve("some/where") == "some/where"
        monkeypatch.setenv("TFHUB_CACHE_DIR", "relative")
        with pytest.raises(hub.errors.CacheError, match="Received: "):
            hub.resolve(address)
    finally:
        os.chdir(str(tmp_path))


def test_relative_and_odd_places(
    server: Server, tmp_path: Path, monkeypatch: Any
) -> None:
    """R6: relative, with ~, as file://, with spaces, behind a link."""
    address = server.on("/m", Answer(tar_of(FILES)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    os.symlink(str(tmp_path), str(tmp_path / "link"))
    for place, path in [
        ("relative/x y", tmp_path / "relative" / "x y"),
        ("~/\u00fc", tmp_path / "home" / "\u00fc"),
        ((tmp_path / "as url").as_uri(), tmp_path / "as url"),
        (str(tmp_path / "link" / "there"), tmp_path / "there"),
        (str(tmp_path / "slash") + "//", tmp_path / "slash"),
    ]:
        monkeypatch.setenv("TFHUB_CACHE_DIR", place)
        found = hub.resolve(address)
        assert os.path.isabs(found)
        assert os.path.realpath(os.path.dirname(found)) == str(path)
        assert content(found) == FILES


def test_read_only(server: Server, cache: Path, tmp_path: Path) -> None:
    """A hit writes nothing, takes no lock, and needs no permission to write."""
    is_mounted = mounted(cache, "-o", "mode=700")
    try:
        address = server.on("/m", Answer(tar_of(FILES)))
        found = hub.resolve(address)
        for path in cache.glob(".*.lock"):
            path.unlink()
        remount = ["mount", "-o", "remount,ro", str(cache)]
        if not is_mounted or subprocess.call(remount, stderr=subprocess.DEVNULL):
            for path in [cache, *cache.rglob("*")]:
                path.chmod(0o500 if path.is_dir() else 0o400)
        before = tree(cache)
        assert hub.resolve(address) == found
        assert content(found) == FILES
        assert tree(cache) == before
        if is_mounted or os.geteuid():
            with pytest.raises(hub.errors.CacheError, match="TFHUB_CACHE_DIR"):
                hub.resolve(server.on("/other", Answer(tar_of(FILES))))
    finally:
        if is_mounted:
            subprocess.check_call(["umount", str(cache)])
        else:
            cache.chmod(0o700)
            for path in cache.rglob("*"):
                path.chmod(0o700)


@pytest.mark.parametrize("what", ["root", "entry"])
@pytest.mark.parametrize("how", ["everybody", "group", "other"])
def test_untrusted(
    server: Server, cache: Path, what: str, how: str, monkeypatch: Any
) -> None:
    """What another user owns, or may write to, is neither read nor filled."""
    address = server.on("/m", Answer(tar_of(FILES)))
    entry = Path(hub.resolve(address))
    place = cache if what == "root" else entry
    if how == "other":
        real = os.stat

        def facts(path: Any, *arguments: Any, **options: Any) -> Any:
            found = real(path, *arguments, **options)
            if str(path) != str(place):
                return found
            return os.stat_result(found[:4] + (12345,) + found[5:])

        monkeypatch.setattr(os, "stat", facts)
    else:
        place.chmod(0o707 if how == "everybody" else 0o770)
        monkeypatch.setattr("hub_compat._io.trust._is_private", lambda g, u: False)
    reason = {"everybody": "every user", "group": "a group", "other": "12345"}[how]
    with pytest.raises(hub.errors.CacheError, match=reason):
        hub.resolve(address)
    if what == "root":
        with pytest.raises(hub.errors.CacheError, match=reason):
            hub.resolve(server.on("/other", Answer(tar_of(FILES))))
        assert len(server.asked) == 1


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("gone", ["saved_model.pb", "all", "size"])
def test_reaped(
    server: Server, cache: Path, gone: str, noted: bool, caplog: Any, monkeypatch: Any
) -> None:
    """A temp cleaner takes files and leaves directories: also without a list."""
    address = server.on("/m", Answer(tar_of(FILES)))
    entry = Path(hub.resolve(address))
    for path in list(entry.rglob("*")):
        if path.is_file() and gone in ("all", path.name):
            path.unlink()
    if gone == "size":
        (entry / "saved_model.pb").write_bytes(b"longer")
    if not noted:
        Path(str(entry) + ".hub_compat.json").unlink()
        if gone == "size":
            return
    monkeypatch.setenv("HUB_COMPAT_OFFLINE", "1")
    with pytest.raises(hub.errors.HandleError, match="HUB_COMPAT_OFFLINE"):
        hub.resolve(address)
    monkeypatch.delenv("HUB_COMPAT_OFFLINE")
    caplog.clear()
    assert content(hub.resolve(address)) == FILES
    assert caplog.text.count("The cache lost") == 1


def test_removed_and_its_list_not(server: Server, cache: Path) -> None:
    """Whoever deletes the directory by hand gets it again."""
    address = server.on("/m", Answer(tar_of(FILES)))
    shutil.rmtree(hub.resolve(address))
    server.on("/m", Answer(tar_of(dict(FILES, more=b"x"))))
    assert "more" in content(hub.resolve(address))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"files": 1}', '{"files": {"a": 1}}', "null", "[" * 10000]
)
def test_list_that_cannot_be_read(server: Server, cache: Path, text: str) -> None:
    """Of another version, or cut: the entry is taken as TensorFlow Hub's."""
    address = server.on("/m", Answer(tar_of(FILES)))
    entry = hub.resolve(address)
    Path(entry + ".hub_compat.json").write_text(text)
    assert hub.resolve(address) == entry
    assert len(server.asked) == 1


def test_list_with_more_in_it(server: Server, cache: Path) -> None:
    """A later version may note more."""
    address = server.on("/m", Answer(tar_of(FILES)))
    entry = hub.resolve(address)
    notes = Path(entry + ".hub_compat.json")
    known = json.loads(notes.read_text())
    digest = hashlib.sha256(FILES["saved_model.pb"]).hexdigest()
    assert known["files"]["saved_model.pb"] == [2, digest]
    notes.write_text(json.dumps(dict(known, version=9, more={})))
    os.remove(os.path.join(entry, "saved_model.pb"))
    assert content(hub.resolve(address)) == FILES
    assert len(server.asked) == 2


def test_many_modules_share_a_root(server: Server, cache: Path, tmp_path: Path) -> None:
    """What is not ours is left alone, whatever is cleared."""
    cache.mkdir(mode=0o700)
    for name in (".x.tmp-1-00000000", "other", "0" * 40 + ".7.tmp", ".git"):
        (cache / name).mkdir()
    (cache / "notes.txt").write_text("mine")
    from hub_compat import cli

    for _ in range(2):
        hub.resolve(server.on("/m", Answer(tar_of(FILES))))
        assert cli.main(["hub-compat", "cache", "repair"]) == 0
        assert cli.main(["hub-compat", "cache", "prune", "--max-size=0"]) == 0
    assert {p.name for p in cache.iterdir()} == {
        ".x.tmp-1-00000000",
        "other",
        "0" * 40 + ".7.tmp",
        ".git",
        "notes.txt",
    }
