"""Counts of integers as sparse tensors: preprocessing layers with sparse=True."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from ...ir.builder import Tensor
from ...ir.dtypes import DT_INT32, DT_INT64
from ...ir.rewriter import Rewrite, Unlowerable
from .arithmetic import cast, column, concat, gather, size_of, vector_slice
from .counts import rows_of_matrix, rows_of_splits, weights_or_ones

__all__ = ["OPS"]


def _dense(rewrite: Rewrite) -> None:
    values, weights = rewrite.inputs
    rank = rewrite.scope.shape(values)
    if rank is None or len(rank) not in (1, 2):
        raise Unlowerable("DenseCountSparseOutput of a tensor of unknown rank")
    row_of, rows, _ = rows_of_matrix(rewrite, values)
    _count(rewrite, values, weights, row_of, rows if len(rank) == 2 else None)


def _ragged(rewrite: Rewrite) -> None:
    splits, values, weights = rewrite.inputs
    row_of, rows = rows_of_splits(rewrite, splits, values)
    _count(rewrite, values, weights, row_of, rows)


def _sparse(rewrite: Rewrite) -> None:
    indices, values, dense_shape, weights = rewrite.inputs
    rank = rewrite.scope.shape(dense_shape)
    if rank is None or rank[0] not in (1, 2):
        raise Unlowerable("SparseCountSparseOutput of a tensor of unknown rank")
    row_of = cast(rewrite, column(rewrite, indices, 0), DT_INT32)
    if rank[0] == 1:
        row_of = rewrite.op("ZerosLike", row_of)
        _count(rewrite, values, weights, row_of, None)
        return
    rows = vector_slice(rewrite, dense_shape, 0, 1)
    _count(rewrite, values, weights, row_of, cast(rewrite, rows, DT_INT32))


# Given: values [[5, 2, 5]] in row 0, size 6
#     numbers    row * size + value = [5, 2, 5]
#     sums       of each different number, ascending: 2 -> 1, 5 -> 2
# Result:
#     indices [[0, 2], [0, 5]], values [1, 2], dense shape [1, 6]
def _count(
    rewrite: Rewrite,
    values: Tensor,
    weights: Tensor,
    row_of: Tensor,
    rows: Optional[Tensor],
) -> None:
    """Numbers each row and value, sums over equal numbers, and sorts these.

    Args:
      rewrite: the node.
      values: integers; those not below ``maxlength`` count nothing, nor do those below
        0, which the op refuses.
      weights: of each value, or none at all for counts.
      row_of: the row of each value, an int32 vector.
      rows: how many rows there are, int32; None where the result is a vector.
    """
    flat = rewrite.constant([-1])
    most = rewrite.attr("maxlength").i
    values = cast(rewrite, rewrite.op("Reshape", values, flat), DT_INT64)
    there = rewrite.op("GreaterEqual", values, rewrite.constant(0, DT_INT64))
    if most > 0:
        below = rewrite.op("Less", values, rewrite.constant(most, DT_INT64))
        there = rewrite.op("LogicalAnd", there, below)
    places = rewrite.op("Reshape", rewrite.op("Where", there), flat)
    weights = weights_or_ones(rewrite, weights, values)
    values, weights, row_of = (
        gather(rewrite, one, places) for one in (values, weights, row_of)
    )
    size = _size(rewrite, values, most)
    numbers = rewrite.op("Mul", cast(rewrite, row_of, DT_INT64), size)
    numbers = rewrite.op("AddV2", numbers, values)
    numbers, sums = _sums(rewrite, numbers, weights)
    size_1d = rewrite.op("Reshape", size, rewrite.constant([1]))
    if rows is None:
        numbers = rewrite.op("Reshape", numbers, rewrite.constant([-1, 1]))
        rewrite.done([numbers, sums, size_1d])
        return
    both = [rewrite.op(op, numbers, size) for op in ("FloorDiv", "FloorMod")]
    indices = rewrite.op("Pack", both, axis=1)
    rows = rewrite.op("Reshape", rows, rewrite.constant([1]))
    shape = [cast(rewrite, rows, DT_INT64), size_1d]
    rewrite.done([indices, sums, concat(rewrite, shape)])


# TopKV2 of the negated numbers sorts ascending: no op does that itself.
def _sums(rewrite: Rewrite, numbers: Tensor, weights: Tensor) -> Tuple[Tensor, Tensor]:
    """The different numbers, ascending, and the sum of the weights of each."""
    numbers, segment = rewrite.ops("Unique", numbers, out_idx=DT_INT32)
    count = size_of(rewrite, numbers)
    sums = rewrite.op("UnsortedSegmentSum", weights, segment, count)
    if rewrite.attr("binary_output").b:
        sums = rewrite.op("OnesLike", sums)
    turned = rewrite.op("Neg", numbers)
    _, order = rewrite.ops("TopKV2", turned, count, sorted=True)
    return gather(rewrite, numbers, order), gather(rewrite, sums, order)


def _size(rewrite: Rewrite, values: Tensor, most: int) -> Tensor:
    """How many different values there are: int64."""
    if most > 0:
        return rewrite.constant(most, DT_INT64)
    least = max(int(rewrite.attr("minlength").i) - 1, 0)
    candidates = concat(rewrite, [values, rewrite.constant([least], DT_INT64)])
    axis = rewrite.constant(np.int32(0))
    largest = rewrite.op("Max", candidates, axis, keep_dims=False)
    return rewrite.op("AddV2", largest, rewrite.constant(1, DT_INT64))


OPS: Dict[str, Callable[[Rewrite], Any]] = {
    "DenseCountSparseOutput": _dense,
    "RaggedCountSparseOutput": _ragged,
    "SparseCountSparseOutput": _sparse,
}
