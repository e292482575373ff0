"""Variables whose shape the graph does not say: ``validate_shape=False``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runtimes
from tf1_loops import old_control_flow

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

KERNEL = np.arange(6.0, dtype=np.float32).reshape(3, 2)
X = np.array([[1.0, -2.0, 0.5]], np.float32)


def write(path: Path, resource: bool, grows: bool = True) -> None:
    """A product with such a variable, and one whose shape a signature changes.

    Args:
      path: the directory.
      resource: what kind of variable.
      grows: whether there is such a signature.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    with old_control_flow(), tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")

        def unknown(name: str) -> Any:
            start = v1.placeholder_with_default(KERNEL, None)
            return v1.get_variable(
                name, initializer=start, validate_shape=False, use_resource=resource
            )

        kernel, grown = unknown("kernel"), unknown("grown")
        assert kernel.shape.ndims is None
        longer = v1.concat([v1.reshape(grown, [-1, 2])] * 2, 0)
        write = v1.assign(grown, longer, validate_shape=False)
        with v1.control_dependencies([write if not resource else write.op]):
            total = v1.reduce_sum(grown)
        predict = v1.saved_model.predict_signature_def
        signatures = {"serving_default": predict({"x": x}, {"y": v1.matmul(x, kernel)})}
        if grows:
            signatures["grow"] = predict({"x": x}, {"total": total})
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


@pytest.mark.parametrize("resource", [False, True], ids=["reference", "resource"])
def test_shapes(resource: bool, tmp_path: Path) -> None:
    """The checkpoint says the shape of what no signature replaces."""
    import tensorflow as tf

    write(tmp_path / "model", resource)
    with runtimes.Runtime(lambda: hub.load(tmp_path / "model")) as run:
        variables = {v.name.split(":")[0]: v for v in run.loaded.variables}
        assert variables["kernel"].shape.as_list() == [3, 2]
        assert variables["grown"].shape.ndims is None
        serve = run.loaded.signatures["serving_default"]
        x = tf.constant(X)
        (gradient,) = run.differentiate(
            lambda: tf.reduce_sum(serve(x=x)["y"]), [variables["kernel"]]
        )
        assert gradient.shape.as_list() == [3, 2]
        np.testing.assert_allclose(run.run(gradient), np.repeat(X.T, 2, 1))
        np.testing.assert_allclose(run.run(serve(x=x)["y"]), X @ KERNEL)
        # What a session gives: a reference that gets another shape gets new memory, and
        # what was read of it before stays.
        for turn in (2, 4) if resource else (1, 2):
            total = run.run(run.loaded.signatures["grow"](x=x)["total"])
            assert total == turn * KERNEL.sum()


@pytest.mark.keras3
@pytest.mark.parametrize("grows", [False, True], ids=["fixed", "grows"])
def test_keras_layer(grows: bool, tmp_path: Path) -> None:
    """A layer of Keras 3 trains it, also where another signature changes its shape."""
    import keras

    write(tmp_path / "model", False, grows=grows)
    from hub_compat.keras3 import KerasLayer

    layer = KerasLayer(str(tmp_path / "model"), trainable=True)
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    model.fit(X, np.zeros((1, 2), np.float32), verbose=0)
    assert [tuple(w.shape) for w in layer.trainable_weights] == [(3, 2), (3, 2)]
    changed = [not np.allclose(w.numpy(), KERNEL) for w in layer.trainable_weights]
    assert sorted(changed) == [False, True]
