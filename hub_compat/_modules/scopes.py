"""The scope of a module's state in a graph."""

from __future__ import annotations

from hub_compat._tf import tf
from hub_compat.errors import GraphError

__all__ = ["state_scope"]


def state_scope(name: str, mark_name_scope_used: bool = True) -> str:
    """A scope that is unused, for variables and for names.

    Args:
      name: what the program calls the module.
      mark_name_scope_used: whether no one else may use it from now on.

    Returns:
      Its whole name, ``"outer/module_1/"``. It is in the variable scope that is open;
      a name scope that is open does not count.

    Raises:
      GraphError: the name is free for variables, but not for operations.
    """
    outer = tf.compat.v1.get_variable_scope().name
    with tf.name_scope(outer + "/" if outer else ""):
        with tf.compat.v1.variable_scope(
            None, default_name=name, auxiliary_name_scope=False
        ) as found:
            scope = str(found.name) + "/"
        graph = tf.compat.v1.get_default_graph()
        unused = graph.unique_name(name, mark_name_scope_used) + "/"
        if unused != scope:
            raise GraphError(
                "variable_scope {} was unused but the corresponding name_scope was "
                "already taken. Give the module another name, or make it before the "
                "operations of that name scope. Received: name={!r}".format(scope, name)
            )
    return scope
