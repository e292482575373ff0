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

from typing import Any, Callable, Collection, Dict, Sequence

from hub_compat._tf import node_def_pb2, tf

from ..ir.attributes import GRADIENT
from ..ir.builder import Tensor
from ..ir.context import Context
from ..ir.dtypes import DT_FLOAT, DT_INT32, DT_INT64
from ..ir.graph import Graph, node_of, split_tensor
from ..ir.rewriter import Site
from ..opdata.op_defs import read_ops
from ..opdata.replacements import graph_for

__all__ = ["MISJUDGED", "REWRITES", "replace", "run"]

# Their shape functions are wrong: the number of slices is not all that there is.
MISJUDGED = frozenset("ReduceSlice" + kind for kind in ("Max", "Min", "Prod", "Sum"))


# Given:
#     buckets = BoostedTreesBucketize(heights, low)
# Result:
#     buckets/LowerBound = LowerBound(Reshape(low), Reshape(heights))
#     buckets/Sub = Sub(Size(low), 1)
#     buckets/Minimum = Minimum(Reshape(LowerBound), Sub)
#     buckets = IdentityN(buckets/Minimum)              name and outputs stay
#
# Afterwards, an op that TensorFlow 2 lacks is one that no rewrite covers. Users of a
# rewritten node see no difference: its name, and the order of its outputs, stay.
#
# Before "variables" and "control flow": a recorded graph may hold what they rewrite.
def run(graph: Graph, context: Context) -> None:
    """Rewrites the nodes of a graph whose ops are gone, where that can be."""
    replace(graph, REWRITES)


def replace(graph: Graph, ops: Collection[str]) -> None:
    """Rewrites the nodes of these ops."""
    for node in list(graph.nodes.values()):
        rewrite = REWRITES.get(node.op) if node.op in ops else None
        if rewrite is not None:
            rewrite(Site(graph, node, graph.op_def(node.op)), graph)


def _insert(site: Site, graph: Graph, inputs: Sequence[Tensor], graph_def: Any) -> None:
    """Puts a graph in the node's place; see tools/make_replacements.py."""
    functions: Dict[str, str] = {}
    for function in graph_def.library.function:
        copied = type(function)()
        copied.CopyFrom(function)
        copied.signature.name = "{}_{}".format(site.node.op, function.signature.name)
        functions[function.signature.name] = copied.signature.name
        graph.add_function(copied)
    fed = {"input_{}".format(i): tensor for i, tensor in enumerate(inputs)}
    added = [node for node in graph_def.node if node.name not in fed]
    prefix = graph.unique_name(site.node.name + "/replaced")
    names = {node.name: "{}/{}".format(prefix, node.name) for node in added}
    names["output"] = site.node.name
    # Nothing else says that a constant is inside of a loop.
    first = ["^" + node_of(inputs[0])]
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
        copy.input.extend(site.controls if node.input else first + site.controls)
        for value in copy.attr.values():
            if value.HasField("func"):
                value.func.name = functions[value.func.name]
        graph.replace(copy)


def _bounds(site: Site, op: str, boundaries: Tensor, values: Tensor) -> Tensor:
    """LowerBound or UpperBound of any values in a vector, int32."""
    rows = [
        site.op("Reshape", tensor, site.constant([1, -1]))
        for tensor in (boundaries, values)
    ]
    return site.op(op, *rows, out_type=DT_INT32)


def _bucketize_with_input_boundaries(site: Site, graph: Graph) -> None:
    """The number of boundaries that are not above a value."""
    values, boundaries = site.inputs
    shape = site.op("Shape", values, out_type=DT_INT32)
    if values.dtype != DT_FLOAT:
        # Its kernel cuts boundaries to integers for integers: 0 is not below 0.5.
        boundaries = site.op("Cast", boundaries, DstT=values.dtype)
    site.become("Reshape", _bounds(site, "UpperBound", boundaries, values), shape)


def _boosted_trees_bucketize(site: Site, graph: Graph) -> None:
    """The number of boundaries below a value, but never all of them."""
    inputs = site.inputs
    count = len(inputs) // 2
    results = []
    for values, boundaries in zip(inputs[:count], inputs[count:]):
        found = _bounds(site, "LowerBound", boundaries, values)
        flat = site.op("Reshape", found, site.constant([-1]))
        size = site.op("Size", boundaries, out_type=DT_INT32)
        last = site.op("Sub", size, site.constant([1]))
        results.append(site.op("Minimum", flat, last))
    site.become("IdentityN", results)


