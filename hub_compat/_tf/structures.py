"""TypeSpecs: how files hold them, what is private in old versions, their values."""

from __future__ import annotations

from typing import Any, List, Sequence

from hub_compat._tf import struct_pb2, tf
from hub_compat.errors import UnknownOpError

__all__ = [
    "components_of",
    "decode_type_spec",
    "dtype_of",
    "from_components",
    "shape_of",
    "type_spec_of",
]


def decode_type_spec(proto: Any) -> Any:
    """The TypeSpec that a TypeSpecProto stands for.

    Private: nested_structure_coder, with a class in 1.15 and a function from 2.10 on.

    Raises:
      UnknownOpError: this TensorFlow has no such type.
    """
    value = struct_pb2.StructuredValue()
    value.type_spec_value.CopyFrom(proto)
    try:
        from tensorflow.python.saved_model import nested_structure_coder as coder

        decode = getattr(coder, "decode_proto", None)
        if decode is None:
            decode = coder.StructureCoder().decode_proto
        return decode(value)
    except Exception as error:  # each version has its own for an unknown type
        raise UnknownOpError(
            "A signature has a value of a type that this TensorFlow does not know. "
            "Import the package that has the type, or use a newer TensorFlow. "
            "Received: {!r}".format(proto.type_spec_class_name or proto.type_spec_class)
        ) from error


def dtype_of(spec: Any) -> Any:
    """The DType of a TypeSpec's elements; private in RaggedTensorSpec before 2.3."""
    return _either(spec, "dtype")


def shape_of(spec: Any) -> Any:
    """The TensorShape of a TypeSpec; private in RaggedTensorSpec before 2.3."""
    return _either(spec, "shape")


def _either(spec: Any, name: str) -> Any:
    for each in (name, "_" + name):
        if hasattr(spec, each):
            return getattr(spec, each)
    raise ValueError(
        "A value of this type has no {}. Received: {!r}".format(name, spec)
    )


def type_spec_of(value: Any) -> Any:
    """The TypeSpec of a composite tensor; None for any other value.

    Private: ``_type_spec`` (1.15 to 2.21); ``__tf_type_spec__`` is public in 2.x, for
    types of libraries.
    """
    public = getattr(value, "__tf_type_spec__", None)
    return public() if public is not None else getattr(value, "_type_spec", None)


def components_of(value: Any) -> List[Any]:
    """The tensors that a tensor or a composite tensor, or its TypeSpec, consists of."""
    flat: List[Any] = tf.nest.flatten(value, expand_composites=True)
    return flat


def from_components(spec: Any, components: Sequence[Any]) -> Any:
    """The value of a TypeSpec that consists of these tensors."""
    return tf.nest.pack_sequence_as(spec, list(components), expand_composites=True)
