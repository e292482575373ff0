"""Applies a signature of a TF1 Hub module or SavedModel in the current graph.

Needs TensorFlow 1.15 and tensorflow_hub 0.12.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping

import tensorflow.compat.v1 as tf
import tensorflow_hub as hub
from define import Call, variable_parts
from tensorflow.python.saved_model import loader_impl
from tensorflow_hub import saved_model_lib

# Asks for each phase to begin with the values of the checkpoint.
Start = Callable[[tf.Session], None]


@dataclasses.dataclass
class Applied:
    """A signature that was applied in the current graph.

    Attributes:
      feeds: the placeholders, by input.
      outputs: tensors and composites, by output.
      variables: as ``hub.Module.variable_map``.
      trainable: the tensors to differentiate by, in parts, by variable.
      losses: the regularization losses.
      updates: the update ops.
      start: brings a new session into the state of the checkpoint.
    """

    feeds: Dict[str, Any]
    outputs: Dict[str, Any]
    variables: Mapping[str, Any]
    trainable: Dict[str, List[Any]]
    losses: List[Any]
    updates: List[Any]
    start: Start


def trainable_parts(variables: Mapping[str, Any]) -> Dict[str, List[Any]]:
    """Picks the variables all of whose parts are trainable; gives their parts."""
    names = {variable.name for variable in tf.trainable_variables()}
    return {
        name: parts
        for name, parts in variable_parts(variables)
        if all(part.name in names for part in parts)
    }


def _placeholder(info: Any) -> Any:
    if info.is_sparse:
        return tf.sparse_placeholder(info.dtype)
    if info.is_composite:
        spec = info.type_spec
        rank = spec._ragged_rank
        return tf.ragged.placeholder(spec._dtype, rank, spec._shape[rank + 1 :])
    return tf.placeholder(info.dtype, info.get_shape())


def apply_with_hub(path: Path, call: Call) -> Applied:
    """Applies a signature as users of tensorflow_hub do."""
    module = hub.Module(str(path), trainable=True, tags=set(call.tags))
    infos = module.get_input_info_dict(call.signature)
    feeds = {name: _placeholder(infos[name]) for name in sorted(infos)}
    outputs = module(feeds, signature=call.signature, as_dict=True)
    initializers = [tf.global_variables_initializer(), tf.tables_initializer()]
    return Applied(
        feeds=feeds,
        outputs=outputs,
        variables=module.variable_map,
        trainable=trainable_parts(module.variable_map),
        losses=tf.losses.get_regularization_losses(),
        updates=tf.get_collection(tf.GraphKeys.UPDATE_OPS),
        start=lambda session: session.run(initializers),
    )


def apply_with_session(path: Path, call: Call) -> Applied:
    """Runs the module's own graph, and feeds what the call gives.

    ``hub.Module`` demands all inputs, also those with a default; a session does
    not. For dense inputs, without tables, assets and partitioned variables.
    """
    handler = saved_model_lib.load(str(path))
    meta_graph = handler.get_meta_graph_copy(set(call.tags))
    saver = tf.train.import_meta_graph(meta_graph)
    variables = {variable.op.name: variable for variable in tf.global_variables()}
    if variables:
        saver = tf.train.Saver(variables)
    signature = meta_graph.signature_def[call.signature]
    find = tf.get_default_graph().get_tensor_by_name
    checkpoint = saved_model_lib.get_variables_path(str(path)).decode("utf-8")

    def start(session: tf.Session) -> None:
        if variables:
            saver.restore(session, checkpoint)

    return Applied(
        feeds={name: find(info.name) for name, info in signature.inputs.items()},
        outputs={name: find(info.name) for name, info in signature.outputs.items()},
        variables=variables,
        trainable=trainable_parts(variables),
        losses=tf.losses.get_regularization_losses(),
        updates=tf.get_collection(tf.GraphKeys.UPDATE_OPS),
        start=start,
    )


def apply_with_loader(path: Path, call: Call) -> Applied:
    """Runs a TF1 SavedModel as tf.saved_model.load(session, tags, path) does."""
    tags = list(call.tags)
    loader = loader_impl.SavedModelLoader(str(path))
    saver, _ = loader.load_graph(tf.get_default_graph(), tags)
    signature = loader.get_meta_graph_def_from_tags(tags).signature_def[call.signature]
    variables = global_variables()

    def start(session: tf.Session) -> None:
        loader.restore_variables(session, saver)
        loader.run_init_ops(session, tags)

    return Applied(
        feeds={name: _find(info) for name, info in signature.inputs.items()},
        outputs={name: _find(info) for name, info in signature.outputs.items()},
        variables=variables,
        trainable=trainable_parts(variables),
        losses=tf.losses.get_regularization_losses(),
        updates=tf.get_collection(tf.GraphKeys.UPDATE_OPS),
        start=start,
    )


def _find(info: Any) -> Any:
    """The tensor behind a TensorInfo, in the current graph."""
    find = tf.get_default_graph().get_tensor_by_name
    if info.WhichOneof("encoding") != "coo_sparse":
        return find(info.name)
    return tf.SparseTensor(
        find(info.coo_sparse.indices_tensor_name),
        find(info.coo_sparse.values_tensor_name),
        find(info.coo_sparse.dense_shape_tensor_name),
    )


def global_variables() -> Dict[str, Any]:
    """The graph's variables by name, partitioned ones as lists of their parts."""
    found: Dict[str, Any] = {}
    for variable in tf.global_variables():
        part = variable._save_slice_info
        if part is None:
            found[variable.op.name] = variable
        else:
            found.setdefault(part.full_name, []).append(variable)
    return found


def runnable_updates(applied: Applied, names: Any) -> List[Any]:
    """The update ops that need no input but those that are fed.

    ``hub.Module`` collects those of the whole graph, whatever the signature; in a
    module whose signatures have inputs of their own some of them cannot run.
    """
    fed = set()
    for name in names:
        fed.update(tf.nest.flatten(applied.feeds[name], expand_composites=True))
    runnable = []
    for update in applied.updates:
        operation = update if isinstance(update, tf.Operation) else update.op
        seen, left = {operation}, [operation]
        while left:
            operation = left.pop()
            before = {tensor.op for tensor in operation.inputs if tensor not in fed}
            before.update(operation.control_inputs)
            left.extend(before - seen)
            seen.update(before)
        missing = {op for op in seen if op.type == "Placeholder"}
        if missing <= {tensor.op for tensor in fed}:
            runnable.append(update)
    return runnable
