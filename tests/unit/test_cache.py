"""The cache of converted modules: built once, checked always, never in the way."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, List

import pytest
from fakes import SHARD, make_source, upload

from hub_compat import cache
from hub_compat._io import builders, files, locks, scratch
from hub_compat.errors import (
    CacheError,
    CorruptModuleError,
    DestinationError,
    HandleError,
)

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: Any) -> Path:
    """A cache of its own for each test, and no temporary one from another."""
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache, "_temporary", {})
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What stands for a module."""
    return make_source(tmp_path / "source")


def change_graph(source: Path) -> None:
    """Another graph of the same size."""
    (source / "saved_model.pb").write_text("GRAPH")


class Builder:
    """Stands for the converter: links the weights; counts how often it ran."""

    def __init__(self, source: Path, link: Callable[..., Any] = os.link) -> None:
        self.source = source
        self.link = link
        self.runs = 0

    def __call__(self, folder: str) -> None:
        """Writes what stands for a converted module."""
        assert os.listdir(folder) == []
        self.runs += 1
        os.mkdir(os.path.join(folder, "variables"))
        self.link(str(self.source / SHARD), os.path.join(folder, SHARD))
        data = (self.source / "saved_model.pb").read_bytes() + b" converted"
        Path(folder, "saved_model.pb").write_bytes(data)


def get(builder: Builder, *parts: str) -> Path:
    """What the cache returns for the builder's source."""
    return Path(cache.normalised(str(builder.source), parts or ("1",), builder))


def test_built_once(source: Path, home: Path) -> None:
    """The second time nothing is built, and the same directory comes back."""
    builder = Builder(source)
    first = get(builder)
    assert (first / "saved_model.pb").read_text() == "graph converted"
    assert (first / SHARD).read_text() == "weights"
    assert home in first.parents
    assert get(builder) == first
    assert builder.runs == 1


def test_an_entry_says_what_it_is(source: Path) -> None:
    """The manifest names source, key and files, for a person who looks."""
    path = get(Builder(source), "version 7")
    manifest = json.loads((path.parent / "manifest.json").read_text())
    assert manifest["source"] == str(source)
    assert manifest["key"][-1] == "version 7"
    assert manifest["key"][1] == cache.fingerprint(str(source))
    assert sorted(manifest["files"]) == ["saved_model.pb", SHARD]
    assert manifest["created"].startswith("20")


def test_equal_modules_share_an_entry(source: Path, tmp_path: Path) -> None:
    """Wherever they are; and deleting the first harms nothing."""
    first = get(Builder(source))
    copy = make_source(tmp_path / "copy")
    shutil.rmtree(str(source))
    builder = Builder(copy)
    assert get(builder) == first
    assert builder.runs == 0
    assert (first / SHARD).read_text() == "weights"


def test_versions_do_not_share(source: Path) -> None:
    """Another version of the converter builds another entry."""
    builder = Builder(source)
    assert len({get(builder, "1"), get(builder, "2"), get(builder, "1", "2")}) == 3
    assert builder.runs == 3


def test_no_weights_are_read(source: Path, monkeypatch: Any) -> None:
    """Neither for the fingerprint nor to look an entry up."""
    opened: List[str] = []
    real = files.open_read

    def open_read(path: str) -> Any:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(files, "open_read", open_read)
    builder = Builder(source)
    get(builder)
    get(builder)
    assert any(path.endswith("vocabulary.txt") for path in opened)
    assert not [path for path in opened if ".data-" in path]


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    """It is a HandleError, and nothing is built."""
    builder = Builder(tmp_path / "not there")
    with pytest.raises(HandleError, match="not there"):
        get(builder)
    assert builder.runs == 0


def remove_file(entry: Path) -> None:
    """Half-deleted."""
    (entry / "model" / "saved_model.pb").unlink()


def cut_file(entry: Path) -> None:
    """Cut short."""
    (entry / "model" / "saved_model.pb").write_text("gra")


def remove_manifest(entry: Path) -> None:
    """Without manifest."""
    (entry / "manifest.json").unlink()


def break_manifest(entry: Path) -> None:
    """With another file for a manifest."""
    (entry / "manifest.json").write_text('{"files": []}')


def empty_manifest(entry: Path) -> None:
    """With an empty manifest."""
    (entry / "manifest.json").write_text("")


def remove_all(entry: Path) -> None:
    """An empty directory."""
    shutil.rmtree(str(entry))
    entry.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        remove_file,
        cut_file,
        remove_manifest,
        break_manifest,
        empty_manifest,
        remove_all,
    ],
)
def test_a_damaged_entry_is_built_anew(source: Path, damage: Any) -> None:
    """In the same place, and once."""
    builder = Builder(source)
    path = get(builder)
    damage(path.parent)
    assert get(builder) == path
    assert (path / "saved_model.pb").read_text() == "graph converted"
    assert get(builder) == path
    assert builder.runs == 2
    hidden = [
        name for name in os.listdir(str(path.parent.parent)) if "lock" not in name
    ]
    assert hidden == [path.parent.name]


