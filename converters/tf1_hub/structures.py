"""StructuredValues of calls: the tensors in them, in TensorFlow's order, with names."""

from __future__ import annotations

from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from ..ir.dtypes import DT_BOOL, DT_INT64
from ..ir.names import Names
from ..ir.signatures import make_shape

__all__ = ["Leaf", "Part", "children", "leaves", "named_leaves"]

_SEQUENCES = ("list_value", "tuple_value")
_TENSORS = ("tensor_spec_value", "bounded_tensor_spec_value")
_CLASS = "type_spec_value"


class Part(NamedTuple):
    """One tensor of an input or output: its dtype and its TensorShapeProto."""

    dtype: int
    shape: Any


class Leaf(NamedTuple):
    """One input or output: a tensor, or a sparse or composite one.

    Attributes:
      name: how a signature calls it.
      parts: its tensors, in the order in which a function takes or returns them.
      spec: TypeSpecProto of a sparse or composite tensor; None of another.
      default: a StructuredValue of numbers, which a call has without it; None where
        it has to be given.
    """

    name: str
    parts: Tuple[Part, ...]
    spec: Any = None
    default: Any = None

    @property
    def key(self) -> Tuple[Any, ...]:
        """Equal for inputs that one placeholder can serve."""
        spec = b"" if self.spec is None else _bytes(self.spec)
        return (spec,) + tuple((p.dtype, _bytes(p.shape)) for p in self.parts)


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def children(value: Any) -> Optional[List[Tuple[str, Any]]]:
    """The named items of a structure, as tf.nest orders them; None of a leaf."""
    kind = value.WhichOneof("kind")
    if kind in _SEQUENCES:
        items = getattr(value, kind).values
        return [(str(i), item) for i, item in enumerate(items)]
    if kind == "dict_value":
        fields = value.dict_value.fields
        return [(key, fields[key]) for key in sorted(fields)]
    if kind == "named_tuple_value":
        return [(pair.key, pair.value) for pair in value.named_tuple_value.values]
    return None


def leaves(value: Any, path: Tuple[str, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """The leaves of a structure with the keys that lead to them."""
    items = children(value)
    if items is None:
        yield path, value
        return
    for key, item in items:
        yield from leaves(item, path + (key,))


def named_leaves(value: Any, whole: str, names: Names) -> List[Leaf]:
    """The tensors of a structure.

    Args:
      value: a StructuredValue.
      whole: what a bare tensor is called, and what items of a list begin with.
      names: hands out the names.

    A key of a dict is a name; those of dicts and lists within are joined by ``_``.
    """
    found = []
    for path, leaf in leaves(value):
        parts, spec = _parts(leaf)
        if parts:
            keys = list(path)
            if not keys or keys[0].isdigit():
                keys.insert(0, whole)
            found.append(Leaf(names.take("_".join(keys)), tuple(parts), spec))
    return found


def _parts(value: Any) -> Tuple[List[Part], Any]:
    kind = value.WhichOneof("kind")
    if kind in _TENSORS:
        spec = getattr(value, kind)
        return [Part(spec.dtype, spec.shape)], None
    if kind == "tensor_value":
        return [], None
    if kind != _CLASS:
        return [], None
    return _composite_parts(value.type_spec_value)


def _composite_parts(spec: Any) -> Tuple[List[Part], Any]:
    """The tensors that a sparse or ragged one is made of."""
    state = spec.type_state.tuple_value.values
    if spec.type_spec_class == spec.SPARSE_TENSOR_SPEC:
        shape, dtype = state[0].tensor_shape_value, state[1].tensor_dtype_value
        rank = -1 if shape.unknown_rank else len(shape.dim)
        return [
            Part(DT_INT64, make_shape([-1, rank])),
            Part(dtype, make_shape([-1])),
            Part(DT_INT64, make_shape([rank])),
        ], spec
    if spec.type_spec_class == spec.RAGGED_TENSOR_SPEC:
        shape, dtype = state[0].tensor_shape_value, state[1].tensor_dtype_value
        rank, splits = int(state[2].int64_value), state[3].tensor_dtype_value
        inner = make_shape(None)
        if not shape.unknown_rank:
            inner = make_shape([-1] + [dim.size for dim in shape.dim][rank + 1 :])
        found = [Part(dtype, inner)]
        return found + [Part(splits, make_shape([-1]))] * rank, spec
    count = max(int(getattr(spec, "num_flat_components", 0)), 1)
    return [Part(DT_BOOL, make_shape(None))] * count, spec
