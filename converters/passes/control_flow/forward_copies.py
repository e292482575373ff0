"""Copies loops whose gradient is in the graph, for results that need no gradient.

::

    before:  loop with stacks -> result, gradient
    after:   loop with stacks -> gradient;  copy of the loop -> result

``tf.gradients`` has a loop keep its values on stacks, which a While cannot. Signatures
that return no gradient would share that loop. They get one of their own, as it was.

Left alone: loops that draw random numbers or write, as these must not run twice.
"""

from __future__ import annotations

from typing import Collection, Dict, Iterable, List, Sequence, Set, Tuple

from hub_compat._tf import node_def_pb2

from ...ir.effects import Determinism, is_random, is_write
from ...ir.functions import set_attr
from ...ir.graph import Graph, normal
from .components import STACKS, find_components
from .regions import Regions

__all__ = ["part_from_gradients"]

# What the gradient of a loop or of an array is made of.
_GRADIENTS = STACKS + ("TensorArrayGrad", "TensorArrayGradV2", "TensorArrayGradV3")


# Given:
#     loop (with push to stack) -> y                 wanted: {y}, {dx}
#     stack -> StackPopV2 -> dx
# Result:
#     loop (with push to stack),  stack -> StackPopV2 -> dx
#     loop/forward -> y/forward                      moved: y -> y/forward
#
# Afterwards, what is wanted without a gradient is computed by nodes that have none.
# Only users outside of the component move over; dx keeps its own loop.
def part_from_gradients(
    graph: Graph,
    wanted: Iterable[Tuple[Sequence[str], Set[str]]],
    fixed: Collection[str] = (),
) -> Dict[str, str]:
    """Copies loops for what is wanted without their gradients.

    Args:
      graph: the graph.
      wanted: tensors that are wanted together, and what is fed for them.
      fixed: constants that stay where they are: the paths of assets.

    Returns:
      What was wanted of a loop itself, and what gives it now.
    """
    if all(node.op not in _GRADIENTS for node in graph.nodes.values()):
        return {}
    needed: Dict[str, None] = {}
    fetched: Set[str] = set()
    for tensors, fed in wanted:
        names = graph.slice(tensors, fed)
        if all(graph.nodes[name].op not in _GRADIENTS for name in names):
            needed.update(dict.fromkeys(names))
            fetched.update(map(normal, tensors))
    moved: Dict[str, str] = {}
    regions = Regions(graph, list(graph.nodes))
    for component in find_components(graph, regions):
        if any(graph.nodes[name].op in _GRADIENTS for name in component):
            names = [n for n in component if n in needed and n not in fixed]
            if any(regions.frames[name] for name in names) and _repeats(graph, names):
                copies = _copy(graph, names, set(needed).difference(component))
                for tensor in fetched:
                    name, _, index = tensor.partition(":")
                    if name in copies:
                        moved[tensor] = "{}:{}".format(copies[name], index)
    return moved


def _repeats(graph: Graph, names: List[str]) -> bool:
    """Whether some nodes may run twice: they draw nothing at random, nor write."""
    ops = Determinism(graph).ops(names)
    return not any(is_random(op) or is_write(op) for op in ops)


def _copy(graph: Graph, names: List[str], users: Collection[str]) -> Dict[str, str]:
    """Copies nodes, and has some others take what the copies give."""
    suffix = "/forward"
    copies = {name: graph.unique_name(name + suffix) for name in names}

    def instead(tensor: str) -> str:
        start = "^" if tensor.startswith("^") else ""
        name, colon, index = tensor[len(start) :].partition(":")
        return start + copies.get(name, name) + colon + index

    for name in names:
        copy = node_def_pb2.NodeDef()
        copy.CopyFrom(graph.nodes[name])
        copy.name = copies[name]
        copy.input[:] = [instead(tensor) for tensor in copy.input]
        if copy.op == "Enter":
            frame = copy.attr["frame_name"].s
            set_attr(copy, "frame_name", frame + suffix.encode())
        graph.replace(copy)
        if name in graph.stopped:
            graph.stopped.add(copy.name)
    for name in users:
        node = graph.nodes[name]
        inputs = [instead(tensor) for tensor in node.input]
        if inputs != list(node.input):
            graph.set_inputs(name, inputs)
    return copies
