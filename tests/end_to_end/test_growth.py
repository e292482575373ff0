"""What a load takes goes with the loaded object, and not before its last user."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

import hub_compat as hub
from hub_compat._tf import gradients as _gradients

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


def graphs() -> List[Any]:
    """The graphs of functions that there are."""
    gc.collect()
    return [found for found in gc.get_objects() if type(found).__name__ == "FuncGraph"]


def use(testdata: Path) -> Any:
    """Loads a module and calls it."""
    import tensorflow as tf

    loaded = hub.load(testdata / "image_bn" / "module")
    images = tf.ones([1, 8, 8, 3])
    return loaded.signatures["default"](images)["default"].numpy()


def test_no_load_leaves_a_graph_behind(testdata: Path) -> None:
    """TF 1.15 keeps a gradient, and with it the graph, of each function for ever."""
    first = use(testdata)
    # Weakly: what earlier tests of this process left may go at any time.
    before = weakref.WeakSet(graphs())
    gradients = len(_gradients.gradients_of_functions())
    for _ in range(2):
        again = use(testdata)
        np.testing.assert_allclose(first, again, rtol=1e-5)
    assert len([graph for graph in graphs() if graph not in before]) == 0
    assert len(_gradients.gradients_of_functions()) <= gradients


def test_a_function_outlives_what_it_calls(testdata: Path) -> None:
    """It has a gradient when the loaded object is gone."""
    import tensorflow as tf

    loaded = hub.load(testdata / "image_bn" / "module")
    variables = loaded.trainable_variables
    images = tf.ones([1, 8, 8, 3])
    signature = loaded.signatures["default"]

    @tf.function(autograph=False)
    def call(x: Any) -> Any:
        return tf.reduce_sum(signature(x)["default"] ** 2)

    with tf.GradientTape() as tape:
        wanted = call(images)
    wanted = tape.gradient(wanted, variables)
    function = call.get_concrete_function(tf.TensorSpec([2, 8, 8, 3], tf.float32))
    # Functions of TensorFlow's own hold no variables.
    kept = signature._hub_compat_state
    assert kept
    loaded = signature = call = None
    gc.collect()
    with tf.GradientTape() as tape:
        loss = function(tf.concat([images, images], 0))
    for one, other in zip(wanted, tape.gradient(loss, variables)):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(other, one * 2.0, rtol=1e-4)
