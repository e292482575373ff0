"""Which effects of a signature are its update ops, and which its outputs wait for.

TF2 runs all effects of a function. In TF1, a training loop runs what is in UPDATE_OPS:
moving averages, whose new values come from the inputs. All other effects, such as
seeds, counters, checks and messages, belong to the outputs.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, List, NamedTuple, Sequence, Set, Tuple

from ..ir.flat_graph import FlatGraph
from ..ir.graph import node_of
from ..ir.inlining import Inliner, Kind

__all__ = ["Effects", "UpdateOps", "split"]

# What converters/backend/traces.py calls the functions of update ops.
UPDATES = "updates_"


class Effects(NamedTuple):
    """The effects of a signature that its outputs do not need.

    Attributes:
      updates: the update ops.
      tied: the nodes that the outputs have to wait for.
      read: update ops whose new values an output reads, so that they run with it.
    """

    updates: List[str]
    tied: List[str]
    read: List[str]


def split(
    graph: FlatGraph,
    inliner: Inliner,
    touched: Sequence[str],
    outputs: Sequence[str],
    inputs: Collection[str],
    training: bool,
) -> Effects:
    """Tells update ops from other effects.

    Args:
      graph: the graph.
      inliner: what its nodes do, and where they are from.
      touched: the nodes with state of the signature.
      outputs: its output tensors.
      inputs: the nodes that are its inputs.
      training: whether it may have update ops.
    """
    kinds = inliner.kinds
    needed = set(graph.slice(outputs))
    effects = [n for n in touched if kinds[n] in (Kind.WRITE, Kind.CHECK)]
    loose = [name for name in effects if name not in needed]
    if not training:
        return Effects([], loose, [])
    fed = _behind(graph, inputs)
    for name in loose:
        # Those of a converted module are in functions of their own.
        if any(home.startswith(UPDATES) for home in inliner.homes[name]):
            fed.add(name)
    updates = [n for n in loose if kinds[n] is Kind.WRITE and n in fed]
    tied = [name for name in loose if name not in updates]
    # What something else waits for has to run with that.
    bound = set(graph.slice(tied)) if tied else set()
    tied += [name for name in updates if name in bound]
    read = [n for n in effects if n in needed and kinds[n] is Kind.WRITE and n in fed]
    return Effects([n for n in updates if n not in bound], tied, read)


def _behind(graph: FlatGraph, inputs: Collection[str]) -> Set[str]:
    """The nodes whose inputs depend on some nodes."""
    found = set(inputs)
    for name, node in graph.nodes.items():
        for tensor in node.input:
            if not tensor.startswith("^") and node_of(tensor) in found:
                found.add(name)
                break
    return found


class UpdateOps:
    """The UPDATE_OPS of a variant.

    Attributes:
      names: the nodes.

    Whoever imports a module gets all of them with each signature. So they are those of
    the first signature. Of another one, those that do the same are the same, whatever
    they wait for, and the rest belong to its outputs.
    """

    def __init__(self, graph: FlatGraph) -> None:
        self.names: List[str] = []
        self._graph = graph
        self._known: Dict[Tuple[Any, ...], int] = {}
        self._is_first = True

    def add(self, updates: Sequence[str]) -> List[str]:
        """Adds those of a signature; returns the ones that belong to its outputs."""
        counts: Dict[Tuple[Any, ...], int] = {}
        rest = []
        for name in updates:
            key = self._key(name)
            counts[key] = counts.get(key, 0) + 1
            if self._is_first:
                self.names.append(name)
            elif counts[key] > self._known.get(key, 0):
                rest.append(name)
        if self._is_first:
            self._known = counts
        self._is_first = self._is_first and not updates
        return rest

    def _key(self, name: str) -> Tuple[Any, ...]:
        node = self._graph.nodes[name]
        attrs = tuple(
            (key, node.attr[key].SerializeToString(deterministic=True))
            for key in sorted(node.attr)
        )
        inputs = tuple(t for t in node.input if not t.startswith("^"))
        return (node.op, attrs, inputs)
