"""Graphs that lead back to where they came from, which none may but a loop.

TensorFlow refuses them when it imports a graph; a walk along the inputs would go on for
ever.
"""

from __future__ import annotations

import collections
from typing import (
    Any,
    Collection,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
)

from hub_compat.errors import CorruptModuleError

from .calls import called_by
from .graph import Graph

__all__ = ["check_acyclic"]

# What passes a value on to the next iteration of a loop.
_BACK = ("NextIteration", "RefNextIteration")


def check_acyclic(graph: Graph) -> None:
    """Refuses a graph in which a node, or a function, needs itself.

    Raises:
      CorruptModuleError: it names one.
    """
    found = _cyclic_node(graph.nodes.values())
    if found is not None:
        raise _damaged("its node {!r} needs its own output".format(found))
    for name, function in graph.library.items():
        found = _cyclic_node(function.node_def)
        if found is not None:
            raise _damaged(
                "the node {!r} of its function {!r} needs its own output".format(
                    found, name
                )
            )
    calls: Dict[str, List[str]] = {}
    for name, function in graph.library.items():
        calls[name] = [each for n in function.node_def for each in called_by(n)]
    found = _cyclic(calls)
    if found is not None:
        raise _damaged("its function {!r} calls itself".format(found))


def _cyclic_node(nodes: Iterable[Any]) -> Optional[str]:
    """One of the nodes that need themselves in one iteration, or None."""
    inputs: Dict[str, Sequence[str]] = {}
    back = set()
    for node in nodes:
        inputs[node.name] = node.input
        if node.op in _BACK:
            back.add(node.name)
    return _cyclic(inputs, back)


def _cyclic(
    inputs: Mapping[str, Iterable[str]], back: Collection[str] = ()
) -> Optional[str]:
    """One of the names that lead to themselves; None if there is none.

    Args:
      inputs: by name, what leads to it: ``"a"``, ``"a:1"``, ``"a:out:0"``, ``"^a"``.
      back: names that lead to what comes next in another iteration only.
    """
    waits: Dict[str, int] = dict.fromkeys(inputs, 0)
    users: Dict[str, List[str]] = collections.defaultdict(list)
    for name, tensors in inputs.items():
        for tensor in tensors:
            source = tensor.split(":", 1)[0].lstrip("^")
            if source not in waits or source in back:
                continue
            waits[name] += 1
            users[source].append(name)
    ready = [name for name, count in waits.items() if not count]
    done = 0
    while ready:
        done += 1
        for user in users[ready.pop()]:
            waits[user] -= 1
            if not waits[user]:
                ready.append(user)
    if done == len(waits):
        return None
    return min(name for name, count in waits.items() if count)


def _damaged(problem: str) -> CorruptModuleError:
    return CorruptModuleError(
        "The graph of the module is damaged: {}, which is allowed in loops only. "
        "Download or export the module again.".format(problem)
    )
