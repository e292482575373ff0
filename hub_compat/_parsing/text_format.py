"""Reads protobuf's text format as a stream: saved_model.pbtxt without TensorFlow.

Tolerant, because it only looks for a few fields: ``field { }``, ``field: { }``,
``field < >``, ``field: [a, b]``, adjacent strings, escapes, comments and expanded
``Any`` names are understood; whatever is not asked for is skipped by counting
brackets outside of strings. Memory is one read buffer, whatever the file's size.

The grammar is that of protobuf's "Text Format Language Specification".
"""

from __future__ import annotations

import re
from typing import Any, Collection, Iterator, Match, Optional, Tuple, Union

from hub_compat.errors import CorruptModuleError

__all__ = ["TextMessage", "open_text"]

_READ_BYTES = 256 * 1024
# A tag, a version or a name; longer strings are cut, never held in memory.
_STRING_BYTES = 64 * 1024

_BLANK = re.compile(rb"\s+")
_BLANK_OR_SEPARATOR = re.compile(rb"[\s,;]+")
_NAME = re.compile(rb"[A-Za-z0-9_./-]+")
_SCALAR = re.compile(rb"[^\s,;:{}<>\[\]\"'#]+")
_CLOSERS = {b"{": b"}", b"<": b">"}
# A run without brackets and comments; strings that end within the buffer included.
_PLAIN = re.compile(
    rb"(?:[^{}<>\"'#]+"
    rb"|\"[^\"\\\n]*(?:\\.[^\"\\\n]*)*\""
    rb"|'[^'\\\n]*(?:\\.[^'\\\n]*)*')+",
    re.DOTALL,
)
_IN_STRING = {
    b'"': re.compile(rb"[^\"\\\n]*(?:\\.[^\"\\\n]*)*", re.DOTALL),
    b"'": re.compile(rb"[^'\\\n]*(?:\\.[^'\\\n]*)*", re.DOTALL),
}
# Strings and comments. Neither may hold a line end, so text up to a line end holds
# whole ones only.
_QUOTED = re.compile(
    rb"\"[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'|#[^\n]*", re.DOTALL
)
_OPENER = ord("{")
_ROUNDS = 8
_BRACKETS = bytes.maketrans(b"<>", b"{}")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}<>"))
_ESCAPE = re.compile(
    rb"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)",
    re.DOTALL,
)
_LETTERS = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}


class TextMessage:
    """One message of the stream; the innermost unfinished one owns the position."""

    def __init__(self, scanner: _Scanner, closer: bytes) -> None:
        self._scanner = scanner
        self._closer = closer
        self._finished = False
        self._open: Optional[TextMessage] = None

    def fields(
        self, wanted: Collection[str]
    ) -> Iterator[Tuple[str, Union[str, TextMessage]]]:
        """Walks the fields that are wanted, in the order of the file.

        Numbers, enums and strings come as ``str``. A sub-message must be walked
        before the next field is asked for; what is left of it is skipped.

        Raises:
          CorruptModuleError: this is not text format, or it ends too early.
        """
        scanner = self._scanner
        while True:
            opened = scanner.skip_fields(wanted)
            if opened:
                # The lines end within a field of this message, so many levels in.
                scanner.skip_to_closer(opened)
            char = scanner.peek()
            if char == self._closer:
                scanner.take(char)
                self._finished = True
                return
            name = scanner.name()
            if scanner.peek() == b":":
                scanner.take(b":")
            if scanner.peek() == b"[":
                scanner.take(b"[")
                while scanner.peek() != b"]":
                    for value in self._value(name in wanted):
                        yield name, value
                scanner.take(b"]")
            else:
                for value in self._value(name in wanted):
                    yield name, value

    def finish(self) -> None:
        """Skips what is left of the message."""
        if not self._finished:
            self._finished = True
            if self._open is not None:
                self._open.finish()
            self._scanner.skip_to_closer()

    def damaged(self, expected: str) -> CorruptModuleError:
        """Returns the error for something else at the present position."""
        return self._scanner.damaged(expected)

    def _value(self, wanted: bool) -> Iterator[Union[str, TextMessage]]:
        """Passes one value; yields it if it is wanted."""
        scanner = self._scanner
        char = scanner.peek()
        if char in (b"{", b"<"):
            scanner.take(char)
            message = TextMessage(scanner, _CLOSERS[char])
            self._open = message
            if wanted:
                yield message
            message.finish()
            self._open = None
        elif char in (b'"', b"'"):
            text = scanner.string()
            # Adjacent strings are one string, as in C.
            while scanner.peek(separators=False) in (b'"', b"'"):
                text += scanner.string()
            if wanted:
                yield scanner.decode(text)
        else:
            scalar = scanner.match(_SCALAR, "a value")
            if wanted:
                yield scanner.decode(scalar)


