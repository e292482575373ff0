"""Ops of integers of 8 and 16 bits, which older ops do not take, as ops of int32.

What is cast back is cut off as it would be in the small type.
"""

from __future__ import annotations

from ...ir.dtypes import DT_INT8, DT_INT16, DT_INT32, DT_UINT8, DT_UINT16
from ...ir.rewriter import Rewrite
from .arithmetic import cast

__all__ = ["widen"]

_SMALL = frozenset([DT_UINT8, DT_INT16, DT_INT8, DT_UINT16])
_SAME_TYPE = frozenset("AddV2 FloorMod Maximum Minimum Neg Pow Sign Square".split())
_FORMAT = ("precision", "scientific", "shortest", "width", "fill")


def widen(rewrite: Rewrite, key: str) -> bool:
    """Writes a node with int32; returns whether it could.

    Args:
      rewrite: a node whose op the target has.
      key: the attribute with a dtype that the op does not take there.
    """
    op, small = rewrite.node.op, rewrite.type(key)
    if key != "T" or small not in _SMALL or op not in _SAME_TYPE | {"AsString"}:
        return False
    wide = [cast(rewrite, tensor, DT_INT32) for tensor in rewrite.inputs]
    attrs = rewrite.attrs(*_FORMAT) if op == "AsString" else {}
    result = rewrite.op(op, *wide, **attrs)
    if op in _SAME_TYPE:
        result = cast(rewrite, result, small)
    rewrite.done([result])
    return True
