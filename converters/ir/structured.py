"""StructuredValues: what signatures and functions say of their arguments."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from hub_compat._tf import struct_pb2

__all__ = [
    "Value",
    "composite_spec",
    "dict_value",
    "none_value",
    "python_value",
    "sparse_spec",
    "tensor_spec",
    "tuple_value",
]


Value = Any  # struct_pb2.StructuredValue


def python_value(value: Any) -> Value:
    """A bool, a string, None, or a list of such, as StructuredValue."""
    encoded = struct_pb2.StructuredValue()
    if value is None:
        encoded.none_value.SetInParent()
    elif isinstance(value, bool):
        encoded.bool_value = value
    elif isinstance(value, str):
        encoded.string_value = value
    elif isinstance(value, list):
        encoded.list_value.SetInParent()
        encoded.list_value.values.extend(python_value(v) for v in value)
    else:
        raise AssertionError(value)
    return encoded


none_value = python_value(None)


def tuple_value(values: Sequence[Value]) -> Value:
    """A tuple of StructuredValues."""
    encoded = struct_pb2.StructuredValue()
    encoded.tuple_value.SetInParent()
    encoded.tuple_value.values.extend(values)
    return encoded


def dict_value(values: Mapping[str, Value]) -> Value:
    """A dict of StructuredValues."""
    encoded = struct_pb2.StructuredValue()
    encoded.dict_value.SetInParent()
    for key, value in values.items():
        encoded.dict_value.fields[key].CopyFrom(value)
    return encoded


def tensor_spec(name: str, dtype: int, shape: Any) -> Value:
    """A tf.TensorSpec."""
    encoded = struct_pb2.StructuredValue()
    encoded.tensor_spec_value.name = name
    encoded.tensor_spec_value.dtype = dtype
    encoded.tensor_spec_value.shape.CopyFrom(shape)
    return encoded


def sparse_spec(dtype: int, shape: Any) -> Value:
    """A tf.SparseTensorSpec; its serialized state is (shape, dtype)."""
    encoded = struct_pb2.StructuredValue()
    spec = encoded.type_spec_value
    spec.type_spec_class = struct_pb2.TypeSpecProto.SPARSE_TENSOR_SPEC
    spec.type_spec_class_name = "SparseTensorSpec"
    state_shape, state_dtype = (
        struct_pb2.StructuredValue(),
        struct_pb2.StructuredValue(),
    )
    state_shape.tensor_shape_value.CopyFrom(shape)
    state_dtype.tensor_dtype_value = dtype
    spec.type_state.CopyFrom(tuple_value([state_shape, state_dtype]))
    return encoded


def composite_spec(type_spec: Any) -> Value:
    """A TypeSpecProto, as a TensorInfo holds it."""
    encoded = struct_pb2.StructuredValue()
    encoded.type_spec_value.CopyFrom(type_spec)
    return encoded
