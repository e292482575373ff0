"""Converted modules in tensorflow_hub's unmodified layer, and its models here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import expected
import numpy as np
import pytest
from environment import keras_generations, tensorflow_version
from keras_kit import IMAGES, Keras

import hub_compat as hub

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"

pytestmark = pytest.mark.tensorflow

PROGRAM = PROGRAMS / "finetune_with_tensorflow_hub.py"


def fine_tuned(mode: str, directory: str, size: int) -> Any:
    """What the program found when it fine-tuned a module of images."""
    pytest.importorskip("tensorflow_hub")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), mode, directory, str(size)],
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=""),
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout[done.stdout.index("{") :])


@pytest.mark.parametrize(
    "mode",
    [
        "plain",
        # TF 1.15 distributes a Keras model in eager execution only.
        pytest.param("mirrored", marks=pytest.mark.eager),
    ],
)
def test_converted_module_is_fine_tuned(mode: str, tmp_path: Path) -> None:
    """Weights and batch-norm statistics change, losses are there, the loss falls."""
    recorded = expected.load_expected("image_bn")
    hub.convert(recorded.path, tmp_path / "out")
    (images,) = recorded.cases[0].inputs.values()
    found = fine_tuned(mode, str(tmp_path / "out"), images.shape[1])
    assert found["loss"][-1] < found["loss"][0]
    train = recorded.variants[("train",)]
    trainable = {name.split(":")[0] for name in found["trainable"]}
    assert trainable == set(train.trainable)
    moving = [name for name in found["changed"] if "moving_" in name]
    assert moving
    assert all(found["changed"][name] for name in moving)
    assert any(found["changed"][name] for name in found["trainable"])
    wanted = next(c for c in recorded.cases if c.tags == ("train",))
    assert found["losses"] == len(wanted.regularization_losses)
    if mode == "mirrored":
        assert "Mirrored" in found["variable"]


@pytest.mark.eager
def test_exported_model_is_fine_tuned(tmp_path: Path) -> None:
    """What export_reusable() writes trains there, with its losses and statistics."""
    keras = Keras(keras_generations()[-1]).keras
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, kernel_regularizer="l2")(inputs)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    hub.export_reusable(model, tmp_path / "out")
    found = fine_tuned("plain", str(tmp_path / "out"), 8)
    assert found["loss"][-1] < found["loss"][0]
    assert found["losses"] == 1
    assert len(found["trainable"]) == 4
    assert len(found["changed"]) >= 6
    assert all(found["changed"].values())


SAVE = PROGRAMS / "save_with_tensorflow_hub.py"


def test_models_of_its_layer_load(tmp_path: Path) -> None:
    """Every file of a model with tensorflow_hub's layer loads, with its weights."""
    pytest.importorskip("tensorflow_hub")
    source = expected.load_expected("image_bn").path
    hub.convert(source, tmp_path / "converted")
    done = subprocess.run(
        [sys.executable, str(SAVE), str(source), str(tmp_path / "converted")]
        + [str(tmp_path)],
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=""),
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    saved: Any = json.loads(done.stdout[done.stdout.index('{"') :])
    assert len(saved) in (2, 4, 6)
    for generation in keras_generations():
        k = Keras(generation)
        for file, wanted in saved.items():
            _, ending = os.path.splitext(file)
            if generation == 3 and ending != ".h5":
                # Keras 3 itself reads no other file of a functional model of Keras 2.
                continue
            k.keras.backend.clear_session()
            # Keras 3 does not read Keras 2's way to name a loss.
            model = k.load(file, compile=generation == 2)
            found = model.predict(IMAGES, verbose=0)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=file)
            if not ending and tensorflow_version().startswith("1."):
                # Keras of TF 1.15 makes a layer of what is in the directory.
                continue
            layer = model.get_layer("module")
            assert type(layer) is k.Layer
            # Saved again, the weights are where they were.
            again = str(tmp_path / "again") + (ending or ".h5")
            model.save(again)
            k.keras.backend.clear_session()
            model = k.load(again, compile=generation == 2)
            found = model.predict(IMAGES, verbose=0)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=file)
            # And what tensorflow_hub does not train, trains.
            model.get_layer("module").trainable = True
            assert len(model.trainable_weights) == 8 + 2
