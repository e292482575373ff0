"""Names within a function or a function library."""

from __future__ import annotations

import functools
import re
from typing import Dict, Iterable

__all__ = ["Names", "argument_name"]


class Names:
    """Names that are taken."""

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
