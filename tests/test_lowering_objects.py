"""Objects of a newer TensorFlow, for a loader that knows less of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import replay
from edits import edited_copy

import hub_compat as hub
from hub_compat import errors

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


def test_defaults_beyond_the_signature(tmp_path: Path) -> None:
    """A function is called without what its input_signature leaves out."""
    import tensorflow as tf

    root = tf.train.Checkpoint(scale=tf.Variable([2.0]))
    root.run = tf.function(lambda x, training=None, mask=None: x * root.scale)
    root.run.get_concrete_function(tf.TensorSpec([None], tf.float32))
    tf.saved_model.save(root, str(tmp_path / "m"))

    def as_newer(proto: Any) -> None:
        """TF 2.21 writes so what has input_signature=[one TensorSpec]."""
        (meta_graph,) = proto.meta_graphs
        meta_graph.meta_info_def.tensorflow_version = "2.99.0"
        (function,) = [
            node.function
            for node in meta_graph.object_graph_def.nodes
            if node.HasField("function")
        ]
        spec = function.function_spec.input_signature.tuple_value.values.add()
        spec.tensor_spec_value.dtype = 1
        spec.tensor_spec_value.shape.dim.add(size=-1)

    path = edited_copy(tmp_path / "m", tmp_path / "newer", as_newer)
    result = hub.load(path).run(replay.tensor(np.array([1.0, 3.0], np.float32)))
    np.testing.assert_array_equal(result, [2.0, 6.0])


def test_package_of_an_op_is_named(tmp_path: Path) -> None:
    """Where TensorFlow lacks an op of a known package, the error names that."""
    import tensorflow as tf

    root = tf.train.Checkpoint()
    specs = [tf.TensorSpec([None], tf.float32)]
    root.run = tf.function(lambda x: tf.sin(x), input_signature=specs)
    tf.saved_model.save(root, str(tmp_path / "m"))

    def foreign(proto: Any) -> None:
        for function in proto.meta_graphs[0].graph_def.library.function:
            for node in function.node_def:
                if node.op == "Sin":
                    node.op = "SentencepieceOp"

    path = edited_copy(tmp_path / "m", tmp_path / "foreign", foreign)
    with pytest.raises(
        errors.UnknownOpError, match="SentencepieceOp: .*tensorflow-text"
    ):
        hub.load(path)
