"""Variables that loops and conditionals read within called functions train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smoke

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


def saved(path: Path) -> str:
    """A SavedModel whose function calls one with a loop and a conditional."""
    import tensorflow as tf

    module = tf.Module()
    module.factor = tf.Variable(2.0, name="factor")
    module.rate = tf.Variable(3.0, name="rate")
    module.scale = tf.Variable(5.0, name="scale")

    @tf.function(autograph=False)
    def inner(x: Any) -> Any:
        _, y = tf.while_loop(
            lambda i, _: i < 2, lambda i, y: (i + 1, y * module.factor), [0, x]
        )
        return tf.cond(
            tf.reduce_sum(x) > 0.0, lambda: y * module.rate, lambda: y * module.scale
        )

    def call(x: Any) -> Any:
        return inner(x)

    module.__call__ = tf.function(call, [tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(path), signatures=module.__call__)
    return str(path)


@pytest.mark.smoke(smoke.TF1)
def test_no_gradient_gets_lost(tmp_path: Path) -> None:
    """By the root's call and by a signature, each variable has its gradient."""
    import tensorflow as tf

    loaded = hub.load(saved(tmp_path / "module"))
    x = tf.constant([1.0, 2.0])
    variables = [loaded.factor, loaded.rate, loaded.scale]
    signature = loaded.signatures["serving_default"]
    for call in (loaded, lambda x: tf.nest.flatten(signature(x=x))[0]):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(call(x))
        found = tape.gradient(total, variables + [x])
        assert total.numpy() == 36.0
        wanted = [36.0, 12.0, 0.0, [12.0, 12.0]]
        for one, other in zip(found, wanted):
            # A branch that is not taken may say nothing.
            given = np.zeros([]) if one is None and other == 0.0 else one
            np.testing.assert_allclose(given, other)
