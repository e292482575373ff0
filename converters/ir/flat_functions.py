"""The functions that the nodes of a flat graph name, without calls as well.

TF 1.15 has no gradient of a bare PartitionedCall, neither in a graph nor in the body
of a loop.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Dict, Iterable, List, Mapping, Set

from hub_compat._tf import function_pb2, node_def_pb2

from .attributes import arg_types
from .calls import called_by
from .flat_graph import FlatGraph
from .graph import split_tensor
from .inlining import Inliner, Kind
from .names import Names

__all__ = ["flat_library", "own_functions"]

NOTHING: Mapping[str, str] = MappingProxyType({})


def flat_library(
    nodes: Iterable[Any], inliner: Inliner, gradients: Mapping[str, str] = NOTHING
) -> List[Any]:
    """The functions that nodes need, however deep, sorted by name.

    Args:
      nodes: the nodes.
      inliner: the functions.
      gradients: by function, the one that computes its gradient.
    """
    found: Dict[str, Any] = {}
    waiting = list(nodes)
    while waiting:
        for name in sorted(called_by(waiting.pop())):
            if name in inliner.functions and name not in found:
                found[name] = _flat(inliner.functions[name], inliner)
                waiting.extend(found[name].node_def)
                if name in gradients:
                    own = node_def_pb2.NodeDef(op=gradients[name])
                    waiting.append(own)
    return [found[name] for name in sorted(found)]


def own_functions(nodes: Iterable[Any], inliner: Inliner) -> None:
    """Gives each node of a graph that names functions its own ones.

    TF 1.15 rewrites the body of a loop for its gradient, under a name that is made of
    that of the function.
    """
    used: Set[str] = set()
    names = Names(inliner.functions)
    for node in nodes:
        if inliner.called(node) or node.op in inliner.kept:
            continue
        for key in sorted(node.attr):
            attr = node.attr[key]
            name = attr.func.name if attr.HasField("func") else ""
            if name in used and name in inliner.functions:
                copy = function_pb2.FunctionDef()
                copy.CopyFrom(inliner.functions[name])
                copy.signature.name = attr.func.name = names.take(name)
                inliner.functions[copy.signature.name] = copy
            used.add(name)


def _flat(function: Any, inliner: Inliner) -> Any:
    """A function without calls; the function itself where it has none."""
    own = {name for node in function.node_def for name in inliner.called(node)}
    if not own or function.signature.name in inliner.kept:
        return function
    graph = FlatGraph()
    args = [arg.name for arg in function.signature.input_arg]
    for name in args:
        graph.reserve(name)
    inlined = inliner.inline(graph, function.signature.name, args)
    names = _Names(graph, inliner, set(args))
    flat = function_pb2.FunctionDef()
    flat.signature.CopyFrom(function.signature)
    del flat.signature.control_output[:]
    for key, value in function.attr.items():
        flat.attr[key].CopyFrom(value)
    for node in graph.nodes.values():
        copy = flat.node_def.add()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend(map(names.in_function, node.input))
    for arg, tensor in zip(function.signature.output_arg, inlined.results):
        flat.ret[arg.name] = names.in_function(tensor)
    effects = (Kind.WRITE, Kind.CHECK)
    lasting = [name for name in inlined.touched if inliner.kinds[name] in effects]
    for i, name in enumerate(lasting):
        key = "control_{}".format(i)
        flat.signature.control_output.append(key)
        flat.control_ret[key] = name
    return flat


class _Names:
    """The names that a FunctionDef has for the tensors of a flat graph."""

    def __init__(self, graph: FlatGraph, inliner: Inliner, args: Set[str]) -> None:
        self._graph = graph
        self._inliner = inliner
        self._args = args
        self._outputs: Dict[str, List[str]] = {}

    def in_function(self, tensor: str) -> str:
        """``"a:1"`` -> ``"a:output:1"``."""
        if tensor.startswith("^") or tensor in self._args:
            return tensor
        name, index = split_tensor(tensor)
        if name not in self._outputs:
            node = self._graph.nodes[name]
            op = self._inliner.op_def(node.op)
            self._outputs[name] = [
                "{}:{}:{}".format(name, arg.name, i)
                for arg in op.output_arg
                for i in range(len(arg_types(node, op, arg)))
            ]
        return self._outputs[name][index]
