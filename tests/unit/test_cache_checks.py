"""What the cache takes for good: damage, other copies, other users, other versions."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
from fakes import SHARD, make_source

from hub_compat import cache
from hub_compat._io import builders, entries, entry, trust

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: Any) -> Path:
    """A cache of its own for each test, and no temporary one from another."""
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_temporary", {})
    monkeypatch.setattr(entries, "_pending", {})
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What stands for a module."""
    return make_source(tmp_path / "source")


class Builder:
    """Stands for the converter, and for what checks the weights."""

    def __init__(self, source: Path, link: Any = os.link) -> None:
        self.source = source
        self.link = link
        self.runs = 0
        self.checks = 0

    def __call__(self, folder: str) -> None:
        """Writes what stands for a converted module."""
        self.runs += 1
        for name in ("variables", "assets"):
            os.mkdir(os.path.join(folder, name))
        self.link(str(self.source / SHARD), os.path.join(folder, SHARD))
        for name in ("saved_model.pb", "assets/vocabulary.txt"):
            data = (self.source / name).read_bytes()
            Path(folder, name).write_bytes(data + b" converted")

    def is_whole(self, model: str) -> bool:
        """Whether the weights are those that the index has the checksum of."""
        self.checks += 1
        return Path(model, SHARD).read_text() == "weights"

    def get(self, *parts: str) -> Path:
        """What the cache returns."""
        return Path(
            cache.normalised(str(self.source), parts or ("1",), self, self.is_whole)
        )


def rewrite(path: Path, text: str) -> None:
    """Other content of the same size, at the same time."""
    facts = os.stat(str(path))
    assert len(text) == facts.st_size
    path.write_text(text)
    os.utime(str(path), ns=(facts.st_atime_ns, facts.st_mtime_ns))


def other(path: Path) -> str:
    """As many bytes, of which one is another."""
    text = path.read_text()
    half = len(text) // 2
    return text[:half] + chr(ord(text[half]) ^ 1) + text[half + 1 :]


@pytest.mark.parametrize("name", ["saved_model.pb", "assets/vocabulary.txt"])
def test_damage_of_the_same_size_is_seen(source: Path, name: str) -> None:
    """Each file but the weights is compared with its hash."""
    builder = Builder(source)
    path = builder.get()
    rewrite(path / name, other(path / name))
    assert builder.get() == path
    assert (path / name).read_text() == (source / name).read_text() + " converted"
    assert builder.get() == path
    assert builder.runs == 2


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100000,
        '{"files": ' + "[" * 100000,
        '{"files": {"saved_model.pb": 1}, "whole": true}',
        '{"files": {"saved_model.pb": {"size": -1}}, "source": 7}',
        '{"files": {"saved_model.pb": {"size": 1, "time": "x", "sha256": 3}}}',
        "{}" + " " * entry._MANIFEST_BYTES,
        "\ud800",
    ],
    ids=range(7),
)
def test_any_manifest(source: Path, text: str) -> None:
    """One that is not as it was written has the entry built anew."""
    builder = Builder(source)
    path = builder.get()
    data = text.encode("utf-8", "surrogatepass")
    (path.parent / "manifest.json").write_bytes(data)
    assert builder.get() == path
    assert builder.get() == path
    assert builder.runs == 2


def test_every_byte_of_a_manifest(source: Path) -> None:
    """Whatever byte of it is damaged, the same model comes back."""
    builder = Builder(source)
    path = builder.get()
    good = (path.parent / "manifest.json").read_bytes()
    for position in range(0, len(good), 31):
        data = bytearray(good)
        data[position] ^= 1 << position % 8
        (path.parent / "manifest.json").write_bytes(bytes(data))
        assert builder.get() == path
        assert (path / "saved_model.pb").read_text() == "graph converted"


def test_a_whole_copy_after_a_damaged_one(source: Path, tmp_path: Path) -> None:
    """The weights of a damaged copy are not those of a whole one elsewhere."""
    damaged = Builder(make_source(tmp_path / "damaged"))
    rewrite(damaged.source / SHARD, "wEights")
    path = damaged.get()
    assert (path / SHARD).read_text() == "wEights"
    whole = Builder(source)
    assert whole.get() == path
    assert (path / SHARD).read_text() == "weights"
    # By their checksums, those are the damaged one's as well.
    assert damaged.get() == path
    assert whole.get() == path
    assert (damaged.runs, whole.runs) == (1, 1)
    # With and without a lock.
    assert (damaged.checks, whole.checks) == (1, 2)


