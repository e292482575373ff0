"""Einsum by transposes and a product of matrices.

TensorFlow 1.15 has the op, but no gradient for it.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

from ...ir.dtypes import DT_INT32
from ...ir.rewriter import Rewrite
from .arithmetic import concat, reshape, vector_slice

__all__ = ["rewrite_einsum"]

# Stands for the dimensions behind "...", flattened into one.
_ELLIPSIS = "."


class _Operand(NamedTuple):
    """A tensor with a label for each dimension.

    Attributes:
      tensor: the tensor.
      labels: one letter for each of its dimensions.
    """

    tensor: str
    labels: str


def rewrite_einsum(rewrite: Rewrite) -> None:
    """Rewrites an Einsum, which has one operand or two."""
    equation = rewrite.attr("equation").s.decode().replace(" ", "")
    left, _, result = equation.partition("->")
    terms = [term.replace("...", _ELLIPSIS) for term in left.split(",")]
    result = result.replace("...", _ELLIPSIS)
    dtype = rewrite.type("T")
    operands, outer = _flatten(rewrite, terms, dtype)
    operands = [_diagonals(rewrite, operand, dtype) for operand in operands]
    operands = [
        _sum_out(rewrite, operand, i, operands, result, dtype)
        for i, operand in enumerate(operands)
    ]
    # Each label once, the ellipsis first; the rest is done to the result.
    labels = dict.fromkeys(_ELLIPSIS * (_ELLIPSIS in result) + result)
    wanted = "".join(labels)
    if len(operands) == 1:
        found = _transpose(rewrite, *operands[0], wanted, dtype)
    else:
        found = _product(rewrite, operands[0], operands[1], wanted, dtype)
    found = _repeat(rewrite, found, wanted, result, dtype)
    if _ELLIPSIS in result:
        assert outer is not None
        rest = vector_slice(rewrite, _shape(rewrite, found, dtype), 1, 0, DT_INT32)
        found = reshape(rewrite, found, concat(rewrite, [outer, rest], DT_INT32), dtype)
        before = result.index(_ELLIPSIS)
        if before:
            count = _count(rewrite, outer)
            end = rewrite.add(
                "AddV2", [count, rewrite.constant(before)], T=("type", DT_INT32)
            )
            found = _swap(rewrite, found, count, end, dtype)
    rewrite.done([found])


def _shape(rewrite: Rewrite, tensor: str, dtype: int) -> str:
    return rewrite.add(
        "Shape", [tensor], T=("type", dtype), out_type=("type", DT_INT32)
    )


def _flatten(
    rewrite: Rewrite, terms: Sequence[str], dtype: int
) -> Tuple[List[_Operand], Optional[str]]:
    """Makes the dimensions behind an ellipsis one, which comes first.

    Returns:
      The operands, and the shape behind their ellipses; None without one.
    """
    moved = []
    for tensor, term in zip(rewrite.inputs, terms):
        before = term.find(_ELLIPSIS)
        if before > 0:
            tensor = _ellipsis_first(rewrite, tensor, term, dtype)
            term = _ELLIPSIS + term.replace(_ELLIPSIS, "")
        moved.append((tensor, term))
    shapes = []
    for tensor, term in moved:
        if _ELLIPSIS in term:
            shape = _shape(rewrite, tensor, dtype)
            inner = len(term) - 1
            if inner:
                shape = vector_slice(rewrite, shape, 0, -inner, DT_INT32)
            shapes.append(shape)
    if not shapes:
        return [_Operand(*one) for one in moved], None
    outer = shapes[0]
    if len(shapes) == 2:
        outer = rewrite.add("BroadcastArgs", shapes, T=("type", DT_INT32))
    operands = []
    for tensor, term in moved:
        if _ELLIPSIS in term:
            rest: List[str] = []
            if len(term) > 1:
                shape = _shape(rewrite, tensor, dtype)
                rest = [vector_slice(rewrite, shape, 1 - len(term), 0, DT_INT32)]
            if len(shapes) == 2:
                whole = concat(rewrite, [outer] + rest, DT_INT32) if rest else outer
                tensor = rewrite.add(
                    "BroadcastTo",
                    [tensor, whole],
                    T=("type", dtype),
                    Tidx=("type", DT_INT32),
                )
            flat = rewrite.constant([-1])
            if rest:
                # -1 stands for nothing where another dimension is 0.
                flat = concat(rewrite, [_total(rewrite, outer)] + rest, DT_INT32)
            tensor = reshape(rewrite, tensor, flat, dtype)
        operands.append(_Operand(tensor, term))
    return operands, outer


def _ellipsis_first(rewrite: Rewrite, tensor: str, term: str, dtype: int) -> str:
    """Puts the dimensions behind an ellipsis before the others."""
    before = term.index(_ELLIPSIS)
    after = len(term) - before - 1
    rank = _count(rewrite, _shape(rewrite, tensor, dtype))
    end = rewrite.add("Sub", [rank, rewrite.constant(after)], T=("type", DT_INT32))
    return _swap(rewrite, tensor, rewrite.constant(before), end, dtype)


def _count(rewrite: Rewrite, vector: str) -> str:
    """How many elements a vector of int32 has, a scalar."""
    return rewrite.add(
        "Size", [vector], T=("type", DT_INT32), out_type=("type", DT_INT32)
    )


def _swap(rewrite: Rewrite, tensor: str, middle: str, end: str, dtype: int) -> str:
    """Moves the dimensions from ``middle`` to ``end`` before those up to ``middle``."""
    rank = _count(rewrite, _shape(rewrite, tensor, dtype))
    zero, one = rewrite.constant(0), rewrite.constant(1)
    order = [
        rewrite.add("Range", [start, stop, one], Tidx=("type", DT_INT32))
        for start, stop in ((middle, end), (zero, middle), (end, rank))
    ]
    return rewrite.add(
        "Transpose",
        [tensor, concat(rewrite, order, DT_INT32)],
        T=("type", dtype),
        Tperm=("type", DT_INT32),
    )


def _diagonals(rewrite: Rewrite, operand: _Operand, dtype: int) -> _Operand:
    """Takes the diagonal where a label occurs twice."""
    tensor, labels = operand
    for label in sorted(set(labels)):
        while labels.count(label) > 1:
            first, second = [i for i, c in enumerate(labels) if c == label][:2]
            others = [i for i in range(len(labels)) if i not in (first, second)]
            tensor = _permute(rewrite, tensor, others + [first, second], dtype)
            tensor = rewrite.add("MatrixDiagPart", [tensor], T=("type", dtype))
            labels = "".join(labels[i] for i in others) + label
    return _Operand(tensor, labels)


def _repeat(rewrite: Rewrite, tensor: str, labels: str, wanted: str, dtype: int) -> str:
    """Makes a diagonal where the result has a label twice; the ellipsis stays first."""
    wanted = _ELLIPSIS * (_ELLIPSIS in wanted) + wanted.replace(_ELLIPSIS, "")
    for label in labels:
        while labels.count(label) < wanted.count(label):
            last = labels.replace(label, "", 1) + label
            tensor = _permute(rewrite, tensor, _places(labels, last), dtype)
            tensor = rewrite.add("MatrixDiag", [tensor], T=("type", dtype))
            labels = last + label
    if labels == wanted:
        return tensor
    return _permute(rewrite, tensor, _places(labels, wanted), dtype)


def _places(labels: str, wanted: str) -> List[int]:
    """Where each of the wanted labels is; of equal ones, any order."""
    free = list(enumerate(labels))
    places = []
    for label in wanted:
        found = next(pair for pair in free if pair[1] == label)
        free.remove(found)
        places.append(found[0])
    return places


def _sum_out(
    rewrite: Rewrite,
    operand: _Operand,
    index: int,
    operands: Sequence[_Operand],
    result: str,
    dtype: int,
) -> _Operand:
    """Sums over the dimensions that nothing else has."""
    others = result + "".join(
        other.labels for i, other in enumerate(operands) if i != index
    )
    alone = [i for i, label in enumerate(operand.labels) if label not in others]
    if not alone:
        return operand
    tensor = rewrite.add(
        "Sum",
        [operand.tensor, rewrite.constant(alone)],
        T=("type", dtype),
        Tidx=("type", DT_INT32),
        keep_dims=False,
    )
    kept = "".join(label for label in operand.labels if label in others)
    return _Operand(tensor, kept)


def _transpose(
    rewrite: Rewrite, tensor: str, labels: str, wanted: str, dtype: int
) -> str:
    if labels == wanted:
        return tensor
    return _permute(rewrite, tensor, [labels.index(c) for c in wanted], dtype)


def _permute(rewrite: Rewrite, tensor: str, order: List[int], dtype: int) -> str:
    return rewrite.add(
        "Transpose",
        [tensor, rewrite.constant(order)],
        T=("type", dtype),
        Tperm=("type", DT_INT32),
    )


def _product(
    rewrite: Rewrite, one: _Operand, other: _Operand, result: str, dtype: int
) -> str:
    """The product of two operands."""
    both = [label for label in one.labels if label in other.labels]
    batch = "".join(label for label in both if label in result)
    inner = "".join(label for label in both if label not in result)
    rows = "".join(label for label in one.labels if label not in both)
    columns = "".join(label for label in other.labels if label not in both)
    first = _transpose(rewrite, one.tensor, one.labels, batch + rows + inner, dtype)
    second = _transpose(
        rewrite, other.tensor, other.labels, batch + inner + columns, dtype
    )
    shapes = (_shape(rewrite, first, dtype), _shape(rewrite, second, dtype))
    b, r, c = len(batch), len(rows), len(columns)
    batch_dims = _part(rewrite, shapes[0], 0, b)
    row_dims = _part(rewrite, shapes[0], b, b + r)
    inner_dims = _part(rewrite, shapes[0], b + r, b + r + len(inner))
    column_dims = _part(rewrite, shapes[1], b + len(inner), b + len(inner) + c)
    matrices = []
    for tensor, labels, groups in (
        (first, (batch, rows, inner), (batch_dims, row_dims, inner_dims)),
        (second, (batch, inner, columns), (batch_dims, inner_dims, column_dims)),
    ):
        if all(len(group) == 1 for group in labels):
            matrices.append(tensor)
            continue
        sizes = [
            dims if len(group) == 1 else _total(rewrite, dims)
            for group, dims in zip(labels, groups)
        ]
        shape = concat(rewrite, sizes, DT_INT32)
        matrices.append(reshape(rewrite, tensor, shape, dtype))
    product = rewrite.add(
        "BatchMatMulV2", matrices, T=("type", dtype), adj_x=False, adj_y=False
    )
    if not b == r == c == 1:
        dims = concat(rewrite, [batch_dims, row_dims, column_dims], DT_INT32)
        product = reshape(rewrite, product, dims, dtype)
    return _transpose(rewrite, product, batch + rows + columns, result, dtype)


def _part(rewrite: Rewrite, shape: str, begin: int, end: int) -> str:
    """Some elements of a shape; maybe none."""
    return rewrite.add(
        "Slice",
        [shape, rewrite.constant([begin]), rewrite.constant([end - begin])],
        T=("type", DT_INT32),
        Index=("type", DT_INT32),
    )


def _total(rewrite: Rewrite, dims: str) -> str:
    """The product of some dimensions, as a vector of one element; 1 for none."""
    return rewrite.add(
        "Prod",
        [dims, rewrite.constant([0])],
        T=("type", DT_INT32),
        Tidx=("type", DT_INT32),
        keep_dims=True,
    )
