"""Which Keras there is, and what it keeps to itself.

Only this wing's files import frameworks, and look for private names of theirs. Each
function says which names it looks for, and what it does without them.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import sys
from typing import Any, Callable, Dict, List

from hub_compat._tf import tf
from hub_compat._tf.tracking import tracked_objects
from hub_compat.errors import LayerError, MissingDependencyError, OptionsError

__all__ = [
    "caller_of_other_keras",
    "calling_layer",
    "graph_session",
    "has_weights_of",
    "in_safe_mode",
    "is_of_other_keras",
    "keras2",
    "keras3",
    "keras_generation",
    "parts_of",
    "variable_of",
    "weight_losses",
    "weight_of",
]


def keras_generation() -> int:
    """Which Keras this program uses: 2 or 3.

    It is what HUB_COMPAT_KERAS says; else 2 where the program has imported tf_keras;
    else what ``tf.keras`` is.

    Raises:
      MissingDependencyError: it cannot be imported.
      OptionsError: HUB_COMPAT_KERAS says something else.
    """
    chosen = os.environ.get("HUB_COMPAT_KERAS", "")
    if chosen not in ("", "2", "3"):
        raise OptionsError(
            "HUB_COMPAT_KERAS names the Keras of hub_compat.KerasLayer: set it to 2 "
            "or 3. If it is unset, that is tf_keras if imported, else the Keras of "
            "tf.keras. Received: {!r}".format(chosen)
        )
    if chosen or "tf_keras" in sys.modules:
        return int(chosen or 2)
    try:
        return 3 if _is_keras3(tf.keras) else 2
    except ImportError as error:
        if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
            raise MissingDependencyError(
                "TF_USE_LEGACY_KERAS makes tf.keras Keras 2, which needs the "
                "package tf-keras. That cannot be imported: pip install "
                "tf-keras~={}.0, or unset the variable for Keras 3. Received: "
                "TF_USE_LEGACY_KERAS={!r}, and {}".format(
                    ".".join(tf.__version__.split(".")[:2]),
                    os.environ["TF_USE_LEGACY_KERAS"],
                    error,
                )
            ) from error
        if importlib.util.find_spec("keras") is not None:
            raise _broken_keras3(error) from error
        # TF >= 2.16 without the package keras.
        keras2()
        return 2


def _is_keras3(library: Any) -> bool:
    """Whether it is Keras 3, which alone has ``ops``; neither always has a version."""
    return hasattr(library, "ops")


def keras2() -> Any:
    """Keras 2: ``tf.keras`` up to TF 2.15, or the package tf_keras.

    Raises:
      MissingDependencyError: there is none.
    """
    try:
        if not _is_keras3(tf.keras):
            return tf.keras
    except (ImportError, RecursionError):
        # Asked for a second time, TF 2.21's tf.keras recurses without end.
        pass
    try:
        import tf_keras
    except ImportError as error:
        raise MissingDependencyError(
            "tf.keras of TensorFlow {} is Keras 3; Keras 2 is in the package tf-keras: "
            "pip install tf-keras. Received: {}".format(tf.__version__, error)
        ) from error
    return tf_keras


def keras3() -> Any:
    """The package keras, of version 3.

    Raises:
      MissingDependencyError: it is not installed, or computes with something else
        than TensorFlow.
    """
    try:
        import keras
    except ImportError as error:
        raise _broken_keras3(error) from error
    version = str(getattr(keras, "__version__", "of unknown version"))
    if not version.startswith("3."):
        raise _broken_keras3("keras " + version)
    if keras.backend.backend() != "tensorflow":
        raise MissingDependencyError(
            "A TensorFlow module runs in Keras 3 on the TensorFlow backend only; set "
            "KERAS_BACKEND=tensorflow before Keras is imported. Received: the backend "
            "{!r}".format(keras.backend.backend())
        )
    return keras


def _broken_keras3(problem: Any) -> MissingDependencyError:
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        problem = "KERAS_BACKEND={!r}, and {}".format(backend, problem)
    return MissingDependencyError(
        "This needs Keras 3 (pip install 'keras>=3', TensorFlow 2.16 or newer) on the "
        "TensorFlow backend (KERAS_BACKEND=tensorflow); with Keras 2 there is "
        "hub_compat.keras2.KerasLayer. Received: {}".format(problem)
    )


def weight_of(variable: Any, is_trainable: bool) -> Any:
    """A weight of Keras 3 whose value is a variable that is there.

    Private: ``_value`` of a weight, for a Keras that makes a copy (3.0, 3.5).

    Raises:
      LayerError: the weight is a copy, and has no such attribute.
    """
    library = keras3()
    keywords: Dict[str, Any] = {}
    # Not in Keras 3.0. The module's functions read the variable itself.
    if "autocast" in inspect.signature(library.Variable.__init__).parameters:
        keywords["autocast"] = False
    weight = library.Variable(
        initializer=variable,
        shape=variable.shape,
        dtype=variable.dtype.name,
        trainable=is_trainable,
        name=variable.name.split(":")[0].replace("/", "."),
        **keywords,
    )
    if weight.value is not variable and hasattr(weight, "_value"):
        weight._value = variable
    if weight.value is not variable:
        # Training would change the copy, and the module stay as it is.
        raise LayerError(
            "This Keras copies variables that become weights, so it cannot train "
            "those of the module. Use another Keras 3 (pip install -U keras), or "
            "Keras 2 with hub_compat.keras2.KerasLayer. Received: keras {}".format(
                getattr(library, "__version__", "of unknown version")
            )
        )
    return weight


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


def in_safe_mode(kind: Any) -> bool:
    """Whether Keras is loading a file in safe mode, a class of layers among others.

    Private: ``in_safe_mode`` of serialization_lib (Keras 3, and Keras 2 from 2.11 on);
    without it there is no such mode. In Keras 2 model_from_json() is in it, too, and
    has no argument to say otherwise; but only a file has ``SHARED_OBJECTS.enabled``.
    """
    for base in kind.__mro__:
        package = base.__module__.split(".")[0]
        for place in (".src.saving", ".saving", ".saving.experimental"):
            lib: Any = sys.modules.get(package + place + ".serialization_lib")
            if hasattr(lib, "in_safe_mode"):
                shared: Any = getattr(lib, "SHARED_OBJECTS", None)
                is_file = shared is None or getattr(shared, "enabled", False)
                return bool(is_file and lib.in_safe_mode())
    return False


def caller_of_other_keras(generation: int) -> Any:
    """The layer or model of the other Keras whose call goes on; None without one.

    Private: of Keras 3, the attribute ``current_call_ctx`` of its global_state, and
    ``entry_layer`` of that; of tf_keras, ``call_context`` of base_layer_utils. Without
    them, none is known.

    Args:
      generation: the Keras of who asks.
    """
    name = "keras.src.backend.common.global_state"
    state: Any = sys.modules.get(name) if generation == 2 else None
    if hasattr(state, "get_global_attribute"):
        context = state.get_global_attribute("current_call_ctx")
        return getattr(context, "entry_layer", None)
    name = "tf_keras.src.engine.base_layer_utils"
    utils: Any = sys.modules.get(name) if generation == 3 else None
    if hasattr(utils, "call_context"):
        return getattr(utils.call_context(), "layer", None)
    return None


def is_of_other_keras(value: Any, generation: int) -> bool:
    """Whether a value is a symbolic tensor of the other Keras."""
    packages = {
        kind.__module__.split(".")[0]
        for kind in type(value).__mro__
        if kind.__name__ == "KerasTensor"
    }
    if not packages:
        return False
    # The package keras is Keras 2 up to TF 2.15; before 2.6 it is in TensorFlow.
    version = str(getattr(sys.modules.get("keras"), "__version__", "2"))
    found = 3 if "keras" in packages and not version.startswith("2") else 2
    return found != generation


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
