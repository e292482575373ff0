"""Arrays of TF1 that are filled in another order, compiled by XLA."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from tf1_loops import old_control_flow

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]

X = np.arange(30, dtype=np.float32).reshape(2, 5, 3) / 9


def _backwards(v1: Any, x: Any) -> Any:
    size = v1.shape(x)[1]
    turned = v1.range(size - 1, -1, -1)
    rows = v1.transpose(x, [1, 0, 2])
    array = v1.TensorArray("float32", size).scatter(turned, rows)
    return v1.while_loop(
        lambda i, _: i < size,
        lambda i, total: (i + 1, total * 2 + array.read(i)),
        [0, v1.zeros_like(x[:, 0])],
    )[1]


def _copied(v1: Any, x: Any) -> Any:
    size = v1.shape(x)[1]
    array = v1.TensorArray("float32", size).unstack(v1.transpose(x, [1, 0, 2]))

    def turn(i: Any, other: Any) -> Any:
        return i + 1, other.write(size - 1 - i, array.read(i) * 2)

    copy = v1.TensorArray("float32", size)
    _, copy = v1.while_loop(lambda i, _: i < size, turn, [0, copy])
    return copy.gather(v1.range(size - 1, -1, -1))


@pytest.mark.parametrize("build", [_backwards, _copied])
def test_arrays_of_unknown_length_compile(
    build: Callable[[Any, Any], Any], tmp_path: Path
) -> None:
    """Values and gradients are those of a session; XLA, where it is there, agrees."""
    import tensorflow as tf

    v1 = tf.compat.v1
    path = str(tmp_path / "module")
    with old_control_flow(), v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, None, 3], "x")
        y = build(v1, x)
        v1.saved_model.simple_save(session, path, {"x": x}, {"y": y})
        gradient = v1.gradients(v1.reduce_sum(y**2), x)[0]
        wanted, wanted_gradient = session.run([y, gradient], {x: X})
    loaded = hub.load(path)
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = loaded(x)
        loss = tf.reduce_sum(y**2)
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-5)
    np.testing.assert_allclose(
        tape.gradient(loss, x).numpy(), wanted_gradient, rtol=1e-5
    )
    if not tf.__version__.startswith("1."):
        # TF 1.15 has no XLA in it.
        compiled = tf.function(lambda x: loaded(x), jit_compile=True)
        np.testing.assert_allclose(compiled(x).numpy(), wanted, rtol=1e-5)
