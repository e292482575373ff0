"""Runs a TF1 Hub module in a session, through TensorFlow Hub's own ``hub.Module``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import tensorflow as tf
import tf221_compare
import tf221_replay

# By model, the names of what its __call__ takes as a list.
_LISTS = {"keras2_functional": ["image", "extra"]}


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


def calls_of(name: str, wanted: Dict[str, Any]) -> List[Tuple[str, Call]]:
    """The recorded calls, as applications of the module."""
    found = []
    for call in wanted:
        given = wanted[call]["in"]
        if name in _LISTS and "#0" in given:
            given = {key: given["#{}".format(i)] for i, key in enumerate(_LISTS[name])}
        signature = call.split(":")[1] if ":" in call else "default"
        found.append((call, Call(signature, given, call == "train")))
    return found


def variables_in_order(path: Path) -> List[str]:
    """The names of the variables that the model lists, in its order."""
    from hub_compat._parsing.full_proto import read_saved_model
    from hub_compat.converters.tf1_hub.objects import Objects
    from hub_compat.detector import detect

    meta_graph = read_saved_model(detect(str(path))).meta_graphs[0]
    objects = Objects(meta_graph)
    if not len(objects.proto.nodes):
        return ["a_kernel", "b_scale"]  # of TF1
    listed = objects.items(0, "variables") or []
    return [objects.proto.nodes[number].variable.name for number in listed]


def compare(found: Any, wanted: Any, order: List[str], what: str) -> None:
    """Compares a call; recorded are variables by place, or by name."""
    if all(key.isdigit() for key in wanted["after"]):
        places = {name: "{:03}".format(i) for i, name in enumerate(order)}
        for part in ("grad", "after"):
            found[part] = {places.get(k, k): v for k, v in found[part].items()}
    if "output" in wanted["out"]:
        found["out"].setdefault("output", found["out"].pop("default", None))
    # Slots of an optimizer have no name of their own in the record, and what nothing
    # uses is not in the module.
    after = {k: v for k, v in wanted["after"].items() if k in found["after"]}
    found["after"] = {k: v for k, v in found["after"].items() if k in after}
    assert after or not wanted["after"], what
    tf221_compare.assert_all_close(found["after"], after, 1e-5, what)
    tf221_compare.assert_all_close(found["out"], wanted["out"], 1e-5, what)
    tf221_compare.assert_gradients_close(found["grad"], wanted["grad"])
