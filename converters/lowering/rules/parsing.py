"""ParseExampleV2 by ParseExample, which has neither ragged features nor scalars."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from ...ir.builder import Tensor
from ...ir.dtypes import DT_INT64
from ...ir.rewriter import Rewrite
from .arithmetic import cast, column, concat, shape_of, size_of, vector_slice

__all__ = ["OPS"]


def _parse_example(rewrite: Rewrite) -> None:
    """Parses a vector, and gives the results the rank that the input has.

    A ragged feature is a sparse one whose indices say how long each row is.
    """
    serialized, names, sparse_keys, dense_keys, ragged_keys = rewrite.inputs[:5]
    sparse_types = list(rewrite.attr("sparse_types").list.type)
    ragged_types = list(rewrite.attr("ragged_value_types").list.type)
    split_types = list(rewrite.attr("ragged_split_types").list.type)
    dense_types = list(rewrite.attr("Tdense").list.type)
    sparse, dense, ragged = len(sparse_types), len(dense_types), len(ragged_types)
    shape = shape_of(rewrite, serialized)
    flat = rewrite.constant([-1])
    outputs = rewrite.ops(
        "ParseExample",
        rewrite.op("Reshape", serialized, flat),
        rewrite.op("Reshape", names, flat),
        _each(rewrite, sparse_keys, sparse) + _each(rewrite, ragged_keys, ragged),
        _each(rewrite, dense_keys, dense),
        rewrite.inputs[5:],
        sparse_types=sparse_types + ragged_types,
        **rewrite.attrs("dense_shapes"),
    )
    both = sparse + ragged
    indices, values, shapes = (outputs[i * both : (i + 1) * both] for i in range(3))
    # 0 for a vector; 1 for a scalar, whose results have no dimension of the batch.
    rank = size_of(rewrite, shape)
    skipped = rewrite.op("Sub", rewrite.constant(1), rank)
    skipped = rewrite.op("Reshape", skipped, rewrite.constant([1]))
    begin = concat(rewrite, [rewrite.constant([0]), skipped])
    results = [
        rewrite.op("Slice", one, begin, rewrite.constant([-1, -1]))
        for one in indices[:sparse]
    ]
    results += values[:sparse]
    results += [rewrite.op("Slice", one, skipped, flat) for one in shapes[:sparse]]
    for one in outputs[3 * both :]:
        inner = vector_slice(rewrite, shape_of(rewrite, one), 1, 0)
        results.append(rewrite.op("Reshape", one, concat(rewrite, [shape, inner])))
    results += values[sparse:]
    for one, dtype in zip(indices[sparse:], split_types):
        results.append(_row_splits(rewrite, one, shape, dtype))
    rewrite.done(results)


def _each(rewrite: Rewrite, vector: Tensor, count: int) -> List[Tensor]:
    """The elements of a vector of strings."""
    return rewrite.ops("Unpack", vector, num=count, axis=0) if count else []


def _row_splits(rewrite: Rewrite, indices: Tensor, shape: Tensor, dtype: int) -> Tensor:
    """Where each row begins, and the last one ends."""
    rows = column(rewrite, indices, 0)
    count = rewrite.op("Prod", shape, rewrite.constant(0), keep_dims=False)
    ones = rewrite.op("OnesLike", rows)
    lengths = rewrite.op("UnsortedSegmentSum", ones, rows, count)
    ends = rewrite.op(
        "Cumsum", lengths, rewrite.constant(0), exclusive=False, reverse=False
    )
    splits = concat(rewrite, [rewrite.constant([0], DT_INT64), ends])
    return cast(rewrite, splits, dtype)


OPS: Dict[str, Callable[[Rewrite], Any]] = {"ParseExampleV2": _parse_example}
