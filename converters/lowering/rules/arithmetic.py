"""Ops on numbers that got new forms: products, normalization, functions."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import numpy as np

from hub_compat._tf import tf

from ...ir.dtypes import DT_INT32
from ...ir.rewriter import Rewrite

__all__ = ["ATTRIBUTES", "OPS"]


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


def column(rewrite: Rewrite, matrix: str, number: int, dtype: int) -> str:
    """A column of a matrix, as a vector."""
    return rewrite.add(
        "StridedSlice",
        [matrix]
        + [rewrite.constant(n) for n in ([0, number], [0, number + 1], [1, 1])],
        T=("type", dtype),
        Index=("type", DT_INT32),
        begin_mask=1,
        end_mask=1,
        ellipsis_mask=0,
        new_axis_mask=0,
        shrink_axis_mask=2,
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
        x = _permute(rewrite, x, [0] + list(range(2, rank)) + [1])
    if rank == 5:
        shape = rewrite.add(
            "Shape", [x], T=rewrite.attr("T"), out_type=("type", DT_INT32)
        )
        channels = vector_slice(rewrite, shape, 4, 0, DT_INT32)
        flat = concat(rewrite, [rewrite.constant([1, 1, -1]), channels], DT_INT32)
        x = reshape(rewrite, x, flat, rewrite.type("T"))
    outputs = rewrite.emit(
        "FusedBatchNormV3",
        [x, scale, offset] + averages,
        data_format=b"NHWC",
        **rewrite.attrs("T", "U", "epsilon", "is_training"),
    )
    if rank == 5:
        outputs[0] = reshape(rewrite, outputs[0], shape, rewrite.type("T"))
    if first:
        outputs[0] = _permute(
            rewrite, outputs[0], [0, rank - 1] + list(range(1, rank - 1))
        )
    if not training or factor == 1.0:
        rewrite.done(outputs)
        return
    averaged = []
    for old, new in ((mean, outputs[1]), (variance, outputs[2])):
        # The op has no gradient for averages, neither old nor new.
        old = rewrite.add("StopGradient", [old], T=("type", dtype))
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


def _explicit_padding(*kept: str) -> Callable[[Rewrite], bool]:
    """Padding of an op's own is a padding before it.

    Args:
      *kept: further attributes of the op; a pool, which has no kernel, takes no pixel
        of what is added.
    """

    def rule(rewrite: Rewrite) -> bool:
        node, dtype = rewrite.node, rewrite.attr("T")
        sides = list(rewrite.attr("explicit_paddings").list.i)
        pads = rewrite.constant(np.reshape(sides, (-1, 2)))
        fill = tf.as_dtype(dtype.type).min if len(rewrite.inputs) == 1 else 0
        padded = rewrite.add(
            "PadV2",
            [rewrite.inputs[0], pads, rewrite.constant(fill, dtype.type)],
            T=dtype,
            Tpaddings=("type", DT_INT32),
        )
        rewrite.done(
            rewrite.emit(
                node.op,
                [padded] + rewrite.inputs[1:],
                padding=b"VALID",
                **rewrite.attrs("T", "strides", "data_format", *kept),
            )
        )
        return True

    return rule


def _xlog1py(rewrite: Rewrite) -> None:
    """x * log(1 + y), 0 where x is 0 whatever y is, as are its gradients there."""
    x, y = rewrite.inputs
    dtype = rewrite.attr("T")
    zero = rewrite.constant(0, dtype.type)
    there = rewrite.add("NotEqual", [x, zero], T=dtype)
    safe = rewrite.add("SelectV2", [there, y, zero], T=dtype)
    rewrite.done(
        rewrite.emit("Mul", [x, rewrite.add("Log1p", [safe], T=dtype)], T=dtype)
    )


def _bessel(scaled: str) -> Callable[[Rewrite], None]:
    """A Bessel function by the one that is scaled by exp(-abs(x))."""

    def rule(rewrite: Rewrite) -> None:
        (x,) = rewrite.inputs
        dtype = rewrite.attr("T")
        scale = rewrite.add("Exp", [rewrite.add("Abs", [x], T=dtype)], T=dtype)
        value = rewrite.add(scaled, [x], T=dtype)
        rewrite.done(rewrite.emit("Mul", [scale, value], T=dtype))

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
