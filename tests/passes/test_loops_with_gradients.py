"""Loops of TF1 whose gradients are in the graph as well, as of a saliency map."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from tf1_loops import old_control_flow

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def _weights(v1: Any) -> Any:
    return v1.get_variable(
        "w", initializer=np.linspace(0.2, 1.0, 9, dtype=np.float32).reshape(3, 3)
    )


def _while(v1: Any, x: Any) -> Any:
    w = _weights(v1)
    return v1.while_loop(
        lambda i, _: i < 4, lambda i, a: (i + 1, v1.tanh(v1.matmul(a, w))), [0, x]
    )[1]


def _nested(v1: Any, x: Any) -> Any:
    w = _weights(v1)

    def body(i: Any, a: Any) -> Any:
        b = v1.while_loop(
            lambda j, _: j < 2, lambda j, b: (j + 1, v1.sin(v1.matmul(b, w))), [0, a]
        )[1]
        return i + 1, v1.cond(v1.reduce_sum(b) > 0, lambda: b * 2, lambda: b - 1)

    return v1.while_loop(lambda i, _: i < 3, body, [0, x])[1]


def _scan(v1: Any, x: Any) -> Any:
    w = _weights(v1)
    return v1.scan(lambda a, b: v1.tanh(a * w[0] + b), x)


def _map(v1: Any, x: Any) -> Any:
    w = _weights(v1)
    return v1.map_fn(lambda row: v1.tanh(row * w[1]), x) * 2


BUILDS: Dict[str, Callable[[Any, Any], Any]] = {
    "while": _while,
    "nested": _nested,
    "scan": _scan,
    "map": _map,
}


@pytest.mark.parametrize("name", BUILDS)
def test_signature_without_gradients_trains(name: str, tmp_path: Path) -> None:
    """Its gradient is the graph's; the signature with gradients runs."""
    import tensorflow as tf

    v1 = tf.compat.v1
    path = tmp_path / "module"
    with old_control_flow(), v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        y = BUILDS[name](v1, x)
        saliency = v1.gradients(v1.reduce_sum(y), [x])[0]
        gradients = v1.gradients(v1.reduce_sum(y**2), [x] + v1.trainable_variables())
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        make = v1.saved_model.predict_signature_def
        signatures = {
            "serving_default": make({"x": x}, {"y": y}),
            "saliency": make({"x": x}, {"y": y, "s": saliency}),
        }
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
        gradients = [v1.convert_to_tensor(gradient) for gradient in gradients]
        wanted = session.run([y, saliency] + gradients, {x: X})
    loaded = hub.load(path)
    both = loaded.signatures["saliency"](x=tf.constant(X))
    with tf.GradientTape() as tape:
        given = tf.constant(X)
        tape.watch(given)
        y = loaded(given)
        loss = tf.reduce_sum(y**2)
    found = tape.gradient(loss, [given] + list(loaded.trainable_variables))
    found = [both["y"], both["s"]] + [tf.convert_to_tensor(each) for each in found]
    for value, other in zip([wanted[0]] + wanted, [y] + found):
        np.testing.assert_allclose(other.numpy(), value, rtol=1e-4, atol=1e-5)
