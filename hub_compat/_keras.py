"""What Keras keeps to itself, of all versions that it has; it imports none.

Each function says which names it looks for, and what it does without them.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Callable, List

from hub_compat._tf import tf, tracked_objects

__all__ = [
    "calling_layer",
    "graph_session",
    "has_weights_of",
    "parts_of",
    "variable_of",
    "weight_losses",
]


def variable_of(weight: Any) -> Any:
    """TensorFlow's variable behind a weight of Keras 3; a weight of Keras 2 is one."""
    # In TF 1.15 the variables of a strategy are no instances of tf.Variable.
    return weight if hasattr(weight, "read_value") else getattr(weight, "value", None)


def parts_of(weight: Any) -> List[Any]:
    """The variables of each replica, of what a strategy mirrors; else the variable.

    None of what is no variable. Private: ``distribute_strategy`` of a strategy's
    variable (1.15 to 2.21); without it, it is taken for one that is not mirrored.
    """
    variable = variable_of(weight)
    if not hasattr(variable, "read_value"):
        return []
    strategy = getattr(variable, "distribute_strategy", None)
    if strategy is None:
        return [variable]
    return list(strategy.experimental_local_results(variable))


def weight_losses(layer: Any) -> List[Callable[[], Any]]:
    """The losses of a Keras layer, and of those in it, that need no inputs.

    Of Keras 3, each trained variable has its own. Private: ``_callable_losses`` of
    Keras 2 (1.15 to tf_keras), which has its losses there; without it, none are found.
    """
    if not hasattr(layer, "_callable_losses"):
        return [
            functools.partial(weight.regularizer, weight)
            for weight in layer.trainable_weights
            if getattr(weight, "regularizer", None) is not None
        ]
    return [
        loss
        for each in tracked_objects(layer)
        for loss in getattr(each, "_callable_losses", None) or ()
    ]


def calling_layer(layer: Any) -> Any:
    """The layer or model in whose call another layer is called; None without one.

    Of Keras 3 it is the outermost one, and there while ``layer.call`` runs. Of Keras 2
    it is the next one, and there while ``layer.__call__`` has not gone on to Keras.

    Private: ``_get_call_context`` and its ``entry_layer`` (Keras 3), ``call_context``
    of base_layer_utils, in the module of Keras' Layer, and its ``layer`` (Keras 2, 1.15
    to tf_keras). Without them, no layer is known to be in another.
    """
    if hasattr(layer, "_get_call_context"):
        return getattr(layer._get_call_context(), "entry_layer", None)
    kind: Any = type(layer)
    context = _call_context(kind)
    return None if context is None else getattr(context(), "layer", None)


@functools.lru_cache(maxsize=None)
def _call_context(kind: Any) -> Any:
    """What a class of layers of Keras 2 has for the call that goes on."""
    for base in kind.__mro__:
        module: Any = sys.modules.get(base.__module__)
        utils: Any = getattr(module, "base_layer_utils", None)
        if hasattr(utils, "call_context"):
            return utils.call_context
    return None


def graph_session(layer: Any) -> Any:
    """The session in which Keras 2 runs the graph of a layer.

    Private: ``backend`` in the module of Keras' Layer (1.15 to tf_keras), as only TF
    1.15 has ``get_session`` in public. Without it, the current session.
    """
    for base in type(layer).__mro__:
        backend: Any = getattr(sys.modules.get(base.__module__), "backend", None)
        if hasattr(backend, "get_session"):
            return backend.get_session()
    return tf.compat.v1.get_default_session()


def has_weights_of(outer: Any, layer: Any) -> bool:
    """Whether Keras knows the weights of a layer as weights of another, too."""
    if hasattr(layer, "_get_call_context"):
        known = {id(weight) for weight in outer.weights}
        return all(id(weight) in known for weight in layer.weights)
    # A model of Keras 2 that is not built yet does not tell its weights.
    return any(found is layer for found in tracked_objects(outer))
