"""Inputs of a signature that are one tensor under several names.

A session feeds the tensor, by whichever name; a function has an argument for each
name. They must be fed alike: where they differ, the call fails.
"""

from __future__ import annotations

from typing import Dict, List, Sequence

from hub_compat._tf import attr_value_pb2

from .dtypes import DT_BOOL, DT_RESOURCE, DT_STRING, DT_UINT8, DT_VARIANT
from .functions import FunctionWriter
from .signatures import Component

__all__ = ["bind", "different", "same"]


def different(components: Sequence[Component]) -> List[Component]:
    """The first component of each tensor."""
    return list({c.tensor: c for c in reversed(components)}.values())[::-1]


def same(components: Sequence[Component]) -> Dict[str, str]:
    """For each name but the first of a tensor, the first one."""
    first: Dict[str, str] = {}
    found = {}
    for c in components:
        if first.setdefault(c.tensor, c.name) != c.name:
            found[c.name] = first[c.tensor]
    return found


def bind(writer: FunctionWriter, components: Sequence[Component]) -> Dict[str, str]:
    """Adds an argument for each component.

    Returns:
      From a tensor of the graph to that of the function.
    """
    bound: Dict[str, str] = {}
    first: Dict[str, Component] = {}
    for c in components:
        argument = writer.argument(c.name, c.dtype, c.shape)
        if c.tensor in bound:
            bound[c.tensor] = _checked(
                writer, bound[c.tensor], argument, first[c.tensor], c
            )
        else:
            bound[c.tensor], first[c.tensor] = argument, c
    return bound


def _checked(
    writer: FunctionWriter, one: str, other: str, first: Component, second: Component
) -> str:
    """The first of two tensors, which is there only if the second is the same."""
    if first.dtype in (DT_RESOURCE, DT_VARIANT):
        return one
    message = (
        "The inputs {!r} and {!r} of this signature are one tensor of the model: give "
        "both the same value."
    ).format(first.name, second.name)
    data = attr_value_pb2.AttrValue()
    data.tensor.dtype = DT_STRING
    data.tensor.tensor_shape.SetInParent()
    data.tensor.string_val.append(message.encode())
    text = writer.node("Const", "differ", dtype=("type", DT_STRING), value=data)
    equal = writer.node(
        "Equal",
        "equal",
        [_contents(writer, tensor, first.dtype) for tensor in (one, other)],
        T=("type", DT_STRING),
    )
    check = writer.node(
        "Assert",
        "same_value",
        [equal + ":z:0", text + ":output:0"],
        T=("types", [DT_STRING]),
        summarize=3,
    )
    writer.stateful = True
    writer.control_result(check)
    name = writer.node("Identity", "same", [one], [check], T=("type", first.dtype))
    return name + ":output:0"


def _contents(writer: FunctionWriter, tensor: str, dtype: int) -> str:
    """Shape and bits of a tensor as a string; not a number is the same as itself."""
    if dtype not in (DT_BOOL, DT_STRING):
        # Not all dtypes can be serialized.
        bits = writer.node(
            "Bitcast", "bits", [tensor], T=("type", dtype), type=("type", DT_UINT8)
        )
        tensor, dtype = bits + ":output:0", DT_UINT8
    node = writer.node("SerializeTensor", "contents", [tensor], T=("type", dtype))
    return node + ":serialized:0"
