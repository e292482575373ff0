"""convert(): what it writes, what it leaves alone, how it fails."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Tuple

import expected
import make_digests
import pytest
import runtimes
from make_digests import digests

import hub_compat as hub
from hub_compat import errors, provenance

pytestmark = pytest.mark.tensorflow


def module(name: str) -> Path:
    """The directory of a recorded module."""
    return expected.load_expected(name).path


@pytest.fixture(scope="module")
def once(tmp_path_factory: Any) -> Callable[[str], Tuple[Path, Any]]:
    """Directory and report of each module's conversion, made once."""
    folder = Path(tmp_path_factory.mktemp("once"))

    @functools.lru_cache(maxsize=None)
    def converted(name: str) -> Tuple[Path, Any]:
        return folder / name, hub.convert(module(name), folder / name)

    return converted


@pytest.mark.modeless
@pytest.mark.parametrize("name", expected.module_names())
def test_converting_twice_gives_identical_bytes(
    name: str, once: Any, tmp_path: Path
) -> None:
    """A conversion depends on nothing but its source."""
    directory, _ = once(name)
    hub.convert(str(module(name)), str(tmp_path / "two"))
    assert digests(directory) == digests(tmp_path / "two")


@pytest.mark.modeless
@pytest.mark.parametrize("name", expected.module_names())
def test_result_has_the_bytes_that_are_written_down(name: str, once: Any) -> None:
    """Every file is the same in each TensorFlow: ``make digests`` writes them down."""
    directory, _ = once(name)
    written = json.loads(make_digests.PATH.read_text(encoding="utf-8"))
    assert digests(directory) == written[name]


@pytest.mark.parametrize("name", expected.module_names())
def test_every_checkpoint_key_is_accounted_for(name: str, once: Any) -> None:
    """Each key of the source is a variable's, or kept and reported."""
    import tensorflow as tf

    recorded = expected.load_expected(name)
    directory, report = once(name)
    prefix = str(recorded.path / "variables" / "variables")
    if not os.path.exists(prefix + ".index"):
        assert report.variables == 0
        return
    keys = set(tf.train.load_checkpoint(prefix).get_variable_to_shape_map())
    facts = provenance.read(str(directory))
    assert facts is not None
    used = {key for _, key, _ in facts.variables}
    assert used | set(report.unused_keys) == keys
    assert not used & set(report.unused_keys)
    with runtimes.Runtime(lambda: hub.load(directory)) as runtime:
        assert len(runtime.loaded.variables) == report.variables


@pytest.mark.parametrize("name", ["image_bn", "text_embedding"])
def test_weights_are_linked_and_not_read(name: str, tmp_path: Path) -> None:
    """The shards of the result are the files of the source."""
    source = tmp_path / "source"
    shutil.copytree(str(module(name)), str(source))
    report = hub.convert(source, tmp_path / "out")
    assert report.weight_bytes_read == 0
    assert report.bytes_copied == 0
    (shard,) = (source / "variables").glob("*.data-*")
    inodes = {p.stat().st_ino for p in (tmp_path / "out" / "variables").iterdir()}
    assert shard.stat().st_ino in inodes
    assert report.bytes_linked == shard.stat().st_size


def test_link_copy_copies(tmp_path: Path) -> None:
    """link="copy" shares no file with the source."""
    report = hub.convert(module("image_bn"), tmp_path / "out", link="copy")
    assert report.bytes_linked == 0
    assert report.bytes_copied > 0
    assert all(p.stat().st_nlink == 1 for p in (tmp_path / "out").rglob("*.data-*"))


def test_link_must_be_known(tmp_path: Path) -> None:
    """A typo in link= names what is allowed, and writes nothing."""
    with pytest.raises(errors.DestinationError, match="'auto', 'hard', 'copy'"):
        hub.convert(module("image_bn"), tmp_path / "out", link="soft")
    assert not (tmp_path / "out").exists()


