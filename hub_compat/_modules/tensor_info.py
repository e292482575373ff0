"""Descriptions of a signature's inputs and outputs."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

from hub_compat._tf import tf
from hub_compat._tf.structures import (
    components_of,
    decode_type_spec,
    dtype_of,
    from_components,
    shape_of,
)
from hub_compat.errors import CorruptModuleError

__all__ = [
    "SUPPORTED_TYPES",
    "ParsedTensorInfo",
    "feeds",
    "fetches",
    "names_of",
    "parse",
]

# What signatures take and give; upstream has these, too.
SUPPORTED_TYPES = (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)


class ParsedTensorInfo:
    """What is known of a tensor of a signature, in terms of a tensor.

    Attributes:
      type_spec: its ``tf.TypeSpec``: ``TensorSpec(shape=(None,), dtype=tf.string)``.
    """

    def __init__(self, type_spec: Any) -> None:
        self.type_spec = type_spec

    @property
    def dtype(self) -> Any:
        """The ``tf.DType`` of the elements."""
        return dtype_of(self.type_spec)

    def get_shape(self) -> Any:
        """The ``tf.TensorShape`` of the dense shape."""
        return shape_of(self.type_spec)

    @property
    def is_sparse(self) -> bool:
        """Whether it is a ``tf.SparseTensor``."""
        return isinstance(self.type_spec, tf.SparseTensorSpec)

    @property
    def is_composite(self) -> bool:
        """Whether it is a sparse, ragged or other composite tensor."""
        return not isinstance(self.type_spec, tf.TensorSpec)

    @property
    def is_supported_type(self) -> bool:
        """Whether a module takes and gives values of its type."""
        return issubclass(self.type_spec.value_type, SUPPORTED_TYPES)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ParsedTensorInfo):
            return NotImplemented
        return bool(self.type_spec == other.type_spec)

    def __hash__(self) -> int:
        return hash(self.type_spec)

    def __repr__(self) -> str:
        if isinstance(self.type_spec, (tf.TensorSpec, tf.SparseTensorSpec)):
            return "<hub.ParsedTensorInfo shape={} dtype={} is_sparse={}>".format(
                self.get_shape(), self.dtype.name, self.is_sparse
            )
        return "<hub.ParsedTensorInfo type_spec={}>".format(self.type_spec)


def parse(infos: Mapping[str, Any]) -> Dict[str, ParsedTensorInfo]:
    """Reads the TensorInfos of a SignatureDef.

    Raises:
      CorruptModuleError: one says of no tensor which it is.
      UnknownOpError: one is of a type that this TensorFlow does not have.
    """
    return {key: ParsedTensorInfo(_type_spec(info)) for key, info in infos.items()}


def _type_spec(info: Any) -> Any:
    encoding = _encoding(info)
    if encoding == "composite_tensor":
        return decode_type_spec(info.composite_tensor.type_spec)
    shape = tf.TensorShape(info.tensor_shape)
    dtype = tf.as_dtype(info.dtype)
    if encoding == "coo_sparse":
        return tf.SparseTensorSpec(shape, dtype)
    return tf.TensorSpec(shape, dtype)


def feeds(infos: Mapping[str, Any], values: Mapping[str, Any]) -> Dict[str, Any]:
    """The tensors of a graph that a signature's inputs replace, by their names.

    Args:
      infos: TensorInfos of the inputs.
      values: for each a tensor or composite tensor.
    """
    found: Dict[str, Any] = {}
    for key, info in infos.items():
        value = values[key]
        if _encoding(info) == "coo_sparse":
            found[info.coo_sparse.values_tensor_name] = value.values
            found[info.coo_sparse.indices_tensor_name] = value.indices
            found[info.coo_sparse.dense_shape_tensor_name] = value.dense_shape
        else:
            found.update(zip(names_of(info), components_of(value)))
    return found


def fetches(infos: Mapping[str, Any], find: Callable[[str], Any]) -> Dict[str, Any]:
    """The outputs of a signature.

    Args:
      infos: TensorInfos of the outputs.
      find: the tensor in place of one of the module's graph, by its name.
    """
    found: Dict[str, Any] = {}
    for key, info in infos.items():
        parts = [find(name) for name in names_of(info)]
        encoding = _encoding(info)
        if encoding == "coo_sparse":
            found[key] = tf.SparseTensor(*parts)
        elif encoding == "composite_tensor":
            found[key] = from_components(_type_spec(info), parts)
        else:
            found[key] = parts[0]
    return found


def names_of(info: Any) -> List[str]:
    """The names of the tensors that a TensorInfo consists of."""
    encoding = _encoding(info)
    if encoding == "coo_sparse":
        sparse = info.coo_sparse
        return [
            sparse.indices_tensor_name,
            sparse.values_tensor_name,
            sparse.dense_shape_tensor_name,
        ]
    if encoding == "composite_tensor":
        return [part.name for part in info.composite_tensor.components]
    return [info.name]


def _encoding(info: Any) -> str:
    encoding = info.WhichOneof("encoding")
    if encoding is None:
        raise CorruptModuleError(
            "A signature does not say which tensor one of its inputs or outputs is. "
            "Export the module again. Received: {!r}".format(info)
        )
    return str(encoding)
