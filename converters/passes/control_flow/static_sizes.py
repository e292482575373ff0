"""Sizes that a graph states, found without TensorFlow's shape inference."""

from __future__ import annotations

from typing import Any, List, Optional

from ...ir.constants import array_of, int32_value, shape_of
from ...ir.graph import CONTROL_FLOW_OPS, Graph, node_of, normal, split_tensor
from .regions import is_invariant

__all__ = ["computed_alike", "length", "range_limit"]


def range_limit(graph: Graph, tensor: str) -> Optional[str]:
    """n of a tensor that is range(0, n)."""
    node = graph.node(node_of(normal(tensor)))
    if node.op != "Range":
        return None
    start, limit, step = _inputs(node)
    if int32_value(graph, start) != 0 or int32_value(graph, step) != 1:
        return None
    return limit


# Given:
#     limit = StridedSlice(Shape(x), [0], [1], [1])
#     value = Identity(x)                     x: float32 [5, 3]
# Result:
#     5
#
# Nothing is inferred beyond what the nodes state: a guess would make a list of the
# wrong size, and None only keeps the general form.
def length(graph: Graph, limit: str, value: str) -> Optional[int]:
    """A number, where it is the number of rows of a tensor and is known."""
    piece = graph.node(node_of(normal(limit)))
    if piece.op != "StridedSlice":
        return int32_value(graph, limit)
    whole, begin = _inputs(piece)[:2]
    if constant_list(graph, begin) != [0]:
        return None
    sizes = constant_list(graph, whole)
    if sizes is not None:
        return sizes[0]
    shape = graph.node(node_of(normal(whole)))
    if shape.op != "Shape" or not computed_alike(graph, _inputs(shape)[0], value):
        return None
    return static_size(graph, value, 0)


# Python code of TF1 computes the same size several times over; the depth limits the
# comparison, which is exponential where both inputs of a node are shared.
def computed_alike(graph: Graph, one: str, other: str, depth: int = 6) -> bool:
    """Whether two tensors are computed alike from the same tensors."""
    one, other = _past(graph, one), _past(graph, other)
    if one == other:
        return True
    first, second = graph.node(node_of(one)), graph.node(node_of(other))
    if first.op != second.op or not depth:
        return False
    if graph.op_def(first.op).is_stateful:
        return False
    if first.op in CONTROL_FLOW_OPS or first.op.startswith("Placeholder"):
        return False
    if split_tensor(one)[1] != split_tensor(other)[1]:
        return False
    attrs = [
        {k: v for k, v in node.attr.items() if not k.startswith("_")}
        for node in (first, second)
    ]
    inputs = _inputs(first), _inputs(second)
    return (
        attrs[0] == attrs[1]
        and len(inputs[0]) == len(inputs[1])
        and all(computed_alike(graph, a, b, depth - 1) for a, b in zip(*inputs))
    )


def _past(graph: Graph, tensor: str) -> str:
    """The tensor behind Identity nodes and what hands on a loop's invariant."""
    tensor = normal(tensor)
    while True:
        name = node_of(tensor)
        node = graph.node(name)
        if node.op != "Identity" and not is_invariant(graph, name):
            return tensor
        tensor = normal(node.input[0])


def _inputs(node: Any) -> List[str]:
    return [tensor for tensor in node.input if not tensor.startswith("^")]


def constant_list(graph: Graph, tensor: str) -> Optional[List[int]]:
    """The numbers of a constant vector; None of other tensors."""
    node = graph.node(node_of(normal(tensor)))
    if node.op != "Const" or len(node.attr["value"].tensor.tensor_shape.dim) != 1:
        return None
    return [int(number) for number in array_of(node.attr["value"].tensor)]


# Ops whose output has the shape of their first input.
_KEEP_SHAPE = frozenset(
    "Cast Elu Exp Identity Neg PreventGradient Relu Relu6 ReverseSequence ReverseV2 "
    "Selu Sigmoid Snapshot Softplus Square StopGradient Tanh".split()
)


def static_size(graph: Graph, tensor: str, axis: int) -> Optional[int]:
    """The size of a dimension, where the graph states it."""
    while True:
        tensor = normal(tensor)
        node = graph.node(node_of(tensor))
        shape = shape_of(graph, tensor)
        if shape is None and node.op.startswith("Placeholder"):
            shape = node.attr["shape"].shape
        elif shape is None and node.op == "Const":
            shape = node.attr["value"].tensor.tensor_shape
        if shape is not None:
            known = not shape.unknown_rank and axis < len(shape.dim)
            size = shape.dim[axis].size if known else -1
            return size if size >= 0 else None
        if node.op == "Transpose":
            order = constant_list(graph, node.input[1])
            if order is None or axis >= len(order):
                return None
            axis = order[axis]
        elif node.op not in _KEEP_SHAPE:
            return None
        tensor = node.input[0]
