"""Reads messages by the names of their fields, in the binary and the text format.

A schema names the fields that somebody asks for. All others are passed over, so that
one reader serves a look at the tags and a look at the whole graph.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Optional, Tuple, Union

from hub_compat._parsing import wire
from hub_compat._parsing.text_format import TextMessage
from hub_compat.errors import CorruptModuleError

__all__ = [
    "ENUM",
    "INT",
    "RAW",
    "SKIP",
    "STRING",
    "Reader",
    "Schema",
    "TextReader",
    "WireReader",
]

# Kinds of fields; any other kind is the name of a message.
INT = "int"
# An int, or in the text format the name of the value.
ENUM = "enum"
STRING = "string"
# Bytes of any content; of the text format, a str.
RAW = "raw"
# Its value is not asked for: None.
SKIP = "skip"

_Fields = Mapping[int, Tuple[str, str]]


class Schema:
    """The fields of messages that are read.

    Args:
      messages: for each message its fields: number to name and kind.

    Attributes:
      fields: that.
      numbers: for each message the number of a field by its name.
    """

    def __init__(self, messages: Mapping[str, _Fields]) -> None:
        self.fields = messages
        self.numbers: Dict[str, Dict[str, int]] = {
            kind: {name: number for number, (name, _) in fields.items()}
            for kind, fields in messages.items()
        }


class WireReader:
    """A message in the binary format, read through a schema."""

    def __init__(self, message: wire.Message, kind: str, schema: Schema) -> None:
        self.message = message
        self._kind = kind
        self._schema = schema

    def fields(self) -> Iterator[Tuple[str, Any]]:
        """Walks the fields of the schema: name and int, str, bytes or message."""
        message = self.message
        schema = self._schema.fields[self._kind]
        for field in message.fields():
            known = schema.get(field.number)
            if known is None:
                continue
            name, kind = known
            if kind in (INT, ENUM):
                yield name, message.integer(field)
            elif kind == STRING:
                yield name, message.text(field)
            elif kind == RAW:
                yield name, message.payload(field)
            elif kind == SKIP:
                yield name, None
            else:
                yield name, WireReader(message.message(field), kind, self._schema)

    def last(self, name: str) -> Optional[WireReader]:
        """Returns the field that ends this message, if it is surely that one."""
        number = self._schema.numbers[self._kind][name]
        found = self.message.last(number)
        if found is None:
            return None
        kind = self._schema.fields[self._kind][number][1]
        known = self._schema.fields[kind]
        # The bytes were found from behind. They are believed if they are a strict
        # message of that kind: its first field, then only known ones, rising.
        previous = 0
        try:
            for field in found.fields():
                if field.number not in known or field.number <= previous:
                    return None
                if not previous and field.number != 1:
                    return None
                previous = field.number
        except CorruptModuleError:
            return None
        return WireReader(found, kind, self._schema) if previous else None


class TextReader:
    """A message in the text format, read through a schema."""

    def __init__(self, message: TextMessage, kind: str, schema: Schema) -> None:
        self._message = message
        self._kind = kind
        self._schema = schema

    def fields(self) -> Iterator[Tuple[str, Any]]:
        """Walks the fields of the schema: name and int, str or message."""
        numbers = self._schema.numbers[self._kind]
        for name, value in self._message.fields(numbers):
            kind = self._schema.fields[self._kind][numbers[name]][1]
            if kind == SKIP:
                yield name, None
            elif isinstance(value, TextMessage):
                if kind in (INT, ENUM, STRING, RAW):
                    raise self._message.damaged("a value of {}".format(name))
                yield name, TextReader(value, kind, self._schema)
            elif kind in (STRING, RAW):
                yield name, value
            elif kind in (INT, ENUM):
                try:
                    yield name, int(value, 10)
                except ValueError as error:
                    if kind == ENUM:
                        yield name, value
                        continue
                    raise self._message.damaged(
                        "a number for {}".format(name)
                    ) from error
            else:
                raise self._message.damaged("a message for {}".format(name))

    def last(self, name: str) -> Optional[TextReader]:
        """A stream has no end to look at first."""
        return None


Reader = Union[WireReader, TextReader]
