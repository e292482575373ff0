"""The inputs of a layer, in the form in which the function behind it takes them."""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from hub_compat._tf import tf

__all__ = ["InputSpecs", "described"]


class InputSpecs:
    """The inputs of a function.

    Args:
      traces: the positional arguments of each of its traces.
      named: of a signature, its inputs by their names; else None.

    Attributes:
      nests: the nests of specs that it can be called with; none where they are unknown.
      nothing: whether it is known to take no inputs.
    """

    def __init__(
        self, traces: Sequence[Any], named: Optional[Mapping[str, Any]] = None
    ) -> None:
        self.nests: List[Any] = []
        if named:
            self.nests = [dict(named)]
            if len(named) == 1:
                # Alone, it may come without its name.
                self.nests += list(named.values())
        elif named is None:
            self.nests = [args[0] for args in traces if args and _has_specs(args[0])]
        self.nothing = not self.nests and (named is not None or bool(traces))
        # Most modules take one tensor, and are called often.
        alone = [nest.dtype for nest in self.nests if hasattr(nest, "dtype")]
        self._alone: Any = alone[0] if alone else None

    @property
    def dtype(self) -> Optional[str]:
        """The dtype of the only input; None if there are several, or unknown ones."""
        leaves = tf.nest.flatten(self.nests[:1])
        return str(leaves[0].dtype.name) if len(leaves) == 1 else None

    def prepared(self, inputs: Any) -> Any:
        """Inputs in the structure and the floating-point dtypes of a trace.

        Where none has the structure they are as they were.
        """
        if self._alone is not None and isinstance(inputs, tf.Tensor):
            same = inputs.dtype is self._alone
            return inputs if same else _to_dtype(inputs, self._alone)
        return self._mapped(_to_dtype, inputs, inputs)

    def tensors(self, inputs: Any) -> Any:
        """Python's numbers, strings and lists of them as tensors; others as is."""
        if isinstance(inputs, tf.Tensor):
            return inputs
        found = self._mapped(_to_tensor, inputs, None)
        if found is None and isinstance(inputs, Mapping):
            return {name: _to_tensor(value, None) for name, value in inputs.items()}
        return _to_tensor(inputs, None) if found is None else found

    def _mapped(self, function: Callable[[Any, Any], Any], inputs: Any, no: Any) -> Any:
        """Inputs, through a function of value and dtype; ``no`` if no trace fits."""
        for nest in self.nests:
            pairs = _pairs(nest, inputs)
            if pairs is not None:
                values = [function(value, spec.dtype) for spec, value in pairs]
                return tf.nest.pack_sequence_as(nest, values)
        return no

    def with_shapes(self, shapes: Any) -> Any:
        """A nest of TensorShapes as specs; float32 where the dtypes are unknown."""
        for nest in self.nests:
            pairs = _pairs(nest, shapes)
            if pairs is not None:
                specs = [_spec(like, shape) for like, shape in pairs]
                return tf.nest.pack_sequence_as(nest, specs)
        return tf.nest.map_structure(tf.TensorSpec, shapes)

    def problem(self, inputs: Any) -> Optional[str]:
        """Says what the function takes, where it does not take these inputs."""
        if not self.nests and not self.nothing:
            return None
        for nest in self.nests:
            pairs = _pairs(nest, inputs)
            if pairs is not None and all(_accepts(*pair) for pair in pairs):
                return None
        if self.nothing:
            return "It takes no inputs: call it as layer({{}}). Received: {}".format(
                described(inputs)
            )
        # As many traces as there are values of `training`.
        nests = list(dict.fromkeys(described(nest) for nest in self.nests))
        return "It takes {}: call it as layer({}). Received: {}".format(
            ", or ".join(nests), _call(self.nests[0]), described(inputs)
        )


