"""Sets a loaded object up in a ``tf.Graph``: collections, initializers, switches."""

from __future__ import annotations

import contextlib
import functools
import re
import uuid
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from hub_compat._loaded.lifetime import objects_of
from hub_compat._tf import tf
from hub_compat._tf.functions import wrap_call
from hub_compat._tf.runtime import in_control_flow
from hub_compat._tf.variables import mark_slice, restore_parts, run_with_initializers
from hub_compat.errors import OptionsError

__all__ = [
    "Switch",
    "add_assets",
    "check_collections",
    "fill_collections",
    "act_after_variables",
    "initialize_replicas",
    "join_parts",
    "name_scope",
    "variables",
]

_KEYS = tf.compat.v1.GraphKeys
# In the names of functions that do what an init op does besides, see init_actions.py.
_ACTIONS = "initialize_table_init_op_carrier"


def check_collections() -> None:
    """Refuses to fill collections where there are none.

    Raises:
      OptionsError: operations run eagerly.
    """
    if tf.executing_eagerly():
        raise OptionsError(
            "Collections belong to a tf.Graph, but execution is eager. Call load() "
            "under `with tf.Graph().as_default():`. Or read trainable_variables and "
            "regularization_losses of the loaded object, and call it with "
            "training=True, which runs its updates. Received: fill_collections=True"
        )


def name_scope(name: Optional[str]) -> Any:
    """A context in which loading names variables as ``hub.Module(..., name=)`` does.

    Raises:
      OptionsError: operations run eagerly.
    """
    if name is None:
        return contextlib.nullcontext()
    if tf.executing_eagerly():
        raise OptionsError(
            "A name is for the variables of a tf.Graph, but execution is eager: a "
            "tf.train.Checkpoint finds variables by attribute. Call load() without "
            "name, or under `with tf.Graph().as_default():`. "
            "Received: name={!r}".format(name)
        )
    # A second one is called module_1, as hub.Module's is.
    return tf.compat.v1.variable_scope(None, default_name=name)


def variables() -> List[Any]:
    """The variables of the graph at hand; none where operations run eagerly."""
    return [] if tf.executing_eagerly() else list(tf.compat.v1.global_variables())


def initialize_replicas(loaded: Any) -> None:
    """Restores each replica's variable when variables are initialized.

    Args:
      loaded: what TensorFlow's loader returned.
    """
    for found in objects_of(loaded):
        restore_parts(found)


def act_after_variables() -> None:
    """Makes checks and messages of an init op wait for the variables' values.

    Programs run the initializers of variables and of tables at once, and what a model's
    init op does besides is the initializer of a resource. One that reads variables
    becomes a part of their initializers.
    """
    initializers = tf.compat.v1.get_collection_ref(_KEYS.TABLE_INITIALIZERS)
    own = {v.handle.op: v for v in variables() if hasattr(v, "handle")}
    for initializer in list(initializers):
        op = getattr(initializer, "op", initializer)
        while op.type == "Identity":
            op = op.inputs[0].op
        read = [own[t.op] for t in op.inputs if t.op in own]
        if read and _acts(op) and run_with_initializers(op, read):
            # By identity: tensors are compared by elements, in some versions.
            initializers[:] = [i for i in initializers if i is not initializer]


def _acts(op: Any) -> bool:
    """Whether a call does what an init op does besides, also by another function."""
    graph = op.graph
    library = graph.as_graph_def(from_version=graph.version).library.function
    called = {function.signature.name: function for function in library}
    stack = [op.node_def.attr["f"].func.name]
    while stack:
        name = stack.pop()
        if _ACTIONS in name:
            return True
        function = called.pop(name, None)
        for node in function.node_def if function is not None else ():
            stack.append(node.attr["f"].func.name if "f" in node.attr else node.op)
    return False


def join_parts(
    variables: Sequence[Any],
    keys: Sequence[Tuple[str, str, Optional[Tuple[Tuple[int, int], ...]]]],
) -> None:
    """Makes a ``Saver`` keep the parts of a partitioned variable under one name.

    So it does for the graph that a module comes from, and for ``hub.Module``'s: the
    checkpoint of an old training job is restored.

    Args:
      variables: those of a converted module, in a graph.
      keys: for each its name, its key in the module's checkpoint, and for a part
        (offset, length) per dimension.
    """
    wholes: Dict[str, List[Any]] = {}
    for variable, (name, key, part) in zip(variables, keys):
        scoped = variable.name.split(":")[0]
        # Without a scope, a second load has other names; its parts stay alone.
        if part is not None and ("/" + scoped).endswith("/" + name):
            found = re.match(r"(.+)/part_\d+$", scoped)
            whole = found.group(1) if found else scoped[: -len(name)] + key
            wholes.setdefault(whole, []).append((variable, part))
    for whole, parts in wholes.items():
        shape = [
            max(sum(part[axis]) for _, part in parts)
            for axis in range(len(parts[0][1]))
        ]
        for variable, part in parts:
            mark_slice(variable, whole, shape, part)


