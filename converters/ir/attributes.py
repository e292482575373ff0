"""Attributes of nodes: defaults, dtypes of arguments, and setting them."""

from __future__ import annotations

from typing import Any, List

from hub_compat._tf import attr_value_pb2, node_def_pb2
from hub_compat.errors import CorruptModuleError

from .dtypes import REF_OFFSET

__all__ = [
    "GRADIENT",
    "GRADIENT_OF_CALL",
    "arg_types",
    "attr_or_default",
    "set_attr",
    "set_by_definition",
]

# Names the gradient that a node has, instead of that of its op.
GRADIENT = "_gradient_op_type"
# TF 1.15 differentiates a nested call only where this is set; its loader replaces the
# value by a name of its own.
GRADIENT_OF_CALL = b"PartitionedCall-0"

# By the type of an attribute (op_def.proto, AttrDef), the field of AttrValue.
_FIELDS = {
    "bool": "b",
    "float": "f",
    "func": "func",
    "int": "i",
    "shape": "shape",
    "string": "s",
    "tensor": "tensor",
    "type": "type",
}


def attr_or_default(node: Any, op: Any, name: str) -> Any:
    """A node's attribute, or its op's default where the node leaves it out.

    TF1 Hub strips default-valued attributes (``stripped_default_attrs``).
    """
    if name in node.attr:
        return node.attr[name]
    for attr in op.attr:
        if attr.name == name:
            return attr.default_value
    raise CorruptModuleError(
        "Node {!r} ({}) lacks the attribute {!r}, which has no default.".format(
            node.name, node.op, name
        )
    )


def arg_types(node: Any, op: Any, arg: Any) -> List[int]:
    """The dtypes that one input_arg or output_arg stands for on this node."""
    if arg.type_list_attr:
        return list(attr_or_default(node, op, arg.type_list_attr).list.type)
    dtype = arg.type or attr_or_default(node, op, arg.type_attr).type
    if arg.is_ref:
        dtype += REF_OFFSET
    if arg.number_attr:
        return [dtype] * attr_or_default(node, op, arg.number_attr).i
    return [dtype]


def set_by_definition(
    node: node_def_pb2.NodeDef, op: Any, name: str, value: Any
) -> None:
    """Sets an attribute to a plain value, of the kind that the op's definition says.

    Args:
      node: the node.
      op: its OpDef.
      name: the attribute; one that the op does not define is set by ``set_attr``.
      value: a number, dtype, bytes, proto or a function's name; a list of these; or a
        whole AttrValue.
    """
    kind = next((attr.type for attr in op.attr if attr.name == name), "")
    if not kind or isinstance(value, attr_value_pb2.AttrValue):
        set_attr(node, name, value)
        return
    attr = node.attr[name]
    if kind.startswith("list("):
        attr.list.SetInParent()
        getattr(attr.list, _FIELDS[kind[len("list(") : -1]]).extend(value)
        return
    field = _FIELDS[kind]
    if field == "func":
        attr.func.name = value
    elif field in ("shape", "tensor"):
        getattr(attr, field).CopyFrom(value)
    else:
        setattr(attr, field, value)


def set_attr(node: node_def_pb2.NodeDef, name: str, value: Any) -> None:
    """Sets an attribute: bool, int, bytes, AttrValue, or dtype as ``("type", n)``."""
    attr = node.attr[name]
    if isinstance(value, attr_value_pb2.AttrValue):
        attr.CopyFrom(value)
    elif isinstance(value, bool):
        attr.b = value
    elif isinstance(value, int):
        attr.i = value
    elif isinstance(value, bytes):
        attr.s = value
    elif value[0] == "type":
        attr.type = value[1]
    elif value[0] == "types":
        attr.list.SetInParent()
        attr.list.type.extend(value[1])
    elif value[0] == "func":
        attr.func.name = value[1]
    elif value[0] == "shape":
        attr.shape.CopyFrom(value[1])
    elif value[0] == "shapes":
        attr.list.SetInParent()
        attr.list.shape.extend(value[1])
    else:
        raise AssertionError(value)
