"""Checkpoints of TF2 SavedModels: what is missing or damaged is found before a load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable, List

import expected
import pytest

import hub_compat as hub
from hub_compat import errors

pytestmark = [pytest.mark.tensorflow, pytest.mark.modeless]

TF2_MODELS = (
    "keras2_functional",
    "keras2_old_optimizer",
    "keras2_text",
    "keras3_export",
    "keras3_transformer",
    "module_structures",
)


@pytest.fixture
def model(tmp_path: Path, testdata: Path) -> Path:
    """A copy of a model with a few variables."""
    copy = tmp_path / "model"
    shutil.copytree(str(testdata / "tf221" / "keras2_functional" / "module"), str(copy))
    return copy


def check(path: Path) -> Any:
    """The index of a model's checkpoint, checked."""
    from hub_compat._parsing.full_proto import read_saved_model
    from hub_compat.converters.checkpoint.objects import check_object_checkpoint

    return check_object_checkpoint(str(path), read_saved_model(hub.detect(path)))


def only(path: Path, pattern: str) -> Path:
    """The one file that a pattern fits."""
    (found,) = (path / "variables").glob(pattern)
    return found


def no_folder(path: Path) -> None:
    """People commit saved_model.pb alone."""
    shutil.rmtree(str(path / "variables"))


def no_shard(path: Path) -> None:
    """Only the index was fetched."""
    only(path, "*.data-*").unlink()


def short_shard(path: Path) -> None:
    """A download was cut off."""
    shard = only(path, "*.data-*")
    shard.write_bytes(shard.read_bytes()[:-9])


def torn_index(path: Path) -> None:
    """A few bytes in the middle of the index."""
    index = only(path, "*.index")
    data = bytearray(index.read_bytes())
    half = len(data) // 2
    data[half : half + 8] = b"\xff" * 8
    index.write_bytes(bytes(data))


def torn_objects(path: Path) -> None:
    """The checkpoint's own graph of objects, which is in a shard."""
    entry = check(path).entries["_CHECKPOINTABLE_OBJECT_GRAPH"]
    shard = only(path, "*.data-*")
    data = bytearray(shard.read_bytes())
    data[entry.offset + entry.size // 2] ^= 0xFF
    shard.write_bytes(bytes(data))


def of_another(path: Path) -> None:
    """Somebody mixed two exports."""
    no_folder(path)
    source = expected.HERE / "tf221" / "keras3_transformer" / "module" / "variables"
    shutil.copytree(str(source), str(path / "variables"))


def of_another_size(path: Path) -> None:
    """The graph was exported again, the weights were not."""
    from hub_compat._tf import saved_model_pb2

    file = path / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for node in proto.meta_graphs[0].object_graph_def.nodes:
        if node.WhichOneof("kind") == "variable" and node.variable.shape.dim:
            node.variable.shape.dim[0].size += 1
            break
    file.write_bytes(proto.SerializeToString())


DAMAGES: List[Callable[[Path], None]] = [
    no_folder,
    no_shard,
    short_shard,
    torn_index,
    torn_objects,
    of_another,
    of_another_size,
]


@pytest.mark.parametrize("name", TF2_MODELS)
def test_whole_model_passes(name: str, testdata: Path) -> None:
    """Of tables, optimizers and lists, too."""
    assert check(testdata / "tf221" / name / "module").entries


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda found: str(found.__name__))
def test_damaged_model_is_not_converted(
    damage: Callable[[Path], None], model: Path, tmp_path: Path
) -> None:
    """Neither with verification nor without it; nothing is left behind."""
    damage(model)
    for verify in (False, True):
        with pytest.raises(errors.CorruptModuleError, match="(?i)checkpoint|variables"):
            hub.convert(model, tmp_path / "out", target="tf1.15", verify=verify)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
