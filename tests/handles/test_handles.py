"""Handles that are fetched: the hosting protocol, what servers do, and the cache.

Rows of TensorFlow Hub's resolver (R1 to R17 of the notes on its behaviour) are named
where a test is of one.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from loopback import Answer, Server, serving, tar_of, zip_of

import hub_compat as hub
from hub_compat._handles import grammar
from hub_compat._handles.grammar import Kind

requests = pytest.importorskip("requests")

FILES = {
    "saved_model.pb": b"\x08\x01",
    "variables/variables.index": b"index",
    "assets/empty.txt": b"",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: Any) -> Path:
    """A cache of the test's own, and no pauses to speak of."""
    for name in list(os.environ):
        if name.startswith("TFHUB_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HUB_COMPAT_READ_TIMEOUT", "5")
    monkeypatch.setenv("HUB_COMPAT_RETRIES", "3")
    monkeypatch.setattr("hub_compat._handles.transfer._FIRST_PAUSE", 0.01)
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    """The server."""
    with serving() as found:
        yield found


def content(folder: str) -> Dict[str, bytes]:
    """The files of a directory."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in Path(folder).rglob("*")
        if p.is_file()
    }


@pytest.mark.parametrize(
    ("text", "kind", "location"),
    [
        ("/a/b", Kind.PATH, "/a/b"),
        ("a/b", Kind.PATH, "a/b"),
        ("~/m", Kind.PATH, os.path.expanduser("~/m")),
        ("file:///a/b%20c", Kind.PATH, "/a/b c"),
        ("gs://bucket/m", Kind.PATH, "gs://bucket/m"),
        ("https://tfhub.dev/g/m/1", Kind.ADDRESS, "https://tfhub.dev/g/m/1"),
        ("HTTP://host/m", Kind.ADDRESS, "HTTP://host/m"),
        ("kaggle://o/n/f/v", Kind.KAGGLE, "o/n/f/v"),
        ("kaggle://o/n/f/v/3", Kind.KAGGLE, "o/n/f/v/3"),
        ("https://www.kaggle.com/models/o/n/f/v/3", Kind.KAGGLE, "o/n/f/v/3"),
        (
            "https://kaggle.com/models/o/n/frameworks/tensorFlow2/variations/v",
            Kind.KAGGLE,
            "o/n/tensorFlow2/v",
        ),
        (
            "https://www.kaggle.com/models/o/n/frameworks/f/variations/v/versions/12",
            Kind.KAGGLE,
            "o/n/f/v/12",
        ),
    ],
)
def test_grammar(text: str, kind: Kind, location: str) -> None:
    """What a handle is, its text says."""
    assert grammar.parse(text) == grammar.Handle(text, kind, location)


@pytest.mark.parametrize(
    "text", ["http:///m", "https://", "kaggle://o/n", "http://a:x/"]
)
def test_no_handle(text: str) -> None:
    """An address without a host, or a model without a variation."""
    with pytest.raises(hub.errors.HandleError, match="Received: "):
        hub.resolve(text)
    with pytest.raises(hub.errors.FormatError, match="Received: 1"):
        hub.resolve(1)


def test_directories_are_returned(tmp_path: Path, monkeypatch: Any) -> None:
    """R2: a path is what it is; nothing is looked at."""
    assert hub.resolve(str(tmp_path)) == str(tmp_path)
    assert hub.resolve(tmp_path) == str(tmp_path)
    assert hub.resolve("no/such") == "no/such"
    assert hub.resolve("gs://bucket/m") == "gs://bucket/m"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.resolve("~/m") == str(tmp_path / "m")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize("top", ["", "./", "model/"])
def test_compressed(server: Server, cache: Path, mode: str, top: str) -> None:
    """R3, R7, R15: any archive, named as anything, in the directory of its SHA-1."""
    files = {top + name: data for name, data in FILES.items()}
    body = zip_of(files) if mode == "zip" else tar_of(files, mode)
    address = server.on("/m/1", Answer(body))
    found = hub.resolve(address)
    assert found == str(cache / hashlib.sha1(address.encode()).hexdigest())
    assert content(found) == FILES
    assert os.stat(found).st_mode & 0o777 == 0o700
    assert hub.resolve(address) == found
    assert [path for path, _ in server.asked] == ["/m/1?tf-hub-format=compressed"]


def test_query_and_redirects(server: Server) -> None:
    """R3: what the query says stays; redirects are followed, and not remembered."""
    server.on("/signed", Answer(tar_of(FILES)))
    to_signed = {"Location": "/signed?expires=1"}
    address = server.on("/m", Answer(status=302, headers=to_signed)) + "?a=b%20c&a=d"
    assert content(hub.resolve(address)) == FILES
    assert server.asked[0][0] == "/m?a=b%20c&a=d&tf-hub-format=compressed"
    assert server.asked[1][0] == "/signed?expires=1"
    looping = server.on("/loop", Answer(status=302, headers={"Location": "/loop"}))
    with pytest.raises(hub.errors.HandleError, match="redirects more than"):
        hub.resolve(looping)


def test_uncompressed(server: Server, monkeypatch: Any) -> None:
    """R4, R5: 303 with a gs:// address in the body, and no other answer."""
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    address = server.on("/m", Answer(b"gs://bucket/m", 303))
    assert hub.resolve(address + "?x=1") == "gs://bucket/m"
    assert server.asked[0][0] == "/m?x=1&tf-hub-format=uncompressed"
    for answer in (Answer(b"gs://b/m"), Answer(b"x", 404), Answer(b"/local", 303)):
        with pytest.raises(hub.errors.HandleError, match="COMPRESSED"):
            hub.resolve(server.on("/other", answer))
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "compressed")
    with pytest.raises(hub.errors.OptionsError, match="Received: 'compressed'"):
        hub.resolve(address)


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_asked_again(server: Server, code: int) -> None:
    """What a server cannot do now, it may later."""
    later = Answer(b"later", code, {"Retry-After": "0"})
    address = server.on("/m", later, later, Answer(tar_of(FILES)))
    assert content(hub.resolve(address)) == FILES
    assert len(server.asked) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_refused(server: Server, cache: Path, code: int) -> None:
    """It is not asked again, and the error says what to do by hand."""
    address = server.on("/m", Answer(b"<html>Go <b>away</b></html>", code))
    with pytest.raises(hub.errors.HandleError) as raised:
        hub.resolve(address)
    assert len(server.asked) == 1
    for part in (address, "localhost", str(code), str(cache), "Go away", "unpack it"):
        assert part in str(raised.value)
    assert not list(cache.glob("[!.]*"))


