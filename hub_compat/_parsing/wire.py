"""Reads protobuf messages off a file without TensorFlow or the protobuf package.

A saved_model.pb can be a gigabyte, nearly all of it graph. The reader walks the
fields of a message and *seeks* over every payload that nobody asks for, so that
time and memory depend on the number of fields met, never on the size of the file.

The encoding is that of protobuf's "Encoding" guide: a field is a varint
``number << 3 | wire_type`` and a value: 0 varint, 1 eight bytes, 2 a varint length
and that many bytes, 5 four bytes. Wire types 3 and 4 (groups) occur in no message
of TensorFlow and are refused as damage.
"""

from __future__ import annotations

import io
import struct
from typing import IO, Any, Iterator, NamedTuple, Optional, Tuple, Union

from hub_compat.errors import CorruptModuleError

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Field", "Message", "open_message"]

VARINT = 0
FIXED64 = 1
BYTES = 2
FIXED32 = 5

# A field's header and a varint value take at most ten bytes each.
_HEADER_BYTES = 20
# Walking small fields reads on in large steps; after a jump over a large payload
# only a little is read, because the next thing may well be another jump.
_READ_ON_BYTES = 64 * 1024
_JUMP_BYTES = 4 * 1024
# A tag or a name. The bound keeps damage from being read into memory.
_MAX_TEXT_BYTES = 1 << 20
_MAX_FIELD_NUMBER = (1 << 29) - 1


class _Source:
    """A seekable file behind one read-ahead buffer."""

    def __init__(self, file: Any, size: int, name: str) -> None:
        self.name = name
        self.size = size
        self._file = file
        self._buffer = b""
        self._start = 0

    def window(self, position: int, wanted: int) -> Tuple[bytes, int]:
        """Returns a buffer and the file offset of its first byte.

        The buffer holds ``position`` up to ``position + wanted``, or up to the end
        of the file; usually more.
        """
        end = self._start + len(self._buffer)
        if not (self._start <= position and position + wanted <= end):
            near = 0 <= position - end + _JUMP_BYTES <= 2 * _JUMP_BYTES
            amount = max(wanted, _READ_ON_BYTES if near else _JUMP_BYTES)
            self._buffer = self._read(position, min(amount, self.size - position))
            self._start = position
        return self._buffer, self._start

    def read(self, position: int, amount: int) -> bytes:
        """Returns exactly the bytes asked for."""
        end = self._start + len(self._buffer)
        if self._start <= position and position + amount <= end:
            first = position - self._start
            return self._buffer[first : first + amount]
        return self._read(position, amount)

    def _read(self, position: int, amount: int) -> bytes:
        self._file.seek(position)
        data: bytes = self._file.read(amount)
        # A raw file may return less than asked before its end.
        while len(data) < amount:
            more = self._file.read(amount - len(data))
            if not more:
                raise self.damaged(
                    position + len(data),
                    "{} more bytes".format(amount - len(data)),
                    "the end of the file",
                )
            data += more
        return data

    def damaged(self, offset: int, expected: str, found: str) -> CorruptModuleError:
        return CorruptModuleError(
            "{} is damaged or incomplete: expected {} at byte {}, found {}. Download "
            "or export the module again.".format(self.name, expected, offset, found)
        )


class Field(NamedTuple):
    """One field of a message, its payload not read yet if it has a length.

    Attributes:
      number: the field number of the ``.proto`` file.
      wire_type: ``VARINT``, ``FIXED64``, ``BYTES`` or ``FIXED32``.
      value: the integer of a varint (unsigned, 64 bits) or of the four or eight
        little-endian bytes; 0 for ``BYTES``.
      start: file offset of the payload's first byte.
      end: file offset after the payload's last byte.
    """

    number: int
    wire_type: int
    value: int
    start: int
    end: int


