"""Which Keras a program has, and what was saved with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROWS = np.ones((2, 3), np.float32)


def saved(tmp_path: Path) -> str:
    """The directory of a module of one matrix."""
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(tf.ones([3, 2]))
    module.__call__ = tf.function(
        lambda x: tf.matmul(x, module.weight), [tf.TensorSpec([None, 3], tf.float32)]
    )
    tf.saved_model.save(module, str(tmp_path / "module"))
    return str(tmp_path / "module")