def test_linked_weights_that_were_written_to(source: Path, tmp_path: Path) -> None:
    """Writing to the source's file in place writes to the entry's; that is seen."""
    path = get(Builder(source))
    assert os.path.samefile(str(path / SHARD), str(source / SHARD))
    with open(str(source / SHARD), "r+") as file:
        file.write("WEIGHTS")
    os.utime(str(source / SHARD), (1, 1))
    assert (path / SHARD).read_text() == "WEIGHTS"
    builder = Builder(make_source(tmp_path / "copy"))
    assert get(builder) == path
    assert builder.runs == 1
    assert (path / SHARD).read_text() == "weights"


def test_weights_that_were_repaired(source: Path) -> None:
    """Other weights in the same place, under the same index, are used."""
    builder = Builder(source)
    (source / SHARD).write_text("DAMAGED"[:7])
    path = get(builder)
    (source / SHARD).unlink()
    (source / SHARD).write_text("weights")
    os.utime(str(source / SHARD), (1, 1))
    assert get(builder) == path
    assert (path / SHARD).read_text() == "weights"
    assert get(builder) == path
    assert builder.runs == 2


def test_a_copied_cache_is_as_good(source: Path, tmp_path: Path, home: Path) -> None:
    """Whole seconds are enough for linked files, no times for others."""
    builder = Builder(source)
    path = get(builder)
    for name in ("saved_model.pb", SHARD):
        seconds = os.stat(str(path / name)).st_mtime_ns // 10**9
        os.utime(str(path / name), (seconds, seconds))
    copied = Builder(source, shutil.copyfile)
    copy = get(copied, "copied")
    for name in ("saved_model.pb", SHARD):
        os.utime(str(copy / name), (1, 1))
    assert get(builder) == path
    assert get(copied, "copied") == copy
    assert (builder.runs, copied.runs) == (1, 1)


