"""Einsum by transposes and a product of matrices.

TensorFlow 1.15 has the op, but no gradient for it.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

from ..graph import DT_INT32
from .arithmetic import concat, reshape, vector_slice
from .scope import Rewrite

__all__ = ["rewrite_einsum"]

# Stands for the dimensions behind "...", flattened into one.
_ELLIPSIS = "."


class _Operand(NamedTuple):
    """A tensor with a label for each dimension.

    Attributes:
      tensor: the tensor.
      labels: one letter for each of its dimensions.
      outer: the shape behind an ellipsis, which is flattened; None without one.
    """

    tensor: str
    labels: str
    outer: Optional[str] = None


def rewrite_einsum(rewrite: Rewrite) -> bool:
    """Rewrites an Einsum of one or two operands; False where it has another form.

    Labels that occur twice in one operand, and ellipses that are not at the start
    of one operand and of the result, are other forms.
    """
    equation = rewrite.attr("equation").s.decode().replace(" ", "")
    left, _, result = equation.partition("->")
    terms = [term.replace("...", _ELLIPSIS) for term in left.split(",")]
    result = result.replace("...", _ELLIPSIS)
    if not _supported(terms, result):
        return False
    dtype = rewrite.type("T")
    operands = [
        _flatten(rewrite, tensor, term, dtype)
        for tensor, term in zip(rewrite.inputs, terms)
    ]
    operands = [
        _sum_out(rewrite, operand, i, operands, result, dtype)
        for i, operand in enumerate(operands)
    ]
    if len(operands) == 1:
        made = operands[0]
        outer = made.outer
        found = _transpose(rewrite, made.tensor, made.labels, result, dtype)
    else:
        found, outer = _product(rewrite, operands[0], operands[1], result, dtype)
    if outer is not None:
        shape = rewrite.add(
            "Shape", [found], T=("type", dtype), out_type=("type", DT_INT32)
        )
        rest = vector_slice(rewrite, shape, 1, 0, DT_INT32)
        found = reshape(rewrite, found, concat(rewrite, [outer, rest], DT_INT32), dtype)
    rewrite.done([found])
    return True


def _supported(terms: List[str], result: str) -> bool:
    if len(terms) > 2 or any(len(set(t)) < len(t) for t in terms + [result]):
        return False
    with_ellipsis = [term for term in terms if _ELLIPSIS in term]
    if not set(result) <= set("".join(terms)):
        return False
    if not with_ellipsis:
        return True
    return (
        len(with_ellipsis) == 1
        and with_ellipsis[0].startswith(_ELLIPSIS)
        and result.startswith(_ELLIPSIS)
    )


def _shape(rewrite: Rewrite, tensor: str, dtype: int) -> str:
    return rewrite.add(
        "Shape", [tensor], T=("type", dtype), out_type=("type", DT_INT32)
    )


def _flatten(rewrite: Rewrite, tensor: str, term: str, dtype: int) -> _Operand:
    """Makes the dimensions behind an ellipsis one."""
    if not term.startswith(_ELLIPSIS):
        return _Operand(tensor, term)
    shape = _shape(rewrite, tensor, dtype)
    inner = len(term) - 1
    if not inner:
        flat = reshape(rewrite, tensor, rewrite.constant([-1]), dtype)
        return _Operand(flat, term, shape)
    outer = vector_slice(rewrite, shape, 0, -inner, DT_INT32)
    rest = vector_slice(rewrite, shape, -inner, 0, DT_INT32)
    flat = concat(rewrite, [rewrite.constant([-1]), rest], DT_INT32)
    return _Operand(reshape(rewrite, tensor, flat, dtype), term, outer)


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
    return _Operand(tensor, kept, operand.outer)


def _transpose(
    rewrite: Rewrite, tensor: str, labels: str, wanted: str, dtype: int
) -> str:
    if labels == wanted:
        return tensor
    order = rewrite.constant([labels.index(label) for label in wanted])
    return rewrite.add(
        "Transpose", [tensor, order], T=("type", dtype), Tperm=("type", DT_INT32)
    )


def _product(
    rewrite: Rewrite, one: _Operand, other: _Operand, result: str, dtype: int
) -> Tuple[str, Optional[str]]:
    """The product of two operands, and the shape behind an ellipsis."""
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
    found = _transpose(rewrite, product, batch + rows + columns, result, dtype)
    return found, one.outer or other.outer


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
