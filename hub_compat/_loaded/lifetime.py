"""What a function of a loaded object needs lives as long as the function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Iterator, List, Sequence

from hub_compat._tf.tracking import tracks_attributes
from hub_compat._tf.variables import keep_resource

__all__ = ["keep_state_alive", "leave_to_sessions", "objects_of", "state_of"]


def keep_state_alive(loaded: Any) -> None:
    """Has each function keep the variables, tables and assets of its object.

    TensorFlow's functions hold handles only: ``load(d).signatures["default"]`` loses
    its variables in TF 1.15, ``load(d).__call__`` in every version. They are held in
    plain attributes, so nothing more is tracked or saved; and they hold no function of
    the object themselves: there is no cycle, and everything goes with its last user.
    """
    state, functions = [], []
    for found in objects_of(loaded):
        if _is_function(found):
            functions.append(found)
        elif _is_state(found):
            state.append(found)
    kept = tuple(state)
    for function in functions:
        function._hub_compat_state = kept


def leave_to_sessions(loaded: Any) -> None:
    """Keeps Python from destroying a graph's tables, which belong to its sessions.

    TF 1.15 would call a function for that, in the graph, when the garbage collector
    has done away with the function ("TF_GraphCopyFunction cannot be null").
    """
    for found in objects_of(loaded):
        keep_resource(found)


def state_of(function: Any) -> Sequence[Any]:
    """What ``keep_state_alive`` had a function keep; nothing for another function."""
    return tuple(getattr(function, "_hub_compat_state", ()))


def objects_of(loaded: Any) -> Iterator[Any]:
    """All that hangs on a loaded object: itself, functions, variables, tables."""
    seen = set()
    pending: List[Any] = [loaded]
    while pending:
        found = pending.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, (list, tuple)):
            pending.extend(found)
        elif isinstance(found, Mapping):
            pending.extend(found.values())
        elif _is_function(found) or _is_state(found):
            yield found
        elif tracks_attributes(found):
            # Its functions are not tracked in 1.15, but are attributes like the rest.
            yield found
            pending.extend(
                value
                for name, value in vars(found).items()
                # Of a variant, the module that it belongs to.
                if not name.startswith("_hub_compat_")
            )


def _is_function(found: Any) -> bool:
    # A tf.function as it is loaded, or one trace, as signatures are.
    return hasattr(found, "get_concrete_function") or hasattr(
        found, "structured_input_signature"
    )


def _is_state(found: Any) -> bool:
    # A variable, a table or another resource, an asset. Tables have functions too,
    # but those of a resource are not called without it.
    return any(
        hasattr(found, name)
        for name in ("read_value", "_create_resource", "asset_path")
    )
