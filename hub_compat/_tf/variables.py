"""Variables: their names, shapes, parts and slots."""

from __future__ import annotations

import functools
from typing import Any, Callable, Sequence

from hub_compat._tf import tf

__all__ = [
    "keep_resource",
    "mark_slice",
    "name_slots",
    "rename_variable",
    "restore_parts",
    "run_with_initializers",
    "settle_shape",
    "watch_accessed",
]


def watch_accessed(variables: Sequence[Any]) -> None:
    """Tells gradient tapes of variables whose handles are passed on.

    Private: ``variable_accessed`` (resource_variable_ops, 1.15 to 2.21). Without it,
    they are read.
    """
    from tensorflow.python.ops import resource_variable_ops

    accessed = getattr(resource_variable_ops, "variable_accessed", None)
    for variable in variables:
        if accessed is not None:
            accessed(variable)
        else:
            variable.read_value()


def settle_shape(variable: Any) -> None:
    """Gives a variable that is declared without a shape the shape of its value.

    Keras has no weights of unknown shape. Private: ``_shape`` of a variable (1.15 to
    2.21); without it, and in graphs, where nobody knows the value, nothing is done.
    """
    shape = getattr(variable, "_shape", None)
    if isinstance(shape, tf.TensorShape) and not shape.is_fully_defined():
        with tf.init_scope():
            if tf.executing_eagerly():
                variable._shape = tf.convert_to_tensor(variable).shape


def name_slots(variable: Any, name: Callable[[str], str]) -> None:
    """Names the slots that optimizers of Keras 2 make for a variable.

    Private: ``_shared_name``, a property that slots are named by (1.15 to 2.21), so the
    variable becomes one of a sub-class. Without it, and in graphs, where names are
    unique, nothing is done.

    Args:
      variable: the variable; its own name stays.
      name: from what they would be called by to what they are called by.
    """
    with tf.init_scope():
        if not tf.executing_eagerly() or not hasattr(variable, "_shared_name"):
            return
    own = variable._shared_name
    wanted = name(own)
    if wanted != own:
        # Not tracked: a string is no part of a variable's state.
        object.__setattr__(variable, "_hub_compat_slots", wanted)
        kind: Any = type(variable)
        variable.__class__ = _with_named_slots(kind)


@functools.lru_cache(maxsize=None)
def _with_named_slots(kind: Any) -> Any:
    if "_hub_compat_slots_of" in vars(kind):
        return kind
    names = {
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "_hub_compat_slots_of": kind,
        "_shared_name": property(lambda variable: variable._hub_compat_slots),
    }
    return type(kind)(kind.__name__, (kind,), names)


def rename_variable(variable: Any, name: str) -> None:
    """Gives a variable another name, which its slots in optimizers have as well.

    Private: ``_handle_name`` (1.15 to 2.21). Without it, and in graphs, where names are
    unique, nothing is done.
    """
    with tf.init_scope():
        if tf.executing_eagerly() and hasattr(variable, "_handle_name"):
            variable._handle_name = name


def mark_slice(variable: Any, whole: str, shape: Sequence[int], part: Any) -> None:
    """Makes a Saver treat a variable as a part of a partitioned one.

    Private: ``_set_save_slice_info`` (1.15 to 2.21), which ``get_variable()`` calls for
    the parts that a partitioner makes. Without it, nothing is done.

    Args:
      variable: the part.
      whole: the name of the partitioned variable: its key in a checkpoint.
      shape: of the whole.
      part: (offset, length) per dimension.
    """
    if hasattr(variable, "_set_save_slice_info"):
        offset = [start for start, _ in part]
        lengths = [length for _, length in part]
        variable._set_save_slice_info(
            tf.Variable.SaveSliceInfo(whole, list(shape), offset, lengths)
        )


def restore_parts(found: Any) -> None:
    """Restores the parts of a variable when the graph's variables are initialized.

    Of a variable that a strategy mirrors, TF 1.15 gives the whole what restores all
    of it, and the parts, which are those in the graph's collections, nothing. Private:
    ``_initializer_op``, and ``values`` of such a variable; without them, nothing is
    done. It can go with TF 1.15.
    """
    restore = getattr(found, "_initializer_op", None)
    if isinstance(restore, list):
        # A VariableDef has the name of one op. One of the list may be a variable as it
        # is after its assignment, which is none.
        restore = tf.group(*restore)
        found._initializer_op = restore
    parts = None if restore is None else getattr(found, "values", None)
    for part in parts or ():
        if getattr(part, "_initializer_op", restore) is None:
            part._initializer_op = tf.group(restore)


def run_with_initializers(op: Any, variables: Sequence[Any]) -> bool:
    """Runs an op of a graph whenever variables were initialized.

    Private: ``_initializer_op`` of variables, ``_add_control_inputs`` of operations
    (1.15 to 2.21); without them, nothing is done, and the answer is False.
    """
    add = getattr(op, "_add_control_inputs", None)
    if add is None or getattr(variables[-1], "_initializer_op", None) is None:
        return False
    add(tf.nest.flatten([variable.initializer for variable in variables]))
    variables[-1]._initializer_op = op
    return True


def keep_resource(found: Any) -> None:
    """Keeps Python from destroying the resource of an object with the object.

    Private: ``_resource_deleter`` and its ``_destroy_resource`` (1.15); without them,
    nothing is done. It can go with TF 1.15.
    """
    deleter: Any = getattr(found, "_resource_deleter", None)
    if getattr(deleter, "_destroy_resource", None) is not None:
        deleter._destroy_resource = None
