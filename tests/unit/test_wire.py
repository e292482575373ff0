"""The protobuf wire reader: what it reads, what it skips, what it refuses."""

from __future__ import annotations

import io
import random
import time
from typing import Any, List

import pytest

from hub_compat._parsing import wire
from hub_compat.errors import CorruptModuleError


def varint(value: int) -> bytes:
    """Encodes an unsigned integer."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """Encodes a varint field; negative values as int64 does."""
    return varint(field << 3) + varint(value & (1 << 64) - 1)


def data(field: int, value: bytes) -> bytes:
    """Encodes a field with a length."""
    return varint(field << 3 | 2) + varint(len(value)) + value


class CountingFile(io.BytesIO):
    """A file that knows which bytes were read from it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.was_read: List[range] = []

    def read(self, amount: Any = -1) -> bytes:
        """Reads, and takes note."""
        start = self.tell()
        result = super().read(amount)
        self.was_read.append(range(start, start + len(result)))
        return result


def fields_of(content: bytes) -> List[wire.Field]:
    """All fields of a message in memory."""
    return list(wire.open_message(content, "test").fields())


def test_every_wire_type_is_read() -> None:
    """Varints, both fixed widths and lengths come with number, value and place."""
    content = (
        number(1, 300)
        + varint(2 << 3 | 1)
        + (2**63 + 5).to_bytes(8, "little")
        + varint(3 << 3 | 5)
        + (7).to_bytes(4, "little")
        + data(4, b"abc")
    )
    found = fields_of(content)
    assert [f.number for f in found] == [1, 2, 3, 4]
    assert [f.value for f in found] == [300, 2**63 + 5, 7, 0]
    message = wire.open_message(content, "test")
    assert message.payload(found[3]) == b"abc"
    assert message.payload(found[3], limit=2) == b"ab"
    assert len(message) == len(content)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2**32, 2**63 - 1, -1, -(2**63)])
def test_integers_are_signed(value: int) -> None:
    """A varint reads back as the int64 that was written."""
    message = wire.open_message(number(1, value), "test")
    (field,) = message.fields()
    assert message.integer(field) == value


def test_large_field_numbers() -> None:
    """Field numbers up to protobuf's maximum have keys of several bytes."""
    assert [f.number for f in fields_of(number(2**29 - 1, 1))] == [2**29 - 1]


def test_an_empty_message_has_no_fields() -> None:
    """No bytes are a valid message."""
    assert fields_of(b"") == []


def test_sub_messages_may_be_walked_in_between() -> None:
    """Walking a sub-message does not disturb the walk of its parent."""
    inner = b"".join(number(1, i) for i in range(5000))
    content = data(1, inner) + number(2, 9) + data(1, inner[:6])
    message = wire.open_message(content, "test")
    seen = []
    for field in message.fields():
        if field.wire_type == wire.BYTES:
            seen.append(sum(f.value for f in message.message(field).fields()))
        else:
            seen.append(field.value)
    assert seen == [sum(range(5000)), 9, 0 + 1 + 2]


def test_skipped_payloads_are_not_read() -> None:
    """Of a large payload that nobody asks for, only the neighbourhood is read."""
    content = number(1, 1) + data(2, bytes(10**6)) + number(3, 3)
    file = CountingFile(content)
    assert [f.number for f in wire.open_message(file, "test").fields()] == [1, 2, 3]
    assert sum(len(r) for r in file.was_read) < 10**5


