"""Gradients of TF1's TensorArrays, also where control flow is that of TensorFlow 2.

There, TensorFlow's own gradients of the ops make a TensorArray of TensorFlow 2 of the
handle of one of TensorFlow 1, and end in an AssertionError (2.0 to 2.21, and 1.15 with
``enable_v2_behavior()``).
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Tuple

from hub_compat._tf import attr_value_pb2, tf

__all__ = ["ARRAY_OPS", "keep_array_gradients"]

_PREFIX = "HubCompat"


def keep_array_gradients(ops: Iterable[Any]) -> None:
    """Gives ops on TensorArrays gradients that work with any control flow.

    Private: ``_gradient_function`` of an op (from 2.1 on); in 1.15 the attribute
    ``_gradient_op_type``. Without them, TensorFlow's own gradients stay.

    Args:
      ops: operations whose types are in ``ARRAY_OPS``.
    """
    enabled = getattr(tf.compat.v1, "control_flow_v2_enabled", lambda: True)
    for op in ops:
        if hasattr(op, "_gradient_function"):
            op._gradient_function = _GRADIENTS[op.type]
        elif enabled() and hasattr(op, "_set_attr"):
            _register()
            value = attr_value_pb2.AttrValue()
            value.s = (_PREFIX + op.type).encode()
            op._set_attr("_gradient_op_type", value)


_registered: List[str] = []


def _register() -> None:
    if not _registered:
        for name, gradient in _GRADIENTS.items():
            tf.RegisterGradient(_PREFIX + name)(gradient)
            _registered.append(name)


def _array(handle: Any, flow: Any, of: Any) -> Tuple[Any, Any]:
    """The handle and the flow of the array that takes the gradients.

    Args:
      handle: of the forward array.
      flow: of it.
      of: the incoming gradient, whose name says which call of ``tf.gradients()`` it is
        of: each has an array of its own.
    """
    names = of.name.split("/")
    places = [i for i, name in enumerate(names) if name.startswith("gradients")]
    if not places:
        raise ValueError(
            "The name of a call of tf.gradients() must begin with 'gradients', where "
            "there are TensorArrays. Received: {!r}".format(of.name)
        )
    source = "/".join(names[: places[-1] + 1])
    with tf.name_scope("TensorArrayGrad"), tf.compat.v1.colocate_with(handle):
        made, _ = tf.raw_ops.TensorArrayGradV3(
            handle=handle, flow_in=flow, source=source
        )
        with tf.control_dependencies([made]):
            return made, tf.identity(flow, name="gradient_flow")


def _behind(op: Any, flow: Any) -> Any:
    """The gradient of a flow, once the op has run."""
    with tf.control_dependencies([tf.identity(op.outputs[0], "flow_out")]):
        return tf.identity(flow, "write_barrier")


def _of_read(op: Any, grad: Any) -> List[Any]:
    handle, index, flow = op.inputs
    array, flow = _array(handle, flow, grad)
    written = tf.raw_ops.TensorArrayWriteV3(
        handle=array, index=index, value=grad, flow_in=flow
    )
    return [None, None, written]


def _of_gather(op: Any, grad: Any) -> List[Any]:
    handle, indices, flow = op.inputs
    array, flow = _array(handle, flow, grad)
    written = tf.raw_ops.TensorArrayScatterV3(
        handle=array, indices=indices, value=grad, flow_in=flow
    )
    return [None, None, written]


def _of_concat(op: Any, grad: Any, _: Any) -> List[Any]:
    handle, flow = op.inputs
    array, flow = _array(handle, flow, grad)
    written = tf.raw_ops.TensorArraySplitV3(
        handle=array, value=grad, lengths=op.outputs[1], flow_in=flow
    )
    return [None, written]


def _of_write(op: Any, flow: Any) -> List[Any]:
    handle, index, value, _ = op.inputs
    array, own = _array(handle, _behind(op, flow), flow)
    read = tf.raw_ops.TensorArrayReadV3(
        handle=array, index=index, flow_in=own, dtype=value.dtype
    )
    read.set_shape(value.shape)
    return [None, None, read, flow]


def _of_scatter(op: Any, flow: Any) -> List[Any]:
    handle, indices, value, _ = op.inputs
    array, own = _array(handle, _behind(op, flow), flow)
    read = tf.raw_ops.TensorArrayGatherV3(
        handle=array, indices=indices, flow_in=own, dtype=value.dtype
    )
    read.set_shape(value.shape)
    return [None, None, read, flow]


def _of_split(op: Any, flow: Any) -> List[Any]:
    handle, value, _, _ = op.inputs
    array, own = _array(handle, _behind(op, flow), flow)
    read, _ = tf.raw_ops.TensorArrayConcatV3(
        handle=array, flow_in=own, dtype=value.dtype
    )
    read.set_shape(value.shape)
    return [None, read, None, flow]


_GRADIENTS: Dict[str, Callable[..., List[Any]]] = {
    "TensorArrayConcatV3": _of_concat,
    "TensorArrayGatherV3": _of_gather,
    "TensorArrayReadV3": _of_read,
    "TensorArrayScatterV3": _of_scatter,
    "TensorArraySplitV3": _of_split,
    "TensorArrayWriteV3": _of_write,
}
ARRAY_OPS = frozenset(_GRADIENTS)
