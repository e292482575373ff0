"""Builds a SavedObjectGraph, the objects that tf.saved_model.load returns.

Formats: saved_object_graph.proto, struct.proto and
trackable_object_graph.proto of TensorFlow; the identifiers and versions of
user objects are those that TF 1.15 to 2.21 register.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, Mapping, Optional, Sequence, Tuple

from hub_compat._tf import (
    saved_object_graph_pb2,
    trackable_object_graph_pb2,
)

from ..ir.functions import Body
from ..ir.structured import Value, dict_value, none_value, python_value, tuple_value

__all__ = ["ObjectGraph", "variable_key"]


def variable_key(index: int) -> str:
    """The checkpoint key of the object graph's variable of that number.

    The path of the variable from the root: TF 2.21 refuses keys that do not
    end in the name of an attribute.
    """
    return "variables/{}/.ATTRIBUTES/VARIABLE_VALUE".format(index)


# The objects of a converted module:
#
#     0 root -+- variables, trainable_variables     lists of variables
#             +- regularization_losses              list of functions
#             +- __call__, as_dict                  functions with their traces
#             +- signatures                         map of bare functions
#             +- graph_variants                     dict of objects like the root
#             +- _tables, _assets, _local_variables     keep captures alive
#
# Numbers are places in proto.nodes, so that no object may be removed again.
#
#     _checkpoint_keys: number of a variable -> (checkpoint key, name)
#     _lists:           the items -> the list that has them
class ObjectGraph:
    """A SavedObjectGraph in the making. Objects are node numbers; 0 is the root."""

    def __init__(self) -> None:
        self.proto = saved_object_graph_pb2.SavedObjectGraph()
        self._checkpoint_keys: Dict[int, Tuple[str, str]] = {}
        self._lists: Dict[Tuple[int, ...], int] = {}
        self._user_object("_generic_user_object")

    def _node(self) -> Tuple[int, Any]:
        return len(self.proto.nodes), self.proto.nodes.add()

    def _user_object(self, identifier: str) -> int:
        number, node = self._node()
        node.user_object.identifier = identifier
        node.user_object.version.producer = 1
        node.user_object.version.min_consumer = 1
        return number

    def add_child(self, parent: int, name: str, child: int) -> None:
        """Makes an object an attribute, or an item, of another."""
        self.proto.nodes[parent].children.add(node_id=child, local_name=name)

    def user_object(self) -> int:
        """An object with attributes."""
        return self._user_object("_generic_user_object")

    def list(self, items: Sequence[int]) -> int:
        """A list of objects; lists of the same objects are one list.

        Each item costs a load about 0.1 ms, and many objects list the same
        hundreds of variables.
        """
        known = self._lists.get(tuple(items))
        if known is not None:
            return known
        number = self._user_object("trackable_list_wrapper")
        for i, item in enumerate(items):
            self.add_child(number, str(i), item)
        self._lists[tuple(items)] = number
        return number

    def dict(self, items: Mapping[str, int]) -> int:
        """A dict of objects with string keys."""
        number = self._user_object("trackable_dict_wrapper")
        for key, item in items.items():
            self.add_child(number, key, item)
        return number

    def signature_map(self, items: Mapping[str, int]) -> int:
        """The ``signatures`` of an object."""
        number = self._user_object("signature_map")
        for key, item in items.items():
            self.add_child(number, key, item)
        return number

    def variable(self, variable: Any, key: str) -> int:
        """A variable (``variables.Variable``) kept under a checkpoint key."""
        number, node = self._node()
        node.variable.dtype = variable.dtype
        node.variable.shape.CopyFrom(variable.shape)
        node.variable.trainable = variable.trainable
        synchronization, aggregation = variable.distribution
        node.variable.synchronization = synchronization
        node.variable.aggregation = aggregation
        node.variable.name = variable.name
        self._checkpoint_keys[number] = (key, variable.name)
        return number

    def asset(self, index: int) -> int:
        """The asset file of that number in ``MetaGraphDef.asset_file_def``."""
        number, node = self._node()
        node.asset.asset_file_def_index = index
        return number

    def resource(self) -> int:
        """A table; its functions are added as children."""
        number, node = self._node()
        node.resource.SetInParent()
        return number

    def concrete_function(
        self, body: Body, inputs: Value, output: Value, captures: Sequence[int]
    ) -> None:
        """Declares how a function of the library is called."""
        function = self.proto.concrete_functions[body.name]
        function.canonicalized_input_signature.CopyFrom(inputs)
        function.output_signature.CopyFrom(output)
        function.bound_inputs.extend(captures)

    def function(
        self,
        names: Sequence[str],
        args: Sequence[str] = (),
        defaults: Optional[Sequence[Value]] = None,
    ) -> int:
        """A tf.function with these traces, tried in this order."""
        number, node = self._node()
        node.function.concrete_functions.extend(names)
        spec = node.function.function_spec
        full = spec.fullargspec.named_tuple_value
        full.name = "FullArgSpec"
        for key, value in (
            ("args", python_value(list(args))),
            ("varargs", none_value),
            ("varkw", none_value),
            ("defaults", tuple_value(defaults) if defaults else none_value),
            ("kwonlyargs", python_value([])),
            ("kwonlydefaults", none_value),
            ("annotations", dict_value({})),
        ):
            pair = full.values.add()
            pair.key = key
            pair.value.CopyFrom(value)
        spec.input_signature.CopyFrom(none_value)
        return number

    def bare_function(self, name: str, keywords: Sequence[str]) -> int:
        """A concrete function, as ``signatures`` holds it."""
        number, node = self._node()
        node.bare_concrete_function.concrete_function_name = name
        node.bare_concrete_function.argument_keywords.extend(keywords)
        # One input is unambiguous without its name; several are not.
        node.bare_concrete_function.allowed_positional_arguments = (
            1 if len(keywords) == 1 else 0
        )
        return number

    # The checkpoint repeats the graph under numbers of its own, as functions are
    # missing. A loader pairs both by the names of children, so numbers need not agree.
    def checkpoint_graph(self, held: Collection[str]) -> bytes:
        """The serialized TrackableObjectGraph of the same objects.

        Args:
          held: the keys of which the checkpoint holds values; a loader leaves the
            other variables uninitialized, without an error.
        """
        # TF 1.15 warns of each node that it finds no state for; functions have none.
        functions = ("function", "bare_concrete_function")
        kept = [
            number
            for number, node in enumerate(self.proto.nodes)
            if node.WhichOneof("kind") not in functions
        ]
        numbers = {number: i for i, number in enumerate(kept)}
        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        for number in kept:
            trackable = graph.nodes.add()
            for child in self.proto.nodes[number].children:
                if child.node_id in numbers:
                    trackable.children.add(
                        node_id=numbers[child.node_id], local_name=child.local_name
                    )
            key, name = self._checkpoint_keys.get(number, ("", ""))
            if key in held:
                trackable.attributes.add(
                    name="VARIABLE_VALUE", full_name=name, checkpoint_key=key
                )
        serialized: bytes = graph.SerializeToString(deterministic=True)
        return serialized
