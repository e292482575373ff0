"""Sub-classes over the private names of tensorflow_hub's layer do what they did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from choices import ROWS, saved
from keras_kit import IMAGES, Keras, path

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


def test_what_is_set_counts(k: Keras, tmp_path: Path) -> None:
    """A function, arguments and an output that a sub-class sets are those of calls."""
    directory = saved(tmp_path)

    class Wrapped(k.Layer):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **keywords: Any) -> None:
            # tensorflow_hub's sets it anew.
            self._arguments = {"nothing": 1}
            super().__init__(*args, **keywords)
            assert self._arguments == {}
            inner = self._callable
            self._callable = lambda x, factor=1.0: inner(x) * factor
            self._arguments = {"factor": 10.0}

    layer = Wrapped(directory)
    np.testing.assert_allclose(layer(ROWS), np.full((2, 2), 30.0))
    assert layer.get_config()["arguments"] == {"factor": 10.0}
    layer._handle = "elsewhere"
    assert layer.get_config()["handle"] == "elsewhere"


def test_a_hub_module_is_its_default_signature(k: Keras) -> None:
    """There the function returns all outputs, of which one is the layer's."""
    plain = np.asarray(k.Layer(path("image_bn"))(IMAGES))

    class Doubled(k.Layer):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            inner, key = self._callable, self._output_key
            assert key == self._signature == "default"
            assert not self._has_training_argument
            self._callable = lambda images: {key: 2.0 * inner(images)[key]}

    found = k.model(Doubled(path("image_bn"))).layers[1](IMAGES)
    np.testing.assert_allclose(found, 2.0 * plain, rtol=1e-5)

    class Named(k.Layer):  # type: ignore[misc, name-defined]
        def _get_callable(self) -> Any:
            inner = super()._get_callable()
            return lambda images: inner(images)

    layer = Named(path("image_bn"))
    for inputs in (IMAGES, {"images": IMAGES}):
        np.testing.assert_allclose(layer(inputs), plain, rtol=1e-5)


@pytest.mark.parametrize("signature", [None, "image_feature_vector"])
def test_another_output(signature: Any, k: Keras) -> None:
    """It is picked anew, also where one was computed alone."""
    name = "image_feature_vector"
    every = k.Layer(
        path("image_bn"), signature=name, signature_outputs_as_dict=True, trainable=True
    )(IMAGES)
    layer = k.Layer(path("image_bn"), signature=name, output_key="default")
    layer._output_key = "net/block1/conv"
    np.testing.assert_allclose(layer(IMAGES), every["net/block1/conv"], rtol=1e-5)
    layer._output_key = None
    assert sorted(layer(IMAGES)) == sorted(every)
    plain = k.Layer(path("image_bn"))
    plain._output_key = None
    assert sorted(plain(IMAGES)) == ["default"]


def test_what_is_overridden_is_called(k: Keras, tmp_path: Path) -> None:
    """Each private method has the part in the layer that it had."""
    calls = []

    class Own(k.Layer):  # type: ignore[misc, name-defined]
        def _setup_layer(self, trainable: bool = False, **keywords: Any) -> None:
            super()._setup_layer(trainable, **keywords)
            self.gain = self.add_weight(name="gain", shape=(), initializer="ones")

        def _get_callable(self) -> Any:
            inner = super()._get_callable()
            return lambda x: inner(x) + 1.0

        def _add_existing_weight(self, weight: Any, trainable: Any = None) -> None:
            super()._add_existing_weight(weight, trainable=False)

        def _check_trainability(self) -> None:
            calls.append(self.trainable)

        def _apply_output_shape_if_set(self, inputs: Any, outputs: Any) -> Any:
            return 10.0 * super()._apply_output_shape_if_set(inputs, outputs)

        def call(self, inputs: Any, training: Any = None) -> Any:
            return super().call(inputs, training=training) * self.gain

    layer = Own(saved(tmp_path), trainable=True)
    model = k.keras.Sequential([k.keras.Input(shape=(3,)), layer])
    model.compile("sgd", "mse")
    np.testing.assert_allclose(model.predict(ROWS, verbose=0), np.full((2, 2), 40.0))
    assert calls
    assert len(layer.trainable_weights) == 1
    assert len(layer.weights) == 2
    model.fit(ROWS, np.zeros((2, 2)), verbose=0)
    assert float(layer.gain.numpy()) != 1.0


def test_losses_of_a_sub_class(k: Keras) -> None:
    """_call_loss_if_trainable() makes of each loss what is added."""

    class Twice(k.Layer):  # type: ignore[misc, name-defined]
        def _call_loss_if_trainable(self, loss: Any) -> Any:
            inner = super()._call_loss_if_trainable(loss)
            return lambda: 2.0 * inner()

    plain, twice = (
        sum(float(loss) for loss in kind(path("image_bn"), trainable=True).losses)
        for kind in (k.Layer, Twice)
    )
    assert plain > 0.0
    np.testing.assert_allclose(twice, 2.0 * plain, rtol=1e-6)
