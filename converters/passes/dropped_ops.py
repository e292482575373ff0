"""Replaces ops that TensorFlow has dropped, or whose gradients it has, by other ops.

::

    before:  BucketizeWithInputBoundaries(x, boundaries)
    after:   Reshape(UpperBound(boundaries, x), Shape(x))

1. Most ops are rewritten by hand, one function each (the table ``REWRITES``).
2. ``_by_graph`` inserts a graph that ``tools/make_replacements.py`` recorded.
3. A FusedBatchNorm that contrib.quantize folded gets the gradient that it had there.

Each rewrite gives equal results under TensorFlow 1.15 and 2.21, with and without
gradients, and has its own test against the original op.

Left alone: every op without an entry, and forms of an op that a rewrite does not cover.
A function with such an op keeps a whole SavedModel from loading, so its signature is
skipped, and ``report.warnings`` says so. ``docs/dropped_ops.md``, written by
``tools/survey_ops.py``, lists all ops of TensorFlow 1.15 and its contrib that are gone.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from hub_compat._tf import attr_value_pb2, node_def_pb2, tf

from ..ir.context import Context
from ..ir.dtypes import DT_FLOAT, DT_INT32, DT_INT64
from ..ir.functions import set_attr
from ..ir.graph import Graph, attr_or_default, node_of, split_tensor
from ..opdata.op_defs import read_ops
from ..opdata.replacements import graph_for

__all__ = ["MISJUDGED", "REWRITES", "run"]

# Their shape functions are wrong: the number of slices is not all that there is.
MISJUDGED = frozenset("ReduceSlice" + kind for kind in ("Max", "Min", "Prod", "Sum"))


def run(graph: Graph, context: Context) -> None:
    """Rewrites the nodes of a graph whose ops are gone, where that can be."""
    for node in list(graph.nodes.values()):
        rewrite = REWRITES.get(node.op)
        if rewrite is not None:
            rewrite(_Rewrite(graph, node))


class _Rewrite:
    """A node that is being rewritten, and nodes added for it."""

    def __init__(self, graph: Graph, node: Any) -> None:
        self._graph = graph
        self.node = node
        self.inputs = [name for name in node.input if not name.startswith("^")]
        self._controls = [name for name in node.input if name.startswith("^")]

    def add(self, op: str, inputs: List[str], **attrs: Any) -> str:
        """Adds a node, which runs after what the rewritten one waited for."""
        name = self._graph.unique_name("{}/{}".format(self.node.name, op))
        added = node_def_pb2.NodeDef(name=name, op=op)
        added.input.extend(inputs + self._controls)
        for key, value in attrs.items():
            set_attr(added, key, value)
        self._graph.replace(added)
        return name

    def integers(self, *values: int) -> str:
        """Adds an int32 vector."""
        value = attr_value_pb2.AttrValue()
        value.tensor.CopyFrom(tf.compat.v1.make_tensor_proto(values, tf.int32))
        return self.add("Const", [], dtype=("type", DT_INT32), value=value)

    def number(self, number: float, dtype: int) -> str:
        """Adds a scalar, in the place of the rewritten node."""
        value = attr_value_pb2.AttrValue()
        value.tensor.CopyFrom(
            tf.compat.v1.make_tensor_proto(number, tf.as_dtype(dtype))
        )
        # Nothing else says that a constant is inside of a loop.
        place = ["^" + node_of(self.inputs[0])]
        return self.add("Const", place, dtype=("type", dtype), value=value)

    def declare(self, op: str) -> None:
        """Makes an op of TensorFlow 2 known to the graph."""
        self._graph.declare(read_ops("ops_tf2_15.pb.gz")[op])

    def op_def(self) -> Any:
        """The definition of the node's op."""
        return self._graph.op_def(self.node.op)

    def insert(self, graph_def: Any) -> None:
        """Puts a graph in the node's place; see tools/make_replacements.py."""
        functions: Dict[str, str] = {}
        for function in graph_def.library.function:
            copied = type(function)()
            copied.CopyFrom(function)
            copied.signature.name = "{}_{}".format(
                self.node.op, function.signature.name
            )
            functions[function.signature.name] = copied.signature.name
            self._graph.add_function(copied)
        fed = {"input_{}".format(i): tensor for i, tensor in enumerate(self.inputs)}
        added = [node for node in graph_def.node if node.name not in fed]
        prefix = self._graph.unique_name(self.node.name + "/replaced")
        names = {node.name: "{}/{}".format(prefix, node.name) for node in added}
        names["output"] = self.node.name
        # Nothing else says that a constant is inside of a loop.
        first = ["^" + node_of(self.inputs[0])]
        for node in added:
            copy = node_def_pb2.NodeDef()
            copy.CopyFrom(node)
            copy.name = names[node.name]
            del copy.input[:]
            for tensor in node.input:
                producer, index = split_tensor(tensor)
                copy.input.append(
                    fed.get(producer) or "{}:{}".format(names[producer], index)
                )
            copy.input.extend(self._controls if node.input else first + self._controls)
            for value in copy.attr.values():
                if value.HasField("func"):
                    value.func.name = functions[value.func.name]
            self._graph.replace(copy)

    def replace(self, op: str, inputs: List[str], **attrs: Any) -> None:
        """Puts another op in the node's place."""
        new = node_def_pb2.NodeDef(name=self.node.name, op=op)
        new.input.extend(inputs + self._controls)
        for key, value in attrs.items():
            set_attr(new, key, value)
        self._graph.replace(new)

    def search(self, op: str, boundaries: str, values: str, dtype: int) -> str:
        """Adds LowerBound or UpperBound of any values in a vector."""
        rows = [
            self.add(
                "Reshape",
                [tensor, self.integers(1, -1)],
                T=("type", dtype),
                Tshape=("type", DT_INT32),
            )
            for tensor in (boundaries, values)
        ]
        return self.add(op, rows, T=("type", dtype), out_type=("type", DT_INT32))


