"""export_reusable(): Keras models for others to call and to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import smoke
from keras_kit import IMAGES, TARGETS, path

import hub_compat as hub
from hub_compat import errors

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


def convolutional(k: Any) -> Any:
    """Statistics, dropout, two losses; an output that training changes."""
    keras = k.keras
    l2 = keras.regularizers.l2 if k.generation == 2 else keras.regularizers.L2
    inputs = keras.Input(shape=(8, 8, 3), name="images")
    x = keras.layers.Conv2D(4, 3, kernel_regularizer=l2(0.1))(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.Dense(2, kernel_regularizer=l2(0.01), name="head")(x)
    return keras.Model(inputs, x)


def value(tensor: Any) -> Any:
    """As NumPy has it."""
    return tensor.numpy() if hasattr(tensor, "numpy") else np.asarray(tensor)


@pytest.mark.smoke(smoke.KERAS)
def test_interface(k: Any, tmp_path: Path) -> None:
    """TensorFlow alone loads it: all of the interface, and the model's values."""
    import tensorflow as tf

    model = convolutional(k)
    # Statistics that are not those of the start.
    model(tf.constant(IMAGES), training=True)
    hub.export_reusable(model, tmp_path / "out")
    loaded = tf.compat.v2.saved_model.load(str(tmp_path / "out"))
    wanted = value(model(tf.constant(IMAGES), training=False))
    np.testing.assert_allclose(value(loaded(tf.constant(IMAGES))), wanted, rtol=1e-5)
    np.testing.assert_allclose(
        value(loaded(tf.constant(IMAGES), training=False)), wanted, rtol=1e-5
    )
    (found,) = loaded.signatures["serving_default"](images=tf.constant(IMAGES)).values()
    np.testing.assert_allclose(value(found), wanted, rtol=1e-5)
    assert len(loaded.trainable_variables) == len(model.trainable_weights) == 6
    assert len(loaded.variables) >= len(model.weights)
    losses = [value(loss()) for loss in loaded.regularization_losses]
    assert len(losses) == 2
    np.testing.assert_allclose(sum(losses), sum(map(value, model.losses)), rtol=1e-5)


@pytest.mark.smoke(smoke.KERAS)
def test_training_mode(k: Any, tmp_path: Path) -> None:
    """Called for training, it drops out, and updates statistics as the model does."""
    import tensorflow as tf

    model = convolutional(k)
    hub.export_reusable(model, tmp_path / "out")
    loaded = tf.compat.v2.saved_model.load(str(tmp_path / "out"))
    x = tf.constant(IMAGES)
    assert not np.allclose(value(loaded(x, training=True)), value(loaded(x)))
    model(x, training=True)
    np.testing.assert_allclose(
        value(loaded(x)), value(model(x, training=False)), rtol=1e-4, atol=1e-6
    )


@pytest.mark.smoke(smoke.KERAS)
def test_fine_tuned_by_a_layer(k: Any, tmp_path: Path) -> None:
    """KerasLayer trains it as Keras trains the model that it was."""
    model = convolutional(k)
    hub.export_reusable(model, tmp_path / "out")
    layer = k.Layer(str(tmp_path / "out"), trainable=True)
    outer = k.model(layer)
    assert len(outer.trainable_weights) == 6 + 2
    losses = sum(map(value, outer.losses))
    np.testing.assert_allclose(losses, sum(map(value, model.losses)), rtol=1e-5)
    before = layer.get_weights()
    outer.fit(IMAGES, TARGETS, epochs=1, verbose=0)
    changed = [np.any(a != b) for a, b in zip(before, layer.get_weights())]
    assert sum(changed) >= 8
    # And on: what was fine-tuned is saved, with its new values.
    hub.save(layer.resolved_object, tmp_path / "tuned")
    again = hub.load(tmp_path / "tuned")
    for old, new in zip(
        layer.resolved_object.trainable_variables, again.trainable_variables
    ):
        np.testing.assert_array_equal(value(old), value(new))


