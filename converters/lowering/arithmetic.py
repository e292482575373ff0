"""Ops on numbers that got new forms: products, normalization, counts, diagonals."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from ..graph import DT_BOOL, DT_INT32, DT_INT64
from .scope import Rewrite, Unlowerable

__all__ = ["ATTRIBUTES", "OPS"]

DT_FLOAT = 1


def cast(rewrite: Rewrite, tensor: str, source: int, target: int) -> str:
    """A tensor as another dtype."""
    if source == target:
        return tensor
    return rewrite.add("Cast", [tensor], SrcT=("type", source), DstT=("type", target))


def binary(rewrite: Rewrite, op: str, one: str, other: str, dtype: int) -> str:
    """An op of two tensors of one dtype."""
    return rewrite.add(op, [one, other], T=("type", dtype))


def concat(rewrite: Rewrite, tensors: List[str], dtype: int) -> str:
    """Vectors, one after the other."""
    return rewrite.add(
        "ConcatV2",
        tensors + [rewrite.constant(0)],
        N=len(tensors),
        T=("type", dtype),
        Tidx=("type", DT_INT32),
    )


def reshape(rewrite: Rewrite, tensor: str, shape: str, dtype: int) -> str:
    """A tensor in another shape, an int32 vector."""
    return rewrite.add(
        "Reshape", [tensor, shape], T=("type", dtype), Tshape=("type", DT_INT32)
    )


def vector_slice(
    rewrite: Rewrite, tensor: str, begin: int, end: int, dtype: int
) -> str:
    """Elements of a vector; an end of 0 is that of the vector."""
    return rewrite.add(
        "StridedSlice",
        [
            tensor,
            rewrite.constant([begin]),
            rewrite.constant([end]),
            rewrite.constant([1]),
        ],
        T=("type", dtype),
        Index=("type", DT_INT32),
        begin_mask=0,
        end_mask=1 if end == 0 else 0,
        ellipsis_mask=0,
        new_axis_mask=0,
        shrink_axis_mask=0,
    )


def _batch_matmul(rewrite: Rewrite) -> None:
    """BatchMatMulV3 is V2 with dtypes of their own for its operands.

    Where all are one it is V2. Else both are cast to the result's dtype, in which V3
    computes.
    """
    out = rewrite.type("Tout")
    operands = [
        cast(rewrite, tensor, rewrite.type(name), out)
        for tensor, name in zip(rewrite.inputs, ("Ta", "Tb"))
    ]
    rewrite.done(
        rewrite.emit(
            "BatchMatMulV2",
            operands,
            T=("type", out),
            **rewrite.attrs("adj_x", "adj_y"),
        )
    )


def _batch_norm(rewrite: Rewrite) -> bool:
    """In training, the moving averages are computed by FusedBatchNormV3 itself.

    The op gives ``(1 - factor) * mean + factor * batch_mean`` for its second output,
    and so for the third, where an older one gives the batch's own. Older ones insist
    on empty averages then. Not in training, the factor means nothing.
    """
    if not rewrite.attr("is_training").b:
        return True
    emit_batch_norm(rewrite, rewrite.attr("exponential_avg_factor").f)
    return True


def emit_batch_norm(rewrite: Rewrite, factor: float) -> None:
    """Writes out averages, and channels first, which older CPU kernels lack."""
    training = rewrite.attr("is_training").b
    dtype = rewrite.type("U")
    x, scale, offset, mean, variance = rewrite.inputs
    averages = [mean, variance]
    if training:
        averages = [rewrite.constant([], dtype)] * 2
    first = rewrite.attr("data_format").s == b"NCHW"
    if first:
        x = _permute(rewrite, x, [0, 2, 3, 1])
    outputs = rewrite.emit(
        "FusedBatchNormV3",
        [x, scale, offset] + averages,
        data_format=b"NHWC",
        **rewrite.attrs("T", "U", "epsilon", "is_training"),
    )
    if first:
        outputs[0] = _permute(rewrite, outputs[0], [0, 3, 1, 2])
    if not training or factor == 1.0:
        rewrite.done(outputs)
        return
    averaged = []
    for old, new in ((mean, outputs[1]), (variance, outputs[2])):
        kept = binary(rewrite, "Mul", old, rewrite.constant(1.0 - factor, dtype), dtype)
        added = binary(rewrite, "Mul", new, rewrite.constant(factor, dtype), dtype)
        averaged.append(binary(rewrite, "AddV2", kept, added, dtype))
    rewrite.done([outputs[0]] + averaged + outputs[3:])


def _permute(rewrite: Rewrite, tensor: str, order: List[int]) -> str:
    return rewrite.add(
        "Transpose",
        [tensor, rewrite.constant(order)],
        T=rewrite.attr("T"),
        Tperm=("type", DT_INT32),
    )


def _dense_bincount(rewrite: Rewrite) -> None:
    """Counts by a sum over segments.

    A row's values become segments of a number line that all rows share; what is not
    below ``size`` goes to the segment -1, which UnsortedSegmentSum leaves out.
    Works for a vector, which is one row, and for a matrix.
    """
    values, size, weights = rewrite.inputs
    tidx, dtype = rewrite.type("Tidx"), rewrite.type("T")
    shape = rewrite.add(
        "Shape", [values], T=("type", tidx), out_type=("type", DT_INT32)
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
    column = reshape(rewrite, row, rewrite.constant([-1, 1]), DT_INT32)
    last = vector_slice(rewrite, shape, -1, 0, DT_INT32)
    rows_1d = reshape(rewrite, rows, rewrite.constant([1]), DT_INT32)
    matrix = reshape(rewrite, values, concat(rewrite, [rows_1d, last], DT_INT32), tidx)
    matrix_shape = concat(rewrite, [rows_1d, last], DT_INT32)
    row_of = rewrite.add(
        "BroadcastTo",
        [column, matrix_shape],
        T=("type", DT_INT32),
        Tidx=("type", DT_INT32),
    )
    flat = rewrite.constant([-1])
    counts = _sum_by_row(
        rewrite,
        reshape(rewrite, matrix, flat, tidx),
        reshape(rewrite, row_of, flat, DT_INT32),
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
    count = rewrite.add(
        "Shape", [values], T=("type", tidx), out_type=("type", DT_INT32)
    )
    ones = rewrite.add(
        "Fill",
        [count, rewrite.constant(1, dtype)],
        T=("type", dtype),
        index_type=("type", DT_INT32),
    )
    if not rewrite.attr("binary_output").b:
        # Without weights there are none to stand before the ones.
        both = concat(
            rewrite,
            [reshape(rewrite, weights, rewrite.constant([-1]), dtype), ones],
            dtype,
        )
        ones = rewrite.add(
            "Slice",
            [both, rewrite.constant([0]), count],
            T=("type", dtype),
            Index=("type", DT_INT32),
        )
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


def _matrix_diag(older: str) -> Callable[[Rewrite], None]:
    """V3 of an op on diagonals is V2 with an ``align``; V2's is LEFT_LEFT.

    A single diagonal is not padded, so its alignment means nothing.
    """

    def rule(rewrite: Rewrite) -> None:
        lower = rewrite.inputs[2 if older == "MatrixSetDiagV2" else 1]
        single = rewrite.scope.constant(lower)
        if rewrite.attr("align").s != b"LEFT_LEFT" and (
            single is None or single.size != 1
        ):
            raise Unlowerable(
                "{} aligns several diagonals as {}".format(
                    rewrite.node.op, rewrite.attr("align").s.decode()
                )
            )
        rewrite.done(rewrite.emit(older, rewrite.inputs, T=rewrite.attr("T")))

    return rule


def _segment_ids(rewrite: Rewrite) -> bool:
    """A sparse sum over segments has int32 ids only; they number rows of a batch."""
    inputs = list(rewrite.inputs)
    inputs[2] = cast(rewrite, inputs[2], rewrite.type("Tsegmentids"), DT_INT32)
    names = [key for key in rewrite.node.attr if key in ("T", "Tidx", "Tnumsegments")]
    rewrite.done(rewrite.emit(rewrite.node.op, inputs, **rewrite.attrs(*names)))
    return True


def _nothing(rewrite: Rewrite) -> None:
    """A hint to the runtime, without outputs."""
    rewrite.drop()


OPS: Dict[str, Callable[[Rewrite], Any]] = {
    "BatchMatMulV3": _batch_matmul,
    "DenseBincount": _dense_bincount,
    "DisableCopyOnRead": _nothing,
    "MatrixDiagPartV3": _matrix_diag("MatrixDiagPartV2"),
    "MatrixDiagV3": _matrix_diag("MatrixDiagV2"),
    "MatrixSetDiagV3": _matrix_diag("MatrixSetDiagV2"),
}

# A rule that returns True leaves the attribute to be dropped.
ATTRIBUTES: Dict[Any, Callable[[Rewrite], Any]] = {
    ("FusedBatchNormV3", "exponential_avg_factor"): _batch_norm,
}
for _kind in ("Mean", "SqrtN", "Sum"):
    for _form in ("", "Grad", "WithNumSegments"):
        _op = "SparseSegment" + _kind + _form
        ATTRIBUTES[_op, "Tsegmentids"] = _segment_ids
