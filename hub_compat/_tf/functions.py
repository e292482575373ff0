"""Loaded functions: how they are called, and what is behind them."""

from __future__ import annotations

import functools
import inspect
import json
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from hub_compat._tf import tf

__all__ = [
    "call_arguments",
    "call_by_tensors",
    "guard_results",
    "keep_order",
    "keyword_names",
    "lazy_attribute",
    "name_uncallable",
    "own_call",
    "traces_of",
    "traces_or_self",
    "used_variables",
    "wrap_call",
]


_BLOCKED = "hub_compat_blocked"
_LAZY = "_hub_compat_lazy"


def keyword_names(function: Any) -> Optional[List[str]]:
    """The names of a signature's inputs, in the order of its arguments.

    Private: ``_arg_keywords``, which the loader sets (1.15 to 2.21). Without it, None.
    """
    names = getattr(function, "_arg_keywords", None)
    if names is None or not hasattr(function, "inputs"):
        return None
    return [tf.compat.as_str(name) for name in names]


class _Placed(str):
    """A name that sorts by its place."""

    place = 0

    def __lt__(self, other: Any) -> bool:
        return self.place < getattr(other, "place", self.place)


def keep_order(function: Any, names: Sequence[str]) -> None:
    """Sorts the specs of a signature's inputs as its arguments.

    ``tf.saved_model.save(..., signatures=...)`` pairs the names with the specs as
    tf.nest sorts them, and TensorFlow 2.12 and newer orders arguments by other names.
    Private: ``structured_input_signature`` of a FuncGraph, which the loader sets (1.15
    to 2.21). Without it, nothing is done.
    """
    found: Any = getattr(function.graph, "structured_input_signature", None)
    specs: Dict[str, Any] = found[1] if found else {}
    if list(names) == sorted(names) or set(specs) != set(names):
        return
    placed = {}
    for place, name in enumerate(names):
        key = _Placed(name)
        key.place = place
        placed[key] = specs[name]
    function.graph.structured_input_signature = ((), placed)


# Given: trace -> result
# Result:
#     trace     -> {"<mark> {number: reason}": result}      within the function
#     function  -> result, with PreventGradient at these numbers
#
# The mark travels in the structure of the result, because the function chooses its
# trace inside of the call, and says nothing about it.
def guard_results(function: Any, blocked: Sequence[Dict[int, str]]) -> bool:
    """Makes some results of a loaded function raise when a gradient reaches them.

    That must happen outside of all functions, whose gradients are built whole. Which
    trace a function took, its result says: the trace adds a level to it, with what is
    to be guarded, and the function takes that away again. Private: ``_call_flat``
    (1.15 to 2.21). Without it, nothing is done.

    Args:
      function: a loaded function, or a trace.
      blocked: for each of its traces the reasons, by the number of the result.

    Returns:
      Whether it was done.
    """
    traces = traces_or_self(function)
    if not all(hasattr(trace, "_call_flat") for trace in traces):
        return False
    for trace, reasons in zip(traces, blocked):
        if reasons and not hasattr(trace, "_hub_compat_blocked"):
            trace._hub_compat_blocked = _BLOCKED + json.dumps(
                {str(number): reason for number, reason in reasons.items()}
            )
            kind: Any = type(trace)
            trace.__class__ = _marking(kind)
    if function not in traces:
        kind = type(function)
        function.__class__ = _guarding(kind)
    return True


@functools.lru_cache(maxsize=None)
def _marking(kind: Any) -> type:
    """A class of traces whose results say what to guard, but to who calls them."""

    def _call_flat(self: Any, *args: Any, **keywords: Any) -> Any:
        found = kind._call_flat(self, *args, **keywords)
        return {self._hub_compat_blocked: found}

    guarding = _guarding(kind)
    members = {"_call_flat": _call_flat, "__module__": kind.__module__}
    return type(kind.__name__, (guarding,), members)


@functools.lru_cache(maxsize=None)
def _guarding(kind: Any) -> type:
    """A class of functions that guard what the traces behind them mark."""
    if getattr(kind, "_hub_compat_guarding", False):
        guarding_already: type = kind
        return guarding_already

    # An input may be called "self".
    def __call__(*args: Any, **keywords: Any) -> Any:  # noqa: N807
        return _guarded(kind.__call__(*args, **keywords))

    def get_concrete_function(self: Any, *args: Any, **keywords: Any) -> Any:
        found = kind.get_concrete_function(self, *args, **keywords)
        made: Any = type(found)
        found.__class__ = _guarding(made)
        return found

    def structured_outputs(self: Any) -> Any:
        return _marked(kind.structured_outputs.fget(self))[1]

    members: Dict[str, Any] = {
        "__call__": __call__,
        "__module__": kind.__module__,
        "_hub_compat_guarding": True,
    }
    if hasattr(kind, "get_concrete_function"):
        members["get_concrete_function"] = get_concrete_function
    if isinstance(getattr(kind, "structured_outputs", None), property):
        members["structured_outputs"] = property(structured_outputs)
    return type(kind.__name__, (kind,), members)


def _marked(found: Any) -> Tuple[Dict[str, str], Any]:
    """What of a result is to be guarded, and the result without that."""
    if isinstance(found, dict) and len(found) == 1:
        ((key, value),) = found.items()
        if isinstance(key, str) and key.startswith(_BLOCKED):
            return json.loads(key[len(_BLOCKED) :]), value
    return {}, found


