"""The checkpoint of a SavedModel: which loaded variable it has a value for, and where.

A checkpoint holds the graph of the objects it was made of, a TrackableObjectGraph
under a key of its own; TensorFlow's loader walks it beside the loaded objects, by the
names of the edges, to find the key of each value (tensorflow/python/checkpoint).
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy as np

from hub_compat._io import files
from hub_compat._parsing.known_names import OBJECT_GRAPH
from hub_compat._tf import tf, trackable_object_graph_pb2
from hub_compat._tf.tracking import trackable_children
from hub_compat.errors import CorruptModuleError, SaveError

__all__ = ["keys_of_list", "prefix_in", "read", "variables_by_key", "write"]


def prefix_in(directory: str) -> str:
    """Where the checkpoint of a SavedModel is, without ``.index``."""
    return files.join(directory, "variables", "variables")


def variables_by_key(root: Any, prefix: str) -> Dict[str, Any]:
    """The variables of a loaded object, by their keys in its checkpoint."""
    nodes = _object_graph(prefix).nodes
    found: Dict[str, Any] = {}
    seen = {0}
    waiting = [(0, root)] if nodes else []
    while waiting:
        number, trackable = waiting.pop()
        key = _key(nodes[number])
        # In TF 1.15 the variables of a strategy are no instances of tf.Variable.
        if key is not None and hasattr(trackable, "read_value"):
            found[key] = trackable
        children = trackable_children(trackable)
        for child in nodes[number].children:
            if child.local_name in children and child.node_id not in seen:
                seen.add(child.node_id)
                waiting.append((child.node_id, children[child.local_name]))
    return found


def keys_of_list(name: str, prefix: str) -> List[str]:
    """The keys of the variables in a list that hangs on the root."""
    nodes = _object_graph(prefix).nodes
    below = {c.local_name: c.node_id for c in nodes[0].children} if nodes else {}
    if name not in below:
        return []
    items = {int(c.local_name): c.node_id for c in nodes[below[name]].children}
    return [_key(nodes[items[i]]) or "" for i in sorted(items)]


def _object_graph(prefix: str) -> Any:
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    if files.exists(prefix + ".index"):
        with _damage(prefix):
            reader = tf.compat.v1.train.NewCheckpointReader(prefix)
            if reader.has_tensor(OBJECT_GRAPH):
                graph.ParseFromString(reader.get_tensor(OBJECT_GRAPH))
    return graph


@contextlib.contextmanager
def _damage(prefix: str) -> Iterator[None]:
    """Says of which checkpoint what TensorFlow could not read is."""
    kinds = (
        tf.errors.DataLossError,
        tf.errors.OutOfRangeError,
        tf.errors.NotFoundError,
    )
    try:
        yield
    except kinds + (IndexError,) as error:
        raise CorruptModuleError(
            "The checkpoint of the module cannot be read; it is damaged or only partly "
            "there: {}. Received: {!r}".format(error, prefix)
        ) from error


def _key(node: Any) -> Optional[str]:
    for attribute in node.attributes:
        if attribute.name == "VARIABLE_VALUE":
            return str(attribute.checkpoint_key)
    return None


def read(variables: Sequence[Any], session: Any) -> List[Any]:
    """The values of variables, as NumPy arrays; None where a session never had one.

    Keras initializes only what a layer has for weights, and a layer of one signature
    has not all variables of the module.

    Args:
      variables: the variables.
      session: in graph mode, the session that holds the values; None for the
        current one.

    Raises:
      SaveError: there is no session, or it has none of the values.
    """
    if session is None and tf.executing_eagerly():
        try:
            return [tf.convert_to_tensor(v).numpy() for v in variables]
        except AttributeError as error:
            raise SaveError(
                "The variables belong to a graph, so a session has their values. "
                "Give save() the session. Received: session=None"
            ) from error
    if session is None:
        session = tf.compat.v1.get_default_session()
    if session is None:
        raise SaveError(
            "In graph mode a session holds the values of the variables. Give save() "
            "the session, or call it under `with session.as_default():`. Received: "
            "session=None"
        )
    try:
        values: List[Any] = session.run(list(variables))
    except (tf.errors.FailedPreconditionError, ValueError) as error:
        values = [_value(variable, session) for variable in variables]
        if any(value is not None for value in values):
            return values
        raise SaveError(
            "The session has no values for the variables. Run "
            "tf.compat.v1.global_variables_initializer() in it first, and use the "
            "session of the graph that the module was loaded in. Received: {}".format(
                error
            )
        ) from error
    return values


def _value(variable: Any, session: Any) -> Any:
    try:
        return session.run(variable)
    except (tf.errors.FailedPreconditionError, ValueError):
        return None


def write(values: Dict[str, Any], old: str, directory: str) -> None:
    """Writes the checkpoint of a SavedModel: another one with some new values.

    Args:
      values: the new values by their keys; all are keys of the other one.
      old: the other checkpoint; it may be the one that is in the directory.
      directory: the SavedModel.

    Raises:
      SaveError: dtype or shape of a value are not those in the other one.
    """
    if not files.exists(old + ".index"):
        return
    with _damage(old):
        reader = tf.compat.v1.train.NewCheckpointReader(old)
    dtypes, shapes = (
        reader.get_variable_to_dtype_map(),
        reader.get_variable_to_shape_map(),
    )
    for key, value in values.items():
        if key not in dtypes or list(np.shape(value)) != shapes[key]:
            raise SaveError(
                "The checkpoint that the module was loaded from has no value of this "
                "shape under {!r}. Received: shape {}".format(
                    key, list(np.shape(value))
                )
            )
    others = sorted(set(dtypes).difference(values))
    # Not "variables.new": in ram://, "variables" would be a directory with that in it.
    unfinished = files.join(directory, "new_values")
    files.make_dirs(unfinished)
    # In a graph of its own: the caller's may be finalized.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        fed = {tf.compat.v1.placeholder(dtypes[k]): v for k, v in values.items()}
        kept = []
        if others:
            kept = tf.raw_ops.RestoreV2(
                prefix=old,
                tensor_names=others,
                shape_and_slices=[""] * len(others),
                dtypes=[dtypes[key] for key in others],
            )
        save = tf.raw_ops.SaveV2(
            prefix=files.join(unfinished, "variables"),
            tensor_names=list(values) + others,
            shape_and_slices=[""] * len(dtypes),
            tensors=list(fed) + list(kept),
        )
        with files.os_errors(directory), _damage(old):
            session.run(save, fed)
    folder = files.join(directory, "variables")
    if files.exists(folder):
        files.remove_tree(folder)
    files.make_dirs(folder)
    for name in files.list_dir(unfinished):
        with files.os_errors(directory):
            tf.io.gfile.rename(files.join(unfinished, name), files.join(folder, name))
    files.remove_tree(unfinished)