def _bucketize_with_input_boundaries(rewrite: _Rewrite) -> None:
    """The number of boundaries that are not above a value."""
    values, boundaries = rewrite.inputs
    dtype = rewrite.node.attr["T"].type
    shape = rewrite.add(
        "Shape", [values], T=("type", dtype), out_type=("type", DT_INT32)
    )
    if dtype != DT_FLOAT:
        # Its kernel cuts boundaries to integers for integers: 0 is not below 0.5.
        casts = dict(SrcT=("type", DT_FLOAT), DstT=("type", dtype))
        boundaries = rewrite.add("Cast", [boundaries], **casts)
    found = rewrite.search("UpperBound", boundaries, values, dtype)
    rewrite.replace(
        "Reshape", [found, shape], T=("type", DT_INT32), Tshape=("type", DT_INT32)
    )


def _boosted_trees_bucketize(rewrite: _Rewrite) -> None:
    """The number of boundaries below a value, but never all of them."""
    count = len(rewrite.inputs) // 2
    results = []
    for values, boundaries in zip(rewrite.inputs[:count], rewrite.inputs[count:]):
        found = rewrite.search("LowerBound", boundaries, values, DT_FLOAT)
        flat = rewrite.add(
            "Reshape",
            [found, rewrite.integers(-1)],
            T=("type", DT_INT32),
            Tshape=("type", DT_INT32),
        )
        size = rewrite.add(
            "Size", [boundaries], T=("type", DT_FLOAT), out_type=("type", DT_INT32)
        )
        one = rewrite.integers(1)
        last = rewrite.add("Sub", [size, one], T=("type", DT_INT32))
        results.append(rewrite.add("Minimum", [flat, last], T=("type", DT_INT32)))
    rewrite.replace("IdentityN", results, T=("types", [DT_INT32] * count))


def _image_projective_transform(rewrite: _Rewrite) -> None:
    """The second version, with the size of the images for that of the result.

    In TensorFlow 1.15 both are in ``tf.contrib.image``, so its op list has neither.
    """
    rewrite.declare("ImageProjectiveTransformV2")
    images, transforms = rewrite.inputs
    dtype = rewrite.node.attr["dtype"].type
    shape = rewrite.add(
        "Shape", [images], T=("type", dtype), out_type=("type", DT_INT32)
    )
    size = rewrite.add(
        "Slice",
        [shape, rewrite.integers(1), rewrite.integers(2)],
        T=("type", DT_INT32),
        Index=("type", DT_INT32),
    )
    rewrite.replace(
        "ImageProjectiveTransformV2",
        [images, transforms, size],
        dtype=("type", dtype),
        interpolation=rewrite.node.attr["interpolation"].s,
    )


def _sparse_feature_cross(rewrite: _Rewrite) -> None:
    """The same op under the name that core TensorFlow gave it.

    TensorFlow 2 has it refuse integers among strings, when it runs.
    """
    node = rewrite.node
    attrs = {key: node.attr[key] for key in node.attr if not key.startswith("_")}
    rewrite.replace("SparseCross", rewrite.inputs, **attrs)


def _by_graph(rewrite: _Rewrite) -> None:
    """The graph that tools/make_replacements.py made of a function."""
    node = rewrite.node
    dtype = tf.as_dtype(node.attr["T"].type or DT_FLOAT).name
    graph_def = graph_for(node.op, dtype)
    if graph_def is not None:
        rewrite.insert(graph_def)