def described(nest: Any) -> str:
    """A nest of tensors or specs, with dtypes and shapes, for a message."""
    if isinstance(nest, Mapping):
        items = ("{!r}: {}".format(k, described(v)) for k, v in sorted(nest.items()))
        return "{" + ", ".join(items) + "}"
    if isinstance(nest, (list, tuple)) and _is_nest(nest):
        return "[" + ", ".join(described(one) for one in nest) + "]"
    if not hasattr(nest, "dtype") or not hasattr(nest, "shape"):
        return repr(nest)
    name = ""
    kind = getattr(nest, "value_type", type(nest))
    for composite in (tf.SparseTensor, tf.RaggedTensor):
        if issubclass(kind, composite):
            name = composite.__name__ + " of "
    return "{}{} {}".format(name, tf.as_dtype(nest.dtype).name, nest.shape)


def _is_nest(values: Sequence[Any]) -> bool:
    return any(hasattr(v, "dtype") or isinstance(v, (Mapping, tuple)) for v in values)


def _call(nest: Any) -> str:
    """How a nest is written down, without the values."""
    if isinstance(nest, Mapping):
        return "{" + ", ".join("{!r}: ...".format(key) for key in sorted(nest)) + "}"
    if isinstance(nest, (list, tuple)):
        return "[" + ", ".join("..." for _ in nest) + "]"
    return "inputs"


def _has_specs(nest: Any) -> bool:
    return any(hasattr(leaf, "dtype") for leaf in tf.nest.flatten(nest))


def _pairs(nest: Any, values: Any) -> Optional[List[Tuple[Any, Any]]]:
    """Specs with the values in their places, in the order of tf.nest; None if unlike.

    A list may stand for a tuple: Keras makes one of the other when it saves a model.
    """
    try:
        return list(_walk(nest, values))
    except _UnlikeError:
        return None


class _UnlikeError(Exception):
    """Two nests are not of the same structure."""


def _walk(nest: Any, values: Any) -> Iterator[Tuple[Any, Any]]:
    if isinstance(nest, Mapping):
        if not isinstance(values, Mapping) or set(values) != set(nest):
            raise _UnlikeError
        for key in sorted(nest):
            yield from _walk(nest[key], values[key])
    elif isinstance(nest, (list, tuple)):
        if not isinstance(values, (list, tuple)) or len(values) != len(nest):
            raise _UnlikeError
        for one, value in zip(nest, values):
            yield from _walk(one, value)
    elif not hasattr(nest, "dtype") or isinstance(values, Mapping) or values is None:
        raise _UnlikeError
    else:
        yield nest, values


def _accepts(spec: Any, value: Any) -> bool:
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return True
    if not isinstance(spec, tf.TensorSpec):
        return isinstance(value, getattr(spec, "value_type", object))
    own = tf.as_dtype(value.dtype)
    fits = own == spec.dtype or (own.is_floating and spec.dtype.is_floating)
    return bool(fits and tf.TensorShape(value.shape).is_compatible_with(spec.shape))


def _spec(like: Any, shape: Any) -> Any:
    if isinstance(like, tf.SparseTensorSpec):
        return tf.SparseTensorSpec(shape, like.dtype)
    if isinstance(like, tf.RaggedTensorSpec):
        return like
    return tf.TensorSpec(shape, like.dtype)


def _to_dtype(value: Any, dtype: Any) -> Any:
    """A floating-point tensor in another floating-point dtype; others as they are."""
    own = getattr(value, "dtype", None)
    if own is None or not dtype.is_floating:
        return value
    own = tf.as_dtype(own)
    return tf.cast(value, dtype) if own.is_floating and own != dtype else value


def _to_tensor(value: Any, dtype: Any) -> Any:
    if hasattr(value, "dtype"):
        return value
    leaves: Dict[int, Any] = {id(leaf): leaf for leaf in tf.nest.flatten(value)}
    if not leaves or not all(
        isinstance(leaf, (bool, int, float, str, bytes, np.generic))
        for leaf in leaves.values()
    ):
        return value
    try:
        return tf.convert_to_tensor(value, dtype)
    except (TypeError, ValueError):
        return tf.convert_to_tensor(value)
