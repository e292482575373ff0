"""Saves Keras models with unmodified tensorflow_hub layers; prints their predictions.

A program of its own: nothing of hub_compat is in the process::

    python save_with_tensorflow_hub.py TF1_MODULE TF2_MODULE DIRECTORY
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
from finetune_with_tensorflow_hub import keras, tensorflow_hub, tf


def build(directory: str, trainable: bool) -> tuple:
    """A model of images."""
    layer = tensorflow_hub.KerasLayer(directory, trainable=trainable, name="module")
    inputs = keras.Input(shape=(8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(1, name="head")(layer(inputs)))
    model.compile("sgd", "mse")
    return layer, model


def main(tf1: str, tf2: str, folder: str) -> None:
    """Saves one model with frozen weights and one that was trained."""
    images = np.random.RandomState(0).rand(8, 8, 8, 3).astype(np.float32)
    found = {}
    for name, directory in (("tf1", tf1), ("tf2", tf2)):
        trainable = name == "tf2" and tf.executing_eagerly()
        layer, model = build(directory, trainable)
        model.fit(images, np.ones((8, 1), np.float32), verbose=0)
        # Not those of the module, and each another one.
        values = layer.get_weights()
        layer.set_weights([v * 1.5 + 0.01 * i for i, v in enumerate(values)])
        endings = [".h5"]
        if tf.executing_eagerly():
            endings += [""] if tf.__version__.startswith("1.") else ["", ".keras"]
        for ending in endings:
            file = os.path.join(folder, name + ending)
            keywords = {} if ending else {"save_format": "tf"}
            model.save(file, **keywords)
            found[file] = model.predict(images, verbose=0).tolist()
    assert not any(name.split(".")[0] == "hub_compat" for name in sys.modules)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
