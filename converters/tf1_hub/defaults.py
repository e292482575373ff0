"""Inputs that a call may leave out, and what they are then."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hub_compat._tf import attr_value_pb2, function_pb2

from ..ir.calls import PARTITIONED_CALLS
from ..ir.dtypes import DT_STRING
from .objects import Trace
from .structures import Leaf, leaves

__all__ = ["Default", "constant", "optional_inputs"]

_NUMBERS = {
    1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 5: np.int16, 6: np.int8,
    9: np.int64, 10: np.bool_, 19: np.float16,
}  # fmt: skip


class Default(NamedTuple):
    """What stands for an input that is left out.

    Attributes:
      value: a StructuredValue of numbers or strings; None where a function has it.
      trace: the call that leaves it out, whose function returns the default alone;
        None where ``value`` is.
    """

    value: Any
    trace: Optional[Trace]

    def renamed(self, names: Mapping[str, str]) -> Default:
        """The same, where inputs have other names."""
        if self.trace is None:
            return self
        inputs = tuple(x._replace(name=names[x.name]) for x in self.trace.inputs)
        return self._replace(trace=self.trace._replace(inputs=inputs))


def optional_inputs(
    functions: Dict[str, Any], traces: Sequence[Trace], chosen: Trace
) -> Dict[int, Default]:
    """The inputs of a trace that have defaults, by their place.

    Args:
      functions: the library; it gets functions that return defaults.
      traces: all traces of the callable.
      chosen: the one that takes most.
    """
    found: Dict[int, Default] = {}
    for i, leaf in enumerate(chosen.inputs):
        if leaf.default is not None:
            found[i] = Default(leaf.default, None)
    own = {leaf.name for leaf in chosen.inputs}
    smaller = [
        trace
        for trace in traces
        if len(trace.inputs) < len(chosen.inputs)
        and own.issuperset(leaf.name for leaf in trace.inputs)
        and not trace.flags
        and trace.training == chosen.training
    ]
    if not smaller:
        return found
    # The one that is given nothing that it can do without.
    least = min(smaller, key=lambda trace: len(trace.inputs))
    given = {leaf.name for leaf in least.inputs}
    for i, leaf in enumerate(chosen.inputs):
        if leaf.name not in given and i not in found and len(leaf.parts) == 1:
            name = _default_function(functions, chosen, least, i)
            if name is not None:
                found[i] = Default(None, least._replace(function=name))
    return found


def _default_function(
    functions: Dict[str, Any], chosen: Trace, smaller: Trace, place: int
) -> Optional[str]:
    """A function that returns what a call without an input has in its place.

    Both calls hand their inputs to one function; what the other one hands there is the
    default.
    """
    first = sum(len(leaf.parts) for leaf in chosen.inputs[:place])
    larger = functions[chosen.function]
    arg = larger.signature.input_arg[first].name
    without = functions[smaller.function]
    handed = {
        (node.attr["f"].func.name, i)
        for node in larger.node_def
        if node.op in PARTITIONED_CALLS
        for i, tensor in enumerate(node.input)
        if tensor == arg
    }
    for node in without.node_def:
        if node.op not in PARTITIONED_CALLS:
            continue
        for i, tensor in enumerate(node.input):
            if (node.attr["f"].func.name, i) in handed:
                return _returning(functions, without, tensor, arg)
    return None


def _returning(
    functions: Dict[str, Any], function: Any, tensor: str, label: str
) -> str:
    """A function that returns one tensor of another."""
    name = "{}_default_{}".format(function.signature.name, label)
    made = function_pb2.FunctionDef()
    made.CopyFrom(function)
    made.signature.name = name
    del made.signature.output_arg[:]
    del made.signature.control_output[:]
    made.ret.clear()
    made.control_ret.clear()
    # Its dtype is not asked for: the function is inlined.
    made.signature.output_arg.add(name="default")
    made.ret["default"] = tensor
    # Calls are of no use for a default, and may run for long.
    kept = [node for node in made.node_def if node.op not in PARTITIONED_CALLS]
    names = {node.name for node in made.node_def} - {node.name for node in kept}
    kept = [
        n for n in kept if not names & {t.lstrip("^").split(":")[0] for t in n.input}
    ]
    kept = [type(node).FromString(node.SerializeToString()) for node in kept]
    del made.node_def[:]
    made.node_def.extend(kept)
    functions[name] = made
    return name


def constant(value: Any, leaf: Leaf) -> Optional[Any]:
    """The attribute of a constant; None where numbers do not say it.

    Args:
      value: a StructuredValue of numbers or strings.
      leaf: the input.
    """
    (part,) = leaf.parts
    items = [_plain(item) for _, item in leaves(value)]
    if any(item is None for item in items):
        return None
    sizes = [dim.size for dim in part.shape.dim]
    if part.shape.unknown_rank or any(size < 0 for size in sizes):
        sizes = _sizes(value)
    attr = attr_value_pb2.AttrValue()
    attr.tensor.dtype = part.dtype
    attr.tensor.tensor_shape.SetInParent()
    for size in sizes:
        attr.tensor.tensor_shape.dim.add().size = size
    if part.dtype == DT_STRING:
        attr.tensor.string_val.extend(str(item).encode() for item in items)
        return attr
    if part.dtype not in _NUMBERS or any(isinstance(item, str) for item in items):
        return None
    array = np.array(items, _NUMBERS[part.dtype])
    attr.tensor.tensor_content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return attr


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    fields: Tuple[str, ...] = ("float64_value", "int64_value", "bool_value")
    return getattr(value, kind) if kind in fields + ("string_value",) else None


def _sizes(value: Any) -> List[int]:
    """The shape of nested lists."""
    found: List[int] = []
    while value.WhichOneof("kind") == "list_value":
        found.append(len(value.list_value.values))
        if not found[-1]:
            break
        value = value.list_value.values[0]
    return found
