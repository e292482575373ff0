"""Calls a layer of testdata/tf221_layers in any TensorFlow."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

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


def run(
    loaded: Any,
    key: str,
    mode: str,
    inputs: Dict[str, Any],
    evaluate: Optional[Callable[[Any], Any]] = None,
    gradients: bool = True,
) -> Dict[str, Dict[str, Any]]:
    """Calls a layer.

    Args:
      loaded: the object.
      key: the layer's name there.
      mode: ``"infer"`` or ``"train"``.
      inputs: arrays by name.
      evaluate: in graph mode, runs tensors.
      gradients: whether to compute them.

    Returns:
      ``out``, ``grad`` and ``after``, each by name. Gradients that are not there are
      left out, and so are variables that did not change.
    """
    given = {name: _tensor(value) for name, value in inputs.items()}
    variables = state_of(loaded, key)
    sources = {
        name: value
        for name, value in dict(variables, **given).items()
        if value.dtype.is_floating and gradients
    }
    function = loaded.signatures["{}_{}".format(key, mode)]
    if evaluate is None:
        before = {name: value.numpy() for name, value in variables.items()}
        # TF 1.15 prepares for gradients when a function is called, if a tape watches.
        with tf.GradientTape() as tape:
            tape.watch([value for value in given.values() if gradients])
            outputs = _outputs(function(**given))
            loss = tf221_replay.loss_of(outputs)
        grads = tape.gradient(loss, list(sources.values())) if gradients else []
        found = {"out": {k: v.numpy() for k, v in outputs.items()}}
        found["grad"] = {
            name: tf.convert_to_tensor(grad).numpy()
            for name, grad in zip(sources, grads)
            if grad is not None
        }
        after = {name: value.numpy() for name, value in variables.items()}
    else:
        before = evaluate({k: v.read_value() for k, v in variables.items()})
        outputs = _outputs(function(**given))
        grads = (
            tf.gradients(tf221_replay.loss_of(outputs), list(sources.values()))
            if sources
            else []
        )
        dense = {
            name: tf.convert_to_tensor(grad)
            for name, grad in zip(sources, grads)
            if grad is not None
        }
        found = evaluate({"out": outputs, "grad": dense})
        after = evaluate({k: v.read_value() for k, v in variables.items()})
    found["after"] = {k: v for k, v in after.items() if np.any(v != before[k])}
    return found


def _tensor(value: Any) -> Any:
    if value.dtype.kind in "USO":
        return tf.constant(value.astype("S").tolist(), tf.string, value.shape)
    return tf.constant(value)


def _outputs(found: Dict[str, Any]) -> Dict[str, Any]:
    # Other TensorFlows count the names of outputs in other ways.
    return {"o{}".format(i): found[key] for i, key in enumerate(sorted(found))}
