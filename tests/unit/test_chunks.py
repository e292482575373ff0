"""saved_model.cpb, which TensorFlow's own loaders do not read, loads as any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import expected
import numpy as np
import pytest
from chunked import split_model
from damaging import in_graph, values_of

import hub_compat as hub
from hub_compat import errors
from hub_compat._parsing.full_proto import read_saved_model
from hub_compat._tf import saved_model_pb2

# What is loaded is loaded in a graph.
pytestmark = [pytest.mark.tensorflow, pytest.mark.modeless]

MODELS = ["image_bn/module", "tf1_simple_save/module", "tf221/keras2_functional/module"]


def chunk(name: str, folder: Path, compression: int = 0) -> bytes:
    """Copies a model and cuts its file into parts; returns the file as it was."""
    shutil.copytree(str(expected.HERE / name), str(folder))
    binary = folder / "saved_model.pb"
    data = binary.read_bytes()
    binary.unlink()
    (folder / "saved_model.cpb").write_bytes(split_model(data, compression))
    return data


@pytest.mark.parametrize("compression", [0, ord("s")])
@pytest.mark.parametrize("name", [*MODELS, "tf221/keras3_transformer/module"])
def test_the_parts_make_the_model(name: str, compression: int, tmp_path: Path) -> None:
    """Functions, constants and graphs that were cut out are back in their places."""
    data = chunk(name, tmp_path / "model", compression)
    found = read_saved_model(hub.detect(tmp_path / "model"))
    assert found == saved_model_pb2.SavedModel.FromString(data)


@pytest.mark.parametrize("name", MODELS)
def test_chunked_models_load_and_convert(name: str, tmp_path: Path) -> None:
    """They have the values of the same model in one piece."""
    whole, chunked = expected.HERE / name, tmp_path / "chunked"
    chunk(name, chunked)
    target = "tf1.15" if hub.detect(chunked).format.is_tf2 else None
    hub.convert(chunked, tmp_path / "lowered", target=target)
    # Into one file, which TensorFlow reads where it is not older.
    hub.convert(chunked, tmp_path / "one", verify=target is None)
    right = in_graph(lambda: values_of(hub.load(whole)))
    for path in (chunked, tmp_path / "lowered", tmp_path / "one"):
        for key, value in in_graph(lambda path=path: values_of(hub.load(path))).items():
            if key in right:
                np.testing.assert_array_equal(value, right[key], err_msg=key)


def test_what_cannot_be_unpacked_says_which_package_would(tmp_path: Path) -> None:
    """A file that Brotli packed is refused with advice, or as damaged by its reader."""
    chunk("image_bn/module", tmp_path / "model")
    path = tmp_path / "model" / "saved_model.cpb"
    data = bytearray(path.read_bytes())
    data[64 + 40] = ord("b")
    path.write_bytes(bytes(data))
    with pytest.raises(errors.FormatError, match="brotli"):
        hub.load(tmp_path / "model")
