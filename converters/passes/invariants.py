"""What holds after some of the passes, for tests and for debugging."""

from __future__ import annotations

from typing import Optional

from ..ir.context import Context
from ..ir.dtypes import REF_OFFSET
from ..ir.graph import CONTROL_FLOW_OPS, Graph
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
    """What TF1 control flow there still is was refused, with a reason."""
    for name, node in graph.nodes.items():
        if node.op in CONTROL_FLOW_OPS and name not in context.left:
            return "{!r} ({}) is left, and nothing says why".format(name, node.op)
    return None


def no_loose_ends(graph: Graph, context: Context) -> Optional[str]:
    """Each input of each node is there."""
    for name in graph.nodes:
        for edge in graph.inputs(name):
            if edge.node not in graph.nodes:
                return "{!r} takes {!r}, which is gone".format(name, edge.tensor)
    return None