def test_piece_of_a_model(k: Any, tmp_path: Path) -> None:
    """The features before the head, and one layer alone."""
    import tensorflow as tf

    model = convolutional(k)
    x = tf.constant(IMAGES)
    features = k.keras.Model(model.inputs, model.layers[-2].output)
    hub.export_reusable(features, tmp_path / "features")
    loaded = hub.load(tmp_path / "features")
    np.testing.assert_allclose(
        value(loaded(x)), value(features(x, training=False)), rtol=1e-5
    )
    assert len(loaded.trainable_variables) == 4
    hub.export_reusable(
        model.get_layer("head"),
        tmp_path / "head",
        inputs=tf.TensorSpec([None, 4], tf.float32),
    )
    head = hub.load(tmp_path / "head")
    np.testing.assert_allclose(
        value(head(loaded(x))), value(model(x, training=False)), rtol=1e-5
    )
    assert len(head.regularization_losses) == 1


def test_frozen_layers_stay_frozen(k: Any, tmp_path: Path) -> None:
    """What the model does not train is not among what the export trains."""
    model = convolutional(k)
    model.layers[1].trainable = False
    hub.export_reusable(model, tmp_path / "out")
    loaded = hub.load(tmp_path / "out")
    assert len(loaded.trainable_variables) == 4
    assert len(loaded.variables) >= 8


@pytest.mark.parametrize("kind", [dict, list])
def test_several_inputs_and_outputs(k: Any, kind: type, tmp_path: Path) -> None:
    """In the structure that the model has them in."""
    import tensorflow as tf

    keras = k.keras
    a, b = keras.Input((3,), name="a"), keras.Input((2,), dtype="int32", name="b")
    wide = keras.layers.Dense(2, name="wide")(a)
    deep = keras.layers.Flatten()(keras.layers.Embedding(4, 3)(b))
    inputs: Any = {"a": a, "b": b} if kind is dict else [a, b]
    if kind is dict and tf.__version__.startswith("1."):
        pytest.skip("Keras of TF 1.15 keeps no dict of inputs")
    model = keras.Model(inputs, [wide, deep])
    hub.export_reusable(model, tmp_path / "out")
    given: Any = [tf.constant([[1.0, 2.0, 3.0]]), tf.constant([[1, 3]])]
    named: Dict[str, Any] = dict(zip("ab", given))
    call = named if kind is dict else given
    loaded = hub.load(tmp_path / "out")
    wanted: List[Any] = [value(output) for output in model(call)]
    for found, known in zip(loaded(call), wanted):
        np.testing.assert_allclose(value(found), known, rtol=1e-5)
    outputs = loaded.signatures["serving_default"](**named)
    assert sorted(output.shape[1] for output in outputs.values()) == [2, 6]


def test_subclassed_model_needs_its_inputs(k: Any, tmp_path: Path) -> None:
    """A model that was never called says what to give; given it, it is exported."""
    import tensorflow as tf

    keras = k.keras

    class Mine(keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return {"scores": self.dense(x)}

    model = Mine()
    with pytest.raises(errors.SaveError, match="inputs=tf.TensorSpec"):
        hub.export_reusable(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    spec = tf.TensorSpec([None, 3], tf.float32)
    hub.export_reusable(model, tmp_path / "out", inputs=spec)
    x = tf.constant([[1.0, 2.0, 3.0]])
    loaded = hub.load(tmp_path / "out")
    wanted = value(model(x)["scores"])
    np.testing.assert_allclose(value(loaded(x)["scores"]), wanted, rtol=1e-5)
    signature = loaded.signatures["serving_default"]
    # Keras of TF 1.15 names what it is called with, of a model of one's own.
    (name,) = signature.structured_input_signature[1]
    assert name == "inputs" or tf.__version__.startswith("1.")
    found = signature(**{name: x})
    np.testing.assert_allclose(value(found["scores"]), wanted, rtol=1e-5)
    assert len(loaded.trainable_variables) == 2


def test_text(k: Any, tmp_path: Path) -> None:
    """A model of strings takes its vocabulary along."""
    import tensorflow as tf

    keras = k.keras
    if not hasattr(keras.layers, "TextVectorization"):
        pytest.skip("Keras of TF 1.15 has no layer that takes text")
    vectorize = keras.layers.TextVectorization(output_sequence_length=3)
    vectorize.adapt(["one two three", "two three", "three"])
    model = keras.Sequential(
        [
            keras.Input((), dtype="string", name="text"),
            vectorize,
            keras.layers.Embedding(6, 2),
        ]
    )
    x = tf.constant(["two one", "four"])
    wanted = value(model(x))
    hub.export_reusable(model, tmp_path / "out")
    loaded = hub.load(tmp_path / "out")
    np.testing.assert_allclose(value(loaded(x)), wanted, rtol=1e-6)
    assert len(loaded.trainable_variables) == 1


@pytest.mark.tf2
def test_words_and_recurrence(k: Any, tmp_path: Path) -> None:
    """A vocabulary, embeddings, and a loop train on in a layer."""
    import tensorflow as tf

    keras = k.keras
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="string", name="words"),
            keras.layers.StringLookup(vocabulary=["one", "two", "three"]),
            keras.layers.Embedding(4, 3),
            keras.layers.GRU(2),
        ]
    )
    words = tf.constant([["one", "two", "four"]])
    wanted = value(model(words))
    hub.export_reusable(model, tmp_path / "out")
    layer = k.Layer(str(tmp_path / "out"), trainable=True)
    np.testing.assert_allclose(value(layer(words)), wanted, rtol=1e-5)
    inputs = keras.Input((3,), dtype="string")
    outer = keras.Model(inputs, layer(inputs))
    outer.compile("sgd", "mse")
    assert len(outer.trainable_weights) == 4
    before = layer.get_weights()
    outer.fit(words, np.ones((1, 2), np.float32), verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, layer.get_weights()))