@pytest.mark.parametrize("link", [os.link, shutil.copyfile])
def test_a_copy_that_is_repaired(source: Path, link: Any) -> None:
    """In its place, with the old times: the weights are another file by then."""
    rewrite(source / SHARD, "wEights")
    os.utime(str(source / SHARD), ns=(10**18 + 1, 10**18 + 1))
    builder = Builder(source, link)
    path = builder.get()
    whole = source / "new"
    whole.write_text("weights")
    os.utime(str(whole), ns=(10**18 + 1, 10**18 + 1))
    os.replace(str(whole), str(source / SHARD))
    assert builder.get() == path
    assert (path / SHARD).read_text() == "weights"
    assert builder.get() == path
    assert builder.runs == 2


@pytest.mark.parametrize("link", [os.link, shutil.copyfile])
def test_a_source_that_is_touched(source: Path, link: Any) -> None:
    """It is the same module: nothing is converted again."""
    builder = Builder(source, link)
    path = builder.get()
    for time in (1, 2, 3):
        for file in source.rglob("*"):
            os.utime(str(file), (time, time))
        assert builder.get() == path
    assert builder.runs == 1


def test_another_copy_is_checked_once(source: Path, tmp_path: Path) -> None:
    """Not at each load."""
    path = Builder(source).get()
    builder = Builder(make_source(tmp_path / "copy"))
    for _ in range(3):
        assert builder.get() == path
    assert (builder.runs, builder.checks) == (0, 1)


def test_only_its_user_may_read_it(source: Path, home: Path) -> None:
    """Whatever the umask: weights may be secret."""
    before = os.umask(0)
    try:
        path = Builder(source).get()
    finally:
        os.umask(before)
    if os.name == "posix":
        for folder in (path.parent, path.parent.parent, home):
            assert os.stat(str(folder)).st_mode & 0o777 == 0o700


needs_users = pytest.mark.skipif(os.name != "posix", reason="there are no users")


@needs_users
@pytest.mark.parametrize("part", ["", "part"])
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757])
def test_where_others_may_write(
    part: str, mode: int, source: Path, home: Path, monkeypatch: Any, caplog: Any
) -> None:
    """A cache that another user may have put something into is not used."""
    builder = Builder(source)
    path = builder.get()
    folder = path.parent.parent if part else home
    folder.chmod(mode)
    found = builder.get()
    assert home not in found.parents
    assert "every user may write to it" in caplog.text
    assert "HUB_COMPAT_CACHE_DIR" in caplog.text
    folder.chmod(0o755)
    monkeypatch.setattr(cache, "_temporary", {})
    assert builder.get() == path


def pretend_to_be(user: int, monkeypatch: Any) -> None:
    """What this user has written is another's, and not root's."""
    real = trust._is_own
    monkeypatch.setattr(trust, "_is_own", lambda owner: owner == user)
    assert real(os.geteuid())


@needs_users
def test_the_cache_of_another_user(
    source: Path, home: Path, monkeypatch: Any, caplog: Any
) -> None:
    """It is not used."""
    builder = Builder(source)
    builder.get()
    # The temporary one, which is this process's own, would be another's as well.
    with monkeypatch.context() as patch:
        pretend_to_be(os.geteuid() + 12345, patch)
        with pytest.raises(cache.CacheError, match="belongs to"):
            builder.get()


def test_a_cache_that_this_user_may_not_read(
    source: Path, home: Path, monkeypatch: Any, caplog: Any
) -> None:
    """A temporary one is used, and a warning says why; the module is not blamed."""
    builder = Builder(source)
    kept = builder.get()
    real = os.stat

    def refused(path: Any, *args: Any, **keywords: Any) -> Any:
        if str(path) == str(kept.parent.parent):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **keywords)

    monkeypatch.setattr(cache.os, "stat", refused)
    with caplog.at_level(logging.WARNING):
        found = builder.get()
    assert home not in found.parents
    assert "may not read it" in caplog.text
    assert (found / "saved_model.pb").read_text().endswith(" converted")


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="only root gives files away"
)
@pytest.mark.parametrize("name", ["", "manifest.json", "model", "model/saved_model.pb"])
def test_an_entry_of_another_user(source: Path, home: Path, name: str) -> None:
    """Planted in a directory that is this user's by now, it is replaced."""
    builder = Builder(source)
    path = builder.get()
    (path.parent / name).chmod(0o755)
    os.chown(str(path.parent / name), 12345, 12345)
    assert builder.get() == path
    assert builder.get() == path
    assert builder.runs == 2
    assert os.stat(str(path.parent / name)).st_uid == 0


