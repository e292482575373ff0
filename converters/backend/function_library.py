"""Function libraries: those of several MetaGraphs in one, and new functions."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Set, Tuple

from ..ir.functions import Body, FunctionWriter
from ..ir.model import Model
from ..ir.names import Names, argument_name

__all__ = ["FunctionSet", "merge_libraries"]


#     _contents: (serialized function without its name, captures, structures) -> body
#     _numbers:  body -> the number in _gradient_op_type of calls of it
#
# Functions that are equal but for their names are one. A model of many signatures would
# else hold a caller for each.
class FunctionSet:
    """The functions of a converted model.

    Attributes:
      functions: FunctionDefs by name, in order of creation.
    """

    def __init__(self, reserved: Set[str]) -> None:
        self.functions: Dict[str, Any] = {}
        self._names = Names(reserved)
        self._contents: Dict[Tuple[Any, ...], Body] = {}
        self._numbers: Dict[str, int] = {}

    def name(self, wanted: str) -> str:
        """A function name that is not taken; ``add`` takes it."""
        return self._names.free(argument_name(wanted))

    def add(self, writer: FunctionWriter, *structure: Any) -> Body:
        """Adds a function, or finds the one that is the same but for its name.

        Args:
          writer: the function.
          *structure: the StructuredValues it is called with, if it is called
            from Python; such functions are the same only if these are, too.
        """
        body = writer.finish()
        name = writer.fdef.signature.name
        writer.fdef.signature.name = ""
        key = (
            writer.fdef.SerializeToString(deterministic=True),
            tuple(body.captures),
            tuple(s.SerializeToString(deterministic=True) for s in structure),
        )
        known = self._contents.get(key)
        if known is not None:
            return known
        writer.fdef.signature.name = self._names.take(name)
        self.functions[name] = writer.fdef
        self._contents[key] = body
        return body

    def call_node(
        self,
        writer: FunctionWriter,
        body: Body,
        inputs: Sequence[str],
        control: Sequence[str] = (),
    ) -> str:
        """Calls a body from another function; returns the node."""
        # The number is the body's, so that two callers that do the same are the
        # same function.
        number = self._numbers.setdefault(body.name, len(self._numbers) + 1)
        node = writer.call(body, inputs, number, control)
        if body.stateful:
            # A call that is inlined runs only what its results need, and what the
            # caller's own control results name.
            writer.control_result(node)
        return node


# Given: variants {} and {"train"}, both with f; their contents differ
# Result:
#     f         of {}
#     f_train   of {"train"}, as whatever calls it there says now
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


def _rename_calls(node: Any, renamed: Dict[str, str]) -> None:
    node.op = renamed.get(node.op, node.op)
    for attr in node.attr.values():
        if attr.WhichOneof("value") == "func":
            attr.func.name = renamed.get(attr.func.name, attr.func.name)
        for function in attr.list.func:
            function.name = renamed.get(function.name, function.name)


def _rename(variant: Any, renamed: Dict[str, str]) -> None:
    graph = variant.graph
    for name in graph.nodes:
        with graph.editing(name) as node:
            _rename_calls(node, renamed)
    for function in graph.library.values():
        for node in function.node_def:
            _rename_calls(node, renamed)
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
