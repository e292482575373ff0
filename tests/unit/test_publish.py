"""A directory appears complete or not at all, whoever else is about."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from hub_compat._io import files, publish
from hub_compat._io.leftovers import leftovers
from hub_compat._io.publish import atomic_directory
from hub_compat.errors import DestinationError

pytestmark = pytest.mark.filterwarnings("error")


def write(folder: str, text: str) -> None:
    """Writes what stands for a model: files on top and below, an empty folder."""
    for name in ("variables", "assets"):
        files.make_dirs(files.join(folder, name))
    for name in ("saved_model.pb", "fingerprint.pb", "variables/variables.index"):
        files.write_bytes(files.join(folder, *name.split("/")), text.encode())


def read(folder: str) -> Dict[str, str]:
    """Content of all files below a directory."""
    names = files.walk_files(folder)
    return {n: files.read_bytes(files.join(folder, n)).decode() for n in names}


MODEL = ("fingerprint.pb", "saved_model.pb", "variables/variables.index")


def model(text: str) -> Dict[str, str]:
    """What ``read`` gives for what ``write`` wrote."""
    return dict.fromkeys(MODEL, text)


def test_the_directory_appears_when_the_block_ends(anywhere: str) -> None:
    """Nothing is at the destination before, all of it afterwards."""
    out = files.join(anywhere, "a", "b", "out")
    with atomic_directory(out) as folder:
        write(folder, "new")
        assert not files.exists(out)
        assert os.path.dirname(folder) == os.path.dirname(out)
    assert read(out) == model("new")
    assert files.is_dir(files.join(out, "assets"))
    assert files.list_dir(files.join(anywhere, "a", "b")) == ["out"]


def fail(destination: str, error: BaseException, overwrite: bool = False) -> None:
    """Writes all of a model, and raises."""
    with atomic_directory(destination, overwrite=overwrite) as folder:
        write(folder, "new")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_nothing(anywhere: str, error: Any) -> None:
    """Neither the destination nor anything beside it or above it is left."""
    with pytest.raises(error):
        fail(files.join(anywhere, "out"), error())
    assert files.list_dir(anywhere) == []


def test_parents_made_for_a_block_that_raises_go_too(tmp_path: Path) -> None:
    """Directories above are removed again, but not those of somebody else."""
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError):
        fail(str(tmp_path / "there" / "a" / "b" / "out"), ValueError())
    assert list((tmp_path / "there").iterdir()) == []

    def shared() -> None:
        with atomic_directory(str(tmp_path / "a" / "b" / "out")):
            (tmp_path / "a" / "other").mkdir()
            raise ValueError

    with pytest.raises(ValueError):
        shared()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["other"]


def test_an_abandoned_generator_leaves_nothing(tmp_path: Path) -> None:
    """GeneratorExit counts as an error of the block."""

    def writes() -> Iterator[None]:
        with atomic_directory(str(tmp_path / "out")) as folder:
            write(folder, "new")
            yield

    generator = writes()
    next(generator)
    del generator
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_not_touched(anywhere: str) -> None:
    """Without overwrite it is refused before the block runs."""
    out = files.join(anywhere, "out")
    write(out, "old")
    with pytest.raises(DestinationError, match="already exists.*overwrite=True"):
        with atomic_directory(out):
            raise AssertionError
    assert read(out) == model("old")
    assert files.list_dir(anywhere) == ["out"]


def test_overwriting_replaces_all_of_it(anywhere: str) -> None:
    """Files that only the old directory had are gone; nothing is left beside it."""
    out = files.join(anywhere, "out")
    write(out, "old")
    files.write_bytes(files.join(out, "only.old"), b"old")
    with atomic_directory(out, overwrite=True) as folder:
        write(folder, "new")
        assert read(out)["only.old"] == "old"
    assert read(out) == model("new")
    assert files.list_dir(anywhere) == ["out"]


def test_overwriting_that_fails_keeps_the_old(anywhere: str) -> None:
    """A block that raises leaves the old directory as it was."""
    out = files.join(anywhere, "out")
    write(out, "old")
    with pytest.raises(ValueError):
        fail(out, ValueError(), overwrite=True)
    assert read(out) == model("old")
    assert files.list_dir(anywhere) == ["out"]


def test_overwrite_needs_nothing_to_overwrite(anywhere: str) -> None:
    """A destination that is absent is written as without it."""
    out = files.join(anywhere, "out")
    with atomic_directory(out, overwrite=True) as folder:
        write(folder, "new")
    assert read(out) == model("new")


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_empty_directory_is_filled(anywhere: str, overwrite: bool) -> None:
    """A directory made beforehand for the result is no obstacle."""
    out = files.join(anywhere, "out")
    files.make_dirs(out)
    with atomic_directory(out, overwrite=overwrite) as folder:
        write(folder, "new")
    assert read(out) == model("new")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_refused(anywhere: str, overwrite: bool) -> None:
    """A file is not overwritten, whatever was passed."""
    out = files.join(anywhere, "out")
    files.write_bytes(out, b"text")
    with pytest.raises(DestinationError, match="file of that name"):
        with atomic_directory(out, overwrite=overwrite):
            raise AssertionError
    assert files.read_bytes(out) == b"text"


def test_a_destination_below_a_file_is_refused(tmp_path: Path) -> None:
    """The message says that what is above it is a file."""
    (tmp_path / "file").write_text("text")
    for below in ("out", "a/out"):
        with pytest.raises(DestinationError, match="above it is a file"):
            with atomic_directory(str(tmp_path / "file" / below)):
                raise AssertionError
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("destination", ["", "a\0b", "x" * 300], ids=len)
def test_what_is_no_path_is_refused(
    destination: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """Not with Python's own errors."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DestinationError, match="Received"):
        with atomic_directory(destination):
            raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_slashes_and_relative_paths(tmp_path: Path, monkeypatch: Any) -> None:
    """End slashes, ".." and relative paths mean what they mean elsewhere."""
    monkeypatch.chdir(tmp_path)
    for text in ("one/", "./two", "one/../three//"):
        with atomic_directory(text) as folder:
            write(folder, text)
            assert os.path.isabs(folder)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["one", "three", "two"]