# A message is two offsets. Sub-messages are handed out without a byte read:
#
#     SavedModel  [0, 800 MB)
#       field 2   [12, 800 MB)        a MetaGraphDef; its graph is skipped by one seek
#
# Each length is compared with the end of the message around it before anything follows
# from it. So a damaged file cannot make a reader leave the part that it was given.
class Message:
    """A stretch of a file that holds one message.

    Cheap to make: nothing is read before ``fields()`` is walked.
    """

    def __init__(self, source: _Source, start: int, end: int) -> None:
        self._source = source
        self.start = start
        self.end = end

    def __len__(self) -> int:
        """Size in bytes."""
        return self.end - self.start

    # One loop without calls for the usual field, as a graph has millions of them.
    def fields(self) -> Iterator[Field]:
        """Walks the fields in the order of the file.

        Raises:
          CorruptModuleError: these bytes are not a message; it names the offset
            and what was expected there.
        """
        source = self._source
        position, end = self.start, self.end
        buffer, base = b"", position
        available = position
        while position < end:
            # Sub-messages walked between two yields move the source's window, but
            # the bytes object held here stays what it is.
            if position + _HEADER_BYTES > available:
                wanted = min(_HEADER_BYTES, end - position)
                buffer, base = source.window(position, wanted)
                available = min(base + len(buffer), end)
            limit = available - base
            index = position - base

            key = buffer[index]
            index += 1
            if key > 127:
                key, index = self._varint(buffer, index - 1, limit, base)
            number, wire_type = key >> 3, key & 7
            if not 0 < number <= _MAX_FIELD_NUMBER:
                raise source.damaged(
                    position, "a field number", "the number {}".format(number)
                )

            value = 0
            if wire_type == BYTES or wire_type == VARINT:
                if index >= limit:
                    raise self._cut(base + index, "a varint")
                value = buffer[index]
                index += 1
                if value > 127:
                    value, index = self._varint(buffer, index - 1, limit, base)
                payload = base + index
                if wire_type == BYTES:
                    position = payload + value
                    value = 0
                else:
                    position = payload
            elif wire_type == FIXED64 or wire_type == FIXED32:
                payload = base + index
                width = 8 if wire_type == FIXED64 else 4
                position = payload + width
                if position <= available:
                    (value,) = struct.unpack_from(
                        "<Q" if width == 8 else "<I", buffer, index
                    )
            else:
                raise source.damaged(
                    position,
                    "a field of wire type 0, 1, 2 or 5",
                    "wire type {}".format(wire_type),
                )
            if position > end:
                raise self._cut(
                    payload,
                    "{} bytes of field {}".format(position - payload, number),
                )
            yield Field(number, wire_type, value, payload, position)

    def message(self, field: Field) -> Message:
        """Returns the sub-message that a field holds, unread.

        Raises:
          CorruptModuleError: the field is a number.
        """
        self._expect_bytes(field, "a message")
        return Message(self._source, field.start, field.end)

    def data(self) -> bytes:
        """Reads the whole message, serialized."""
        return self._source.read(self.start, self.end - self.start)

    def payload(self, field: Field, limit: Optional[int] = None) -> bytes:
        """Reads a field's payload.

        Args:
          field: a field of this message.
          limit: read no more than this many bytes of it.

        Raises:
          CorruptModuleError: the field is a number.
        """
        self._expect_bytes(field, "bytes")
        size = field.end - field.start
        if limit is not None:
            size = min(size, limit)
        return self._source.read(field.start, size)

    def text(self, field: Field) -> str:
        """Reads a field's payload as UTF-8.

        Raises:
          CorruptModuleError: the field is a number, not UTF-8, or over 1 MiB.
        """
        if field.end - field.start > _MAX_TEXT_BYTES:
            raise self._source.damaged(
                field.start,
                "a string of at most {} bytes".format(_MAX_TEXT_BYTES),
                "one of {}".format(field.end - field.start),
            )
        data = self.payload(field)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._source.damaged(
                field.start + error.start, "a string in UTF-8", "other bytes"
            ) from error

    def integer(self, field: Field) -> int:
        """Returns a varint as proto's int32, int64 and enum types read it, signed.

        Raises:
          CorruptModuleError: the field is not a varint.
        """
        if field.wire_type != VARINT:
            raise self.damaged(field, "an integer")
        value = field.value
        return value - (1 << 64) if value >> 63 else value

    def last(self, number: int, limit: int = 64) -> Optional[Message]:
        """Guesses the sub-message that ends this message, without a walk to it.

        Serialisers write fields by rising number, so a high-numbered field behind
        100,000 nodes sits within the last bytes. The answer is a guess: the caller
        must check that what it finds is what it looked for.

        Args:
          number: the field number, below 16 (a header of one byte).
          limit: the largest payload looked for, in bytes, below 128.
        """
        first = max(self.start, self.end - limit - 2)
        tail = self._source.read(first, self.end - first)
        header = number << 3 | BYTES
        for index in range(len(tail) - 2, -1, -1):
            if tail[index] == header and tail[index + 1] == len(tail) - index - 2:
                return Message(self._source, first + index + 2, self.end)
        return None

    def damaged(self, field: Field, expected: str) -> CorruptModuleError:
        """Returns the error for a field that is not what it should be."""
        return self._source.damaged(
            field.start,
            "{} in field {}".format(expected, field.number),
            "wire type {}".format(field.wire_type),
        )

    def _expect_bytes(self, field: Field, expected: str) -> None:
        if field.wire_type != BYTES:
            raise self.damaged(field, expected)

    def _varint(
        self, buffer: bytes, index: int, limit: int, base: int
    ) -> Tuple[int, int]:
        """Decodes a varint of more than one byte; returns it and the next index."""
        value = 0
        start = index
        for shift in range(0, 70, 7):
            if index >= limit:
                raise self._cut(base + index, "the rest of a varint")
            byte = buffer[index]
            index += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 0xFFFFFFFFFFFFFFFF, index
        raise self._source.damaged(
            base + start, "a varint of at most 10 bytes", "a longer one"
        )

    def _cut(self, offset: int, expected: str) -> CorruptModuleError:
        found = "the end of the file"
        if self.end < self._source.size:
            found = "the end of the enclosing message at byte {}".format(self.end)
        else:
            found += " after {} bytes".format(self._source.size)
        return self._source.damaged(offset, expected, found)


def open_message(source: Union[bytes, IO[bytes], Any], name: str) -> Message:
    """Returns the message that fills a file or a byte string.

    Args:
      source: bytes, or a binary file with ``seek``, ``tell`` and ``read``, which
        must stay open while the message is walked.
      name: what error messages call it: ``"/m/saved_model.pb"``.
    """
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    source.seek(0, io.SEEK_END)
    size = source.tell()
    return Message(_Source(source, size, name), 0, size)
