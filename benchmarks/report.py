"""The table that the benchmarks print, and what its cells are made of."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any, Dict, List, Optional

__all__ = ["Facts", "Row", "bytes_text", "median", "seconds_text", "table"]

Facts = Dict[str, Any]


@dataclasses.dataclass
class Row:
    """A line of the table.

    Attributes:
      what: what is measured: ``"convert ResNet-50"``.
      ours, theirs: what came out, for people; theirs names the other side too.
      ratio: how they relate, or empty.
      bar: what is promised, or empty for a line that only informs.
      ok: whether the bar is kept; None where there is none, or where --quick
        takes a model too small for it.
      facts: every single run, by side.
    """

    what: str
    ours: str
    theirs: str
    ratio: str
    bar: str
    ok: Optional[bool]
    facts: Dict[str, List[Facts]] = dataclasses.field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The table's last column."""
        return {True: "ok", False: "MISS", None: "-"}[self.ok]


def median(facts: List[Facts]) -> float:
    """The median of some runs' seconds."""
    return statistics.median(f["seconds"] for f in facts)


def seconds_text(value: float) -> str:
    """Seconds as people read them."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 1:
            return "{:.3g} {}".format(value * factor, unit)
    return "{:.3g} us".format(value * 1e6)


def bytes_text(value: float) -> str:
    """Bytes as people read them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return "{:.3g} {}".format(value / factor, unit)
    return "{:.0f} B".format(value)


def table(rows: List[Row]) -> str:
    """The rows as aligned text."""
    cells = [("what", "ours", "theirs", "ratio", "bar", "")]
    cells += [(r.what, r.ours, r.theirs, r.ratio, r.bar, r.verdict) for r in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
