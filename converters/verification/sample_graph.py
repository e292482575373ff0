"""A graph in which inputs can be followed to what parses and decodes them.

A TF2 model parses its tf.Examples, and decodes its images, in functions.
"""

from __future__ import annotations

from typing import Any

from hub_compat._tf import meta_graph_pb2
from hub_compat.errors import HubCompatError

from ..ir.calls import PARTITIONED_CALLS, calling, make_partitioned
from ..ir.graph import Graph
from ..passes.control_flow.inlining import inline_call

__all__ = ["flat_graph"]

# Models have functions in functions, ten deep or so; some call themselves.
_MOSTPARTITIONED_CALLS = 200


def flat_graph(meta_graph: Any, graph: Graph, ops: Any) -> Graph:
    """A graph with the functions that hold some ops in the place of their calls.

    Args:
      meta_graph: the MetaGraphDef; it stays as it is.
      graph: its graph.
      ops: the ops.

    Returns:
      The graph to look at; the given one if no function holds such an op.
    """
    held = {
        name
        for name, function in graph.library.items()
        if any(node.op in ops for node in function.node_def)
    }
    if not held:
        return graph
    copy = meta_graph_pb2.MetaGraphDef()
    copy.CopyFrom(meta_graph)
    flat = Graph(copy)
    try:
        make_partitioned(flat)
        wanted = calling(flat.library, held)
        stack = [
            name for name, node in flat.nodes.items() if node.op in PARTITIONED_CALLS
        ]
        for _ in range(_MOSTPARTITIONED_CALLS):
            while stack and flat.nodes[stack[-1]].attr["f"].func.name not in wanted:
                stack.pop()
            if not stack:
                break
            added = inline_call(flat, stack.pop())
            stack += [
                name for name in added if flat.nodes[name].op in PARTITIONED_CALLS
            ]
    except (HubCompatError, KeyError):
        # An op that this TensorFlow does not know: then words will have to do.
        return graph
    return flat
