"""Functions that hold TF1 control flow, put in the place of their calls.

A Defun may hold loops and conditionals in the form that a graph has them. There they
have no gradient either, and what is in a graph can be rewritten.
"""

from __future__ import annotations

from typing import Collection, Dict, List, Set

from hub_compat._tf import node_def_pb2

from ..calls import called_by, calling
from ..determinism import is_random
from ..functions import set_attr
from ..graph import DT_RESOURCE, Graph, normal
from .regions import data_inputs
from .tangles import is_control_flow

__all__ = ["inline_calls"]

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_READS = ("ReadVariableOp", "ResourceGather", "VarHandleOp", "VariableShape")


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
    stack = [name for name, node in graph.nodes.items() if node.op in _CALLS]
    while stack:
        name = stack.pop()
        if graph.nodes[name].attr["f"].func.name in wanted:
            added = _inline(graph, name)
            stack += [each for each in added if graph.nodes[each].op in _CALLS]
    called: Set[str] = set()
    waiting = list(graph.nodes.values())
    while waiting:
        for name in called_by(waiting.pop()) - called:
            if name in graph.library:
                called.add(name)
                waiting.extend(graph.library[name].node_def)
    for name in (held | wanted) - called:
        del graph.library[name]
    return calling(graph.library, held & called)


def _can_be_inlined(graph: Graph, name: str) -> bool:
    """Whether a function ends, and does nothing but give results.

    What else it does has to run where nothing needs its results; a node that waits
    for it could not be in one of its loops.
    """
    function = graph.library[name]
    for node in function.node_def:
        if name in calling(graph.library, called_by(node) & set(graph.library)):
            return False
        stateful = graph.op_def(node.op).is_stateful
        if stateful and not is_random(node.op) and node.op not in _READS + _CALLS:
            return False
    return True


def _inline(graph: Graph, name: str) -> List[str]:
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
            given = node_def_pb2.NodeDef(op="Identity", input=[edge.tensor] + controls)
            given.name = "{}/{}".format(prefix, arg.name)
            set_attr(given, "T", ("type", arg.type))
            graph.replace(given)
            added.append(given.name)
            tensors[arg.name] = given.name + ":0"
            # Nothing else says of a constant in which loop or branch it is.
            place = place or ["^" + given.name]
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
    for node in function.node_def:
        copy = graph.nodes["{}/body/{}".format(prefix, node.name)]
        inputs = [tensors[tensor] for tensor in node.input] or place
        del copy.input[:]
        copy.input.extend(inputs)
        graph.forget(copy.name)
    results = [tensors[function.ret[arg.name]] for arg in function.signature.output_arg]
    graph.redirect(
        {"{}:{}".format(name, i): tensor for i, tensor in enumerate(results)}
    )
    for i, tensor in enumerate(results):
        graph.aliases["{}:{}".format(name, i)] = normal(tensor)
    done = node_def_pb2.NodeDef(name=name, op="NoOp")
    done.input.extend("^" + tensor.rpartition(":")[0] for tensor in results)
    graph.replace(done)
    return added
