"""All rules, by op and by attribute, and what only TF 1.15 needs."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

from ...ir.rewriter import Rewrite
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

__all__ = ["ATTRIBUTES", "OPS", "SETTLED", "settle", "unsettled"]

# What the rules for TF 1.15 are about that TF 2.4 still does not do: it registers no
# gradients of a model, and a CPU has no convolution in groups.
_EARLY_TF2 = frozenset(["Conv2D", "IdentityN"])
_EARLY = (2, 5)
# The first TensorFlow for which nothing is unsettled.
SETTLED = max(_EARLY, random.CHOOSES)

OPS: Dict[str, Callable[[Rewrite], Any]] = {}
ATTRIBUTES: Dict[Any, Callable[[Rewrite], Any]] = {}
for _module in (
    arithmetic, arrays, counts, gradients, parsing, random, sparse_counts, table_files,
    traced,
):  # fmt: skip
    OPS.update(getattr(_module, "OPS", {}))
    ATTRIBUTES.update(getattr(_module, "ATTRIBUTES", {}))


def settle(rewrite: Rewrite, version: Tuple[int, int], done: Dict[str, int]) -> None:
    """An op that an old TensorFlow has, but runs or differentiates otherwise.

    Args:
      rewrite: a node of an op that it knows.
      version: of that TensorFlow.
      done: counts what was done.
    """
    # First, for a rule of gradients hands the algorithm on.
    random.settle(rewrite, version, done)
    if version < (2, 0):
        gradients.settle(rewrite, done)
    elif version < _EARLY:
        if rewrite.node.op in _EARLY_TF2:
            gradients.settle(rewrite, done)


def unsettled(
    node: Any, version: Tuple[int, int], producer: Callable[[str], Any]
) -> bool:
    """Whether an old TensorFlow has a node's op, and not all that its writer does."""
    if random.unsettled(node, version, producer):
        return True
    if version >= _EARLY:
        return False
    early = version < (2, 0) or node.op in _EARLY_TF2
    return early and gradients.unsettled(node, producer)
