"""The signatures of a loaded object: what they are called with, and what is said.

TensorFlow's own take tensors by names that it changes first: ``image/height`` and
``image_height`` are one to it. Those of tensorflow_hub take arrays and lists.
"""

from __future__ import annotations

import difflib
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Sequence

import numpy as np

from hub_compat._tf import tf
from hub_compat._tf.functions import (
    call_by_tensors,
    keep_order,
    keyword_names,
    own_call,
)
from hub_compat._tf.loading import explain_missing_signatures
from hub_compat.converters.ir.names import parameter_name
from hub_compat.errors import InputError, SignatureError

__all__ = ["Inputs", "adapt", "as_tensors", "input_specs", "maps_of"]

_FACTS = "_hub_compat_inputs"
# Dtypes to which numbers go, by their kind in NumPy.
_SAME_KIND = {"b": "b", "i": "biu", "u": "biu", "f": "biuf", "c": "biufc"}


class Inputs(NamedTuple):
    """What a signature takes.

    Attributes:
      names: of its arguments, in order.
      specs: of each.
      bare: the names of values that come without, in their order.
    """

    names: Sequence[str]
    specs: Sequence[Any]
    bare: Sequence[str]


# A call of a signature, from arguments to tensors:
#
#     _named      values by the names of the inputs; composite ones in their parts
#     _to_tensor  what a session would have taken for a feed: lists, arrays, strings
#     call        by order: TensorFlow's own names of arguments differ by version
def adapt(loaded: Any, module: str, left_out: Mapping[str, str], tf1: bool) -> None:
    """Has signatures take what a session takes, and say what they do not take.

    Args:
      loaded: what ``load()`` returns.
      module: its directory, for messages.
      left_out: for signatures that are not there the reasons, by name.
      tf1: whether it was of TensorFlow 1; those take several inputs without names, as
        tensorflow_hub has it.
    """
    for signatures in maps_of(loaded):
        for function in signatures.values():
            names = keyword_names(function)
            if names is not None and own_call(function, _call):
                specs = [_spec(name, t) for name, t in zip(names, function.inputs)]
                bare = sorted(names) if tf1 or len(names) == 1 else []
                keep_order(function, names)
                setattr(function, _FACTS, Inputs(names, specs, bare))
    explain_missing_signatures(loaded, _explainer(loaded, module, left_out))


def maps_of(loaded: Any) -> Iterator[Mapping[str, Any]]:
    """The signatures of an object, and of the variants that it holds."""
    variants = getattr(loaded, "graph_variants", None)
    held = list(variants.values()) if isinstance(variants, Mapping) else []
    for found in [loaded] + held:
        signatures = getattr(found, "signatures", None)
        if isinstance(signatures, Mapping):
            yield signatures


def input_specs(function: Any) -> Dict[str, Any]:
    """What a signature takes, by name."""
    facts = getattr(function, _FACTS, None)
    if facts is not None:
        return dict(zip(facts.names, facts.specs))
    args, keywords = function.structured_input_signature
    return dict({spec.name: spec for spec in args}, **keywords)


def _spec(name: str, tensor: Any) -> Any:
    return tf.TensorSpec(tensor.shape, tensor.dtype, name)


def _explainer(
    loaded: Any, module: str, left_out: Mapping[str, str]
) -> Callable[[Any], SignatureError]:
    names = sorted(getattr(loaded, "signatures", None) or ())

    def explain(name: Any) -> SignatureError:
        reason = ", as " + left_out[name] if name in left_out else ""
        like = difflib.get_close_matches(str(name), names, 1)
        return SignatureError(
            "The module {!r} has no signature of this name{}; it has {}{}. "
            "Received: {!r}".format(
                module,
                reason,
                ", ".join(map(repr, names)) or "none",
                ". Did you mean {!r}?".format(like[0]) if like and not reason else "",
                name,
            )
        )

    return explain


# ---- calling


