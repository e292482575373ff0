"""Ops that take more than a few nodes: graphs traced under TF 1.15 stand for them."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

from hub_compat._tf import tf

from ...ir.builder import Tensor
from ...ir.dtypes import DT_INT32, FLOATING
from ...ir.graph import split_tensor
from ...ir.rewriter import Rewrite, Unlowerable
from ...opdata.replacements import graph_for
from .arithmetic import cast, shape_of

__all__ = ["OPS"]


def _insert(rewrite: Rewrite, inputs: Sequence[Tensor], *tags: str) -> Tensor:
    """Adds a graph of tools/make_replacements.py; returns its output."""
    graph_def = graph_for(*tags)
    if graph_def is None:
        raise Unlowerable("{} of {}".format(rewrite.node.op, ", ".join(tags)))
    outputs: Dict[str, List[Tensor]] = {
        "input_{}".format(i): [tensor] for i, tensor in enumerate(inputs)
    }
    for node in graph_def.node:
        if node.name not in outputs:
            made = []
            for tensor in node.input:
                producer, index = split_tensor(tensor)
                made.append(outputs[producer][index])
            outputs[node.name] = rewrite.emit(node.op, made, **dict(node.attr))
    return outputs["output"][0]


def _image_projective_transform(rewrite: Rewrite) -> None:
    """Places in the images first, then the pixels there.

    The gradient is that of these steps. TensorFlow's own is the transform by the
    inverse, which is not the same thing at the borders and in between.
    """
    images, transforms, output_shape, fill = rewrite.inputs
    shape = shape_of(rewrite, images)
    op = rewrite.node.op
    places = _insert(
        rewrite,
        [shape, transforms, output_shape],
        "{}/from {}".format(op, rewrite.attr("fill_mode").s.decode().upper()),
    )
    tag = "{}/{}".format(op, rewrite.attr("interpolation").s.decode().upper())
    name = tf.as_dtype(images.dtype).name
    rewrite.done([_insert(rewrite, [images, places, fill], tag, name)])


def _of_dtype(rewrite: Rewrite) -> None:
    """A function of the op's inputs alone."""
    dtype = tf.as_dtype(rewrite.type("T")).name
    rewrite.done([_insert(rewrite, rewrite.inputs, rewrite.node.op, dtype)])


def _tensor_scatter(rewrite: Rewrite) -> None:
    """The greatest or least of an element and its updates, by rows of the tensor."""
    tensor, indices, updates = rewrite.inputs
    indices = cast(rewrite, indices, DT_INT32)
    dtype = tf.as_dtype(rewrite.type("T")).name
    op = rewrite.node.op
    found = _insert(rewrite, [tensor, indices, updates], op, dtype)
    if rewrite.type("T") in FLOATING:
        found = _shared(rewrite, found, tensor, indices, updates)
    rewrite.done([found])


def _shared(
    rewrite: Rewrite, found: Tensor, tensor: Tensor, indices: Tensor, updates: Tensor
) -> Tensor:
    """Gives a result the gradient of TensorFlow 2: equal shares of what is equal to it.

    Each source is added, less itself.
    """
    found = rewrite.op("StopGradient", found)
    here = rewrite.op("GatherNd", found, indices)
    ours = cast(rewrite, rewrite.op("Equal", tensor, found), found.dtype)
    theirs = cast(rewrite, rewrite.op("Equal", updates, here), found.dtype)
    count = rewrite.op("TensorScatterAdd", ours, indices, theirs)
    # None is: all are infinite, and the greatest finite number was found.
    nowhere = rewrite.op("Equal", count, rewrite.op("ZerosLike", count))
    infinite = rewrite.op("StopGradient", tensor)
    found = rewrite.op("Select", nowhere, infinite, found)
    shares = rewrite.op("RealDiv", ours, count)
    result = rewrite.op("Add", found, _nothing(rewrite, tensor, shares))
    shares = rewrite.op("RealDiv", theirs, rewrite.op("GatherNd", count, indices))
    more = _nothing(rewrite, updates, shares)
    return rewrite.op("TensorScatterAdd", result, indices, more)


def _nothing(rewrite: Rewrite, tensor: Tensor, shares: Tensor) -> Tensor:
    """Zeros, whose gradient are the shares; infinite elements have none."""
    zeros = rewrite.op("ZerosLike", tensor)
    finite = rewrite.op("IsFinite", tensor)
    tensor = rewrite.op("Select", finite, tensor, zeros)
    nothing = rewrite.op("Sub", tensor, rewrite.op("StopGradient", tensor))
    # Of a NaN, the shares are no numbers.
    shares = rewrite.op("Select", finite, shares, zeros)
    return rewrite.op("Mul", nothing, rewrite.op("StopGradient", shares))


OPS: Dict[str, Callable[[Rewrite], Any]] = {
    "Erfinv": _of_dtype,
    "ImageProjectiveTransformV3": _image_projective_transform,
    "TensorScatterMax": _tensor_scatter,
    "TensorScatterMin": _tensor_scatter,
}
