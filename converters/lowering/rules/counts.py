"""Counts of integers, by sums over segments."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

import numpy as np

from ...ir.dtypes import DT_BOOL, DT_INT32, DT_INT64
from ...ir.rewriter import Rewrite, Unlowerable
from .arithmetic import binary, cast, column, concat, reshape, vector_slice

__all__ = ["OPS", "rows_of_matrix", "rows_of_splits", "weights_or_ones"]

_SCALAR = np.zeros([0], np.int32)  # the shape of one


def _dense_bincount(rewrite: Rewrite) -> None:
    """Counts by a sum over segments.

    A row's values become segments of a number line that all rows share; what is not
    below ``size`` goes to the segment -1, which UnsortedSegmentSum leaves out.
    Works for a vector, which is one row, and for a matrix.
    """
    values, size, weights = rewrite.inputs
    tidx, dtype = rewrite.type("Tidx"), rewrite.type("T")
    row_of, rows, outer = rows_of_matrix(rewrite, values, tidx)
    flat = rewrite.constant([-1])
    counts = _sum_by_row(
        rewrite,
        reshape(rewrite, values, flat, tidx),
        row_of,
        rows,
        size,
        weights,
        tidx,
        dtype,
    )
    size32 = reshape(
        rewrite, cast(rewrite, size, tidx, DT_INT32), rewrite.constant([1]), DT_INT32
    )
    result = reshape(rewrite, counts, concat(rewrite, [outer, size32], DT_INT32), dtype)
    rewrite.done([result])


def rows_of_matrix(rewrite: Rewrite, values: str, dtype: int) -> Tuple[str, str, str]:
    """Where the elements of a matrix are, or of a vector, which is one row.

    Returns:
      The row of each element, an int32 vector; how many there are, an int32 scalar; and
      the shape without its last dimension.
    """
    shape = rewrite.add(
        "Shape", [values], T=("type", dtype), out_type=("type", DT_INT32)
    )
    outer = vector_slice(rewrite, shape, 0, -1, DT_INT32)
    rows = rewrite.add(
        "Prod",
        [outer, rewrite.constant(0)],
        T=("type", DT_INT32),
        Tidx=("type", DT_INT32),
        keep_dims=False,
    )
    row = rewrite.add(
        "Range",
        [rewrite.constant(0), rows, rewrite.constant(1)],
        Tidx=("type", DT_INT32),
    )
    numbers = reshape(rewrite, row, rewrite.constant([-1, 1]), DT_INT32)
    last = vector_slice(rewrite, shape, -1, 0, DT_INT32)
    rows_1d = reshape(rewrite, rows, rewrite.constant([1]), DT_INT32)
    matrix_shape = concat(rewrite, [rows_1d, last], DT_INT32)
    row_of = rewrite.add(
        "BroadcastTo",
        [numbers, matrix_shape],
        T=("type", DT_INT32),
        Tidx=("type", DT_INT32),
    )
    row_of = reshape(rewrite, row_of, rewrite.constant([-1]), DT_INT32)
    return row_of, rows, outer


def _sum_by_row(
    rewrite: Rewrite,
    values: str,
    rows_of: str,
    rows: str,
    size: str,
    weights: str,
    tidx: int,
    dtype: int,
) -> str:
    """Sums of weights, or counts, for each row and value: a vector of both.

    Args:
      rewrite: the node.
      values: a vector of ``tidx``.
      rows_of: the row of each value, int32.
      rows: how many rows there are, an int32 scalar.
      size: how many different values there are, a scalar of ``tidx``.
      weights: of each value, or none at all for counts.
      tidx: dtype of the values.
      dtype: dtype of the weights and of the result.
    """
    size64 = cast(rewrite, size, tidx, DT_INT64)
    values64 = cast(rewrite, values, tidx, DT_INT64)
    base = binary(
        rewrite, "Mul", cast(rewrite, rows_of, DT_INT32, DT_INT64), size64, DT_INT64
    )
    segment = binary(rewrite, "AddV2", base, values64, DT_INT64)
    inside = binary(rewrite, "Less", values64, size64, DT_INT64)
    nowhere = rewrite.add(
        "Fill",
        [
            rewrite.add(
                "Shape", [values], T=("type", tidx), out_type=("type", DT_INT32)
            ),
            rewrite.constant(-1, DT_INT64),
        ],
        T=("type", DT_INT64),
        index_type=("type", DT_INT32),
    )
    segment = rewrite.add("Select", [inside, segment, nowhere], T=("type", DT_INT64))
    if rewrite.attr("binary_output").b:
        ones = _ones(rewrite, values, dtype, tidx)
    else:
        ones = weights_or_ones(rewrite, weights, values, dtype, tidx)
    total = binary(
        rewrite, "Mul", cast(rewrite, rows, DT_INT32, DT_INT64), size64, DT_INT64
    )
    counts = rewrite.add(
        "UnsortedSegmentSum",
        [ones, segment, cast(rewrite, total, DT_INT64, DT_INT32)],
        T=("type", dtype),
        Tindices=("type", DT_INT64),
        Tnumsegments=("type", DT_INT32),
    )
    if rewrite.attr("binary_output").b:
        there = binary(rewrite, "Greater", counts, rewrite.constant(0, dtype), dtype)
        counts = cast(rewrite, there, DT_BOOL, dtype)
    return counts


def weights_or_ones(
    rewrite: Rewrite, weights: str, values: str, dtype: int, kind: int
) -> str:
    """The weights, or ones where there are none: what comes first of both.

    Args:
      rewrite: the node.
      weights: of each value, or none at all.
      values: what is counted, of dtype ``kind``.
      dtype: of the weights.
      kind: of the values.
    """
    given = reshape(rewrite, weights, rewrite.constant([-1]), dtype)
    both = concat(rewrite, [given, _ones(rewrite, values, dtype, kind)], dtype)
    count = rewrite.add(
        "Shape", [values], T=("type", kind), out_type=("type", DT_INT32)
    )
    return rewrite.add(
        "Slice",
        [both, rewrite.constant([0]), count],
        T=("type", dtype),
        Index=("type", DT_INT32),
    )


def _ones(rewrite: Rewrite, values: str, dtype: int, kind: int) -> str:
    """A one for each value."""
    count = rewrite.add(
        "Shape", [values], T=("type", kind), out_type=("type", DT_INT32)
    )
    return rewrite.add(
        "Fill",
        [count, rewrite.constant(1, dtype)],
        T=("type", dtype),
        index_type=("type", DT_INT32),
    )


def rows_of_splits(
    rewrite: Rewrite, splits: str, values: str, dtype: int
) -> Tuple[str, str]:
    """The row of each value of a ragged tensor, and how many there are; int32."""
    places = rewrite.add(
        "Range",
        [
            rewrite.constant(0, DT_INT64),
            rewrite.add(
                "Size", [values], T=("type", dtype), out_type=("type", DT_INT64)
            ),
            rewrite.constant(1, DT_INT64),
        ],
        Tidx=("type", DT_INT64),
    )
    # The row of a place is one less than how many rows begin there or before.
    row = rewrite.constant([1, -1])
    begun = rewrite.add(
        "UpperBound",
        [
            reshape(rewrite, splits, row, DT_INT64),
            reshape(rewrite, places, row, DT_INT64),
        ],
        T=("type", DT_INT64),
        out_type=("type", DT_INT32),
    )
    begun = reshape(rewrite, begun, rewrite.constant([-1]), DT_INT32)
    row_of = binary(rewrite, "Sub", begun, rewrite.constant(1), DT_INT32)
    count = rewrite.add(
        "Size", [splits], T=("type", DT_INT64), out_type=("type", DT_INT32)
    )
    rows = binary(rewrite, "Sub", count, rewrite.constant(1), DT_INT32)
    return row_of, rows


def _ragged_bincount(rewrite: Rewrite) -> None:
    """Counts of each row, where the rows end as the splits say."""
    splits, values, size, weights = rewrite.inputs
    tidx, dtype = rewrite.type("Tidx"), rewrite.type("T")
    row_of, rows = rows_of_splits(rewrite, splits, values, tidx)
    _finish_matrix(rewrite, values, row_of, rows, size, weights, tidx, dtype)


def _sparse_bincount(rewrite: Rewrite) -> None:
    """Counts of each row of a sparse matrix, or of all of a sparse vector."""
    indices, values, dense_shape, size, weights = rewrite.inputs
    tidx, dtype = rewrite.type("Tidx"), rewrite.type("T")
    rank = rewrite.scope.shape(dense_shape)
    if rank is None or rank[0] not in (1, 2):
        raise Unlowerable("SparseBincount of a tensor of unknown rank")
    if rank[0] == 2:
        indices32 = cast(rewrite, indices, DT_INT64, DT_INT32)
        row_of = column(rewrite, indices32, 0, DT_INT32)
        rows = vector_slice(rewrite, dense_shape, 0, 1, DT_INT64)
        rows = cast(rewrite, rows, DT_INT64, DT_INT32)
        rows = reshape(rewrite, rows, rewrite.constant(_SCALAR), DT_INT32)
        _finish_matrix(rewrite, values, row_of, rows, size, weights, tidx, dtype)
        return
    row_of = rewrite.add("ZerosLike", [values], T=("type", tidx))
    row_of = cast(rewrite, row_of, tidx, DT_INT32)
    one = rewrite.constant(1)
    rewrite.done(
        [_sum_by_row(rewrite, values, row_of, one, size, weights, tidx, dtype)]
    )


def _finish_matrix(
    rewrite: Rewrite,
    values: str,
    row_of: str,
    rows: str,
    size: str,
    weights: str,
    tidx: int,
    dtype: int,
) -> None:
    counts = _sum_by_row(rewrite, values, row_of, rows, size, weights, tidx, dtype)
    one = rewrite.constant([1])
    shape = [
        reshape(rewrite, rows, one, DT_INT32),
        reshape(rewrite, cast(rewrite, size, tidx, DT_INT32), one, DT_INT32),
    ]
    rewrite.done([reshape(rewrite, counts, concat(rewrite, shape, DT_INT32), dtype)])


OPS: Dict[str, Callable[[Rewrite], Any]] = {
    "DenseBincount": _dense_bincount,
    "RaggedBincount": _ragged_bincount,
    "SparseBincount": _sparse_bincount,
}
