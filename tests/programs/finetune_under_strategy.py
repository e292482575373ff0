"""Trains a module that hub_compat loads under a strategy; prints JSON.

A program of its own: logical devices must be set up before TensorFlow starts::

    python finetune_under_strategy.py MODULE SIZE
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any, Tuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from finetune_with_tensorflow_hub import two_cpus  # noqa: E402

import hub_compat as hub  # noqa: E402


def train(strategy: Any, directory: str, x: np.ndarray) -> Tuple[Any, ...]:
    """Takes three steps of gradient descent; returns losses and weights."""
    with strategy.scope():
        loaded = hub.load(directory)
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.1)
    replicas = strategy.num_replicas_in_sync
    run = getattr(strategy, "run", None) or strategy.experimental_run_v2
    parts = np.split(x, replicas)

    def step(images: Any) -> Any:
        with tf.GradientTape() as tape:
            # Both halves of a batch weigh the same.
            loss = tf.reduce_mean(tf.square(loaded(images) - 1.0)) / replicas
            loss += sum(r() for r in loaded.regularization_losses) / replicas
        gradients = tape.gradient(loss, loaded.trainable_variables)
        pairs = zip(gradients, loaded.trainable_variables)
        # Other signatures' variables have no gradient.
        optimizer.apply_gradients([pair for pair in pairs if pair[0] is not None])
        return loss

    @tf.function
    def distributed(values: Any) -> Any:
        losses = run(step, args=(values,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def pick() -> Any:
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.gather(np.stack(parts), index)

    @tf.function
    def batch() -> Any:
        return run(pick)

    losses = [float(distributed(batch())) for _ in range(3)]
    kinds = {type(v).__name__ for v in loaded.variables}
    weights = {
        v.name.split(":")[0]: float(np.sum(np.abs(v.numpy())))
        for v in loaded.trainable_variables
    }
    return losses, weights, sorted(kinds)


def main(directory: str, size: int) -> None:
    """Trains on one device and on two."""
    devices = two_cpus()
    x = np.random.RandomState(0).rand(8, size, size, 3).astype(np.float32)
    one = train(tf.distribute.OneDeviceStrategy("/cpu:0"), directory, x)
    two = train(tf.distribute.MirroredStrategy(devices), directory, x)
    json.dump({"one": one, "two": two}, sys.stdout)


if __name__ == "__main__":
    if tf.__version__.startswith("1."):
        tf.compat.v1.enable_v2_behavior()
    main(sys.argv[1], int(sys.argv[2]))
