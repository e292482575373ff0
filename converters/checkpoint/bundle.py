"""The records in the index of a checkpoint, as bytes and as values.

They are the protos of TensorFlow's ``tensor_bundle.proto`` and the keys of
``saved_tensor_slice_util.h``. The protos are coded here: their classes are no public
part of TensorFlow, and this way reading an index needs no TensorFlow.
"""

from __future__ import annotations

import functools
from typing import Any, Iterable, Iterator, NamedTuple, Tuple

from hub_compat._parsing.varint import Damage, put_varint, varint

__all__ = [
    "HEADER_KEY",
    "VERSION",
    "Extents",
    "TensorEntry",
    "check_entry",
    "count_elements",
    "decode_entry",
    "decode_header",
    "decode_shape",
    "decode_slice",
    "encode_entry",
    "encode_header",
    "encode_key",
    "fields_of",
    "slice_key",
]

# (offset, length) for each dimension. In a list of slices a length of -1, with an
# offset of 0, is all of a dimension.
Extents = Tuple[Tuple[int, int], ...]

HEADER_KEY = b""
# Of the format; it has had no other.
VERSION = 1
_MAX_SHARDS = 99999
_MAX_RANK = 254
# Of a name in ordered code, which ends in 00 01.
_ESCAPES = {0x00: b"\x00\xff", 0xFF: b"\xff\x00"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Bytes of an element by DataType (types.proto of TensorFlow 2.21).
_WIDTHS = {
    **dict.fromkeys((4, 6, 10, 11, 12, 24, 25, 26, 27, 28), 1),
    **dict.fromkeys((5, 14, 15, 16, 17, 19), 2),
    **dict.fromkeys((1, 3, 13, 22), 4),
    **dict.fromkeys((2, 8, 9, 23), 8),
    18: 16,
}
# Strings and variants.
_SERIALIZED = (7, 21)
# What later versions of TensorFlow have, in a byte or less.
_PACKED = range(29, 64)


class TensorEntry(NamedTuple):
    """One entry of the index.

    Attributes:
      dtype: a ``DataType``.
      shape: of the whole tensor.
      shard_id: number of the shard that holds the bytes.
      offset: where in the shard they begin.
      size: how many bytes.
      crc32c: their checksum, masked.
      slices: of a partitioned tensor, its slices, as stored; its bytes are not at
        ``offset`` but elsewhere, see ``CheckpointIndex.pieces``.
    """

    dtype: int
    shape: Tuple[int, ...]
    shard_id: int = 0
    offset: int = 0
    size: int = 0
    crc32c: int = 0
    slices: Tuple[Extents, ...] = ()


def count_elements(sizes: Iterable[int]) -> int:
    """Returns the product of sizes, 1 for a scalar's."""
    product = 1
    for size in sizes:
        product *= size
    return product


def check_entry(name: str, entry: TensorEntry) -> None:
    """Refuses an entry that TensorFlow would not write.

    Its own reader ends the process over some of them: it trusts the shape, and
    allocates what that says before it compares.

    Raises:
      Damage: dtype, shape and size do not go together.
    """
    if entry.dtype in _WIDTHS:
        width = _WIDTHS[entry.dtype]
    elif entry.dtype in _SERIALIZED or entry.dtype in _PACKED:
        width = 0
    else:
        raise Damage("{!r} is of an unknown dtype, {}".format(name, entry.dtype))
    elements = 1
    for size in entry.shape:
        elements *= size
        if elements >> 63:
            raise Damage("{!r} has the shape {}".format(name, list(entry.shape)[:10]))
    if entry.slices:
        # The bytes are those of the slices.
        return
    if width and elements * width != entry.size:
        raise Damage(
            "{!r} has {} bytes, which are not those of the shape {}".format(
                name, entry.size, list(entry.shape)[:10]
            )
        )
    # A string takes a byte for its length, at least; other dtypes pack four in one.
    least = elements if entry.dtype in _SERIALIZED else -(-elements // 4)
    if not width and least > entry.size:
        raise Damage(
            "{!r} has {} bytes, too few for the shape {}".format(
                name, entry.size, list(entry.shape)[:10]
            )
        )


# For the slice [(0, 2)] of "w", in pieces:
#
#     00        the number 0, so that all slices sort before all names
#     77 00 01  "w", and the end of a string
#     01 01     the rank: one byte, 1
#     80 82     offset 0 and length 2: a leading one for each byte, then the value
#
# The bytes must be TensorFlow's exactly, as its reader looks slices up by them.
def slice_key(key: str, stored: Extents) -> bytes:
    """Returns the key under which the index keeps a slice.

    The parts are in TensorFlow's "ordered code", whose bytes sort as the values do:
    the number 0, the name, the rank, offset and length of each dimension.
    """
    name = b"".join(_ESCAPES.get(b, bytes((b,))) for b in encode_key(key))
    # A number is its length in bytes and these; 0 has none.
    rank = bytes((1, len(stored))) if stored else b"\x00"
    numbers = b"".join(_ordered(n) for extent in stored for n in extent)
    return b"\x00" + name + b"\x00\x01" + rank + numbers


def encode_key(key: str) -> bytes:
    """Returns the name of a tensor as the index holds it."""
    return key.encode("utf-8", "surrogateescape")


def encode_header(num_shards: int, big_endian: bool) -> bytes:
    """Returns a serialized BundleHeaderProto."""
    header = b"\x08" + put_varint(num_shards)
    if big_endian:
        header += b"\x10\x01"
    return header + b"\x1a\x02\x08" + put_varint(VERSION)


# Fields in the order of their numbers, zeros omitted, as protobuf writes them: the
# bytes of a conversion depend on it.
def encode_entry(entry: TensorEntry) -> bytes:
    """Returns a serialized BundleEntryProto, as TensorFlow would write it."""
    data = _number(1, entry.dtype) + _encode_shape(entry.shape)
    data += _number(3, entry.shard_id) + _number(4, entry.offset)
    data += _number(5, entry.size)
    if entry.crc32c:
        data += b"\x35" + entry.crc32c.to_bytes(4, "little")
    for stored in entry.slices:
        data += _message(7, b"".join(_message(1, _extent(*e)) for e in stored))
    return data


# Models have many tensors of few shapes.
@functools.lru_cache(maxsize=1024)
def _encode_shape(shape: Tuple[int, ...]) -> bytes:
    return _message(2, b"".join(_message(2, _number(1, size)) for size in shape))


def _extent(offset: int, length: int) -> bytes:
    # A length is written where it is 0, too: its absence means all.
    return b"" if length < 0 else _number(1, offset) + b"\x10" + put_varint(length)


def _number(field: int, value: int) -> bytes:
    return bytes((field << 3,)) + put_varint(value) if value else b""


def _message(field: int, data: bytes) -> bytes:
    return bytes((field << 3 | _BYTES,)) + put_varint(len(data)) + data


# Examples:
#
#     0 -> 80,  2 -> 82,  63 -> bf       one byte, seven bits: one for the sign
#     64 -> c0 40                        two leading ones: two bytes
#     -1 -> 7f                           inverted, so that it sorts before 0
def _ordered(value: int) -> bytes:
    """A signed number in ordered code.

    As many leading ones as it takes bytes, then a zero, then the value in two's
    complement, all inverted for a negative one; seven bits of payload in a byte.
    """
    length = (~value if value < 0 else value).bit_length() // 7 + 1
    ones = ((1 << length) - 1) << 7 * length
    return (value & (1 << 8 * length) - 1 ^ ones).to_bytes(length, "big")


def fields_of(data: bytes) -> Iterator[Tuple[int, Any]]:
    """Walks the fields of a message: numbers, and bytes for what has a length."""
    for tag, value in _tagged(data):
        yield tag >> 3, value


def _tagged(data: bytes) -> Iterator[Tuple[int, Any]]:
    """As ``fields_of``, with the wire type in the lowest three bits of the number."""
    position, limit = 0, len(data)
    while position < limit:
        tag = data[position]
        position += 1
        if tag > 127:
            tag, position = varint(data, position - 1)
        if not 8 <= tag < 1 << 32:
            # Readers of protos end the process over it.
            raise Damage("a message has a field of number {}".format(tag >> 3))
        wire_type = tag & 7
        if wire_type == _VARINT:
            value = data[position]
            position += 1
            if value > 127:
                value, position = varint(data, position - 1)
            yield tag, value
            continue
        if wire_type == _BYTES:
            size, position = varint(data, position)
        elif wire_type == _FIXED32 or wire_type == _FIXED64:
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise Damage("a message has a field of wire type {}".format(wire_type))
        end = position + size
        if end > limit:
            raise Damage("a message ends in the middle of a field")
        payload = data[position:end]
        position = end
        if wire_type == _BYTES:
            yield tag, payload
        else:
            yield tag, int.from_bytes(payload, "little")


# The fields of the messages, by their tags: a reader of protos passes over one that
# has another wire type.
_MESSAGES = {
    "header": (0x08, 0x10, 0x1A),
    "version": (0x08, 0x10),
    "entry": (0x08, 0x12, 0x18, 0x20, 0x28, 0x35, 0x3A),
    "shape": (0x12, 0x18),
    "dimension": (0x08, 0x12),
    "slice": (0x0A,),
    "extent": (0x08, 0x10),
}
_WIRE_TYPES = {
    kind: {tag >> 3: tag for tag in tags} for kind, tags in _MESSAGES.items()
}


# A field of a later TensorFlow is passed over; a known field of another wire type is
# damage. A reader of protos would take that one for unknown and go on with zeros.
def _known(data: bytes, kind: str) -> Iterator[Tuple[int, Any]]:
    """The fields that a message of some kind is known to have."""
    tags = _WIRE_TYPES[kind]
    for tag, value in _tagged(data):
        known = tags.get(tag >> 3)
        if known == tag:
            yield tag >> 3, value
        elif known is not None:
            raise Damage("a field of a message is of another type")


def _size(value: int) -> int:
    """A number that proto's int64 holds and that cannot be negative."""
    if value >> 63:
        raise Damage("a size is negative")
    return value


def decode_header(data: bytes) -> Tuple[int, bool, int]:
    """Decodes a BundleHeaderProto.

    Returns:
      The count of shards, whether numbers are big-endian, and the version of the
      format that a reader must know.

    Raises:
      Damage, IndexError: it is none.
    """
    if not data:
        raise Damage("it is a table, but has no header entry of a checkpoint")
    num_shards, endianness, needs = 0, 0, 0
    for number, value in _known(data, "header"):
        if number == 1:
            num_shards = _size(value)
        elif number == 2:
            endianness = _size(value)
        elif number == 3:
            for field, content in _known(value, "version"):
                if field == 2:
                    needs = _size(content)
    if not 0 < num_shards <= _MAX_SHARDS or endianness > 1:
        raise Damage("its header is not that of a checkpoint")
    return num_shards, bool(endianness), needs


def decode_entry(data: bytes) -> TensorEntry:
    """Decodes a BundleEntryProto.

    Raises:
      Damage, IndexError: it is none.
    """
    numbers = [0] * 8
    shape: Tuple[int, ...] = ()
    slices = []
    for number, value in _known(data, "entry"):
        if number == 2:
            shape += decode_shape(value)
        elif number == 7:
            slices.append(decode_slice(value))
        else:
            numbers[number] = _size(value)
    _, dtype, _, shard_id, offset, size, crc, _ = numbers
    if any(len(stored) != len(shape) for stored in slices):
        raise Damage("a slice has not the rank of its tensor")
    return TensorEntry(dtype, shape, shard_id, offset, size, crc, tuple(slices))


def _check_text(data: bytes) -> None:
    """Refuses a string that readers of protos refuse."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damage("a name is not UTF-8 text") from error


@functools.lru_cache(maxsize=1024)
def decode_shape(data: bytes) -> Tuple[int, ...]:
    """Decodes a TensorShapeProto."""
    sizes = []
    for number, value in _known(data, "shape"):
        if number == 2:
            size = 0
            for field, content in _known(value, "dimension"):
                if field == 1:
                    size = _size(content)
                else:
                    _check_text(content)
            sizes.append(size)
        elif value:
            raise Damage("a tensor has no shape")
    if len(sizes) > _MAX_RANK:
        raise Damage("a tensor has {} dimensions".format(len(sizes)))
    return tuple(sizes)


def decode_slice(data: bytes) -> Extents:
    """Decodes a TensorSliceProto."""
    extents = []
    for _, value in _known(data, "slice"):
        offset, length = 0, -1
        for field, content in _known(value, "extent"):
            if field == 1:
                offset = _size(content)
            else:
                length = _size(content)
        extents.append((offset, length) if length >= 0 else (0, -1))
    return tuple(extents)
