"""Annotates each function argument that receives a variable with its dtype and shape.

::

    before:  call(f, VarHandleOp float32 [3, 4]);  f(handle: resource)
    after:   the same, with handle_data of the argument: float32 [3, 4]

The gradient code of TensorFlow 2 asks for the dtype and shape of a variable whose
handle a function takes. They are ``handle_data``, field 7 of ``OpDef.ArgDef``; the
protos of TensorFlow 1.15 do not know that field, but keep it. Arguments that a function
passes on to another are followed, through Identity and While.

Left alone: an argument that gets different variables from different calls.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Set, Tuple

from hub_compat._parsing.varint import put_varint

from ..ir.calls import CALLS, called_functions
from ..ir.context import Context
from ..ir.dtypes import DT_RESOURCE
from ..ir.graph import Graph, data_inputs, resource_behind

__all__ = ["annotate", "run"]

# An argument of a function, by its place.
_Argument = Tuple[str, int]


# Given:
#     weights = VarHandleOp {dtype: float32, shape: [2, ?]}
#     y = StatefulPartitionedCall(weights) {f: @outer}
#     outer(w: resource): StatefulPartitionedCall(Identity(w)) {f: @read}
#     read(w: resource):  ReadVariableOp(w)
# Result: the same nodes, with arguments that state what they get
#     outer(w: resource of float32 [2, ?])
#     read(w: resource of float32 [2, ?])
#
# Afterwards, handle_data is on each argument that always gets one known variable.
#
# After "control flow", which makes the last functions of the library.
def run(graph: Graph, context: Context) -> None:
    """Annotates each function argument that receives a variable of the graph."""
    annotate(graph)


def annotate(graph: Graph) -> None:
    """The pass, for a graph alone."""
    links = {name: _links(function) for name, function in graph.library.items()}
    found: Dict[_Argument, Set[bytes]] = {}
    stack: List[Tuple[_Argument, bytes]] = []
    for name, node in graph.nodes.items():
        if node.op not in CALLS:
            continue
        for i, edge in enumerate(data_inputs(graph, name)[CALLS[node.op] :]):
            if graph.output(edge.tensor).dtype == DT_RESOURCE:
                handle = graph.node(resource_behind(graph, edge.node))
                if handle.op == "VarHandleOp":
                    data = _handle_data(handle)
                    stack += [((called, i), data) for called in called_functions(node)]
    while stack:
        argument, data = stack.pop()
        name, place = argument
        if name in links and data not in found.setdefault(argument, set()):
            found[argument].add(data)
            stack += [(inner, data) for inner in links[name].get(place, ())]
    for (name, place), said in found.items():
        # Where calls differ, there is nothing that is true of all of them.
        if len(said) == 1:
            arg = graph.library[name].signature.input_arg[place]
            arg.MergeFromString(min(said))


def _links(function: Any) -> Dict[int, List[_Argument]]:
    """The arguments of called functions that a function's arguments become."""
    places = {arg.name: i for i, arg in enumerate(function.signature.input_arg)}
    found: Dict[int, List[_Argument]] = {}
    nodes: Dict[str, Any] = {}
    for node in function.node_def:
        if node.op in CALLS and not nodes:
            nodes.update((each.name, each) for each in function.node_def)
        inputs = [tensor for tensor in node.input if not tensor.startswith("^")]
        for i, tensor in enumerate(inputs[CALLS.get(node.op, len(inputs)) :]):
            place = places.get(_behind(nodes, tensor) or "")
            if place is not None:
                arguments = [(called, i) for called in called_functions(node)]
                found.setdefault(place, []).extend(arguments)
    return found


def _behind(nodes: Dict[str, Any], tensor: str) -> Optional[str]:
    """The argument that a tensor of a function is; None if it is another."""
    while ":" in tensor:
        name, _, number = tensor.split(":")
        op = nodes[name].op
        if op not in ("Identity", "StatelessWhile", "While"):
            return None
        tensor = nodes[name].input[int(number)]
    return tensor


def _handle_data(handle: Any) -> bytes:
    """A variable's dtype and shape, as a field of an ArgDef."""
    shape = handle.attr["shape"].shape.SerializeToString(deterministic=True)
    data = b"\x08" + put_varint(handle.attr["dtype"].type)  # dtype = 1
    data += b"\x12" + put_varint(len(shape)) + shape  # shape = 2
    return b"\x3a" + put_varint(len(data)) + data
