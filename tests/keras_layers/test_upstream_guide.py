"""TensorFlow Hub's page "SavedModels from TF Hub in TensorFlow 2", as it is used here.

Each test is a piece of code of docs/tf2_saved_model.md, in the order of the page, with
hub_compat in place of tensorflow_hub. The page has them for TensorFlow 1.15 as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_kit import IMAGES, TARGETS, Keras, path

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]

TEXTS = ["a cat", "dog", "the cat sat"]


def save(obj: Any, directory: Path) -> str:
    """Writes an object with TensorFlow's own function."""
    import tensorflow as tf

    tf.saved_model.save(obj, str(directory))
    return str(directory)


def test_embedding(k: Keras) -> None:
    """A text embedding as a layer takes a list of strings."""
    import tensorflow as tf

    embed = k.Layer(path("text_embedding"))
    embeddings = embed(TEXTS)
    assert embeddings.dtype == tf.float32
    known = hub.load(path("text_embedding"))(tf.constant(TEXTS))
    assert tuple(embeddings.shape) == tuple(known.shape)
    np.testing.assert_array_equal(embeddings, known)


@pytest.mark.parametrize(
    "keywords",
    [
        # Keras of TF 1.15 makes a column of what has one dimension, unless it is told.
        pytest.param({}, marks=pytest.mark.tf2),
        {"input_shape": [], "dtype": "string"},
        {"input_shape": []},
    ],
    ids=["plain", "both", "shape"],
)
@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`")
def test_classifier(keywords: Any, k: Keras) -> None:
    """A text classifier from that layer, which is not trained by default."""
    import tensorflow as tf

    embed = k.Layer(path("text_embedding"), **keywords)
    model = k.keras.Sequential(
        [
            embed,
            k.keras.layers.Dense(16, activation="relu"),
            k.keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("sgd", "binary_crossentropy")
    before = embed.get_weights()
    data = tf.data.Dataset.from_tensor_slices((TEXTS, [[0.0], [1.0], [1.0]])).batch(3)
    model.fit(data, epochs=2, verbose=0)
    assert model.predict(tf.constant(TEXTS), verbose=0).shape == (3, 1)
    assert len(model.trainable_weights) == 4
    for one, other in zip(before, embed.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_low_level() -> None:
    """What load() returns has signatures, of named tensors, and can be called."""
    import tensorflow as tf

    obj = hub.load(path("image_bn"))
    images = tf.constant(IMAGES)
    function = obj.signatures["serving_default"]
    inputs = dict.fromkeys(function.structured_input_signature[1], images)
    outputs = function(**inputs)
    called = obj(images, training=False)
    assert any(np.array_equal(value, called) for value in outputs.values())


def features(k: Keras) -> Any:
    """A model to share a piece of: a regularizer, and what training does."""
    keras = k.keras
    l2 = keras.regularizers.l2 if k.generation == 2 else keras.regularizers.L2
    inputs = keras.Input(shape=(8, 8, 3), name="images")
    x = keras.layers.Conv2D(4, 3, kernel_regularizer=l2(0.1))(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(inputs, x)


def shared(k: Keras, piece: Any, directory: str) -> None:
    """The page's ``save()``; Keras 3 has none for others to train."""
    if k.generation == 2:
        piece.save(directory, include_optimizer=False, save_format="tf")
    else:
        hub.export_reusable(piece, directory)


@pytest.mark.parametrize("cut_out", [False, True], ids=["from the start", "cut out"])
def test_piece_of_a_model(cut_out: bool, k: Keras, tmp_path: Path) -> None:
    """A piece of a trained model is shared, and trained on in another model."""
    import tensorflow as tf

    keras = k.keras
    piece = features(k)
    if cut_out:
        outputs = keras.layers.Dense(1)(piece.output)
        full_model = keras.Model(piece.input, outputs)
    else:
        full_model = keras.Sequential([piece, keras.layers.Dense(1)])
    full_model.compile("sgd", "mse")
    full_model.fit(IMAGES, TARGETS, verbose=0)
    if cut_out:
        layer = full_model.get_layer("pooled")
        output = layer.get_output_at(0) if k.generation == 2 else layer.output
        piece = keras.Model(full_model.input, output)
    wanted = piece.predict(IMAGES, verbose=0)
    shared(k, piece, str(tmp_path / "piece"))
    layer = k.Layer(str(tmp_path / "piece"), trainable=True)
    found = layer(tf.constant(IMAGES), training=False)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    model = k.model(layer)
    assert len(model.trainable_weights) == 4 + 2
    (loss,) = layer.losses
    kernel = piece.layers[1].get_weights()[0]
    np.testing.assert_allclose(loss, 0.1 * np.sum(kernel**2), rtol=1e-5)
    before = layer.get_weights()
    model.fit(IMAGES, TARGETS, verbose=0)
    # Statistics as well.
    assert all(np.any(a != b) for a, b in zip(before, layer.get_weights()))


def test_low_level_model(k: Keras, tmp_path: Path) -> None:
    """An object with the interface that the page describes, made without Keras."""
    import tensorflow as tf

    class MyMulModel(tf.train.Checkpoint):
        def __init__(self, v_init: float) -> None:
            super().__init__()
            self.v = tf.Variable(v_init)
            self.variables = [self.v]
            self.trainable_variables = [self.v]
            self.regularization_losses = [
                tf.function(input_signature=[])(lambda: 0.001 * self.v**2),
            ]

        @tf.function(input_signature=[tf.TensorSpec(shape=None, dtype=tf.float32)])
        def __call__(self, inputs: Any) -> Any:
            return tf.multiply(inputs, self.v)

    layer = k.Layer(save(MyMulModel(2.0), tmp_path / "my_mul"))
    assert np.asarray(layer([10.0, 20.0])).tolist() == [20.0, 40.0]
    assert not layer.trainable_weights
    layer.trainable = True
    assert len(layer.trainable_weights) == 1
    assert layer.get_weights() == [2.0]
    (loss,) = layer.losses
    np.testing.assert_allclose(loss, 0.004, rtol=1e-6)


def test_fine_tuning_and_export(k: Keras, tmp_path: Path) -> None:
    """What fit() made of a loaded object is saved by TensorFlow, and loads again."""
    import tensorflow as tf

    loaded_obj = hub.load(path("image_bn"))
    hub_layer = k.Layer(loaded_obj, trainable=True)
    keras = k.keras
    model = keras.Sequential(
        [keras.Input(shape=(8, 8, 3)), hub_layer, keras.layers.Dense(1)]
        if k.generation == 3
        else [
            keras.layers.InputLayer(input_shape=(8, 8, 3)),
            hub_layer,
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    before = hub_layer.get_weights()
    model.fit(IMAGES, TARGETS, epochs=2, verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, hub_layer.get_weights()))
    images = tf.constant(IMAGES)
    wanted = hub_layer(images, training=False)
    directory = save(loaded_obj, tmp_path / "finetuned_model_export")
    for again in (hub.load(directory), k.Layer(directory)):
        np.testing.assert_array_equal(again(images), wanted)
