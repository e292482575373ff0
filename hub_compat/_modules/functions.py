"""The functions of a module's graph, as each import of it has them."""

from __future__ import annotations

import itertools
from typing import Any, Dict, Iterable, Iterator

__all__ = ["bring_functions"]

# Eager execution has one list of functions for all graphs of a process.
_numbers = itertools.count()


def bring_functions(part: Any, library: Any) -> None:
    """Adds functions to a part of a graph that calls some, under names of their own.

    Two modules may have different functions of one name. The gradient of a function is
    one more, which is named after it; its shapes are those of one application.
    """
    known = {function.signature.name for function in library.function}
    if not known or not any(_calls(node, known) for node in part.graph_def.node):
        return
    part.graph_def.library.CopyFrom(library)
    number = next(_numbers)
    names = {name: "{}_module_{}".format(name, number) for name in known}
    _rename(part.graph_def.node, names)
    for function in part.graph_def.library.function:
        function.signature.name = names[function.signature.name]
        _rename(function.node_def, names)
    for gradient in part.graph_def.library.gradient:
        for field in ("function_name", "gradient_func"):
            old = getattr(gradient, field)
            setattr(gradient, field, names.get(old, old))


def _calls(node: Any, known: Iterable[str]) -> bool:
    return node.op in known or any(f.name in known for f in _functions(node))


def _functions(node: Any) -> Iterator[Any]:
    """The NameAttrLists in the attributes of a node, and in those of them."""
    stack = list(node.attr.values())
    while stack:
        value = stack.pop()
        kind = value.WhichOneof("value")
        found = []
        if kind == "func":
            found = [value.func]
        elif kind == "list":
            found = list(value.list.func)
        for function in found:
            stack.extend(function.attr.values())
            yield function


def _rename(nodes: Iterable[Any], names: Dict[str, str]) -> None:
    for node in nodes:
        node.op = names.get(node.op, node.op)
        for function in _functions(node):
            function.name = names.get(function.name, function.name)
