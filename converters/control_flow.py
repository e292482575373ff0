"""TF1 control flow (frames, Switch/Merge) in a converted graph.

TensorFlow 2 runs such nodes forward inside a function, but cannot
differentiate them: its gradient code looks for a control-flow context that a
loaded function does not have, and fails with ``'NoneType' object has no
attribute 'outer_context'``. Until they are rewritten as While and If, the
tensors that leave a loop or a branch pass through a PreventGradient, whose
gradient raises an error that says what is the matter, under plain TensorFlow
too.
"""

from __future__ import annotations

from typing import Iterable, List

from hub_compat._tf import node_def_pb2

from .functions import set_attr
from .graph import DT_VARIANT, Graph, node_of

__all__ = ["CONTROL_FLOW_OPS", "has_control_flow", "prevent_gradients"]

CONTROL_FLOW_OPS = frozenset(
    ["Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"]
)
# half, bfloat16, float, double, complex64, complex128: what has a gradient.
_DIFFERENTIABLE = frozenset([1, 2, 8, 14, 18, 19, DT_VARIANT])


def has_control_flow(graph: Graph, names: Iterable[str]) -> bool:
    """Whether any of the nodes is a TF1 control-flow node."""
    return any(graph.nodes[name].op in CONTROL_FLOW_OPS for name in names)


def prevent_gradients(graph: Graph) -> List[str]:
    """Guards every tensor that leaves a loop or a branch.

    Returns:
      Names of the Exit and Merge nodes that are guarded now.
    """
    if not has_control_flow(graph, graph.nodes):
        return []
    loops = set()
    for node in graph.nodes.values():
        if node.op == "Merge" and any(
            graph.node(node_of(i)).op == "NextIteration" for i in node.input
        ):
            loops.add(node.name)
    guarded = []
    for name in list(graph.nodes):
        node = graph.nodes[name]
        if node.op not in ("Exit", "Merge") or name in loops:
            continue
        dtype = graph.outputs(name)[0].dtype
        if dtype in _DIFFERENTIABLE:
            guarded.append(_guard(graph, node, dtype))
    replaced = {tensor: graph.aliases[tensor] for tensor in guarded}
    graph.redirect(replaced, but={node_of(alias) for alias in replaced.values()})
    return [node_of(tensor) for tensor in guarded]


def _guard(graph: Graph, node: node_def_pb2.NodeDef, dtype: int) -> str:
    guard = node_def_pb2.NodeDef(op="PreventGradient")
    guard.name = graph.unique_name(node.name + "/no_gradient")
    guard.input.append(node.name)
    set_attr(guard, "T", ("type", dtype))
    set_attr(
        guard,
        "message",
        (
            "hub_compat: node '{}' ends a TF1 {} (tf.{}), which this converted module "
            "runs forward only; TensorFlow 2 cannot differentiate it. Call the module "
            "outside the tape, or wrap its output in tf.stop_gradient and its call in "
            "tape.stop_recording().".format(
                node.name,
                "loop" if node.op == "Exit" else "conditional",
                "while_loop" if node.op == "Exit" else "cond",
            )
        ).encode(),
    )
    graph.replace(guard)
    tensor = node.name + ":0"
    graph.aliases[tensor] = guard.name + ":0"
    return tensor
