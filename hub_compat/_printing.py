"""Prints the results of commands, for people and as JSON."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import sys
from typing import Any, Dict, Sequence, Tuple

from hub_compat.errors import HubCompatError

__all__ = [
    "count",
    "error_to_json",
    "print_error",
    "print_fields",
    "print_json",
    "size",
    "to_json",
]


def to_json(value: Any) -> Any:
    """A result, made of what JSON has; fields keep their names and order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def error_to_json(error: HubCompatError) -> Dict[str, str]:
    """An error's class and message."""
    return {"type": type(error).__name__, "message": str(error)}


def print_json(value: Any) -> None:
    """Prints a JSON document."""
    print(json.dumps(value, indent=2))


def print_error(message: str) -> None:
    """Prints an error, to standard error."""
    # What was printed before should also come before where both are one terminal.
    sys.stdout.flush()
    print("hub-compat: error: {}".format(message), file=sys.stderr, flush=True)


def count(number: int, noun: str, plural: str = "") -> str:
    """A number of things: ``"2 modules"``."""
    return "{} {}".format(number, noun if number == 1 else plural or noun + "s")


def size(number: int) -> str:
    """A number of bytes for a person: ``"1.2 MB"``."""
    if number < 1000:
        return count(number, "byte")
    units = ["kB", "MB", "GB", "TB"]
    scaled = number / 1000
    while scaled >= 999.95 and len(units) > 1:
        scaled /= 1000
        del units[0]
    return "{:.1f} {}".format(scaled, units[0])


def print_fields(title: str, fields: Sequence[Tuple[str, Sequence[str]]]) -> None:
    """Prints a heading and, under it, each label with its lines."""
    print(title)
    for label, lines in fields:
        for number, line in enumerate(lines):
            print("  {:<14}{}".format("" if number else label, line).rstrip())
