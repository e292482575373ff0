"""Checks what holds after some of the passes, for tests and debugging."""

from __future__ import annotations

from typing import List, Optional

from ..ir.context import Context
from ..ir.dtypes import REF_OFFSET
from ..ir.graph import CONTROL_FLOW_OPS, Graph, node_of, normal
from ..ir.variables import REFERENCE_OPS

__all__ = ["no_control_flow", "no_loose_ends", "no_references"]


def no_references(graph: Graph, context: Context) -> Optional[str]:
    """No tensor is a reference to a variable any more; tables follow."""
    for name, node in graph.nodes.items():
        if node.op in REFERENCE_OPS:
            return "{!r} ({}) still makes a reference".format(name, node.op)
        for i, edge in enumerate(graph.inputs(name)):
            if not edge.tensor.startswith("^") and edge.tensor in graph.references:
                declared = graph.inputs_types(name)
                if i < len(declared) and declared[i] > REF_OFFSET:
                    return "{!r} ({}) still takes {!r} as a reference".format(
                        name, node.op, edge.tensor
                    )
    return None


def no_control_flow(graph: Graph, context: Context) -> Optional[str]:
    """Finds TF1 control flow that is still needed and was not refused."""
    for name in _needed(graph, context):
        op = graph.nodes[name].op
        if op in CONTROL_FLOW_OPS and name not in context.left:
            return "{!r} ({}) is left, and nothing says why".format(name, op)
    return None


def no_loose_ends(graph: Graph, context: Context) -> Optional[str]:
    """Each input of each node that is needed is there."""
    for name in _needed(graph, context):
        for edge in graph.inputs(name):
            if edge.node not in graph.nodes:
                return "{!r} takes {!r}, which is gone".format(name, edge.tensor)
    return None


def _needed(graph: Graph, context: Context) -> List[str]:
    """The nodes that the result will have; their inputs may be gone."""
    stack = []
    for fetch in context.wanted() + ["^" + op for op in context.initializers]:
        while normal(fetch) in graph.aliases:
            fetch = graph.aliases[normal(fetch)]
        stack.append(node_of(fetch))
    found = set()
    while stack:
        name = stack.pop()
        if name in graph.nodes and name not in found:
            found.add(name)
            stack += [edge.node for edge in graph.inputs(name)]
    return graph.in_order(found)
