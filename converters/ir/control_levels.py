"""How deep in TF1 control flow each node of a graph is."""

from __future__ import annotations

from typing import Dict

from .graph import CONTROL_FLOW_OPS, Graph

__all__ = ["control_levels"]


# How the level of a node differs from that of its inputs; a loop passes Enter
# and Switch on its way to Exit.
_STEPS = {"Enter": 1, "Switch": 1, "Merge": -1, "Exit": -2}


def control_levels(graph: Graph) -> Dict[str, int]:
    """How many loops and conditionals each node is inside of.

    Iterative, as graphs are deep; back edges of loops do not count.
    """
    levels: Dict[str, int] = {}
    if not any(node.op in CONTROL_FLOW_OPS for node in graph.nodes.values()):
        return dict.fromkeys(graph.nodes, 0)
    for start in graph.nodes:
        stack = [start]
        while stack:
            name = stack[-1]
            if name in levels:
                stack.pop()
                continue
            op = graph.nodes[name].op
            inputs = [edge.node for edge in graph.inputs(name)]
            before = [i for i in inputs if graph.node(i).op != "NextIteration"]
            loop = op == "Merge" and len(before) < len(inputs)
            waiting = [i for i in before if i not in levels]
            if waiting:
                stack.extend(waiting)
                continue
            step = 0 if loop else _STEPS.get(op, 0)
            level = max((levels[i] for i in before), default=0) + step
            levels[name] = max(level, 0)
            stack.pop()
    return levels
