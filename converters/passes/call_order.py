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

from typing import Dict, List, Union

from ..ir.builder import Builder, Tensor
from ..ir.calls import CALLS
from ..ir.context import Context
from ..ir.effects import written_resources
from ..ir.function_nodes import FunctionNodes
from ..ir.graph import Graph, node_of, normal

__all__ = ["run"]

_NOTHING_BEFORE = ("Const", "Placeholder", "PlaceholderWithDefault", "VarHandleOp")


# Given:
#     before = AssignAddVariableOp(total, x)
#     taken = Neg(x, ^before)
#     call = StatefulPartitionedCall(total, taken) {f: @add}
#     y = ReadVariableOp(total, ^call)
# Result:
#     call/done_0 = Identity(call)
#     y = ReadVariableOp(total, ^call, ^taken, ^call/done_0)
#
# Afterwards, a control edge from a call keeps its meaning when the runtime inlines
# the call. In graphs without a write nothing could tell, and nothing changes.
#
# After "control outputs", which covers the effects inside the function; this pass
# covers what is before and after them.
def run(graph: Graph, context: Context) -> None:
    """Says in other edges what control edges from calls mean, if there are writes."""
    calls = any(node.op in CALLS for node in graph.nodes.values())
    if not calls or not written_resources(graph):
        return
    _Order(graph).rewrite()
    for function in graph.library.values():
        _Order(FunctionNodes(function, graph.op_def)).rewrite()


class _Order:
    """The edges of a graph or of a function."""

    def __init__(self, place: Union[Graph, FunctionNodes]) -> None:
        self._place = place
        self._nodes = place.nodes
        self._others: Dict[str, List[str]] = {}

    def rewrite(self) -> None:
        """Adds control edges to the nodes that wait for calls."""
        for name, node in list(self._nodes.items()):
            known = {tensor[1:] for tensor in node.input if tensor.startswith("^")}
            more = [
                other
                for call in sorted(known)
                for other in self._instead(call)
                if other not in known
            ]
            if more:
                self._place.wait_for(name, dict.fromkeys(more))

    def _instead(self, name: str) -> List[str]:
        """The nodes to wait for beside a call; none for other nodes."""
        call = self._nodes.get(name)
        if call is None or call.op not in CALLS:
            return []
        if name in self._others:
            return self._others[name]
        others = self._others[name] = []
        for tensor in call.input:
            producer = tensor[1:] if tensor.startswith("^") else node_of(tensor)
            producer = producer.split(":")[0]
            before = self._nodes.get(producer)
            if before is not None and before.op not in _NOTHING_BEFORE:
                others += [producer] + self._instead(producer)
        results = self._place.output_tensors(call, self._place.op_def(call.op))
        build = Builder(self._place)
        for i, tensor in enumerate(results):
            result = Tensor(normal(tensor), tensor.dtype)
            build.op("Identity", result, name="{}/done_{}".format(name, i))
        others += build.added
        return others
