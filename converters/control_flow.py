"""TF1 control flow (frames, Switch/Merge) in a converted graph.

TensorFlow 2 runs such nodes forward inside a function, but cannot
differentiate them: its gradient code looks for a control-flow context that a
loaded function does not have, and fails with ``'NoneType' object has no
attribute 'outer_context'``, as soon as a loop lies between what is
differentiated and what with respect to. Until they are rewritten as While and
If, each tensor that leaves a loop or a conditional is cut from it for the
gradient code, and tied to what entered it by a path whose gradient is an error
that says what is the matter, under plain TensorFlow too::

    exit -> Bitcast to integers -> Bitcast back -> IdentityN -> consumers
    what entered -> PreventGradient(message) ------^

Integers carry no gradient, so the loop does not lie between any more; the
IdentityN hands its first input on unchanged.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Set

from hub_compat._tf import node_def_pb2

from .functions import set_attr
from .graph import DT_RESOURCE, Graph

__all__ = ["CONTROL_FLOW_OPS", "has_control_flow", "prevent_gradients"]

CONTROL_FLOW_OPS = frozenset(
    ["Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"]
)
# What has a gradient, and integers of the same size: half, bfloat16, float,
# double, complex64; complex128 becomes two int64.
_INTEGERS = {19: 17, 14: 17, 1: 3, 2: 9, 8: 9, 18: 9}
# How the level of a node differs from that of its inputs; a loop passes Enter
# and Switch on its way to Exit.
_STEPS = {"Enter": 1, "Switch": 1, "Merge": -1, "Exit": -2}


def has_control_flow(graph: Graph, names: Iterable[str]) -> bool:
    """Whether any of the nodes is a TF1 control-flow node."""
    return any(graph.nodes[name].op in CONTROL_FLOW_OPS for name in names)


def prevent_gradients(graph: Graph) -> List[str]:
    """Guards every tensor that leaves a loop or a conditional.

    Returns:
      Names of the Exit and Merge nodes that are guarded now.
    """
    if not has_control_flow(graph, graph.nodes):
        return []
    levels = _levels(graph)
    guarded = []
    for name in list(graph.nodes):
        node = graph.nodes[name]
        if node.op not in ("Exit", "Merge") or levels[name] > 0:
            continue
        dtype = graph.outputs(name)[0].dtype
        if dtype in _INTEGERS:
            entries = _entries(graph, name, levels)
            if entries:
                _guard(graph, node, dtype, entries)
                guarded.append(name)
    replaced = {name + ":0": graph.aliases[name + ":0"] for name in guarded}
    graph.redirect(replaced, but={name + "/cut" for name in guarded})
    return guarded


def _levels(graph: Graph) -> Dict[str, int]:
    """How many loops and conditionals each node is inside of.

    Iterative, as graphs are deep; back edges of loops do not count.
    """
    levels: Dict[str, int] = {}
    for start in graph.nodes:
        stack = [start]
        while stack:
            name = stack[-1]
            if name in levels:
                stack.pop()
                continue
            op = graph.nodes[name].op
            inputs = [edge.node for edge in graph.inputs(name)]
            before = [i for i in inputs if graph.node(i).op != "NextIteration"]
            loop = op == "Merge" and len(before) < len(inputs)
            waiting = [i for i in before if i not in levels]
            if waiting:
                stack.extend(waiting)
                continue
            step = 0 if loop else _STEPS.get(op, 0)
            level = max((levels[i] for i in before), default=0) + step
            levels[name] = max(level, 0)
            stack.pop()
    return levels


def _entries(graph: Graph, name: str, levels: Dict[str, int]) -> List[str]:
    """Tensors with a gradient that enter what a guarded node leaves."""
    entries: Dict[str, None] = {}
    seen: Set[str] = {name}
    stack = [name]
    while stack:
        for edge in graph.inputs(stack.pop()):
            if edge.tensor.startswith("^"):
                continue
            if levels[edge.node] > 0:
                if edge.node not in seen:
                    seen.add(edge.node)
                    stack.append(edge.node)
                continue
            dtype = graph.output(edge.tensor).dtype
            constant = graph.nodes[edge.node].op == "Const"
            if dtype in _INTEGERS and not constant:
                entries[edge.tensor] = None
            elif dtype == DT_RESOURCE and graph.nodes[edge.node].op == "VarHandleOp":
                entries[_read(graph, edge.node)] = None
    return list(entries)


def _read(graph: Graph, handle: str) -> str:
    """The value of a variable that a loop reads: a handle cannot be guarded."""
    name = handle + "/no_gradient/read"
    if name not in graph.nodes:
        read = node_def_pb2.NodeDef(name=name, op="ReadVariableOp", input=[handle])
        read.attr["dtype"].CopyFrom(graph.nodes[handle].attr["dtype"])
        graph.replace(read)
    return name + ":0"


def _guard(
    graph: Graph, node: node_def_pb2.NodeDef, dtype: int, entries: List[str]
) -> None:
    """Adds the nodes between a guarded one and its consumers."""
    cut = node_def_pb2.NodeDef(name=node.name + "/cut", op="Bitcast", input=[node.name])
    set_attr(cut, "T", ("type", dtype))
    set_attr(cut, "type", ("type", _INTEGERS[dtype]))
    back = node_def_pb2.NodeDef(
        name=node.name + "/back", op="Bitcast", input=[cut.name]
    )
    set_attr(back, "T", ("type", _INTEGERS[dtype]))
    set_attr(back, "type", ("type", dtype))
    guard = node_def_pb2.NodeDef(name=node.name + "/guarded", op="IdentityN")
    guard.input.append(back.name)
    types = [dtype]
    loop = node.op == "Exit"
    message = (
        "hub_compat: node '{}' ends a TF1 {} (tf.{}), which this converted module runs "
        "forward only; TensorFlow 2 cannot differentiate it. Use the module without "
        "training what is before it: call it outside the tape, and pass the result "
        "in.".format(
            node.name,
            "loop" if loop else "conditional",
            "while_loop" if loop else "cond",
        )
    )
    for i, entry in enumerate(entries):
        prevent = node_def_pb2.NodeDef(op="PreventGradient", input=[entry])
        prevent.name = "{}/no_gradient_{}".format(node.name, i)
        types.append(graph.output(entry).dtype)
        set_attr(prevent, "T", ("type", types[-1]))
        set_attr(prevent, "message", message.encode())
        graph.replace(prevent)
        guard.input.append(prevent.name)
    set_attr(guard, "T", ("types", types))
    for added in (cut, back, guard):
        graph.replace(added)
    graph.aliases[node.name + ":0"] = guard.name + ":0"
