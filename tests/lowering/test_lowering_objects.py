"""Objects of a newer TensorFlow, for a loader that knows less of them."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import replay
import smoke
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


DEFAULTS = Path(__file__).resolve().parents[2] / "testdata/tf221/module_defaults"


@pytest.mark.smoke(smoke.NEWER)
def test_default_values_that_are_tensors() -> None:
    """What a call leaves out has the value that the program gave it, by keyword too."""
    import tensorflow as tf

    model = hub.load(DEFAULTS / "module")
    one, two = tf.constant([1.0]), tf.constant([1.0, 2.0], tf.float64)
    found = {
        "none": model.alone(),
        "first": model.alone(tf.constant(2.0)),
        "keyword": model.alone(by=two),
        "signature": model.signed(one),
        "all": model.signed(one, tf.constant(5.0)),
    }
    wanted = {
        "none": [0.0, 3.0],
        "first": [0.0, 2.0],
        "keyword": [3.0, 6.0],
        "signature": [2.0],
        "all": [5.0],
    }
    assert {name: value.numpy().tolist() for name, value in found.items()} == wanted
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    negative = model(tf.constant(x), flag=tf.constant(False)).numpy()
    np.testing.assert_array_equal(negative, -model(tf.constant(x)).numpy())


@pytest.mark.parametrize(
    "value, back",
    [
        (np.zeros((0,), np.float32), []),
        (np.zeros((2, 0), np.int64), [[], []]),
        (np.zeros((0, 3), np.float32), None),
        (np.array(2**63, np.uint64), None),
        (np.array(1j), None),
        (np.array(b"\xff", object), None),
        (np.array([[True], [False]]), [[True], [False]]),
        (np.array("\u00e9", object), "\u00e9"),
        (np.array([0.5, np.inf], np.float16), [0.5, np.inf]),
    ],
)
def test_default_values_as_numbers(value: Any, back: Any) -> None:
    """An array becomes the lists that mean the same, or is not there for a call."""
    from hub_compat._tf import saved_object_graph_pb2, tensor_pb2, tf
    from hub_compat.converters.lowering import of_target
    from hub_compat.converters.lowering.specs import lower_specs, newer_specs

    proto: Any = tf.make_tensor_proto(value)
    assert isinstance(proto, tensor_pb2.TensorProto)
    data = proto.SerializeToString()
    objects = saved_object_graph_pb2.SavedObjectGraph()
    spec = objects.nodes.add().function.function_spec.fullargspec
    inner = spec.list_value.values.add()
    # numpy_value, which protos of TensorFlow 1.15 do not know.
    assert len(data) < 128
    inner.MergeFromString(b"\xc2\x03" + bytes([len(data)]) + data)
    registry = of_target("tf1.15")
    assert newer_specs(objects, registry)
    lower_specs(objects, registry, collections.Counter())
    assert not newer_specs(objects, registry)

    def plain(found: Any) -> Any:
        kind = found.WhichOneof("kind")
        if kind == "list_value":
            return [plain(each) for each in found.list_value.values]
        return None if kind == "none_value" else getattr(found, kind)

    assert plain(spec.list_value.values[0]) == back


@pytest.mark.parametrize(
    "op, home",
    [
        ("MaxSpanningTree", "of the package tensorflow-text"),
        ("TokenizerFromLogits", "of the package tensorflow-text"),
        ("TFText>NgramsStringJoin", "of the package tensorflow-text"),
        ("Addons>SkipGramGenerateCandidates", "of the package tensorflow-addons"),
        ("SimpleMLInferenceOp", "tensorflow-decision-forests or ydf-tf"),
        ("SentencepieceEncodeSparse", "of the package tf-sentencepiece"),
        ("TFRA>CuckooHashTableFind", "of the package tensorflow-recommenders-addons"),
        ("IO>DecodeWebP", "of the package tensorflow-io"),
        ("RunLengthGammaEncode", "of the package tensorflow-compression"),
        ("TRTEngineOp", "of the package TensorRT"),
        ("NobodysOp", "a package that hub_compat does not know"),
    ],
)
def test_packages_are_known(op: str, home: str) -> None:
    """What public models use beside TensorFlow's own ops is known by its package."""
    from hub_compat.converters.lowering.explanations import home_of

    assert home in home_of(op)


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
