"""Calls of functions within a graph.

A Defun is called by a node whose op is the function's name. TensorFlow 2 runs
such nodes, but differentiates them by C++ code that lacks most gradients. A
``PartitionedCall`` of the same function is differentiated as all of its code is.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Set

from .attributes import GRADIENT, GRADIENT_OF_CALL, set_attr
from .graph import Graph

__all__ = [
    "CALLS",
    "PARTITIONED_CALLS",
    "call",
    "called_by",
    "called_functions",
    "calling",
    "make_partitioned",
]

# Ops that call one function, and do nothing else.
PARTITIONED_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# By op that calls functions, how many inputs come before their arguments.
CALLS = {
    "If": 1,
    "PartitionedCall": 0,
    "StatefulPartitionedCall": 0,
    "StatelessIf": 1,
    "StatelessWhile": 0,
    "While": 0,
}


def make_partitioned(graph: Graph) -> None:
    """Turns calls by name into PartitionedCalls, in the graph and its functions."""
    functions = {
        name: function
        for name, function in graph.library.items()
        # With attributes, the dtypes are not the function's to say.
        if not function.signature.attr
    }
    for node in graph.nodes.values():
        if node.op in functions:
            with graph.editing(node.name):
                call(node, functions[node.op])
    for function in graph.library.values():
        _rewrite_within(function, functions)


def _rewrite_within(function: Any, functions: Mapping[str, Any]) -> None:
    """The same in a function, where other nodes name an output by its argument."""
    outputs: Dict[str, str] = {}
    for node in function.node_def:
        if node.op in functions:
            called = functions[node.op]
            for i, arg in enumerate(called.signature.output_arg):
                tensor = "{}:{}:0".format(node.name, arg.name)
                outputs[tensor] = "{}:output:{}".format(node.name, i)
            call(node, called)
    if not outputs:
        return
    for node in function.node_def:
        for i, tensor in enumerate(node.input):
            node.input[i] = outputs.get(tensor, tensor)
    for result, tensor in list(function.ret.items()):
        function.ret[result] = outputs.get(tensor, tensor)


def call(node: Any, function: Any) -> None:
    """Makes a PartitionedCall of a function of a node, which keeps its inputs."""
    signature = function.signature
    for name in list(node.attr):
        if not name.startswith("_"):
            del node.attr[name]
    node.op = "StatefulPartitionedCall" if signature.is_stateful else "PartitionedCall"
    set_attr(node, "Tin", ("types", [arg.type for arg in signature.input_arg]))
    set_attr(node, "Tout", ("types", [arg.type for arg in signature.output_arg]))
    set_attr(node, "f", ("func", signature.name))
    for name in ("config", "config_proto", "executor_type"):
        set_attr(node, name, b"")
    set_attr(node, GRADIENT, GRADIENT_OF_CALL)


def calling(library: Mapping[str, Any], wanted: Iterable[str]) -> Set[str]:
    """The functions that are in ``wanted``, or call one that is, however deep."""
    callers: Dict[str, List[str]] = {}
    for name, function in library.items():
        for node in function.node_def:
            for called in called_by(node):
                callers.setdefault(called, []).append(name)
    found: Set[str] = set()
    stack = list(wanted)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(callers.get(name, ()))
    return found


def called_by(node: Any) -> Set[str]:
    """The functions that a node may call: its op, and those in its attributes."""
    names = {node.op}
    for attr in node.attr.values():
        kind = attr.WhichOneof("value")
        if kind == "func":
            names.add(attr.func.name)
        elif kind == "list":
            names.update(function.name for function in attr.list.func)
    return names


def called_functions(node: Any) -> List[str]:
    """The functions that a node of ``CALLS`` hands all its arguments to, in order.

    Others that ``called_by`` finds, such as those in a list, take something else.
    """
    attrs = [node.attr[key] for key in sorted(node.attr)]
    return [attr.func.name for attr in attrs if attr.HasField("func")]