class _Scanner:
    """The read buffer and the position in it."""

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self._name = name
        self._buffer = b""
        self._index = 0
        self._offset = 0  # of the buffer's first byte in the file
        # Ends of the buffers in which whole lines were tried.
        self._fields_tried = -1
        self._skip_tried = -1

    def peek(self, separators: bool = True) -> bytes:
        """Passes blanks and comments; returns the next byte, empty at the end."""
        pattern = _BLANK_OR_SEPARATOR if separators else _BLANK
        while True:
            blank = pattern.match(self._buffer, self._index)
            if blank:
                self._index = blank.end()
            if self._index >= len(self._buffer):
                if not self._more():
                    return b""
                continue
            char = self._buffer[self._index : self._index + 1]
            if char != b"#":
                return char
            self._skip_comment()

    def take(self, char: bytes) -> None:
        """Passes the byte that ``peek()`` returned."""
        self._index += len(char)

    def name(self) -> str:
        """Passes a field name; an ``Any`` or extension name keeps its brackets."""
        if self.peek() == b"[":
            self.take(b"[")
            name = self.match(_NAME, "a type name")
            if self.peek() != b"]":
                raise self.damaged("']'")
            self.take(b"]")
            return "[{}]".format(self.decode(name))
        return self.decode(self.match(_NAME, "a field name or a closing bracket"))

    def match(self, pattern: Any, expected: str) -> bytes:
        """Passes a token; it may lie across the end of the buffer."""
        self.peek()
        found = pattern.match(self._buffer, self._index)
        while found and found.end() == len(self._buffer):
            if len(found.group()) > _STRING_BYTES or not self._more():
                break
            found = pattern.match(self._buffer, self._index)
        if not found:
            raise self.damaged(expected)
        self._index = found.end()
        return bytes(found.group())

    def string(self) -> bytes:
        """Passes a quoted string; returns what it means, cut if it is very long."""
        quote = self._buffer[self._index : self._index + 1]
        self._index += 1
        kept = b""
        while True:
            found = _IN_STRING[quote].match(self._buffer, self._index)
            end = found.end() if found else self._index
            if len(kept) < _STRING_BYTES:
                kept += self._buffer[self._index : end][:_STRING_BYTES]
            self._index = end
            following = self._buffer[self._index : self._index + 1]
            if following == quote:
                self._index += 1
                return _ESCAPE.sub(_unescape, kept)
            # Left: the end of the buffer, a backslash whose letter is still to be
            # read, or a line end, which no string may hold.
            if following == b"\n" or not self._more():
                raise self.damaged("the closing quote of a string")

    def skip_fields(self, wanted: Collection[str]) -> int:
        """Passes whole lines of fields that are surely not wanted, if it can.

        To be called between two fields of a message. Tried once per buffer: this
        takes the 100,000 nodes of a graph a thousand at a time.

        Returns:
          how many brackets are open behind them; 0 is between two fields again.
        """
        if self._fields_tried == self._offset + len(self._buffer):
            return 0
        self._fields_tried = self._offset + len(self._buffer)
        closed, opened, lines, end = self._count_brackets()
        # A line may end between the elements of a list, too.
        if closed or b"[" in lines or any(name.encode() in lines for name in wanted):
            return 0
        # Between the brackets of this message a line may end within a field too:
        # after its name, or between two strings.
        if not opened and not lines.rstrip().endswith((b"}", b">")):
            return 0
        self._index = end
        return opened

    def skip_to_closer(self, depth: int = 1) -> None:
        """Passes everything up to and with the bracket that closes the message."""
        while True:
            if self._skip_tried != self._offset + len(self._buffer):
                self._skip_tried = self._offset + len(self._buffer)
                closed, opened, _, end = self._count_brackets()
                if closed < depth:
                    depth += opened - closed
                    self._index = end
            offset = self._offset
            while self._offset == offset:
                plain = _PLAIN.match(self._buffer, self._index)
                if plain:
                    self._index = plain.end()
                char = self._buffer[self._index : self._index + 1]
                if char == b"{" or char == b"<":
                    depth += 1
                    self._index += 1
                elif char == b"}" or char == b">":
                    depth -= 1
                    self._index += 1
                    if not depth:
                        return
                elif char == b"#":
                    self._skip_comment()
                elif char:
                    self.string()
                elif not self._more():
                    raise self.damaged("the closing bracket of a message")

    def _count_brackets(self) -> Tuple[int, int, bytes, int]:
        """Counts brackets in the whole lines of the buffer, pairs cancelled.

        Returns:
          how many close what was open before, how many stay open, the lines without
          strings and comments, and the index behind them; nothing if there is no
          whole line, or one that does not end its string.
        """
        end = self._buffer.rfind(b"\n", self._index) + 1
        lines = _QUOTED.sub(b"", self._buffer[self._index : end]) if end else b""
        if b'"' in lines or b"'" in lines or not end:
            return 0, 0, b"", self._index
        brackets = lines.translate(_BRACKETS, _NO_BRACKETS)
        # This takes a level in each round, and leaves little of what people write.
        for _ in range(_ROUNDS):
            brackets = brackets.replace(b"{}", b"")
        closed = opened = 0
        for bracket in brackets:
            if bracket == _OPENER:
                opened += 1
            elif opened:
                opened -= 1
            else:
                closed += 1
        return closed, opened, lines, end

    def decode(self, text: bytes) -> str:
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("text in UTF-8") from error

    def _skip_comment(self) -> None:
        while True:
            end = self._buffer.find(b"\n", self._index)
            if end >= 0:
                self._index = end + 1
                return
            self._index = len(self._buffer)
            if not self._more():
                return

    def _more(self) -> bool:
        """Drops what was passed and reads on; False at the end of the file."""
        data = self._file.read(_READ_BYTES)
        self._offset += self._index
        self._buffer = self._buffer[self._index :] + data
        self._index = 0
        return bool(data)

    def damaged(self, expected: str) -> CorruptModuleError:
        found = self._buffer[self._index : self._index + 20]
        return CorruptModuleError(
            "{} is damaged or incomplete: expected {} at byte {}, found {}. Download "
            "or export the module again.".format(
                self._name,
                expected,
                self._offset + self._index,
                repr(found)[1:] if found else "the end of the file",
            )
        )


def _unescape(found: Match[bytes]) -> bytes:
    code = found.group(1)
    first = code[:1]
    if b"0" <= first <= b"7":
        return bytes([int(code, 8) & 255])
    if first in b"xX" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    if first in b"uU" and len(code) > 1:
        number = int(code[1:], 16)
        return chr(number).encode("utf-8", "replace") if number < 0x110000 else b"?"
    return _LETTERS.get(code, code)


def open_text(file: Any, name: str) -> TextMessage:
    """Returns the message that fills a binary file, to be walked once.

    Args:
      file: a binary file with ``read``, open while the message is walked.
      name: what error messages call it: ``"/m/saved_model.pbtxt"``.
    """
    # The end of the file, an empty byte string, closes the outermost message.
    return TextMessage(_Scanner(file, name), b"")
