"""Rules for ops that TF 1.15 has, but does not differentiate as TF 2 does."""

from __future__ import annotations

from typing import Any, Callable, Dict

from hub_compat._tf.registered_gradients import PREFIX

from ...ir.attributes import GRADIENT, GRADIENT_OF_CALL, set_attr
from ...ir.builder import Tensor
from ...ir.dtypes import FLOATING
from ...ir.names import Names
from ...ir.rewriter import Rewrite
from ...passes.custom_gradients import NOT_IN_THE_MODULE, give_up
from ...passes.switch_case import replace_case
from .arithmetic import concat, emit_batch_norm, gather, shape_of, vector_slice
from .arrays import differs, of_other_diagonals
from .einsum import rewrite_einsum

__all__ = ["OPS", "RULES", "settle", "unsettled"]


def settle(rewrite: Rewrite, done: Dict[str, int]) -> None:
    """Rewrites a node that TF 1.15 knows, so that it has the gradient it should."""
    rule = RULES.get(rewrite.node.op)
    if rule is not None:
        what = rule(rewrite)
        if what:
            done[what] += 1


def unsettled(node: Any, producer: Callable[[str], Any]) -> bool:
    """Whether there is something to rewrite.

    Args:
      node: a node that TF 1.15 knows.
      producer: the node beside it that a tensor comes from; None for an argument.
    """
    there = _THERE.get(node.op)
    return there is not None and there(node, producer)


def _call(rewrite: Rewrite) -> str:
    """A nested call is differentiated only where it says of which type it is."""
    if GRADIENT not in rewrite.node.attr:
        set_attr(rewrite.node, GRADIENT, GRADIENT_OF_CALL)
    return ""


def _custom(rewrite: Rewrite) -> str:
    """The gradient of a ``tf.custom_gradient`` function that is not in the model.

    It was registered in the process of the writer.
    """
    if not _lost(rewrite.node):
        return ""
    if give_up(rewrite.node, rewrite.scope.producer.by_name()):
        return "swish gets the gradient of its formula"
    return "a custom gradient is refused"


def _lost(node: Any) -> bool:
    """Whether a node's gradient is neither kept nor said to be lost."""
    if GRADIENT not in node.attr:
        return False
    name = node.attr[GRADIENT].s
    return name != NOT_IN_THE_MODULE and not name.startswith(PREFIX.encode())


def _case(rewrite: Rewrite) -> str:
    """The loader of TF 1.15 does not find the functions of a Case."""
    scope = rewrite.scope
    names = Names(function.signature.name for function in scope.made)
    scope.made += replace_case(rewrite.node, scope.name, names, {})
    return "Case is written as Ifs"


def _einsum(rewrite: Rewrite) -> str:
    rewrite_einsum(rewrite)
    return "Einsum is written out"


# Given: y = EuclideanNorm(x, axis)
# Result:
#     y = Sqrt(Sum(Square(x), axis))
def _euclidean_norm(rewrite: Rewrite) -> str:
    """TF 1.15 takes it for a constant: gradients would be zero, without a word."""
    if rewrite.type("T") not in FLOATING:
        return ""
    x, axis = rewrite.inputs
    squares = rewrite.op("Square", x)
    total = rewrite.op("Sum", squares, axis, **rewrite.attrs("keep_dims"))
    rewrite.done(rewrite.ops("Sqrt", total))
    return "EuclideanNorm is written out"


# Given: values [a, b, c] in rows of 2 and 1; default d
#     places    RaggedTensorToTensor of the numbers [1, 2, 3], with default 0:
#               [[1, 2], [3, 0]]
# Result:
#     GatherV2([d, a, b, c], places) = [[a, b], [c, d]]
def _ragged_to_tensor(rewrite: Rewrite) -> str:
    """Numbers the values, makes a tensor of the numbers, and gathers by these.

    The number 0 is the default value. That the op itself has no gradient matters only
    for the values.
    """
    if rewrite.type("T") not in FLOATING:
        return ""
    shape, values, default = rewrite.inputs[:3]
    partitions = rewrite.inputs[3:]
    types = list(rewrite.attr("row_partition_types").list.s)
    ragged = len(partitions) + (1 if types[0] == b"ROW_SPLITS" else 0)
    known = rewrite.scope.constant(shape)
    if known is not None and known.ndim:
        shape = vector_slice(rewrite, shape, 0, ragged)
    sizes = shape_of(rewrite, values)
    places = rewrite.op(
        "RaggedTensorToTensor",
        shape,
        _numbers_from_one(rewrite, sizes),
        rewrite.constant(0),
        partitions,
        **rewrite.attrs("row_partition_types"),
    )
    inner = vector_slice(rewrite, sizes, 1, 0)
    row_shape = concat(rewrite, [rewrite.constant([1]), inner])
    row = rewrite.op("BroadcastTo", default, row_shape)
    rewrite.done([gather(rewrite, concat(rewrite, [row, values]), places)])
    return "RaggedTensorToTensor is written out"


