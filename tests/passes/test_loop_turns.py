"""How many turns a loop may have: what TensorFlow's gradient code and XLA ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from tf1_loops import old_control_flow

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

X = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, 1.5]], np.float32)


def limited(v1: Any, x: Any, kernel: Any) -> Any:
    """A number of turns that is written down."""
    return v1.while_loop(
        lambda v: v1.reduce_sum(v) < 1e9,
        lambda v: v1.tanh(v1.matmul(v, kernel)),
        [x],
        maximum_iterations=3,
    )


def of_a_shape(v1: Any, x: Any, kernel: Any) -> Any:
    """As many turns as there are rows, counted by hand."""
    rows = v1.shape(x)[0]
    return v1.while_loop(
        lambda i, v: i < rows,
        lambda i, v: (i + 1, v1.tanh(v1.matmul(v, kernel))),
        [0, x],
    )[1]


def recurrent(v1: Any, x: Any, kernel: Any) -> Any:
    """What tf.nn.dynamic_rnn makes of a cell."""
    return v1.scan(lambda v, row: v1.tanh(v1.matmul(v, kernel) + row), x, x[:1])


def unknown(v1: Any, x: Any, kernel: Any) -> Any:
    """What counts does not count turns."""
    return v1.while_loop(
        lambda i, v: i < 8,
        lambda i, v: (i + 3, v1.tanh(v1.matmul(v, kernel))),
        [0, x],
    )[1]


def write(program: Callable[..., Any], path: Path) -> Any:
    """Writes a program; returns the gradient of its variable."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with old_control_flow(), tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, X.shape, name="x")
        kernel = v1.get_variable("kernel", initializer=np.eye(3, dtype="f") * 0.5)
        y = v1.identity(program(v1, x, kernel), name="y")
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], {"go": signature})
        builder.save()
        return session.run(v1.gradients(y, [kernel])[0], {x: X})


def limit_of(path: Path) -> Any:
    """The op that gives the only While its limit, and the value of a constant."""
    import tensorflow as tf

    from hub_compat._tf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(
        (path / "saved_model.pb").read_bytes()
    )
    for function in saved.meta_graphs[0].graph_def.library.function:
        nodes = {node.name: node for node in function.node_def}
        for node in nodes.values():
            if node.op == "While":
                limit = nodes[node.input[1].split(":")[0]]
                if limit.op != "Const":
                    return limit.op
                return int(tf.make_ndarray(limit.attr["value"].tensor))
    return None


@pytest.mark.parametrize(
    "program, limit",
    [(limited, 3), (of_a_shape, "StridedSlice"), (recurrent, 2), (unknown, -1)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_most_turns(program: Callable[..., Any], limit: Any, tmp_path: Path) -> None:
    """It is an input of the While, and XLA compiles the gradient where it is known."""
    import tensorflow as tf

    wanted = write(program, tmp_path / "model")
    hub.convert(tmp_path / "model", tmp_path / "out")
    assert limit_of(tmp_path / "out") == limit
    if tf.__version__.startswith("1.") or limit == -1:
        # TF 1.15 compiles nothing there, and of the last XLA asks to know more.
        return
    loaded = hub.load(tmp_path / "out")

    def gradient(x: Any) -> Any:
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(loaded.signatures["go"](x=x)["y"])
        return tape.gradient(y, loaded.trainable_variables[0])

    # In the gradient of scan, XLA asks for the shape of a row, which no list states.
    for compiled in (False,) if program is recurrent else (False, True):
        found = tf.function(gradient, jit_compile=compiled)(tf.constant(X))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    go = loaded.signatures["go"]
    forward = tf.function(lambda x: go(x=x)["y"], jit_compile=True)
    found = go(x=tf.constant(X))["y"]
    np.testing.assert_allclose(forward(tf.constant(X)), found, rtol=1e-5, atol=1e-6)
