"""load(), KerasLayer, fit(), save(): what is loaded anywhere is what was trained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import expected
import numpy as np
import pytest
import tuned
from environment import executes_eagerly
from keras_kit import Keras

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

_RNG = np.random.RandomState(0)
# By module, of either format: a batch.
BATCHES = {
    "image_bn": _RNG.rand(4, 8, 8, 3).astype(np.float32),
    "tf1_moving_averages": _RNG.rand(4, 3).astype(np.float32),
    "text_embedding": np.array(["the cat", "he was", "or", "in"]),
    "tf221/keras2_images": _RNG.rand(4, 8, 8, 3).astype(np.float32),
}


def values_of(loaded: Any, session: Any) -> Dict[str, np.ndarray]:
    """The values of an object's variables, by name."""
    variables = list(loaded.variables)
    if session is None:
        values = [v.numpy() for v in variables]
    else:
        values = session.run(variables)
    return {v.name.split(":")[0]: value for v, value in zip(variables, values)}


def train_and_save(k: Keras, module: str, folder: Path) -> None:
    """As TensorFlow Hub's guide has it; FOLDER/MODULE and FOLDER/MODULE.npz."""
    import tensorflow as tf

    x = BATCHES[module]
    (folder / module).parent.mkdir(parents=True, exist_ok=True)
    loaded = hub.load(expected.HERE / module / "module")
    layer = k.Layer(loaded, trainable=True)
    text = x.dtype.kind == "U"
    inputs = k.keras.Input(shape=x.shape[1:], dtype="string" if text else "float32")
    model = k.keras.Model(inputs, layer(inputs))
    optimizer, session = k.keras.optimizers.SGD(0.1), None
    if not executes_eagerly():
        # Its own, in graphs, refuses variables that the loss does not reach.
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.1)
        session = tf.compat.v1.keras.backend.get_session()
        session.run(tf.compat.v1.tables_initializer())
    model.compile(optimizer, k.keras.losses.MeanSquaredError())
    given = tf.constant(x) if text and executes_eagerly() else x
    targets = np.ones([4] + list(model.output.shape)[1:], np.float32)
    before = values_of(loaded, session)
    model.fit(given, targets, epochs=2, batch_size=4, verbose=0)
    hub.save(loaded, folder / module, session=session)
    values = values_of(loaded, session)
    outputs = model.predict(given)
    np.savez(str(folder / module), inputs=x, outputs=outputs, **values)
    changed = {name for name in before if np.any(before[name] != values[name])}
    assert changed & {v.name.split(":")[0] for v in loaded.trainable_variables}
    assert changed >= {name for name in before if "moving_" in name}


def test_loaded_anywhere(k: Keras, tmp_path: Path) -> None:
    """In a new process, TensorFlow alone gives the trained weights and outputs."""
    for module in BATCHES:
        train_and_save(k, module, tmp_path)
    done = subprocess.run(
        [sys.executable, tuned.__file__, str(tmp_path)] + list(BATCHES),
        capture_output=True,
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=""),
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    # And again as a layer, which trains on.
    for module in BATCHES:
        layer = k.Layer(str(tmp_path / module), trainable=True)
        assert layer.trainable_weights