@needs_users
def test_a_group_of_one_user(tmp_path: Path, monkeypatch: Any) -> None:
    """Files of umask 002 are as safe where the group has nobody else."""
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o664)
    facts = os.stat(str(tmp_path / "file"))
    for members, reason in (([], None), (["x"], "the members of a group may write")):
        name = trust.pwd.getpwuid(facts.st_uid).pw_name
        group = type("Group", (), {"gr_name": name, "gr_mem": members})
        monkeypatch.setattr(trust.grp, "getgrgid", lambda number, g=group: g)
        found = trust.distrust(facts)
        assert found is reason is None or reason in (found or "")


def test_entries_of_deleted_modules_go(source: Path, tmp_path: Path) -> None:
    """What is built clears away what was made of modules that are gone or others."""
    paths = []
    for number in range(4):
        old = Builder(make_source(tmp_path / "export{}".format(number)))
        (old.source / "saved_model.pb").write_text("graph {}".format(number))
        paths.append(old.get())
        cache.entries.drop(str(paths[-1]))
    shutil.rmtree(str(tmp_path / "export0"))
    (tmp_path / "export1" / "saved_model.pb").write_text("another graph")
    os.rename(str(tmp_path / "export2"), str(tmp_path / "moved"))
    new = Builder(source).get()
    assert [path.exists() for path in paths] == [False, False, False, True]
    assert new.exists()
    hidden = [p for p in (tmp_path / "cache").rglob(".*") if p.suffix != ".lock"]
    assert hidden == []


class Holder:
    """Stands for a loaded object."""


def test_entries_in_use_stay(source: Path, tmp_path: Path) -> None:
    """As long as the object lives that needs them."""
    old = Builder(make_source(tmp_path / "export"))
    (old.source / "saved_model.pb").write_text("old graph")
    path = old.get()
    holder = Holder()
    cache.keep(str(path), holder)
    old.get()
    cache.keep(str(path), holder)
    shutil.rmtree(str(old.source))
    assert cache.prune().entries == 0
    assert path.exists()
    del holder
    pruned = cache.prune()
    assert not path.exists()
    assert pruned.entries == 1
    assert pruned.size > len("weights")


def test_pruning_everything(source: Path, home: Path) -> None:
    """What is not in use can all be had back, the locks' files as well."""
    builder = Builder(source)
    path = builder.get()
    assert cache.prune(everything=True).entries == 0
    cache.entries.drop(str(path))
    assert cache.prune(everything=True).entries == 1
    assert [p for p in home.rglob("*") if not p.is_dir()] == []
    assert builder.get() == path


def test_what_killed_builders_left(source: Path, home: Path) -> None:
    """Whoever builds anything removes it, unless somebody is at it."""
    dead = home / "ab" / ".{}.tmp-1-0123abcd".format("ab" * 32)
    (dead / "model").mkdir(parents=True)
    alive = home / "ab" / ".{}.tmp-1-0123abce".format("ab" * 32)
    alive.mkdir()
    lock = entries.locks.hold(str(alive))
    Builder(source).get()
    assert not dead.exists()
    assert alive.exists()
    entries.locks.release(lock)
    assert cache.prune().leftovers == 1
    assert not alive.exists()


_BUILDER = """
import sys, time
from hub_compat import cache
def build(folder):
    print("building", flush=True)
    time.sleep(60)
cache.normalised(sys.argv[1], ("1",), build)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
def test_a_builder_that_is_stopped(source: Path, monkeypatch: Any, caplog: Any) -> None:
    """It is not waited for; one that works is, and a line says so."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    process = subprocess.Popen(
        [sys.executable, "-c", _BUILDER, str(source)],
        env=environment,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.setattr(builders, "_SILENCE", 0.1)
        monkeypatch.setattr(builders, "_STOPPED", 0.3)
        process.send_signal(signal.SIGSTOP)
        builder = Builder(source)
        with caplog.at_level(logging.WARNING):
            builder.get()
        assert builder.runs == 1
        messages = [r.getMessage() for r in caplog.records]
        assert len(messages) == 2
        assert "Waiting for process {}".format(process.pid) in messages[0]
        assert "is stopped" in messages[1]
    finally:
        process.kill()
        process.communicate()


def test_the_manifest_says_where_it_came_from(source: Path) -> None:
    """For a person who looks, and for what clears away."""
    path = Builder(source).get()
    manifest = json.loads((path.parent / "manifest.json").read_text())
    names: List[str] = sorted(manifest["source_files"])
    assert names == sorted(
        p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()
    )
    assert not entry.is_orphan(manifest)
