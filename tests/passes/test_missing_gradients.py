"""Functions of which one output has no gradient train by the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runtimes
from keras_kit import Keras

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

ROWS = np.array([[1.0, -2.0, 0.5], [0.5, 3.0, -1.0]], np.float32)
WEIGHT = np.array([[0.5, 1.0], [-1.0, 2.0], [0.25, -0.5]], np.float32)
# Of the sum of the logits, of the weight.
GRADIENT = np.repeat(ROWS.sum(0)[:, None], 2, 1)


def heads(tf: Any, hidden: Any, kind: str) -> Any:
    """A tensor that has no gradient."""
    if kind == "prevented":
        return tf.raw_ops.PreventGradient(input=hidden, message="for a reason")
    boxes = tf.stack([hidden, hidden], axis=1)[:, :, None, :]
    boxes = tf.concat([boxes, boxes], -1)
    scores = tf.reduce_sum(boxes, -1)
    if kind == "loop":
        return tf.compat.v1.while_loop(
            lambda i, _: i < 2,
            lambda i, sums: (
                i + 1,
                sums + tf.image.combined_non_max_suppression(boxes, scores, 2, 2)[1],
            ),
            [0, hidden],
        )[1]
    if kind == "branch":
        return tf.compat.v1.cond(
            tf.reduce_sum(hidden) > 0,
            lambda: tf.image.combined_non_max_suppression(boxes, scores, 2, 2)[1],
            lambda: tf.reduce_sum(scores, -1),
        )
    return tf.image.combined_non_max_suppression(boxes, scores, 2, 2)[1]


KINDS = ["suppression", "prevented", "branch", "loop"]
REASON = {
    "suppression": "CombinedNonMaxSuppression",
    "loop": "CombinedNonMaxSuppression",
    "branch": "CombinedNonMaxSuppression",
    "prevented": "for a reason",
}


def save_tf1(path: Path, kind: str) -> str:
    """A TF1 SavedModel with two outputs, of which one has no gradient."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        weight = v1.get_variable("w", initializer=WEIGHT)
        hidden = tf.matmul(x, weight)
        outputs = {"boxes": heads(tf, hidden * 2.0, kind), "logits": hidden}
        outputs["rounded"] = tf.round(outputs["boxes"])
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), {"x": x}, outputs)
    return str(path)


def save_tf2(path: Path, kind: str) -> str:
    """A TF2 SavedModel of the kind, whose function calls another."""
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(WEIGHT, name="w")

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def inner(x: Any) -> Any:
        hidden = tf.matmul(x, module.weight)
        return heads(tf, hidden * 2.0, kind), hidden

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def call(x: Any) -> Any:
        boxes, hidden = inner(x)
        return {"boxes": boxes, "logits": hidden, "rounded": tf.round(boxes)}

    module.__call__ = call
    tf.saved_model.save(module, str(path), signatures=call)
    return str(path)


@pytest.fixture(params=["tf1", "tf2"])
def save(request: Any) -> Any:
    """How a module is written."""
    import tensorflow as tf

    if request.param == "tf2" and not tf.executing_eagerly():
        pytest.skip("written in eager execution")
    return {"tf1": save_tf1, "tf2": save_tf2}[request.param]


def calls(loaded: Any) -> Any:
    """The ways to call a module."""
    signature = loaded.signatures["serving_default"]
    yield lambda x: loaded(x) if not hasattr(loaded, "as_dict") else loaded.as_dict(x)
    yield lambda x: signature(x=x)
    whole = getattr(loaded, "as_dict", loaded)
    function = whole if hasattr(whole, "get_concrete_function") else whole.__call__
    yield lambda x: function.get_concrete_function(x)(x)
    trace = function.concrete_functions[0]
    # TensorFlow 1.15 cannot call a trace that was loaded.
    if getattr(trace, "function_type", None) is not None:
        rest = trace.structured_input_signature[0][1:]
        yield lambda x: trace(x, *rest)


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_with_a_gradient_trains(kind: str, save: Any, tmp_path: Path) -> None:
    """The gradient is that of the output, and the others have none, by an error."""
    import tensorflow as tf

    path = save(tmp_path / "module", kind)
    with runtimes.Runtime(lambda: hub.load(path)) as runtime:
        x = tf.constant(ROWS)
        (weight,) = runtime.loaded.variables
        for call in calls(runtime.loaded):
            (found,) = runtime.gradients(
                lambda call=call: tf.reduce_sum(call(x)["logits"]), [weight]
            )
            np.testing.assert_allclose(found, GRADIENT, rtol=1e-6)
            for sources in ([weight], [x]):
                with pytest.raises(LookupError, match=REASON[kind]):
                    runtime.differentiate(
                        lambda call=call: tf.reduce_sum(call(x)["boxes"]), sources
                    )
            # Nothing goes through a rounded value.
            (found,) = runtime.gradients(
                lambda call=call: tf.reduce_sum(call(x)["rounded"]), [weight]
            )
            assert found is None or not np.any(found)
            values = runtime.run(call(x))
            np.testing.assert_array_equal(values["rounded"], np.round(values["boxes"]))


