"""Passes the values of variables to functions with loops that only read them.

::

    before:  call(f, handle),                 f: While(..., handle) -> ReadVariableOp
    after:   call(f, ReadVariableOp(handle)), f: While(..., value)  -> Identity

TensorFlow 2.21 silently gives a variable that a While within a While reads a gradient
of zero, and fails at one that is read in an If within a While. Values pass through
them. ``control_flow.hoisting`` does this for TF1's loops; this pass is for loops that
are functions already, as autograph makes them.

Left alone is a variable that a function does more with than read it:

1. It is written there, or in a function that it is passed on to.
2. Its handle is returned, other than by a loop that passes it on.
3. It is read with another dtype, or gathered from with ``batch_dims``.
"""

from __future__ import annotations

from typing import Any, Dict, List, Set, Tuple

from hub_compat._tf import function_pb2, node_def_pb2

from ..ir.calls import CALLS, called_by, called_functions, calling
from ..ir.constants import int32_tensor
from ..ir.context import Context
from ..ir.dtypes import DT_INT32, DT_RESOURCE
from ..ir.functions import set_attr
from ..ir.graph import Graph, data_inputs, resource_behind
from ..ir.names import Names
from ..ir.variable_reads import READS

__all__ = ["run"]

_WHILES = ("StatelessWhile", "While")
# By place, the dtype of the variable whose value an argument becomes.
_Places = Dict[int, int]


# Given:
#     weights = VarHandleOp
#     loop = While(count, x, weights) {cond: @not_zero, body: @step}
#     step(i, a, w: resource): scaled = Mul(a, ReadVariableOp(w))
# Result:
#     loop/read_2 = ReadVariableOp(weights)
#     loop = While(count, x, loop/read_2) {cond: @not_zero_of_values,
#                                          body: @step_of_values}
#     step_of_values(i, a, w: float32): scaled = Mul(a, Identity(w))
#
# Afterwards, a While that only reads a variable takes its value, unless a custom
# gradient is in the way. The original functions stay: other calls may use them.
#
# After "variables", which makes the handles. Before "inlined calls", as it is about
# functions; TF1 loops of the graph get their values by hoisting.
def run(graph: Graph, context: Context) -> None:
    """Rewrites the calls of a graph that have a While in them."""
    if not any(
        node.op in _WHILES for f in graph.library.values() for node in f.node_def
    ) and not any(node.op in _WHILES for node in graph.nodes.values()):
        return
    values = _Values(graph)
    # A copy of a function would not have the gradient function of the original.
    gradients = context.meta_graph.graph_def.library.gradient
    custom = calling(graph.library, [each.function_name for each in gradients])
    for name in [n for n, node in graph.nodes.items() if node.op in CALLS]:
        node = graph.nodes[name]
        if not values.loops(node) or not called_by(node).isdisjoint(custom):
            continue
        before = CALLS[node.op]
        handles: Dict[str, Dict[int, int]] = {}
        for i, edge in enumerate(data_inputs(graph, name)[before:]):
            if graph.output(edge.tensor).dtype == DT_RESOURCE:
                handle = graph.node(resource_behind(graph, edge.node))
                if handle.op == "VarHandleOp":
                    dtype = handle.attr["dtype"].type
                    handles.setdefault(handle.name, {})[i] = dtype
        places: _Places = {}
        for found in handles.values():
            # One that is written by another argument has to be read where it is.
            if values.only_read(node, found):
                places.update(found)
        controls = [tensor for tensor in node.input if tensor.startswith("^")]
        for i, dtype in places.items():
            read = node_def_pb2.NodeDef(op="ReadVariableOp")
            read.name = graph.unique_name("{}/read_{}".format(name, i))
            read.input.extend([node.input[before + i]] + controls)
            set_attr(read, "dtype", ("type", dtype))
            graph.replace(read)
            graph.set_input(name, before + i, read.name)
        if places:
            with graph.editing(name):
                values.retype(node, places)


