"""Runs a call of a loaded model in any TensorFlow, and says what came of it.

Used to record under TensorFlow 2.21 and to compare elsewhere; eager execution only,
or within a graph and session that the caller provides (``evaluate``).
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

import numpy as np
import tensorflow as tf


def variables_of(loaded: Any, by_name: bool = False) -> Dict[str, Any]:
    """An object's variables.

    Those of its list ``variables``, by their place in that; else all below it that have
    a name of their own, by name, as with ``by_name``: hub_compat gives every object a
    list, TensorFlow does not. A graph may give them other names than they had.
    """
    listed = getattr(loaded, "variables", None)
    if listed is not None and not by_name:
        variables = [v for v in listed if isinstance(v, tf.Variable)]
        return {"{:03}".format(i): v for i, v in enumerate(variables)}
    found: Dict[str, List[Any]] = {}
    # The objects themselves: the number of one that is gone is given out again.
    seen: Dict[int, Any] = {}
    stack = [loaded]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, tf.Variable):
            found.setdefault(item.name.split(":")[0], []).append(item)
            continue
        children = getattr(item, "_trackable_children", None)
        if children is not None:
            try:
                stack.extend(children().values())
            except TypeError:  # TF 2.12, of resources
                stack.extend(children("checkpoint").values())
        else:  # TF < 2.10
            references = getattr(item, "_checkpoint_dependencies", None) or []
            stack.extend(reference.ref for reference in references)
    return {name: those[0] for name, those in found.items() if len(those) == 1}


def flatten(given: Any) -> Dict[str, Any]:
    """A call's inputs as arrays by name."""
    if isinstance(given, dict):
        flat: Dict[str, Any] = {}
        for name, value in given.items():
            if isinstance(value, tf.RaggedTensor):
                flat[name + "~values"] = _storable(value.flat_values.numpy())
                flat[name + "~splits"] = value.row_splits.numpy()
            else:
                flat[name] = np.asarray(value)
        return flat
    if isinstance(given, list):
        return {"#{}".format(i): np.asarray(value) for i, value in enumerate(given)}
    return {"#": np.asarray(given)}


def unflatten(flat: Dict[str, Any]) -> Any:
    """The inputs again."""
    if set(flat) == {"#"}:
        return _tensor(flat["#"])
    if all(name.startswith("#") for name in flat):
        return [_tensor(flat["#{}".format(i)]) for i in range(len(flat))]
    given = {}
    for name, value in flat.items():
        if name.endswith("~values"):
            name = name[: -len("~values")]
            given[name] = tf.RaggedTensor.from_row_splits(
                _tensor(value), flat[name + "~splits"]
            )
        elif not name.endswith("~splits"):
            given[name] = _tensor(value)
    return given


def _tensor(value: Any) -> Any:
    if isinstance(value, (tf.Tensor, tf.RaggedTensor)):
        return value
    if value.dtype.kind in "USO":
        return tf.constant([str(v) for v in value.ravel()], tf.string, value.shape)
    return tf.constant(value)


def _storable(array: Any) -> Any:
    if array.dtype.kind == "O":
        return np.array([v.decode() for v in array.ravel()]).reshape(array.shape)
    return array


def call_function(loaded: Any, call: str) -> Callable[[Any], Any]:
    """The function behind the name of a call."""
    if call.startswith("signature:"):
        signature = loaded.signatures[call[len("signature:") :]]
        return lambda given: signature(**given)
    if call == "train":
        return lambda given: loaded(given, training=True)
    return lambda given: loaded(given)


def run(
    loaded: Any,
    call: str,
    given: Any,
    evaluate: Optional[Callable[[Any], Any]] = None,
    by_name: bool = False,
) -> Dict[str, Dict[str, Any]]:
    """Calls a model.

    Args:
      loaded: the object.
      call: ``"signature:serving_default"``, ``"call"`` or ``"train"``.
      given: its inputs.
      by_name: see ``variables_of``.
      evaluate: in graph mode, runs tensors; the outputs, and then the variables.

    Returns:
      ``out``, ``grad`` and ``after``, each by name.
    """
    variables = variables_of(loaded, by_name)
    function = call_function(loaded, call)
    given = unflatten(flatten(given)) if not _has_tensors(given) else given
    names = [name for name in sorted(variables) if variables[name].trainable]
    if evaluate is None:
        with tf.GradientTape() as tape:
            outputs = _named(function(given))
            loss = loss_of(outputs)
        grads = tape.gradient(loss, [variables[name] for name in names])
        found = {"out": {k: v.numpy() for k, v in outputs.items()}, "grad": {}}
        for name, grad in zip(names, grads):
            if grad is not None:
                found["grad"][name] = tf.convert_to_tensor(grad).numpy()
        after = {k: v.numpy() for k, v in variables.items()}
    else:
        outputs = _named(function(given))
        grads = tf.gradients(loss_of(outputs), [variables[name] for name in names])
        wanted = {
            "out": outputs,
            "grad": {
                name: tf.convert_to_tensor(grad)
                for name, grad in zip(names, grads)
                if grad is not None
            },
        }
        found = evaluate(wanted)
        after = evaluate({k: v.read_value() for k, v in variables.items()})
    found["out"] = {k: _storable(v) for k, v in found["out"].items()}
    found["after"] = after
    return found


def _has_tensors(given: Any) -> bool:
    return any(
        isinstance(v, (tf.Tensor, tf.RaggedTensor)) for v in tf.nest.flatten(given)
    )


def _named(outputs: Any) -> Dict[str, Any]:
    if isinstance(outputs, dict):
        return {k: tf.convert_to_tensor(v) for k, v in outputs.items()}
    return {"output": tf.convert_to_tensor(outputs)}


def loss_of(outputs: Dict[str, Any]) -> Any:
    """A number to which every element of every output counts another much."""
    total = tf.constant(0.0)
    for name in sorted(outputs):
        value = outputs[name]
        if value.dtype.is_floating:
            weights = tf.cos(tf.cast(tf.range(tf.size(value)), tf.float32) * 0.7 + 0.3)
            flat = tf.cast(tf.reshape(value, [-1]), tf.float32)
            total += tf.reduce_sum(flat * weights)
    return total
