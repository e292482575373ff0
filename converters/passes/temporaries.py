"""Replaces temporary variables, which live for one step, by the values that they hold.

::

    before:  TemporaryVariable -> Assign(a) -> AssignAdd(b) -> DestroyTemporaryVariable
    after:   Identity(a) -> Add(b) -> Identity

``TemporaryVariable`` has no gradient, and two calls of a function in one step would
share it. Writes that follow one another are a chain of values.

Left alone is a variable whose value is not sure:

1. The first write is not an Assign.
2. Two writes have no order, and do not commute (additions and subtractions do).
3. A reader does not come after all writes, or takes a reference.
4. A write computes with the variable itself.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from hub_compat._tf import node_def_pb2

from ..ir.context import Context
from ..ir.functions import set_attr
from ..ir.graph import Graph, data_inputs, topological

__all__ = ["run"]

_WRITES = {"Assign": "Identity", "AssignAdd": "Add", "AssignSub": "Sub"}
_COMMUTING = ("AssignAdd", "AssignSub")
_DESTROY = "DestroyTemporaryVariable"


# Given:
#     sum = TemporaryVariable
#     first = Assign(sum, x)
#     second = AssignAdd(first, x)
#     y = DestroyTemporaryVariable(second)
# Result:
#     sum = TemporaryVariable                 nothing takes it any more
#     first = Identity(x)
#     second = Add(first, x)
#     y = Identity(second)
#
# Afterwards, the former writes are in graph.copies: each made memory of its own, so
# no later write to a variable shows in it.
#
# Before "variables", which knows no resource to put in a temporary variable's place.
def run(graph: Graph, context: Context) -> None:
    """Makes values of those whose writes are in an order; others stay as they are."""
    for name in [
        n for n, node in graph.nodes.items() if node.op == "TemporaryVariable"
    ]:
        _Temporary(graph, name).replace()


class _Temporary:
    """A temporary variable, with its users.

    Args:
      graph: the graph, with references.
      name: the node that makes the variable.
    """

    def __init__(self, graph: Graph, name: str) -> None:
        self._graph = graph
        self._users: List[str] = []
        references = {name + ":0"}
        self._order = topological(graph, list(graph.nodes))
        for user in self._order:
            tensors = [edge.tensor for edge in data_inputs(graph, user)]
            if not references.isdisjoint(tensors):
                self._users.append(user)
                if tensors[0] in references and graph.nodes[user].op in _WRITES:
                    references.add(user + ":0")
        self._references = references
        self._writes = [t for t in self._users if graph.nodes[t].op in _WRITES]

    def replace(self) -> None:
        """Replaces the variable, if it has one value at a time."""
        values = self._values()
        if values is None:
            return
        graph = self._graph
        before = ""
        for name in self._writes:
            node = graph.nodes[name]
            op = _WRITES[node.op]
            taken = [node.input[1]] if op == "Identity" else [before, node.input[1]]
            self._become(node, op, taken)
            # It was written to memory of the variable's own.
            graph.copies.add(name)
            before = name
        for name, value in values.items():
            node = graph.nodes[name]
            if node.op == _DESTROY:
                self._become(node, "Identity", [value])
                continue
            for i, edge in enumerate(data_inputs(graph, name)):
                if edge.tensor in self._references:
                    graph.set_input(name, i, value)

    def _values(self) -> Optional[Dict[str, str]]:
        """By node that reads, the write whose value it gets; None if not sure."""
        graph = self._graph
        kinds = [graph.nodes[name].op for name in self._writes]
        if not kinds or kinds[0] != "Assign":
            return None
        behind = {name: set(graph.slice(["^" + name])) for name in self._users}
        readers = [name for name in self._users if name not in self._writes]
        for one, two in zip(self._writes, self._writes[1:]):
            both = {graph.nodes[one].op, graph.nodes[two].op}
            if one not in behind[two] and not both.issubset(_COMMUTING):
                return None
        found = {}
        for name in readers:
            node = graph.nodes[name]
            seen = [write for write in self._writes if write in behind[name]]
            # What is written later might show, or not.
            if seen != self._writes or node.op.startswith("Ref"):
                return None
            found[name] = seen[-1]
        for name in self._writes:
            operand = data_inputs(graph, name)[1:]
            if any(edge.tensor in self._references for edge in operand):
                return None
        return found

    def _become(self, node: Any, op: str, inputs: List[str]) -> None:
        new = node_def_pb2.NodeDef(name=node.name, op=op, input=inputs)
        new.input.extend(tensor for tensor in node.input if tensor.startswith("^"))
        set_attr(new, "T", node.attr["T"])
        self._graph.replace(new)
