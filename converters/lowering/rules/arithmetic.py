"""Ops on numbers that got new forms: products, normalization, functions."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from hub_compat._tf import tf

from ...ir.builder import Tensor
from ...ir.dtypes import DT_INT32
from ...ir.rewriter import Rewrite

__all__ = ["ATTRIBUTES", "OPS"]


def cast(rewrite: Rewrite, tensor: Tensor, target: int) -> Tensor:
    """A tensor as another dtype."""
    if tensor.dtype == target:
        return tensor
    return rewrite.op("Cast", tensor, DstT=target)


def concat(rewrite: Rewrite, tensors: Sequence[Tensor]) -> Tensor:
    """Vectors, one after the other; or tensors, by their first dimension."""
    return rewrite.op("ConcatV2", tensors, rewrite.constant(0))


def gather(rewrite: Rewrite, tensor: Tensor, places: Tensor) -> Tensor:
    """Rows of a tensor, or elements of a vector, by their numbers."""
    return rewrite.op("GatherV2", tensor, places, rewrite.constant(0), batch_dims=0)


def shape_of(rewrite: Rewrite, tensor: Tensor) -> Tensor:
    """The shape of a tensor, an int32 vector."""
    return rewrite.op("Shape", tensor, out_type=DT_INT32)


def size_of(rewrite: Rewrite, tensor: Tensor, dtype: int = DT_INT32) -> Tensor:
    """How many elements a tensor has, a scalar."""
    return rewrite.op("Size", tensor, out_type=dtype)


def vector_slice(rewrite: Rewrite, tensor: Tensor, begin: int, end: int) -> Tensor:
    """Elements of a vector; an end of 0 is that of the vector."""
    return rewrite.op(
        "StridedSlice",
        tensor,
        rewrite.constant([begin]),
        rewrite.constant([end]),
        rewrite.constant([1]),
        begin_mask=0,
        end_mask=1 if end == 0 else 0,
        ellipsis_mask=0,
        new_axis_mask=0,
        shrink_axis_mask=0,
    )


def column(rewrite: Rewrite, matrix: Tensor, number: int) -> Tensor:
    """A column of a matrix, as a vector."""
    return rewrite.op(
        "StridedSlice",
        matrix,
        *[rewrite.constant(n) for n in ([0, number], [0, number + 1], [1, 1])],
        begin_mask=1,
        end_mask=1,
        ellipsis_mask=0,
        new_axis_mask=0,
        shrink_axis_mask=2,
    )


def permute(rewrite: Rewrite, tensor: Tensor, order: List[int]) -> Tensor:
    """A tensor with its dimensions in another order."""
    return rewrite.op("Transpose", tensor, rewrite.constant(order))


def _batch_matmul(rewrite: Rewrite) -> None:
    """BatchMatMulV3 is V2 with dtypes of their own for its operands.

    Where all are one it is V2. Else both are cast to the result's dtype, in which V3
    computes.
    """
    out = rewrite.type("Tout")
    operands = [cast(rewrite, tensor, out) for tensor in rewrite.inputs]
    rewrite.done(
        rewrite.ops("BatchMatMulV2", *operands, **rewrite.attrs("adj_x", "adj_y"))
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


# Given: y = FusedBatchNormV3(x, ...) {data_format: "NCDHW", is_training: true}
# Result:
#     Transpose to NDHWC, Reshape to [1, 1, D*H*W*N, C]      moments do not mind
#     FusedBatchNormV3 {data_format: "NHWC"}, with empty averages
#     Reshape and Transpose back
#     averages = (1 - factor) * old + factor * new           unless factor is 1
def emit_batch_norm(rewrite: Rewrite, factor: float) -> None:
    """Writes out averages, channels first, and volumes, which older kernels lack."""
    training = rewrite.attr("is_training").b
    dtype = rewrite.type("U")
    x, scale, offset, mean, variance = rewrite.inputs
    averages = [mean, variance]
    if training:
        averages = [rewrite.constant([], dtype)] * 2
    layout = rewrite.attr("data_format").s
    rank = len(layout)
    first = layout.startswith(b"NC")
    if first:
        x = permute(rewrite, x, [0] + list(range(2, rank)) + [1])
    if rank == 5:
        shape = shape_of(rewrite, x)
        channels = vector_slice(rewrite, shape, 4, 0)
        flat = concat(rewrite, [rewrite.constant([1, 1, -1]), channels])
        x = rewrite.op("Reshape", x, flat)
    outputs = rewrite.ops(
        "FusedBatchNormV3",
        x,
        scale,
        offset,
        *averages,
        data_format=b"NHWC",
        **rewrite.attrs("epsilon", "is_training"),
    )
    if rank == 5:
        outputs[0] = rewrite.op("Reshape", outputs[0], shape)
    if first:
        outputs[0] = permute(
            rewrite, outputs[0], [0, rank - 1] + list(range(1, rank - 1))
        )
    if not training or factor == 1.0:
        rewrite.done(outputs)
        return
    averaged = []
    for old, new in ((mean, outputs[1]), (variance, outputs[2])):
        # The op has no gradient for averages, neither old nor new.
        old = rewrite.op("StopGradient", old)
        kept = rewrite.op("Mul", old, rewrite.constant(1.0 - factor, dtype))
        added = rewrite.op("Mul", new, rewrite.constant(factor, dtype))
        averaged.append(rewrite.op("AddV2", kept, added))
    rewrite.done([outputs[0]] + averaged + outputs[3:])


# Given: y = MaxPool(x) {padding: "EXPLICIT", explicit_paddings: [0, 0, 1, 1, 1, 1, 0,
# 0]}
# Result:
#     y = MaxPool(PadV2(x, [[0, 0], [1, 1], [1, 1], [0, 0]], lowest)) {padding: "VALID"}
def _explicit_padding(*kept: str) -> Callable[[Rewrite], bool]:
    """Padding of an op's own is a padding before it.

    Args:
      *kept: further attributes of the op; a pool, which has no kernel, takes no pixel
        of what is added.
    """

    def rule(rewrite: Rewrite) -> bool:
        data, *others = rewrite.inputs
        sides = list(rewrite.attr("explicit_paddings").list.i)
        pads = rewrite.constant(np.reshape(sides, (-1, 2)))
        fill = 0 if others else tf.as_dtype(data.dtype).min
        padded = rewrite.op("PadV2", data, pads, rewrite.constant(fill, data.dtype))
        attrs = rewrite.attrs("strides", "data_format", *kept)
        rewrite.done(
            rewrite.ops(rewrite.node.op, padded, *others, padding=b"VALID", **attrs)
        )
        return True

    return rule


def _xlog1py(rewrite: Rewrite) -> None:
    """x * log(1 + y), 0 where x is 0 whatever y is, as are its gradients there."""
    x, y = rewrite.inputs
    zero = rewrite.constant(0, x.dtype)
    there = rewrite.op("NotEqual", x, zero)
    safe = rewrite.op("SelectV2", there, y, zero)
    rewrite.done(rewrite.ops("Mul", x, rewrite.op("Log1p", safe)))


def _bessel(scaled: str) -> Callable[[Rewrite], None]:
    """A Bessel function by the one that is scaled by exp(-abs(x))."""

    def rule(rewrite: Rewrite) -> None:
        (x,) = rewrite.inputs
        scale = rewrite.op("Exp", rewrite.op("Abs", x))
        value = rewrite.op(scaled, x)
        rewrite.done(rewrite.ops("Mul", scale, value))

    return rule


def _nothing(rewrite: Rewrite) -> None:
    """A hint to the runtime, without outputs."""
    rewrite.drop()


OPS: Dict[str, Callable[[Rewrite], Any]] = {
    "BatchMatMulV3": _batch_matmul,
    "BesselI0": _bessel("BesselI0e"),
    "BesselI1": _bessel("BesselI1e"),
    "DisableCopyOnRead": _nothing,
    "Xlog1py": _xlog1py,
}

# A rule that returns True leaves the attribute to be dropped.
ATTRIBUTES: Dict[Any, Callable[[Rewrite], Any]] = {
    ("DepthwiseConv2dNative", "explicit_paddings"): _explicit_padding("dilations"),
    ("FusedBatchNormV3", "exponential_avg_factor"): _batch_norm,
    ("MaxPool", "explicit_paddings"): _explicit_padding("ksize"),
}
