"""Which functions of a library others call, by whatever means."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Set

__all__ = ["Library", "calls_in", "named_functions"]

_GRADIENT = "_gradient_op_type"


def named_functions(nodes: Iterable[Any]) -> Iterator[str]:
    """The names in some nodes that may be those of functions, gradients' ones too."""
    for node in nodes:
        yield node.op
        for attr in node.attr.values():
            yield from _in_attr(attr)


def calls_in(nodes: Iterable[Any]) -> Iterator[Any]:
    """The attributes of nodes that are functions, and those of such calls."""
    pending = [attr for node in nodes for attr in node.attr.values()]
    while pending:
        attr = pending.pop()
        kind = attr.WhichOneof("value")
        found = [attr.func] if kind == "func" else []
        if kind == "list":
            found = list(attr.list.func)
        for call in found:
            yield call
            pending.extend(call.attr.values())


def _in_attr(attr: Any) -> Iterator[str]:
    kind = attr.WhichOneof("value")
    if kind == "func":
        yield from _in_call(attr.func)
    elif kind == "s":
        # Some ops have the name of a function as a string.
        if len(attr.s) < 1024:
            yield attr.s.decode("utf-8", "replace")
    elif kind == "list":
        for call in attr.list.func:
            yield from _in_call(call)
        for text in attr.list.s:
            if len(text) < 1024:
                yield text.decode("utf-8", "replace")


def _in_call(call: Any) -> Iterator[str]:
    yield call.name
    for attr in call.attr.values():
        yield from _in_attr(attr)


class Library:
    """The functions of a model.

    Attributes:
      functions: FunctionDefs by name.
      gradients: by the name of a custom gradient, the function that computes it.

    Args:
      library: a FunctionDefLibrary.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self.functions: Dict[str, Any] = {f.signature.name: f for f in library.function}
        # TF < 2.5 does not have the field, and no loader of its reads it.
        self.gradients: Dict[str, str] = {
            g.registered_op_type: g.gradient_func
            for g in getattr(library, "registered_gradients", ())
            if g.registered_op_type
        }
        self._symbolic = {g.function_name: g.gradient_func for g in library.gradient}
        self._called: Dict[str, List[str]] = {}

    def called_by(self, name: str) -> List[str]:
        """The functions that one calls itself, and those that are its gradients."""
        found = self._called.get(name)
        if found is None:
            found = self.among(named_functions(self.functions[name].node_def))
            if name in self._symbolic:
                found += self.among([self._symbolic[name]])
            self._called[name] = found
        return found

    def forget_calls(self) -> None:
        """Has ``called_by`` look again, after functions have changed."""
        self._called.clear()

    def among(self, names: Iterable[str]) -> List[str]:
        """The functions among some names, each once; a gradient's name is its own."""
        found = {}
        for name in names:
            name = self.gradients.get(name, name)
            if name in self.functions:
                found[name] = True
        return list(found)

    def keep(self, names: Set[str]) -> None:
        """Removes all but some functions."""
        library = self._library
        kept = [f for f in library.function if f.signature.name in names]
        _replace(library.function, kept)
        kept = [g for g in library.gradient if g.function_name in names]
        _replace(library.gradient, kept)
        if hasattr(library, "registered_gradients"):
            used: Set[str] = set()
            for function in library.function:
                used.update(named_functions(function.node_def))
            kept = [
                g
                for g in library.registered_gradients
                if g.gradient_func in names and g.registered_op_type in used
            ]
            _replace(library.registered_gradients, kept)
        self.functions = {f.signature.name: f for f in library.function}


def _replace(field: Any, kept: Iterable[Any]) -> None:
    # What is removed from a field may be gone at once, in some protobufs.
    copies = [type(item).FromString(item.SerializeToString()) for item in kept]
    if len(copies) < len(field):
        del field[:]
        field.extend(copies)
