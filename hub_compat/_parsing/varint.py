"""Varints, the integers of protobuf and of sorted string tables."""

from __future__ import annotations

from typing import Tuple

__all__ = ["Damage", "put_varint", "varint"]


class Damage(ValueError):
    """Bytes are not what the format demands; whoever knows the file says which."""


def varint(data: bytes, position: int) -> Tuple[int, int]:
    """Decodes an unsigned number of 64 bits; returns it and what follows it.

    Raises:
      Damage: it is longer than ten bytes.
      IndexError: the data ends before it does.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise Damage("a number is longer than ten bytes")


def put_varint(value: int) -> bytes:
    """Encodes an unsigned number."""
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
