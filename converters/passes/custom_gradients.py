"""Finds gradients that the module does not hold, and makes their names harmless.

::

    before:  IdentityN(_gradient_op_type="CustomGradient-12")
    after:   IdentityN(_gradient_op_type="hub_compat: not in the module")

A TF1 program gives gradients to its own nodes and functions in three forms:

1. A node has the attribute ``_gradient_op_type``, the name of a registered gradient
   (``tf.custom_gradient``, ``tf.Graph.gradient_override_map``). If the name is not that
   of an op, the gradient was a Python function, and is lost. The name means nothing in
   another process, or something else: "CustomGradient-12" is another function there.
2. A function has a GradientDef (``grad_func`` of Defun). TensorFlow 2 ignores it.
3. ``tf.nn.swish`` has been both, only to save memory. Its gradient is that of what it
   computes, so its attribute is removed.

``find_lost`` lists the functions of these forms in ``context.custom``, so that no pass
inlines them. ``settle`` rewrites the nodes and lists them in ``context.lost``. Both are
run forward, and ``gradient_guards`` refuses the gradient with the reason.
"""

from __future__ import annotations

from typing import Any, Mapping, Set

from ..ir.attributes import GRADIENT
from ..ir.calls import PARTITIONED_CALLS, calling
from ..ir.context import Context
from ..ir.graph import Graph
from ..opdata.op_defs import builtin_ops

__all__ = [
    "NOT_IN_THE_MODULE",
    "find_lost",
    "give_up",
    "is_swish",
    "settle",
]

# The name of a gradient that is not to be had; TensorFlow's LookupError shows it.
NOT_IN_THE_MODULE = b"hub_compat: not in the module"


# Given:
#     y = IdentityN(x) {_gradient_op_type: "CustomGradient-12"}
#     z = IdentityN(Mul(x, Sigmoid(x)), x) {_gradient_op_type: "CustomGradient-3"}
# Result:
#     y = IdentityN(x) {_gradient_op_type: "hub_compat: not in the module"}
#     z = IdentityN(Mul(x, Sigmoid(x)), x)
#     context.lost: y
#
# Afterwards, no attribute names a gradient that another program may have registered.
#
# After "inlined calls": nodes that came into the graph are nodes of the graph now,
# so context.lost names them too.
def settle(graph: Graph, context: Context) -> None:
    """Makes swish differentiable, and the names of lost gradients harmless."""
    for function in graph.library.values():
        _settle({node.name: node for node in function.node_def})
    context.lost = _settle(graph.nodes)


def _settle(nodes: Mapping[str, Any]) -> Set[str]:
    lost = set()
    for name, node in nodes.items():
        if _lost_gradient(node):
            if not give_up(node, nodes):
                lost.add(name)
    return lost


def give_up(node: Any, nodes: Mapping[str, Any]) -> bool:
    """Takes away the name of a gradient that is not in the module.

    Args:
      node: has that name.
      nodes: those beside it, by name.

    Returns:
      Whether the node is differentiated by its formula now, as swish is. Another raises
      a LookupError, rather than being what the program did not mean.
    """
    if node.op == "IdentityN" and is_swish(node.input[0], nodes):
        del node.attr[GRADIENT]
        return True
    node.attr[GRADIENT].s = NOT_IN_THE_MODULE
    return False


def _lost_gradient(node: Any) -> bool:
    """Whether a node's gradient was a function that is not in the module.

    Lowering asks otherwise: TensorFlow 2 writes names of functions only, and some of
    these it has kept.
    """
    if GRADIENT not in node.attr or node.op in PARTITIONED_CALLS:
        return False
    # The name of another op says that the gradient is that of the other.
    return node.attr[GRADIENT].s.decode("utf-8", "replace") not in builtin_ops()


# Given:
#     library.gradient: clip -> clip_gradient
#     clip(a): Identity(a)
#     outer(a): PartitionedCall(a) {f: @clip}
# Result: the same functions, and
#     context.custom: clip, outer
#
# Afterwards, context.custom holds each function with a custom gradient, and each that
# calls one, at any depth.
#
# Before "inlined calls", which leaves these functions alone: the gradient belongs to
# the function, and its nodes alone would get another one.
def find_lost(graph: Graph, context: Context) -> None:
    """Finds functions that TensorFlow 2 would differentiate wrongly, or not at all."""
    # TensorFlow 2 ignores the GradientDefs of a library.
    gradients = context.meta_graph.graph_def.library.gradient
    found = {gradient.function_name for gradient in gradients}
    for name, function in graph.library.items():
        nodes = {node.name: node for node in function.node_def}
        if any(_lost_gradient(node) for node in nodes.values()):
            found.add(name)
        elif name in found and _computes_swish(function, nodes):
            found.remove(name)
    context.custom = calling(graph.library, found)


def _computes_swish(function: Any, nodes: Mapping[str, Any]) -> bool:
    results = list(function.ret.values())
    return len(results) == 1 and is_swish(results[0], nodes)


def is_swish(tensor: str, nodes: Mapping[str, Any]) -> bool:
    """Whether a tensor is x * sigmoid(x), or x * sigmoid(beta * x)."""
    product = nodes.get(_origin(tensor, nodes))
    if product is None or product.op != "Mul":
        return False
    factors = [_origin(name, nodes) for name in product.input[:2]]
    for x, other in (factors, factors[::-1]):
        node = nodes.get(other)
        if node is None or node.op != "Sigmoid":
            continue
        origin = _origin(node.input[0], nodes)
        scaled = nodes.get(origin)
        if origin == x:
            return True
        if scaled is not None and scaled.op == "Mul":
            if x in [_origin(name, nodes) for name in scaled.input[:2]]:
                return True
    return False


def _origin(tensor: str, nodes: Mapping[str, Any]) -> str:
    """The node or argument that a tensor comes from, past Identity nodes.

    All nodes of a swish have one output, so it stands for the tensor; of other
    nodes the tensor's whole name is the answer.
    """
    while True:
        name = tensor.split(":")[0]
        node = nodes.get(name)
        if node is None or node.op not in ("Identity", "Mul", "Sigmoid"):
            return tensor[:-2] if tensor.endswith(":0") else tensor
        if node.op != "Identity":
            return name
        tensor = node.input[0]
