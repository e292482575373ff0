"""Runs a TF1 Hub module in a session, through TensorFlow Hub's own ``hub.Module``."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence

import tensorflow as tf
import tf221_replay


class Call(NamedTuple):
    """One application of a module.

    Attributes:
      signature: its name.
      given: the inputs by name; for a single one, under ``"#"``.
      update: whether to run UPDATE_OPS.
    """

    signature: str
    given: Dict[str, Any]
    update: bool = False


def run(
    module_class: Any,
    path: str,
    calls: Sequence[Call],
    tags: Any = (),
    gradients: bool = True,
) -> List[Dict[str, Dict[str, Any]]]:
    """Applies a module, each time to the state that it came with.

    Args:
      module_class: ``tensorflow_hub.Module``, or one like it.
      path: the module.
      calls: what to call it with.
      tags: the variant.
      gradients: whether to compute them.

    Returns:
      For each call ``out``, ``grad`` and ``after``, by names.
    """
    # Each in a graph of its own: TF 1.15 cannot differentiate two copies of a loop.
    return [_run_one(module_class, path, call, tags, gradients) for call in calls]


def _run_one(
    module_class: Any, path: str, call: Call, tags: Any, gradients: bool
) -> Dict[str, Dict[str, Any]]:
    with tf.Graph().as_default():
        module = module_class(path, trainable=True, tags=set(tags))
        trained = {v.op.name for v in tf.compat.v1.trainable_variables()}
        variables = module.variable_map
        names = [n for n in sorted(variables) if variables[n].op.name in trained]
        outputs = _outputs(module, call)
        grads: Sequence[Any] = []
        if gradients and names:
            loss = tf221_replay.loss_of(outputs)
            grads = tf.gradients(loss, [variables[name] for name in names])
        dense = {
            name: tf.convert_to_tensor(grad)
            for name, grad in zip(names, grads)
            if grad is not None
        }
        updates = tf.compat.v1.get_collection("update_ops") if call.update else []
        with tf.compat.v1.Session() as session:
            session.run(
                [
                    tf.compat.v1.global_variables_initializer(),
                    tf.compat.v1.tables_initializer(),
                ]
            )
            found, _ = session.run(({"out": outputs, "grad": dense}, updates))
            found["out"] = {
                k: tf221_replay._storable(v) for k, v in found["out"].items()
            }
            found["after"] = session.run(
                {name: v.read_value() for name, v in variables.items()}
            )
        return dict(found)


def _outputs(module: Any, call: Call) -> Dict[str, Any]:
    given = tf221_replay.unflatten(call.given)
    if isinstance(given, list):
        infos = module.get_input_info_dict(call.signature)
        given = dict(zip(infos, given))
    found = module(given, signature=call.signature, as_dict=True)
    if any(found.get("default") is v for k, v in found.items() if k != "default"):
        # The only output, under the name that hub.Module asks for.
        del found["default"]
    return {name: _dense(value) for name, value in found.items()}


def _dense(value: Any) -> Any:
    if isinstance(value, tf.RaggedTensor):
        return value.to_tensor()
    if isinstance(value, tf.SparseTensor):
        return tf.sparse.to_dense(value)
    return value
