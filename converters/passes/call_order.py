"""Lets what waits for a call of a function wait for all that comes before the call.

::

    before:  write -> call -^-> node
    after:   write -> call -^-> node,  write -^-> node,  call:0 -> Identity -^-> node

A call is inlined. A node with a control edge from it then waits for the function's
control results only. It waits neither for what the call took nor for what it gives. The
pass adds both as control edges, in the graph and in each function.

Left alone: graphs without calls or without writes, and inputs that nothing can come
before, such as constants, placeholders and handles.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List

from hub_compat._tf import node_def_pb2

from ..ir.calls import CALLS
from ..ir.context import Context
from ..ir.effects import written_resources
from ..ir.functions import set_attr
from ..ir.graph import Graph, node_of
from ..ir.names import Names

__all__ = ["run"]

_NOTHING_BEFORE = ("Const", "Placeholder", "PlaceholderWithDefault", "VarHandleOp")


def run(graph: Graph, context: Context) -> None:
    """Says in other edges what control edges from calls mean, if there are writes."""
    calls = any(node.op in CALLS for node in graph.nodes.values())
    if not calls or not written_resources(graph):
        return
    order = _Order(graph.nodes, graph.unique_name, "{}:{}", graph.replace)
    for name in order.rewrite(list(graph.nodes.values())):
        # It has changed the nodes, of a graph and of functions alike.
        graph.set_inputs(name, graph.nodes[name].input)
    for function in graph.library.values():
        nodes = {node.name: node for node in function.node_def}
        names = Names(list(nodes) + [arg.name for arg in function.signature.input_arg])

        def add(node: Any, function: Any = function) -> None:
            function.node_def.add().CopyFrom(node)

        _Order(nodes, names.take, "{}:output:{}", add).rewrite(list(nodes.values()))


class _Order:
    """The edges of a graph or of a function.

    Args:
      nodes: by name.
      unique_name: gives a name that is free.
      output: how an output is written.
      add: adds a node.
    """

    def __init__(
        self,
        nodes: Dict[str, Any],
        unique_name: Callable[[str], str],
        output: str,
        add: Callable[[Any], None],
    ) -> None:
        self._nodes = nodes
        self._unique_name = unique_name
        self._output = output
        self._add = add
        self._edges: Dict[str, List[str]] = {}

    def rewrite(self, nodes: Iterable[Any]) -> List[str]:
        """Adds edges to nodes; returns those that have more of them."""
        changed = []
        for node in nodes:
            known = {tensor for tensor in node.input if tensor.startswith("^")}
            more = [
                edge
                for control in sorted(known)
                for edge in self._instead(control[1:])
                if edge not in known
            ]
            if more:
                node.input.extend(dict.fromkeys(more))
                changed.append(node.name)
        return changed

    def _instead(self, name: str) -> List[str]:
        """The control edges to add beside that from a call; none for other nodes."""
        call = self._nodes.get(name)
        if call is None or call.op not in CALLS:
            return []
        if name in self._edges:
            return self._edges[name]
        edges = self._edges[name] = []
        for tensor in call.input:
            producer = tensor[1:] if tensor.startswith("^") else node_of(tensor)
            producer = producer.split(":")[0]
            before = self._nodes.get(producer)
            if before is not None and before.op not in _NOTHING_BEFORE:
                edges += ["^" + producer] + self._instead(producer)
        types = call.attr["T" if "T" in call.attr else "Tout"].list.type
        for i, dtype in enumerate(types):
            done = node_def_pb2.NodeDef(op="Identity")
            done.name = self._unique_name("{}/done_{}".format(name, i))
            done.input.append(self._output.format(name, i))
            set_attr(done, "T", ("type", dtype))
            self._add(done)
            edges.append("^" + done.name)
        return edges
