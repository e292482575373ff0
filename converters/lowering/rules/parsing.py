"""ParseExampleV2 by ParseExample, which has neither ragged features nor scalars."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from ...ir.dtypes import DT_INT32, DT_INT64, DT_STRING
from ...ir.rewriter import Rewrite
from .arithmetic import cast, column, concat, reshape, vector_slice

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
    shape = rewrite.add(
        "Shape", [serialized], T=("type", DT_STRING), out_type=("type", DT_INT32)
    )
    flat = rewrite.constant([-1])
    outputs = rewrite.emit(
        "ParseExample",
        [reshape(rewrite, serialized, flat, DT_STRING)]
        + [reshape(rewrite, names, flat, DT_STRING)]
        + _each(rewrite, sparse_keys, sparse)
        + _each(rewrite, ragged_keys, ragged)
        + _each(rewrite, dense_keys, dense)
        + rewrite.inputs[5:],
        Nsparse=sparse + ragged,
        Ndense=dense,
        sparse_types=("types", sparse_types + ragged_types),
        **rewrite.attrs("Tdense", "dense_shapes"),
    )
    both = sparse + ragged
    indices, values, shapes = (outputs[i * both : (i + 1) * both] for i in range(3))
    # 0 for a vector; 1 for a scalar, whose results have no dimension of the batch.
    rank = rewrite.add(
        "Size", [shape], T=("type", DT_INT32), out_type=("type", DT_INT32)
    )
    skipped = rewrite.add("Sub", [rewrite.constant(1), rank], T=("type", DT_INT32))
    skipped = reshape(rewrite, skipped, rewrite.constant([1]), DT_INT32)
    begin = concat(rewrite, [rewrite.constant([0]), skipped], DT_INT32)
    results = [
        _from(rewrite, one, begin, rewrite.constant([-1, -1]))
        for one in indices[:sparse]
    ]
    results += values[:sparse]
    results += [_from(rewrite, one, skipped, flat) for one in shapes[:sparse]]
    for one, dtype in zip(outputs[3 * both :], dense_types):
        inner = rewrite.add(
            "Shape", [one], T=("type", dtype), out_type=("type", DT_INT32)
        )
        inner = vector_slice(rewrite, inner, 1, 0, DT_INT32)
        whole = concat(rewrite, [shape, inner], DT_INT32)
        results.append(reshape(rewrite, one, whole, dtype))
    results += values[sparse:]
    for one, dtype in zip(indices[sparse:], split_types):
        results.append(_row_splits(rewrite, one, shape, dtype))
    rewrite.done(results)


def _each(rewrite: Rewrite, vector: str, count: int) -> List[str]:
    """The elements of a vector of strings."""
    if not count:
        return []
    return rewrite.emit("Unpack", [vector], num=count, T=("type", DT_STRING), axis=0)


def _from(rewrite: Rewrite, tensor: str, begin: str, size: str) -> str:
    return rewrite.add(
        "Slice", [tensor, begin, size], T=("type", DT_INT64), Index=("type", DT_INT32)
    )


def _row_splits(rewrite: Rewrite, indices: str, shape: str, dtype: int) -> str:
    """Where each row begins, and the last one ends."""
    rows = column(rewrite, indices, 0, DT_INT64)
    count = rewrite.add(
        "Prod",
        [shape, rewrite.constant(0)],
        T=("type", DT_INT32),
        Tidx=("type", DT_INT32),
        keep_dims=False,
    )
    lengths = rewrite.add(
        "UnsortedSegmentSum",
        [rewrite.add("OnesLike", [rows], T=("type", DT_INT64)), rows, count],
        T=("type", DT_INT64),
        Tindices=("type", DT_INT64),
        Tnumsegments=("type", DT_INT32),
    )
    ends = rewrite.add(
        "Cumsum",
        [lengths, rewrite.constant(0)],
        T=("type", DT_INT64),
        Tidx=("type", DT_INT32),
        exclusive=False,
        reverse=False,
    )
    splits = concat(rewrite, [rewrite.constant([0], DT_INT64), ends], DT_INT64)
    return cast(rewrite, splits, DT_INT64, dtype)


OPS: Dict[str, Callable[[Rewrite], Any]] = {"ParseExampleV2": _parse_example}
