"""Refuses, with a reason, gradients that a loaded function cannot give.

::

    before:  exit -> consumers
    after:   exit -> Bitcast to integers -> Bitcast back -> IdentityN -> consumers
             what entered -> PreventGradient(message) ---------^

What ``control_flow`` does not understand stays as it is. TensorFlow 2 runs such nodes
forward inside a function, but cannot differentiate them. Its gradient code looks for a
control-flow context that a loaded function does not have, and fails with
``'NoneType' object has no attribute 'outer_context'``. That happens as soon as a loop
lies between the result and what it is differentiated by.

So the Bitcasts cut each tensor that leaves a loop or a conditional: integers carry no
gradient. The IdentityN hands its first input on unchanged. It ties the tensor to what
entered, by a path whose gradient is an error with our message, under plain TensorFlow
too. Guarded are:

1. Exit and Merge nodes at the outermost level;
2. calls of functions with a custom gradient, or with TF1 control flow;
3. reads of TensorArrays;
4. nodes whose gradient is not in the module.

Left alone: tensors of dtypes without gradients, and what depends on nothing that could
be trained. The pass warns of what it guarded, by node.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Collection, Dict, List, Mapping, Set

from hub_compat._tf import node_def_pb2

from ..ir.builder import Builder
from ..ir.calls import called_by, calling
from ..ir.context import Context
from ..ir.control_levels import control_levels
from ..ir.dtypes import (
    DT_BFLOAT16,
    DT_COMPLEX64,
    DT_COMPLEX128,
    DT_DOUBLE,
    DT_FLOAT,
    DT_HALF,
    DT_INT32,
    DT_INT64,
    DT_RESOURCE,
    DT_UINT16,
)
from ..ir.graph import Graph, node_of, resource_behind

__all__ = ["prevent_gradients", "run"]

# What has a gradient, and integers of the same size; complex128 becomes two int64.
_INTEGERS: Dict[int, int] = {
    DT_HALF: DT_UINT16,
    DT_BFLOAT16: DT_UINT16,
    DT_FLOAT: DT_INT32,
    DT_DOUBLE: DT_INT64,
    DT_COMPLEX64: DT_INT64,
    DT_COMPLEX128: DT_INT64,
}
_TENSOR_ARRAY = "TensorArray"
_TENSOR_ARRAY_READS = ("Concat", "Gather", "Pack", "Read")


# Given:
#     call = StatefulPartitionedCall(x, weights) {f: @scale}     custom gradient
#     y = Neg(call)
# Result:
#     call/output_0/cut = Bitcast(call) to int32                no gradient passes
#     call/output_0/back = Bitcast(cut) to float32
#     call/output_0/no_gradient_0 = PreventGradient(x)
#     call/output_0/no_gradient_1 = PreventGradient(ReadVariableOp(weights))
#     call/output_0/guarded = IdentityN(back, no_gradient_0, no_gradient_1)
#     y = Neg(call/output_0/guarded)
#
# Afterwards, values are as before to the bit, and a gradient through the call is an
# error with our message: never None, never zero.
#
# Last: context.left and context.lost are complete, and no pass may split a guard.
def run(graph: Graph, context: Context) -> None:
    """Guards every tensor whose gradient a loaded function cannot give."""
    guarded = prevent_gradients(
        graph,
        context.lost.intersection(graph.nodes),
        # Branches and bodies that the pass on control flow made call them, too.
        calling(graph.library, context.custom),
        context.left,
        calling(graph.library, context.looping),
    )
    if guarded:
        context.warn(
            "some TF1 control flow or custom gradients run forward only; gradients "
            "stop at {}",
            ", ".join(guarded[:4]),
        )


def prevent_gradients(
    graph: Graph,
    lost: Collection[str] = (),
    own: Collection[str] = (),
    left: Mapping[str, str] = MappingProxyType({}),
    looping: Collection[str] = (),
) -> List[str]:
    """Guards every tensor whose gradient a loaded function cannot give.

    Args:
      graph: the graph.
      lost: nodes whose gradient is not in the module, see
        ``custom_gradients.settle``.
      own: functions with a gradient function of their own, see
        ``custom_gradients.find_lost``.
      left: why nodes of loops and conditionals are what they were, see
        ``loops.make_functional``.
      looping: functions with loops and conditionals in them, see
        ``loops.inline_calls``.

    Returns:
      Names of the nodes that are guarded now.
    """
    reasons = {}
    for name, node in graph.nodes.items():
        reason = _reason(node, lost, own, looping)
        if reason:
            if name in left:
                reason += ", which was not rewritten, because " + left[name]
            reasons[name] = reason
    if not reasons:
        return []
    levels = control_levels(graph)
    guarded: Dict[str, str] = {}
    for name, reason in reasons.items():
        if levels[name] > 0:
            continue
        entries = _entries(graph, name, levels)
        for i, output in enumerate(graph.outputs(name)):
            if output.dtype in _INTEGERS and entries:
                tensor = "{}:{}".format(name, i)
                guarded[tensor] = _guard(graph, tensor, output.dtype, entries, reason)
    replaced = {tensor: graph.aliases[tensor] for tensor in guarded}
    graph.redirect(replaced, but=set(guarded.values()))
    return list(dict.fromkeys(node_of(tensor) for tensor in guarded))


def _reason(
    node: node_def_pb2.NodeDef,
    lost: Collection[str],
    own: Collection[str],
    looping: Collection[str],
) -> str:
    """Why there is no gradient through a node; empty where there may be one."""
    op = node.op
    if op == "Exit":
        return "ends a TF1 loop (tf.while_loop)"
    if op == "Merge":
        return "ends a TF1 conditional (tf.cond)"
    if own and not called_by(node).isdisjoint(own):
        return "calls a function with a custom gradient (Defun, tf.custom_gradient)"
    if looping and not called_by(node).isdisjoint(looping):
        return "calls a function with a TF1 loop or conditional in it (Defun)"
    if op.startswith(_TENSOR_ARRAY):
        kind = op[len(_TENSOR_ARRAY) :].rstrip("V23")
        if kind in _TENSOR_ARRAY_READS:
            return "reads a TensorArray of a TF1 loop (tf.while_loop)"
    if lost and node.name in lost:
        return "has a gradient that is not in the module (tf.custom_gradient)"
    return ""


def _entries(graph: Graph, name: str, levels: Dict[str, int]) -> List[str]:
    """Tensors with a gradient that enter what a guarded node leaves."""
    entries: Dict[str, None] = {}
    seen: Set[str] = {name}
    stack = [name]
    pushes = _pushes(graph)
    while stack:
        inside = stack.pop()
        # What a loop keeps for its gradient goes there by a stack.
        for push in pushes.get(inside, ()):
            if push not in seen:
                seen.add(push)
                stack.append(push)
        for edge in graph.inputs(inside):
            if edge.tensor.startswith("^"):
                continue
            holds = graph.nodes[edge.node].op.startswith((_TENSOR_ARRAY, "Stack"))
            if holds or levels[edge.node] > 0:
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


def _pushes(graph: Graph) -> Dict[str, List[str]]:
    """By stack, the nodes that put something on it."""
    found: Dict[str, List[str]] = {}
    for name, node in graph.nodes.items():
        if node.op in ("StackPush", "StackPushV2"):
            stack = resource_behind(graph, graph.inputs(name)[0].node)
            found.setdefault(stack, []).append(name)
    return found


def _read(graph: Graph, handle: str) -> str:
    """The value of a variable that a loop reads: a handle cannot be guarded."""
    name = handle + "/no_gradient/read"
    if name not in graph.nodes:
        dtype = graph.nodes[handle].attr["dtype"]
        Builder(graph).op(
            "ReadVariableOp", graph.tensor(handle), name=name, dtype=dtype
        )
    return name + ":0"


def _guard(
    graph: Graph, tensor: str, dtype: int, entries: List[str], reason: str
) -> str:
    """Adds the nodes between a tensor and its consumers; returns the first."""
    base = tensor.replace(":", "/output_")
    build = Builder(graph)
    message = (
        "hub_compat: node '{}' {}, and the converted module runs it forward only; "
        "TensorFlow 2 cannot differentiate it. To keep the module frozen, call it "
        "outside the GradientTape and pass its output in.".format(
            node_of(tensor), reason
        )
    )
    prevented = [
        build.op(
            "PreventGradient",
            graph.tensor(entry),
            name="{}/no_gradient_{}".format(base, i),
            message=message.encode(),
        )
        for i, entry in enumerate(entries)
    ]
    integers = _INTEGERS[dtype]
    cut = build.op("Bitcast", graph.tensor(tensor), name=base + "/cut", type=integers)
    back = build.op("Bitcast", cut, name=base + "/back", type=dtype)
    guard = build.op("IdentityN", [back] + prevented, name=base + "/guarded")
    graph.aliases[tensor] = guard + ":0"
    return cut
