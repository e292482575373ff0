"""Replaces ``count_up_to`` by ops that a function can have.

::

    before:  ResourceCountUpTo(handle, limit)
    after:   ReadVariableOp(handle) -> Less(limit) -> Assert
             AssignAddVariableOp(handle, 1), after the Assert
             Identity(read), after the addition

The shape function of ResourceCountUpTo insists on knowing the variable's shape.
TensorFlow does not state it for the handles that a loaded function takes. The value is
what the variable held before; at the limit, the Assert is the error.
"""

from __future__ import annotations

from typing import Any, List

from hub_compat._tf import attr_value_pb2, node_def_pb2, tf

from ..ir.context import Context
from ..ir.dtypes import DT_STRING
from ..ir.functions import set_attr
from ..ir.graph import Graph, attr_or_default

__all__ = ["of_references", "run"]


# Given:
#     count = ResourceCountUpTo(step) {limit: 10}
# Result:
#     count/ReadVariableOp = ReadVariableOp(step)
#     count/Assert = Assert(Less(count/ReadVariableOp, 10), "Reached limit of 10")
#     count/AssignAddVariableOp = AssignAddVariableOp(step, 1, ^count/Assert)
#     count = Identity(count/ReadVariableOp, ^count/AssignAddVariableOp)
#
# Afterwards, no ResourceCountUpTo of the graph is left. The control edges are the
# op's own order: read, check, write, and only then the value.
#
# After "variables", which makes ResourceCountUpTo of CountUpTo.
def run(graph: Graph, context: Context) -> None:
    """Makes of each ResourceCountUpTo a read, an assertion and an addition."""
    for node in list(graph.nodes.values()):
        if node.op == "ResourceCountUpTo":
            _Counter(graph, node).replace()


def of_references(graph: Graph) -> None:
    """Does the same with reference variables, as far as resources may be their memory.

    What follows a write to a reference cannot follow one that gives a number, too.
    """
    ops = {node.op for node in graph.nodes.values()}
    if "CountUpTo" not in ops or "AssignVariableOp" not in ops:
        return
    for node in list(graph.nodes.values()):
        if node.op == "CountUpTo":
            _Counter(graph, node, "Identity", "AssignAdd").replace()


class _Counter:
    def __init__(
        self,
        graph: Graph,
        node: Any,
        read: str = "ReadVariableOp",
        write: str = "AssignAddVariableOp",
    ) -> None:
        self._graph = graph
        self._read = read
        self._write = write
        self._node = node
        self._kind = ("type", node.attr["T"].type)
        self._limit = attr_or_default(node, graph.op_def(node.op), "limit").i

    def replace(self) -> None:
        """The value is what the variable held; past the limit, an error."""
        handle = self._node.input[0]
        dtype = {"dtype" if self._read == "ReadVariableOp" else "T": self._kind}
        read = self._add(self._read, list(self._node.input), **dtype)
        # What the variable held stays so when it is written.
        self._graph.copies.add(read)
        limit = self._constant(self._limit, self._kind[1], read)
        less = self._add("Less", [read, limit], T=self._kind)
        message = "Reached limit of {}".format(self._limit).encode()
        check = self._add(
            "Assert",
            [less, self._constant(message, DT_STRING, read)],
            T=("types", [DT_STRING]),
        )
        one = self._constant(1, self._kind[1], read)
        written = self._add(self._write, [handle, one, "^" + check], **dtype)
        new = node_def_pb2.NodeDef(name=self._node.name, op="Identity")
        new.input.extend([read, "^" + written])
        set_attr(new, "T", self._kind)
        self._graph.replace(new)

    def _add(self, op: str, inputs: List[str], **attrs: Any) -> str:
        name = self._graph.unique_name("{}/{}".format(self._node.name, op))
        added = node_def_pb2.NodeDef(name=name, op=op, input=inputs)
        for key, value in attrs.items():
            set_attr(added, key, value)
        self._graph.replace(added)
        return name

    def _constant(self, value: Any, dtype: int, place: str) -> str:
        attr = attr_value_pb2.AttrValue()
        attr.tensor.CopyFrom(tf.compat.v1.make_tensor_proto(value, tf.as_dtype(dtype)))
        # Nothing else says that a constant is inside of a loop.
        return self._add("Const", ["^" + place], dtype=("type", dtype), value=attr)
