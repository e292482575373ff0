"""The objects of a TF2 SavedModel: what can be called, and how."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..ir.names import Names
from .structures import Leaf, leaves, named_leaves

__all__ = ["Objects", "Trace"]

_TRAINING = "training"
_TENSOR = ("tensor_spec_value", "type_spec_value", "bounded_tensor_spec_value")


class Trace(NamedTuple):
    """One function behind a callable.

    Attributes:
      function: its name in the library.
      inputs: what it takes, in order.
      outputs: what it returns, in order.
      training: the value of that argument; None where there is none.
      flags: other arguments that are no tensors and not at their defaults, by name.
      bound: numbers of the objects that it captures.
    """

    function: str
    inputs: Tuple[Leaf, ...]
    outputs: Tuple[Leaf, ...]
    training: Optional[bool]
    flags: Dict[str, Any]
    bound: Tuple[int, ...]

    def unknowns(self) -> int:
        """How many dimensions of its inputs may be of any size."""
        return sum(
            100 if part.shape.unknown_rank else sum(d.size < 0 for d in part.shape.dim)
            for leaf in self.inputs
            for part in leaf.parts
        )


# Numbers are those of SavedObjectGraph.nodes; 0 is the root. A trace is one way to call
# a function: tensors are inputs, "training" chooses the variant, other arguments
# (flags) count only where they are not the defaults.
class Objects:
    """The object graph of a MetaGraphDef.

    Attributes:
      proto: the SavedObjectGraph.
    """

    def __init__(self, meta_graph: Any) -> None:
        self.proto = meta_graph.object_graph_def

    def children(self, number: int) -> Dict[str, int]:
        """The attributes of an object: numbers by name."""
        found = self.proto.nodes[number].children
        return {child.local_name: child.node_id for child in found}

    def items(self, number: int, name: str) -> Optional[List[int]]:
        """The items of a list that an object has; None without such a list."""
        holder = self.children(number).get(name)
        if holder is None:
            return None
        found = self.children(holder)
        return [found[key] for key in sorted(found, key=_number) if key.isdigit()]

    def kind(self, number: int) -> str:
        """What an object is: ``"variable"``."""
        return str(self.proto.nodes[number].WhichOneof("kind"))

    def function(self, number: int) -> str:
        """The function of an object that has only one."""
        node = self.proto.nodes[number]
        if node.WhichOneof("kind") == "bare_concrete_function":
            return str(node.bare_concrete_function.concrete_function_name)
        names = node.function.concrete_functions
        return str(names[0]) if names else ""

    def bound(self, function: str) -> Tuple[int, ...]:
        """Numbers of the objects that a function captures."""
        return tuple(self.proto.concrete_functions[function].bound_inputs)

    def traces(self, number: int) -> List[Trace]:
        """The functions behind a callable object, without those of no known form."""
        node = self.proto.nodes[number].function
        found = []
        for name in node.concrete_functions:
            if name in self.proto.concrete_functions:
                found.append(self._trace(name, *_arguments(node.function_spec)))
        return found

    def concrete(self, name: str) -> Trace:
        """A function that takes its arguments by their names."""
        return self._trace(name, [], {})

    def _trace(self, name: str, args: List[str], defaults: Dict[str, Any]) -> Trace:
        concrete = self.proto.concrete_functions[name]
        positional, keywords = concrete.canonicalized_input_signature.tuple_value.values
        values = positional.tuple_value.values
        given = [
            (args[i] if i < len(args) else "arg_{}".format(i), value)
            for i, value in enumerate(values)
        ]
        fields = keywords.dict_value.fields
        given += [(key, fields[key]) for key in sorted(fields)]
        flags: Dict[str, Any] = {}
        training: Optional[bool] = None
        names, inputs = Names(), []
        for key, value in given:
            if _has_tensors(value):
                found = named_leaves(value, key, names)
                if len(found) == 1 and _says_something(defaults.get(key)):
                    found = [found[0]._replace(default=defaults[key])]
                inputs += found
            elif key == _TRAINING:
                kind = value.WhichOneof("kind")
                training = value.bool_value if kind == "bool_value" else False
            elif not _is_default(value, defaults.get(key)):
                flags[key] = value
        return Trace(
            name,
            tuple(inputs),
            tuple(named_leaves(concrete.output_signature, "default", Names())),
            training,
            flags,
            tuple(concrete.bound_inputs),
        )


def _number(key: str) -> Tuple[int, str]:
    return (int(key), "") if key.isdigit() else (-1, key)


def _has_tensors(value: Any) -> bool:
    return any(leaf.WhichOneof("kind") in _TENSOR for _, leaf in leaves(value))


def _says_something(default: Any) -> bool:
    return default is not None and default.WhichOneof("kind") not in (
        None,
        "none_value",
    )


def _is_default(value: Any, default: Any) -> bool:
    """Whether an argument that is no tensor has the value that it has by itself."""
    if value.WhichOneof("kind") == "none_value" or not list(leaves(value)):
        return True
    return bool(default is not None and value == default)


# The FullArgSpec of Python, as struct.proto has it: defaults belong to the last
# arguments. A method's first argument is self, which no call passes.
def _arguments(spec: Any) -> Tuple[List[str], Dict[str, Any]]:
    """The names of a function's arguments, and their defaults."""
    full = {pair.key: pair.value for pair in spec.fullargspec.named_tuple_value.values}
    if "args" not in full:
        return [], {}
    args = [value.string_value for value in full["args"].list_value.values]
    defaults: Dict[str, Any] = {}
    given = full["defaults"]
    values = getattr(given, given.WhichOneof("kind") or "tuple_value")
    values = list(values.values) if hasattr(values, "values") else []
    defaults.update(zip(args[len(args) - len(values) :], values))
    more = full.get("kwonlydefaults")
    if more is not None:
        defaults.update(more.dict_value.fields)
    if spec.is_method and args:
        args = args[1:]
    return args, defaults
