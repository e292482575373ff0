"""KerasLayer: what programs written for TensorFlow Hub's layer rely on."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, List

import expected
import numpy as np
import pytest
import replay
import runtimes
from environment import executes_eagerly
from keras_kit import IMAGES, TARGETS, Keras, path

import hub_compat as hub

pytestmark = pytest.mark.tensorflow


@pytest.mark.eager
def test_losses_follow_trainable(k: Keras) -> None:
    """The module's losses count while the layer is trainable, without a new call."""
    layer = k.Layer(path("image_bn"))
    model = k.model(layer)
    recorded = expected.load_expected("image_bn")
    (case, *_) = [c for c in recorded.cases if c.tags == ("train",)]
    wanted = sum(float(loss) for loss in case.regularization_losses)
    for trainable in (False, True, False, True):
        layer.trainable = trainable
        found = sum(float(loss) for loss in model.losses)
        np.testing.assert_allclose(found, wanted if trainable else 0.0, rtol=1e-5)


@pytest.mark.parametrize(
    "signature, shape",
    [
        ("image_feature_vector", {"default": (6,), "net/block1/conv": [8, 8, 4]}),
        ("image_feature_vector", None),
        (None, (6,)),
    ],
    ids=["nest", "absent", "shape"],
)
def test_output_shape_survives_the_config(signature: Any, shape: Any, k: Keras) -> None:
    """output_shape is there only if it was given, and equal after JSON."""
    keywords = dict(signature=signature, signature_outputs_as_dict=bool(signature))
    if isinstance(shape, dict):
        shape = dict(shape, **{"net/block2/conv": (4, 4, 6)})
    if shape is not None:
        keywords["output_shape"] = shape
    layer = k.Layer(path("image_bn"), **keywords)
    again = k.Layer.from_config(json.loads(json.dumps(layer.get_config())))
    assert hasattr(layer, "_output_shape") == (shape is not None)
    assert getattr(again, "_output_shape", None) == getattr(
        layer, "_output_shape", None
    )
    outputs = again(k.keras.Input(shape=(8, 8, 3)))
    output = outputs["default"] if isinstance(outputs, dict) else outputs
    assert tuple(output.shape)[1:] == (6,)


def test_output_key_is_looked_up_in_the_call(k: Keras) -> None:
    """A key that the outputs do not have, and a key where there is no dict."""
    layer = k.Layer(path("no_variables"), output_key="unknown")
    with pytest.raises(ValueError, match="does not contain the output key"):
        layer(np.ones((1, 3), np.float32))
    layer = k.Layer(lambda x: x, output_key="x")
    with pytest.raises(ValueError, match="`output_key` is forbidden if output type"):
        layer(np.ones((1, 1), np.float32))


def test_outputs_of_a_signature_must_be_chosen(k: Keras) -> None:
    """Of a signature one output or all; without one neither."""
    for keywords in (dict(), dict(output_key="y", signature_outputs_as_dict=True)):
        with pytest.raises(ValueError, match="either output_key or signature_outputs"):
            k.Layer(path("tf1_simple_save"), signature="serving_default", **keywords)
    with pytest.raises(ValueError, match="only valid if specifying a signature"):
        k.Layer(path("tf1_simple_save"), signature_outputs_as_dict=True)
    with pytest.raises(ValueError, match="Expected a string, got"):
        hub.load(0)


@pytest.mark.eager
def test_python_values_are_inputs(k: Keras) -> None:
    """A number, and a list of numbers, where a module takes any shape."""
    import tensorflow as tf

    double = tf.function(lambda x: 2.0 * x, [tf.TensorSpec(None, tf.float32)])
    layer = k.Layer(double)
    assert float(layer(10.0)) == 20.0
    assert np.asarray(layer([[1.0], [2.0]])).tolist() == [[2.0], [4.0]]


def test_sparse_and_ragged_results_of_signatures() -> None:
    """A signature returns what TF1 returned, not the parts of it."""
    import tensorflow as tf

    with runtimes.Runtime(lambda: hub.load(path("sparse_ragged"))) as runtime:
        outputs = {
            name: spec
            for function in runtime.loaded.signatures.values()
            for name, spec in function.structured_outputs.items()
        }
    kinds = {type(spec) for spec in outputs.values()}
    assert {tf.SparseTensorSpec, tf.RaggedTensorSpec} <= kinds


