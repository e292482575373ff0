"""Equal functions once: the same body under several names becomes one function."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional, Set

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


_GRADIENT = "_gradient_op_type"


def merge_twins(
    library: Library,
    objects: Any,
    names: Set[str],
    fixed: Set[str],
    stateless: Set[str],
) -> None:
    """Has callers of a function call the first one with the same body.

    ::

        before:  call(f), call(g), where f and g have the same nodes
        after:   call(f), call(f)

    Functions with custom gradients are equal where these are, and take tensors of the
    same names of their own function. Left alone: functions with state of their own,
    such as that of a random op; and functions whose tensors others take.

    Args:
      library: the functions; those that call others change.
      objects: the SavedObjectGraph.
      names: the functions to look at.
      fixed: those among them that objects name.
      stateless: the ops that have no state.
    """
    instead: Dict[str, str] = {}
    apart: Set[str] = set()
    first: Dict[bytes, str] = {}
    gradients = _Gradients(library, objects, names)
    for name in _callees_first(library, names):
        function = library.functions[name]
        if not apart.isdisjoint(library.called_by(name)) or any(
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
        if name in apart or gradients.is_one(name):
            continue
        key = gradients.body_of(function)
        if key is not None:
            one = first.setdefault(key, name)
            if one != name and name not in fixed:
                instead[name] = one
    library.forget_calls()


class _Gradients:
    """The custom gradients of functions.

    Args:
      library: the functions.
      objects: the SavedObjectGraph, which says what gradients take.
      names: the functions to look at.
    """

    def __init__(self, library: Library, objects: Any, names: Set[str]) -> None:
        self._library = library
        self._objects = objects
        self._known = set(library.gradients.values())
        # By function, the gradients that take tensors of it.
        self._users: Dict[str, Set[str]] = {}
        for gradient in sorted(self._known & names):
            for node in self._taken_by(gradient):
                if node.WhichOneof("kind") == "captured_tensor":
                    owner = node.captured_tensor.concrete_function
                    self._users.setdefault(owner, set()).add(gradient)

    def is_one(self, name: str) -> bool:
        """Whether a function is itself a gradient."""
        return name in self._known

    def body_of(self, function: Any) -> Optional[bytes]:
        """What is equal for functions that do the same; None if it cannot be said."""
        name = function.signature.name
        copy = type(function)()
        copy.CopyFrom(function)
        copy.signature.name = ""
        own: Set[str] = set()
        keys: List[bytes] = []
        for node in copy.node_def:
            if _GRADIENT not in node.attr:
                continue
            gradient = self._library.gradients.get(
                node.attr[_GRADIENT].s.decode("utf-8", "replace")
            )
            key = self._key(gradient, name)
            if gradient is None or key is None:
                return None
            own.add(gradient)
            keys.append(key)
            node.attr[_GRADIENT].s = str(len(keys)).encode()
        if not self._users.get(name, set()) <= own:
            return None
        body: bytes = copy.SerializeToString(deterministic=True)
        return b"\0\0".join([body] + keys)

    def _taken_by(self, gradient: str) -> List[Any]:
        concrete = self._objects.concrete_functions
        bound = concrete[gradient].bound_inputs if gradient in concrete else ()
        return [self._objects.nodes[number] for number in bound]

    def _key(self, gradient: Optional[str], owner: str) -> Optional[bytes]:
        """What is equal for gradients that do the same to their functions."""
        if gradient not in self._library.functions:
            return None
        if gradient not in self._objects.concrete_functions:
            return None
        # It has itself no gradient, and takes tensors of its function only.
        function = type(self._library.functions[gradient])()
        function.CopyFrom(self._library.functions[gradient])
        if any(_GRADIENT in node.attr for node in function.node_def):
            return None
        function.signature.name = ""
        names = []
        for node in self._taken_by(gradient):
            taken = node.captured_tensor
            is_tensor = node.WhichOneof("kind") == "captured_tensor"
            if not is_tensor or taken.concrete_function != owner:
                return None
            names.append(taken.name.encode())
        body: bytes = function.SerializeToString(deterministic=True)
        concrete = type(self._objects.concrete_functions[gradient])()
        concrete.CopyFrom(self._objects.concrete_functions[gradient])
        del concrete.bound_inputs[:]
        described: bytes = concrete.SerializeToString(deterministic=True)
        return b"\0".join([body, described] + names)


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
