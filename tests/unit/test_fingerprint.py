"""The fingerprint of a module: what it covers, and what it does not read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fakes import SHARD, make_source, upload

from hub_compat._io.fingerprint import fingerprint
from hub_compat._io.links import is_shard
from hub_compat.errors import HandleError

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What stands for a module."""
    return make_source(tmp_path / "source")


def change_index(source: Path) -> None:
    """Retrains: as many bytes of weights, other checksums."""
    (source / SHARD).write_text("WEIGHTS")
    (source / "variables" / "variables.index").write_text("checksum of WEIGHTS")


def change_weights_size(source: Path) -> None:
    """Cuts the weights short."""
    (source / SHARD).write_text("w")


def change_graph(source: Path) -> None:
    """Another graph of the same size."""
    (source / "saved_model.pb").write_text("GRAPH")


def change_asset(source: Path) -> None:
    """Another vocabulary of the same size."""
    (source / "assets" / "vocabulary.txt").write_text("one\nTWO\n")


def add_asset(source: Path) -> None:
    """One file more."""
    (source / "assets" / "more.txt").write_text("")


@pytest.mark.parametrize(
    "change", [change_index, change_weights_size, change_graph, change_asset, add_asset]
)
def test_a_change_is_seen(source: Path, change: Any) -> None:
    """A module that was changed in any way has another fingerprint."""
    before = fingerprint(str(source))
    facts = os.stat(str(source / "saved_model.pb"))
    change(source)
    times = (facts.st_atime_ns, facts.st_mtime_ns)
    os.utime(str(source / "saved_model.pb"), ns=times)
    assert fingerprint(str(source)) != before


def test_what_is_no_part_of_the_module_does_not_count(source: Path) -> None:
    """Neither other files, nor times, nor an empty directory."""
    before = fingerprint(str(source))
    (source / "README.md").write_text("about")
    (source / "logs").mkdir()
    (source / "logs" / "events").write_text("log")
    (source / "assets.extra").mkdir()
    for path in source.rglob("*"):
        os.utime(str(path), (1, 1))
    assert fingerprint(str(source)) == before
    assert len(before) == 64


def test_links_are_followed(source: Path, tmp_path: Path) -> None:
    """Also to folders, as mounted volumes have them, but not in circles."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in source.iterdir():
        (linked / path.name).symlink_to(path)
    before = fingerprint(str(linked))
    assert before == fingerprint(str(source))
    change_index(source)
    changed = fingerprint(str(linked))
    assert changed != before
    (source / "assets" / "circle").symlink_to(source / "assets")
    (source / "assets" / "nowhere").symlink_to(source / "not there")
    assert fingerprint(str(linked)) == changed


def test_shards_are_told_from_the_rest() -> None:
    """Only what an index has checksums of is not read."""
    assert is_shard("variables/variables.data-00000-of-00001")
    assert is_shard("variables/a/b.data-00002-of-00003")
    for name in (
        "variables/variables.index",
        "assets/variables.data-00000-of-00001",
        "variables/variables.data-0-of-1",
        "variables/variables.data-00000-of-00001.txt",
    ):
        assert not is_shard(name)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """It is a HandleError."""
    with pytest.raises(HandleError, match="not there"):
        fingerprint(str(tmp_path / "not there"))


def test_a_remote_module(source: Path, remote: str) -> None:
    """It has the fingerprint of its local copy."""
    upload(source, remote)
    assert fingerprint(remote) == fingerprint(str(source))
