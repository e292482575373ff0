"""Attributes of nodes as text, and back.

true  3  2.0  "bytes"  float32  <2, ?>  <*>  @function  int32([1, 2])  [1, 2]
"""

from __future__ import annotations

import ast
import re
from typing import Any, List

import numpy as np

from hub_compat._tf import attr_value_pb2, tf
from hub_compat.converters.ir.constants import array_of

__all__ = [
    "dtype_name",
    "dtype_number",
    "parse_value",
    "print_shape",
    "print_value",
    "split",
]

# Elements of a constant that are worth reading.
_SMALL = 40
_OPENING, _CLOSING = "([{<", ")]}>"


def split(text: str, mark: str = ",") -> List[str]:
    """The parts between marks that are not in brackets or strings."""
    parts, depth, quoted, start = [], 0, False, 0
    for i, char in enumerate(text):
        if char == '"' and text[i - 1] != "\\":
            quoted = not quoted
        if quoted:
            continue
        depth += (char in _OPENING) - (char in _CLOSING)
        if char == mark and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    last = text[start:].strip()
    return parts + [last] if last else parts


def dtype_name(number: int) -> str:
    """``1`` -> ``"float32"``."""
    return str(tf.as_dtype(number).name)


def dtype_number(name: str) -> int:
    """``"float32"`` -> ``1``."""
    return int(tf.as_dtype(name).as_datatype_enum)


def _is_dtype(name: str) -> bool:
    try:
        tf.as_dtype(name)
    except TypeError:
        return False
    return True


def parse_value(text: str, attr: Any) -> None:
    """Sets an AttrValue."""
    if text.startswith("["):
        attr.list.SetInParent()
        for part in split(text[1:-1]):
            one = attr_value_pb2.AttrValue()
            parse_value(part, one)
            kind = one.WhichOneof("value")
            getattr(attr.list, kind).extend([getattr(one, kind)])
    elif text.startswith('"'):
        attr.s = ast.literal_eval("b" + text)
    elif text.startswith("<"):
        _parse_shape(text, attr.shape)
    elif text.startswith("@"):
        attr.func.name = text[1:]
    elif text in ("true", "false"):
        attr.b = text == "true"
    elif text.endswith(")"):
        name, _, literal = text[:-1].partition("(")
        value = ast.literal_eval(literal)
        attr.tensor.CopyFrom(tf.compat.v1.make_tensor_proto(value, tf.as_dtype(name)))
    elif _is_dtype(text):
        attr.type = dtype_number(text)
    elif re.match(r"^-?\d+$", text):
        attr.i = int(text)
    else:
        attr.f = float(text)


def _parse_shape(text: str, shape: Any) -> None:
    shape.SetInParent()
    if text == "<*>":
        shape.unknown_rank = True
    for part in split(text[1:-1]):
        if part != "*":
            shape.dim.add().size = -1 if part == "?" else int(part)


def print_shape(shape: Any) -> str:
    """``<2, ?>``."""
    if shape.unknown_rank:
        return "<*>"
    sizes = ["?" if dim.size < 0 else str(dim.size) for dim in shape.dim]
    return "<{}>".format(", ".join(sizes))


def print_value(attr: Any) -> str:
    """An AttrValue as ``parse_value`` takes it."""
    kind = attr.WhichOneof("value")
    if kind is None:
        return "unset"
    if kind == "list":
        found = []
        for name in ("s", "i", "f", "b", "type", "shape", "tensor", "func"):
            for value in getattr(attr.list, name):
                found.append(_print_scalar(name, value))
        return "[{}]".format(", ".join(found))
    return _print_scalar(kind, getattr(attr, kind))


def _print_scalar(kind: str, value: Any) -> str:
    if kind == "s":
        return '"{}"'.format(repr(value)[2:-1].replace('"', '\\"'))
    if kind == "b":
        return str(value).lower()
    if kind == "f":
        return repr(float(np.float32(value).astype(str)))
    if kind == "type":
        return dtype_name(value)
    if kind == "shape":
        return print_shape(value)
    if kind == "func":
        return "@" + str(value.name)
    if kind == "tensor":
        array = array_of(value)
        name = dtype_name(value.dtype)
        if array.size > _SMALL:
            return "{} of {}".format(name, list(array.shape))
        if array.size == 0 and array.ndim > 1:
            return "{}(np.zeros({}))".format(name, list(array.shape))
        return "{}({})".format(name, array.tolist())
    return str(value)
