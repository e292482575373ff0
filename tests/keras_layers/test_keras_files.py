"""What a Keras file holds of weights that are not like Keras' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from keras_kit import Keras

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]

ROWS = np.ones((4, 3), np.float32)


def saved(tmp_path: Path, shape: Any = None, strings: bool = False) -> str:
    """A module of one matrix, declared with a shape, and of a few strings."""
    import tensorflow as tf

    module = tf.Module()
    keywords = {} if shape is None else {"shape": tf.TensorShape(shape)}
    module.weight = tf.Variable(tf.ones([3, 2]), name="w", **keywords)
    module.words = tf.Variable(
        ["a", "b\0c", ""] if strings else [0], False, name="words"
    )

    def call(x: Any) -> Any:
        length = tf.size(module.words)
        if strings:
            length = tf.reduce_sum(tf.strings.length(module.words))
        weight = tf.ensure_shape(module.weight, [3, 2])
        return tf.matmul(x, weight) + tf.cast(length, tf.float32)

    module.__call__ = tf.function(call, [tf.TensorSpec([None, 3], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "module"))
    return str(tmp_path / "module")


def endings(k: Keras) -> List[str]:
    """The kinds of files of this Keras."""
    return [".h5"] + [".keras"] * hasattr(k.keras.layers, "TextVectorization")


def fitted(k: Keras, *layers: Any) -> Any:
    """A model of a sum of layers, trained by one step."""
    inputs = k.keras.Input(shape=(3,))
    outputs = [layer(inputs) for layer in layers]
    outputs = k.keras.layers.add(outputs) if len(layers) > 1 else outputs[0]
    model = k.keras.Model(inputs, k.keras.layers.Dense(1)(outputs))
    model.compile("adam", k.keras.losses.MeanSquaredError())
    model.fit(ROWS, np.zeros((4, 1), np.float32), verbose=0)
    return model


def assert_kept(k: Keras, model: Any, tmp_path: Path) -> None:
    """Every kind of file gives the same model again."""
    wanted = np.asarray(model(ROWS))
    for ending in endings(k):
        file = str(tmp_path / ("model" + ending))
        model.save(file)
        again = k.load(file)
        np.testing.assert_allclose(np.asarray(again(ROWS)), wanted, rtol=1e-6)


@pytest.mark.tf2
@pytest.mark.parametrize("shape", [(None, 2), "unknown"], ids=["partly", "unknown"])
@pytest.mark.parametrize("embed", [False, True], ids=["path", "embedded"])
def test_a_variable_of_unknown_shape(
    shape: Any, embed: bool, k: Keras, tmp_path: Path
) -> None:
    """It has that of its value: it trains, and every file keeps it."""
    import tensorflow as tf

    declared = tf.TensorShape(None if shape == "unknown" else shape)
    layer = k.Layer(saved(tmp_path, shape=declared), trainable=True, embed=embed)
    assert [tuple(w.shape) for w in layer.trainable_weights] == [(3, 2)]
    before = layer.get_weights()
    model = fitted(k, layer)
    assert np.all(before[0] != layer.get_weights()[0])
    assert_kept(k, model, tmp_path)


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
def test_two_layers_of_one_module(nested: bool, k: Keras, tmp_path: Path) -> None:
    """The slots of an optimizer have names of their own, and .h5 files take them."""
    directory = saved(tmp_path)
    layers = [k.Layer(directory, trainable=True) for _ in range(2)]
    if nested:
        inputs = [k.keras.Input(shape=(3,)) for _ in layers]
        layers = [k.keras.Model(i, layer(i)) for i, layer in zip(inputs, layers)]
    assert_kept(k, fitted(k, *layers), tmp_path)
    # What was loaded is saved, too.
    assert_kept(k, k.load(str(tmp_path / "model.h5")), tmp_path)
    # The names of weights are those that the module has.
    alone = k.Layer(directory, trainable=True)
    assert [w.name.split(":")[0] for w in alone.weights] == ["w", "words"]


@pytest.mark.parametrize("embed", [False, True], ids=["path", "embedded"])
def test_strings_are_no_weights(embed: bool, k: Keras, tmp_path: Path) -> None:
    """Keras has no arrays of them; its files have them anyway, changed ones too."""
    directory = saved(tmp_path, strings=True)
    layer = k.Layer(directory, trainable=True, embed=embed, name="module")
    assert [w.name.split(":")[0] for w in layer.weights] == ["w"]
    model = fitted(k, layer)
    assert "strings" not in layer.get_config()
    assert_kept(k, model, tmp_path)
    words = layer.resolved_object.words
    words.assign(["", "longer\0", "é"])
    for ending in endings(k):
        file = str(tmp_path / ("model" + ending))
        # What was loaded is saved, too.
        for saving in (model, None):
            model = saving or k.load(file)
            model.save(file)
        found = k.load(file).get_layer("module").resolved_object.words.numpy()
        assert found.tolist() == [b"", b"longer\0", "é".encode()]


@pytest.mark.tf2
def test_signature_of_a_lowered_model(k: Keras, tmp_path: Path) -> None:
    """serving_default of a model that was rewritten is its own, not the object."""
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(2.0)
    spec = tf.TensorSpec([None, 3], tf.float32)
    module.__call__ = tf.function(lambda x: x * module.weight, [spec])
    serve = tf.function(lambda x: {"a": x - module.weight, "b": x}, [spec])
    signatures = {"serving_default": serve.get_concrete_function()}
    tf.saved_model.save(module, str(tmp_path / "module"), signatures)
    hub.convert(tmp_path / "module", tmp_path / "lowered", target="tf1.15")
    layer = k.Layer(
        str(tmp_path / "lowered"), signature="serving_default", output_key="a"
    )
    np.testing.assert_array_equal(np.asarray(layer(ROWS)), ROWS - 2)
