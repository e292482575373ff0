"""Custom gradients in the form that every program of TensorFlow 1 differentiates.

::

    before:  y -> IdentityN(_gradient_op_type="hub_compat_gradient_7") -> y
    after:   y -> hub_compat_gradient_7_forward -> y
             GradientDef: hub_compat_gradient_7_backward

A node whose op is a function has the gradient that the library says (``Defun``'s
``grad_func``). The backward function takes what the forward one took, and the
gradients of what that returned.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from hub_compat._tf import function_pb2
from hub_compat._tf.registered_gradients import PREFIX, captured_name

from ..ir.attributes import set_attr
from .objects import Objects

__all__ = ["OwnGradient", "call_by_name"]

_ATTRIBUTE = "_gradient_op_type"


class OwnGradient(NamedTuple):
    """A function with a gradient of its own.

    Attributes:
      forward: its name.
      backward: the function that computes the gradient.
    """

    forward: str
    backward: str


def call_by_name(functions: Dict[str, Any], objects: Objects) -> List[OwnGradient]:
    """Makes calls of functions of the nodes with gradients that the model holds.

    Args:
      functions: the library; nodes in it are changed, and functions added.
      objects: the object graph, whose root has the functions of gradients.
    """
    held = {
        name: objects.function(number)
        for name, number in objects.children(0).items()
        if name.startswith(PREFIX)
    }
    found: Dict[str, OwnGradient] = {}
    for function in list(functions.values()):
        own = {node.name for node in function.node_def}
        for node in function.node_def:
            name = node.attr[_ATTRIBUTE].s.decode() if _ATTRIBUTE in node.attr else ""
            if node.op != "IdentityN" or name not in held:
                continue
            gradient = functions[held[name]].signature
            results = list(node.attr["T"].list.type)
            # What is not an upstream gradient is a tensor of the forward function.
            count = len(gradient.input_arg) - len(results)
            captured = [captured_name(name, i) for i in range(count)]
            if not own.issuperset(captured):
                continue
            if name not in found:
                taken = [arg.type for arg in gradient.input_arg[len(results) :]]
                found[name] = _add(functions, name, results, taken, gradient)
            _call(function, node, found[name].forward, captured)
    return [found[name] for name in sorted(found)]


def _call(function: Any, node: Any, forward: str, captured: Sequence[str]) -> None:
    """Makes a call of an IdentityN."""
    controls = [tensor for tensor in node.input if tensor.startswith("^")]
    inputs = [tensor for tensor in node.input if not tensor.startswith("^")]
    outputs = {
        "{}:output:{}".format(node.name, i): "{}:output_{}:0".format(node.name, i)
        for i in range(len(inputs))
    }
    node.op = forward
    node.attr.clear()
    del node.input[:]
    node.input.extend(inputs + [each + ":output:0" for each in captured] + controls)
    for other in function.node_def:
        for i, tensor in enumerate(other.input):
            if tensor in outputs:
                other.input[i] = outputs[tensor]
    for result, tensor in list(function.ret.items()):
        function.ret[result] = outputs.get(tensor, tensor)


def _add(
    functions: Dict[str, Any],
    name: str,
    results: Sequence[int],
    captured: Sequence[int],
    gradient: Any,
) -> OwnGradient:
    """Adds the functions of a gradient to a library."""
    own = OwnGradient(name + "_forward", name + "_backward")
    taken = [("input_{}".format(i), dtype) for i, dtype in enumerate(results)]
    taken += [("captured_{}".format(i), dtype) for i, dtype in enumerate(captured)]
    forward = function_pb2.FunctionDef()
    forward.signature.name = own.forward
    for arg, dtype in taken:
        forward.signature.input_arg.add(name=arg, type=dtype)
    for i, dtype in enumerate(results):
        result, copy = "output_{}".format(i), "copy_{}".format(i)
        forward.signature.output_arg.add(name=result, type=dtype)
        node = forward.node_def.add(name=copy, op="Identity", input=[taken[i][0]])
        set_attr(node, "T", ("type", dtype))
        forward.ret[result] = copy + ":output:0"
    functions[own.forward] = forward
    functions[own.backward] = _backward(own, taken, len(results), gradient)
    return own


def _backward(
    own: OwnGradient, taken: Sequence[Tuple[str, int]], results: int, gradient: Any
) -> Any:
    """The gradients of all that the forward function takes."""
    backward = function_pb2.FunctionDef()
    backward.signature.name = own.backward
    for arg, dtype in taken:
        backward.signature.input_arg.add(name=arg, type=dtype)
    upstream = []
    for i, (_, dtype) in enumerate(taken[:results]):
        upstream.append("upstream_{}".format(i))
        backward.signature.input_arg.add(name=upstream[-1], type=dtype)
    call = backward.node_def.add(name="gradient", op=gradient.name)
    call.input.extend(upstream + [arg for arg, _ in taken[results:]])
    found = [arg.name for arg in gradient.output_arg]
    # They are those of the last of what IdentityN passes on, the arguments of the
    # program's function; before them are its results.
    first = results - len(found)
    for i, (arg, dtype) in enumerate(taken):
        name = "gradient_of_" + arg
        backward.signature.output_arg.add(name=name, type=dtype)
        if first <= i < results:
            backward.ret[name] = "gradient:{}:0".format(found[i - first])
            continue
        zeros = backward.node_def.add(name="zeros_" + arg, op="ZerosLike", input=[arg])
        set_attr(zeros, "T", ("type", dtype))
        backward.ret[name] = zeros.name + ":y:0"
    return backward