def add_assets(loaded: Any) -> None:
    """Adds the assets to exports of the graph.

    TF 2.x's loader does so; that of TF 1.15 leaves the paths out of ASSET_FILEPATHS,
    and what an Estimator exports would need the directory of the source for ever.
    """
    known = {id(t) for t in tf.compat.v1.get_collection(_KEYS.ASSET_FILEPATHS)}
    for found in objects_of(loaded):
        path = getattr(found, "asset_path", None)
        if isinstance(path, tf.Tensor) and id(path) not in known:
            known.add(id(path))
            tf.compat.v1.add_to_collection(_KEYS.ASSET_FILEPATHS, path)


def fill_collections(loaded: Any, created: Sequence[Any], training: bool) -> None:
    """Fills TRAINABLE_VARIABLES and REGULARIZATION_LOSSES; calls fill UPDATE_OPS.

    Args:
      loaded: what ``load()`` returns.
      created: the variables that loading it added to the graph.
      training: what a call means that does not say: True for the variant that is
        tagged ``train``, which users of ``hub.Module`` choose for training only.
    """
    trainable = getattr(loaded, "trainable_variables", None)
    if trainable is None:
        trainable = [variable for variable in created if variable.trainable]
    losses = getattr(loaded, "regularization_losses", None) or ()
    for key, values in (
        (_KEYS.TRAINABLE_VARIABLES, trainable),
        (_KEYS.REGULARIZATION_LOSSES, [loss() for loss in losses]),
    ):
        for value in values:
            tf.compat.v1.add_to_collection(key, value)
    for found in objects_of(loaded):
        wrap_call(found, lambda call: _noting_updates(call, training))


def _noting_updates(call: Callable[..., Any], default: bool) -> Callable[..., Any]:
    """A ``__call__`` that adds its op to UPDATE_OPS when it trains.

    The updates of a loaded function are part of the op that calls it: who fetches an
    output runs them. UPDATE_OPS get this op, so in a step where a training loop waits
    for them they run once, as they do where it does not.
    """

    @functools.wraps(call)
    def noting(instance: Any, *args: Any, **keywords: Any) -> Any:
        if default and len(args) < 2:
            keywords.setdefault("training", True)
        mode = keywords.get("training", args[1] if len(args) > 1 else False)
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        outputs = call(instance, *args, **keywords)
        if isinstance(mode, tf.Tensor) or not mode:
            return outputs
        # A call by the name of a signature goes through two of these.
        known = {id(op) for op in tf.compat.v1.get_collection(_KEYS.UPDATE_OPS)}
        for op in graph.get_operations()[before:]:
            if id(op) in known:
                continue
            # An op in a conditional or a loop cannot be waited for from outside.
            if op.type == "StatefulPartitionedCall" and not in_control_flow(op):
                tf.compat.v1.add_to_collection(_KEYS.UPDATE_OPS, op)
        return outputs

    return noting


class Switch:
    """A condition of a graph that is turned off and on when the graph is there.

    It is a variable that is in no collection: off is when it has a value. So nothing
    has to initialize it, no checkpoint has it, and in an export it is on.
    """

    def __init__(self) -> None:
        with tf.init_scope():
            self._graph = tf.compat.v1.get_default_graph()
            handle = tf.raw_ops.VarHandleOp(
                dtype=tf.bool,
                shape=[],
                shared_name="switch_{}".format(uuid.uuid4().hex),
            )
            self._off = tf.raw_ops.AssignVariableOp(
                resource=handle, value=tf.constant(True)
            )
            self._on = tf.raw_ops.DestroyResourceOp(
                resource=handle, ignore_lookup_error=True
            )
        self._handle = handle
        self._state = True

    def is_here(self) -> bool:
        """Whether it is of the graph that is built now."""
        with tf.init_scope():
            return tf.compat.v1.get_default_graph() is self._graph

    def is_on(self) -> Any:
        """A scalar bool tensor."""
        is_off = tf.raw_ops.VarIsInitializedOp(resource=self._handle)
        return tf.logical_not(is_off)

    def turn(self, on: bool, find_session: Callable[[], Any]) -> None:
        """Turns it, in a session of its graph; it stays so until it is turned again."""
        if on == self._state:
            return
        session = find_session()
        if session is not None and session.graph is self._graph:
            session.run(self._on if on else self._off)
            self._state = on
