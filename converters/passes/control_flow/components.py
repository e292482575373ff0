"""Finds connected components: what can only be rewritten together.

Loops, conditionals and TensorArrays that share nodes are one component. What leaves a
loop or conditional and enters another does not connect them, unless it is an array::

    loop A -> Exit -> loop B                    two components
    loop A -> Exit (of an array) -> loop B      one component
"""

from __future__ import annotations

from typing import Dict, List, Set

from ...ir.graph import CONTROL_FLOW_OPS, Graph
from .regions import Regions

__all__ = [
    "ARRAY",
    "PASSES_ON",
    "STACKS",
    "find_components",
    "has_control_flow",
    "is_control_flow",
]

ARRAY = "TensorArray"
STACKS = ("Stack", "StackV2", "StackPush", "StackPushV2", "StackPop", "StackPopV2")
# What hands an array on; of the rest of its ops some do, by an output of this name.
PASSES_ON = CONTROL_FLOW_OPS | {"Identity"}
_FLOWS = ("handle", "grad_handle", "flow", "flow_out")


def has_control_flow(graph: Graph) -> bool:
    """Whether a graph has anything to rewrite."""
    return any(is_control_flow(node.op) for node in graph.nodes.values())


def is_control_flow(op: str) -> bool:
    """Whether an op is one of TF1's loops, conditionals and arrays."""
    return op in CONTROL_FLOW_OPS or op.startswith(ARRAY) or op in STACKS


# Given:
#     x -> loop A -> Exit -> Add -> loop B -> Exit
#     array -> loop C (writes) -> Exit of the flow -> loop D (reads)
# Result: three components
#     [loop A],  [loop B],  [array, loop C, loop D]
#
# Afterwards, each component can be rewritten, or left, with no regard to the others:
# tensors between two of them are plain values. An array becomes a list in all places
# or in none, so it ties its users together.
#
# After "open branches", which adds Merges. Before hoisting, which works in one.
def find_components(graph: Graph, regions: Regions) -> List[List[str]]:
    """Finds the connected components of loops, conditionals and arrays.

    A tensor that leaves a loop or conditional and enters another does not connect
    them, unless it is an array.
    """
    arrays = _array_tensors(graph, regions)
    members = [
        name
        for name in regions.order
        if regions.frames[name]
        or regions.guards[name]
        or is_control_flow(graph.nodes[name].op)
        or name in arrays
    ]
    parents = {name: name for name in members}

    # Union-find; the paths are halved on the way.
    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for name in members:
        for edge in graph.inputs(name):
            if edge.node not in parents:
                continue
            outside = not regions.frames[edge.node] and not regions.guards[edge.node]
            if outside and graph.nodes[edge.node].op in ("Exit", "Merge"):
                if edge.node not in arrays or edge.tensor.startswith("^"):
                    continue
            parents[root(name)] = root(edge.node)
    components: Dict[str, List[str]] = {}
    for name in members:
        components.setdefault(root(name), []).append(name)
    return list(components.values())


def _array_tensors(graph: Graph, regions: Regions) -> Set[str]:
    """The nodes that hand TensorArrays, or stacks, on."""
    found: Set[str] = set()
    for name in regions.order:
        op = graph.nodes[name].op
        if op.startswith(ARRAY) or op in STACKS:
            if any(output.arg in _FLOWS for output in graph.outputs(name)):
                found.add(name)
        elif op in PASSES_ON:
            if any(
                edge.node in found
                for edge in graph.inputs(name)
                if not edge.tensor.startswith("^")
            ):
                found.add(name)
    return found
