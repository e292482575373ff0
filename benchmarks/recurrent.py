"""Writes a TF1 Hub module with an LSTM of 100 steps: ``recurrent.py lstm OUT``.

``tf.nn.dynamic_rnn`` of an ``LSTMCell``, the shape of TF1's RNN modules.
"""

from __future__ import annotations

import argparse
import os

# Before TensorFlow is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402


def _lstm(steps: int, width: int) -> None:
    x = tf.placeholder(tf.float32, [None, steps, width], name="x")
    cell = tf.nn.rnn_cell.LSTMCell(width, forget_bias=0.0, name="lstm")
    outputs, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    hub.add_signature(inputs=x, outputs=outputs)


def main() -> None:
    """Writes the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["lstm"])
    parser.add_argument("out", help="the directory to write")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--width", type=int, default=128)
    options = parser.parse_args()
    spec = hub.create_module_spec(lambda: _lstm(options.steps, options.width))
    with tf.Graph().as_default():
        module = hub.Module(spec)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            module.export(options.out, session)


if __name__ == "__main__":
    main()
