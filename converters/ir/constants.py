"""Constants of a graph, and what nodes say of shapes."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import numpy as np

from hub_compat._tf import attr_value_pb2, node_def_pb2, tf

from .dtypes import DT_INT32
from .functions import set_attr
from .graph import Graph, node_of, normal, split_tensor
from .signatures import make_shape

__all__ = ["add_constant", "array_of", "int32_tensor", "int32_value", "shape_of",
           "shapes_attr"]  # fmt: skip

# tf.make_ndarray of TF 1.15 does not know these.
_UNSIGNED = {22: ("uint32_val", np.uint32), 23: ("uint64_val", np.uint64)}


def array_of(tensor: Any) -> Any:
    """The value of a TensorProto, a NumPy array."""
    if tensor.dtype not in _UNSIGNED or tensor.tensor_content:
        return tf.make_ndarray(tensor)
    field, dtype = _UNSIGNED[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    values = list(getattr(tensor, field)) or [0]
    # The last one stands for all that follow.
    values += values[-1:] * (int(np.prod(shape, dtype=np.int64)) - len(values))
    return np.array(values[: int(np.prod(shape, dtype=np.int64))], dtype).reshape(shape)


def shape_of(graph: Graph, tensor: str) -> Any:
    """The shape that the file says a tensor has, a TensorShapeProto; None if none."""
    name, index = split_tensor(tensor)
    node = graph.node(name)
    if "_output_shapes" not in node.attr:
        return None
    shapes = node.attr["_output_shapes"].list.shape
    return shapes[index] if index < len(shapes) else None


def shapes_attr(shapes: List[Any]) -> Tuple[str, List[Any]]:
    """An attribute of shapes, unknown where None is."""
    return ("shapes", [shape or make_shape(None) for shape in shapes])


def add_constant(
    graph: Graph, name: str, value: Any, dtype: int = DT_INT32, after: str = ""
) -> str:
    """Adds a constant, that is there once a node has run if one is given."""
    constant = node_def_pb2.NodeDef(name=graph.unique_name(name), op="Const")
    constant.input.extend(["^" + after] if after else [])
    set_attr(constant, "dtype", ("type", dtype))
    set_attr(constant, "value", value)
    graph.replace(constant)
    return str(constant.name)


def int32_tensor(*values: int, scalar: bool = True) -> Any:
    """An attribute that holds an int32 scalar, or a vector."""
    attr = attr_value_pb2.AttrValue()
    tensor = attr.tensor
    tensor.dtype = DT_INT32
    tensor.tensor_shape.SetInParent()
    if not scalar:
        tensor.tensor_shape.dim.add().size = len(values)
    tensor.int_val.extend(values)
    return attr


def int32_value(graph: Graph, tensor: str) -> Optional[int]:
    """The value of a tensor that is a constant int32 scalar; None of others."""
    node = graph.node(node_of(normal(tensor)))
    if node.op != "Const" or node.attr["dtype"].type != DT_INT32:
        return None
    value = node.attr["value"].tensor
    if value.tensor_shape.dim:
        return None
    if value.tensor_content:
        return int.from_bytes(value.tensor_content, "little", signed=True)
    return value.int_val[0] if value.int_val else 0
