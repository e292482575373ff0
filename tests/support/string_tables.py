"""Sorted string tables, block by block."""

from __future__ import annotations

import struct

from hub_compat._parsing.varint import put_varint
from hub_compat.converters.checkpoint.crc32c import crc32c, mask


def table_of(block, compression=0, key=b"\xff"):
    """A table of one block with this content."""

    def place(offset, content):
        return put_varint(offset) + put_varint(len(content))

    def trailer(content, kind=0):
        checksum = mask(crc32c(content + bytes((kind,))))
        return bytes((kind,)) + struct.pack("<I", checksum)

    value = place(0, block)
    index = bytes((0, len(key), len(value))) + key + value + struct.pack("<2I", 0, 1)
    file = block + trailer(block, compression)
    footer = place(len(file), index) * 2
    file += index + trailer(index)
    # The index block stands in for the metaindex, too.
    return file + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


NO_RESTARTS = struct.pack("<2I", 0, 1)