def _call(function: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Calls a signature with tensors, or what can become tensors, by name."""
    return call_by_tensors(
        function, as_tensors(getattr(function, _FACTS), args, keywords)
    )


def as_tensors(
    facts: Inputs, args: Sequence[Any], keywords: Mapping[str, Any]
) -> List[Any]:
    """A tensor for each input, from the arguments of a call.

    Raises:
      InputError: they do not fit.
    """
    given = _named(facts, args, keywords)
    tensors = []
    for name, spec in zip(facts.names, facts.specs):
        value = given[name]
        if not isinstance(value, tf.Tensor):
            value = _to_tensor(value, spec)
        own = value.dtype.base_dtype
        if own != spec.dtype or not spec.shape.is_compatible_with(value.shape):
            raise _misfit(spec, "{} {}".format(own.name, value.shape))
        tensors.append(value)
    return tensors


def _named(
    facts: Inputs, args: Sequence[Any], keywords: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The values of a call by the names of the inputs."""
    if not args and len(keywords) == len(facts.names):
        if all(name in keywords for name in facts.names):
            return keywords
    given = _expanded(facts, keywords)
    if args:
        if len(args) > len(facts.bare):
            raise _wrong_inputs(facts, args, keywords)
        for name, value in zip(facts.bare, args):
            if name in given:
                raise _wrong_inputs(facts, args, keywords)
            given[name] = value
    if set(given) != set(facts.names):
        raise _wrong_inputs(facts, args, keywords)
    return given


def _expanded(facts: Inputs, keywords: Mapping[str, Any]) -> Dict[str, Any]:
    """Keywords as the inputs are called.

    TensorFlow takes names that it makes of those, and makes them of what it is given.
    A sparse or ragged tensor comes by its own name, or in its parts.
    """
    known = set(facts.names)
    made: Dict[str, List[str]] = {}
    for name in facts.names:
        made.setdefault(parameter_name(name), []).append(name)
    given: Dict[str, Any] = {}
    for key, value in keywords.items():
        if key not in known and isinstance(value, (tf.SparseTensor, tf.RaggedTensor)):
            parts = tf.nest.flatten(value, expand_composites=True)
            ends = ["component_{}".format(i) for i in range(len(parts))]
            if isinstance(value, tf.SparseTensor):
                ends = ["indices", "values", "dense_shape"]
            given.update(("{}_{}".format(key, e), p) for e, p in zip(ends, parts))
            continue
        alike = made.get(parameter_name(key), [])
        if key not in known and len(alike) == 1:
            key = alike[0]
        given[key] = value
    return given


def _to_tensor(value: Any, spec: Any) -> Any:
    """Python's numbers and strings, lists of them, arrays and variables as tensors.

    No number changes but for the precision of floating-point ones.
    """
    kind = _kind(spec.dtype)
    plain = isinstance(value, (bool, int, float, complex, str, bytes, np.generic))
    if isinstance(value, (list, tuple)):
        plain = not any(tf.is_tensor(leaf) for leaf in tf.nest.flatten(value))
    try:
        if kind and (plain or isinstance(value, np.ndarray)):
            value = _to_array(value, spec, kind)
        if isinstance(value, tf.Variable) or tf.is_tensor(value):
            return tf.convert_to_tensor(value)
        return tf.convert_to_tensor(value, spec.dtype)
    except InputError:
        raise
    except Exception as error:  # TensorFlow's differ between versions
        raise _misfit(spec, repr(value)[:200]) from error


def _kind(dtype: Any) -> str:
    """What NumPy's values for a dtype must be; "" where it has none of its own."""
    if dtype == tf.string:
        return "O"
    for is_kind, kind in (
        (dtype.is_bool, "b"),
        (dtype.is_floating, "f"),
        (dtype.is_integer and dtype.is_unsigned, "u"),
        (dtype.is_integer, "i"),
        (dtype.is_complex, "c"),
    ):
        if is_kind:
            return kind
    return ""


def _to_array(value: Any, spec: Any, kind: str) -> Any:
    if kind == "O":
        return _to_strings(value, spec)
    array = np.asarray(value)
    if array.dtype.kind == "O":
        array = np.asarray(array.tolist())
    wanted = spec.dtype.as_numpy_dtype
    if not array.size and not isinstance(value, np.ndarray):
        # A list of nothing has the dtype of anything.
        return array.astype(wanted)
    kinds = _SAME_KIND[kind]
    if kind in "iu" and isinstance(value, (np.ndarray, np.generic)):
        # TensorFlow takes whole numbers of NumPy's floats for integers.
        kinds += "f"
    if array.dtype != wanted and array.dtype.kind not in kinds:
        raise _misfit(spec, "{} {}".format(array.dtype.name, array.shape))
    with np.errstate(invalid="ignore"):
        converted = array.astype(wanted)
    if kind in "iu" and not np.array_equal(converted, array):
        raise _misfit(
            spec,
            "numbers that are not integers in its range, {!r}".format(value)[:200],
        )
    return converted


def _to_strings(value: Any, spec: Any) -> Any:
    """An array of bytes; NumPy's own strings would lose zeros at their ends."""
    array = np.array(value, dtype=object)
    encoded = np.empty(array.shape, dtype=object)
    for index in np.ndindex(*array.shape):
        item = array[index]
        if not isinstance(item, (str, bytes)):
            raise _misfit(spec, "{!r} among its strings".format(item)[:200])
        encoded[index] = item.encode("utf-8") if isinstance(item, str) else item
    return encoded


# ---- messages


def _misfit(spec: Any, found: str) -> InputError:
    return InputError(
        "The input {!r} of this signature takes {} {}. Received: {}".format(
            spec.name, spec.dtype.name, spec.shape, found
        )
    )


def _wrong_inputs(
    facts: Inputs, args: Sequence[Any], keywords: Mapping[str, Any]
) -> InputError:
    taken = ["{!r}: {} {}".format(s.name, s.dtype.name, s.shape) for s in facts.specs]
    how = "one value without its name, or by name"
    if len(facts.names) != 1:
        how = "values by name, as signature(**{{{}}})".format(
            ", ".join("{!r}: ...".format(name) for name in facts.names)
        )
    return InputError(
        "This signature takes {}: give {}. Received: {} without names, and {}".format(
            "{" + ", ".join(taken) + "}" if taken else "no inputs",
            how if taken else "none",
            len(args) or "none",
            ", ".join(map(repr, sorted(keywords))) or "none by name",
        )
    )
