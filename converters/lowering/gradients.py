"""What TF 1.15 has, but does not differentiate as TF 2 does."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ..custom_gradients import NOT_IN_THE_MODULE, is_swish
from ..functions import set_attr
from ..graph import DT_INT32
from .arithmetic import concat, emit_batch_norm, vector_slice
from .einsum import rewrite_einsum
from .scope import Rewrite

__all__ = ["settle", "unsettled"]

_ATTRIBUTE = "_gradient_op_type"
_FLOATS = (1, 2, 14, 19)  # float32, float64, bfloat16, float16


def settle(rewrite: Rewrite, done: Dict[str, int]) -> None:
    """Rewrites a node that TF 1.15 knows, so that it has the gradient it should."""
    rule = _RULES.get(rewrite.node.op)
    if rule is not None:
        what = rule(rewrite)
        if what:
            done[what] += 1


def unsettled(node: Any) -> bool:
    """Whether there is something to rewrite, as far as the node itself says so."""
    there = _THERE.get(node.op)
    return there is not None and there(node)


def _call(rewrite: Rewrite) -> str:
    """A nested call is differentiated only where it says of which type it is.

    The loader replaces the value by a name of its own.
    """
    if _ATTRIBUTE not in rewrite.node.attr:
        set_attr(rewrite.node, _ATTRIBUTE, b"PartitionedCall-0")
    return ""


def _custom(rewrite: Rewrite) -> str:
    """The gradient of a ``tf.custom_gradient`` function, which stays behind.

    It was registered in the process of the writer, or is a function that only newer
    loaders register. That of swish only saves memory; any other raises a LookupError
    with this name, rather than being what the program did not mean.
    """
    node = rewrite.node
    if _ATTRIBUTE not in node.attr:
        return ""
    if is_swish(node.input[0], rewrite.scope.producers()):
        del node.attr[_ATTRIBUTE]
        return "swish is differentiated as what it computes"
    node.attr[_ATTRIBUTE].s = NOT_IN_THE_MODULE
    return "a custom gradient is refused"


def _einsum(rewrite: Rewrite) -> str:
    rewrite_einsum(rewrite)
    return "Einsum is written out"


def _ragged_to_tensor(rewrite: Rewrite) -> str:
    """Numbers the values, makes a tensor of the numbers, and gathers by these.

    The number 0 is the default value. That the op itself has no gradient matters only
    for the values.
    """
    if rewrite.type("T") not in _FLOATS:
        return ""
    shape, values, default = rewrite.inputs[:3]
    dtype, shape_type = rewrite.type("T"), rewrite.type("Tshape")
    partitions = rewrite.inputs[3:]
    types = list(rewrite.attr("row_partition_types").list.s)
    ragged = len(partitions) + (1 if types[0] == b"ROW_SPLITS" else 0)
    known = rewrite.scope.constant(shape)
    if known is not None and known.ndim:
        shape = vector_slice(rewrite, shape, 0, ragged, shape_type)
    sizes = rewrite.add(
        "Shape", [values], T=("type", dtype), out_type=("type", DT_INT32)
    )
    count = rewrite.add(
        "StridedSlice",
        [sizes] + [rewrite.constant([n]) for n in (0, 1, 1)],
        T=("type", DT_INT32),
        Index=("type", DT_INT32),
        begin_mask=0,
        end_mask=0,
        ellipsis_mask=0,
        new_axis_mask=0,
        shrink_axis_mask=1,
    )
    one = rewrite.constant(1)
    end = rewrite.add("AddV2", [count, one], T=("type", DT_INT32))
    numbers = rewrite.add("Range", [one, end, one], Tidx=("type", DT_INT32))
    places = rewrite.add(
        "RaggedTensorToTensor",
        [shape, numbers, rewrite.constant(0)] + partitions,
        T=("type", DT_INT32),
        Tshape=("type", shape_type),
        **rewrite.attrs("Tindex", "num_row_partition_tensors", "row_partition_types"),
    )
    inner = vector_slice(rewrite, sizes, 1, 0, DT_INT32)
    row_shape = concat(rewrite, [rewrite.constant([1]), inner], DT_INT32)
    row = rewrite.add(
        "BroadcastTo",
        [default, row_shape],
        T=("type", dtype),
        Tidx=("type", DT_INT32),
    )
    table = rewrite.add(
        "ConcatV2",
        [row, values, rewrite.constant(0)],
        N=2,
        T=("type", dtype),
        Tidx=("type", DT_INT32),
    )
    rewrite.done(
        rewrite.emit(
            "GatherV2",
            [table, places, rewrite.constant(0)],
            Tparams=("type", dtype),
            Tindices=("type", DT_INT32),
            Taxis=("type", DT_INT32),
            batch_dims=0,
        )
    )
    return "RaggedTensorToTensor is written out"


def _batch_norm(rewrite: Rewrite) -> str:
    """Channels first, which the writer's layers may choose, has no kernel on a CPU."""
    if rewrite.attr("data_format").s != b"NCHW":
        return ""
    emit_batch_norm(rewrite, 1.0)
    return "FusedBatchNormV3 with channels first is transposed"


def _scatter(op: str) -> Callable[[Rewrite], str]:
    """Changes a variable's value, for TF 1.15 does not see its shape in a function."""

    def rule(rewrite: Rewrite) -> str:
        resource, indices, updates = rewrite.inputs
        dtype = rewrite.attr("T")
        value = rewrite.add("ReadVariableOp", [resource], dtype=dtype)
        changed = rewrite.add(
            op, [value, indices, updates], T=dtype, **rewrite.attrs("Tindices")
        )
        written = rewrite.control("AssignVariableOp", [resource, changed], dtype=dtype)
        rewrite.drop([written])
        return "updates of slices of a variable are written out"

    return rule


_RULES: Dict[str, Callable[[Rewrite], Any]] = {
    "Einsum": _einsum,
    "FusedBatchNormV3": _batch_norm,
    "IdentityN": _custom,
    "PartitionedCall": _call,
    "RaggedTensorToTensor": _ragged_to_tensor,
    "ResourceScatterNdAdd": _scatter("TensorScatterAdd"),
    "ResourceScatterNdSub": _scatter("TensorScatterSub"),
    "ResourceScatterNdUpdate": _scatter("TensorScatterUpdate"),
    "StatefulPartitionedCall": _call,
}

# Whether a rule has something to do.
_THERE: Dict[str, Callable[[Any], bool]] = {
    "Einsum": lambda node: True,
    "FusedBatchNormV3": lambda node: (
        "data_format" in node.attr and node.attr["data_format"].s == b"NCHW"
    ),
    "IdentityN": lambda node: (
        _ATTRIBUTE in node.attr and node.attr[_ATTRIBUTE].s != NOT_IN_THE_MODULE
    ),
    "PartitionedCall": lambda node: _ATTRIBUTE not in node.attr,
    "RaggedTensorToTensor": lambda node: node.attr["T"].type in _FLOATS,
    "ResourceScatterNdAdd": lambda node: True,
    "ResourceScatterNdSub": lambda node: True,
    "ResourceScatterNdUpdate": lambda node: True,
    "StatefulPartitionedCall": lambda node: _ATTRIBUTE not in node.attr,
}
