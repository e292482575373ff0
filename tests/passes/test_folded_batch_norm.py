"""Graphs that tf.contrib.quantize made for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import replay
import runtimes

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

X = (np.arange(16, dtype=np.float32) % 5).reshape(2, 2, 2, 2)


def test_moments_have_the_gradient_that_contrib_gave_them(tmp_path: Path) -> None:
    """Training goes through the moments of batch norms that are folded into weights."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2, 2, 2], name="x")
        weights = v1.get_variable("w", initializer=np.array([1.5, -0.5], np.float32))
        # As tf.contrib.quantize.create_training_graph does it.
        with graph.gradient_override_map(
            {"FusedBatchNormV3": "FoldFusedBatchNormGrad"}
        ):
            _, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x * weights,
                scale=tf.ones([2]),
                offset=tf.zeros([2]),
                mean=tf.constant([], tf.float32),
                variance=tf.constant([], tf.float32),
                is_training=True,
            )
        session.run(v1.global_variables_initializer())
        outputs = {"mean": mean, "variance": variance}
        v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, outputs)
    with runtimes.Runtime(lambda: hub.load(tmp_path / "m")) as runtime:
        signature = runtime.loaded.signatures["serving_default"]
        found = runtime.run(signature(x=replay.tensor(X)))

        def loss() -> tf.Tensor:
            results = signature(x=replay.tensor(X))
            factors = {"mean": [1.0, 2.0], "variance": [3.0, -1.0]}
            return tf.add_n([tf.reduce_sum(results[k] * factors[k]) for k in factors])

        (gradient,) = runtime.gradients(loss, runtime.loaded.trainable_variables)
    # Of TensorFlow 1.15.5, with the gradient that tf.contrib.quantize registers.
    np.testing.assert_allclose(found["mean"], [3.0, -0.875], rtol=1e-6)
    np.testing.assert_allclose(found["variance"], [5.785714626, 0.553571463], rtol=1e-6)
    np.testing.assert_allclose(gradient, [25.14286041, 5.714285374], rtol=1e-6)