@pytest.mark.eager
@pytest.mark.parametrize("output", ["net/block1/conv", None], ids=["one", "dict"])
def test_every_output_trains_with_updates(output: Any, k: Keras) -> None:
    """An output other than the default one, and all as a dict, run the train graph."""
    recorded = expected.load_expected("image_bn")
    name = "image_feature_vector"
    (case, *_) = [
        c for c in recorded.cases if c.tags == ("train",) and c.signature == name
    ]
    layer = k.Layer(
        path("image_bn"),
        trainable=True,
        signature=name,
        output_key=output,
        signature_outputs_as_dict=output is None,
    )
    (value,) = case.inputs.values()
    found = layer(replay.tensor(value), training=True)
    if output is not None:
        found = {output: found}
    for key, one in found.items():
        replay.assert_equal(np.asarray(one), case.outputs[key], key)
    with runtimes.Runtime(lambda: layer) as runtime:
        values = replay.variable_values(runtime, layer.resolved_object, recorded)
    changed = {key for key in case.updated if key in values}
    assert changed
    for key in changed:
        replay.assert_equal(values[key], case.updated[key], key)
    assert len(layer.losses) or k.generation == 2


@pytest.mark.graph
def test_freezing_a_built_model(k: Keras) -> None:
    """Frozen after fit(), the layer keeps every bit, and runs in inference mode."""
    layer = k.Layer(path("image_bn"), trainable=True)
    model = k.model(layer)
    loaded = layer.get_weights()
    model.fit(IMAGES, TARGETS, verbose=0)
    trained = layer.get_weights()
    assert any(np.any(a != b) for a, b in zip(loaded, trained))
    layer.trainable = False
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    assert len(model.trainable_weights) == 2
    model.fit(IMAGES, TARGETS, epochs=2, verbose=0)
    for one, other in zip(trained, layer.get_weights()):
        assert one.tobytes() == other.tobytes()
    # And back.
    layer.trainable = True
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    model.fit(IMAGES, TARGETS, verbose=0)
    changed = [np.any(a != b) for a, b in zip(trained, layer.get_weights())]
    # All but the bias of another signature.
    assert sum(changed) == len(changed) - 1


@pytest.mark.graph
def test_unfreezing_a_built_model_is_warned_of(k: Keras) -> None:
    """What graph mode cannot do is said where Keras asks for the weights."""
    layer = k.Layer(path("image_bn"))
    model = k.model(layer)
    loaded = layer.get_weights()
    model.fit(IMAGES, TARGETS, verbose=0)
    for one, other in zip(loaded, layer.get_weights()):
        assert one.tobytes() == other.tobytes()
    layer.trainable = True
    with pytest.warns(UserWarning, match="freeze the layer after that"):
        model.compile("sgd", k.keras.losses.MeanSquaredError())


@pytest.mark.eager
@pytest.mark.parametrize("signature", [None, "serving_default"])
def test_weights_that_no_list_names(signature: Any, k: Keras, tmp_path: Path) -> None:
    """Of an object without ``variables``, those that the function reads are weights."""
    import tensorflow as tf

    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.ones([3, 2]))
            self.others = {"scale": tf.Variable(2.0, trainable=False)}
            self.unused = tf.Variable(1.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
        def __call__(self, x: Any) -> Any:
            return {"y": tf.matmul(x, self.kernel) * self.others["scale"]}

    module = Module()
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__)
    layer = k.Layer(str(tmp_path), trainable=True, signature=signature, output_key="y")
    assert [tuple(w.shape) for w in layer.trainable_weights] == [(3, 2)]
    assert [tuple(w.shape) for w in layer.non_trainable_weights] == [()]
    inputs = k.keras.Input((3,))
    model = k.keras.Model(inputs, layer(inputs))
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    before, scale = layer.get_weights()
    model.fit(np.ones((4, 3), np.float32), np.ones((4, 2)), verbose=0)
    after, same = layer.get_weights()
    assert np.all(before != after)
    assert scale == same == 2.0


