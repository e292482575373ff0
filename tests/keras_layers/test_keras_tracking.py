"""KerasLayer within other layers and models: its weights are known, or it is said."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, List

import expected
import numpy as np
import pytest
from environment import executes_eagerly
from keras_kit import IMAGES, TARGETS, Keras, path

pytestmark = pytest.mark.tensorflow

LOST = "neither trained nor saved"


def summary(model: Any) -> str:
    """What model.summary() prints."""
    lines: List[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    return "\n".join(lines)


def in_a_lambda(k: Keras, layer: Any) -> Any:
    """Called by a function that Keras does not look into."""
    return k.keras.layers.Lambda(lambda x: layer(x))


def in_a_function(k: Keras, layer: Any) -> Any:
    """The same, traced."""
    import tensorflow as tf

    return k.keras.layers.Lambda(tf.function(lambda x: layer(x)), output_shape=(6,))


def in_a_closure(k: Keras, layer: Any) -> Any:
    """Called by a layer that has no attribute with it."""

    class Outer(k.keras.layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return layer(x)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (input_shape[0], 6)

    return Outer()


@pytest.mark.parametrize("wrap", [in_a_lambda, in_a_function, in_a_closure])
@pytest.mark.parametrize("trainable", [True, False])
def test_lost_weights_are_said(wrap: Any, trainable: bool, k: Keras) -> None:
    """Where Keras cannot know the weights, the first call warns of it."""
    layer = k.Layer(path("image_bn"), trainable=trainable, name="module")
    inputs = k.keras.Input(shape=(8, 8, 3))
    outer = wrap(k, layer)

    def build_and_predict() -> Any:
        # Keras 3 takes the shape from the outer layer and may call it later.
        model = k.keras.Model(inputs, outer(inputs))
        model.predict(IMAGES, verbose=0)
        return model

    with pytest.warns(UserWarning, match="'module' is part of .*" + LOST):
        model = build_and_predict()
    assert not any(w is v for w in model.weights for v in layer.weights)


def attribute(k: Keras, layer: Any) -> Any:
    """A layer with the module as an attribute."""

    class Outer(k.keras.layers.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.module = layer

        def call(self, x: Any) -> Any:
            return self.module(x)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (input_shape[0], 6)

    return Outer()


def in_a_list(k: Keras, layer: Any) -> Any:
    """A layer with a list of a dict of modules."""

    class Outer(k.keras.layers.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.modules = [{"one": layer}]

        def call(self, x: Any) -> Any:
            return self.modules[0]["one"](x)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (input_shape[0], 6)

    return Outer()


def sequential(k: Keras, layer: Any) -> Any:
    """A model in a model."""
    return k.keras.Sequential([layer])


def subclassed(k: Keras, layer: Any) -> Any:
    """A model with the module as an attribute of an attribute."""
    inner = attribute(k, layer)

    class Outer(k.keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def call(self, x: Any) -> Any:
            return self.inner(x)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (input_shape[0], 6)

    return Outer()


def functional(k: Keras, layer: Any) -> Any:
    """A functional model, which calls it twice."""
    inputs = k.keras.Input(shape=(8, 8, 3))
    return k.keras.Model(inputs, k.keras.layers.Add()([layer(inputs), layer(inputs)]))


@pytest.mark.parametrize(
    "wrap", [attribute, in_a_list, sequential, subclassed, functional]
)
def test_weights_within_others(wrap: Any, k: Keras) -> None:
    """Each weight is there once, counted, and trained, with the module's losses."""
    recorded = expected.load_expected("image_bn")
    layer = k.Layer(path("image_bn"), trainable=True)
    inputs = k.keras.Input(shape=(8, 8, 3))
    model = k.keras.Model(inputs, k.keras.layers.Dense(1)(wrap(k, layer)(inputs)))
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    assert len(model.trainable_weights) == 8 + 2
    assert len(model.non_trainable_weights) == len(layer.non_trainable_weights)
    wanted = sum(int(np.size(value)) for value in recorded.variables.values())
    assert layer.count_params() == wanted
    assert model.count_params() == wanted + 7
    assert str(wanted + 7) in summary(model)
    before = layer.get_weights()
    model.fit(IMAGES, TARGETS, verbose=0)
    changed = [np.any(a != b) for a, b in zip(before, layer.get_weights())]
    # All but the bias of another signature.
    assert sum(changed) == len(changed) - 1
    if executes_eagerly():
        assert len(model.losses) >= 1


@pytest.mark.keras3
@pytest.mark.tf2
def test_another_backend_is_refused() -> None:
    """Keras 3 on another backend, working or not: the error says what to set."""
    code = (
        "import hub_compat as hub\n"
        "for name in ('hub_compat', 'hub_compat.keras3'):\n"
        "    try:\n"
        "        __import__(name, fromlist=['x']).KerasLayer\n"
        "    except hub.errors.MissingDependencyError as error:\n"
        "        print('KERAS_BACKEND=tensorflow' in str(error), error)\n"
        "from hub_compat.keras2 import KerasLayer\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=dict(
            os.environ, KERAS_BACKEND="numpy", PYTHONPATH=os.pathsep.join(sys.path)
        ),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("True") and "numpy" in line for line in lines)
