"""All rules, by op and by attribute, and what only TF 1.15 needs."""

from __future__ import annotations

from typing import Any, Callable, Dict

from . import (
    arithmetic,
    arrays,
    counts,
    gradients,
    parsing,
    random,
    sparse_counts,
    table_files,
    traced,
)
from .scope import Rewrite

__all__ = ["ATTRIBUTES", "OPS", "settle_for_tf1", "unsettled_for_tf1"]

OPS: Dict[str, Callable[[Rewrite], Any]] = {}
ATTRIBUTES: Dict[Any, Callable[[Rewrite], Any]] = {}
for _module in (
    arithmetic, arrays, counts, gradients, parsing, random, sparse_counts, table_files,
    traced,
):  # fmt: skip
    OPS.update(getattr(_module, "OPS", {}))
    ATTRIBUTES.update(getattr(_module, "ATTRIBUTES", {}))


def settle_for_tf1(rewrite: Rewrite, done: Dict[str, int]) -> None:
    """What TF 1.15 has, and does not do as TF 2 does."""
    gradients.settle(rewrite, done)


def unsettled_for_tf1(node: Any, producer: Callable[[str], Any]) -> bool:
    """Whether TF 1.15 has a node's op, and not all that TF 2 does with it."""
    return gradients.unsettled(node, producer)
