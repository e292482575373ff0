"""Ops that reach files, the network or code are named in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np
import pytest
from signatures_saved import Signatures, module, save

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

READS = "reads files (ReadFile)"
WRITES = "writes files (WriteFile)"
RUNS = "runs code that is not in the graph (PyFunc)"


def outside(tf: Any, v1: Any) -> Signatures:
    """Signatures that reach outside, also by functions in functions and in loops."""
    path = v1.placeholder(tf.string, [], name="path")
    x = v1.placeholder(tf.float32, [3], name="x")

    from tensorflow.python.framework import function

    @function.Defun(tf.string)
    def inner(name: Any) -> Any:
        return tf.io.read_file(name)

    @function.Defun(tf.string)
    def outer(name: Any) -> Any:
        return inner(name)

    with tf.control_dependencies([tf.io.write_file("/tmp/nowhere/x", "text")]):
        written = tf.identity(x)
    _, looped = tf.while_loop(
        lambda i, _: i < 2,
        lambda i, _: (i + 1, tf.io.read_file(path)),
        [0, tf.constant("")],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([])],
    )
    called = v1.py_func(lambda a: np.negative(a), [x], tf.float32)
    called.set_shape([3])
    with tf.control_dependencies([v1.print(x)]):
        printed = tf.identity(x)
    with tf.control_dependencies([v1.print(x, output_stream="file:///tmp/nowhere/y")]):
        logged = tf.identity(x)
    return {
        "called": ({"x": x}, {"y": called}),
        "clean": ({"x": x}, {"y": x * 2.0}),
        "logged": ({"x": x}, {"y": logged}),
        "looped": ({"path": path}, {"y": looped}),
        "nested": ({"path": path}, {"y": outer(path)}),
        "printed": ({"x": x}, {"y": printed}),
        "written": ({"x": x}, {"y": written}),
    }


def about(warnings: Sequence[str], name: str) -> str:
    """What warnings say of a signature."""
    return "; ".join(w for w in warnings if "signature {!r}".format(name) in w)


def test_signatures_that_reach_outside_are_named(tmp_path: Path) -> None:
    """With the op, whatever function or loop it is in; printing is no such thing."""
    save(tmp_path / "source", outside)
    warnings = hub.convert(tmp_path / "source", tmp_path / "out").warnings
    assert READS in about(warnings, "looped")
    assert READS in about(warnings, "nested")
    assert WRITES in about(warnings, "written")
    assert RUNS in about(warnings, "called")
    assert "reads or writes files (PrintV2)" in about(warnings, "logged")
    assert about(warnings, "clean") == about(warnings, "printed") == ""


@pytest.mark.parametrize(
    "name",
    ["text_embedding", "tables", "tf1_builder", "shared_asset", "tf1_partitioned"],
)
def test_vocabularies_and_weights_are_no_reason(name: str, tmp_path: Path) -> None:
    """Reading an asset of the model's own, or restoring its variables, is not named."""
    warnings = hub.convert(module(name), tmp_path / "out").warnings
    assert not [text for text in warnings if "files" in text]


@pytest.mark.tf2
def test_functions_of_tf2_models_that_reach_outside_are_named(
    tmp_path: Path, testdata: Path
) -> None:
    """Those of objects, nested ones too; not what saves and restores."""
    import tensorflow as tf

    root = tf.Module()
    inner = tf.function(lambda path: tf.io.read_file(path))
    root.read = tf.function(
        lambda path: inner(path) + "!", input_signature=[tf.TensorSpec([], tf.string)]
    )
    root.weight = tf.Variable(1.0)
    tf.saved_model.save(root, str(tmp_path / "source"))
    report = hub.convert(tmp_path / "source", tmp_path / "out", target="tf1.15")
    assert any(READS in text for text in report.warnings)
    source = testdata / "tf221" / "keras2_text" / "module"
    report = hub.convert(source, tmp_path / "text", target="tf1.15")
    assert not [text for text in report.warnings if "files" in text]


@pytest.mark.parametrize(
    ("op", "what"),
    [
        ("TFRecordDatasetV2", "reads files"),
        ("WholeFileReaderV2", "reads files"),
        ("ImmutableConst", "reads files"),
        ("CreateSummaryFileWriter", "writes files"),
        ("SaveV2", "writes files"),
        ("DataServiceDatasetV4", "uses the network"),
        ("KafkaDataset", "uses the network"),
        ("RpcCall", "uses the network"),
        ("EagerPyFunc", "runs code"),
        ("DecodeVideo", "runs code"),
        ("IO>FileRead", "tensorflow_io"),
        ("ReadVariableOp", ""),
        ("SaveableThing", ""),
        ("BarrierReadySize", ""),
        ("DecodePng", ""),
    ],
)
def test_ops_by_name(op: str, what: str) -> None:
    """The op lists of TensorFlow 1.15, its contrib, and 2.21."""
    from hub_compat._tf import node_def_pb2
    from hub_compat.converters.ir.outside_ops import OutsideOps, _describe

    nodes = {"n": node_def_pb2.NodeDef(name="n", op=op)}
    text = _describe(OutsideOps({}).of_nodes(nodes, ["n"]))
    assert what in text
    assert bool(text) is bool(what)
