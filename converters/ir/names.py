"""Names within a function or a function library."""

from __future__ import annotations

import functools
import keyword
import re
from typing import Dict, Iterable, Sequence

__all__ = [
    "Names",
    "are_parameters",
    "argument_name",
    "node_name",
    "parameter_name",
]


class Names:
    """Hands out names that are not in use."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._counts: Dict[str, int] = {}

    def free(self, wanted: str) -> str:
        """``wanted``, or it with a number, whichever is not taken."""
        # From where the last search ended: a thousand losses have one name.
        count = self._counts.get(wanted, 0)
        name = "{}_{}".format(wanted, count) if count else wanted
        while name in self._taken:
            count += 1
            name = "{}_{}".format(wanted, count)
        self._counts[wanted] = count
        return name

    def take(self, wanted: str) -> str:
        """Like ``free``, and the name is taken then."""
        name = self.free(wanted)
        self._taken.add(name)
        return name


@functools.lru_cache(maxsize=None)
def argument_name(wanted: str) -> str:
    """A valid argument name, ``[a-z][a-z0-9_]*`` (op_def.proto, ArgDef)."""
    name = re.sub(r"[^a-z0-9_]", "_", wanted.lower())
    return name if name[:1].isalpha() else "arg_" + name


@functools.lru_cache(maxsize=None)
def parameter_name(wanted: str) -> str:
    """The name of a signature's input in TensorFlow 2.12 to 2.21 (function_type.py).

    They order the arguments of a signature by these names.
    """
    name = "".join(c if c.isalnum() else "_" for c in wanted)
    return name if name[:1].isalpha() else "arg_" + name


def are_parameters(names: Sequence[str]) -> bool:
    """Whether TensorFlow can make each input of a signature a parameter of Python.

    Else it does not load the model: parameters must be identifiers, each another, and
    no keywords. It fails on the empty name.
    """
    parameters = [parameter_name(name) for name in names]
    return (
        all(names)
        and len(set(parameters)) == len(parameters)
        and all(p.isidentifier() and not keyword.iskeyword(p) for p in parameters)
    )


def node_name(wanted: str) -> str:
    """A valid node name (node_def.proto), with the same letters where it can be."""
    name = re.sub(r"[^A-Za-z0-9_.\-/]", "_", wanted)
    return name if re.match(r"[A-Za-z0-9.]", name) else "x" + name
