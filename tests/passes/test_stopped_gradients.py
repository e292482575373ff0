"""What no gradient goes to or through: some loops, flags, what is rounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runtimes
from tf1_loops import old_control_flow

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

X = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)


def program(v1: Any, x: Any, weights: Any) -> Any:
    """Boxes by a loop that keeps some of its turns, as detectors have it."""

    def body(i: Any, kept: Any) -> Any:
        inner = v1.while_loop(
            lambda j, _: j < 2,
            lambda j, value: (j + 1, v1.matmul(value, weights)),
            [0, x],
            back_prop=False,
        )[1]
        return i + 1, v1.concat([kept, inner], 0)

    shapes = [x.shape[:0], type(x.shape)([None, 2])]
    stopped = v1.while_loop(
        lambda i, _: i < 2, body, [0, x[:0]], shape_invariants=shapes, back_prop=False
    )[1]
    # A gradient goes through the second loop, but not into the first.
    through = v1.while_loop(
        lambda i, _: i < 3, lambda i, value: (i + 1, value * weights[0]), [0, x]
    )[1]
    return v1.reduce_sum(stopped) * v1.reduce_sum(through)


def test_gradients_are_those_of_a_session(tmp_path: Path) -> None:
    """What goes through such a loop has no gradient; what goes by it has its own."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        control_flow_v2 = v1.control_flow_v2_enabled()
        v1.disable_control_flow_v2()
        try:
            x = v1.placeholder(tf.float32, [None, 2], name="x")
            weights = v1.get_variable("w", initializer=[[0.5, 1.0], [-1.0, 2.0]])
            y = program(v1, x, weights)
            wanted = tf.gradients(y, [x, weights])
        finally:
            if control_flow_v2:
                v1.enable_control_flow_v2()
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, {"y": y})
        wanted = session.run([y] + [tf.convert_to_tensor(g) for g in wanted], {x: X})
    with runtimes.Runtime(lambda: hub.load(tmp_path / "m")) as runtime:
        given = tf.constant(X)
        found = runtime.run(runtime.loaded(given))
        np.testing.assert_allclose(found, wanted[0], rtol=1e-5)
        gradients = runtime.gradients(
            lambda: runtime.loaded(given), [given] + list(runtime.loaded.variables)
        )
        for one, other in zip(gradients, wanted[1:]):
            np.testing.assert_allclose(one, other, rtol=1e-5)


def test_beside_a_signature_that_has_gradients(tmp_path: Path) -> None:
    """A loop without gradient stays one in the copy that a forward signature runs."""
    import tensorflow as tf

    v1 = tf.compat.v1

    def outer(i: Any, value: Any) -> Any:
        inner = v1.while_loop(
            lambda j, _: j < 2,
            lambda j, w: (j + 1, w * w),
            [0, value],
            back_prop=False,
        )[1]
        return i + 1, value * 2.0 + inner

    given = np.float32([0.5, 2.0])
    with old_control_flow(), tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [2], name="x")
        y = v1.while_loop(lambda i, _: i < 2, outer, [0, x])[1]
        gradient = tf.gradients(y, x)[0]
        define = v1.saved_model.predict_signature_def
        builder = v1.saved_model.Builder(str(tmp_path / "m"))
        signatures = {
            "serving_default": define({"x": x}, {"y": y}),
            "both": define({"x": x}, {"y": y, "gradient": gradient}),
        }
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
        wanted = session.run([y, gradient], {x: given})
    with runtimes.Runtime(lambda: hub.load(tmp_path / "m")) as runtime:
        x = tf.constant(given)
        found = runtime.run(runtime.loaded(x))
        (gradient,) = runtime.gradients(lambda: runtime.loaded(x), [x])
    np.testing.assert_allclose(found, wanted[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted[1], rtol=1e-5)


def test_layer_of_what_has_no_gradient(tmp_path: Path) -> None:
    """A trainable layer whose outputs have no gradient at all can be called."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        weights = v1.get_variable("w", initializer=[[0.5, 1.0], [-1.0, 2.0]])
        y = tf.round(tf.matmul(x, weights))
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, {"y": y})
    path = str(tmp_path / "m")
    with runtimes.Runtime(lambda: hub.KerasLayer(path, trainable=True)) as runtime:
        found = runtime.run(runtime.loaded(tf.constant(X)))
        np.testing.assert_array_equal(found, np.round(X.dot([[0.5, 1.0], [-1.0, 2.0]])))


def test_flag_of_several_conditionals(tmp_path: Path) -> None:
    """is_training as an input of each batch norm has no gradient, and the rest has."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        control_flow_v2 = v1.control_flow_v2_enabled()
        v1.disable_control_flow_v2()
        try:
            x = v1.placeholder(tf.float32, [None, 2], name="x")
            flag = v1.placeholder_with_default(False, [], name="is_training")
            y = v1.get_variable("w", initializer=[0.5, -1.0]) * x
            for _ in range(2):
                y = v1.cond(
                    flag,
                    lambda y=y: y - v1.reduce_mean(y, 0),
                    lambda y=y: v1.where(v1.equal(y > 0, flag), y * 2.0, y),
                )
        finally:
            if control_flow_v2:
                v1.enable_control_flow_v2()
        session.run(v1.global_variables_initializer())
        inputs = {"x": x, "is_training": flag}
        v1.saved_model.simple_save(session, str(tmp_path / "m"), inputs, {"y": y})
    with runtimes.Runtime(lambda: hub.load(tmp_path / "m")) as runtime:
        given = {"x": tf.constant(X), "is_training": tf.constant(False)}
        (variable,) = runtime.loaded.variables
        (gradient,) = runtime.gradients(
            lambda: tf.reduce_sum(runtime.loaded(given)), [variable]
        )
        np.testing.assert_allclose(gradient, [1.5, 10.0], rtol=1e-6)
