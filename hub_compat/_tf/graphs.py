"""Graphs of functions, their outer graphs, and TF1 control flow."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, List, Mapping, Optional

from hub_compat._tf import attr_value_pb2, tf

__all__ = [
    "build_state",
    "capture",
    "control_flow_context",
    "import_into",
    "is_function",
    "is_inside",
    "keeps_state",
    "names_in_use",
    "restore_names",
    "set_colocation",
    "slice_of",
    "without_autograph",
]


def is_function(graph: Any) -> bool:
    """Whether a graph is that of a function.

    Private: ``building_function`` (1.15 to 2.21). Without it, it is not.
    """
    return bool(getattr(graph, "building_function", False))


def _outer(graph: Any) -> Any:
    """The graph in which a function's graph is made.

    Private: ``outer_graph`` of FuncGraph, ``_outer_graph`` of those that Defun makes.
    """
    found = getattr(graph, "outer_graph", None)
    return found if found is not None else getattr(graph, "_outer_graph", None)


def is_inside(graph: Any, outer: Any) -> bool:
    """Whether a graph is another one, or that of a function made in it."""
    while graph is not None:
        if graph is outer:
            return True
        graph = _outer(graph) if is_function(graph) else None
    return False


def keeps_state(graph: Any) -> bool:
    """Whether variables are to be made in a function's graph itself.

    ``wrap_function()`` is for such code: who calls it runs the initializers with
    ``prune()``. Private: the name that it gives to its graph (1.15 to 2.21).
    """
    name = str(getattr(graph, "name", ""))
    return name.startswith("wrapped_function") and not _is_replicated(graph)


def _is_replicated(graph: Any) -> bool:
    context = control_flow_context(graph)
    return type(context).__name__.endswith("TPUReplicateContext")


def control_flow_context(graph: Any) -> Any:
    """The TF1 loop or conditional that is being built; None outside of one.

    Private: ``_get_control_flow_context`` (1.15 to 2.21).
    """
    found = getattr(graph, "_get_control_flow_context", None)
    return None if found is None else found()


@contextlib.contextmanager
def build_state() -> Iterator[Any]:
    """A context outside of functions, loops and control dependencies.

    Yields:
      The graph that is built there; None where operations run eagerly.
    """
    graph = tf.compat.v1.get_default_graph()
    lift = is_function(graph) and not keeps_state(graph)
    with tf.init_scope() if lift else tf.control_dependencies(None):
        eager = tf.executing_eagerly()
        yield None if eager else tf.compat.v1.get_default_graph()


def capture(tensor: Any) -> Any:
    """A tensor of an outer graph, in the function and in the loop that are built.

    A reference to a variable cannot go into a function, so its value does. Private:
    ``capture`` of graphs of functions, ``AddValue`` of contexts (1.15 to 2.21).
    """
    graph = tf.compat.v1.get_default_graph()
    if tensor.graph is not graph:
        if tensor.dtype._is_ref_dtype:
            with tf.init_scope(), tensor.graph.as_default():
                with tf.control_dependencies(None):
                    tensor = tf.identity(tensor)
        tensor = graph.capture(tensor)
    context = control_flow_context(graph)
    return tensor if context is None else context.AddValue(tensor)


def import_into(
    meta_graph: Any, scope: str, input_map: Optional[Mapping[str, Any]] = None
) -> None:
    """Imports a MetaGraphDef into the graph at hand, without making a Saver.

    Args:
      meta_graph: the proto; it is changed.
      scope: the name of the scope in the one that is open.
      input_map: what replaces tensors, by their names.
    """
    # A graph that has one says which ops it has: no Saver for all variables is made.
    meta_graph.saver_def.filename_tensor_name = "unused"
    meta_graph.saver_def.save_tensor_name = "unused"
    meta_graph.saver_def.restore_op_name = "unused"
    meta_graph.saver_def.version = 2
    tf.compat.v1.train.import_meta_graph(
        meta_graph, import_scope=scope, input_map=dict(input_map or {})
    )


def names_in_use(graph: Any) -> Any:
    """The names that a graph has given away, for ``restore_names()``.

    Private: ``_names_in_use`` (1.15 to 2.21). Without it, an import that is tried again
    has another name.
    """
    return dict(getattr(graph, "_names_in_use", ()))


def restore_names(graph: Any, names: Any) -> None:
    """Makes the names free that an import has taken and not used."""
    if hasattr(graph, "_names_in_use"):
        graph._names_in_use.clear()
        graph._names_in_use.update(names)


def set_colocation(op: Any, groups: List[bytes]) -> None:
    """Replaces what an op must be on the device of, and its device.

    Private: ``_set_attr``, ``_set_device`` (1.15 to 2.21); without them, it stays.
    """
    if not hasattr(op, "_set_attr"):
        return
    value = attr_value_pb2.AttrValue()
    value.list.s.extend(groups)
    op._set_attr("_class", value)
    prefix = b"loc:@"
    places = [g[len(prefix) :].decode() for g in groups if g.startswith(prefix)]
    if places and hasattr(op, "_set_device"):
        devices = [op.graph.get_operation_by_name(name).device for name in places]
        op._set_device(next(filter(None, devices), ""))


def slice_of(variable: Any) -> Any:
    """Which part of a partitioned variable a variable is; None for a whole one.

    Private: ``_save_slice_info`` (1.15 to 2.21), or its getter.
    """
    getter: Optional[Callable[[], Any]] = getattr(
        variable, "_get_save_slice_info", None
    )
    if getter is not None:
        return getter()
    return getattr(variable, "_save_slice_info", None)


def without_autograph(cls: Any) -> Any:
    """Keeps AutoGraph from rewriting the code that calls of an object run."""
    cls.__call__ = tf.autograph.experimental.do_not_convert(cls.__call__)
    # TensorFlow 1.15 asks the object and not its method (autograph/impl/api.py).
    cls.autograph_info__ = {}
    return cls
