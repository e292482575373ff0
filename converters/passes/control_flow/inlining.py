"""Puts functions that hold TF1 control flow in the place of their calls.

::

    before:  x -> PartitionedCall(f) -> y
    after:   x -> Identity -> (the nodes of f) -> Identity -> y

A Defun may hold loops and conditionals in the form that a graph has them. They have no
gradient in a function, and what is in a graph can be rewritten. The results wait for
all that the function does, as those of a call do. An effect inside of a loop is tied to
each iteration of the loop.

Left alone: functions with a custom gradient, and functions that make tables. A gradient
through such a call is refused by ``gradient_guards``.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, Iterable, List, Sequence, Set

from hub_compat._tf import node_def_pb2

from ...ir.calls import PARTITIONED_CALLS, called_by, calling
from ...ir.dtypes import DT_RESOURCE
from ...ir.effects import Determinism, is_random, is_write
from ...ir.functions import set_attr
from ...ir.graph import Graph, data_inputs, node_of, normal
from ...ir.tables import is_table
from ...ir.variable_reads import READS
from . import open_branches
from .components import is_control_flow
from .regions import Regions

__all__ = ["inline_call", "inline_calls"]

# What a function may do whatever is taken of it.
_NO_EFFECTS = READS + ("VarHandleOp",) + PARTITIONED_CALLS


def inline_calls(graph: Graph, kept: Collection[str]) -> Set[str]:
    """Puts functions with control flow in the place of their calls.

    Args:
      graph: the graph, whose functions are called by PartitionedCall.
      kept: functions that stay functions: those with a gradient of their own.

    Returns:
      The functions with TF1 control flow that are left, and those that call them.
    """
    held = {
        name
        for name, function in graph.library.items()
        if any(is_control_flow(node.op) for node in function.node_def)
    }
    if not held:
        return held
    wanted = calling(graph.library, held)
    wanted = {name for name in wanted if _can_be_inlined(graph, name)} - set(kept)
    stack = [name for name, node in graph.nodes.items() if node.op in PARTITIONED_CALLS]
    while stack:
        name = stack.pop()
        if graph.nodes[name].attr["f"].func.name in wanted:
            added = inline_call(graph, name)
            stack += [
                each for each in added if graph.nodes[each].op in PARTITIONED_CALLS
            ]
    # A function that a While or If still calls stays in the library: only calls by
    # PartitionedCall are inlined.
    called = _called(graph, graph.nodes.values())
    for name in (held | wanted) - called:
        del graph.library[name]
    return calling(graph.library, held & called)


def _can_be_inlined(graph: Graph, name: str) -> bool:
    """Whether a function does not call itself, and makes no table."""
    nodes = graph.library[name].node_def
    if any(is_table(graph, node.op) for node in nodes):
        return False
    return name not in _called(graph, nodes)


def _called(graph: Graph, nodes: Iterable[node_def_pb2.NodeDef]) -> Set[str]:
    """The functions that nodes call, and those that these call, however deep."""
    called: Set[str] = set()
    waiting = list(nodes)
    while waiting:
        for name in called_by(waiting.pop()) - called:
            if name in graph.library:
                called.add(name)
                waiting.extend(graph.library[name].node_def)
    return called


def _effects(graph: Graph, names: Sequence[str]) -> List[str]:
    """The nodes that do something that a function does whatever is taken of it."""
    determinism = Determinism(graph)

    def is_effect(op: str) -> bool:
        if op in graph.library or op in _NO_EFFECTS or is_control_flow(op):
            return False
        # What writes a reference is not marked.
        stateful = bool(graph.op_def(op).is_stateful) or is_write(op)
        return stateful and not is_random(op)

    return [n for n in names if any(map(is_effect, determinism.ops([n])))]


# Given:
#     y = PartitionedCall(x, w, ^before) {f: @f}
#     f(a, w: resource): total = Mul(a, 2); write = AssignAddVariableOp(w, a) -> total
# Result:
#     y/inlined/a = Identity(x, ^before)
#     y/inlined/body/total = Mul(y/inlined/a, 2)
#     y/inlined/body/write = AssignAddVariableOp(w, y/inlined/a)
#     y/inlined/result_0 = Identity(y/inlined/body/total, ^y/inlined/body/write)
#     y = NoOp(^y/inlined/result_0, ^...)
#
# Afterwards, the results wait for the effects, as those of a call do, and control
# edges from the call find all of it behind the NoOp.
#
# Handles get no Identity: later passes follow a handle to its VarHandleOp.
def inline_call(graph: Graph, name: str) -> List[str]:
    """Puts a function in the place of a call; returns the new nodes."""
    call = graph.nodes[name]
    function = graph.library[call.attr["f"].func.name]
    prefix = graph.unique_name(name + "/inlined")
    controls = [tensor for tensor in call.input if tensor.startswith("^")]
    tensors: Dict[str, str] = {}
    place = list(controls)
    added = []
    for arg, edge in zip(function.signature.input_arg, data_inputs(graph, name)):
        tensors[arg.name] = edge.tensor
        if arg.type != DT_RESOURCE:
            given = "{}/{}".format(prefix, arg.name)
            added.append(_identity(graph, given, edge.tensor, arg.type, controls))
            tensors[arg.name] = given + ":0"
            # Nothing else says of a constant in which loop or branch it is.
            place = place or ["^" + given]
    handles = {
        arg.name for arg in function.signature.input_arg if arg.type == DT_RESOURCE
    }
    added += _copy_body(graph, function, prefix, tensors)
    for node in function.node_def:
        copy = graph.nodes["{}/body/{}".format(prefix, node.name)]
        inputs = [tensors[tensor] for tensor in node.input]
        if handles.issuperset(node.input):
            inputs += place
        graph.set_inputs(copy.name, inputs)
    results = [tensors[function.ret[arg.name]] for arg in function.signature.output_arg]
    waits = {node_of(tensor) for tensor in results}
    effects = _effects(graph, added)
    if effects:
        waits |= _ends(graph, added, effects, results)
        for i, arg in enumerate(function.signature.output_arg):
            others = sorted("^" + each for each in waits - {node_of(results[i])})
            given = "{}/result_{}".format(prefix, i)
            added.append(_identity(graph, given, results[i], arg.type, others))
            results[i] = given + ":0"
    graph.redirect(
        {"{}:{}".format(name, i): tensor for i, tensor in enumerate(results)}
    )
    for i, tensor in enumerate(results):
        graph.aliases["{}:{}".format(name, i)] = normal(tensor)
    # Whoever wants what the call gave finds it behind this node.
    waits |= {node_of(tensor) for tensor in results}
    done = node_def_pb2.NodeDef(name=name, op="NoOp")
    done.input.extend(sorted("^" + each for each in waits))
    graph.replace(done)
    return added


def _copy_body(
    graph: Graph, function: Any, prefix: str, tensors: Dict[str, str]
) -> List[str]:
    """Copies the nodes of a function, with inputs that are still the function's.

    Args:
      graph: the graph.
      function: the FunctionDef.
      prefix: of the names of the copies.
      tensors: gets the graph's names for the function's tensors.

    Returns:
      The copies.
    """
    added = []
    for node in function.node_def:
        copy = node_def_pb2.NodeDef()
        copy.CopyFrom(node)
        copy.name = "{}/body/{}".format(prefix, node.name)
        if copy.op == "Enter":
            frame = "{}/{}".format(prefix, node.attr["frame_name"].s.decode())
            set_attr(copy, "frame_name", frame.encode())
        graph.replace(copy)
        added.append(copy.name)
        for i, output in enumerate(graph.outputs(copy.name)):
            inner = "{}:{}:{}".format(node.name, output.arg, output.number)
            tensors[inner] = "{}:{}".format(copy.name, i)
        tensors["^" + node.name] = "^" + copy.name
    return added


def _ends(
    graph: Graph, names: List[str], effects: List[str], results: List[str]
) -> Set[str]:
    """Nodes to wait for, so that all is done that an inlined function does.

    Args:
      graph: the graph.
      names: the nodes that the function became; takes those that are added.
      effects: those of them that have to run.
      results: the tensors that it gives.
    """
    behind = set(graph.slice(results))
    apart = [name for name in effects if name not in behind]
    if not apart:
        return set()
    waits: Set[str] = set()
    regions = Regions(graph, names)
    for name in apart:
        known = len(graph.added)
        ended = open_branches.end(graph, regions, name)
        names += graph.added[known:]
        frame = regions.frames[name]
        if not frame:
            waits.add(ended)
        for other, place in regions.frames.items():
            if frame and place == frame and graph.nodes[other].op == "NextIteration":
                # Each iteration waits for it.
                graph.wait_for(other, [ended])
    return waits


def _identity(
    graph: Graph, name: str, tensor: str, dtype: int, controls: Sequence[str]
) -> str:
    node = node_def_pb2.NodeDef(name=name, op="Identity", input=[tensor])
    node.input.extend(controls)
    set_attr(node, "T", ("type", dtype))
    graph.replace(node)
    return name