@pytest.mark.tf2
def test_mixed_precision(k: Any, tmp_path: Path) -> None:
    """A model of mixed precision computes as it did, on weights in float32."""
    import tensorflow as tf

    keras = k.keras
    inputs = keras.Input((3,), name="x")
    hidden = keras.layers.Dense(4, dtype="mixed_bfloat16")(inputs)
    hidden = keras.layers.BatchNormalization(dtype="mixed_bfloat16")(hidden)
    model = keras.Model(inputs, hidden)
    hub.export_reusable(model, tmp_path / "out")
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    x = tf.constant([[1.0, 2.0, 3.0]])
    found = loaded(x)
    assert found.dtype == tf.bfloat16
    np.testing.assert_array_equal(
        tf.cast(found, tf.float32), tf.cast(model(x, training=False), tf.float32)
    )
    assert {v.dtype for v in loaded.trainable_variables} == {tf.float32}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(loaded(x, training=True), tf.float32))
    gradients = tape.gradient(loss, loaded.trainable_variables)
    assert all(gradient is not None for gradient in gradients)


@pytest.mark.keras3
@pytest.mark.tf2
def test_random_numbers_go_on(k: Any, tmp_path: Path) -> None:
    """Dropout draws other numbers at each call, and a saved state goes on."""
    import tensorflow as tf

    keras = k.keras
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dropout(0.5, seed=1)])
    hub.export_reusable(model, tmp_path / "out")
    loaded = hub.load(tmp_path / "out")
    x = tf.ones((1, 50))
    one, other = value(loaded(x, training=True)), value(loaded(x, training=True))
    assert np.any(one != other)
    assert not loaded.trainable_variables
    np.testing.assert_array_equal(value(loaded(x)), x)
    if k.generation == 3:
        # Keras 3 keeps the state in a variable, which is exported.
        np.testing.assert_array_equal(value(model(x, training=True)), one)
        hub.save(loaded, tmp_path / "later")
        later = hub.load(tmp_path / "later")
        np.testing.assert_array_equal(
            value(later(x, training=True)), value(loaded(x, training=True))
        )


def test_losses_of_activities_are_named(k: Any, tmp_path: Path) -> None:
    """What the interface cannot hold is said."""
    keras = k.keras
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(2, activity_regularizer="l2", name="penalised")
    with pytest.warns(UserWarning, match="activities are skipped.*penalised"):
        hub.export_reusable(keras.Model(inputs, dense(inputs)), tmp_path / "out")


def test_model_that_was_never_built(k: Any, tmp_path: Path) -> None:
    """A Sequential without a first layer for inputs says what to give."""
    import tensorflow as tf

    model = k.keras.Sequential([k.keras.layers.Dense(2)])
    with pytest.raises(errors.SaveError, match="inputs=tf.TensorSpec"):
        hub.export_reusable(model, tmp_path / "out")
    spec = tf.TensorSpec([None, 3], tf.float32)
    hub.export_reusable(model, tmp_path / "out", inputs=spec)
    x = tf.constant([[1.0, 2.0, 3.0]])
    loaded = hub.load(tmp_path / "out")
    np.testing.assert_allclose(value(loaded(x)), value(model(x)), rtol=1e-5)
    assert len(loaded.trainable_variables) == 2


