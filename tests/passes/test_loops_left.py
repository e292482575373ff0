"""What of TF1's loops stays as it is, or is left out, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import runtimes
from tf1_loops import X, old_control_flow, write

import hub_compat as hub
from hub_compat import errors

pytestmark = pytest.mark.tensorflow


def by_hand(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """A frame without a LoopCond: it runs, but tf.while_loop makes none."""
    import tensorflow as tf

    raw = tf.raw_ops

    def enter(data: Any, is_constant: bool = True) -> Any:
        return raw.Enter(data=data, frame_name="odd", is_constant=is_constant)

    one, most = enter(v1.constant(1)), enter(v1.constant(3))
    kernel = enter(weights.read_value())
    turn, value = (enter(data, False) for data in (v1.constant(0), x))
    turn = raw.Merge(inputs=[turn, turn]).output
    value = raw.Merge(inputs=[value, value]).output
    for tensor, following in (
        (turn, lambda inside: inside + one),
        (value, lambda inside: v1.tanh(v1.matmul(inside, kernel))),
    ):
        leaves, stays = raw.Switch(data=tensor, pred=v1.less(turn, most))
        back = raw.NextIteration(data=following(stays))
        tensor.op._update_input(1, back)
    return v1.cond(v1.reduce_sum(x) > 0.0, lambda: x, lambda: -x) + raw.Exit(
        data=leaves
    )


def strings_of_random_numbers(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """An array of strings, made of the random numbers that decide about the rest."""
    import tensorflow as tf

    def row(value: Any) -> Any:
        drawn = v1.random_uniform([], 1.0, 1.0)
        found = v1.reshape(v1.matmul(value[None], weights), [3]) * drawn
        return found, v1.as_string(drawn)

    values, texts = v1.map_fn(row, x, dtype=(tf.float32, tf.string))
    return values + v1.cast(v1.strings.length(texts), tf.float32)[:, None]


def strings_written_and_read(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """A loop that reads of an array of strings what it has written."""
    import tensorflow as tf

    def body(i: Any, value: Any, texts: Any) -> Any:
        texts = texts.write(i, v1.as_string(i))
        size = v1.cast(v1.strings.length(texts.read(i)), tf.float32)
        return i + 1, v1.matmul(value, weights) * size, texts

    array = tf.TensorArray(tf.string, 0, dynamic_size=True, clear_after_read=False)
    return v1.while_loop(lambda i, *_: i < 2, body, [0, x, array])[1]


def table_in_function(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """A function that makes a table beside its loop."""
    import tensorflow as tf
    from tensorflow.python.framework import function

    @function.Defun(tf.float32, tf.float32)
    def looked_up(value: Any, kernel: Any) -> Any:
        table = tf.raw_ops.MutableHashTableV2(
            key_dtype=tf.int64, value_dtype=tf.float32, shared_name="of_a_function"
        )
        found = tf.raw_ops.LookupTableSizeV2(table_handle=table)
        start = value + v1.cast(found, tf.float32)
        return v1.while_loop(
            lambda i, _: i < 2, lambda i, v: (i + 1, v1.matmul(v, kernel)), [0, start]
        )[1]

    value = v1.cond(v1.reduce_sum(x) > 0.0, lambda: x, lambda: x * 2.0)
    return v1.reshape(looked_up(value, weights), [2, 3])


@pytest.mark.parametrize(
    "program, reason",
    [
        (by_hand, "0 conditions"),
        (strings_of_random_numbers, "its results need different inputs"),
        (strings_written_and_read, "writes and reads"),
    ],
    ids=lambda value: getattr(value, "__name__", "of"),
)
def test_what_is_not_understood(
    program: Callable[..., Any], reason: str, tmp_path: Path
) -> None:
    """It runs forward as it is; its gradient is our error with the node and reason."""
    import tensorflow as tf

    known = write(program, tmp_path / "model")
    report = hub.convert(tmp_path / "model", tmp_path / "out")
    assert any("forward only" in warning for warning in report.warnings)
    with runtimes.Runtime(lambda: hub.load(tmp_path / "out")) as run:
        x = tf.constant(X)
        (weights,) = [v for v in run.loaded.variables if "weights" in v.name]

        def loss() -> Any:
            return tf.reduce_sum(run.loaded.signatures["go"](x=x)["y"])

        with pytest.raises(LookupError, match="hub_compat: node.*" + reason):
            run.gradients(loss, [x, weights])
        found = run.run(run.loaded.signatures["go"](x=x)["y"])
        np.testing.assert_allclose(found, known["runs"][0], rtol=1e-5)


def test_function_that_makes_a_table_beside_its_loop(tmp_path: Path) -> None:
    """The table becomes one of the model, and the loop trains."""
    import tensorflow as tf

    known = write(table_in_function, tmp_path / "model")
    report = hub.convert(tmp_path / "model", tmp_path / "out")
    assert (report.warnings, report.tables) == ((), 1)
    with runtimes.Runtime(lambda: hub.load(tmp_path / "out")) as run:
        x = tf.constant(X)
        (weights,) = [v for v in run.loaded.variables if "weights" in v.name]

        def loss() -> Any:
            return tf.reduce_sum(run.loaded.signatures["go"](x=x)["y"])

        (gradient,) = run.gradients(loss, [x])
        found = run.run(run.loaded.signatures["go"](x=x)["y"])
        np.testing.assert_allclose(found, known["runs"][0], rtol=1e-5)
        kernel = run.run(weights.read_value())
        scale = 1.0 if np.sum(X) > 0.0 else 2.0
        wanted = np.ones((2, 3)) @ (kernel @ kernel).T * scale
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5)


def test_signature_inside_of_a_loop(tmp_path: Path) -> None:
    """It is left out, and says why; so does the loss that is there; the rest loads."""
    import tensorflow as tf

    v1 = tf.compat.v1
    path = tmp_path / "model"
    with old_control_flow(), tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        weights = v1.get_variable("weights", initializer=[1.0, 2.0, 3.0])
        inside = []

        def body(i: Any, value: Any) -> Any:
            inside.append(value * 2.0)
            loss = v1.reduce_sum(weights * weights)
            v1.add_to_collection(v1.GraphKeys.REGULARIZATION_LOSSES, loss)
            return i + 1, value * weights

        y = v1.while_loop(lambda i, _: i < 2, body, [0, x])[1]
        session.run(v1.global_variables_initializer())
        signatures = {
            name: v1.saved_model.predict_signature_def({"x": x}, {"y": tensor})
            for name, tensor in (("serving_default", y), ("inside", inside[0]))
        }
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    report = hub.convert(path, tmp_path / "out")
    assert any("1 of 1 regularization losses" in each for each in report.warnings)
    assert any("'inside' is skipped" in each for each in report.warnings)
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        found = run.run(run.loaded(tf.constant(X)))
        np.testing.assert_allclose(found, X * [1.0, 4.0, 9.0], rtol=1e-6)
        with pytest.raises(errors.SignatureError, match="inside of a tf.while_loop"):
            run.loaded.signatures["inside"]
