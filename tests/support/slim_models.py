"""Models of Keras 2 for tests of the slim form, each with inputs and outputs."""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple

import numpy as np
import tensorflow as tf


class Made(NamedTuple):
    """A model, and what it is called with."""

    model: Any
    inputs: Any


def _floats(*shape: int) -> np.ndarray:
    return np.random.RandomState(3).rand(*shape).astype(np.float32)


def _functional(keras: Any) -> Made:
    """Nested models, a shared layer, batch norm, two outputs, losses."""
    layers = keras.layers
    inner_in = keras.Input(shape=(6,))
    inner = layers.Dense(6, activation="relu", kernel_regularizer="l2")(inner_in)
    inner = keras.Model(inner_in, layers.BatchNormalization()(inner), name="inner")
    shared = layers.Dense(6, name="shared", activity_regularizer="l1")
    one, two = keras.Input(shape=(6,), name="one"), keras.Input(shape=(6,), name="two")
    both = layers.Concatenate()([shared(inner(one)), shared(inner(two))])
    deep = keras.Sequential([layers.Dense(5), layers.ReLU()], name="deep")
    scaled = layers.Lambda(lambda x: x * 3.0, name="scaled")(deep(both))
    outputs = [layers.Dense(2, name="a")(scaled), layers.Dense(3, name="b")(both)]
    model = keras.Model([one, two], outputs)
    # An optimizer with slots, and metrics.
    model.compile("adam", "mse")
    data = [_floats(8, 6), _floats(8, 6)[::-1]]
    model.train_on_batch(data, [_floats(8, 2), _floats(8, 3)])
    return Made(model, data)


def _convolutions(keras: Any) -> Made:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(4, 3, padding="same", input_shape=(8, 8, 3)),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, depthwise_regularizer="l2"),
            layers.BatchNormalization(momentum=0.8),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    return Made(model, _floats(4, 8, 8, 3))


def _own_gradient(keras: Any) -> Made:
    @tf.custom_gradient
    def doubled(x: Any) -> Any:
        return tf.square(x), lambda upstream: upstream * 7.0 * x

    inputs = keras.Input(shape=(4,))
    x = keras.layers.Dense(4)(inputs)
    x = keras.layers.Lambda(doubled)(x)
    x = keras.layers.Dense(4, activation=tf.nn.swish)(x)
    return Made(keras.Model(inputs, keras.layers.Dense(1)(x)), _floats(3, 4))


def _subclassed(keras: Any) -> Made:
    class Block(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(4)
            self.norm = keras.layers.BatchNormalization()

        def call(self, x: Any, training: Any = None) -> Any:
            return self.norm(self.dense(x), training=training)

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = [Block(), Block()]
            self.head = keras.layers.Dense(2)
            self.count = tf.Variable(0.0, trainable=False)

        def call(self, x: Any, training: Any = None) -> Any:
            if training:
                self.count.assign_add(1.0)
            for block in self.blocks:
                x = block(x, training=training)
            return self.head(x) + self.count

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
        def embed(self, x: Any) -> Any:
            return self.blocks[0](x, training=False)

    model, inputs = Model(), _floats(3, 4)
    model.predict(inputs)
    return Made(model, inputs)


def _text(keras: Any) -> Made:
    lookup = keras.layers.TextVectorization(output_sequence_length=4)
    lookup.adapt(tf.constant(["the cat sat", "on the mat"]))
    inputs = keras.Input(shape=(1,), dtype=tf.string)
    x = keras.layers.Embedding(20, 3)(lookup(inputs))
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    return Made(model, np.array([["the mat"], ["a cat"]]))


def _mixed(keras: Any) -> Made:
    layers = keras.layers
    inputs = keras.Input(shape=(4,))
    x = layers.Dense(4, dtype="mixed_float16")(inputs)
    x = layers.BatchNormalization(dtype="mixed_float16")(x)
    return Made(keras.Model(inputs, layers.Dense(1, dtype="float32")(x)), _floats(3, 4))


MODELS: Dict[str, Callable[[Any], Made]] = {
    "convolutions": _convolutions,
    "functional": _functional,
    "subclassed": _subclassed,
}
# What TF 1.15 or its Keras does not have: layers, custom gradients in a file.
LATER: Dict[str, Callable[[Any], Made]] = {
    "mixed": _mixed,
    "own_gradient": _own_gradient,
    "text": _text,
}
