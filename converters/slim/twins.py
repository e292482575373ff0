"""Equal functions once: the same body under several names becomes one function."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Set

from .library import Library, calls_in

__all__ = ["merge_twins"]

# Ops with state, all of which is in the variable or table that they are given. Others,
# such as random ones, have it for each place where their function is called.
_STATE_GIVEN = frozenset(
    [
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "If",
        "LookupTableFindV2",
        "LookupTableSizeV2",
        "PartitionedCall",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "StatefulPartitionedCall",
        "VariableShape",
        "While",
    ]
)


def merge_twins(
    library: Library, names: Set[str], fixed: Set[str], stateless: Set[str]
) -> Set[str]:
    """Has callers of a function call the first one with the same body.

    ::

        before:  call(f), call(g), where f and g have the same nodes
        after:   call(f), call(f)

    Left alone: functions with state of their own, such as that of a random op; and
    functions of custom gradients, and those whose tensors they take.

    Args:
      library: the functions; those that call others change.
      names: the functions to look at.
      fixed: those among them that others know by name.
      stateless: the ops that have no state.

    Returns:
      The functions that nobody calls any more.
    """
    instead: Dict[str, str] = {}
    apart: Set[str] = set()
    first: Dict[bytes, str] = {}
    for name in _callees_first(library, names):
        function = library.functions[name]
        called = library.called_by(name)
        if not apart.isdisjoint(called) or any(
            node.op not in stateless
            and node.op not in _STATE_GIVEN
            and node.op not in library.functions
            for node in function.node_def
        ):
            apart.add(name)
        for call in calls_in(function.node_def):
            call.name = instead.get(call.name, call.name)
        for node in function.node_def:
            node.op = instead.get(node.op, node.op)
        if name in apart:
            continue
        one = first.setdefault(_body(function), name)
        if one != name and name not in fixed:
            instead[name] = one
    library.forget_calls()
    return set(instead)


def _body(function: Any) -> bytes:
    name = function.signature.name
    function.signature.name = ""
    body: bytes = function.SerializeToString(deterministic=True)
    function.signature.name = name
    return body


def _callees_first(library: Library, names: Iterable[str]) -> List[str]:
    done: Dict[str, None] = {}
    stack = [(name, False) for name in sorted(names, reverse=True)]
    entered: Set[str] = set()
    while stack:
        name, left = stack.pop()
        if left:
            done[name] = None
        elif name not in entered:
            entered.add(name)
            stack.append((name, True))
            stack.extend((other, False) for other in library.called_by(name))
    return list(done)
