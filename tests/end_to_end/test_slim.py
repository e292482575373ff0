"""A Keras SavedModel without what only Keras' own loader needs does the same."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple

import numpy as np
import pytest

import hub_compat
from hub_compat._tf import tf

pytestmark = [pytest.mark.tensorflow, pytest.mark.keras2]


class Saved(NamedTuple):
    """A saved model, and arguments for what was loaded of it."""

    path: str
    inputs: Any


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("HUB_COMPAT_CACHE_DIR", str(folder))
        yield


def _names() -> List[str]:
    from slim_models import LATER, MODELS

    later = [] if tf.__version__.startswith("1.") else list(LATER)
    return sorted(list(MODELS) + later)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: Any) -> Any:
    """Saves a model by its name, once."""
    from slim_models import LATER, MODELS

    from hub_compat._tf.keras import keras2

    made: Dict[str, Saved] = {}

    def save(name: str) -> Saved:
        if name not in made:
            builder = {**MODELS, **LATER}[name]
            model, inputs = builder(keras2())
            path = str(tmp_path_factory.mktemp(name) / "model")
            model.save(path, save_format="tf")
            made[name] = Saved(path, inputs)
        return made[name]

    return save


def _call(loaded: Any, inputs: Any, training: bool) -> Any:
    tensors = tf.nest.map_structure(tf.constant, inputs)
    with tf.GradientTape(persistent=True) as tape:
        outputs = loaded(tensors, training=training)
        flat = tf.nest.flatten(outputs)
        total = tf.add_n([tf.reduce_sum(tf.square(x)) for x in flat])
        losses = [loss() for loss in loaded.regularization_losses]
        total += tf.add_n(losses) if losses else 0.0
    gradients = tape.gradient(total, loaded.trainable_variables)
    return flat, losses, [_dense(g) for g in gradients], list(loaded.variables)


def _dense(gradient: Any) -> Any:
    return None if gradient is None else tf.convert_to_tensor(gradient).numpy()


def _equal(one: Any, other: Any) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.eager
@pytest.mark.parametrize(
    "name",
    ["convolutions", "functional", "own_gradient"]
    + ["recurrent", "subclassed", "mixed", "text"],
)
def test_a_slim_model_computes_the_same(saved: Any, name: str) -> None:
    """Outputs, losses, gradients and new states are bit for bit those of the whole."""
    if name not in _names():
        pytest.skip("Keras of TensorFlow 1.15 has no such layer")
    model = saved(name)
    whole = hub_compat.load(model.path)
    slim = hub_compat.load(model.path, slim=True)
    assert not hasattr(slim, "keras_api") and hasattr(whole, "keras_api")
    for attribute in ("variables", "trainable_variables"):
        assert [(v.name, v.shape, v.dtype) for v in getattr(whole, attribute)] == [
            (v.name, v.shape, v.dtype) for v in getattr(slim, attribute)
        ]
    for training in (False, True, False):
        for one, other in zip(
            _call(whole, model.inputs, training), _call(slim, model.inputs, training)
        ):
            _equal(one, other)
    given = whole.signatures["serving_default"].structured_input_signature[1]
    flat = dict(zip(sorted(given), tf.nest.flatten(model.inputs)))
    feeds = {name: tf.constant(value) for name, value in flat.items()}
    one = whole.signatures["serving_default"](**feeds)
    other = slim.signatures["serving_default"](**feeds)
    assert sorted(one) == sorted(other)
    _equal([one[key] for key in sorted(one)], [other[key] for key in sorted(one)])
