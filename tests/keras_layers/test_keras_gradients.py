"""Layers of modules whose gradients TensorFlow cannot build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_kit import Keras

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]

ROWS = np.ones((4, 3), np.float32)


def saved(tmp_path: Path, kind: str) -> str:
    """A module with an op that has no gradient."""
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(tf.ones([3, 4]), name="w")

    def call(x: Any) -> Any:
        hidden = tf.matmul(x, module.weight)
        if kind == "prevented":
            return tf.raw_ops.PreventGradient(input=hidden, message="none")
        boxes = tf.stack([hidden, hidden], axis=1)[:, :, None, :]
        scores = tf.reduce_sum(boxes, -1)
        return tf.image.combined_non_max_suppression(boxes, scores, 2, 2)[1]

    module.__call__ = tf.function(call, [tf.TensorSpec([None, 3], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "module"))
    return str(tmp_path / "module")


@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eagerly"])
@pytest.mark.parametrize("kind", ["suppression", "prevented"])
def test_a_frozen_layer_is_fitted_through(
    kind: str, eagerly: bool, k: Keras, tmp_path: Path
) -> None:
    """Nobody asks for its gradient where only what follows trains."""
    layer = k.Layer(saved(tmp_path, kind))
    inputs = k.keras.Input(shape=(3,))
    outputs = k.keras.layers.Dense(1, name="last")(layer(inputs))
    model = k.keras.Model(inputs, outputs)
    model.compile("sgd", "mse", run_eagerly=eagerly)
    before = [w.copy() for w in model.get_layer("last").get_weights()]
    model.fit(ROWS, np.ones((4, 1), np.float32), verbose=0)
    after = model.get_layer("last").get_weights()
    assert any(np.any(a != b) for a, b in zip(before, after))


def test_a_gradient_that_is_asked_for_is_an_error(k: Keras, tmp_path: Path) -> None:
    """Of inputs, or of variables that a tape watches, there is none to be had."""
    import tensorflow as tf

    layer = k.Layer(saved(tmp_path, "suppression"))
    rows = tf.constant(ROWS)
    for watched in (rows, layer.resolved_object.weight):
        with pytest.raises(LookupError, match="CombinedNonMaxSuppression"):
            asked(layer, rows, watched)


def asked(layer: Any, rows: Any, watched: Any) -> Any:
    """The gradient of a layer's outputs."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(watched)
        outputs = layer(rows)
    return tape.gradient(outputs, watched)
