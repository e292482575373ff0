"""The running TensorFlow: its version, its ops, its modes."""

from __future__ import annotations

import functools
from typing import Any, Tuple

from hub_compat._tf import tf

__all__ = ["has_op", "in_control_flow", "in_tf1_graph", "is_newer", "registered_op"]


def is_newer(producer: Any) -> bool:
    """Whether the running TensorFlow is older than what wrote a model.

    Args:
      producer: a ``hub_compat.formats.Producer``.
    """
    return bool(producer.is_newer_than(tf.__version__, tf.version.GRAPH_DEF_VERSION))


def in_control_flow(op: Any) -> bool:
    """Whether an op of a graph is inside of a conditional or loop.

    Private: the op's control flow context, and the graphs of branches and of bodies
    where control flow is made of functions (both 1.15 to 2.21). Without them, no.
    """
    context = getattr(op, "_get_control_flow_context", None)
    if context is not None and context() is not None:
        return True
    return isinstance(op.graph, _control_flow_graphs())


@functools.lru_cache(maxsize=None)
def _control_flow_graphs() -> Tuple[type, ...]:
    try:
        from tensorflow.python.ops import control_flow_v2_func_graphs as graphs
    except ImportError:
        return ()
    names = ("CondBranchFuncGraph", "WhileBodyFuncGraph", "WhileCondFuncGraph")
    found = [getattr(graphs, name, None) for name in names]
    return tuple(graph for graph in found if graph is not None)


def has_op(name: str) -> bool:
    """Whether an op is registered, by TensorFlow itself or by a library it loaded.

    tf.raw_ops has only TensorFlow's own; it answers where ``registered_op`` cannot.
    """
    if _op_def_registry() is None:
        return hasattr(tf.raw_ops, name)
    return registered_op(name) is not None


def registered_op(name: str) -> Any:
    """The OpDef of an op of TensorFlow, or of a library it loaded; None without one.

    Private: op_def_registry, with ``get`` from TF 2.0 on, and all ops in one dict in
    1.15. Without it, no op is known.
    """
    registry = _op_def_registry()
    if registry is None:
        return None
    if hasattr(registry, "get"):
        return registry.get(name)
    return registry.get_registered_ops().get(name)


def _op_def_registry() -> Any:
    try:
        from tensorflow.python.framework import op_def_registry
    except ImportError:
        return None
    return op_def_registry


def in_tf1_graph() -> bool:
    """Whether ops go into a graph for sessions, rather than run or into a function.

    Public from TF 2.0 on; private in 1.15 (framework.ops). Without it, not eagerly.
    """
    found = getattr(tf.compat.v1, "executing_eagerly_outside_functions", None)
    if found is None:
        try:
            from tensorflow.python.framework import ops
        except ImportError:
            return not tf.executing_eagerly()
        found = getattr(
            ops, "executing_eagerly_outside_functions", tf.executing_eagerly
        )
    return not found()
