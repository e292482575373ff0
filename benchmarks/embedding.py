"""Writes a TF1 Hub module that is one big variable: ``embedding.py embedding OUT``.

Run by ``models.py`` under TensorFlow 1.15. The embedding of testdata/scripts/large.py
has its variable in parts, as such modules have; TensorFlow cannot load and save that,
so there would be nothing to compare with.
"""

from __future__ import annotations

import argparse

import tensorflow as tf
import tensorflow_hub as hub

WIDTH = 128


def main() -> None:
    """Writes the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["embedding"])
    parser.add_argument("out", help="the directory to write")
    parser.add_argument("--megabytes", type=int, required=True)
    options = parser.parse_args()

    def build() -> None:
        rows = options.megabytes * 10**6 // (4 * WIDTH)
        ids = tf.placeholder(tf.int64, [None])
        # Values that no file system can leave out, as it can zeros.
        start = tf.random_uniform_initializer(-0.1, 0.1)
        table = tf.get_variable("table", [rows, WIDTH], initializer=start)
        hub.add_signature(inputs=ids, outputs=tf.nn.embedding_lookup(table, ids))

    spec = hub.create_module_spec(build)
    with tf.Graph().as_default():
        module = hub.Module(spec)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            module.export(options.out, session)


if __name__ == "__main__":
    main()