def test_given_up(server: Server) -> None:
    """After so many times."""
    address = server.on("/m", Answer(b"", 503))
    with pytest.raises(hub.errors.HandleError, match="503"):
        hub.resolve(address)
    assert len(server.asked) == 4
    with pytest.raises(hub.errors.HandleError, match="cannot be reached"):
        hub.resolve("http://127.0.0.1:9/m")


@pytest.mark.parametrize("cuts", [1, 3])
def test_read_on_after_a_cut(server: Server, cuts: int) -> None:
    """By Range and If-Range, from the original address."""
    body = tar_of(
        dict(FILES, big=random.Random(1).getrandbits(8000000).to_bytes(10**6, "big"))
    )
    cut = [Answer(body, cut_after=len(body) // 5)] * cuts
    address = server.on("/m", *cut, Answer(body))
    assert len(content(hub.resolve(address))["big"]) == 10**6
    ranges = [headers.get("Range") for _, headers in server.asked]
    part = len(body) // 5
    assert ranges == [None] + ["bytes={}-".format(part * i) for i in range(1, cuts + 1)]
    assert {headers.get("If-Range") for _, headers in server.asked[1:]} == {'"one"'}


@pytest.mark.parametrize("how", ["no ranges", "another", "no length", "cut for ever"])
def test_begun_anew_after_a_cut(server: Server, how: str) -> None:
    """Where the server knows no ranges, or has another file by now."""
    big = os.urandom(10**6)
    body = tar_of(dict(FILES, big=big))
    options: Dict[str, Any] = {"ranges": how != "no ranges"}
    cut = Answer(body, cut_after=len(body) // 2, **options)
    if how == "no length":
        # The archive's own end tells.
        cut.length = -1
    rest = Answer(body, tag='"two"' if how == "another" else '"one"', **options)
    address = server.on("/m", cut, *([] if how == "cut for ever" else [rest]))
    if how in ("cut for ever", "no length"):
        cut.cut_after = 0 if how == "cut for ever" else cut.cut_after
        with pytest.raises(hub.errors.HandleError):
            hub.resolve(address)
        return
    assert content(hub.resolve(address)) == dict(FILES, big=big)
    assert server.asked[-1][1].get("Range") is None


def test_silence(server: Server, monkeypatch: Any) -> None:
    """A server that says nothing is not waited for."""
    monkeypatch.setenv("HUB_COMPAT_READ_TIMEOUT", "0.3")
    monkeypatch.setenv("HUB_COMPAT_RETRIES", "1")
    body = tar_of(FILES)
    address = server.on("/m", Answer(body, stall=3, ranges=False), Answer(body))
    started = time.monotonic()
    assert content(hub.resolve(address)) == FILES
    assert time.monotonic() - started < 2.5


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<!DOCTYPE html><p>Sign in</p>", "a web page"),
        (b"", "it is empty"),
        (b'{"error": 1}', "it is JSON"),
        (b"\x28\xb5\x2f\xfdxx", "zstd"),
        (tar_of(FILES)[:-20], "damaged"),
        (tar_of({}), "no file in it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "neither a tar"),
    ],
)
def test_no_archive(server: Server, cache: Path, body: bytes, reason: str) -> None:
    """R11: what came is named, and nothing is left of it."""
    address = server.on("/m", Answer(body))
    with pytest.raises(hub.errors.ArchiveError, match=reason):
        hub.resolve(address)
    assert not [p for p in cache.rglob("*") if not p.name.endswith(".lock")]


def test_offline(server: Server, cache: Path, monkeypatch: Any) -> None:
    """What is in the cache is found, and nothing is asked for."""
    address = server.on("/m", Answer(tar_of(FILES)))
    found = hub.resolve(address)
    monkeypatch.setenv("HUB_COMPAT_OFFLINE", "1")
    assert hub.resolve(address) == found
    os.remove(os.path.join(found, "variables", "variables.index"))
    with pytest.raises(hub.errors.HandleError, match="HUB_COMPAT_OFFLINE"):
        hub.resolve(address)
    with pytest.raises(hub.errors.HandleError, match="HUB_COMPAT_OFFLINE"):
        hub.resolve(server.on("/other", Answer()))
    assert len(server.asked) == 1
    monkeypatch.delenv("HUB_COMPAT_OFFLINE")
    # A temp cleaner was there: fetched again.
    assert content(hub.resolve(address)) == FILES


def test_cache_of_tensorflow_hub(server: Server, cache: Path) -> None:
    """R7, R10: its entries are used as they are, and an empty one is filled."""
    address = server.on("/m", Answer(tar_of(FILES)))
    entry = cache / hashlib.sha1(address.encode()).hexdigest()
    entry.mkdir(parents=True, mode=0o700)
    cache.chmod(0o700)
    assert content(hub.resolve(address)) == FILES
    other = address + "2"
    entry = cache / hashlib.sha1(other.encode()).hexdigest()
    entry.mkdir(mode=0o700)
    (entry / "saved_model.pb").write_bytes(b"x")
    assert hub.resolve(other) == str(entry)


@pytest.mark.tensorflow
def test_one_cache_with_tensorflow_hub(
    server: Server, cache: Path, monkeypatch: Any
) -> None:
    """R6, R7, R8: each finds what the other has fetched."""
    theirs = pytest.importorskip("tensorflow_hub")
    ours, other = (server.on(p, Answer(tar_of(FILES))) for p in ("/a", "/b"))
    assert hub.resolve(ours) == theirs.resolve(ours)
    # tensorflow_hub knows archives with members for their directories only.
    entry = cache / hashlib.sha1(other.encode()).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(tar_of({"saved_model.pb": b"x"}))) as archive:
        archive.extract("saved_model.pb", str(entry))
    entry.chmod(0o700)
    assert hub.resolve(other) == theirs.resolve(other) == str(entry)
    assert len(server.asked) == 1


def test_where_the_cache_is(tmp_path: Path, monkeypatch: Any) -> None:
    """R6: variable, our own cache, what TensorFlow Hub left, the user's own."""
    from hub_compat._handles import shelf

    assert shelf.root() == str(tmp_path / "cache")
    monkeypatch.delenv("TFHUB_CACHE_DIR")
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", str(tmp_path / "own"))
    assert shelf.root() == str(tmp_path / "own" / "downloads")
    monkeypatch.delenv("HUB_COMPAT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert shelf.root() == str(tmp_path / "xdg" / "hub_compat" / "downloads")
    (tmp_path / "tfhub_modules").mkdir(mode=0o700)
    assert shelf.root() == str(tmp_path / "tfhub_modules")
    (tmp_path / "tfhub_modules").chmod(0o777)
    assert shelf.root() == str(tmp_path / "xdg" / "hub_compat" / "downloads")


def test_flags(tmp_path: Path) -> None:
    """R5, R6: those of TensorFlow Hub, which may define them again; variables win."""
    script = (
        "import os, sys\n"
        "from absl import app, flags\n"
        "import hub_compat as hub\n"
        "from hub_compat._handles import settings, shelf\n"
        "flags.DEFINE_string('tfhub_cache_dir', None, 'again')\n"
        "def main(arguments):\n"
        "    assert shelf.root() == sys.argv[1].partition('=')[2], shelf.root()\n"
        "    assert settings.load_format() == 'UNCOMPRESSED'\n"
        "    os.environ.update(TFHUB_CACHE_DIR='/c', TFHUB_MODEL_LOAD_FORMAT='AUTO')\n"
        "    assert shelf.root() == '/c' and settings.load_format() == 'COMPRESSED'\n"
        "app.run(main)\n"
    )
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    del environ["TFHUB_CACHE_DIR"]
    cache = "--tfhub_cache_dir={}".format(tmp_path)
    arguments = [cache, "--tfhub_model_load_format=UNCOMPRESSED"]
    subprocess.run([sys.executable, "-c", script, *arguments], env=environ, check=True)


def test_untrusted_cache(server: Server, cache: Path) -> None:
    """Where every user may write, a module may be anybody's."""
    address = server.on("/m", Answer(tar_of(FILES)))
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(hub.errors.CacheError, match="every user may write"):
        hub.resolve(address)
    cache.chmod(0o700)
    os.chmod(hub.resolve(address), 0o777)
    with pytest.raises(hub.errors.CacheError, match="every user may write"):
        hub.resolve(address)


def test_mirrors(server: Server, monkeypatch: Any) -> None:
    """In their order, before the original."""
    server.on("/two/m", Answer(tar_of(FILES)))
    address = server.on("/m", Answer(b"", 500))
    monkeypatch.setenv("HUB_COMPAT_RETRIES", "0")
    monkeypatch.setenv("HUB_COMPAT_MIRRORS", "{0}/one, {0}/two/".format(server.base))
    assert content(hub.resolve(address)) == FILES
    asked = [path.partition("?")[0] for path, _ in server.asked]
    assert asked == ["/one/m", "/two/m"]
    with pytest.raises(hub.errors.HandleError, match="Neither the mirrors"):
        hub.resolve(server.on("/other", Answer(b"", 404)))


def test_archives_and_paths(tmp_path: Path, monkeypatch: Any) -> None:
    """A local archive is unpacked once, and anew when it changes."""
    path = tmp_path / "model.bin"
    path.write_bytes(tar_of(FILES))
    found = hub.resolve(path)
    assert content(found) == FILES
    assert hub.resolve("file://" + str(path)) == found
    path.write_bytes(zip_of(dict(FILES, more=b"x")))
    assert "more" in content(hub.resolve(path))
    monkeypatch.setenv("HUB_COMPAT_PATH_MAP", "/there={}".format(tmp_path))
    assert hub.resolve("/there/model") == str(tmp_path / "model")
    assert hub.resolve("/thereafter") == "/thereafter"


def test_zip_of_finder(tmp_path: Path) -> None:
    """A folder that macOS packed is found below its name, whatever is beside it."""
    files = {"model/" + name: data for name, data in FILES.items()}
    more = {"__MACOSX/model/._saved_model.pb": b"x", ".DS_Store": b"y"}
    path = tmp_path / "model.zip"
    path.write_bytes(zip_of(dict(files, **more)))
    assert content(hub.resolve(path)) == dict(FILES, **more)
    found = hub.resolve(path)
    os.remove(os.path.join(found, "saved_model.pb"))
    assert content(hub.resolve(path)) == dict(FILES, **more)


def test_own_resolver(tmp_path: Path, monkeypatch: Any) -> None:
    """R1: the newest is asked first, and all before hub_compat."""
    monkeypatch.setattr("hub_compat._handles.resolving._resolvers", [])

    @hub.register_resolver
    def company(handle: str) -> Any:
        if handle.startswith("models://"):
            return tmp_path / handle[len("models://") :]
        return None

    assert hub.resolve("models://a") == str(tmp_path / "a")
    hub.register_resolver(lambda handle: "/x" if handle == "models://a" else None)
    assert hub.resolve("models://a") == "/x"
    assert hub.resolve("models://b") == str(tmp_path / "b")


def test_kaggle(tmp_path: Path, monkeypatch: Any) -> None:
    """Its client's directory is copied; where there is none, the error says so."""
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(
        hub.errors.MissingDependencyError, match=r"hub-compat\[kaggle\]"
    ):
        hub.resolve("kaggle://o/n/f/v/1")
    source = tmp_path / "source"
    for name, data in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    client: Any = type(sys)("kagglehub")
    client.asked = []
    client.model_download = lambda model: client.asked.append(model) or str(source)
    monkeypatch.setitem(sys.modules, "kagglehub", client)
    assert content(hub.resolve("kaggle://o/n/f/v/1")) == FILES
    hub.resolve("kaggle://o/n/f/v/1")
    assert client.asked == ["o/n/f/v/1"]
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(hub.errors.ArchiveError, match="a link"):
        hub.resolve("kaggle://o/n/f/v/2")


def test_no_place(server: Server, monkeypatch: Any) -> None:
    """A full disk, or a cache that cannot be made, is our error."""
    address = server.on("/m", Answer(tar_of(FILES)))
    monkeypatch.setenv("TFHUB_CACHE_DIR", "/dev/null/cache")
    with pytest.raises(hub.errors.CacheError, match="TFHUB_CACHE_DIR"):
        hub.resolve(address)
