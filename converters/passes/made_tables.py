"""Moves tables and variables that functions make into the graph.

::

    before:  PartitionedCall(make_table) -> handle -> PartitionedCall(look_up)
    after:   HashTableV2                 -> handle -> PartitionedCall(look_up)

Such calls come from a TF2 module that ``tf.saved_model.load`` or ``hub.load`` added to
a TF1 graph. One function returns the handle, another fills the table, others look keys
up. A TF1 SavedModel may hold functions that make variables as well, and restore them.
Objects are made of nodes of the graph, so the functions that make something are
inlined where they are called. A node that makes a table loses its inputs: nothing that
the call waits for is needed to make it.

A function that calls itself stays as it is, and so do its callers.
"""

from __future__ import annotations

from typing import Dict, Iterable, Mapping, Set

from ..ir.calls import PARTITIONED_CALLS, make_partitioned
from ..ir.context import Context
from ..ir.graph import Graph
from ..ir.tables import is_table
from ..ir.variables import HANDLE_OPS
from .control_flow.inlining import inline_call

__all__ = ["run"]


# Given:
#     handle = StatefulPartitionedCall {f: @create}     create() makes a HashTableV2
#     ids = StatefulPartitionedCall(handle, words) {f: @find}
# Result:
#     handle/inlined/body/vocabulary = HashTableV2
#     handle/inlined/result_0 = Identity(handle/inlined/body/vocabulary)
#     handle = NoOp(^...)                               who waited for the call, waits
#     ids = StatefulPartitionedCall(handle/inlined/result_0, words) {f: @find}
#
# Afterwards, a node of the graph makes each table and variable, as in TF1's own
# graphs. Only functions that call themselves are left.
#
# First of all: the next passes look for tables and their initializers in the graph,
# and would not find what a function makes.
def run(graph: Graph, context: Context) -> None:
    """Puts functions that make tables in the place of their calls."""
    makers = {
        name
        for name, function in graph.library.items()
        if any(
            node.op in HANDLE_OPS or is_table(graph, node.op)
            for node in function.node_def
        )
    }
    if not makers:
        return
    make_partitioned(graph)
    wanted = _called_directly(graph, makers)
    stack = [
        name
        for name, node in graph.nodes.items()
        if node.op in PARTITIONED_CALLS and node.attr["f"].func.name in wanted
    ]
    while stack:
        for name in inline_call(graph, stack.pop()):
            node = graph.nodes[name]
            if node.op in PARTITIONED_CALLS and node.attr["f"].func.name in wanted:
                stack.append(name)
            elif node.input and (node.op in HANDLE_OPS or is_table(graph, node.op)):
                # Nothing that a call waits for is needed to make a table.
                inputs = [tensor for tensor in node.input if tensor[0] != "^"]
                graph.set_inputs(name, inputs)


def _called_directly(graph: Graph, makers: Set[str]) -> Set[str]:
    """The functions that make tables, and those that call one of them by a call.

    Those that call themselves stay, and so does what calls them.
    """
    callers: Dict[str, Set[str]] = {}
    for name, function in graph.library.items():
        for node in function.node_def:
            if node.op in PARTITIONED_CALLS:
                callers.setdefault(node.attr["f"].func.name, set()).add(name)
    found = _reached(callers, makers)
    endless = {n for n in found if n in _reached(callers, callers.get(n, ()))}
    return found - _reached(callers, endless)


def _reached(edges: Mapping[str, Set[str]], start: Iterable[str]) -> Set[str]:
    found: Set[str] = set()
    stack = list(start)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(edges.get(name, ()))
    return found
