"""Gradients of a program's own (tf.custom_gradient), which newer loaders register.

A SavedModel of TensorFlow 2.13 or later has a function for each, and says which tensors
of the forward function it takes. For an older loader that becomes a function of all it
takes, which hangs on the root object; ``_tf/registered_gradients.py`` registers it.
"""

from __future__ import annotations

import hashlib
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from hub_compat._tf import function_pb2
from hub_compat._tf.registered_gradients import PREFIX, captured_name

from ..backend import canonical
from ..ir.attributes import GRADIENT, arg_types, set_attr
from ..passes.custom_gradients import is_swish

__all__ = ["keep_gradients"]

# Fields that TF < 2.5 does not know: FunctionDefLibrary.registered_gradients and
# SavedObject.captured_tensor, each with two strings.
_REGISTERED, _CAPTURED = 3, 12


# Given: f(x) = IdentityN(...) {_gradient_op_type: "CustomGradient-12"}, whose gradient
# is the function g of what comes down and of tensors captured inside of f
# Result:
#     IdentityN {_gradient_op_type: PREFIX + digest + number}
#     f has an Identity of each captured tensor, under names made of that
#     g hangs on the root of the objects, so that a loader keeps it
#
# hub_compat.load() registers g under that name. The digest is that of the library, as
# two models must not share a name for different gradients.
class _Gradient(NamedTuple):
    """A function for a gradient.

    Attributes:
      function: its name.
      captured: by function, the tensors of it that this one takes: ``"mul:0"``.
    """

    function: str
    captured: List[Tuple[str, str]]


def keep_gradients(
    meta_graph: Any, source_op: Callable[[str], Any], done: Dict[str, int]
) -> None:
    """Lets an older loader find the custom gradients of a model.

    Args:
      meta_graph: the model.
      source_op: from the name of an op to its OpDef, as the writer had it.
      done: counts what was done.
    """
    library = meta_graph.graph_def.library
    registered = _registered(library)
    if not registered:
        return
    functions = {f.signature.name: f for f in library.function}
    nodes = _nodes_with_gradients(library)
    digest = hashlib.sha256()
    for function in sorted(functions):
        digest.update(canonical.serialize(functions[function]))
    names: Dict[str, str] = {}
    for op_type in sorted(set(registered) & set(nodes)):
        gradient = _gradient(meta_graph, functions, registered[op_type])
        if gradient is None:
            continue
        # No two models may have the same name for different gradients.
        name = "{}{}_{}".format(PREFIX, digest.hexdigest()[:16], len(names))
        if _take_out(gradient, functions, name, source_op):
            names[op_type] = name
            _hang_up(meta_graph, functions[gradient.function], gradient, name)
            done["a custom gradient is kept as a function"] += 1
    for op_type, name in names.items():
        for node in nodes[op_type]:
            node.attr[GRADIENT].s = name.encode()
    known = getattr(library, "registered_gradients", None)
    if known is not None:
        rest = [g for g in known if g.registered_op_type not in names]
        kept = [type(g).FromString(g.SerializeToString()) for g in rest]
        del known[:]
        known.extend(kept)


def _two_strings(message: Any, number: int) -> List[Tuple[str, str]]:
    """The values of a field that is not known here: messages of two strings."""
    found = []
    for field in message.UnknownFields():
        if field.field_number == number:
            # Both are strings 1 and 2 of their message, as of this one.
            pair = function_pb2.GradientDef.FromString(field.data)
            found.append((pair.function_name, pair.gradient_func))
    return found


def _registered(library: Any) -> Dict[str, str]:
    """From the names of gradients to their functions."""
    if hasattr(library, "registered_gradients"):
        return {
            g.registered_op_type: g.gradient_func for g in library.registered_gradients
        }
    pairs = _two_strings(library, _REGISTERED)
    return {op_type: function for function, op_type in pairs}


def _nodes_with_gradients(library: Any) -> Dict[str, List[Any]]:
    """Nodes by the name of their gradient; those of swish need none."""
    found: Dict[str, List[Any]] = {}
    for function in library.function:
        for node in function.node_def:
            if node.op == "IdentityN" and GRADIENT in node.attr:
                producers = {n.name: n for n in function.node_def}
                if not is_swish(node.input[0], producers):
                    key = node.attr[GRADIENT].s.decode("utf-8", "replace")
                    found.setdefault(key, []).append(node)
    return found


def _gradient(
    meta_graph: Any, functions: Dict[str, Any], function: str
) -> Optional[_Gradient]:
    """The description of a gradient; None if it reads variables or tables."""
    objects = meta_graph.object_graph_def
    if function not in functions or function not in objects.concrete_functions:
        return None
    captured = []
    for number in objects.concrete_functions[function].bound_inputs:
        node = objects.nodes[number]
        if hasattr(node, "captured_tensor"):
            if node.WhichOneof("kind") != "captured_tensor":
                return None
            one = (node.captured_tensor.name, node.captured_tensor.concrete_function)
        else:
            pairs = _two_strings(node, _CAPTURED)
            if not pairs:
                return None
            one = pairs[0]
        captured.append((one[1], one[0]))
    return _Gradient(function, captured)


def _take_out(
    gradient: _Gradient,
    functions: Dict[str, Any],
    name: str,
    source_op: Callable[[str], Any],
) -> bool:
    """Gives the tensors that a gradient takes names that stay what they are.

    Returns:
      Whether all of them are there.
    """
    added = []
    for i, (function_name, tensor) in enumerate(gradient.captured):
        function = functions.get(function_name)
        if function is None:
            return False
        found = _in_function(function, tensor, source_op)
        if found is None:
            return False
        added.append((function, captured_name(name, i), found))
    for function, node_name, (source, dtype) in added:
        node = function.node_def.add(name=node_name, op="Identity", input=[source])
        set_attr(node, "T", ("type", dtype))
    return True


def _in_function(
    function: Any, tensor: str, source_op: Callable[[str], Any]
) -> Optional[Tuple[str, int]]:
    """A tensor of a graph as its FunctionDef has it, and its dtype."""
    name, _, index = tensor.partition(":")
    for arg in function.signature.input_arg:
        if arg.name == name:
            return name, arg.type
    for node in function.node_def:
        if node.name == name:
            op, count = source_op(node.op), int(index or 0)
            for arg in op.output_arg if op is not None else ():
                types = arg_types(node, op, arg)
                if count < len(types):
                    return "{}:{}:{}".format(name, arg.name, count), types[count]
                count -= len(types)
    return None


def _hang_up(meta_graph: Any, function: Any, gradient: _Gradient, name: str) -> None:
    """Makes a function of all that a gradient takes, and has the root hold it."""
    objects = meta_graph.object_graph_def
    # No object between: TF 1.15 would look for it in the checkpoint.
    objects.nodes[0].children.add(node_id=len(objects.nodes), local_name=name)
    bare = objects.nodes.add().bare_concrete_function
    bare.concrete_function_name = gradient.function
    args = function.signature.input_arg
    bare.argument_keywords.extend(arg.name for arg in args)
    bare.allowed_positional_arguments = len(args)
    concrete = objects.concrete_functions[gradient.function]
    del concrete.bound_inputs[:]
    given = concrete.canonicalized_input_signature.tuple_value.values[0]
    for arg in args[len(args) - len(gradient.captured) :]:
        spec = given.tuple_value.values.add().tensor_spec_value
        spec.name = arg.name
        spec.dtype = arg.type
        spec.shape.unknown_rank = True
