"""Gradients of loaded functions, and of the loops and conditionals in them."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, List, Sequence, Set

from hub_compat._tf import attr_value_pb2, tf
from hub_compat._tf.functions import traces_or_self

__all__ = [
    "OWN_GRADIENTS",
    "called_graphs",
    "can_stop_gradients",
    "carries_gradients",
    "gradient_kind",
    "gradients_of_functions",
    "keep_inner_control_flow",
    "lacks_gradients",
    "prepare_gradients",
    "recording_stopped",
    "register_control_flow_gradients",
    "stop_gradient_at",
    "takes_no_gradients",
    "tell_handles",
]


_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOOP = {"cond": "_cond_graph", "body": "_body_graph"}
_CONDITIONAL = {"then_branch": "_true_graph", "else_branch": "_false_graph"}
# By op, its functions, and the attributes in which TensorFlow looks for their graphs.
_FUNCTIONS_OF = {
    "While": _LOOP,
    "StatelessWhile": _LOOP,
    "If": _CONDITIONAL,
    "StatelessIf": _CONDITIONAL,
}
# Ops that a program may give a gradient of its own, which the type does not say.
OWN_GRADIENTS = ("IdentityN",)
# Registered gradients that give None for every input (math_grad.py, 1.15 to 2.21).
_GIVE_NONE = {"Ceil", "Floor", "FloorDiv", "Rint", "Round", "TruncateDiv"}
# The functions of an op through which gradients go.
_CALLED = {
    "PartitionedCall": ("f",),
    "StatefulPartitionedCall": ("f",),
    "While": ("body",),
    "StatelessWhile": ("body",),
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
}
_NO_GRADIENT = "hub_compat_no_gradient"


def register_control_flow_gradients() -> None:
    """Adds gradients of While and If in loaded functions, which TF 1.15 lacks.

    There they come with the modules that write such loops, which nothing imports that
    only loads them. Private: while_v2 and cond_v2, in all versions; a version without
    them has the gradients elsewhere.
    """
    with contextlib.suppress(ImportError):
        from tensorflow.python.ops import cond_v2, while_v2  # noqa: F401


def keep_inner_control_flow(functions: Sequence[Any]) -> None:
    """Makes nested loops and conditionals keep what a gradient adds to them.

    A higher-order tape asks a function for its gradient until that needs nothing new.
    TensorFlow makes new graphs of a loaded loop's body each time, in which each time
    shapes are new; of one loop it knows that they are no floats, of a loop in a loop
    it does not, and so never ends. With graphs that stay, it does.

    Private: get_func_graph and the attributes ``_cond_graph``, ``_body_graph``,
    ``_true_graph`` and ``_false_graph``, which are there where a loop or conditional
    was traced (1.15 to 2.21). Without them, nothing is kept.

    Args:
      functions: ConcreteFunctions.
    """
    try:
        from tensorflow.python.ops.control_flow_util_v2 import get_func_graph
    except ImportError:
        return
    seen = set()
    graphs = [function.graph for function in functions]
    while graphs:
        graph = graphs.pop()
        for op in graph.get_operations():
            if op.type in _CALLS:
                name = op.get_attr("f").name
                called = getattr(graph._get_function(name), "graph", None)
                if called is not None and name not in seen:
                    seen.add(name)
                    graphs.append(called)
            elif op.type in _FUNCTIONS_OF and _holds_control_flow(op):
                _keep_functions(op, get_func_graph)


def _holds_control_flow(op: Any) -> bool:
    for attr in _FUNCTIONS_OF[op.type]:
        function = op.graph._get_function(op.get_attr(attr).name)
        definition = getattr(function, "cached_definition", None)
        if any(
            node.op in _FUNCTIONS_OF for node in getattr(definition, "node_def", ())
        ):
            return True
    return False


def _keep_functions(op: Any, get_func_graph: Callable[..., Any]) -> None:
    functions = _FUNCTIONS_OF[op.type]
    if functions is _LOOP:
        shapes = [tf.TensorShape(shape) for shape in op.get_attr("output_shapes")]
    else:
        shapes = [tensor.shape for tensor in list(op.inputs)[1:]]
    for attr, kept in functions.items():
        graph = get_func_graph(op, shapes, op.get_attr(attr).name)
        setattr(op, kept, graph)
        for inner in graph.get_operations():
            if inner.type in _FUNCTIONS_OF:
                _keep_functions(inner, get_func_graph)


def gradients_of_functions() -> Set[str]:
    """The names under which gradients of functions are registered in the process.

    Private: ``gradient_registry``, or ``_gradient_registry`` before TF 2.5. From TF 2.2
    on functions have their gradients themselves, and there are none.
    """
    return {name for name in gradient_entries() if name.startswith("PartitionedCall-")}


def gradient_entries() -> Dict[str, Any]:
    from tensorflow.python.framework import ops

    registry: Any = getattr(ops, "gradient_registry", None)
    if registry is None:
        registry = getattr(ops, "_gradient_registry", None)
    return getattr(registry, "_registry", {})


def prepare_gradients(outputs: Any, variables: Sequence[Any]) -> None:
    """Makes the calls behind tensors of a TF1 graph return what gradients need.

    TF 1.15 changes a call when it is first differentiated, which is too late once a
    session has seen it ("Connecting to invalid output"). Not needed from TF 2.0 on.
    """
    if not tf.__version__.startswith("1.") or not variables:
        return
    floating = [t for t in tf.nest.flatten(outputs) if t.dtype.is_floating]
    if floating:
        # What has no gradient fails again, and with reason, when one is asked for.
        with contextlib.suppress(AssertionError, LookupError, TypeError, ValueError):
            tf.gradients(floating, list(variables))


def lacks_gradients(function: Any) -> bool:
    """Whether a loaded function has an op without gradient, between floats.

    Private: get_gradient_function and _get_function (1.15 to 2.21), and the graph of a
    trace. Without them, no.
    """
    seen: Set[str] = set()
    # Another callable has no graph: its ops are recorded one by one.
    found = [trace.graph for trace in traces_or_self(function)]
    while found:
        graph = found.pop()
        for op in graph.get_operations():
            called = [
                value.func.name
                for value in op.node_def.attr.values()
                if value.HasField("func")
            ]
            if called:
                for name in set(called) - seen:
                    seen.add(name)
                    inner = getattr(graph._get_function(name), "graph", None)
                    found.extend([] if inner is None else [inner])
            elif gradient_kind(op) == "missing":
                if any(map(carries_gradients, op.inputs)):
                    if any(map(carries_gradients, op.outputs)):
                        return True
    return False


def tell_handles(functions: Sequence[Any]) -> None:
    """Tells the graphs of loaded functions the dtypes and shapes of variables.

    The loaders of TF 2.4 and 2.5 leave them out, and a gradient of a variable that is
    handed on to a function is lost, or ends in "without handle data". Private:
    handle_data_util (2.4 to 2.21), ``_handle_data`` behind it, and the graphs of
    functions; without them, nothing is done. It can go with TF 2.5.

    Args:
      functions: traces.
    """
    if not tf.__version__.startswith(("2.4.", "2.5.")):
        return
    from tensorflow.python.ops import handle_data_util

    def tell(sources: Sequence[Any], targets: Sequence[Any]) -> None:
        for source, target in zip(sources, targets):
            if target.dtype == tf.resource:
                handle_data_util.copy_handle_data(source, target)

    seen: Set[int] = set()
    pending = []
    for function in functions:
        captured = list(function.captured_inputs)
        tell(captured, function.graph.inputs[len(function.inputs) - len(captured) :])
        pending.append(function.graph)
    while pending:
        graph = pending.pop()
        if id(graph) in seen:
            continue
        seen.add(id(graph))
        for op in graph.get_operations():
            if op.type == "Identity":
                tell(list(op.inputs), op.outputs)
            elif op.type in _CALLS:
                for inner in called_graphs(op):
                    tell(list(op.inputs), inner.inputs)
                    seen.discard(id(inner))
                    pending.append(inner)


def gradient_kind(op: Any) -> str:
    """What TensorFlow does where a gradient reaches an op of a function.

    Private: get_gradient_function (1.15 to 2.21). Without it, all have a gradient.

    Returns:
      ``"missing"``: an error; ``"none"``: it goes no further; ``"calls"``: it goes
      through functions; ``"there"``: the op has a gradient.
    """
    try:
        from tensorflow.python.framework.ops import get_gradient_function
    except ImportError:
        return "there"
    if op.type == "PreventGradient":
        return "missing"
    try:
        gradient = get_gradient_function(op)
    except LookupError:
        return "missing"
    if gradient is _no_gradient:
        return "missing"
    if gradient is None or op.type in _GIVE_NONE:
        return "none"
    return "calls" if op.type in _CALLED else "there"


def called_graphs(op: Any) -> List[Any]:
    """The graphs of the functions that a gradient of an op goes through.

    Private: _get_function, and the graph of what it returns (1.15 to 2.21). Without
    them, none.
    """
    names = [op.get_attr(attr).name for attr in _CALLED.get(op.type, ())]
    find = getattr(op.graph, "_get_function", None)
    found = [getattr(find(name), "graph", None) for name in names if find is not None]
    return [graph for graph in found if graph is not None]


def stop_gradient_at(op: Any) -> None:
    """Stops gradients at an op of a function.

    Private: ``_gradient_function`` of an op (2.4 to 2.21), which no file holds; and
    ``_set_attr`` for 1.15, whose files hold no gradients.
    """
    if hasattr(op, "_gradient_function"):
        op._gradient_function = _no_gradient
        return
    value = attr_value_pb2.AttrValue(s=_NO_GRADIENT.encode())
    op._set_attr("_gradient_op_type", value)


def _no_gradient(op: Any, *upstream: Any) -> Any:
    return [None] * len(op.inputs)


def takes_no_gradients() -> bool:
    """Whether a function may have no gradient of any input (not in TF 1.15)."""
    return not tf.__version__.startswith("1.")


def can_stop_gradients() -> bool:
    """Registers, once, what ``stop_gradient_at`` needs; says whether that works."""
    if not hasattr(tf.Operation, "_set_attr"):
        return False
    with contextlib.suppress(KeyError):
        tf.RegisterGradient(_NO_GRADIENT)(_no_gradient)
    return True


def carries_gradients(tensor: Any) -> bool:
    """Whether TensorFlow passes a gradient on to, or through, a tensor."""
    dtype = tensor.dtype.base_dtype
    return bool(
        dtype.is_floating or dtype.is_complex or dtype in (tf.resource, tf.variant)
    )


def recording_stopped(tensors: Sequence[Any]) -> Any:
    """A context in which tapes do not record, where none of them watches the tensors.

    Private: tape.py of TensorFlow's eager execution, whose functions are in record.py
    from 2.12 on; for forward-mode gradients, forwardprop_util (from 2.1 on). Without
    them, tapes go on.
    """
    try:
        from tensorflow.python.eager import record
    except ImportError:
        from tensorflow.python.eager import tape as record
    asks = getattr(record, "should_record_backprop", None) or record.should_record
    if not record.could_possibly_record() or asks(tensors):
        return contextlib.nullcontext()
    with contextlib.suppress(ImportError):
        from tensorflow.python.eager import forwardprop_util

        if forwardprop_util.pack_tangents(tensors).tangents:
            return contextlib.nullcontext()
    return record.stop_recording()