@pytest.mark.parametrize(
    "name",
    [pytest.param("keras2_reusable", marks=pytest.mark.eager), "keras3_reusable"],
)
def test_model_of_another_tensorflow_is_fine_tuned(
    name: str, k: Keras, testdata: Path
) -> None:
    """What export_reusable() wrote under TensorFlow 2.21 trains, with all it has."""
    layer = k.Layer(str(testdata / "tf221" / name / "module"), trainable=True)
    inputs = {
        "image": k.keras.Input((6, 6, 2), name="image"),
        "ids": k.keras.Input((3,), dtype="int32", name="ids"),
    }
    model = k.keras.Model(list(inputs.values()), layer(inputs)["head"])
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    assert len(layer.trainable_weights) == 10
    if executes_eagerly():
        losses = sum(float(loss) for loss in model.losses)
        kernels = [w for w in layer.trainable_weights if "kernel" in w.name]
        regularized = [w for w in kernels if len(w.shape) == 4 or w.shape[1] == 2]
        wanted = sum(0.1 * np.sum(np.square(np.asarray(w))) for w in regularized)
        np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    else:
        assert len(model.losses) == 2
    before = dict(zip(names(layer), layer.get_weights()))
    given = [IMAGES[:, :6, :6, :2], np.ones((8, 3), np.int32)]
    model.fit(given, np.ones((8, 2), np.float32), verbose=0)
    after = dict(zip(names(layer), layer.get_weights()))
    changed = {key for key in after if np.any(before[key] != after[key])}
    assert {"bn", "conv", "embedding", "head", "lstm"} <= {
        key.split("/")[0].split(".")[0] for key in changed
    }
    assert any("moving_mean" in key for key in changed)


@pytest.mark.eager
def test_copies_have_their_own_weights(k: Keras) -> None:
    """copy.deepcopy() of a layer computes with the copied weights, and trains alone."""
    layer = k.Layer(path("image_bn"), trainable=True)
    layer.set_weights([value + 1 for value in layer.get_weights()])
    copied = copy.deepcopy(layer)
    wanted = np.asarray(layer(IMAGES))
    np.testing.assert_array_equal(np.asarray(copied(IMAGES)), wanted)
    copied.set_weights([value + 1 for value in copied.get_weights()])
    np.testing.assert_array_equal(np.asarray(layer(IMAGES)), wanted)
    assert np.any(np.asarray(copied(IMAGES)) != wanted)


def names(layer: Any) -> List[str]:
    """The names of a layer's weights."""
    return [weight.name for weight in layer.weights]


@pytest.mark.parametrize("trainable", [False, True])
def test_model_of_Keras_has_its_weights_once(k: Keras, trainable: bool) -> None:
    """A model as the handle: frozen, it keeps its statistics, and else it trains."""
    layers = k.keras.layers
    inner = k.keras.Sequential([layers.Dense(2), layers.BatchNormalization()])
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    inner(x)
    layer = k.Layer(inner, trainable=trainable)
    model = k.keras.Sequential([layer, layers.Dense(1)])
    model(x)
    assert layer.count_params() == inner.count_params()
    assert len(layer.weights) == 6
    assert len(layer.trainable_weights) == (4 if trainable else 0)
    before = layer.get_weights()
    model.compile(k.keras.optimizers.SGD(0.1), "mse")
    model.fit(x, np.ones((2, 1), np.float32), verbose=0)
    same = [np.array_equal(a, b) for a, b in zip(before, layer.get_weights())]
    assert all(same) is not trainable


@pytest.mark.keras2
@pytest.mark.keras3
def test_model_of_the_other_Keras(k: Keras) -> None:
    """Its weights are the layer's, trained or not, in each of the two."""
    other = Keras(5 - k.generation).keras
    inner = other.Sequential([other.layers.Dense(2)])
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    inner(x)
    for trainable in (False, True):
        layer = k.Layer(inner, trainable=trainable)
        model = k.keras.Sequential([layer, k.keras.layers.Dense(1)])
        model(x)
        before = layer.get_weights()
        model.compile(k.keras.optimizers.SGD(0.1), "mse")
        model.fit(x, np.ones((2, 1), np.float32), verbose=0)
        assert len(before) == 2
        for one, new, own in zip(before, layer.get_weights(), inner.get_weights()):
            assert np.array_equal(one, new) is not trainable
            assert np.array_equal(new, own)