def test_a_change_of_directory_within_the_block(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """A relative destination is the one of the beginning."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with atomic_directory("out") as folder:
        write(folder, "new")
        os.chdir(str(tmp_path / "elsewhere"))
    assert read(str(tmp_path / "out")) == model("new")


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    """What it leads to is written, there already or not."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real", target_is_directory=True)
    for text in ("one", "two"):
        with atomic_directory(str(link), overwrite=True) as folder:
            write(folder, text)
        assert link.is_symlink()
        assert read(str(tmp_path / "real")) == model(text)


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    """With a DestinationError."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(DestinationError):
        with atomic_directory(str(tmp_path / "a")):
            raise AssertionError


def test_permissions_are_the_usual_ones(tmp_path: Path) -> None:
    """Those of mkdir for a new directory, the old ones where there was one."""
    usual = tmp_path / "usual"
    usual.mkdir()
    private = tmp_path / "private"
    private.mkdir()
    private.chmod(0o700)
    for out in (tmp_path / "new", private):
        with atomic_directory(str(out)) as folder:
            write(folder, "new")
            if out == private:
                assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == stat.S_IMODE(
        usual.stat().st_mode
    )
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_long_name_still_has_room_beside_it(tmp_path: Path) -> None:
    """The hidden name stays below the 255 bytes that a name may have."""
    out = tmp_path / ("\u00e4" * 120)
    with atomic_directory(str(out)) as folder:
        write(folder, "new")
    assert read(str(out)) == model("new")


def test_the_working_directory_is_not_replaced(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Nor is a directory above it: the shell would be nowhere."""
    (tmp_path / "work" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "here")
    for destination in (".", "..", str(tmp_path / "work")):
        with pytest.raises(DestinationError, match="working directory"):
            with atomic_directory(destination, overwrite=True):
                raise AssertionError
    assert (tmp_path / "work" / "here").is_dir()


def test_without_a_working_directory(tmp_path: Path, monkeypatch: Any) -> None:
    """Where it has been deleted, a relative destination is refused, another is not."""
    (tmp_path / "here").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with atomic_directory(str(tmp_path / "out"), overwrite=True) as directory:
        Path(directory, "a").write_text("a")
    assert (tmp_path / "out" / "a").exists()
    with pytest.raises(DestinationError, match="working directory has been deleted"):
        with atomic_directory("out"):
            pass


