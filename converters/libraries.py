"""Brings the function libraries of several MetaGraphs into one."""

from __future__ import annotations

from typing import Any, Dict

from .model import Model

__all__ = ["merge_libraries"]


def merge_libraries(model: Model) -> Dict[str, Any]:
    """All FunctionDefs of a model by name.

    Functions of one name that differ between variants are renamed in the
    later one, with everything that refers to them.
    """
    merged: Dict[str, Any] = {}
    for variant in model.variants:
        library = variant.graph.library
        renamed = {}
        for name, function in library.items():
            known = merged.get(name)
            if known is not None and known != function:
                renamed[name] = "_".join((name,) + (variant.tags or ("default",)))
        if renamed:
            _rename(variant, renamed)
        for name, function in variant.graph.library.items():
            merged.setdefault(name, function)
    return merged


def _rename(variant: Any, renamed: Dict[str, str]) -> None:
    graph = variant.graph
    nodes = list(graph.nodes.values())
    for function in graph.library.values():
        nodes.extend(function.node_def)
    for node in nodes:
        if node.op in renamed:
            node.op = renamed[node.op]
            graph.forget(node.name)
        for attr in node.attr.values():
            if attr.WhichOneof("value") == "func":
                attr.func.name = renamed.get(attr.func.name, attr.func.name)
            for function in attr.list.func:
                function.name = renamed.get(function.name, function.name)
    for gradient in variant.gradients:
        gradient.function_name = renamed.get(
            gradient.function_name, gradient.function_name
        )
        gradient.gradient_func = renamed.get(
            gradient.gradient_func, gradient.gradient_func
        )
    for old, new in renamed.items():
        function = graph.library.pop(old)
        function.signature.name = new
        graph.add_function(function)
