"""Sorted string tables: the file format of a checkpoint's index.

The format is that of LevelDB (its ``doc/table_format.md``), of which TensorFlow
keeps a copy in ``tensorflow/core/lib/io``: blocks of sorted entries, then a block
without use here ("metaindex"), an index block that holds the place of each, and a
footer of 48 bytes that holds the place of these two. A block ends in one byte that
says whether it is compressed, and a checksum. Checkpoints are written
uncompressed; Snappy, the format's default, is read all the same.
"""

from __future__ import annotations

import struct
from typing import Iterable, Iterator, List, Tuple

from hub_compat._parsing.snappy import decompress
from hub_compat._parsing.varint import Damage, put_varint, varint
from hub_compat.errors import CorruptModuleError

from .crc32c import crc32c, mask

__all__ = ["read_table", "write_table"]

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_PLAIN, _SNAPPY = 0, 1
# A reader reads and checks one block to find one key.
_BLOCK_BYTES = 32 * 1024
# So many entries share the beginnings of their keys.
_RESTART_INTERVAL = 16


def read_table(data: bytes, name: str) -> List[Tuple[bytes, bytes]]:
    """Returns the entries of a table, sorted by key.

    Args:
      data: the content of the file.
      name: what error messages call it.

    Raises:
      CorruptModuleError: it is no such table, or damaged.
    """
    try:
        return _read(data)
    except (Damage, IndexError, struct.error) as error:
        raise CorruptModuleError(
            "{} is damaged or incomplete: {}. Download or export the module again. "
            "Received: {} bytes".format(name, error, len(data))
        ) from error


# The file, from its first byte to its last:
#
#     data blocks     entries; each key shares its beginning with the one before,
#                     but for every 16th (a restart)
#     metaindex       empty
#     index block     the last key of each data block -> its offset and size
#     footer          places of the two blocks above, padding, magic number: 48 bytes
#
# Blocks end in a byte for the compression and a masked CRC-32C of both.
def write_table(items: Iterable[Tuple[bytes, bytes]]) -> bytes:
    """Returns a table with these entries, which must be sorted by key."""
    file = bytearray()
    blocks = _BlockBuilder(1)
    block = _BlockBuilder(_RESTART_INTERVAL)
    for key, value in items:
        block.add(key, value)
        if block.size >= _BLOCK_BYTES:
            blocks.add(key, _append_block(file, block))
            block = _BlockBuilder(_RESTART_INTERVAL)
    if block.size:
        blocks.add(block.last_key, _append_block(file, block))
    footer = _append_block(file, _BlockBuilder(1)) + _append_block(file, blocks)
    file += footer.ljust(_FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", _MAGIC)
    return bytes(file)


# From the end to the beginning: only the footer is at a known place.
def _read(data: bytes) -> List[Tuple[bytes, bytes]]:
    if len(data) < _FOOTER_BYTES:
        raise Damage("it is shorter than the footer of {} bytes".format(_FOOTER_BYTES))
    (magic,) = struct.unpack_from("<Q", data, len(data) - 8)
    if magic != _MAGIC:
        raise Damage("it does not end in the magic number of a table")
    footer = data[-_FOOTER_BYTES:-8]
    offset, size, position = _place(footer, 0)
    _block(data, offset, size)
    offset, size, _ = _place(footer, position)
    items: List[Tuple[bytes, bytes]] = []
    previous = None
    for last_key, value in _entries(_block(data, offset, size)):
        offset, size, _ = _place(value, 0)
        for item in _entries(_block(data, offset, size)):
            key = item[0]
            if previous is not None and key <= previous:
                raise Damage("its keys are not sorted")
            previous = key
            items.append(item)
        if previous is None or previous > last_key:
            raise Damage("its index and its blocks do not match")
    return items


def _place(data: bytes, position: int) -> Tuple[int, int, int]:
    """Decodes the offset and the size of a block; returns what follows, too."""
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return offset, size, position


def _block(data: bytes, offset: int, size: int) -> bytes:
    """Returns the content of a block, after a look at its checksum."""
    end = offset + size
    if end + _TRAILER_BYTES > len(data) - _FOOTER_BYTES:
        raise Damage("it ends before its block at byte {}".format(offset))
    compression, checksum = struct.unpack_from("<BI", data, end)
    if mask(crc32c(memoryview(data)[offset : end + 1])) != checksum:
        raise Damage("the checksum of the block at byte {} is wrong".format(offset))
    if compression == _PLAIN:
        return data[offset:end]
    if compression == _SNAPPY:
        return decompress(data[offset:end])
    raise Damage(
        "the block at byte {} is compressed in an unknown way, {} (known: 0, none; 1, "
        "Snappy)".format(offset, compression)
    )


def _entries(block: bytes) -> Iterator[Tuple[bytes, bytes]]:
    """Walks the entries of a block."""
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    limit = len(block) - 4 * (restarts + 1)
    if limit < 0:
        raise Damage("a block is shorter than its table of restarts")
    position = 0
    key = b""
    while position < limit:
        shared = block[position]
        added = block[position + 1]
        size = block[position + 2]
        if shared < 128 and added < 128 and size < 128:
            position += 3
        else:
            shared, position = varint(block, position)
            added, position = varint(block, position)
            size, position = varint(block, position)
        middle = position + added
        end = middle + size
        if shared > len(key) or end > limit:
            raise Damage("an entry is longer than its block")
        key = key[:shared] + block[position:middle]
        yield key, block[middle:end]
        position = end


class _BlockBuilder:
    """A block in the making."""

    def __init__(self, restart_interval: int) -> None:
        self.last_key = b""
        self.size = 0
        self._interval = restart_interval
        self._parts: List[bytes] = []
        self._restarts: List[int] = []
        self._count = 0

    def add(self, key: bytes, value: bytes) -> None:
        if self._count and key <= self.last_key:
            raise AssertionError("unsorted keys", self.last_key, key)
        shared = 0
        if self._count % self._interval:
            shared = _common(self.last_key, key)
        else:
            self._restarts.append(self.size)
        header = put_varint(shared) + put_varint(len(key) - shared)
        part = header + put_varint(len(value)) + key[shared:] + value
        self._parts.append(part)
        self.size += len(part)
        self.last_key = key
        self._count += 1

    def finish(self) -> bytes:
        # Readers demand one restart even of an empty block.
        restarts = self._restarts or [0]
        tail = struct.pack("<{}I".format(len(restarts) + 1), *restarts, len(restarts))
        return b"".join(self._parts) + tail


def _append_block(file: bytearray, block: _BlockBuilder) -> bytes:
    """Appends a block to a file; returns its place, encoded."""
    content = block.finish() + bytes((_PLAIN,))
    place = put_varint(len(file)) + put_varint(len(content) - 1)
    file += content + struct.pack("<I", mask(crc32c(content)))
    return place


def _common(one: bytes, other: bytes) -> int:
    """The length of the common beginning of two byte strings."""
    length = min(len(one), len(other))
    # As integers, whose highest differing bit says where they part.
    difference = int.from_bytes(one[:length], "big") ^ int.from_bytes(
        other[:length], "big"
    )
    return length - (difference.bit_length() + 7) // 8
