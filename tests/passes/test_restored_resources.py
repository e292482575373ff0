"""Tables whose contents are in the checkpoint of a TF1 SavedModel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import replay
import runtimes

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

WORDS = np.array([b"b", b"c", b"z"], object)


def write(path: Path) -> None:
    """A table that a program filled while it ran, under a SavedModel's saver."""
    import tensorflow as tf
    from tensorflow.python.ops import lookup_ops

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder(tf.string, [None], name="words")
        table = lookup_ops.MutableHashTable(tf.string, tf.float32, -1.0)
        scale = v1.get_variable("scale", initializer=[2.0])
        found = table.lookup(words) * scale
        session.run(v1.global_variables_initializer())
        session.run(table.insert(tf.constant(["b", "c"]), tf.constant([0.5, 1.5])))
        inputs, outputs = {"words": words}, {"found": found}
        v1.saved_model.simple_save(session, str(path), inputs, outputs)


def test_contents_of_a_table(tmp_path: Path) -> None:
    """A table that changes at run time comes up with what the saver restores."""
    write(tmp_path / "source")
    wanted = np.array([1.0, 3.0, -2.0], np.float32)
    hub.convert(tmp_path / "source", tmp_path / "out")
    for directory in ("source", "out"):
        with runtimes.Runtime(lambda d=directory: hub.load(tmp_path / d)) as runtime:
            found = runtime.run(runtime.loaded(replay.tensor(WORDS)))
            np.testing.assert_array_equal(found, wanted)


def test_dense_tables(tmp_path: Path) -> None:
    """Dense tables, of numbers and of words, hold what saver and init op put in."""
    import tensorflow as tf
    from tensorflow.python.ops import lookup_ops

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        ids = v1.placeholder(tf.int64, [None], name="ids")
        saved = lookup_ops.DenseHashTable(
            tf.int64, tf.float32, -1.0, empty_key=0, deleted_key=-7
        )
        filled = lookup_ops.DenseHashTable(
            tf.string, tf.float32, [-1.0, -2.0], "", "#", checkpoint=False
        )
        scale = v1.get_variable("scale", initializer=[2.0])
        session.run(v1.global_variables_initializer())
        session.run(saved.insert(tf.constant([3, 4, 5], tf.int64), [0.5, 1.5, 9.0]))
        session.run(saved.remove(tf.constant([5], tf.int64)))
        outputs = {
            "saved": saved.lookup(ids) * scale,
            "filled": filled.lookup(tf.as_string(ids)),
            "size": saved.size(),
        }
        builder = v1.saved_model.Builder(str(tmp_path / "source"))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": v1.saved_model.predict_signature_def(
                    {"ids": ids}, outputs
                )
            },
            main_op=filled.insert(tf.constant(["3"]), [[5.0, 6.0]]),
        )
        builder.save()
    hub.convert(tmp_path / "source", tmp_path / "out", verify=True)
    for directory in ("source", "out"):
        with runtimes.Runtime(lambda d=directory: hub.load(tmp_path / d)) as runtime:
            given = replay.tensor(np.array([3, 4, 5], np.int64))
            found = runtime.run(runtime.loaded(given))
            np.testing.assert_array_equal(found["saved"], [1.0, 3.0, -2.0])
            np.testing.assert_array_equal(found["filled"], [[5, 6], [-1, -2], [-1, -2]])
            assert found["size"] == 2
