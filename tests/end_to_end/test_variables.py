"""What load() returns lists its variables, whatever the model's root was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import pytest

import hub_compat as hub

tf = pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


def module() -> Any:
    """A module with variables in lists, dicts and other modules, some frozen."""
    found = tf.Module()
    found.layers = [tf.Variable(float(i)) for i in range(12)]
    found.named = {"b": tf.Variable(20.0), "a": [tf.Variable(30.0, trainable=False)]}
    found.inner = tf.Module()
    found.inner.weight = tf.Variable(40.0)
    found.last = tf.Variable(50.0)
    spec = tf.TensorSpec([], tf.float32)
    found.call = tf.function(
        lambda x: x * found.layers[3] * found.inner.weight, input_signature=[spec]
    )
    return found


def values(variables: List[Any]) -> List[float]:
    """What variables hold."""
    return [float(variable.numpy()) for variable in variables]


def test_module_lists_them_in_its_order(tmp_path: Path) -> None:
    """A tf.Module's list is what a class computes, and in no SavedModel."""
    saved = module()
    tf.saved_model.save(saved, str(tmp_path))
    loaded = hub.load(tmp_path)
    assert values(loaded.variables) == values(saved.variables)
    assert values(loaded.trainable_variables) == values(saved.trainable_variables)
    loaded.variables[-1].assign(8.0)
    assert float(loaded.call(tf.constant(1.0)).numpy()) == 24.0


def test_roots_of_every_kind(tmp_path: Path) -> None:
    """A checkpoint, an object with an empty list, and one without variables."""
    inner = module()
    empty = tf.train.Checkpoint(model=inner)
    empty.variables = []
    plain = tf.Module()
    plain.call = tf.function(
        lambda x: x + 1.0, input_signature=[tf.TensorSpec([], tf.float32)]
    )
    step = tf.Variable(5.0, trainable=False)
    roots = {
        "checkpoint": tf.train.Checkpoint(model=inner, step=step),
        "empty": empty,
        "plain": plain,
    }
    counts = {}
    for name, root in roots.items():
        tf.saved_model.save(root, str(tmp_path / name))
        loaded = hub.load(tmp_path / name)
        listed = {v.name for v in loaded.variables} - {"save_counter:0"}
        counts[name] = (
            len([v for v in loaded.variables if "save_counter" not in v.name]),
            len(loaded.trainable_variables),
        )
        assert len(listed) <= counts[name][0]
    assert counts == {"checkpoint": (17, 15), "empty": (16, 15), "plain": (0, 0)}


def test_lists_of_the_model_stay(tmp_path: Path) -> None:
    """What the program listed is not added to, and nothing more is saved."""
    saved = module()
    root = tf.train.Checkpoint(model=saved)
    root.variables = [saved.last, saved.inner.weight]
    root.trainable_variables = []
    tf.saved_model.save(root, str(tmp_path))
    loaded = hub.load(tmp_path)
    assert values(loaded.variables) == [50.0, 40.0]
    assert list(loaded.trainable_variables) == []


def test_layer_has_what_its_function_uses(tmp_path: Path) -> None:
    """A KerasLayer of a module without lists still trains what it calls, no more."""
    saved = module()
    saved.__call__ = saved.call
    root = tf.train.Checkpoint()
    root.__call__ = saved.call
    root.inner = saved
    tf.saved_model.save(root, str(tmp_path))
    layer = hub.KerasLayer(str(tmp_path), trainable=True)
    assert sorted(values(layer.trainable_weights)) == [3.0, 40.0]