def _lstm_block_cell(rewrite: _Rewrite) -> None:
    """The graph that tools/make_replacements.py made of a step of an LSTM."""
    node = rewrite.node
    op = rewrite.op_def()
    dtype = attr_or_default(node, op, "T").type or DT_FLOAT
    variant = node.op
    clip = attr_or_default(node, op, "cell_clip").f
    if attr_or_default(node, op, "use_peephole").b:
        variant += "/peephole"
    if clip > 0:
        variant += "/clipped"
    graph_def = graph_for(variant, tf.as_dtype(dtype).name)
    if graph_def is not None:
        for number in (attr_or_default(node, op, "forget_bias").f, clip):
            rewrite.inputs.append(rewrite.number(number, dtype))
        rewrite.insert(graph_def)


def _folded_batch_norm(rewrite: _Rewrite) -> None:
    """The moments of a batch, in ops with the gradient that contrib.quantize gave them.

    Where it folds batch normalization into weights for training, a FusedBatchNorm is
    there for its mean and variance alone, which have no gradient otherwise.
    """
    node = rewrite.node
    op = rewrite.op_def()
    # Looking an attribute up in the map itself would add it.
    if "_gradient_op_type" not in node.attr:
        return
    if node.attr["_gradient_op_type"].s != b"FoldFusedBatchNormGrad":
        return
    if (
        node.attr["T"].type != DT_FLOAT
        or not attr_or_default(node, op, "is_training").b
    ):
        return
    first = attr_or_default(node, op, "data_format").s.startswith(b"NC")
    axes = rewrite.integers(*((0, 2, 3) if first else (0, 1, 2)))
    images = rewrite.inputs[0]
    real = ("type", DT_FLOAT)
    index = dict(Tidx=("type", DT_INT32))

    def size(tensor: str) -> str:
        count = rewrite.add("Size", [tensor], T=real, out_type=("type", DT_INT32))
        return rewrite.add("Cast", [count], SrcT=("type", DT_INT32), DstT=real)

    kept = rewrite.add("Mean", [images, axes], T=real, keep_dims=True, **index)
    mean = rewrite.add("Mean", [images, axes], T=real, **index)
    squares = rewrite.add("SquaredDifference", [images, kept], T=real)
    total = rewrite.add("Sum", [squares, axes], T=real, **index)
    count = rewrite.add("RealDiv", [size(images), size(mean)], T=real)
    one = rewrite.number(1.0, DT_FLOAT)
    others = rewrite.add(
        "Maximum", [rewrite.add("Sub", [count, one], T=real), one], T=real
    )
    variance = rewrite.add("RealDiv", [total, others], T=real)
    attrs = {key: node.attr[key] for key in node.attr if key != "_gradient_op_type"}
    same = rewrite.add(node.op, rewrite.inputs, **attrs)
    # What is normalized has no gradient there.
    outputs = [rewrite.add("StopGradient", [same], T=real), mean, variance]
    outputs += ["{}:{}".format(same, i) for i in range(3, len(op.output_arg))]
    rewrite.replace("IdentityN", outputs, T=("types", [DT_FLOAT] * len(outputs)))


def _reduce_slice(rewrite: _Rewrite) -> None:
    """The graph that tools/make_replacements.py made, which takes int64 indices."""
    data, indices, axis = rewrite.inputs
    casts = dict(
        SrcT=("type", rewrite.node.attr["Tindices"].type), DstT=("type", DT_INT64)
    )
    rewrite.inputs = [data, rewrite.add("Cast", [indices], **casts), axis]
    _by_graph(rewrite)


def _sparse_feature_cross_of_strings(rewrite: _Rewrite) -> None:
    """The successor; it hashes otherwise, so that strings alone can be replaced."""
    node = rewrite.node
    if not node.attr["hashed_output"].b:
        attrs = {
            key: node.attr[key]
            for key in node.attr
            if not key.startswith("_") and key != "hashed_output"
        }
        rewrite.replace(
            "SparseCross", rewrite.inputs, hashed_output=False, hash_key=0, **attrs
        )


REWRITES: Dict[str, Callable[[_Rewrite], None]] = {
    "AdjustHsvInYiq": _by_graph,
    "BoostedTreesBucketize": _boosted_trees_bucketize,
    "BucketizeWithInputBoundaries": _bucketize_with_input_boundaries,
    "CompareAndBitpack": _by_graph,
    "FusedBatchNorm": _folded_batch_norm,
    "FusedBatchNormV2": _folded_batch_norm,
    "FusedBatchNormV3": _folded_batch_norm,
    "GRUBlockCell": _by_graph,
    "GatherTree": _by_graph,
    "ImageProjectiveTransform": _image_projective_transform,
    "LSTMBlockCell": _lstm_block_cell,
    "ReduceSliceMax": _reduce_slice,
    "ReduceSliceMin": _reduce_slice,
    "ReduceSliceProd": _reduce_slice,
    "ReduceSliceSum": _reduce_slice,
    "Resampler": _by_graph,
    "SparseFeatureCross": _sparse_feature_cross_of_strings,
    "SparseFeatureCrossV2": _sparse_feature_cross,
}
