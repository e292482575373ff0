"""TensorFlow's loaders, and what they leave in memory."""

from __future__ import annotations

import contextlib
import functools
import weakref
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from hub_compat._tf import tf
from hub_compat._tf.gradients import gradient_entries, gradients_of_functions
from hub_compat.errors import OptionsError

__all__ = [
    "LOAD_ERRORS",
    "drop_missing_variables",
    "explain_missing_signatures",
    "load_options_class",
    "load_saved_model",
    "loads_alone",
]


# What TensorFlow's loader raises for a graph that it does not take: 2.21 says with a
# RuntimeError what 1.15 says with a NotFoundError.
LOAD_ERRORS: Tuple[Any, ...] = (
    tf.errors.OpError,
    ValueError,
    RuntimeError,
    # TF >= 2.1, where the weights are not there.
    FileNotFoundError,
)


def load_saved_model(path: str, tags: Any = None, options: Any = None) -> Any:
    """Loads a SavedModel with TensorFlow's object loader.

    Raises:
      OptionsError: ``options`` were given, and this TensorFlow has none.
    """
    # The one name that exists in TF 1.15 and in every TF 2.
    load: Any = tf.compat.v1.saved_model.load_v2
    if options is None:
        with _functions_released():
            return load(path, tags=tags)
    # TF < 2.3 has no LoadOptions; drop the branch with TF 1.15.
    if load_options_class() is None:
        raise OptionsError(
            "TensorFlow {} has no tf.saved_model.LoadOptions (2.3 is the first that "
            "has it): call load() without options. Received: {!r}".format(
                tf.__version__, options
            )
        )
    with _functions_released():
        return load(path, tags=tags, options=options)


def loads_alone(path: str) -> bool:
    """Whether TensorFlow loads a SavedModel into a graph where nothing else is.

    No value is read. What fails elsewhere, and not there, the program is to blame for.
    """
    try:
        with tf.Graph().as_default():
            load_saved_model(path)
    except Exception:
        return False
    return True


def drop_missing_variables(loaded: Any) -> None:
    """Takes None out of the lists of variables of a loaded object.

    Keras lists what keeps a vocabulary among a model's weights; a SavedModel does not
    have it, and TensorFlow's loaders (1.15 to 2.21) leave a hole in the list, which
    breaks optimizers.
    """
    for name in ("variables", "trainable_variables", "non_trainable_variables"):
        listed = vars(loaded).get(name) if hasattr(loaded, "__dict__") else None
        if listed is None or not isinstance(listed, (list, tuple)):
            continue
        if any(item is None for item in listed):
            # Not tracked: the checkpoint knows the list with its hole.
            object.__setattr__(loaded, name, [v for v in listed if v is not None])


def explain_missing_signatures(
    loaded: Any, explain: Callable[[Any], Exception]
) -> None:
    """Makes ``loaded.signatures[name]`` raise our error for an unknown name.

    Private: the dict inside the read-only mapping (signature_serialization.py, 1.15
    to 2.21). Without it, the error is TensorFlow's KeyError.

    Args:
      loaded: what a loader returned.
      explain: the error for a name; it must be a KeyError, which mappings expect.
    """
    signatures: Any = getattr(loaded, "signatures", None)
    held = getattr(signatures, "_signatures", None)
    if type(held) is dict:
        explained = _Explained(held)
        explained.explain = explain
        signatures._signatures = explained


class _Explained(Dict[str, Any]):
    explain: Callable[[Any], Exception]

    def __missing__(self, name: Any) -> Any:
        raise self.explain(name)


@contextlib.contextmanager
def _functions_released() -> Iterator[None]:
    """Makes functions that are loaded in it go with their last user.

    TF 1.15 registers a gradient for each function that it loads, and has the default
    graph hold it, also in eager execution. It never lets go of either, nor of the
    graphs behind them. A graph that calls a function holds that function's gradient;
    a graph for sessions holds its functions.

    Private: the entries of the registry, ``_func_graph`` of what makes a gradient, and
    ``_functions`` of a graph; without them, nothing is done. It can go with TF 1.15.
    """
    known = gradients_of_functions()
    default: Any = tf.compat.v1.get_default_graph() if tf.executing_eagerly() else None
    held = getattr(default, "_functions", {})
    names = set(held)
    try:
        yield
    finally:
        found = gradients_of_functions() - known
        for name in found:
            _release_gradient(name)
        # Where functions have their gradients themselves, none is held for ever.
        for name in set(held) - names if found else ():
            del held[name]


def _release_gradient(name: str) -> None:
    entries = gradient_entries()
    gradient = entries[name].get("type")
    for cell in getattr(gradient, "__closure__", None) or ():
        graph = getattr(cell.cell_contents, "_func_graph", None)
        if graph is not None:
            graph._hub_compat_gradient = gradient
            entries[name]["type"] = _held_elsewhere(weakref.ref(gradient))
            forget = functools.partial(entries.pop, name, None)
            weakref.finalize(gradient, forget).atexit = False


def _held_elsewhere(found: Callable[[], Any]) -> Callable[..., Any]:
    def gradient(op: Any, *upstream: Any) -> Any:
        return found()(op, *upstream)

    return gradient


def load_options_class() -> Optional[type]:
    """``tf.saved_model.LoadOptions``, or None where TensorFlow has none."""
    return getattr(tf.saved_model, "LoadOptions", None)
