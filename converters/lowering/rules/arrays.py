"""Ops that make, take apart or change tensors and lists of them."""

from __future__ import annotations

from typing import Any, Callable, Dict

import numpy as np

from hub_compat._tf import tf

from ...ir.constants import array_of
from ...ir.dtypes import (
    DT_INT32,
    DT_INT64,
    DT_STRING,
    DT_UINT8,
    DT_UINT16,
)
from ...ir.rewriter import Rewrite, Unlowerable
from .arithmetic import cast, concat, gather, shape_of, size_of

__all__ = ["ATTRIBUTES", "OPS", "differs", "of_other_diagonals", "row_of_variant"]


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
        # The gradient of a part has more to it: it takes a matrix for a square.
        main = single is not None and not single.any() and older != "MatrixDiagPartV2"
        kind = tf.as_dtype(rewrite.type("T"))
        if main or not (kind.is_floating or kind.is_complex):
            rewrite.done(rewrite.ops(older, *rewrite.inputs))
        else:
            _by_numbers(rewrite, older)

    return rule


def of_other_diagonals(rewrite: Rewrite) -> str:
    """V2 of an op on diagonals, whose gradient TF 1.15 takes for the main one's."""
    op = str(rewrite.node.op)
    if not differs(rewrite.node, rewrite.scope.producer):
        return ""
    _by_numbers(rewrite, op)
    return op + " is written by numbers"


def differs(node: Any, producer: Callable[[str], Any]) -> bool:
    """Whether a V2 op on diagonals is of others than the main one, with a gradient."""
    kind = tf.as_dtype(node.attr["T"].type)
    if not (kind.is_floating or kind.is_complex):
        return False
    if node.op == "MatrixDiagPartV2":
        return True
    chosen = producer(node.input[2 if node.op == "MatrixSetDiagV2" else 1])
    if chosen is None or chosen.op != "Const":
        return True
    return bool(np.any(array_of(chosen.attr["value"].tensor)))


def _by_numbers(rewrite: Rewrite, older: str) -> None:
    """Does to numbers of elements what the op does to these, and gathers by numbers.

    TF 1.15 takes the gradient of the op for that of the main diagonal, whichever
    diagonals are meant. What is padded has no gradient.
    """
    flat = rewrite.constant([-1])
    inputs = rewrite.inputs
    sources = inputs[:2] if older == "MatrixSetDiagV2" else inputs[:1]
    begin, numbered, parts = rewrite.constant(0), [], []
    for source in sources:
        shape = shape_of(rewrite, source)
        end = rewrite.op("AddV2", begin, size_of(rewrite, source))
        numbers = rewrite.op("Range", begin, end, rewrite.constant(1))
        numbered.append(rewrite.op("Reshape", numbers, shape))
        parts.append(rewrite.op("Reshape", source, flat))
        begin = end
    more = inputs[len(sources) :]
    if older != "MatrixSetDiagV2":
        padding = rewrite.op("StopGradient", more.pop())
        parts.append(rewrite.op("Reshape", padding, flat))
        more.append(begin)
    places = rewrite.op(older, *numbered, *more)
    rewrite.done([gather(rewrite, concat(rewrite, parts), places)])


def _list_set_item(rewrite: Rewrite) -> bool:
    """An array that grows as it is written is made longer first, where too short."""
    handle, index, item = rewrite.inputs
    length = rewrite.op("TensorListLength", handle)
    end = rewrite.op("AddV2", index, rewrite.constant(1))
    longer = rewrite.op("Maximum", length, end)
    resized = rewrite.op("TensorListResize", handle, longer)
    rewrite.done(rewrite.ops("TensorListSetItem", resized, index, item))
    return True


def _segment_ids(rewrite: Rewrite) -> bool:
    """Segment ids of int64; TF 1.15 has int32 only, for indices as well on a CPU."""
    data, indices, segments, *others = rewrite.inputs
    indices = cast(rewrite, indices, DT_INT32)
    segments = cast(rewrite, segments, DT_INT32)
    attrs = rewrite.node.attr
    # What the node leaves to a default stays so.
    kept = {name: attrs[name] for name in ("T", "Tnumsegments") if name in attrs}
    inputs = [data, indices, segments] + others
    rewrite.done(rewrite.emit(rewrite.node.op, inputs, Tidx=DT_INT32, **kept))
    return True


def _top_k(rewrite: Rewrite) -> bool:
    """Indices of another dtype than int32."""
    values, indices = rewrite.ops("TopKV2", *rewrite.inputs, **rewrite.attrs("sorted"))
    rewrite.done([values, cast(rewrite, indices, rewrite.type("index_type"))])
    return True


def _decode_image(rewrite: Rewrite) -> None:
    """DecodePng of TF 1.15 reads JPEG files, and GIF files of one image, as well."""
    if rewrite.attr("expand_animations").b:
        raise Unlowerable("DecodeImage, for its attribute expand_animations=true")
    if rewrite.type("dtype") not in (DT_UINT8, DT_UINT16):
        raise Unlowerable("DecodeImage of other numbers than uint8 and uint16")
    rewrite.done(
        rewrite.ops("DecodePng", *rewrite.inputs, **rewrite.attrs("channels", "dtype"))
    )


def _sparse_cross(rewrite: Rewrite) -> None:
    """Crosses as strings; TF 1.15 has one separator only.

    Where it is told that all inputs are strings, one of integers ends the process.
    """
    separator = rewrite.scope.constant(rewrite.inputs[-1])
    if separator is None or bytes(separator.item()) != b"_X_":
        raise Unlowerable("SparseCrossV2, for a separator that is not '_X_'")
    kinds = {
        kind
        for name in ("sparse_types", "dense_types")
        for kind in rewrite.attr(name).list.type
    }
    internal = DT_STRING if kinds <= {DT_STRING} else DT_INT64
    rewrite.done(
        rewrite.ops(
            "SparseCross",
            *rewrite.arguments[:-1],
            hashed_output=False,
            num_buckets=0,
            hash_key=0,
            out_type=DT_STRING,
            internal_type=internal,
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
    one = rewrite.op("Reshape", rewrite.inputs[0], rewrite.constant([1]))
    outputs = rewrite.ops(
        "RaggedTensorFromVariant",
        one,
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
