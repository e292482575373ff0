"""Modules that are made of links: what is followed, and what is published of it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import expected
import pytest
import runtimes
from fakes import SHARD, make_source

import hub_compat as hub
from hub_compat import errors, saver
from hub_compat._io import links
from hub_compat._io.fingerprint import fingerprint
from hub_compat.converters.checkpoint import shards

tensorflow = pytest.mark.tensorflow

KINDS = ("tf1", "tf2")
TARGETS = {"tf1": None, "tf2": "tf1.15"}


def module(kind: str, folder: Path) -> Path:
    """A module with an asset that may be changed."""
    source = expected.HERE / "text_embedding" / "module"
    if kind == "tf2":
        hub.convert(source, folder, link="copy")
    else:
        shutil.copytree(str(source), str(folder))
    return folder


def move(path: Path, elsewhere: Path) -> None:
    """Puts a file or folder elsewhere, and a link in its place."""
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(str(path), str(elsewhere))
    path.symlink_to(elsewhere)


def files(folder: Path) -> Any:
    """Names and contents of all files, links resolved."""
    return {
        name: (folder / name).read_bytes()
        for name in links.model_files(str(folder), links.ALL)
    }


@pytest.mark.parametrize("depth", [40])
def test_a_fan_of_links(tmp_path: Path, depth: int) -> None:
    """However many ways lead to a folder, it is walked once."""
    source = make_source(tmp_path / "source")
    for number in range(depth):
        folder = source / "assets" / "d{}".format(number)
        folder.mkdir()
        (folder / "words.txt").write_text("words")
        for name in "ab":
            (folder / name).symlink_to("../d{}".format(number + 1))
    started = time.perf_counter()
    fingerprint(str(source))
    names = links.model_files(str(source), links.INSIDE)
    assert time.perf_counter() - started < 5
    assert "assets/d0/a/words.txt" in names
    assert len(names) == 3 * depth + 3


def test_folders_elsewhere_are_not_hashed(tmp_path: Path) -> None:
    """Of a folder below the module's own that is a link out of it, where it leads."""
    source = make_source(tmp_path / "source")
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "big").write_text("big")
    before = fingerprint(str(source))
    (source / "assets" / "x").symlink_to(tmp_path / "library")
    linked = fingerprint(str(source))
    assert linked != before
    (tmp_path / "library" / "big").write_text("bigger")
    assert fingerprint(str(source)) == linked
    with pytest.raises(errors.FormatError, match="follow_links=True"):
        links.model_files(str(source), links.INSIDE)
    assert "assets/x/big" not in links.model_files(str(source), links.FILES)
    assert "assets/x/big" in links.model_files(str(source), links.ALL)


def test_what_is_no_part_of_a_model(tmp_path: Path) -> None:
    """A README, a log, a link to anything: a SavedModel is not made of those."""
    source = make_source(tmp_path / "source")
    (source / "README.md").write_text("about")
    (source / "logs").mkdir()
    (source / "logs" / "events").write_text("log")
    (source / "secret").symlink_to("/etc/passwd")
    (source / "debug").mkdir()
    (source / "debug" / "saved_model_debug_info.pb").write_text("")
    assert links.model_files(str(source), links.INSIDE) == [
        "assets/vocabulary.txt",
        "debug/saved_model_debug_info.pb",
        "saved_model.pb",
        "tfhub_module.pb",
        SHARD,
        "variables/variables.index",
    ]


@pytest.mark.parametrize("link", ["auto", "hard", "copy", "borrow"])
def test_shards_that_are_links(link: str, tmp_path: Path) -> None:
    """A file outside of the module does not become part of the result by a link."""
    source = make_source(tmp_path / "source")
    inside, outside = source / "variables" / "weights", tmp_path / "weights"
    for place, is_linked in ((inside, link != "copy"), (outside, link == "borrow")):
        move(source / SHARD, place)
        target = tmp_path / place.parent.name
        if link == "hard" and place == outside:
            with pytest.raises(errors.DestinationError, match="out of the module"):
                shards.bring(str(source / SHARD), str(target), str(source), link)
            continue
        found = shards.bring(str(source / SHARD), str(target), str(source), link)
        assert found is is_linked
        assert os.path.samefile(str(target), str(place)) is is_linked
        assert target.read_text() == "weights"
        assert target.is_symlink() is (link == "borrow" and place == outside)
        (source / SHARD).unlink()
        shutil.move(str(place), str(source / SHARD))


def test_a_shard_that_cannot_be_read(tmp_path: Path) -> None:
    """That is the module's fault, not the destination's."""
    (tmp_path / "shard").mkdir()
    with pytest.raises(errors.CorruptModuleError, match="cannot be read"):
        shards.bring(
            str(tmp_path / "shard"), str(tmp_path / "x"), str(tmp_path), "auto"
        )


@tensorflow
@pytest.mark.parametrize("kind", KINDS)
def test_a_single_asset_outside(kind: str, tmp_path: Path) -> None:
    """It is refused, and the message names the flag; with the flag it is taken."""
    source, target = module(kind, tmp_path / "source"), TARGETS[kind]
    (asset, *_) = sorted((source / "assets").iterdir())
    move(asset, tmp_path / "elsewhere" / "words.txt")
    with pytest.raises(errors.FormatError, match="follow_links=True"):
        hub.convert(source, tmp_path / "out", target=target)
    assert not (tmp_path / "out").exists()
    hub.convert(source, tmp_path / "out", target=target, follow_links=True)
    found = tmp_path / "out" / "assets" / asset.name
    assert found.read_bytes() == asset.read_bytes()
    assert not found.is_symlink()
    with runtimes.Runtime(lambda: hub.load(source)) as runtime:
        loaded = runtime.loaded
        runtime.read(loaded.variables)
        for follow in (False, True):
            if not follow:
                with pytest.raises(errors.FormatError, match="follow_links=True"):
                    hub.save(loaded, tmp_path / "saved", session=runtime.session)
                continue
            hub.save(
                loaded, tmp_path / "saved", session=runtime.session, follow_links=True
            )
    saved = tmp_path / "saved" / "assets" / asset.name
    assert saved.read_bytes() == asset.read_bytes()


@tensorflow
@pytest.mark.parametrize("kind", KINDS)
def test_folders_that_are_links(kind: str, tmp_path: Path) -> None:
    """assets/ and variables/ may lie in a blob store: nothing of them gets lost."""
    plain = module(kind, tmp_path / "plain")
    source = module(kind, tmp_path / "source")
    for folder in ("assets", "variables"):
        move(source / folder, tmp_path / "store" / folder)
    assert fingerprint(str(source)) == fingerprint(str(plain))
    for one in (plain, source):
        hub.convert(one, tmp_path / "out" / one.name, target=TARGETS[kind])
        with runtimes.Runtime(lambda one=one: hub.load(one)) as runtime:
            runtime.read(runtime.loaded.variables)
            out = tmp_path / "saved" / one.name
            hub.save(runtime.loaded, out, session=runtime.session)
    for kind in ("out", "saved"):
        found = files(tmp_path / kind / "source")
        assert sorted(found) == sorted(files(tmp_path / kind / "plain"))
        assert any(each.startswith("assets/") for each in found)
        assert "variables/variables.index" in found
        for each in (tmp_path / kind / "source").rglob("*"):
            assert not each.is_symlink()


def test_saving_names_its_flag() -> None:
    """save() has the argument that its error names."""
    assert "follow_links" in saver.save.__kwdefaults__
