"""Adding nodes, to a graph or to a function: typed tensors, derived attributes.

::

    x = Tensor("x", DT_FLOAT)
    shape = build.op("Shape", x, out_type=DT_INT32)
    flat = build.op("Reshape", x, build.constant([-1]))
    both = build.op("ConcatV2", [flat, flat], build.constant(0))

Each input of the OpDef is one argument: a tensor, or a list where it takes several.
Attributes that follow from dtypes and numbers of inputs (``T``, ``N``, ``Tidx``) are
derived; others are given as plain values.
"""

from __future__ import annotations

import abc
from typing import Any, Dict, List, Sequence, Union

from hub_compat._tf import attr_value_pb2, node_def_pb2, op_def_pb2, tf

from .attributes import arg_types, set_by_definition
from .dtypes import DT_INT32, REF_OFFSET

__all__ = ["Builder", "Input", "Place", "Tensor", "constant_value", "new_node"]


class Tensor(str):
    """The name of a tensor, as nodes beside it write it; it knows its dtype.

    Attributes:
      dtype: a ``DataType``; plus ``REF_OFFSET`` of a reference.
    """

    dtype: int

    def __new__(cls, name: str, dtype: int) -> Tensor:
        """Makes one: ``Tensor("a:1", DT_FLOAT)``."""
        tensor = super().__new__(cls, name)
        tensor.dtype = dtype
        return tensor


Input = Union[Tensor, Sequence[Tensor]]


class Place(abc.ABC):
    """Where nodes are: a graph, or a function."""

    @abc.abstractmethod
    def op_def(self, op: str) -> op_def_pb2.OpDef:
        """The definition of an op that is added here."""

    @abc.abstractmethod
    def unique_name(self, wanted: str) -> str:
        """``wanted``, or it with a number, whichever no node has."""

    @abc.abstractmethod
    def replace(self, node: node_def_pb2.NodeDef) -> None:
        """Puts a node in place of the one of the same name, or adds it."""

    @abc.abstractmethod
    def tensor_name(self, node: str, arg: str, number: int, index: int) -> str:
        """The name of the ``index``-th output, which is ``number`` of ``arg``."""

    def output_tensors(self, node: Any, op: Any) -> List[Tensor]:
        """The outputs of a node that has this definition."""
        found: List[Tensor] = []
        for arg in op.output_arg:
            for i, dtype in enumerate(arg_types(node, op, arg)):
                name = self.tensor_name(node.name, arg.name, i, len(found))
                found.append(Tensor(name, dtype))
        return found


