"""Ops that TensorFlow has since dropped, in terms of ops it has.

Each rewrite gives equal results under TensorFlow 1.15 and 2.21, with and without
gradients, and has its own test against the original op. ``docs/dropped_ops.md``,
written by ``tools/survey_ops.py``, lists all ops of TensorFlow 1.15 and its
contrib that are gone, and what becomes of each. A signature with another of them
would keep a whole SavedModel from loading, so it is left out.
"""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Dict, List

from hub_compat._tf import attr_value_pb2, has_op, node_def_pb2, tf

from .functions import set_attr
from .graph import DT_INT32, Graph

__all__ = ["REWRITES", "available", "homes", "replace_dropped_ops"]

DT_FLOAT = 1
_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dropped_ops.json")
_homes: Dict[str, str] = {}


def homes() -> Dict[str, str]:
    """Ops of TensorFlow 1.15 that are gone; what had them: ``tf.contrib.image``."""
    if not _homes:
        with open(_FILE, encoding="utf-8") as file:
            _homes.update(json.load(file))
    return _homes


def available() -> List[str]:
    """Those of them that the TensorFlow at hand has."""
    return sorted(op for op in homes() if has_op(op))


def replace_dropped_ops(graph: Graph) -> None:
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
        value.tensor.CopyFrom(tf.make_tensor_proto(values, tf.int32))
        return self.add("Const", [], dtype=("type", DT_INT32), value=value)

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

    In TensorFlow 1.15 both are in ``tf.contrib.image``.
    """
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


REWRITES: Dict[str, Callable[[_Rewrite], None]] = {
    "BoostedTreesBucketize": _boosted_trees_bucketize,
    "BucketizeWithInputBoundaries": _bucketize_with_input_boundaries,
    "ImageProjectiveTransform": _image_projective_transform,
    "SparseFeatureCrossV2": _sparse_feature_cross,
}
