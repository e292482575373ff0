"""Each generation of Keras that is installed, for tests of the layer."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import expected
import numpy as np

IMAGES = np.random.RandomState(0).rand(8, 8, 8, 3).astype(np.float32)
TARGETS = np.ones((8, 1), np.float32)


class Keras:
    """One generation of Keras, and the layer for it."""

    def __init__(self, generation: int) -> None:
        from hub_compat._tf import keras as _tf_keras

        self.generation = generation
        module = importlib.import_module("hub_compat.keras{}".format(generation))
        self.Layer = module.KerasLayer
        self.keras = _tf_keras.keras2() if generation == 2 else _tf_keras.keras3()

    def clear(self) -> None:
        """Lets go of what Keras knows of earlier models."""
        # Keras 3 would have all of Python's garbage collected, twice for each test.
        clear = self.keras.backend.clear_session
        # Keras 3.0 has no such argument.
        known = "free_memory" in inspect.signature(clear).parameters
        clear(**(dict(free_memory=False) if known else {}))

    def load(self, file: str, *args: Any, **keywords: Any) -> Any:
        """A model of a file that is trusted, as one that has a module must be."""
        load_model = self.keras.models.load_model
        if "safe_mode" in inspect.signature(load_model).parameters:
            keywords.setdefault("safe_mode", False)
        return load_model(file, *args, **keywords)

    def model(self, layer: Any) -> Any:
        """A compiled model of images, a layer, and a dense one."""
        keras = self.keras
        inputs = keras.Input(shape=(8, 8, 3))
        model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
        model.compile("sgd", keras.losses.MeanSquaredError())
        return model


def path(name: str) -> str:
    """The directory of a recorded module."""
    return str(expected.load_expected(name).path)
