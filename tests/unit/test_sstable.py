"""Tables and their checksums, without TensorFlow."""

from __future__ import annotations

import random
import struct

import pytest
from string_tables import NO_RESTARTS, table_of

from hub_compat._parsing.varint import Damage, put_varint, varint
from hub_compat.converters.checkpoint.crc32c import crc32c
from hub_compat.converters.checkpoint.sstable import read_table, write_table
from hub_compat.errors import CorruptModuleError


def _bytes(count, seed=0):
    return bytes(random.Random(seed).getrandbits(8) for _ in range(count))


def _crc32c_bit_by_bit(data, crc=0):
    state = crc ^ 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    "data,checksum",
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_published_checksums(data, checksum):
    """The test vectors of RFC 3720, and the customary one."""
    assert crc32c(data) == checksum


@pytest.mark.parametrize("count", [1, 2, 1023, 1024, 1025, 1026, 1027, 4099])
def test_checksum_at_every_length(count):
    """The fast way gives what the definition gives."""
    data = _bytes(count)
    assert crc32c(data) == _crc32c_bit_by_bit(data)
    assert crc32c(data, 0x12345678) == _crc32c_bit_by_bit(data, 0x12345678)


@pytest.mark.parametrize("count", [1 << 18, (1 << 18) + 1, 600001])
def test_checksum_in_pieces(count):
    """Piece by piece it is the same as at once."""
    data = _bytes(5000) * (count // 5000 + 1)
    crc = 0
    for start in range(0, count, 777):
        crc = crc32c(data[start : min(start + 777, count)], crc)
    assert crc32c(memoryview(data)[:count]) == crc


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 32, (1 << 64) - 1])
def test_varints(value):
    """Numbers come back, and what follows them is known."""
    data = put_varint(value)
    assert varint(b"x" + data + b"y", 1) == (value, 1 + len(data))


def test_varint_without_an_end():
    """Eleven bytes are too many."""
    with pytest.raises(Damage):
        varint(b"\xff" * 11, 0)


@pytest.mark.parametrize("count", [0, 1, 16, 17, 1000, 20000])
def test_round_trip(count):
    """Tables of one entry to many blocks come back as they were."""
    items = [(b"scope/%06d/kernel" % i, b"%d" % i * (i % 9)) for i in range(count)]
    assert read_table(write_table(items), "t") == items


def test_keys_and_values_of_any_bytes():
    """Empty, binary and long keys and values."""
    items = [
        (b"", b""),
        (b"\x00", b"x" * 200),
        (b"\x00\x00", bytes(100000)),
        (b"a", b"1"),
        (b"a" * 300, b"2"),
        (b"a" * 300 + b"\xff" * 300, b""),
    ]
    assert read_table(write_table(items), "t") == items


def test_unsorted_keys_are_refused():
    """The writer does not write what no reader finds."""
    with pytest.raises(AssertionError):
        write_table([(b"b", b""), (b"a", b"")])
    with pytest.raises(AssertionError):
        write_table([(b"a", b""), (b"a", b"")])


def test_keys_share_their_beginnings():
    """An entry written by hand, as the format describes it."""
    block = b"\x00\x03\x01abc1" + b"\x02\x02\x02de22" + NO_RESTARTS
    assert read_table(table_of(block), "t") == [(b"abc", b"1"), (b"abde", b"22")]


@pytest.mark.parametrize(
    "compressed",
    [
        b"",
        b"\xff\xff\xff",
        # Ten bytes are promised: a copy from nowhere, from before the beginning,
        # from a place that is cut off.
        b"\x0a" + b"\x00a" + b"\x01\x00",
        b"\x0a" + b"\x00a" + b"\x01\x02",
        b"\x0a" + b"\x00a" + b"\x01",
        # A literal that is cut off, its length that is, one byte too many or few.
        b"\x0a" + b"\x24abcde",
        b"\x0a" + b"\xf4\x01",
        b"\x0a" + b"\x28abcdefghijk",
        b"\x0a" + b"\x20abcdefghi",
    ],
)
def test_snappy_that_cannot_be(compressed):
    """Compressed blocks with a right checksum may be nonsense all the same."""
    with pytest.raises(CorruptModuleError):
        read_table(table_of(compressed, 1), "t")


def test_snappy():
    """Literals and copies of every kind, one of them into itself."""
    value = b"abcd" * 20 + b"x" * 100 + b"abcdabcd"
    plain = b"\x00\x01" + put_varint(len(value)) + b"k" + value + NO_RESTARTS
    head = b"\x00\x01\xbc\x01kabcd"
    assert plain.startswith(head)
    compressed = b"".join(
        [
            put_varint(len(plain)),
            bytes(((len(head) - 1) << 2,)) + head,
            # 60 + 16 bytes from four bytes back: they overlap themselves.
            bytes(((60 - 1) << 2 | 2,)) + b"\x04\x00",
            bytes(((16 - 1) << 2 | 3,)) + b"\x04\x00\x00\x00",
            # A literal whose length is in a byte of its own, and one in two.
            b"\xf0" + bytes((60 - 1,)) + b"x" * 60,
            b"\xf4" + struct.pack("<H", 40 - 1) + b"x" * 40,
            # Eight bytes from 108 back: the offset's high bits are in the tag.
            bytes(((8 - 4) << 2 | 1 | (108 >> 8) << 5, 108 & 255)),
            bytes(((len(NO_RESTARTS) - 1) << 2,)) + NO_RESTARTS,
        ]
    )
    assert read_table(table_of(compressed, 1), "t") == [(b"k", value)]


def test_unknown_compression():
    """The error says what is known."""
    with pytest.raises(CorruptModuleError, match="Snappy"):
        read_table(table_of(b"\x00\x01\x01ab" + NO_RESTARTS, 2), "t")


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x00",
        struct.pack("<I", 5),
        b"\x03\x01\x01ab" + NO_RESTARTS,
        b"\x00\x7f\x01ab" + NO_RESTARTS,
        b"\x00\x01\x7fab" + NO_RESTARTS,
        b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01ab" + NO_RESTARTS,
        b"\x00\x01\x01b1\x00\x01\x01a2" + NO_RESTARTS,
        b"\x00\x01\x01a1\x01\x00\x012" + NO_RESTARTS,
        NO_RESTARTS,
    ],
)
def test_blocks_that_cannot_be(block):
    """A block with a right checksum may be nonsense all the same."""
    with pytest.raises(CorruptModuleError):
        read_table(table_of(block), "t")


def test_last_key_of_the_index_is_too_small():
    """The index block must fit the blocks."""
    with pytest.raises(CorruptModuleError, match="do not match"):
        read_table(table_of(b"\x00\x01\x01b1" + NO_RESTARTS, key=b"a"), "t")


def test_every_byte_damaged():
    """Whatever byte changes: the same entries, or an error that names the file."""
    items = [(b"k%03d" % i, _bytes(i, i)) for i in range(40)]
    data = write_table(items)
    errors = []
    for position in range(len(data)):
        for flip in (0x01, 0x80):
            damaged = bytearray(data)
            damaged[position] ^= flip
            try:
                assert read_table(bytes(damaged), "/m/x.index") == items
            except CorruptModuleError as error:
                errors.append(str(error))
    # What may change is the padding in the footer.
    assert len(errors) >= 2 * (len(data) - 40)
    assert all("/m/x.index" in error for error in errors)


def test_every_truncation():
    """A file that was cut off is refused, wherever."""
    data = write_table([(b"k%03d" % i, b"v" * i) for i in range(40)])
    for size in range(len(data)):
        with pytest.raises(CorruptModuleError):
            read_table(data[:size], "t")
