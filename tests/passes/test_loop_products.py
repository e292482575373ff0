"""Products of concatenated matrices in loops: a sum of products, of equal value.

Truth is a session of the running TensorFlow with the graph as it was, and its
tf.gradients.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
import runtimes
from tf1_loops import old_control_flow

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

X = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, 1.5]], np.float32)
STATE = 4
KERNEL = np.random.RandomState(5).normal(size=(3 + STATE, STATE))


def step(v1: Any, x: Any, state: Any, kernel: Any) -> Any:
    """What a recurrent cell of TF1 begins with."""
    return v1.tanh(v1.matmul(v1.concat([x, state], 1), kernel))


def loop(v1: Any, body: Callable[[Any], Any], state: Any, turns: int = 3) -> Any:
    """A loop of one value."""
    return v1.while_loop(
        lambda i, _: i < turns, lambda i, value: (i + 1, body(value)), [0, state]
    )[1]


def plain(v1: Any, x: Any, state: Any, kernel: Any) -> Any:
    """A cell."""
    return loop(v1, lambda value: step(v1, x, value, kernel), state)


def last_axis(v1: Any, x: Any, state: Any, kernel: Any) -> Any:
    """The axis counted from behind, and the matrix transposed."""
    turned = v1.transpose(kernel)

    def body(value: Any) -> Any:
        both = v1.concat([x, value], -1)
        return v1.tanh(v1.matmul(both, turned, transpose_b=True))

    return loop(v1, body, state)


def three(v1: Any, x: Any, state: Any, kernel: Any) -> Any:
    """Three matrices, one of them twice."""
    wider = v1.concat([kernel, kernel[:3] * 0.5], 0)

    def body(value: Any) -> Any:
        return v1.tanh(v1.matmul(v1.concat([x, value, x], 1), wider))

    return loop(v1, body, state)


def nested(v1: Any, x: Any, state: Any, kernel: Any) -> Any:
    """A cell in a branch, in a loop in a loop, with a matrix that two cells share."""
    # TF 1.15 has no gradient of a variable that is read in there.
    kernel = v1.identity(kernel)

    def turn(value: Any) -> Any:
        return v1.cond(
            v1.reduce_sum(value) > 99.0,
            lambda: value,
            lambda: step(v1, x, value, kernel),
        )

    def body(value: Any) -> Any:
        return step(v1, x, loop(v1, turn, value, 2), kernel)

    return loop(v1, body, state)


def computed(v1: Any, x: Any, state: Any, kernel: Any) -> Any:
    """A matrix that each turn computes."""
    return loop(
        v1,
        lambda value: step(v1, x, value, kernel * v1.reduce_mean(value)),
        state,
    )


def rows(v1: Any, x: Any, state: Any, kernel: Any) -> Any:
    """Matrices one below the other."""
    square = kernel[:STATE]

    def body(value: Any) -> Any:
        return v1.tanh(v1.matmul(v1.concat([value, value], 0), square))[:2]

    return loop(v1, body, state)


def write(program: Callable[..., Any], path: Path, dtype: Any) -> Dict[str, Any]:
    """Writes a program; returns its value, and its gradients."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with old_control_flow(), tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(dtype, [None, 3], name="x")
        kernel = v1.get_variable(
            "kernel", initializer=KERNEL.astype(dtype), use_resource=True
        )
        state = v1.zeros([v1.shape(x)[0], STATE], dtype) + v1.reduce_mean(x)
        y = v1.identity(program(v1, x, state, kernel), name="y")
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], {"go": signature})
        builder.save()
        gradients = v1.gradients(y, [x, kernel])
        names = ["y", "x", "kernel"]
        return dict(zip(names, session.run([y] + gradients, {x: X})))


def products(path: Path) -> int:
    """How many there are in a converted model."""
    from hub_compat._tf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(
        (path / "saved_model.pb").read_bytes()
    )
    functions = saved.meta_graphs[0].graph_def.library.function
    return sum(node.op == "MatMul" for each in functions for node in each.node_def)


@pytest.mark.parametrize(
    "program, dtype, count",
    [
        (plain, "float32", 2),
        (plain, "float64", 2),
        (last_axis, "float32", 2),
        (three, "float32", 3),
        (nested, "float32", 4),
        # These stay as they are.
        (plain, "float16", 1),
        (computed, "float32", 1),
        (rows, "float32", 1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_product(
    program: Callable[..., Any], dtype: str, count: int, tmp_path: Path
) -> None:
    """The value and the gradients are those of the graph as it was."""
    import tensorflow as tf

    known = write(program, tmp_path / "model", dtype)
    hub.convert(tmp_path / "model", tmp_path / "out")
    assert products(tmp_path / "out") == count
    with runtimes.Runtime(lambda: hub.load(tmp_path / "out")) as run:
        (kernel,) = run.loaded.trainable_variables
        x = tf.constant(X.astype(dtype))

        def value() -> Any:
            return run.loaded.signatures["go"](x=x)["y"]

        found = run.gradients(lambda: tf.reduce_sum(value()), [x, kernel])
        tolerance = 1e-2 if dtype == "float16" else 1e-6
        np.testing.assert_allclose(
            run.run(value()), known["y"], rtol=tolerance, atol=tolerance
        )
        for one, name in zip(found, ("x", "kernel")):
            np.testing.assert_allclose(
                one, known[name], rtol=10 * tolerance, atol=10 * tolerance
            )