def _image_projective_transform(site: Site, graph: Graph) -> None:
    """The second version, with the size of the images for that of the result.

    In TensorFlow 1.15 both are in ``tf.contrib.image``, so its op list has neither.
    """
    newer = "ImageProjectiveTransformV2"
    graph.declare(read_ops("ops_tf2_15.pb.gz")[newer])
    images, transforms = site.inputs
    shape = site.op("Shape", images, out_type=DT_INT32)
    size = site.op("Slice", shape, site.constant([1]), site.constant([2]))
    interpolation = site.node.attr["interpolation"].s
    site.become(newer, images, transforms, size, interpolation=interpolation)


def _own_attributes(site: Site, *but: str) -> Dict[str, Any]:
    """What a node says of its op, without some."""
    attrs = site.node.attr
    return {key: attrs[key] for key in attrs if key[0] != "_" and key not in but}


def _sparse_feature_cross(site: Site, graph: Graph) -> None:
    """The same op under the name that core TensorFlow gave it.

    TensorFlow 2 has it refuse integers among strings, when it runs.
    """
    site.become("SparseCross", *site.arguments, **_own_attributes(site))


def _sparse_feature_cross_of_strings(site: Site, graph: Graph) -> None:
    """The successor; it hashes otherwise, so that strings alone can be replaced."""
    if not site.node.attr["hashed_output"].b:
        attrs = _own_attributes(site, "hashed_output")
        attrs.update(hashed_output=False, hash_key=0)
        site.become("SparseCross", *site.arguments, **attrs)


def _by_graph(site: Site, graph: Graph) -> None:
    """The graph that tools/make_replacements.py made of a function."""
    _replaced(site, graph, site.inputs)


def _replaced(site: Site, graph: Graph, inputs: Sequence[Tensor]) -> None:
    dtype = tf.as_dtype(site.node.attr["T"].type or DT_FLOAT).name
    graph_def = graph_for(site.node.op, dtype)
    if graph_def is not None:
        _insert(site, graph, inputs, graph_def)


def _lstm_block_cell(site: Site, graph: Graph) -> None:
    """The graph that tools/make_replacements.py made of a step of an LSTM."""
    dtype = site.type("T") or DT_FLOAT
    variant = site.node.op
    clip = site.attr("cell_clip").f
    if site.attr("use_peephole").b:
        variant += "/peephole"
    if clip > 0:
        variant += "/clipped"
    graph_def = graph_for(variant, tf.as_dtype(dtype).name)
    if graph_def is not None:
        inputs = site.inputs
        inputs += [
            site.constant(number, dtype, beside=inputs[0])
            for number in (site.attr("forget_bias").f, clip)
        ]
        _insert(site, graph, inputs, graph_def)


def _folded_batch_norm(site: Site, graph: Graph) -> None:
    """The moments of a batch, in ops with the gradient that contrib.quantize gave them.

    Where it folds batch normalization into weights for training, a FusedBatchNorm is
    there for its mean and variance alone, which have no gradient otherwise.
    """
    node = site.node
    # Looking an attribute up in the map itself would add it.
    if GRADIENT not in node.attr:
        return
    if node.attr[GRADIENT].s != b"FoldFusedBatchNormGrad":
        return
    if node.attr["T"].type != DT_FLOAT or not site.attr("is_training").b:
        return
    first = site.attr("data_format").s.startswith(b"NC")
    axes = site.constant((0, 2, 3) if first else (0, 1, 2))
    images = site.inputs[0]

    def size(tensor: Tensor) -> Tensor:
        count = site.op("Size", tensor, out_type=DT_INT32)
        return site.op("Cast", count, DstT=DT_FLOAT)

    kept = site.op("Mean", images, axes, keep_dims=True)
    mean = site.op("Mean", images, axes)
    squares = site.op("SquaredDifference", images, kept)
    total = site.op("Sum", squares, axes)
    count = site.op("RealDiv", size(images), size(mean))
    one = site.constant(1.0, DT_FLOAT, beside=images)
    others = site.op("Maximum", site.op("Sub", count, one), one)
    variance = site.op("RealDiv", total, others)
    attrs = {key: node.attr[key] for key in node.attr if key != GRADIENT}
    same = site.ops(node.op, *site.inputs, **attrs)
    # What is normalized has no gradient there.
    site.become(
        "IdentityN", [site.op("StopGradient", same[0]), mean, variance] + same[3:]
    )


def _reduce_slice(site: Site, graph: Graph) -> None:
    """The graph that tools/make_replacements.py made, which takes int64 indices."""
    data, indices, axis = site.inputs
    indices = site.op("Cast", indices, DstT=DT_INT64)
    _replaced(site, graph, [data, indices, axis])


REWRITES: Dict[str, Callable[[Site, Graph], None]] = {
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
