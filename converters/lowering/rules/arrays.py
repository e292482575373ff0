"""Ops that make, take apart or change tensors and lists of them."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ...ir.dtypes import DT_INT32, DT_STRING
from ...ir.rewriter import Rewrite, Unlowerable
from .arithmetic import cast, reshape

__all__ = ["ATTRIBUTES", "OPS", "row_of_variant"]

DT_UINT8, DT_UINT16, DT_VARIANT = 4, 17, 21


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
                "{}, which aligns several diagonals as {}".format(
                    rewrite.node.op, rewrite.attr("align").s.decode()
                )
            )
        rewrite.done(rewrite.emit(older, rewrite.inputs, T=rewrite.attr("T")))

    return rule


def _list_set_item(rewrite: Rewrite) -> bool:
    """An array that grows as it is written is made longer first, where too short."""
    handle, index, item = rewrite.inputs
    length = rewrite.add("TensorListLength", [handle])
    end = rewrite.add("AddV2", [index, rewrite.constant(1)], T=("type", DT_INT32))
    longer = rewrite.add("Maximum", [length, end], T=("type", DT_INT32))
    resized = rewrite.add("TensorListResize", [handle, longer])
    rewrite.done(
        rewrite.emit(
            "TensorListSetItem",
            [resized, index, item],
            **rewrite.attrs("element_dtype"),
        )
    )
    return True


def _segment_ids(rewrite: Rewrite) -> bool:
    """Segment ids of int64; TF 1.15 has int32 only, for indices as well on a CPU."""
    data, indices, segments = rewrite.inputs[:3]
    indices = cast(rewrite, indices, rewrite.type("Tidx"), DT_INT32)
    segments = cast(rewrite, segments, rewrite.type("Tsegmentids"), DT_INT32)
    names = [name for name in ("T", "Tnumsegments") if name in rewrite.node.attr]
    rewrite.done(
        rewrite.emit(
            rewrite.node.op,
            [data, indices, segments] + rewrite.inputs[3:],
            Tidx=("type", DT_INT32),
            **rewrite.attrs(*names),
        )
    )
    return True


def _top_k(rewrite: Rewrite) -> bool:
    """Indices of another dtype than int32."""
    values, indices = rewrite.emit(
        "TopKV2", rewrite.inputs, **rewrite.attrs("T", "sorted")
    )
    wanted = rewrite.type("index_type")
    rewrite.done([values, cast(rewrite, indices, DT_INT32, wanted)])
    return True


def _decode_image(rewrite: Rewrite) -> None:
    """DecodePng of TF 1.15 reads JPEG files, and GIF files of one image, as well."""
    if rewrite.attr("expand_animations").b:
        raise Unlowerable("DecodeImage, for its attribute expand_animations=true")
    if rewrite.type("dtype") not in (DT_UINT8, DT_UINT16):
        raise Unlowerable("DecodeImage of other numbers than uint8 and uint16")
    rewrite.done(
        rewrite.emit("DecodePng", rewrite.inputs, **rewrite.attrs("channels", "dtype"))
    )


def _sparse_cross(rewrite: Rewrite) -> None:
    """Crosses as strings; TF 1.15 has one separator only."""
    separator = rewrite.scope.constant(rewrite.inputs[-1])
    if separator is None or bytes(separator.item()) != b"_X_":
        raise Unlowerable("SparseCrossV2, for a separator that is not '_X_'")
    rewrite.done(
        rewrite.emit(
            "SparseCross",
            rewrite.inputs[:-1],
            hashed_output=False,
            num_buckets=0,
            hash_key=0,
            out_type=("type", DT_STRING),
            internal_type=("type", DT_STRING),
            **rewrite.attrs("N", "sparse_types", "dense_types"),
        )
    )


def row_of_variant(rewrite: Rewrite, key: str) -> bool:
    """A row of a ragged tensor, as map_fn takes it, which TF 1.15 does not decode.

    It decodes a list of rows: of one row, the values are that row.

    Args:
      rewrite: a node whose op the target has.
      key: the attribute with a number that the op does not take there.
    """
    if rewrite.node.op != "RaggedTensorFromVariant" or key != "output_ragged_rank":
        return False
    if rewrite.attr(key).i != 0:
        return False
    one = reshape(rewrite, rewrite.inputs[0], rewrite.constant([1]), DT_VARIANT)
    outputs = rewrite.emit(
        "RaggedTensorFromVariant",
        [one],
        input_ragged_rank=0,
        output_ragged_rank=1,
        **rewrite.attrs("Tvalues", "Tsplits"),
    )
    rewrite.done(outputs[1:])
    return True


OPS: Dict[str, Callable[[Rewrite], Any]] = {
    "DecodeImage": _decode_image,
    "MatrixDiagPartV3": _matrix_diag("MatrixDiagPartV2"),
    "MatrixDiagV3": _matrix_diag("MatrixDiagV2"),
    "MatrixSetDiagV3": _matrix_diag("MatrixSetDiagV2"),
    "SparseCrossV2": _sparse_cross,
}

# A rule that returns True leaves the attribute to be dropped.
ATTRIBUTES: Dict[Any, Callable[[Rewrite], Any]] = {
    **{
        ("SparseSegment" + op, "Tsegmentids"): _segment_ids
        for op in (
            "Mean",
            "MeanGrad",
            "MeanWithNumSegments",
            "SqrtN",
            "SqrtNGrad",
            "SqrtNWithNumSegments",
            "Sum",
            "SumWithNumSegments",
        )  # SumGrad is newer than the attribute.
    },
    ("TopKV2", "index_type"): _top_k,
    ("TensorListSetItem", "resize_if_index_out_of_bounds"): _list_set_item,
}
