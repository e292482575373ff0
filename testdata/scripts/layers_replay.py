"""Calls a layer of testdata/tf221_layers in any TensorFlow."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np
import tensorflow as tf
import tf221_replay


def state_of(loaded: Any, key: str) -> Dict[str, Any]:
    """A layer's variables by name; tables are left out."""
    holder = getattr(loaded, key, None)
    found = {}
    for i in range(100):
        item = getattr(holder, "s{:02}".format(i), None)
        if item is None:
            break
        if hasattr(item, "read_value"):
            found["s{:02}".format(i)] = item
    return found


class Call(NamedTuple):
    """A call of a layer.

    Attributes:
      key: the layer's name in the module.
      mode: ``"infer"`` or ``"train"``.
      inputs: arrays by name.
      gradients: whether to compute them.
    """

    key: str
    mode: str
    inputs: Dict[str, Any]
    gradients: bool = True


Found = Dict[str, Dict[str, Any]]


def run(loaded: Any, call: Call) -> Found:
    """Calls a layer, eagerly.

    Returns:
      ``out``, ``grad`` and ``after``, each by name. Gradients that are not there are
      left out, and so are variables that did not change.
    """
    given, variables, sources = _given(loaded, call)
    before = {name: value.numpy() for name, value in variables.items()}
    # TF 1.15 prepares for gradients when a function is called, if a tape watches.
    with tf.GradientTape() as tape:
        tape.watch([value for value in given.values() if call.gradients])
        outputs = _outputs(_function(loaded, call)(**given))
        loss = tf221_replay.loss_of(outputs)
    grads = tape.gradient(loss, list(sources.values())) if sources else []
    found = {"out": {k: v.numpy() for k, v in outputs.items()}}
    dense = _dense(sources, grads)
    found["grad"] = {name: grad.numpy() for name, grad in dense.items()}
    after = {name: value.numpy() for name, value in variables.items()}
    found["after"] = {k: v for k, v in after.items() if np.any(v != before[k])}
    return found


def run_in_graph(
    loaded: Any, calls: Sequence[Call], evaluate: Callable[[Any], Any]
) -> List[Found]:
    """Calls layers in a graph, all in one step, as each step looks at all of it.

    Args:
      loaded: the object.
      calls: of different layers, or that do not change variables.
      evaluate: runs tensors.
    """
    wanted: List[Any] = []
    states: List[Any] = []
    for call in calls:
        given, variables, sources = _given(loaded, call)
        outputs = _outputs(_function(loaded, call)(**given))
        grads: List[Any] = []
        if sources:
            grads = tf.gradients(tf221_replay.loss_of(outputs), list(sources.values()))
        wanted.append({"out": outputs, "grad": _dense(sources, grads)})
        states.append({k: v.read_value() for k, v in variables.items()})
    before = evaluate(states)
    found = evaluate(wanted)
    after = evaluate(states)
    for one, old, new in zip(found, before, after):
        one["after"] = {k: v for k, v in new.items() if np.any(v != old[k])}
    return list(found)


def _given(loaded: Any, call: Call) -> Any:
    """The inputs, the variables, and what there are gradients of."""
    given = {name: _tensor(value) for name, value in call.inputs.items()}
    variables = state_of(loaded, call.key)
    sources = {
        name: value
        for name, value in dict(variables, **given).items()
        if value.dtype.is_floating
        and call.gradients
        # As a tape does; a tensor says nothing of it.
        and getattr(value, "trainable", True)
    }
    return given, variables, sources


def _function(loaded: Any, call: Call) -> Any:
    return loaded.signatures["{}_{}".format(call.key, call.mode)]


def _dense(sources: Dict[str, Any], grads: Sequence[Any]) -> Dict[str, Any]:
    return {
        name: tf.convert_to_tensor(grad)
        for name, grad in zip(sources, grads)
        if grad is not None
    }


def _tensor(value: Any) -> Any:
    if value.dtype.kind in "USO":
        return tf.constant(value.astype("S").tolist(), tf.string, value.shape)
    return tf.constant(value)


def _outputs(found: Dict[str, Any]) -> Dict[str, Any]:
    # Other TensorFlows count the names of outputs in other ways.
    return {"o{}".format(i): found[key] for i, key in enumerate(sorted(found))}
