"""Notes the Exits of loops through which no gradient goes: ``back_prop=False``.

The pass changes no node. It sets ``graph.stopped``; the pass on control flow makes a
StopGradient of each of these Exits::

    before:  x -> Enter -> ... -> Exit
    after:   x -> Enter -> ... -> Exit, named in graph.stopped

The nodes do not say it. The WhileContextDefs of the collections ``while_context`` and
``cond_context`` do, at any depth. TensorFlow 1.15 gives None for the gradient of such a
loop's results (python/ops/control_flow_grad.py).
"""

from __future__ import annotations

from typing import Any, Iterator

from hub_compat._tf import control_flow_pb2

from ..ir.context import Context
from ..ir.graph import Graph, node_of

__all__ = ["run"]


# Given:
#     while_context fixed:   back_prop=False, exits exit_fixed:0
#     while_context trained: back_prop=True,  exits exit_trained:0
# Result: the same nodes, and
#     graph.stopped = {exit_fixed}
#
# Afterwards, graph.stopped is complete: no later pass reads these contexts.
#
# It reads the collections alone. So any place before "control flow" would do, which
# makes a StopGradient of each of these Exits.
def run(graph: Graph, context: Context) -> None:
    """Notes the Exits of such loops; the graph need not have them any more."""
    graph.stopped = set(_exits(context.collections))


def _exits(collections: Any) -> Iterator[str]:
    if "while_context" in collections:
        for data in collections["while_context"].bytes_list.value:
            yield from _of_loop(control_flow_pb2.WhileContextDef.FromString(data))
    if "cond_context" in collections:
        for data in collections["cond_context"].bytes_list.value:
            conditional = control_flow_pb2.CondContextDef.FromString(data)
            yield from _of_nested(conditional.nested_contexts)


def _of_loop(loop: Any) -> Iterator[str]:
    if not loop.back_prop:
        for name in loop.loop_exit_names:
            yield node_of(name)
    yield from _of_nested(loop.nested_contexts)


def _of_nested(contexts: Any) -> Iterator[str]:
    for context in contexts:
        if context.HasField("while_ctxt"):
            yield from _of_loop(context.while_ctxt)
        if context.HasField("cond_ctxt"):
            yield from _of_nested(context.cond_ctxt.nested_contexts)
