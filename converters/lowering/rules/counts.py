"""Counts of integers, by sums over segments."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

import numpy as np

from ...ir.builder import Tensor
from ...ir.dtypes import DT_INT32, DT_INT64
from ...ir.rewriter import Rewrite, Unlowerable
from .arithmetic import cast, column, concat, shape_of, size_of, vector_slice

__all__ = ["OPS", "rows_of_matrix", "rows_of_splits", "weights_or_ones"]

_SCALAR = np.zeros([0], np.int32)  # the shape of one


def _dense_bincount(rewrite: Rewrite) -> None:
    """Counts by a sum over segments.

    A row's values become segments of a number line that all rows share; what is not
    below ``size`` goes to the segment -1, which UnsortedSegmentSum leaves out.
    Works for a vector, which is one row, and for a matrix.
    """
    values, size, weights = rewrite.inputs
    row_of, rows, outer = rows_of_matrix(rewrite, values)
    flat = rewrite.constant([-1])
    values = rewrite.op("Reshape", values, flat)
    counts = _sum_by_row(rewrite, values, row_of, rows, size, weights)
    size32 = cast(rewrite, size, DT_INT32)
    size32 = rewrite.op("Reshape", size32, rewrite.constant([1]))
    shape = concat(rewrite, [outer, size32])
    rewrite.done([rewrite.op("Reshape", counts, shape)])


def rows_of_matrix(rewrite: Rewrite, values: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Where the elements of a matrix are, or of a vector, which is one row.

    Returns:
      The row of each element, an int32 vector; how many there are, an int32 scalar; and
      the shape without its last dimension.
    """
    shape = shape_of(rewrite, values)
    outer = vector_slice(rewrite, shape, 0, -1)
    rows = rewrite.op("Prod", outer, rewrite.constant(0), keep_dims=False)
    row = rewrite.op("Range", rewrite.constant(0), rows, rewrite.constant(1))
    numbers = rewrite.op("Reshape", row, rewrite.constant([-1, 1]))
    last = vector_slice(rewrite, shape, -1, 0)
    rows_1d = rewrite.op("Reshape", rows, rewrite.constant([1]))
    matrix_shape = concat(rewrite, [rows_1d, last])
    row_of = rewrite.op("BroadcastTo", numbers, matrix_shape)
    row_of = rewrite.op("Reshape", row_of, rewrite.constant([-1]))
    return row_of, rows, outer


# Given: values [[1, 1], [0, 2]], size 3
#     row of each value    [0, 0, 1, 1]
#     segment              row * size + value = [1, 1, 3, 5]
# Result:
#     UnsortedSegmentSum(ones, segment, 6) = [0, 2, 0, 1, 0, 1]
def _sum_by_row(
    rewrite: Rewrite,
    values: Tensor,
    rows_of: Tensor,
    rows: Tensor,
    size: Tensor,
    weights: Tensor,
) -> Tensor:
    """Sums of weights, or counts, for each row and value: a vector of both.

    Args:
      rewrite: the node.
      values: a vector of integers.
      rows_of: the row of each value, int32.
      rows: how many rows there are, an int32 scalar.
      size: how many different values there are, a scalar of their dtype.
      weights: of each value, or none at all for counts.
    """
    size64 = cast(rewrite, size, DT_INT64)
    values64 = cast(rewrite, values, DT_INT64)
    base = rewrite.op("Mul", cast(rewrite, rows_of, DT_INT64), size64)
    segment = rewrite.op("AddV2", base, values64)
    inside = rewrite.op("Less", values64, size64)
    shape = shape_of(rewrite, values)
    nowhere = rewrite.op("Fill", shape, rewrite.constant(-1, DT_INT64))
    segment = rewrite.op("Select", inside, segment, nowhere)
    if rewrite.attr("binary_output").b:
        ones = _ones(rewrite, values, weights.dtype)
    else:
        ones = weights_or_ones(rewrite, weights, values)
    total = rewrite.op("Mul", cast(rewrite, rows, DT_INT64), size64)
    total = cast(rewrite, total, DT_INT32)
    counts = rewrite.op("UnsortedSegmentSum", ones, segment, total)
    if rewrite.attr("binary_output").b:
        zero = rewrite.constant(0, weights.dtype)
        counts = cast(rewrite, rewrite.op("Greater", counts, zero), weights.dtype)
    return counts


