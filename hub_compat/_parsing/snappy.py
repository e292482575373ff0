"""Snappy, the compression of sorted string tables and of some records."""

from __future__ import annotations

from hub_compat._parsing.varint import Damage, varint

__all__ = ["decompress"]


def decompress(data: bytes) -> bytes:
    """Decompresses Snappy (its ``format_description.txt``)."""
    total, position = varint(data, 0)
    out = bytearray()
    while position < len(data):
        tag = data[position]
        kind = tag & 3
        position += 1
        length = (tag >> 2) + 1
        if kind == 0:
            if length > 60:
                width = length - 60
                length = int.from_bytes(data[position : position + width], "little") + 1
                position += width
            out += data[position : position + length]
            position += length
        else:
            if kind == 1:
                length = (tag >> 2 & 7) + 4
                back = tag >> 5 << 8 | data[position]
                position += 1
            else:
                width = 2 if kind == 2 else 4
                back = int.from_bytes(data[position : position + width], "little")
                position += width
            if not 0 < back <= len(out):
                raise Damage("a compressed block refers to bytes that are not there")
            # A copy that reaches into itself repeats what it began with.
            piece = bytes(out[-back:][:length])
            out += (piece * (length // back + 1))[:length]
        if len(out) > total:
            break
    if len(out) != total:
        raise Damage("a compressed block has not the size that it says")
    return bytes(out)