def _numbers_from_one(rewrite: Rewrite, sizes: Tensor) -> Tensor:
    """1, 2, ... for each row of a tensor of these sizes."""
    count = rewrite.op(
        "StridedSlice",
        sizes,
        *[rewrite.constant([n]) for n in (0, 1, 1)],
        begin_mask=0,
        end_mask=0,
        ellipsis_mask=0,
        new_axis_mask=0,
        shrink_axis_mask=1,
    )
    one = rewrite.constant(1)
    return rewrite.op("Range", one, rewrite.op("AddV2", count, one), one)


def _batch_norm(rewrite: Rewrite) -> str:
    """Channels first, volumes, and averages in training, which older kernels refuse.

    TF 2 gives it averages in training where nothing is to be made of them, too; the
    attribute that would say so is left out of a TF1 format.
    """
    if rewrite.attr("data_format").s != b"NHWC":
        what = "FusedBatchNormV3 of another layout becomes NHWC"
    elif _averages(rewrite.node, rewrite.scope.producer):
        what = "FusedBatchNormV3 in training takes no averages"
    else:
        return _given_statistics(rewrite)
    emit_batch_norm(rewrite, 1.0)
    _given_statistics(rewrite)
    return what


def _given_statistics(rewrite: Rewrite) -> str:
    """The statistics of inference, which TF 1.15 leaves uninitialised.

    TF 2 gives what it was given, without a gradient.
    """
    statistics = rewrite.scope.source_outputs(rewrite.node)[1:5]
    if rewrite.attr("is_training").b or not rewrite.scope.taken(statistics):
        return ""
    given = [rewrite.op("StopGradient", tensor) for tensor in rewrite.inputs[3:5]]
    rewrite.scope.redirect(statistics, given * 2)
    return "FusedBatchNormV3 in inference gives the statistics that it is given"


def _averages(node: Any, producer: Callable[[str], Any]) -> bool:
    """Whether a FusedBatchNormV3 in training takes averages, rather than nothing."""
    if "is_training" in node.attr and not node.attr["is_training"].b:
        return False
    mean = producer(node.input[3])
    if mean is None or mean.op != "Const":
        return True
    return 0 not in [dim.size for dim in mean.attr["value"].tensor.tensor_shape.dim]


# Given: x of 6 channels, a kernel for 2 of them, so 3 groups
# Result:
#     ConcatV2(Conv2D(x_0, kernel_0), Conv2D(x_1, kernel_1), Conv2D(x_2, kernel_2))
# Given: a kernel for one channel: each channel is a group
# Result:
#     DepthwiseConv2dNative(x, kernel in another shape)
def _convolution(rewrite: Rewrite) -> str:
    """Convolutions in groups of channels, which have no kernel on a CPU."""
    x, kernel = rewrite.inputs
    channels, shape = rewrite.scope.shape(x), rewrite.scope.shape(kernel)
    first = rewrite.attr("data_format").s != b"NHWC"
    if first or not channels or not shape or channels[3] < 0 or shape[2] < 0:
        return ""
    groups = channels[3] // shape[2]
    if groups == 1:
        return ""
    strides = list(rewrite.attr("strides").list.i)
    if (
        shape[2] == 1
        and strides[1] == strides[2]
        and set(rewrite.attr("dilations").list.i) == {1}
        and rewrite.attr("padding").s != b"EXPLICIT"
    ):
        new_shape = rewrite.constant(shape[:2] + [groups, -1])
        turned = rewrite.op("Reshape", kernel, new_shape)
        attrs = rewrite.attrs("strides", "padding", "data_format", "dilations")
        rewrite.done(rewrite.ops("DepthwiseConv2dNative", x, turned, **attrs))
        return "Conv2D of each channel becomes DepthwiseConv2dNative"
    parts = [
        rewrite.ops("Split", rewrite.constant(3), one, num_split=groups)
        for one in (x, kernel)
    ]
    names = ("strides", "padding", "explicit_paddings", "data_format")
    attrs = rewrite.attrs("use_cudnn_on_gpu", "dilations", *names)
    made = [rewrite.op("Conv2D", *pair, **attrs) for pair in zip(*parts)]
    rewrite.done(rewrite.ops("ConcatV2", made, rewrite.constant(3)))
    return "a grouped Conv2D becomes one for each group"


