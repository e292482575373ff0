"""The dtypes of TensorFlow, as tensorflow/core/framework/types.proto numbers them."""

from __future__ import annotations

__all__ = [
    "DT_BOOL",
    "DT_DOUBLE",
    "DT_FLOAT",
    "DT_INT32",
    "DT_INT64",
    "DT_RESOURCE",
    "DT_STRING",
    "DT_UINT8",
    "DT_VARIANT",
    "REF_OFFSET",
]


DT_FLOAT = 1
DT_DOUBLE = 2
DT_INT32 = 3
DT_UINT8 = 4
DT_STRING = 7
DT_INT64 = 9
DT_BOOL = 10
DT_RESOURCE = 20
DT_VARIANT = 21
# DataType: the reference type of T is T + 100 (types.proto).
REF_OFFSET = 100