# Given: builder.op("ConcatV2", [a, b], axis)        a, b: float32
# Result:
#     prefix/ConcatV2 = ConcatV2(a, b, axis) {N: 2, T: float32, Tidx: int32}
#
# The op definition says which attributes follow from the inputs (_derived); a rule
# gives the others alone. They come last, so that a rule may overrule what was derived.
class Builder:
    """Adds nodes.

    Args:
      place: where.
      prefix: the name of a node is ``prefix/Op`` where none is given.
      controls: what each waits for, with ``^``.
      device: of each of them.
    """

    def __init__(
        self,
        place: Place,
        prefix: str = "",
        controls: Sequence[str] = (),
        device: str = "",
    ) -> None:
        self._place = place
        self._prefix = prefix
        self._controls = list(controls)
        self._device = device
        self.added: List[str] = []

    def op(
        self,
        op: str,
        *inputs: Input,
        name: str = "",
        after: Sequence[str] = (),
        **attrs: Any,
    ) -> Tensor:
        """Adds a node; returns its first output.

        Args:
          op: its op.
          *inputs: one for each input of the OpDef.
          name: the wanted name.
          after: nodes or tensors to wait for.
          **attrs: attributes that do not follow from the inputs, as plain values.
        """
        return self.ops(op, *inputs, name=name, after=after, **attrs)[0]

    def ops(
        self,
        op: str,
        *inputs: Input,
        name: str = "",
        after: Sequence[str] = (),
        **attrs: Any,
    ) -> List[Tensor]:
        """Like ``op``; returns all outputs."""
        definition = self._place.op_def(op)
        waits = self._controls + [_wait_for(other) for other in after]
        node = new_node(definition, "", inputs, waits, attrs)
        return self._add(node, definition, name)

    def run(
        self,
        op: str,
        *inputs: Input,
        name: str = "",
        after: Sequence[str] = (),
        **attrs: Any,
    ) -> str:
        """Like ``op``, of a node without outputs; returns its name, to wait for."""
        self.ops(op, *inputs, name=name, after=after, **attrs)
        return self.added[-1]

    def constant(
        self, value: Any, dtype: int = DT_INT32, name: str = "", beside: str = ""
    ) -> Tensor:
        """Adds a constant.

        Args:
          value: what NumPy takes, or an AttrValue.
          dtype: its dtype.
          name: the wanted name.
          beside: a tensor or node; the constant is in the loop that it is in.
        """
        # Nothing but a control edge says that a constant is inside of a loop.
        waits = [_wait_for(beside)] if beside else []
        definition = self._place.op_def("Const")
        attrs = {"dtype": dtype, "value": constant_value(value, dtype)}
        node = new_node(definition, "", (), waits + self._controls, attrs)
        return self._add(node, definition, name)[0]

    def _add(
        self, node: node_def_pb2.NodeDef, definition: Any, name: str
    ) -> List[Tensor]:
        wanted = name or "{}/{}".format(self._prefix, node.op)
        node.name = self._place.unique_name(wanted)
        if self._device:
            node.device = self._device
        self._place.replace(node)
        self.added.append(node.name)
        return self._place.output_tensors(node, definition)


def new_node(
    op: Any,
    name: str,
    inputs: Sequence[Input],
    controls: Sequence[str],
    attrs: Dict[str, Any],
) -> node_def_pb2.NodeDef:
    """A node of an op.

    Args:
      op: the OpDef.
      name: of the node.
      inputs: one for each input of the OpDef.
      controls: what it waits for, with ``^``.
      attrs: attributes as plain values; they come before derived ones.
    """
    if len(inputs) != len(op.input_arg):
        raise AssertionError(
            "{} takes {}".format(op.name, [arg.name for arg in op.input_arg])
        )
    node = node_def_pb2.NodeDef(name=name, op=op.name)
    known = _derived(op, inputs)
    known.update(attrs)
    for key, value in known.items():
        set_by_definition(node, op, key, value)
    for one in inputs:
        node.input.extend([one] if isinstance(one, Tensor) else one)
    node.input.extend(controls)
    return node


def _wait_for(other: str) -> str:
    """The control edge from a node, or from that of a tensor in any form."""
    return "^" + other.split(":", 1)[0]


# An OpDef names the attribute of an input in one of three ways:
#
#     type_list_attr    a list of any dtypes, such as Tin
#     number_attr       the length of a list of one dtype, such as N
#     type_attr         the dtype of an input, or of all of such a list, such as T
def _derived(op: Any, inputs: Sequence[Input]) -> Dict[str, Any]:
    """Attributes that follow from the inputs."""
    found: Dict[str, Any] = {}
    for arg, one in zip(op.input_arg, inputs):
        tensors = [one] if isinstance(one, Tensor) else list(one)
        # A reference has the dtype of what it refers to.
        dtypes = [tensor.dtype % REF_OFFSET for tensor in tensors]
        if arg.type_list_attr:
            found[arg.type_list_attr] = dtypes
            continue
        if arg.number_attr:
            found[arg.number_attr] = len(dtypes)
        if arg.type_attr and dtypes:
            found[arg.type_attr] = dtypes[0]
    return found


def constant_value(value: Any, dtype: int) -> Any:
    """The attribute that holds the value of a constant."""
    if isinstance(value, attr_value_pb2.AttrValue):
        return value
    attr = attr_value_pb2.AttrValue()
    attr.tensor.CopyFrom(tf.compat.v1.make_tensor_proto(value, tf.as_dtype(dtype)))
    return attr
