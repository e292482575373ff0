"""Describes the memory of resource variables in a session, and their users."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from ...ir.graph import Graph, data_inputs, node_of

__all__ = ["HANDED_ON", "Memory", "Place", "Sharing", "View", "place_of"]

# What hands on a resource.
HANDED_ON = ("Enter", "Identity", "Switch")


class View(NamedTuple):
    """A node that gives memory another shape, or takes a part of it.

    Attributes:
      node: its name.
      place: which of its inputs is the memory.
      output: which of its outputs.
    """

    node: str
    place: int
    output: int


# A reference variable, and what gave it another shape or took a part of it.
Memory = Tuple[str, Tuple[View, ...]]


class Place(NamedTuple):
    """A resource variable, as a node takes it.

    Attributes:
      node: the node that hands it out.
      path: the Switches and Enters between both, with the output taken.
    """

    node: str
    path: Tuple[Tuple[str, int], ...]


class Sharing(NamedTuple):
    """The memory of a resource variable in a session.

    Attributes:
      place: a node that hands the variable out.
      memories: what it may be the memory of, variables and views of them.
      assigns: nodes that assign it, and how they take it.
      copies: nodes that give it memory of its own.
      for_good: those after which it stays so.
      given: what nodes assign, as it was before any read of its own was put there.
    """

    place: str
    memories: Set[Memory]
    assigns: Dict[str, Place]
    copies: Dict[str, Place]
    for_good: Set[str]
    given: Dict[str, str]


# Given:
#     enter = Enter(handle),  switch = Switch(enter, p),  switch:1 is read
# Result:
#     Place("handle", (("enter", 0), ("switch", 1)))       the outermost first
#
# A copy of this way takes another tensor to the same place.
def place_of(graph: Graph, tensor: str) -> Optional[Place]:
    """The resource variable that a tensor is the handle of; None of others."""
    path: List[Tuple[str, int]] = []
    while True:
        name = node_of(tensor)
        node = graph.nodes[name]
        if node.op == "VarHandleOp":
            return Place(name, tuple(reversed(path)))
        if node.op not in HANDED_ON:
            return None
        if node.op != "Identity":
            path.append((name, int(tensor.partition(":")[2] or 0)))
        tensor = data_inputs(graph, name)[0].tensor
