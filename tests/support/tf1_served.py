"""Calls the layers of a TF1 SavedModel in one session, through its own loader."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import layers_replay
import numpy as np
import tensorflow as tf
import tf221_replay
from tensorflow.core.protobuf import saved_model_pb2

Found = Dict[str, Dict[str, Any]]


class Served:
    """A TF1 SavedModel of layers.

    Args:
      path: the model.
      names: by layer's key, the names of its variables, in order.
    """

    def __init__(self, path: str, names: Dict[str, List[str]]) -> None:
        self._path = path
        self._names = names

    def run(self, calls: Sequence[layers_replay.Call]) -> List[Found]:
        """What comes of calls of different layers; each in one step of its own."""
        with tf.Graph().as_default():
            # As the loader does, but for the session, which comes last: TF 1.15
            # differentiates no loop that a session has run.
            saved_model = _read(self._path)
            saver = tf.compat.v1.train.import_meta_graph(saved_model)
            variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
            wanted = []
            for call in calls:
                own = {
                    "s{:02}".format(i): variables[name]
                    for i, name in enumerate(self._names[call.key])
                }
                feeds: Dict[Any, Any] = {}
                tensors = _wanted(saved_model, call, own, feeds)
                state = {k: v.read_value() for k, v in own.items()}
                wanted.append((tensors, state, feeds))
            found = []
            with tf.compat.v1.Session(config=_as_it_is()) as session:
                saver.restore(session, self._path + "/variables/variables")
                session.run("init")
                # One by one: layers share placeholders.
                for tensors, state, feeds in wanted:
                    old = session.run(state)
                    one = session.run(tensors, feeds)
                    new = session.run(state)
                    one["after"] = {k: v for k, v in new.items() if np.any(v != old[k])}
                    found.append(one)
        return found


def _read(path: str) -> Any:
    with open(path + "/saved_model.pb", "rb") as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    (found,) = [
        each for each in saved_model.meta_graphs if each.meta_info_def.tags == ["serve"]
    ]
    return found


def _as_it_is() -> Any:
    """Without the optimizer, which takes a minute for all layers."""
    config = tf.compat.v1.ConfigProto()
    options = config.graph_options
    options.rewrite_options.disable_meta_optimizer = True
    options.optimizer_options.opt_level = -1
    return config


def _wanted(
    loaded: Any, call: layers_replay.Call, own: Dict[str, Any], feeds: Dict[Any, Any]
) -> Dict[str, Any]:
    signature = loaded.signature_def["{}_{}".format(call.key, call.mode)]
    graph = tf.compat.v1.get_default_graph()
    given = {
        name: graph.get_tensor_by_name(signature.inputs[name].name)
        for name in call.inputs
    }
    for name, value in call.inputs.items():
        is_text = value.dtype.kind in "USO"
        feeds[given[name]] = value.astype("S") if is_text else value
    named = {
        key: graph.get_tensor_by_name(info.name)
        for key, info in signature.outputs.items()
        if key != "default"
    }
    outputs = {"o{}".format(i): named[key] for i, key in enumerate(sorted(named))}
    sources = {
        name: value
        for name, value in dict(own, **given).items()
        if call.gradients
        and value.dtype.base_dtype.is_floating
        and getattr(value, "trainable", True)
    }
    grads: Sequence[Any] = []
    if sources:
        grads = tf.gradients(tf221_replay.loss_of(outputs), list(sources.values()))
    dense = {
        name: tf.convert_to_tensor(grad)
        for name, grad in zip(sources, grads)
        if grad is not None
    }
    return {"out": outputs, "grad": dense}