@pytest.mark.eager
@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eagerly"])
def test_a_layer_trains_by_such_an_output(
    eagerly: bool, save: Any, k: Keras, tmp_path: Path
) -> None:
    """A trainable layer is fitted by the output that has a gradient."""
    path = save(tmp_path / "module", "suppression")
    how = {"signature": "serving_default", "output_key": "logits", "trainable": True}
    layer = k.Layer(path, **how)
    inputs = k.keras.Input(shape=(3,))
    model = k.keras.Model(inputs, layer(inputs))
    model.compile(k.keras.optimizers.SGD(0.5), "mse", run_eagerly=eagerly)
    wanted = ROWS.dot(WEIGHT) - 1.0
    model.fit(ROWS, wanted, batch_size=2, epochs=1, verbose=0)
    (weight,) = layer.get_weights()
    # Of the mean of squared errors, each of which is 1.
    np.testing.assert_allclose(weight, WEIGHT - 0.5 * GRADIENT / 2, rtol=1e-5)


def test_pruned_outputs_train(tmp_path: Path) -> None:
    """A part of a graph with two results trains by the one that has a gradient."""
    import tensorflow as tf

    path = save_tf1(tmp_path / "module", "suppression")
    with runtimes.Runtime(lambda: hub.load(path)) as runtime:
        signature = runtime.loaded.signatures["serving_default"]
        outputs = [
            t.name
            for t in runtime.loaded.graph.get_operations()
            if t.type in ("MatMul", "CombinedNonMaxSuppression")
            for t in t.outputs[:2]
        ]
        part = signature.prune("x:0", sorted(outputs, reverse=True))
        assert len(outputs) == 3
        x = tf.constant(ROWS)
        (weight,) = runtime.loaded.variables
        place = sorted(outputs, reverse=True).index("MatMul:0")
        (found,) = runtime.gradients(lambda: tf.reduce_sum(part(x)[place]), [weight])
        np.testing.assert_allclose(found, GRADIENT, rtol=1e-6)
        with pytest.raises(LookupError, match="CombinedNonMaxSuppression"):
            runtime.differentiate(
                lambda: tf.add_n([tf.reduce_sum(t) for t in part(x)]), [weight]
            )


@pytest.mark.eager
def test_a_call_that_has_no_gradient_at_all(tmp_path: Path) -> None:
    """Alone it raises TensorFlow's error; within another, that function trains."""
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(WEIGHT, name="w")
    spec = tf.TensorSpec([None, 3], tf.float32)

    @tf.function(input_signature=[spec])
    def alone(x: Any) -> Any:
        return heads(tf, tf.matmul(x, module.weight), "prevented")

    module.alone = alone
    module.both = tf.function(
        lambda x: [alone(x), tf.matmul(x, module.weight)], input_signature=[spec]
    )
    tf.saved_model.save(module, str(tmp_path / "module"))
    loaded = hub.load(tmp_path / "module")
    x = tf.constant(ROWS)
    with runtimes.Runtime(lambda: loaded) as runtime:
        sources = [loaded.weight]
        for call in (loaded.alone, lambda x: loaded.both(x)[0]):
            with pytest.raises(LookupError, match="for a reason"):
                runtime.differentiate(lambda call=call: call(x), sources)
        (found,) = runtime.gradients(lambda: loaded.both(x)[1], sources)
        np.testing.assert_allclose(found, GRADIENT, rtol=1e-6)


@pytest.mark.tf2
def test_saved_by_tensorflow(tmp_path: Path) -> None:
    """What TensorFlow saves holds no gradient of ours: it still is an error there."""
    import tensorflow as tf

    for kind in KINDS:
        loaded = hub.load(save_tf2(tmp_path / kind, kind))
        tf.saved_model.save(loaded, str(tmp_path / kind / "saved"))
        plain = tf.saved_model.load(str(tmp_path / kind / "saved"))
        again = hub.load(tmp_path / kind / "saved")
        x = tf.constant(ROWS)
        for key, value in loaded(x).items():
            np.testing.assert_array_equal(plain(x)[key], value)
        with tf.GradientTape() as tape, pytest.raises(LookupError):
            tape.gradient(plain(x)["boxes"], plain.weight)
        with tf.GradientTape() as tape:
            logits = again(x)["logits"]
        found = tape.gradient(logits, again.weight)
        np.testing.assert_allclose(found, GRADIENT, rtol=1e-6)
