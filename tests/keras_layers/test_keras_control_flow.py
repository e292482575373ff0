"""Modules with TF1's loops and branches inside of Keras models that train."""

from __future__ import annotations

from typing import Any, Dict

import expected
import numpy as np
import pytest
from keras_kit import Keras, path
from steps import same

pytestmark = pytest.mark.tensorflow

# In a branch with a variable.
ROWS = np.random.RandomState(0).uniform(size=(4, 3)).astype(np.float32) - 0.25
STEPS = np.random.RandomState(1).normal(size=(4, 4, 3)).astype(np.float32)
LENGTHS = np.array([4, 1, 2, 3], np.int32)


def model_of(k: Keras, layer: Any, lengths: bool) -> Dict[str, Any]:
    """A compiled model: a dense layer, the module, a dense layer."""
    keras = k.keras
    x = keras.Input(shape=(4, 3) if lengths else (3,), name="x")
    # The rows stay what they are, and which branch they take.
    before = keras.layers.Dense(3, kernel_initializer="identity")
    after = keras.layers.Dense(1)
    inputs: Any = x
    given: Any = ROWS
    taken: Any = before(x)
    if lengths:
        numbers = keras.Input(shape=(), dtype="int32", name="lengths")
        inputs = {"x": x, "lengths": numbers}
        given = {"x": STEPS, "lengths": LENGTHS}
        taken = dict(inputs, x=taken)
    outputs = after(keras.layers.Flatten()(layer(taken)))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01), keras.losses.MeanSquaredError())
    return {"model": model, "given": given, "before": before, "after": after}


@pytest.mark.parametrize(
    "module, signature",
    [
        ("loops", "cond_inside"),
        ("branches", "nested"),
        ("recurrent", "default"),
    ],
)
@pytest.mark.parametrize("trainable", [False, True], ids=["frozen", "trained"])
def test_fit_through_a_module(
    module: str, signature: str, trainable: bool, k: Keras
) -> None:
    """What is before and after trains with fit(), through frozen loops as well."""
    layer = k.Layer(
        path(module),
        trainable=trainable,
        signature=signature,
        output_key="default",
        output_shape=(4, 3) if module == "recurrent" else (3,),
    )
    made = model_of(k, layer, module == "recurrent")
    model, given, targets = made["model"], made["given"], np.ones((4, 1), np.float32)
    # A session has seen the graph, then, before there are gradients.
    before = [made[key].get_weights() for key in ("before", "after")]
    weights = layer.get_weights()
    model.fit(given, targets, batch_size=4, verbose=0)
    for key, values in zip(("before", "after"), before):
        for value, trained in zip(values, made[key].get_weights()):
            assert np.all(np.isfinite(trained))
            assert not same([value], [trained]), key
    assert same(weights, layer.get_weights()) != trainable


@pytest.mark.eager
def test_module_of_words_trains(k: Keras) -> None:
    """ELMo's shape, in a model of strings: every weight on the way is trained."""
    import tensorflow as tf

    recorded = expected.load_expected("language")
    (case,) = [c for c in recorded.cases if c.signature == "tokens"]
    layer = k.Layer(
        path("language"),
        trainable=True,
        signature="tokens",
        output_key=case.gradient_of,
        output_shape=(3, 8),
    )
    inputs = {
        "tokens": k.keras.Input(shape=(3,), dtype="string", name="tokens"),
        "sequence_len": k.keras.Input(shape=(), dtype="int32", name="sequence_len"),
    }
    outputs = k.keras.layers.Dense(1)(k.keras.layers.Flatten()(layer(inputs)))
    model = k.keras.Model(inputs, outputs)
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    names = [v.name.split(":")[0] for v in layer.resolved_object.variables]
    values = [v.numpy() for v in layer.resolved_object.variables]
    given = {name: tf.constant(value.tolist()) for name, value in case.inputs.items()}
    model.fit(given, np.ones((2, 1), np.float32), batch_size=2, verbose=0)
    changed = {
        name
        for name, value, variable in zip(names, values, layer.resolved_object.variables)
        if not same([value], [variable.numpy()])
    }
    assert changed == {
        name for name, g in case.gradients.items() if g is not None and np.any(g)
    }