def test_a_mount_point_is_not_replaced(tmp_path: Path, monkeypatch: Any) -> None:
    """It is said in advance, with what to do."""
    monkeypatch.setattr(os.path, "ismount", lambda path: path == str(tmp_path))
    with pytest.raises(DestinationError, match="mount point.*below it"):
        with atomic_directory(str(tmp_path)):
            raise AssertionError


@pytest.mark.parametrize(
    "number, hint",
    [
        (errno.EACCES, "you may write"),
        (errno.EROFS, "not read-only"),
        (errno.ENOSPC, "Make space"),
    ],
)
def test_a_directory_that_cannot_be_written(
    number: int, hint: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """The message says what is wrong and what to do, before the block runs."""

    def mkdir(path: str, mode: int = 0o777) -> None:
        raise OSError(number, os.strerror(number), path)

    # As anywhere, permissions would not stop anybody.
    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(DestinationError, match=hint) as caught:
        with atomic_directory(str(tmp_path / "out")):
            raise AssertionError
    assert isinstance(caught.value.__cause__, OSError)


def test_no_space_left_while_writing(tmp_path: Path) -> None:
    """The block's own error becomes one about the destination."""
    with pytest.raises(DestinationError, match="No space.*Make space"):
        fail(str(tmp_path / "out"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_block_about_other_files_stay(tmp_path: Path) -> None:
    """Only what concerns the destination is a DestinationError."""
    with pytest.raises(FileNotFoundError):
        with atomic_directory(str(tmp_path / "out")):
            open(str(tmp_path / "source"))
    with pytest.raises(DestinationError):
        with atomic_directory(str(tmp_path / "out")) as folder:
            open(os.path.join(folder, "not", "there"), "w")
    assert list(tmp_path.iterdir()) == []


def test_who_comes_second_is_refused(anywhere: str) -> None:
    """A destination that appears while the block runs is not touched either."""
    out = files.join(anywhere, "out")

    def race() -> None:
        with atomic_directory(out) as folder:
            write(folder, "slow")
            with atomic_directory(out) as other:
                write(other, "fast")

    with pytest.raises(DestinationError, match="already exists"):
        race()
    assert read(out) == model("fast")
    assert files.list_dir(anywhere) == ["out"]


def test_overwriting_at_the_same_time(tmp_path: Path) -> None:
    """The last to finish is the one that stays."""
    out = str(tmp_path / "out")
    with atomic_directory(out, overwrite=True) as folder:
        write(folder, "slow")
        with atomic_directory(out, overwrite=True) as other:
            write(other, "fast")
    assert read(out) == model("slow")
    assert os.listdir(str(tmp_path)) == ["out"]


def in_two_steps(monkeypatch: Any) -> None:
    """Takes from the system what exchanges two directories in one."""
    monkeypatch.setattr(publish, "exchange", lambda one, other: False)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_a_second_rename_that_fails_restores_the_old(
    error: BaseException, tmp_path: Path, monkeypatch: Any
) -> None:
    """Between the two renames the old directory is not lost."""
    out = tmp_path / "out"
    write(str(out), "old")
    real = os.rename

    def rename(source: str, target: str) -> None:
        if ".tmp-" in source:
            raise error
        real(source, target)

    in_two_steps(monkeypatch)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises((DestinationError, KeyboardInterrupt)):
        with atomic_directory(str(out), overwrite=True) as folder:
            write(folder, "new")
    assert read(str(out)) == model("old")
    assert os.listdir(str(tmp_path)) == ["out"]


def test_overwriting_in_two_steps(tmp_path: Path, monkeypatch: Any) -> None:
    """Where two directories cannot be exchanged, two renames do it."""
    in_two_steps(monkeypatch)
    out = str(tmp_path / "out")
    for text in ("one", "two"):
        with atomic_directory(out, overwrite=True) as folder:
            write(folder, text)
        assert read(out) == model(text)
    assert os.listdir(str(tmp_path)) == ["out"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs renameat2")
def test_the_destination_is_never_renamed_away(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """On Linux old and new change places in one step."""
    out = str(tmp_path / "out")
    write(out, "old")
    monkeypatch.delattr(os, "rename")
    with atomic_directory(out, overwrite=True) as folder:
        write(folder, "new")
    assert read(out) == model("new")
    assert os.listdir(str(tmp_path)) == ["out"]


@pytest.mark.tf2
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_remote_move_that_fails_is_undone(
    overwrite: bool, remote: str, monkeypatch: Any
) -> None:
    """What was moved goes back, and the old directory, too."""
    tf = pytest.importorskip("tensorflow")
    out = files.join(remote, "out")
    if overwrite:
        write(out, "old")
    real = tf.io.gfile.rename

    def rename(source: str, target: str) -> None:
        if ".tmp-" in source and "saved_model.pb" in source:
            raise tf.errors.UnavailableError(None, None, "no network")
        real(source, target)

    monkeypatch.setattr(tf.io.gfile, "rename", rename)
    with pytest.raises(DestinationError, match="no network"):
        with atomic_directory(out, overwrite=overwrite) as folder:
            write(folder, "new")
    assert files.list_dir(remote) == (["out"] if overwrite else [])
    if overwrite:
        assert read(out) == model("old")


def test_the_marker_file_is_moved_last(remote: str) -> None:
    """On remote file systems a model that is there half does not look like one."""
    write(remote, "new")
    assert publish._walk_remote(remote)[1] == [
        "variables/variables.index",
        "fingerprint.pb",
        "saved_model.pb",
    ]


def test_written_files_reach_the_disk_and_linked_ones_are_left(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """fsync is for what was written, not for hundreds of megabytes that were linked."""
    weights = tmp_path / "weights"
    weights.write_text("weights")
    synced: List[Any] = []

    def fsync(handle: int) -> None:
        facts = os.fstat(handle)
        synced.append((facts.st_dev, facts.st_ino))

    monkeypatch.setattr(os, "fsync", fsync)
    out = tmp_path / "out"
    with atomic_directory(str(out)) as folder:
        write(folder, "new")
        os.link(str(weights), os.path.join(folder, "weights"))
        os.symlink("nowhere", os.path.join(folder, "link"))
    expected = [out / name for name in MODEL]
    expected += [out, out / "variables", out / "assets", tmp_path]
    ids = [(p.stat().st_dev, p.stat().st_ino) for p in expected]
    assert sorted(synced) == sorted(ids)


def run(script: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts another Python that has this one's path."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
    )


_RACER = """
import os, sys, time
from hub_compat._io.publish import atomic_directory
from hub_compat.errors import DestinationError
out, name, start, overwrite = sys.argv[1:]
won = 0
while time.time() < float(start):
    pass
for i in range(30):
    try:
        with atomic_directory(out + str(i), overwrite=bool(overwrite)) as folder:
            for part in "abcd":
                with open(os.path.join(folder, part), "w") as file:
                    file.write(name)
        won += 1
    except DestinationError as error:
        assert "already exists" in str(error), error
print(won)
"""


@pytest.mark.parametrize("overwrite", ["", "yes"])
def test_processes_that_race_never_mix(overwrite: str, tmp_path: Path) -> None:
    """One wins each destination; with overwrite all succeed, and one is last."""
    start = str(time.time() + 1.0)
    racers = [
        run(_RACER, str(tmp_path / "out"), str(i), start, overwrite) for i in range(4)
    ]
    won = [int(racer.communicate()[0]) for racer in racers]
    assert sum(won) == (120 if overwrite else 30)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == sorted("out{}".format(i) for i in range(30))
    for name in names:
        parts = [path.read_text() for path in sorted((tmp_path / name).iterdir())]
        assert len(parts) == 4
        assert len(set(parts)) == 1


_VICTIM = """
import os, sys, time
from hub_compat._io.publish import atomic_directory
with atomic_directory(sys.argv[1], overwrite=True) as folder:
    open(os.path.join(folder, "half"), "w").close()
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_process_leaves_the_destination_as_it_was(tmp_path: Path) -> None:
    """And its hidden directory, which leftovers() finds."""
    out = tmp_path / "out"
    write(str(out), "old")
    victim = run(_VICTIM, str(out))
    assert victim.stdout is not None
    victim.stdout.readline()
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert read(str(out)) == model("old")
    found = leftovers(str(out))
    assert len(found) == 1
    assert os.listdir(found[0]) == ["half"]
    assert "tmp-{}-".format(victim.pid) in found[0]
    assert leftovers(str(tmp_path / "other")) == []