# Given: y = StatefulRandomBinomial(..., shape, counts, probabilities)
# Result:
#     n = Prod(shape), and both parameters are broadcast to shape and made flat
#     y = Reshape(StatefulRandomBinomial(..., [n], counts, probabilities), shape)
def _binomial(rewrite: Rewrite) -> str:
    """TF 1.15 broadcasts counts and probabilities from the first dimension on.

    TF 2 does from the last on. So each number gets its own, in a vector of all.
    """
    if _flat(rewrite.node, rewrite.scope.producer):
        return ""
    resource, algorithm, shape, counts, probabilities = rewrite.inputs
    number = rewrite.op("Prod", shape, rewrite.constant([0]), keep_dims=True)
    each = []
    for one in (counts, probabilities):
        everywhere = rewrite.op("BroadcastTo", one, shape)
        each.append(rewrite.op("Reshape", everywhere, rewrite.constant([-1])))
    drawn = rewrite.op(
        "StatefulRandomBinomial",
        resource,
        algorithm,
        number,
        *each,
        **rewrite.attrs("dtype"),
    )
    rewrite.done(rewrite.ops("Reshape", drawn, shape))
    return "StatefulRandomBinomial is written for each number"


def _flat(node: Any, producer: Callable[[str], Any]) -> bool:
    """Whether a node draws a vector of as many numbers as a shape has."""
    shape = producer(node.input[2])
    return shape is not None and shape.op == "Prod"


# Given: ResourceScatterNdAdd(v, indices, updates)
# Result:
#     AssignVariableOp(v, TensorScatterAdd(ReadVariableOp(v), indices, updates))
def _scatter(op: str) -> Callable[[Rewrite], str]:
    """Changes a variable's value, for TF 1.15 does not see its shape in a function."""

    def rule(rewrite: Rewrite) -> str:
        resource, indices, updates = rewrite.inputs
        value = rewrite.op("ReadVariableOp", resource, dtype=updates.dtype)
        changed = rewrite.op(op, value, indices, updates)
        written = rewrite.run("AssignVariableOp", resource, changed)
        rewrite.drop([written])
        return "updates of slices of a variable are written out"

    return rule


RULES: Dict[str, Callable[[Rewrite], Any]] = {
    "Case": _case,
    "Conv2D": _convolution,
    "Einsum": _einsum,
    "EuclideanNorm": _euclidean_norm,
    "FusedBatchNormV3": _batch_norm,
    "IdentityN": _custom,
    "MatrixDiagPartV2": of_other_diagonals,
    "MatrixDiagV2": of_other_diagonals,
    "MatrixSetDiagV2": of_other_diagonals,
    "PartitionedCall": _call,
    "RaggedTensorToTensor": _ragged_to_tensor,
    "ResourceScatterNdAdd": _scatter("TensorScatterAdd"),
    "ResourceScatterNdSub": _scatter("TensorScatterSub"),
    "ResourceScatterNdUpdate": _scatter("TensorScatterUpdate"),
    "StatefulPartitionedCall": _call,
    "StatefulRandomBinomial": _binomial,
}

OPS: Dict[str, Callable[[Rewrite], Any]] = {"StatelessCase": _case}

# Whether a rule has something to do.
_THERE: Dict[str, Callable[[Any, Callable[[str], Any]], bool]] = {
    "Case": lambda node, producer: True,
    "Einsum": lambda node, producer: True,
    "EuclideanNorm": lambda node, producer: node.attr["T"].type in FLOATING,
    "FusedBatchNormV3": lambda node, producer: (
        ("data_format" in node.attr and node.attr["data_format"].s != b"NHWC")
        or _averages(node, producer)
    ),
    "IdentityN": lambda node, producer: _lost(node),
    "MatrixDiagPartV2": differs,
    "MatrixDiagV2": differs,
    "MatrixSetDiagV2": differs,
    "PartitionedCall": lambda node, producer: GRADIENT not in node.attr,
    "RaggedTensorToTensor": lambda node, producer: node.attr["T"].type in FLOATING,
    "ResourceScatterNdAdd": lambda node, producer: True,
    "ResourceScatterNdSub": lambda node, producer: True,
    "ResourceScatterNdUpdate": lambda node, producer: True,
    "StatefulPartitionedCall": lambda node, producer: GRADIENT not in node.attr,
    "StatefulRandomBinomial": lambda node, producer: not _flat(node, producer),
}