def test_a_builder_that_fails_leaves_nothing(source: Path, home: Path) -> None:
    """Its error comes out as it is; the next one succeeds."""

    def build(folder: str) -> None:
        Path(folder, "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.normalised(str(source), ("1",), build)
    assert not [path for path in home.rglob("*") if path.name == "half"]
    builder = Builder(source)
    get(builder)
    assert builder.runs == 1


def test_a_source_that_changes_meanwhile(source: Path) -> None:
    """What is cached under a fingerprint was built from just that."""
    builder = Builder(source)

    def build(folder: str) -> None:
        builder(folder)
        if builder.runs == 1:
            change_graph(source)
            os.utime(str(source / "saved_model.pb"), (1, 1))

    path = cache.normalised(str(source), ("1",), build)
    assert Path(path, "saved_model.pb").read_text() == "GRAPH converted"
    assert builder.runs == 2
    assert get(builder) == Path(path)
    assert builder.runs == 2


def test_a_source_that_never_stops_changing(source: Path) -> None:
    """It is refused after some attempts."""
    builder = Builder(source)

    def build(folder: str) -> None:
        builder(folder)
        os.utime(str(source / "saved_model.pb"), (builder.runs, builder.runs))

    with pytest.raises(CorruptModuleError, match="changed while"):
        cache.normalised(str(source), ("1",), build)
    assert builder.runs == cache._ATTEMPTS


def test_threads_build_once(source: Path) -> None:
    """Of several threads one builds; all get its result."""
    builder = Builder(source)
    inside = threading.Event()
    found: List[Path] = []

    def build(folder: str) -> None:
        inside.wait(0.2)
        builder(folder)

    def ask() -> None:
        found.append(Path(cache.normalised(str(source), ("1",), build)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    if locks.fcntl is not None:
        assert builder.runs == 1


def test_without_locks_the_first_wins(source: Path, monkeypatch: Any) -> None:
    """Who comes second uses what is there, and replaces nothing."""
    monkeypatch.setattr(locks, "fcntl", None)
    fast, slow = Builder(source), Builder(source)

    def build(folder: str) -> None:
        slow(folder)
        path = get(fast)
        (path / "winner").write_text("")

    path = Path(cache.normalised(str(source), ("1",), build))
    assert (path / "winner").exists()
    assert (fast.runs, slow.runs) == (1, 1)


def test_who_waits_too_long_goes_ahead(
    source: Path, monkeypatch: Any, caplog: Any
) -> None:
    """A builder that hangs does not stop the others for ever."""
    if locks.fcntl is None:
        pytest.skip("there are no locks")
    monkeypatch.setattr(builders, "_PATIENCE", 0.1)
    fast, slow = Builder(source), Builder(source)

    def build(folder: str) -> None:
        slow(folder)
        get(fast)

    cache.normalised(str(source), ("1",), build)
    assert (fast.runs, slow.runs) == (1, 1)
    assert "stops waiting" in caplog.text


_PROCESS = """
import os, sys, time
from hub_compat import cache
source, name, log, start, pause = sys.argv[1:]

def build(folder):
    print("building", flush=True)
    with open(log, "a") as file:
        file.write(name)
    for part in "abcd":
        with open(os.path.join(folder, part), "w") as file:
            file.write(name)
        time.sleep(float(pause))

print("ready", flush=True)
while not os.path.exists(start):
    time.sleep(0.001)
path = cache.normalised(source, ("1",), build)
print(path)
print("".join(open(os.path.join(path, part)).read() for part in "abcd"))
"""


def run(*arguments: Any) -> subprocess.Popen[bytes]:
    """Starts another Python that asks the cache."""
    return subprocess.Popen(
        [sys.executable, "-c", _PROCESS] + [str(a) for a in arguments],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
        stdout=subprocess.PIPE,
    )


def test_processes_build_once(source: Path, tmp_path: Path) -> None:
    """Of four processes one builds; all see its result, and nothing half done."""
    log, start = tmp_path / "log", tmp_path / "start"
    processes = [run(source, i, log, start, 0.05) for i in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
    start.touch()
    outputs = [p.communicate()[0].decode().split()[-2:] for p in processes]
    assert [p.returncode for p in processes] == [0] * 4
    assert len({tuple(output) for output in outputs}) == 1
    assert outputs[0][1] in ("0000", "1111", "2222", "3333")
    if locks.fcntl is not None:
        assert log.read_text() == outputs[0][1][0]


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_builder_that_was_killed(source: Path, tmp_path: Path, home: Path) -> None:
    """Its lock ends with it; the next one builds, and removes what it left."""
    start = tmp_path / "start"
    start.touch()
    victim = run(source, "victim", tmp_path / "log", start, 60)
    assert victim.stdout is not None
    assert victim.stdout.readline().strip() == b"ready"
    assert victim.stdout.readline().strip() == b"building"
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert [path for path in home.rglob("*") if ".tmp-" in path.name]
    builder = Builder(source)
    path = get(builder)
    assert builder.runs == 1
    assert not [path for path in home.rglob("*") if ".tmp-" in path.name]
    assert (path / "saved_model.pb").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_keeps_no_lock(source: Path, monkeypatch: Any) -> None:
    """A lock that was held when a child was forked ends with its holder's work."""
    monkeypatch.setattr(builders, "_PATIENCE", 5.0)
    builder = Builder(source)
    children: List[subprocess.Popen[bytes]] = []

    def build(folder: str) -> None:
        builder(folder)
        # close_fds=False: the child has the open lock file, as after a fork.
        for handle in map(int, os.listdir("/proc/self/fd")):
            try:
                if os.readlink("/proc/self/fd/{}".format(handle)).endswith(".lock"):
                    os.set_inheritable(handle, True)
            except OSError:
                pass
        children.append(subprocess.Popen(["sleep", "30"], close_fds=False))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("there is no /proc")
    path = Path(cache.normalised(str(source), ("1",), build))
    try:
        with builders.locked(str(path.parent)) as locked:
            assert locked
    finally:
        children[0].kill()
        children[0].wait()


def unusable_file(tmp_path: Path) -> str:
    """A file where the directory should be."""
    (tmp_path / "file").write_text("text")
    return str(tmp_path / "file")


def unusable_below_file(tmp_path: Path) -> str:
    """A directory below a file."""
    (tmp_path / "file").write_text("text")
    return str(tmp_path / "file" / "cache")


def unusable_home(tmp_path: Path) -> str:
    """The home of nobody."""
    return "~nobody-of-this-name/cache"


@pytest.mark.parametrize(
    "unusable", [unusable_file, unusable_below_file, unusable_home]
)
def test_a_temporary_directory_serves(
    source: Path, tmp_path: Path, unusable: Any, monkeypatch: Any, caplog: Any
) -> None:
    """Where the cache cannot be written: for this process, with one warning."""
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", unusable(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    builder = Builder(source)
    path = get(builder)
    assert (path / "saved_model.pb").read_text() == "graph converted"
    assert tmp_path in path.parents
    assert get(builder) == path
    get(builder, "2")
    assert builder.runs == 2
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].name == "hub_compat.cache"
    assert "HUB_COMPAT_CACHE_DIR" in caplog.text
    root = path.parent.parent.parent
    scratch.remove(str(root))
    assert not root.exists()
    # A cleaner of temporary directories may do the same: it is made anew.
    assert (get(builder) / "saved_model.pb").exists()


def test_the_temporary_directory_ends_with_the_process(
    source: Path, tmp_path: Path
) -> None:
    """Nothing is left of it."""
    script = (
        "import sys; from hub_compat import cache; print(cache.normalised("
        "sys.argv[1], '1', lambda d: open(d + '/x', 'w').close()))"
    )
    environment = dict(
        os.environ,
        PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
        HUB_COMPAT_CACHE_DIR=unusable_file(tmp_path),
        TMPDIR=str(tmp_path),
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source)],
        env=environment,
        check=True,
        capture_output=True,
    )
    path = Path(done.stdout.decode().strip())
    assert path.parent.parent.parent.parent == tmp_path
    assert not path.parent.parent.parent.exists()
    assert b"HUB_COMPAT_CACHE_DIR" in done.stderr


def test_no_space_in_the_cache(
    source: Path, tmp_path: Path, home: Path, monkeypatch: Any
) -> None:
    """An entry that does not fit goes to the temporary directory, and is kept there."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    builder = Builder(source)
    tried: List[str] = []

    def build(folder: str) -> None:
        tried.append(folder)
        if str(home) in folder:
            raise OSError(28, "No space left on device")
        builder(folder)

    for _ in range(2):
        path = cache.normalised(str(source), ("1",), build)
        assert home not in Path(path).parents
    assert len(tried) == 2
    assert builder.runs == 1


def test_no_place_at_all(source: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """With neither a cache nor a temporary directory there is a CacheError."""

    def build(folder: str) -> None:
        raise DestinationError("no space. Received: " + folder)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(CacheError, match="Set HUB_COMPAT_CACHE_DIR"):
        cache.normalised(str(source), ("1",), build)
    monkeypatch.setattr(cache, "_temporary", {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    with pytest.raises(CacheError, match="Set HUB_COMPAT_CACHE_DIR"):
        cache.normalised(str(source), ("1",), build)


def test_a_read_only_cache_that_has_it(source: Path, monkeypatch: Any) -> None:
    """Nothing is written where nothing need be."""
    builder = Builder(source)
    path = get(builder)

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    for name in ("mkdir", "makedirs", "rename", "unlink", "link"):
        monkeypatch.setattr(os, name, refuse)
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda p, f, *a: refuse() if f & os.O_CREAT else real(p, f, *a)
    )
    assert get(builder) == path


def test_where_the_cache_is(tmp_path: Path, monkeypatch: Any) -> None:
    """Which variable counts, and what it may say."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    for value, expected in (
        (str(tmp_path / "own"), "own"),
        ("~/own", "own"),
        ("own", "own"),
        ("file://{}/own".format(tmp_path), "own"),
        ("", "hub/hub_compat"),
    ):
        monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", value)
        assert Path(cache.directory()) == tmp_path / expected
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://bucket/hub")
    assert Path(cache.directory()) == tmp_path / "xdg" / "hub_compat" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert Path(cache.directory()) == tmp_path / ".cache" / "hub_compat" / "models"
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", "gs://bucket/own/")
    assert cache.directory() == "gs://bucket/own"