class _Values:
    """Makes functions that take values of those that take handles."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._names = Names(graph.library)
        self._made: Dict[Tuple[str, Tuple[Tuple[int, int], ...]], str] = {}

    def loops(self, node: Any) -> bool:
        """Whether a node is a While, or calls one."""
        seen: Set[str] = set()
        stack = [node]
        while stack:
            called = stack.pop()
            if called.op in _WHILES:
                return True
            for name in called_by(called) - seen:
                seen.add(name)
                if name in self._graph.library:
                    stack += self._graph.library[name].node_def
        return False

    def only_read(self, node: Any, places: _Places) -> bool:
        """Whether functions that a node calls only read what these arguments are."""
        return all(
            name in self._graph.library
            and self._reads(self._graph.library[name], places, node.op in _WHILES)
            for name in called_functions(node)
        )

    def _reads(self, function: Any, places: _Places, loop: bool) -> bool:
        aliases = _aliases(function, places)
        for i, arg in enumerate(function.signature.output_arg):
            tensor = function.ret[arg.name]
            if tensor in aliases and not (loop and i in places):
                return False
        for node in function.node_def:
            inputs = [tensor for tensor in node.input if not tensor.startswith("^")]
            taken = {i: aliases[t] for i, t in enumerate(inputs) if t in aliases}
            if not taken or node.op == "Identity":
                continue
            if node.op in CALLS:
                inner = {i - CALLS[node.op]: dtype for i, dtype in taken.items()}
                if not self.only_read(node, inner):
                    return False
            elif node.op not in READS or set(taken) != {0}:
                return False
            elif "batch_dims" in node.attr and node.attr["batch_dims"].i:
                return False
            elif node.op != "VariableShape" and node.attr["dtype"].type != taken[0]:
                return False
        return True

    def retype(self, node: Any, places: _Places) -> None:
        """Makes a node call functions that take values."""
        types = node.attr["T" if node.op in _WHILES else "Tin"].list
        for i, dtype in places.items():
            types.type[i] = dtype
            if node.op in _WHILES and "output_shapes" in node.attr:
                shapes = node.attr["output_shapes"].list.shape
                if i < len(shapes):
                    _forget_shape(shapes[i])
        # In an order that is the same for every protobuf.
        for key in sorted(node.attr):
            attr = node.attr[key]
            if attr.HasField("func"):
                attr.func.name = self._of_values(attr.func.name, places)
        node.attr.pop("_output_shapes", None)

    def _of_values(self, name: str, places: _Places) -> str:
        key = (name, tuple(sorted(places.items())))
        if key in self._made:
            return self._made[key]
        function = function_pb2.FunctionDef()
        function.CopyFrom(self._graph.library[name])
        made = self._made[key] = self._names.take(name + "_of_values")
        function.signature.name = made
        aliases = _aliases(function, places)
        for i, dtype in places.items():
            function.signature.input_arg[i].type = dtype
            getattr(function, "arg_attr", {}).pop(i, None)
            if "_input_shapes" in function.attr:
                _forget_shape(function.attr["_input_shapes"].list.shape[i])
        renamed: Dict[str, str] = {}
        for node in list(function.node_def):
            taken = {i: aliases[t] for i, t in enumerate(node.input) if t in aliases}
            if not taken:
                continue
            if node.op in CALLS:
                before = CALLS[node.op]
                self.retype(node, {i - before: dtype for i, dtype in taken.items()})
            else:
                _rewrite_read(function, node, taken[0])
                renamed[node.name + ":value:0"] = node.name + ":output:0"
        for node in function.node_def:
            for i, tensor in enumerate(node.input):
                node.input[i] = renamed.get(tensor, tensor)
        for arg in function.signature.output_arg:
            tensor = function.ret[arg.name]
            function.ret[arg.name] = renamed.get(tensor, tensor)
            arg.type = aliases.get(tensor, arg.type)
        self._graph.add_function(function)
        return made


def _aliases(function: Any, places: _Places) -> Dict[str, int]:
    """The tensors of a function that are some of its arguments, and their dtypes."""
    args = function.signature.input_arg
    found = {args[i].name: dtype for i, dtype in places.items()}
    known = 0
    while known < len(found):
        known = len(found)
        for node in function.node_def:
            if node.op == "Identity" or node.op in _WHILES:
                for i, tensor in enumerate(node.input):
                    if tensor in found:
                        output = "{}:output:{}".format(node.name, i)
                        found[output] = found[tensor]
    return found


def _rewrite_read(function: Any, node: Any, dtype: int) -> None:
    """Makes of a node that reads a variable one that takes its value."""
    kind = ("type", dtype)
    out = node.attr["out_type"].type or DT_INT32
    indices = node.attr["Tindices"].type
    node.attr.clear()
    if node.op in ("Identity", "ReadVariableOp"):
        node.op = "Identity"
        set_attr(node, "T", kind)
    elif node.op == "VariableShape":
        node.op = "Shape"
        set_attr(node, "T", kind)
        set_attr(node, "out_type", ("type", out))
    else:
        axis = function.node_def.add(name=node.name + "_axis", op="Const")
        set_attr(axis, "dtype", ("type", DT_INT32))
        set_attr(axis, "value", int32_tensor(0))
        controls = [tensor for tensor in node.input if tensor.startswith("^")]
        inputs: List[str] = list(node.input)[:2] + [axis.name + ":output:0"] + controls
        del node.input[:]
        node.input.extend(inputs)
        node.op = "GatherV2"
        set_attr(node, "Tparams", kind)
        set_attr(node, "Tindices", ("type", indices))
        set_attr(node, "Taxis", ("type", DT_INT32))


def _forget_shape(shape: Any) -> None:
    shape.Clear()
    shape.unknown_rank = True