@pytest.mark.smoke(smoke.KERAS)
def test_module_within_a_model(k: Any, tmp_path: Path) -> None:
    """A TF1 module that was trained in a model is part of what is exported."""
    import tensorflow as tf

    layer = k.Layer(path("image_bn"), trainable=True)
    model = k.model(layer)
    model.fit(IMAGES, TARGETS, verbose=0)
    hub.export_reusable(model, tmp_path / "out")
    loaded = tf.compat.v2.saved_model.load(str(tmp_path / "out"))
    x = tf.constant(IMAGES)
    np.testing.assert_allclose(
        value(loaded(x)), value(model(x, training=False)), rtol=1e-5, atol=1e-6
    )
    losses = sum(value(loss()) for loss in loaded.regularization_losses)
    np.testing.assert_allclose(losses, sum(map(value, model.losses)), rtol=1e-5)
    assert len(loaded.trainable_variables) == len(model.trainable_weights)


def test_bad_arguments(k: Any, tmp_path: Path) -> None:
    """Nothing of Keras, and a directory that is there."""
    with pytest.raises(errors.SaveError, match="a Keras model or layer"):
        hub.export_reusable(lambda x: x, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(errors.DestinationError, match="overwrite"):
        hub.export_reusable(convolutional(k), tmp_path / "out")
    hub.export_reusable(convolutional(k), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "saved_model.pb").is_file()


# What they are called in a signature; of those alike, the first keeps its name.
NAMED = {
    "sepal length": "sepal_length",
    "a/b": "a_b_1",
    "a.b": "a_b",
    "class": "class_1",
    "1": "arg_1",
    "média": "m_dia",
    "_x": "arg__x",
    "sepal_length": "sepal_length_1",
}
NAMES = list(NAMED)


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
@pytest.mark.parametrize("subclassed", [False, True])
def test_names_of_every_sort(k: Any, subclassed: bool, tmp_path: Path) -> None:
    """Inputs of a dict reach what they are for, whatever they are called."""
    import tensorflow as tf

    if subclassed:

        class Mine(k.keras.Model):  # type: ignore[misc,name-defined]
            def call(self, inputs: Any) -> Any:
                return tf.add_n([inputs[n] * 5.0**i for i, n in enumerate(NAMES)])

        model: Any = Mine()
    else:
        inputs = {
            n: k.keras.Input((1,), name="i{}".format(i)) for i, n in enumerate(NAMES)
        }
        scaled = [k.keras.layers.Dense(1, use_bias=False)(inputs[n]) for n in NAMES]
        model = k.keras.Model(inputs, k.keras.layers.Add()(scaled))
        model.set_weights([np.full((1, 1), 5.0**i) for i in range(len(NAMES))])
    specs = {n: tf.TensorSpec([None, 1], tf.float32) for n in NAMES}
    hub.export_reusable(model, tmp_path / "out", inputs=specs)
    given = {n: tf.constant([[float(i + 1)]]) for i, n in enumerate(NAMES)}
    wanted = sum((i + 1) * 5.0**i for i in range(len(NAMES)))
    for loaded in (
        hub.load(tmp_path / "out"),
        tf.compat.v1.saved_model.load_v2(str(tmp_path / "out")),
    ):
        assert value(loaded(given)) == wanted
        signature = loaded.signatures["serving_default"]
        names = sorted(signature.structured_input_signature[1])
        assert names == sorted(NAMED.values())
        (found,) = signature(**{NAMED[n]: t for n, t in given.items()}).values()
        assert value(found) == wanted


@pytest.mark.parametrize("called", [False, True])
def test_names_of_given_specs(k: Any, called: bool, tmp_path: Path) -> None:
    """The names of specs that are given count, also of a model that was called."""
    import tensorflow as tf

    class Mine(k.keras.Model):  # type: ignore[misc,name-defined]
        def call(self, inputs: Any) -> Any:
            return inputs[0] * 10.0 + inputs[1]

    model = Mine()
    x, y = tf.constant([[3.0]]), tf.constant([[2.0]])
    if called:
        model([x, y])
    specs = [tf.TensorSpec([None, 1], tf.float32, n) for n in ("second", "first")]
    hub.export_reusable(model, tmp_path / "out", inputs=specs)
    signature = hub.load(tmp_path / "out").signatures["serving_default"]
    assert sorted(signature.structured_input_signature[1]) == ["first", "second"]
    (found,) = signature(second=x, first=y).values()
    assert value(found) == [[32.0]]
