"""The dtypes of TensorFlow, as tensorflow/core/framework/types.proto numbers them.

An ``IntEnum``: protos take and give plain ints, which are equal to its members.
"""

from __future__ import annotations

import enum

__all__ = [
    "DT_BFLOAT16",
    "DT_BOOL",
    "DT_COMPLEX64",
    "DT_COMPLEX128",
    "DT_DOUBLE",
    "DT_FLOAT",
    "DT_HALF",
    "DT_INT8",
    "DT_INT16",
    "DT_INT32",
    "DT_INT64",
    "DT_QINT8",
    "DT_QINT16",
    "DT_QINT32",
    "DT_QUINT8",
    "DT_QUINT16",
    "DT_RESOURCE",
    "DT_STRING",
    "DT_UINT8",
    "DT_UINT16",
    "DT_UINT32",
    "DT_UINT64",
    "DT_VARIANT",
    "FLOATING",
    "REF_OFFSET",
    "DataType",
]


class DataType(enum.IntEnum):
    """One dtype."""

    FLOAT = 1
    DOUBLE = 2
    INT32 = 3
    UINT8 = 4
    INT16 = 5
    INT8 = 6
    STRING = 7
    COMPLEX64 = 8
    INT64 = 9
    BOOL = 10
    QINT8 = 11
    QUINT8 = 12
    QINT32 = 13
    BFLOAT16 = 14
    QINT16 = 15
    QUINT16 = 16
    UINT16 = 17
    COMPLEX128 = 18
    HALF = 19
    RESOURCE = 20
    VARIANT = 21
    UINT32 = 22
    UINT64 = 23


# As TensorFlow and its protos call them.
DT_FLOAT = DataType.FLOAT
DT_DOUBLE = DataType.DOUBLE
DT_INT32 = DataType.INT32
DT_UINT8 = DataType.UINT8
DT_INT16 = DataType.INT16
DT_INT8 = DataType.INT8
DT_STRING = DataType.STRING
DT_COMPLEX64 = DataType.COMPLEX64
DT_INT64 = DataType.INT64
DT_BOOL = DataType.BOOL
DT_QINT8 = DataType.QINT8
DT_QUINT8 = DataType.QUINT8
DT_QINT32 = DataType.QINT32
DT_BFLOAT16 = DataType.BFLOAT16
DT_QINT16 = DataType.QINT16
DT_QUINT16 = DataType.QUINT16
DT_UINT16 = DataType.UINT16
DT_COMPLEX128 = DataType.COMPLEX128
DT_HALF = DataType.HALF
DT_RESOURCE = DataType.RESOURCE
DT_VARIANT = DataType.VARIANT
DT_UINT32 = DataType.UINT32
DT_UINT64 = DataType.UINT64

# Real numbers that have gradients.
FLOATING = frozenset((DT_HALF, DT_BFLOAT16, DT_FLOAT, DT_DOUBLE))
# The reference type of T is T + 100 (types.proto).
REF_OFFSET = 100