def test_offsets_beyond_4_gib() -> None:
    """Offsets are Python integers: a payload of 5 GiB is hopped over."""

    class Huge:
        """A virtual file of two fields around five gibibytes of nothing."""

        def __init__(self) -> None:
            self.head = number(1, 1) + varint(2 << 3 | 2) + varint(5 << 30)
            self.tail = data(3, b"end")
            self.position = 0

        def seek(self, offset: int, whence: int = 0) -> int:
            """Moves."""
            total = len(self.head) + (5 << 30) + len(self.tail)
            self.position = total + offset if whence == 2 else offset
            return self.position

        def tell(self) -> int:
            """Where it is."""
            return self.position

        def read(self, amount: int) -> bytes:
            """Returns head, tail or zeros."""
            start, stop = self.position, self.position + amount
            tail = len(self.head) + (5 << 30)
            self.position = stop
            if start >= tail:
                return self.tail[start - tail : stop - tail]
            return self.head[start:stop].ljust(min(stop, tail) - start, b"\0")

    message = wire.open_message(Huge(), "test")
    found = list(message.fields())
    assert [f.number for f in found] == [1, 2, 3]
    assert found[1].end - found[1].start == 5 << 30
    assert message.payload(found[2]) == b"end"


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"\x08", "a varint at byte 1, found the end of the file after 1 bytes"),
        (b"\x08\x80", "the rest of a varint at byte 2"),
        (b"\x80", "the rest of a varint"),
        (b"\x0a\x05abc", "5 bytes of field 1 at byte 2"),
        (b"\x09\x01", "8 bytes of field 1 at byte 1"),
        (b"\x0d\x01\x02\x03", "4 bytes of field 1 at byte 1"),
        (b"\x0b", "found wire type 3"),
        (b"\x0c", "found wire type 4"),
        (b"\x0e", "found wire type 6"),
        (b"\x00\x01", "a field number at byte 0, found the number 0"),
        (b"\x08" + b"\xff" * 10, "a varint of at most 10 bytes"),
        (b"\xff" * 12, "a varint of at most 10 bytes"),
    ],
)
def test_damage_names_offset_and_expectation(content: bytes, expected: str) -> None:
    """Cut, grouped and impossible fields are refused with their place."""
    with pytest.raises(CorruptModuleError) as caught:
        fields_of(content)
    assert expected in str(caught.value)
    assert "test is damaged or incomplete" in str(caught.value)


def test_a_field_must_stay_within_its_message() -> None:
    """A length that leads out of the enclosing message is damage."""
    content = data(1, b"\x0a\x09abc") + data(2, bytes(100))
    message = wire.open_message(content, "test")
    inner = message.message(next(message.fields()))
    with pytest.raises(CorruptModuleError, match="enclosing message at byte 7"):
        list(inner.fields())


def test_a_field_of_another_type_is_damage() -> None:
    """Asking a number for its message, or a message for its number, is refused."""
    message = wire.open_message(number(1, 2) + data(2, b"\xff"), "test")
    first, second = message.fields()
    for ask, field in (
        (message.message, first),
        (message.payload, first),
        (message.text, first),
        (message.integer, second),
        (message.text, second),
    ):
        with pytest.raises(CorruptModuleError):
            ask(field)  # type: ignore[operator]


def test_text_is_bounded() -> None:
    """Damage that makes a name of a gigabyte is not read into memory."""
    message = wire.open_message(data(1, bytes((1 << 20) + 1)), "test")
    with pytest.raises(CorruptModuleError, match="a string of at most"):
        message.text(next(message.fields()))


def test_last_finds_a_trailing_message() -> None:
    """The field that ends a message is found from its end."""
    content = data(1, bytes(10**5)) + data(4, number(1, 134))
    file = CountingFile(content)
    found = wire.open_message(file, "test").last(4)
    assert found is not None
    assert [f.value for f in found.fields()] == [134]
    assert sum(len(r) for r in file.was_read) < 100
    assert wire.open_message(data(1, bytes(100)), "test").last(4) is None
    assert wire.open_message(b"", "test").last(4) is None


def test_random_bytes_raise_nothing_else() -> None:
    """Whatever the bytes, the outcome is fields or a CorruptModuleError."""
    chance = random.Random(7)
    for _ in range(500):
        content = bytes(chance.randrange(256) for _ in range(chance.randrange(60)))
        try:
            fields_of(content)
        except CorruptModuleError:
            pass


def test_a_short_file_is_damage() -> None:
    """A file that shrinks while it is read ends in a CorruptModuleError."""

    class Shrunk(io.BytesIO):
        """Claims more bytes than it has."""

        def tell(self) -> int:
            """Ten bytes too many."""
            return super().tell() + 10

    with pytest.raises(CorruptModuleError, match="10 more bytes"):
        list(wire.open_message(Shrunk(number(1, 1)), "test").fields())


def test_a_hundred_thousand_fields_take_well_under_a_second() -> None:
    """The walk costs some two microseconds per field, not a read each."""
    content = data(1, bytes(200)) * 100000
    start = time.perf_counter()
    count = sum(1 for _ in wire.open_message(content, "test").fields())
    assert count == 100000
    assert time.perf_counter() - start < 2.0
