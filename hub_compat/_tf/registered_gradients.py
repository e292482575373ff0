"""Gradients that a loaded model brings along as functions.

``converters/lowering/custom_gradients.py`` puts them there, for loaders that do not
know how newer ones write a ``tf.custom_gradient``.
"""

from __future__ import annotations

from typing import Any

from hub_compat._tf import tf

__all__ = ["PREFIX", "captured_name", "register_gradients"]

# Of the names of gradients; the rest says of which model, and which of them.
PREFIX = "hub_compat_gradient_"


def captured_name(gradient: str, index: int) -> str:
    """The node whose output a gradient takes, in the function that it is of."""
    return "{}_captured_{}".format(gradient, index)


def register_gradients(loaded: Any) -> None:
    """Registers the gradients of a loaded object, each once in a process.

    They hold no variables: any load of the same model may use those of the first.
    """
    for name, function in list(vars(loaded).items()):
        if name.startswith(PREFIX):
            try:
                tf.RegisterGradient(name)(_gradient_by(name, function))
            except KeyError:
                continue


def _gradient_by(name: str, function: Any) -> Any:
    def gradient(op: Any, *upstream: Any) -> Any:
        captured = [
            op.graph.get_tensor_by_name(captured_name(name, i) + ":0")
            for i in range(len(function.inputs) - len(upstream))
        ]
        given = [
            tf.zeros_like(output) if one is None else one
            for one, output in zip(upstream, op.outputs)
        ]
        found = tf.nest.flatten(function(*(given + captured)))
        # Results of the function come first among the inputs of the op.
        return [None] * (len(op.inputs) - len(found)) + found

    return gradient