def _guarded(found: Any) -> Any:
    reasons, found = _marked(found)
    if not reasons:
        return found
    flat = tf.nest.flatten(found, expand_composites=True)
    number = 0
    for i, value in enumerate(flat):
        if not tf.is_tensor(value):
            continue
        reason = reasons.get(str(number))
        if reason is not None:
            flat[i] = tf.raw_ops.PreventGradient(input=value, message=reason)
        number += 1
    return tf.nest.pack_sequence_as(found, flat, expand_composites=True)


# Classes are made once for each pair (lru_cache). Each is a cycle, which only the
# garbage collector frees, so there must not be one for each object.
def own_call(function: Any, call: Callable[..., Any]) -> bool:
    """Routes calls of a ConcreteFunction to ``call(function, args, keywords)``.

    Its class becomes one of ours, derived from the one that it had: Python looks for
    ``__call__`` there, and to hold a function of ours would be a cycle. Private:
    ``_call_flat`` (1.15 to 2.21). Without it, nothing is done.

    Returns:
      Whether it was done.
    """
    if not hasattr(function, "_call_flat"):
        return False
    kind: Any = type(function)
    function.__class__ = _called_by(kind, call)
    return True


@functools.lru_cache(maxsize=None)
def _called_by(kind: Any, call: Callable[..., Any]) -> type:
    # An input may be called "self".
    def __call__(*args: Any, **keywords: Any) -> Any:  # noqa: N807
        return call(args[0], args[1:], keywords)

    members = {"__call__": __call__, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)


def lazy_attribute(found: Any, name: str, make: Callable[[], Any]) -> None:
    """Gives a loaded object an attribute that is made when it is asked for.

    Private: TensorFlow's loader gives each object a class of its own, ``_UserObject``
    (load.py, 1.15 to 2.21). Objects of other classes are left alone.
    """
    kind: Any = type(found)
    # Not by its own name, which name_uncallable() changes.
    if not kind.__qualname__.endswith("_UserObject") or hasattr(kind, "__getattr__"):
        return
    # Not in the class: it is part of a cycle, and would keep what the object holds.
    object.__setattr__(found, _LAZY, {name: make})
    kind.__getattr__ = _made_when_asked


def _made_when_asked(self: Any, name: str) -> Any:
    make = self.__dict__.get(_LAZY, {}).get(name)
    if make is None:
        raise AttributeError(
            "{!r} object has no attribute {!r}".format(type(self).__name__, name)
        )
    return make()


def call_by_tensors(function: Any, tensors: Sequence[Any]) -> Any:
    """Calls a ConcreteFunction with a tensor for each argument, captures aside.

    Private: ``_call_flat``, for which ``own_call`` looks.
    """
    return _guarded(function._call_flat(list(tensors), function.captured_inputs))


def wrap_call(
    loaded: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Wraps the function behind ``loaded(...)`` in another one.

    Private: TensorFlow's loader gives each object that has a ``__call__`` a class of
    its own with this method, which calls the attribute (load.py, 1.15 to 2.21).
    Objects of other classes are left alone.
    """
    call = vars(type(loaded)).get("__call__")
    if getattr(call, "__name__", "") == "_call_attribute":
        setattr(type(loaded), "__call__", wrap(call))  # noqa: B010


def name_uncallable(loaded: Any, name: str) -> None:
    """Names an object for Python's error that "'...' object is not callable".

    Private: TensorFlow's loader gives each object a class of its own (load.py, 1.15 to
    2.21). Objects of other classes are left alone.
    """
    if type(loaded).__name__ == "_UserObject":
        type(loaded).__name__ = name[:190]


def traces_or_self(function: Any) -> List[Any]:
    """The traces of a loaded function, or itself if it is one."""
    traces = _traces(function) or [function]
    return [trace for trace in traces if hasattr(trace, "captured_inputs")]


def call_arguments(function: Any) -> Sequence[str]:
    """Names of the arguments that a callable can be called with.

    Private: tf_inspect, which sees through TensorFlow's decorators (1.15 to 2.21);
    Python's own inspect otherwise, which does so from TF 2.12 on.
    """
    try:
        from tensorflow.python.util import tf_inspect as inspector
    except ImportError:
        inspector = inspect
    if not inspect.isroutine(function) and not hasattr(
        function, "get_concrete_function"
    ):
        function = function.__call__
    try:
        found = inspector.getfullargspec(function)
    except TypeError:
        return ()
    return tuple(found.args) + tuple(found.kwonlyargs)


def traces_of(function: Any) -> List[Any]:
    """For each trace of a loaded function, its positional arguments: nests of specs."""
    return [
        trace.structured_input_signature[0]
        for trace in _traces(function)
        if trace.structured_input_signature is not None
    ]


def used_variables(function: Any, candidates: Sequence[Any]) -> List[Any]:
    """Those of some objects that are variables which a loaded function uses."""
    traces = _traces(function) or [function]
    handles = {id(c) for t in traces for c in getattr(t, "captured_inputs", ())}
    variables = [found for found in candidates if isinstance(found, tf.Variable)]
    return [variable for variable in variables if id(variable.handle) in handles]


def _traces(function: Any) -> Sequence[Any]:
    if not hasattr(function, "concrete_functions") and callable(function):
        function = function.__call__
    return getattr(function, "concrete_functions", None) or ()
