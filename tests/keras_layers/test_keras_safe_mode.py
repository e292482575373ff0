"""Keras' safe mode: a file is not to run a module that its reader never saw."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_kit import Keras

from hub_compat import errors
from hub_compat._keras import core

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


ROWS = np.ones((2, 3), np.float32)


@pytest.fixture(autouse=True)
def _has_safe_mode(request: Any) -> None:
    load_model = request.getfixturevalue("k").keras.models.load_model
    if "safe_mode" not in inspect.signature(load_model).parameters:
        pytest.skip("This Keras has no safe mode")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: Any) -> str:
    """A module with a variable."""
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(tf.ones([3, 2]))
    module.__call__ = tf.function(
        lambda x: x @ module.weight, [tf.TensorSpec([None, 3], tf.float32)]
    )
    found = str(tmp_path_factory.mktemp("module"))
    tf.saved_model.save(module, found)
    return found


def made(k: Keras, directory: str, embed: bool, wrapped: bool) -> Any:
    """A model of a layer, or of one in another."""
    layer = k.Layer(directory, embed=embed)
    inputs = k.keras.Input(shape=(2, 3) if wrapped else (3,))
    layer = k.keras.layers.TimeDistributed(layer) if wrapped else layer
    return k.keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
@pytest.mark.parametrize("embed", [False, True], ids=["path", "embedded"])
def test_a_file_is_refused(
    embed: bool,
    wrapped: bool,
    directory: str,
    k: Keras,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    """No module is loaded, from the file or from a path, unless the caller says so."""
    model = made(k, directory, embed, wrapped)
    rows = np.stack([ROWS, ROWS], 1) if wrapped else ROWS
    wanted = model(rows)
    for ending in [".keras"] + [".h5"] * (k.generation == 3):
        file = str(tmp_path / ("model" + ending))
        model.save(file)
        with monkeypatch.context() as patch:
            patch.setattr(core, "load", None)
            with pytest.raises(errors.SafeModeError, match="safe_mode=False") as caught:
                k.keras.models.load_model(file)
        assert isinstance(caught.value, ValueError)
        assert ("embedded in the file" in str(caught.value)) is embed
        again = k.keras.models.load_model(file, safe_mode=False)
        np.testing.assert_array_equal(again(rows), wanted)


def test_trust_for_the_whole_program(directory: str, k: Keras, tmp_path: Path) -> None:
    """Keras' own switch turns it off."""
    made(k, directory, True, False).save(str(tmp_path / "model.keras"))
    if k.generation == 3:
        scope = k.keras.src.saving.serialization_lib.SafeModeScope
        enable = k.keras.config.enable_unsafe_deserialization
    else:
        from importlib import import_module

        package = k.keras.layers.Layer.__module__.split(".")[0]
        scope = import_module(package + ".src.saving.serialization_lib").SafeModeScope
        enable = k.keras.__internal__.enable_unsafe_deserialization
    # It restores what was before.
    with scope(None):
        enable()
        k.keras.models.load_model(str(tmp_path / "model.keras"))
    with pytest.raises(errors.SafeModeError):
        k.keras.models.load_model(str(tmp_path / "model.keras"))


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_copies_are_no_files(wrapped: bool, directory: str, k: Keras) -> None:
    """What a program copies in memory, it has loaded already."""
    model = made(k, directory, False, wrapped)
    for again in (
        k.keras.models.clone_model(model),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        type(model).from_config(model.get_config()),
    ):
        assert again.count_params() == model.count_params()
    # And a configuration that went through a file is as good as its reader.
    config = json.loads(json.dumps(k.Layer(directory).get_config()))
    assert type(config["handle"]) is str
    assert len(k.Layer.from_config(config).weights) == 1
    if k.generation == 2:
        # It cannot be told so.
        k.keras.models.model_from_json(model.to_json())
    else:
        with pytest.raises(errors.SafeModeError):
            k.keras.models.model_from_json(model.to_json())