def test_no_home(monkeypatch: Any) -> None:
    """A CacheError says what to set."""
    for name in ("HOME", "XDG_CACHE_HOME", "HUB_COMPAT_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(CacheError, match="Set HUB_COMPAT_CACHE_DIR"):
        cache.directory()


def test_a_remote_source(source: Path, remote: str) -> None:
    """It shares the entry of its local copy."""
    upload(source, remote)
    builder = Builder(source)
    path = cache.normalised(remote, ("1",), builder)
    assert get(builder) == Path(path)
    assert builder.runs == 1


def test_a_remote_cache(source: Path, remote: str, monkeypatch: Any) -> None:
    """Entries are built, found, and checked there, too."""
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", remote)
    runs = []

    def build(folder: str) -> None:
        runs.append(folder)
        files.write_bytes(files.join(folder, "saved_model.pb"), b"graph")

    path = cache.normalised(str(source), ("1",), build)
    assert path.startswith(remote)
    assert files.read_bytes(files.join(path, "saved_model.pb")) == b"graph"
    assert cache.normalised(str(source), ("1",), build) == path
    assert len(runs) == 1
    files.write_bytes(files.join(path, "saved_model.pb"), b"gr")
    assert cache.normalised(str(source), ("1",), build) == path
    assert files.read_bytes(files.join(path, "saved_model.pb")) == b"graph"
    assert len(runs) == 2


def test_tensorflow_is_not_imported() -> None:
    """For a local module and a local cache it is not needed."""
    script = (
        "import sys; from hub_compat import cache; from hub_compat._io import publish; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