def weights_or_ones(rewrite: Rewrite, weights: Tensor, values: Tensor) -> Tensor:
    """The weights, or ones where there are none: what comes first of both.

    Args:
      rewrite: the node.
      weights: of each value, or none at all.
      values: what is counted.
    """
    given = rewrite.op("Reshape", weights, rewrite.constant([-1]))
    both = concat(rewrite, [given, _ones(rewrite, values, weights.dtype)])
    count = shape_of(rewrite, values)
    return rewrite.op("Slice", both, rewrite.constant([0]), count)


def _ones(rewrite: Rewrite, values: Tensor, dtype: int) -> Tensor:
    """A one for each value."""
    count = shape_of(rewrite, values)
    return rewrite.op("Fill", count, rewrite.constant(1, dtype))


# Given: splits [0, 2, 2, 3]; three values at places 0, 1, 2
# Result:
#     UpperBound(splits, places) - 1 = [0, 0, 2]
def rows_of_splits(
    rewrite: Rewrite, splits: Tensor, values: Tensor
) -> Tuple[Tensor, Tensor]:
    """The row of each value of a ragged tensor, and how many there are; int32."""
    places = rewrite.op(
        "Range",
        rewrite.constant(0, DT_INT64),
        size_of(rewrite, values, DT_INT64),
        rewrite.constant(1, DT_INT64),
    )
    # The row of a place is one less than how many rows begin there or before.
    row = rewrite.constant([1, -1])
    splits_row = rewrite.op("Reshape", splits, row)
    places = rewrite.op("Reshape", places, row)
    begun = rewrite.op("UpperBound", splits_row, places, out_type=DT_INT32)
    begun = rewrite.op("Reshape", begun, rewrite.constant([-1]))
    row_of = rewrite.op("Sub", begun, rewrite.constant(1))
    count = size_of(rewrite, splits)
    return row_of, rewrite.op("Sub", count, rewrite.constant(1))


def _ragged_bincount(rewrite: Rewrite) -> None:
    """Counts of each row, where the rows end as the splits say."""
    splits, values, size, weights = rewrite.inputs
    row_of, rows = rows_of_splits(rewrite, splits, values)
    _finish_matrix(rewrite, values, row_of, rows, size, weights)


def _sparse_bincount(rewrite: Rewrite) -> None:
    """Counts of each row of a sparse matrix, or of all of a sparse vector."""
    indices, values, dense_shape, size, weights = rewrite.inputs
    rank = rewrite.scope.shape(dense_shape)
    if rank is None or rank[0] not in (1, 2):
        raise Unlowerable("SparseBincount of a tensor of unknown rank")
    if rank[0] == 2:
        row_of = column(rewrite, cast(rewrite, indices, DT_INT32), 0)
        rows = cast(rewrite, vector_slice(rewrite, dense_shape, 0, 1), DT_INT32)
        rows = rewrite.op("Reshape", rows, rewrite.constant(_SCALAR))
        _finish_matrix(rewrite, values, row_of, rows, size, weights)
        return
    row_of = cast(rewrite, rewrite.op("ZerosLike", values), DT_INT32)
    one = rewrite.constant(1)
    rewrite.done([_sum_by_row(rewrite, values, row_of, one, size, weights)])


def _finish_matrix(
    rewrite: Rewrite,
    values: Tensor,
    row_of: Tensor,
    rows: Tensor,
    size: Tensor,
    weights: Tensor,
) -> None:
    counts = _sum_by_row(rewrite, values, row_of, rows, size, weights)
    one = rewrite.constant([1])
    shape = [
        rewrite.op("Reshape", rows, one),
        rewrite.op("Reshape", cast(rewrite, size, DT_INT32), one),
    ]
    rewrite.done([rewrite.op("Reshape", counts, concat(rewrite, shape))])


OPS: Dict[str, Callable[[Rewrite], Any]] = {
    "DenseBincount": _dense_bincount,
    "RaggedBincount": _ragged_bincount,
    "SparseBincount": _sparse_bincount,
}
