"""The parts of a module's graph that are imported: its state, and its signatures."""

from __future__ import annotations

import collections
from typing import (
    Any,
    Collection,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from hub_compat._tf import (
    meta_graph_pb2,
    tf,
    types_pb2,
    variable_pb2,
)
from hub_compat._tf.array_gradients import ARRAY_OPS
from hub_compat._tf.runtime import registered_op
from hub_compat.converters.ir.graph import node_of, split_tensor
from hub_compat.converters.ir.used_nodes import CONTEXTS
from hub_compat.errors import CorruptModuleError, FormatError

from .contexts import nodes_of
from .functions import bring_functions
from .reading import ASSET_PATHS
from .tensor_info import names_of

__all__ = ["GraphParts", "Part"]

_VARIABLES = ("variables", "trainable_variables", "model_variables")
_COLOCATED = b"loc:@"


class Part:
    """A part of a graph that is to be imported.

    Attributes:
      meta_graph: its nodes and collections.
      fed: names of tensors that are replaced.
      colocated: names of nodes that must be on the device of others.
      awaited: names of nodes that others run after.
      arrays: names of nodes that work on TensorArrays.
    """

    def __init__(self, meta_graph: Any, fed: Sequence[str] = ()) -> None:
        self.meta_graph = meta_graph
        self.fed = list(fed)
        nodes = meta_graph.graph_def.node
        self.colocated = [node.name for node in nodes if "_class" in node.attr]
        self.awaited = {
            name[1:] for node in nodes for name in node.input if name[:1] == "^"
        }
        self.arrays = [node.name for node in nodes if node.op in ARRAY_OPS]


# Given: a module's graph
#     w = VariableV2;  y = MatMul(x, w)            signature: x -> y
# Result: two parts
#     state_part:      w, its initializer, its collections
#     signature_part:  w as a Placeholder, fed with the w above;  y = MatMul(x, w)
#
# Each application of a Module imports a signature_part; all share the one state_part.
#
#     _inputs: node -> nodes of its inputs;  _users: the same, the other way
class GraphParts:
    """Cuts a MetaGraphDef.

    A graph that has TF1 loops or conditionals is imported whole: each of their contexts
    names all of its nodes.

    Args:
      meta_graph: the proto, which stays as it is.

    Attributes:
      signatures: its SignatureDefs by name.
      state: names of the nodes that hold state.
    """

    def __init__(self, meta_graph: Any) -> None:
        self._meta_graph = meta_graph
        self.signatures = meta_graph.signature_def
        self._nodes = {node.name: node for node in meta_graph.graph_def.node}
        self._inputs: Dict[str, List[str]] = {}
        self._users: Optional[Dict[str, List[str]]] = None
        self._whole = any(name in meta_graph.collection_def for name in CONTEXTS)
        ops = {node.op for node in meta_graph.graph_def.node}
        stateful = {op for op in ops if _is_state(op)}
        self.state: FrozenSet[str] = frozenset(
            name for name, node in self._nodes.items() if node.op in stateful
        )

    def state_part(self, trainable: bool, valued: bool) -> Part:
        """The part with the variables, tables and assets.

        Args:
          trainable: whether it has the losses of regularization, too.
          valued: whether the variables get values from elsewhere, and need no
            initializers of their own.
        """
        keys = ["variables", "model_variables", "table_initializer", ASSET_PATHS]
        keys += sorted(CONTEXTS)
        if trainable:
            keys += ["trainable_variables", "regularization_losses"]
        part = meta_graph_pb2.MetaGraphDef()
        needed = set(self.state)
        for key in keys:
            if key not in self._meta_graph.collection_def:
                continue
            collection = self._meta_graph.collection_def[key]
            if key in _VARIABLES:
                for data in collection.bytes_list.value:
                    definition = variable_pb2.VariableDef.FromString(data)
                    if valued:
                        # It is replaced; all that counts is that it is there.
                        definition.initializer_name = node_of(definition.variable_name)
                        definition.initial_value_name = ""
                    needed.update(_names_in(definition))
                    values = part.collection_def[key].bytes_list.value
                    values.append(definition.SerializeToString(deterministic=True))
                continue
            part.collection_def[key].CopyFrom(collection)
            needed.update(map(node_of, collection.node_list.value))
        if self._whole:
            needed = set(self._nodes)
        needed |= self._awaited_constants()
        self._fill(part, self._ancestors(needed, ()))
        return Part(part)

    def _awaited_constants(self) -> Set[str]:
        """The constants that nodes run after: programs find them beside the state.

        In a function, the nodes of a signature are in no graph that a program has.
        """
        awaited = {
            name[1:]
            for node in self._nodes.values()
            for name in node.input
            if name[:1] == "^"
        }
        return {name for name in awaited if self._node(name).op == "Const"}

    def signature_part(
        self, signature: Any, trainable: bool, in_function: bool, more: bool = True
    ) -> Part:
        """The part that computes a signature.

        Args:
          signature: its SignatureDef.
          trainable: whether it has the update ops, too.
          in_function: whether it goes into a function, which runs all of its ops.
          more: whether it has all that depends on the inputs, rather than what the
            outputs need: for programs that fetch other tensors. In a function, it has
            not.
        """
        fed = [name for info in signature.inputs.values() for name in names_of(info)]
        outputs = [n for info in signature.outputs.values() for n in names_of(info)]
        part = meta_graph_pb2.MetaGraphDef()
        keys = [ASSET_PATHS, *sorted(CONTEXTS)]
        if trainable:
            keys.append("update_ops")
        roots = {node_of(name) for name in outputs + fed}
        for key in keys:
            if key in self._meta_graph.collection_def:
                collection = self._meta_graph.collection_def[key]
                part.collection_def[key].CopyFrom(collection)
                roots.update(map(node_of, collection.node_list.value))
        stops: FrozenSet[str] = frozenset()
        if in_function:
            stops = self._replaced(fed)
            needed = self._ancestors(roots, stops)
            needed = self._with_whole_contexts(part, needed, stops)
        elif self._whole:
            needed = set(self._nodes)
        else:
            if more:
                roots.update(self._fed_by({node_of(name) for name in fed}))
            needed = self._ancestors(roots, ())
            needed |= self._state_beside(needed)
        self._fill(part, needed)
        fed += [name + ":0" for name in self.state if name in needed]
        for node in part.graph_def.node:
            if node.name in self.state or node.name in stops:
                _make_placeholder(node, self._dtype(node))
        return Part(part, fed)

    def _state_beside(self, needed: Iterable[str]) -> Set[str]:
        """The state whose device nodes must be on, even those that do not use it."""
        found: Set[str] = set()
        for name in needed:
            if "_class" in self._nodes[name].attr:
                groups = self._nodes[name].attr["_class"].list.s
                found.update(group[len(_COLOCATED) :].decode() for group in groups)
        return found & self.state

    def _dtype(self, node: Any) -> int:
        """The dtype of the only output of a node."""
        op = registered_op(node.op)
        arg = op.output_arg[0]
        if arg.type_attr:
            return int(node.attr[arg.type_attr].type)
        return int(arg.type)

    def _replaced(self, fed: Iterable[str]) -> FrozenSet[str]:
        """The nodes of which the inputs replace all outputs."""
        counts: Dict[str, Set[int]] = collections.defaultdict(set)
        for name in fed:
            node, index = split_tensor(name)
            counts[node].add(index)
        found = set()
        for name in counts:
            op = registered_op(self._node(name).op)
            plain = op is not None and len(op.output_arg) == 1
            if plain and not (
                op.output_arg[0].number_attr or op.output_arg[0].type_list_attr
            ):
                found.add(name)
        return frozenset(found)

    def _fill(self, part: Any, needed: Collection[str]) -> None:
        source = self._meta_graph
        info = part.meta_info_def
        info.tensorflow_version = source.meta_info_def.tensorflow_version
        if source.graph_def.versions.producer > tf.version.GRAPH_DEF_VERSION:
            # With it, attributes that are new and have their defaults are left out.
            info.stripped_op_list.CopyFrom(source.meta_info_def.stripped_op_list)
        part.graph_def.versions.CopyFrom(source.graph_def.versions)
        part.graph_def.node.extend(
            node for node in source.graph_def.node if node.name in needed
        )
        for node in part.graph_def.node:
            if "_class" in node.attr:
                _drop_colocation(node, needed)
        bring_functions(part, source.graph_def.library)

    def _ancestors(self, roots: Iterable[str], stops: Collection[str]) -> Set[str]:
        found: Set[str] = set()
        stack = list(roots)
        while stack:
            name = stack.pop()
            if name in found:
                continue
            found.add(name)
            if name not in stops:
                stack.extend(self._inputs_of(name))
        return found

    # A fixed point: a context that comes in whole may bring nodes of others.
    def _with_whole_contexts(
        self, part: Any, needed: Set[str], stops: Collection[str]
    ) -> Set[str]:
        """Adds all nodes of the loops and conditionals that some of them are in."""
        contexts: List[Tuple[str, bytes, FrozenSet[str]]] = []
        for key, kind in CONTEXTS.items():
            if key in part.collection_def:
                for data in part.collection_def[key].bytes_list.value:
                    contexts.append((key, data, nodes_of(kind.FromString(data))))
                del part.collection_def[key]
        left = contexts
        grown = True
        while grown:
            grown = False
            for context in list(left):
                if not context[2].isdisjoint(needed):
                    left = [other for other in left if other is not context]
                    inside = {name for name in context[2] if name in self._nodes}
                    needed |= self._ancestors(inside, stops)
                    grown = True
        for context in contexts:
            if context not in left:
                part.collection_def[context[0]].bytes_list.value.append(context[1])
        return needed

    def _fed_by(self, names: Iterable[str]) -> Set[str]:
        """The nodes that depend on others."""
        if self._users is None:
            self._users = {}
            for name in self._nodes:
                for used in self._inputs_of(name):
                    self._users.setdefault(used, []).append(name)
        found: Set[str] = set()
        stack = list(names)
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                stack.extend(self._users.get(name, ()))
        return found

    def _inputs_of(self, name: str) -> List[str]:
        found = self._inputs.get(name)
        if found is None:
            found = [node_of(tensor) for tensor in self._node(name).input]
            self._inputs[name] = found
        return found

    def _node(self, name: str) -> Any:
        node = self._nodes.get(name)
        if node is None:
            raise CorruptModuleError(
                "The module's graph needs a node that it does not have. Export the "
                "module again. Received: {!r}".format(name)
            )
        return node


def _is_state(op: str) -> bool:
    """Whether nodes of an op hold state, to be shared by all applications."""
    found = registered_op(op)
    if found is None or not found.is_stateful or found.input_arg:
        return False
    if len(found.output_arg) != 1:
        raise FormatError(
            "The module's graph has a stateful op that does not have one output, as "
            "the state of a module must have. Received: {!r} with {} outputs".format(
                op, len(found.output_arg)
            )
        )
    return True


def _names_in(definition: Any) -> List[str]:
    names = [
        definition.variable_name,
        definition.initializer_name,
        definition.snapshot_name,
        definition.initial_value_name,
    ]
    return [node_of(name) for name in names if name]


def _drop_colocation(node: Any, kept: Collection[str]) -> None:
    """Drops what says that a node is on the device of one that is not there."""
    groups = node.attr["_class"].list.s
    left = [
        group
        for group in groups
        if not group.startswith(_COLOCATED) or group[len(_COLOCATED) :].decode() in kept
    ]
    if not left:
        del node.attr["_class"]
    elif len(left) != len(groups):
        groups[:] = left


def _make_placeholder(node: Any, dtype: int) -> None:
    """Makes a node one that is replaced: in a nested module, it must be no state."""
    node.op = "Placeholder"
    del node.input[:]
    for key in list(node.attr):
        if key != "shape":
            del node.attr[key]
    # Types of references are those of values, and this much.
    node.attr["dtype"].type = dtype % (types_pb2.DT_FLOAT_REF - types_pb2.DT_FLOAT)