def test_destination_that_exists_is_not_touched(tmp_path: Path) -> None:
    """Without overwrite an existing directory stays as it is."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("data")
    with pytest.raises(errors.DestinationError, match="overwrite"):
        hub.convert(module("image_bn"), out)
    assert digests(out) == {"precious": hashlib.sha256(b"data").hexdigest()}
    hub.convert(module("image_bn"), out, overwrite=True)
    assert not (out / "precious").exists()
    assert (out / "saved_model.pb").exists()


@pytest.mark.parametrize("where", ["itself", "inside", "around"])
def test_destination_must_be_apart_from_the_source(where: str, tmp_path: Path) -> None:
    """Overwriting the source, or hiding the result in it, is refused."""
    source = tmp_path / "parent" / "module"
    shutil.copytree(str(module("image_bn")), str(source))
    before = digests(tmp_path)
    out = {"itself": source, "inside": source / "x", "around": source.parent}[where]
    with pytest.raises(errors.DestinationError, match="apart from the source"):
        hub.convert(source, out, overwrite=True)
    assert digests(tmp_path) == before


def damaged(tmp_path: Path, what: str) -> Path:
    """A copy of a module with one kind of damage."""
    source = tmp_path / "source"
    shutil.copytree(str(module("text_embedding")), str(source))
    proto = source / "saved_model.pb"
    index = source / "variables" / "variables.index"
    (shard,) = (source / "variables").glob("*.data-*")
    asset = next(iter((source / "assets").iterdir()))
    if what == "half a proto":
        proto.write_bytes(proto.read_bytes()[: proto.stat().st_size // 2])
    elif what == "empty proto":
        proto.write_bytes(b"")
    elif what == "no proto":
        proto.unlink()
    elif what == "half an index":
        index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    elif what == "no index":
        index.unlink()
    elif what == "half a shard":
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    elif what == "no shard":
        shard.unlink()
    elif what == "no asset":
        asset.unlink()
    elif what == "bad marker":
        (source / "tfhub_module.pb").write_bytes(b"\x08\x07")
    elif what == "required feature":
        (source / "tfhub_module.pb").write_bytes(b"\x08\x03\x12\x05magic")
    else:
        raise AssertionError(what)
    return source


@pytest.mark.modeless
@pytest.mark.parametrize(
    "what",
    [
        "half a proto",
        "empty proto",
        "no proto",
        "half an index",
        "no index",
        "half a shard",
        "no shard",
        "no asset",
        "bad marker",
        "required feature",
    ],
)
def test_damaged_source_fails_clearly_and_leaves_nothing(
    what: str, tmp_path: Path
) -> None:
    """Whatever is missing or cut short is one of our errors, and no directory."""
    source = damaged(tmp_path, what)
    with pytest.raises(errors.FormatError) as caught:
        hub.convert(source, tmp_path / "out")
    assert "Received: " in str(caught.value) or str(source) in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_nothing_there(tmp_path: Path) -> None:
    """A path without anything is said to be so."""
    with pytest.raises(errors.HandleError, match="does not exist"):
        hub.convert(tmp_path / "absent", tmp_path / "out")


def test_tf2_saved_model_needs_no_conversion(tmp_path: Path) -> None:
    """Converting what is converted says what to do instead."""
    hub.convert(module("no_variables"), tmp_path / "one")
    with pytest.raises(errors.FormatError, match="Load it"):
        hub.convert(tmp_path / "one", tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_moved_result_still_finds_its_assets(tmp_path: Path) -> None:
    """Assets are found relative to wherever the directory is."""
    hub.convert(module("bert_like"), tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    with runtimes.Runtime(lambda: hub.load(tmp_path / "moved")) as runtime:
        info = runtime.run(runtime.loaded.tokenization_info())
    path = info["vocab_file"]
    path = path if isinstance(path, bytes) else path.item()
    assert Path(path.decode()).parent == tmp_path / "moved" / "assets"
    assert Path(path.decode()).exists()


@pytest.mark.modeless
def test_two_processes_may_convert_to_one_destination(tmp_path: Path) -> None:
    """One wins, the other says that the destination exists; nothing is mixed."""
    code = (
        "import sys, hub_compat as hub\n"
        "from hub_compat import errors\n"
        "try:\n"
        "    hub.convert(sys.argv[1], sys.argv[2]); print('won')\n"
        "except errors.DestinationError: print('lost')\n"
    )
    runs = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                code,
                str(module("image_bn")),
                str(tmp_path / "out"),
            ],
            stdout=subprocess.PIPE,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
            universal_newlines=True,
        )
        for _ in range(2)
    ]
    said = sorted(run.communicate()[0].strip() for run in runs)
    assert said == ["lost", "won"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    hub.convert(module("image_bn"), tmp_path / "again")
    assert digests(tmp_path / "out") == digests(tmp_path / "again")
