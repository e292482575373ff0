"""The contexts of TF1 loops and conditionals, as MetaGraphDefs hold them."""

from __future__ import annotations

from typing import Any, FrozenSet, Set

from hub_compat.converters.ir.graph import node_of

__all__ = ["nodes_of"]


def nodes_of(context: Any) -> FrozenSet[str]:
    """The nodes that the proto of a loop or conditional names."""
    found: Set[str] = set()
    stack = [context]
    while stack:
        message = stack.pop()
        for field, value in message.ListFields():
            if field.name == "context_name":
                continue
            if isinstance(value, str):
                found.add(node_of(value))
            elif hasattr(value, "ListFields"):
                stack.append(value)
            elif hasattr(value, "items"):
                for key, inner in value.items():
                    found.update((node_of(key), node_of(inner)))
            elif not isinstance(value, (bool, int, bytes)):
                for item in value:
                    if isinstance(item, str):
                        found.add(node_of(item))
                    else:
                        stack.append(item)
    return frozenset(found)
