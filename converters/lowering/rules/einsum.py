"""Einsum by transposes and a product of matrices.

TensorFlow 1.15 has the op, but no gradient for it.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

from ...ir.builder import Tensor
from ...ir.rewriter import Rewrite
from .arithmetic import concat, permute, shape_of, size_of, vector_slice

__all__ = ["rewrite_einsum"]

# Stands for the dimensions behind "...", flattened into one.
_ELLIPSIS = "."


class _Operand(NamedTuple):
    """A tensor with a label for each dimension.

    Attributes:
      tensor: the tensor.
      labels: one letter for each of its dimensions.
    """

    tensor: Tensor
    labels: str


# Given:
#     y = Einsum(a, b) {equation: "...ij,jk->...ki"}
# Result, step by step:
#     _flatten     the ellipsis becomes one dimension:   "eij,jk->eki"
#     _diagonals   labels that occur twice in a term     none here
#     _sum_out     labels that nothing else has          none here
#     _product     BatchMatMulV2 of matrices:            j is inner, ei rows, k columns
#     _repeat      the labels of the result, in order
#     Reshape      the ellipsis gets its dimensions back
def rewrite_einsum(rewrite: Rewrite) -> None:
    """Rewrites an Einsum, which has one operand or two."""
    equation = rewrite.attr("equation").s.decode().replace(" ", "")
    left, _, result = equation.partition("->")
    terms = [term.replace("...", _ELLIPSIS) for term in left.split(",")]
    result = result.replace("...", _ELLIPSIS)
    operands, outer = _flatten(rewrite, terms)
    operands = [_diagonals(rewrite, operand) for operand in operands]
    operands = [
        _sum_out(rewrite, operand, i, operands, result)
        for i, operand in enumerate(operands)
    ]
    # Each label once, the ellipsis first; the rest is done to the result.
    labels = dict.fromkeys(_ELLIPSIS * (_ELLIPSIS in result) + result)
    wanted = "".join(labels)
    if len(operands) == 1:
        found = _transpose(rewrite, *operands[0], wanted)
    else:
        found = _product(rewrite, operands[0], operands[1], wanted)
    found = _repeat(rewrite, found, wanted, result)
    if _ELLIPSIS in result:
        assert outer is not None
        rest = vector_slice(rewrite, shape_of(rewrite, found), 1, 0)
        found = rewrite.op("Reshape", found, concat(rewrite, [outer, rest]))
        before = result.index(_ELLIPSIS)
        if before:
            count = size_of(rewrite, outer)
            end = rewrite.op("AddV2", count, rewrite.constant(before))
            found = _swap(rewrite, found, count, end)
    rewrite.done([found])


def _flatten(
    rewrite: Rewrite, terms: Sequence[str]
) -> Tuple[List[_Operand], Optional[Tensor]]:
    """Makes the dimensions behind an ellipsis one, which comes first.

    Returns:
      The operands, and the shape behind their ellipses; None without one.
    """
    moved = []
    for tensor, term in zip(rewrite.inputs, terms):
        before = term.find(_ELLIPSIS)
        if before > 0:
            tensor = _ellipsis_first(rewrite, tensor, term)
            term = _ELLIPSIS + term.replace(_ELLIPSIS, "")
        moved.append((tensor, term))
    shapes = []
    for tensor, term in moved:
        if _ELLIPSIS in term:
            shape = shape_of(rewrite, tensor)
            inner = len(term) - 1
            if inner:
                shape = vector_slice(rewrite, shape, 0, -inner)
            shapes.append(shape)
    if not shapes:
        return [_Operand(*one) for one in moved], None
    outer = shapes[0]
    if len(shapes) == 2:
        outer = rewrite.op("BroadcastArgs", *shapes)
    operands = []
    for tensor, term in moved:
        if _ELLIPSIS in term:
            rest: List[Tensor] = []
            if len(term) > 1:
                shape = shape_of(rewrite, tensor)
                rest = [vector_slice(rewrite, shape, 1 - len(term), 0)]
            if len(shapes) == 2:
                whole = concat(rewrite, [outer] + rest) if rest else outer
                tensor = rewrite.op("BroadcastTo", tensor, whole)
            flat = rewrite.constant([-1])
            if rest:
                # -1 stands for nothing where another dimension is 0.
                flat = concat(rewrite, [_total(rewrite, outer)] + rest)
            tensor = rewrite.op("Reshape", tensor, flat)
        operands.append(_Operand(tensor, term))
    return operands, outer


def _ellipsis_first(rewrite: Rewrite, tensor: Tensor, term: str) -> Tensor:
    """Puts the dimensions behind an ellipsis before the others."""
    before = term.index(_ELLIPSIS)
    after = len(term) - before - 1
    rank = size_of(rewrite, shape_of(rewrite, tensor))
    end = rewrite.op("Sub", rank, rewrite.constant(after))
    return _swap(rewrite, tensor, rewrite.constant(before), end)


def _swap(rewrite: Rewrite, tensor: Tensor, middle: Tensor, end: Tensor) -> Tensor:
    """Moves the dimensions from ``middle`` to ``end`` before those up to ``middle``."""
    rank = size_of(rewrite, shape_of(rewrite, tensor))
    zero, one = rewrite.constant(0), rewrite.constant(1)
    order = [
        rewrite.op("Range", start, stop, one)
        for start, stop in ((middle, end), (zero, middle), (end, rank))
    ]
    return rewrite.op("Transpose", tensor, concat(rewrite, order))


def _diagonals(rewrite: Rewrite, operand: _Operand) -> _Operand:
    """Takes the diagonal where a label occurs twice."""
    tensor, labels = operand
    for label in sorted(set(labels)):
        while labels.count(label) > 1:
            first, second = [i for i, c in enumerate(labels) if c == label][:2]
            others = [i for i in range(len(labels)) if i not in (first, second)]
            tensor = permute(rewrite, tensor, others + [first, second])
            tensor = rewrite.op("MatrixDiagPart", tensor)
            labels = "".join(labels[i] for i in others) + label
    return _Operand(tensor, labels)


def _repeat(rewrite: Rewrite, tensor: Tensor, labels: str, wanted: str) -> Tensor:
    """Makes a diagonal where the result has a label twice; the ellipsis stays first."""
    wanted = _ELLIPSIS * (_ELLIPSIS in wanted) + wanted.replace(_ELLIPSIS, "")
    for label in labels:
        while labels.count(label) < wanted.count(label):
            last = labels.replace(label, "", 1) + label
            tensor = permute(rewrite, tensor, _places(labels, last))
            tensor = rewrite.op("MatrixDiag", tensor)
            labels = last + label
    if labels == wanted:
        return tensor
    return permute(rewrite, tensor, _places(labels, wanted))


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
) -> _Operand:
    """Sums over the dimensions that nothing else has."""
    others = result + "".join(
        other.labels for i, other in enumerate(operands) if i != index
    )
    alone = [i for i, label in enumerate(operand.labels) if label not in others]
    if not alone:
        return operand
    axes = rewrite.constant(alone)
    tensor = rewrite.op("Sum", operand.tensor, axes, keep_dims=False)
    kept = "".join(label for label in operand.labels if label in others)
    return _Operand(tensor, kept)


def _transpose(rewrite: Rewrite, tensor: Tensor, labels: str, wanted: str) -> Tensor:
    if labels == wanted:
        return tensor
    return permute(rewrite, tensor, [labels.index(c) for c in wanted])


# Each label is in one of four groups:
#
#     batch      in both operands and in the result
#     inner      in both, and summed over
#     rows       in the first alone
#     columns    in the second alone
def _product(rewrite: Rewrite, one: _Operand, other: _Operand, result: str) -> Tensor:
    """The product of two operands."""
    both = [label for label in one.labels if label in other.labels]
    batch = "".join(label for label in both if label in result)
    inner = "".join(label for label in both if label not in result)
    rows = "".join(label for label in one.labels if label not in both)
    columns = "".join(label for label in other.labels if label not in both)
    first = _transpose(rewrite, one.tensor, one.labels, batch + rows + inner)
    second = _transpose(rewrite, other.tensor, other.labels, batch + inner + columns)
    shapes = (shape_of(rewrite, first), shape_of(rewrite, second))
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
        matrices.append(rewrite.op("Reshape", tensor, concat(rewrite, sizes)))
    product = rewrite.op("BatchMatMulV2", *matrices, adj_x=False, adj_y=False)
    if not b == r == c == 1:
        dims = concat(rewrite, [batch_dims, row_dims, column_dims])
        product = rewrite.op("Reshape", product, dims)
    return _transpose(rewrite, product, batch + rows + columns, result)


def _part(rewrite: Rewrite, shape: Tensor, begin: int, end: int) -> Tensor:
    """Some elements of a shape; maybe none."""
    size = end - begin
    return rewrite.op(
        "Slice", shape, rewrite.constant([begin]), rewrite.constant([size])
    )


def _total(rewrite: Rewrite, dims: Tensor) -> Tensor:
    """The product of some dimensions, as a vector of one element; 1 for none."""
    return rewrite.op("Prod", dims, rewrite.constant([0]), keep_dims=True)
