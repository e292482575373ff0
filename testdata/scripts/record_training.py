"""Records how hub.Module trains image_bn, for the tests of graph mode.

For TensorFlow 1.15 and tensorflow_hub 0.12, which are the original runtime::

    python testdata/scripts/record_training.py    # writes testdata/training.json
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

HERE = Path(__file__).resolve().parents[1]
STEPS, RATE = 4, 0.1


def batch(step: int) -> np.ndarray:
    """Images, float32 [4, 8, 8, 3]."""
    return np.random.RandomState(step).rand(4, 8, 8, 3).astype(np.float32)


def train(waits: bool) -> Dict[str, Any]:
    """Gradient descent on the features, their wish 1.0, and the module's losses."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, 8, 8, 3])
        module = hub.Module(
            str(HERE / "image_bn" / "module"), trainable=True, tags={"train"}
        )
        loss = tf.reduce_mean(tf.square(module(images) - 1.0))
        loss += tf.losses.get_regularization_loss()
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS) if waits else []
        with tf.control_dependencies(updates):
            step = tf.train.GradientDescentOptimizer(RATE).minimize(loss)
        with tf.Session(graph=graph) as session:
            session.run(tf.global_variables_initializer())
            losses = [
                session.run([loss, step], {images: batch(number)})[0]
                for number in range(STEPS)
            ]
            variables = session.run(module.variable_map)
        return {
            "losses": [float(value) for value in losses],
            "variables": {
                name: np.asarray(value, np.float64).ravel().tolist()
                for name, value in sorted(variables.items())
            },
        }


def main() -> None:
    """Writes what a loop that runs UPDATE_OPS gives, and one that does not."""
    recorded = {"waits": train(True), "does_not_wait": train(False)}
    text = json.dumps(recorded, indent=1, sort_keys=True) + "\n"
    (HERE / "training.json").write_text(text)


if __name__ == "__main__":
    main()
