"""Counts of integers as sparse tensors: preprocessing layers with sparse=True."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from ...ir.dtypes import DT_BOOL, DT_INT32, DT_INT64
from ...ir.rewriter import Rewrite, Unlowerable
from .arithmetic import binary, cast, column, concat, reshape, vector_slice
from .counts import rows_of_matrix, rows_of_splits, weights_or_ones

__all__ = ["OPS"]


def _dense(rewrite: Rewrite) -> None:
    values, weights = rewrite.inputs
    rank = rewrite.scope.shape(values)
    if rank is None or len(rank) not in (1, 2):
        raise Unlowerable("DenseCountSparseOutput of a tensor of unknown rank")
    row_of, rows, _ = rows_of_matrix(rewrite, values, rewrite.type("T"))
    _count(rewrite, values, weights, row_of, rows if len(rank) == 2 else "")


def _ragged(rewrite: Rewrite) -> None:
    splits, values, weights = rewrite.inputs
    row_of, rows = rows_of_splits(rewrite, splits, values, rewrite.type("T"))
    _count(rewrite, values, weights, row_of, rows)


def _sparse(rewrite: Rewrite) -> None:
    indices, values, dense_shape, weights = rewrite.inputs
    rank = rewrite.scope.shape(dense_shape)
    if rank is None or rank[0] not in (1, 2):
        raise Unlowerable("SparseCountSparseOutput of a tensor of unknown rank")
    row_of = cast(rewrite, column(rewrite, indices, 0, DT_INT64), DT_INT64, DT_INT32)
    if rank[0] == 1:
        row_of = rewrite.add("ZerosLike", [row_of], T=("type", DT_INT32))
        _count(rewrite, values, weights, row_of, "")
        return
    rows = vector_slice(rewrite, dense_shape, 0, 1, DT_INT64)
    _count(rewrite, values, weights, row_of, cast(rewrite, rows, DT_INT64, DT_INT32))


def _count(rewrite: Rewrite, values: str, weights: str, row_of: str, rows: str) -> None:
    """Numbers each row and value, sums over equal numbers, and sorts these.

    Args:
      rewrite: the node.
      values: integers; those not below ``maxlength`` count nothing, nor do those below
        0, which the op refuses.
      weights: of each value, or none at all for counts.
      row_of: the row of each value, an int32 vector.
      rows: how many rows there are, int32; empty where the result is a vector.
    """
    flat = rewrite.constant([-1])
    most = rewrite.attr("maxlength").i
    values = reshape(rewrite, values, flat, rewrite.type("T"))
    values = cast(rewrite, values, rewrite.type("T"), DT_INT64)
    zero = rewrite.constant(0, DT_INT64)
    there = binary(rewrite, "GreaterEqual", values, zero, DT_INT64)
    if most > 0:
        bound = rewrite.constant(most, DT_INT64)
        below = binary(rewrite, "Less", values, bound, DT_INT64)
        there = rewrite.add("LogicalAnd", [there, below])
    places = rewrite.add("Where", [there], T=("type", DT_BOOL))
    places = reshape(rewrite, places, flat, DT_INT64)
    dtype = rewrite.type("output_type")
    weights = weights_or_ones(rewrite, weights, values, dtype, DT_INT64)
    values, weights, row_of = (
        _gather(rewrite, one, places, kind, DT_INT64)
        for one, kind in ((values, DT_INT64), (weights, dtype), (row_of, DT_INT32))
    )
    size = _size(rewrite, values, most)
    row_of = cast(rewrite, row_of, DT_INT32, DT_INT64)
    numbers = binary(rewrite, "Mul", row_of, size, DT_INT64)
    numbers = binary(rewrite, "AddV2", numbers, values, DT_INT64)
    numbers, sums = _sums(rewrite, numbers, weights)
    size_1d = reshape(rewrite, size, rewrite.constant([1]), DT_INT64)
    if not rows:
        numbers = reshape(rewrite, numbers, rewrite.constant([-1, 1]), DT_INT64)
        rewrite.done([numbers, sums, size_1d])
        return
    indices = rewrite.add(
        "Pack",
        [
            binary(rewrite, op, numbers, size, DT_INT64)
            for op in ("FloorDiv", "FloorMod")
        ],
        N=2,
        T=("type", DT_INT64),
        axis=1,
    )
    rows = reshape(rewrite, rows, rewrite.constant([1]), DT_INT32)
    shape = [cast(rewrite, rows, DT_INT32, DT_INT64), size_1d]
    rewrite.done([indices, sums, concat(rewrite, shape, DT_INT64)])


def _sums(rewrite: Rewrite, numbers: str, weights: str) -> Tuple[str, str]:
    """The different numbers, ascending, and the sum of the weights of each."""
    dtype = rewrite.type("output_type")
    numbers, segment = rewrite.emit(
        "Unique", [numbers], T=("type", DT_INT64), out_idx=("type", DT_INT32)
    )
    count = rewrite.add(
        "Size", [numbers], T=("type", DT_INT64), out_type=("type", DT_INT32)
    )
    sums = rewrite.add(
        "UnsortedSegmentSum",
        [weights, segment, count],
        T=("type", dtype),
        Tindices=("type", DT_INT32),
        Tnumsegments=("type", DT_INT32),
    )
    if rewrite.attr("binary_output").b:
        sums = rewrite.add("OnesLike", [sums], T=("type", dtype))
    turned = rewrite.add("Neg", [numbers], T=("type", DT_INT64))
    _, order = rewrite.emit(
        "TopKV2", [turned, count], T=("type", DT_INT64), sorted=True
    )
    numbers = _gather(rewrite, numbers, order, DT_INT64, DT_INT32)
    return numbers, _gather(rewrite, sums, order, dtype, DT_INT32)


def _gather(rewrite: Rewrite, vector: str, places: str, dtype: int, kind: int) -> str:
    return rewrite.add(
        "GatherV2",
        [vector, places, rewrite.constant(0)],
        Tparams=("type", dtype),
        Tindices=("type", kind),
        Taxis=("type", DT_INT32),
        batch_dims=0,
    )


def _size(rewrite: Rewrite, values: str, most: int) -> str:
    """How many different values there are: int64."""
    if most > 0:
        return rewrite.constant(most, DT_INT64)
    least = max(int(rewrite.attr("minlength").i) - 1, 0)
    candidates: List[str] = [values, rewrite.constant([least], DT_INT64)]
    largest = rewrite.add(
        "Max",
        [concat(rewrite, candidates, DT_INT64), rewrite.constant(np.int32(0))],
        T=("type", DT_INT64),
        Tidx=("type", DT_INT32),
        keep_dims=False,
    )
    return binary(rewrite, "AddV2", largest, rewrite.constant(1, DT_INT64), DT_INT64)


OPS: Dict[str, Callable[[Rewrite], Any]] = {
    "DenseCountSparseOutput": _dense,
    "RaggedCountSparseOutput": _ragged,
    "SparseCountSparseOutput": _sparse,
}
