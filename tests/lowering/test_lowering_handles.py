"""Models of a newer TensorFlow whose functions say that handles are scalars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runtimes

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]

X = np.full((3, 4), 0.1, np.float32)
INDICES = np.array([[0, 1], [2, 3]], np.int32)


def write(path: Path) -> None:
    """A step of an optimizer, and elements read and written."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    class Step(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(np.arange(12.0, dtype=np.float32).reshape(3, 4))
            self.slot = tf.Variable(tf.zeros([3, 4]))

        @tf.function(
            input_signature=[
                tf.TensorSpec([3, 4], tf.float32),
                tf.TensorSpec([2, 2], tf.int32),
            ]
        )
        def __call__(self, x: Any, i: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(self.w * x - 1.0))
            tf.raw_ops.ResourceApplyMomentum(
                var=self.w.handle,
                accum=self.slot.handle,
                lr=0.1,
                grad=tape.gradient(loss, self.w),
                momentum=0.9,
            )
            found = tf.raw_ops.ResourceGatherNd(
                resource=self.w.handle, indices=i, dtype=tf.float32
            )
            tf.raw_ops.ResourceScatterNdUpdate(
                ref=self.w.handle, indices=i, updates=[1.0, 2.0]
            )
            return {"loss": loss, "found": found, "w": self.w.read_value()}

    v2 = tf.compat.v2
    step = Step()
    v2.saved_model.save(step, str(path), signatures={"serving_default": step.__call__})
    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta_graph in model.meta_graphs:
        meta_graph.meta_info_def.tensorflow_version = "2.21.0"
        meta_graph.graph_def.versions.producer = 2000
        for function in meta_graph.graph_def.library.function:
            # TensorFlow 1.15 writes nothing.
            shapes = function.attr["_input_shapes"].list
            if not shapes.shape:
                for arg in function.signature.input_arg:
                    shapes.shape.add(unknown_rank=arg.type != tf.resource)
    file.write_bytes(model.SerializeToString())


def test_step_of_an_optimizer(tmp_path: Path) -> None:
    """It loads in each TensorFlow, and steps."""
    import tensorflow as tf

    write(tmp_path / "model")
    given = {"x": tf.constant(X), "i": tf.constant(INDICES)}
    with runtimes.Runtime(lambda: hub.load(tmp_path / "model")) as run:
        loaded = run.loaded
        first = run.run(dict(loaded.signatures["serving_default"](**given)))
        second = run.run(dict(loaded.signatures["serving_default"](**given)))
    np.testing.assert_allclose(first["loss"], 3.86, rtol=1e-5)
    np.testing.assert_allclose(first["found"], [1.018, 10.998], rtol=1e-5)
    np.testing.assert_allclose(second["loss"], 4.4778519, rtol=1e-5)
    np.testing.assert_allclose(second["found"], [1.0342, 2.0142], rtol=1e-5)


def test_target(tmp_path: Path) -> None:
    """What is written for TensorFlow 1.15 says nothing of such handles."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    write(tmp_path / "model")
    hub.convert(tmp_path / "model", tmp_path / "lowered", target="tf1.15")
    file = tmp_path / "lowered" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    handles = 0
    for function in model.meta_graphs[0].graph_def.library.function:
        if any(node.op.startswith("ResourceApply") for node in function.node_def):
            shapes = function.attr["_input_shapes"].list.shape
            for arg, shape in zip(function.signature.input_arg, shapes):
                if arg.type == tf.resource:
                    handles += 1
                    assert shape.unknown_rank
    assert handles
