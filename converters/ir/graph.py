"""A MetaGraphDef as a graph of nodes: look-ups, slices, op definitions."""

from __future__ import annotations

import contextlib
from typing import (
    Any,
    Collection,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from hub_compat._tf import node_def_pb2, op_def_pb2
from hub_compat.errors import CorruptModuleError, UnknownOpError

from ..opdata.op_defs import builtin_ops
from . import tensor_names
from .attributes import arg_types, attr_or_default
from .builder import Place, Tensor
from .tensor_names import node_of

__all__ = [
    "CONTROL_FLOW_OPS",
    "Graph",
    "Output",
    "WAYS_BACK",
    "arg_types",
    "attr_or_default",
    "data_inputs",
    "node_of",
    "normal",
    "resource_behind",
    "resource_name",
    "split_tensor",
    "topological",
]


WAYS_BACK = ("NextIteration", "RefNextIteration")
# What TF1's loops and conditionals are made of.
CONTROL_FLOW_OPS = frozenset(
    ["Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"]
)

# What must be fed.
PLACEHOLDERS = ("Placeholder", "PlaceholderV2")


class Output(NamedTuple):
    """One output of a node, as a FunctionDef names it: ``node:arg:index``."""

    arg: str
    number: int
    dtype: int


def split_tensor(name: str) -> Tuple[str, int]:
    """``"a:1"`` -> ``("a", 1)``; ``"a"`` -> ``("a", 0)``."""
    node, colon, index = name.rpartition(":")
    if not colon:
        return name, 0
    try:
        return node, int(index)
    except ValueError:
        raise CorruptModuleError(
            "A tensor's name must be 'node:index'. Received: {!r}".format(name)
        ) from None


class Edge(NamedTuple):
    """One input of a node.

    Attributes:
      tensor: its full name, ``"a:0"``, or ``"^a"`` for a control edge.
      node: the node it comes from.
    """

    tensor: str
    node: str


# Three forms of one tensor's name, and who uses which:
#
#     "a", "a:0", "a:1"     the inputs of NodeDefs; normal() makes "a" to "a:0"
#     "^a"                  a control edge
#     "a:output:0"          within a FunctionDef; see reference()
#
# Caches, by name of a node: _outputs, _inputs, _references (tensor -> its name in a
# function), _slices ((fetches, feeds) -> nodes), _order (place in the file). Each
# change must go through a method here: what changes a NodeDef otherwise leaves them
# stale.
class Graph(Place):
    """The nodes of one MetaGraphDef.

    Attributes:
      nodes: NodeDefs by name, in the file's order. Passes replace, add and
        remove entries; the NodeDefs are private to this object.
      library: the FunctionDefs by name.
      producer: the version of graphs that its writer wrote (GraphDef.versions).
      declared_ops: the OpDefs that the model itself lists.
      aliases: tensors that a pass has replaced, by their old names.
      references: tensors that were references to a variable, and its dtype.
      fetched: tensors of signatures that show what is written later, and the tensors
        to return.
      last_reads: nodes that read when all else has run, and the variable they read.
      stopped: Exits of loops that no gradient goes through.
      copies: nodes that give memory of their own, whatever their op is.
      started: nodes of variables that a pass added, and what they begin with.
      added: names of the nodes that were not in the file, in the order of time.
    """

    def __init__(self, meta_graph: Any) -> None:
        self.nodes: Dict[str, node_def_pb2.NodeDef] = {
            node.name: node for node in meta_graph.graph_def.node
        }
        self.library = {
            function.signature.name: function
            for function in meta_graph.graph_def.library.function
        }
        self.producer: int = meta_graph.graph_def.versions.producer
        self.declared_ops = list(meta_graph.meta_info_def.stripped_op_list.op)
        self._ops = {op.name: op for op in self.declared_ops}
        self._ops.update((name, f.signature) for name, f in self.library.items())
        self.aliases: Dict[str, str] = {}
        self.references: Dict[str, int] = {}
        self.fetched: Dict[str, str] = {}
        self.last_reads: Dict[str, str] = {}
        self.stopped: Set[str] = set()
        self.copies: Set[str] = set()
        self.started: Dict[str, Any] = {}
        self.added: List[str] = []
        self._outputs: Dict[str, List[Output]] = {}
        self._inputs: Dict[str, List[Edge]] = {}
        self._order: Dict[str, int] = {}
        self._references: Dict[str, str] = {}
        self._slices: Dict[Tuple[Tuple[str, ...], FrozenSet[str]], List[str]] = {}
        for function in self.library.values():
            tensor_names.spell_out(function, self.op_def, arg_types)

    def op_def(self, op: str) -> op_def_pb2.OpDef:
        """The definition of an op or function.

        Raises:
          UnknownOpError: neither the model's own op list nor TF 1.15 has it.
        """
        found = self._ops.get(op)
        if found is None:
            found = builtin_ops().get(op)
            if found is None:
                raise UnknownOpError(
                    "The graph uses an op that neither the model's op list nor "
                    "TensorFlow 1.15 defines. The op is of a custom op library; ask "
                    "the model's publisher for its package. Received: {!r}".format(op)
                )
            self._ops[op] = found
        return found

    def declare(self, op: op_def_pb2.OpDef) -> None:
        """Makes known an op that neither the model's op list nor TF 1.15 has."""
        if op.name not in self._ops:
            self.declared_ops.append(op)
            self._ops[op.name] = op

    def add_function(self, function: Any) -> None:
        """Adds a FunctionDef to the library."""
        self.library[function.signature.name] = function
        self._ops[function.signature.name] = function.signature

    def node(self, name: str) -> node_def_pb2.NodeDef:
        """The node of that name.

        Raises:
          CorruptModuleError: the graph has none.
        """
        try:
            return self.nodes[name]
        except KeyError:
            raise CorruptModuleError(
                "The graph refers to a node that it does not hold; saved_model.pb is "
                "damaged or was edited. Received: {!r}".format(name)
            ) from None

    def outputs(self, name: str) -> List[Output]:
        """The flat outputs of a node, in order."""
        found = self._outputs.get(name)
        if found is None:
            node = self.node(name)
            op = self.op_def(node.op)
            found = []
            for arg in op.output_arg:
                for i, dtype in enumerate(arg_types(node, op, arg)):
                    found.append(Output(arg.name, i, dtype))
            self._outputs[name] = found
        return found

    def inputs_types(self, name: str) -> List[int]:
        """The dtypes a node's data inputs are declared with, in order."""
        node = self.node(name)
        op = self.op_def(node.op)
        return [t for arg in op.input_arg for t in arg_types(node, op, arg)]

    def output(self, tensor: str) -> Output:
        """The output behind a tensor name such as ``"a:0"``."""
        node, index = split_tensor(tensor)
        outputs = self.outputs(node)
        if index >= len(outputs):
            raise CorruptModuleError(
                "Node {!r} ({}) has {} outputs. Received: {!r}".format(
                    node, self.node(node).op, len(outputs), tensor
                )
            )
        return outputs[index]

    def tensor(self, name: str) -> Tensor:
        """A tensor, with its dtype: by ``"a"``, ``"a:0"`` or ``"a:1"``."""
        return Tensor(name, self.output(name).dtype)

    def tensor_name(self, node: str, arg: str, number: int, index: int) -> str:
        """The name of an output; that of the first is the node's."""
        return "{}:{}".format(node, index) if index else node

    def reference(self, tensor: str) -> str:
        """A tensor as the nodes of a FunctionDef name it, ``"a:output:0"``."""
        found = self._references.get(tensor)
        if found is None:
            node = node_of(tensor)
            first = self.op_def(self.node(node).op).output_arg[:1]
            if tensor.endswith(":0") and first and not _is_list(first[0]):
                # Nearly all of them; the attributes need not be looked at.
                found = node + ":" + first[0].name + ":0"
            else:
                output = self.output(tensor)
                found = "{}:{}:{}".format(node, output.arg, output.number)
            self._references[tensor] = found
        return found

    def inputs(self, name: str) -> List[Edge]:
        """Where a node's inputs come from, in order."""
        found = self._inputs.get(name)
        if found is None:
            found = [_edge(tensor) for tensor in self.node(name).input]
            self._inputs[name] = found
        return found

    def _forget(self, name: str) -> None:
        """Drops what is remembered of a node that has changed."""
        self._outputs.pop(name, None)
        self._inputs.pop(name, None)
        self._references.clear()
        self._slices.clear()

    @contextlib.contextmanager
    def editing(self, name: str) -> Iterator[node_def_pb2.NodeDef]:
        """Gives the node, for a pass to change its op, inputs or attributes within."""
        try:
            yield self.nodes[name]
        finally:
            self._forget(name)

    def set_input(self, name: str, place: int, tensor: str) -> None:
        """Makes a node take another tensor in one place."""
        self.nodes[name].input[place] = tensor
        self._forget(name)

    def set_inputs(self, name: str, inputs: Iterable[str]) -> None:
        """Makes a node take these tensors, and wait for these ``"^nodes"``."""
        inputs = list(inputs)
        node = self.nodes[name]
        del node.input[:]
        node.input.extend(inputs)
        self._forget(name)

    def wait_for(self, name: str, others: Iterable[str]) -> None:
        """Makes a node wait for other nodes, too."""
        self.nodes[name].input.extend("^" + other for other in others)
        self._forget(name)

    def remove(self, name: str) -> None:
        """Removes a node, if it is there."""
        self.nodes.pop(name, None)
        self._forget(name)

    def replace(self, node: node_def_pb2.NodeDef) -> None:
        """Puts a node in place of the one of the same name, or adds it."""
        if node.name not in self.nodes:
            self.added.append(node.name)
        self.nodes[node.name] = node
        self._forget(node.name)
        self._order.clear()

    def keep(self, names: Iterable[str], ops: Collection[str]) -> None:
        """Drops all nodes but those of these names and these ops."""
        kept = set(names)
        self.nodes = {
            name: node
            for name, node in self.nodes.items()
            if name in kept or node.op in ops
        }
        self._order.clear()

    # Only edges of data move. Who waits for the old node still waits for it.
    def redirect(
        self, tensors: Mapping[str, str], but: Optional[Set[str]] = None
    ) -> None:
        """Makes the consumers of some tensors take others.

        Args:
          tensors: from full names to names.
          but: nodes that keep their inputs.
        """
        for name, node in self.nodes.items():
            if but and name in but:
                continue
            for i, edge in enumerate(self.inputs(name)):
                if edge.tensor in tensors:
                    node.input[i] = tensors[edge.tensor]
                    self._forget(name)

    def unique_name(self, wanted: str) -> str:
        """``wanted``, or it with a number, whichever no node has."""
        name, count = wanted, 0
        while name in self.nodes:
            count += 1
            name = "{}_{}".format(wanted, count)
        return name

    # The cache pays: passes ask for the same slices of a graph of 100,000 nodes again
    # and again. A change of any node empties all of it, as edges may lead anywhere.
    def slice(
        self, fetches: Iterable[str], feeds: Optional[Set[str]] = None
    ) -> List[str]:
        """Names of the nodes that must run for ``fetches``, in file order.

        Args:
          fetches: tensor names (``"a:0"``) and control names (``"^a"``).
          feeds: tensor names whose producers are not needed for them.

        Iterative: graphs are deep, and Python's stack is not.
        """
        feeds = feeds or set()
        key = (tuple(fetches), frozenset(feeds))
        if key in self._slices:
            return self._slices[key]
        needed: Set[str] = set()
        stack = [node_of(f) for f in key[0] if normal(f) not in feeds]
        while stack:
            name = stack.pop()
            if name in needed:
                continue
            needed.add(name)
            for edge in self.inputs(name):
                if edge.node not in needed and edge.tensor not in feeds:
                    stack.append(edge.node)
        self._slices[key] = found = self.in_order(needed)
        return found

    def in_order(self, names: Iterable[str]) -> List[str]:
        """The names as the file orders them."""
        if not self._order:
            self._order.update((name, i) for i, name in enumerate(self.nodes))
        return sorted(names, key=self._order.__getitem__)


def normal(tensor: str) -> str:
    """``"a"`` -> ``"a:0"``; control names and full names stay."""
    if tensor.startswith("^"):
        return tensor
    tail = tensor.rfind(":")
    return tensor if tail >= 0 else tensor + ":0"


def _edge(tensor: str) -> Edge:
    # normal() and node_of() in one, for every input of every node.
    if tensor.startswith("^"):
        return Edge(tensor, tensor[1:])
    tail = tensor.rfind(":")
    if tail < 0:
        return Edge(tensor + ":0", tensor)
    return Edge(tensor, tensor[:tail])


def resource_name(node: Any) -> str:
    """The name by which a session shares what a node hands out."""
    name: bytes = node.attr["shared_name"].s if "shared_name" in node.attr else b""
    return name.decode() or str(node.name)


def _is_list(arg: Any) -> bool:
    return bool(arg.number_attr or arg.type_list_attr)


def data_inputs(graph: Graph, name: str) -> List[Edge]:
    """The inputs of a node but for control edges."""
    return [edge for edge in graph.inputs(name) if not edge.tensor.startswith("^")]


# Depth first, with a stack of its own. Without the way back, loops of valid graphs are
# no cycles: check_acyclic has refused the others before any pass runs.
def topological(graph: Graph, names: Collection[str]) -> List[str]:
    """Nodes, each after its inputs; the way back of a loop does not count.

    Iterative: graphs are deep, and Python's stack is not.
    """
    inside = set(names)
    done: Set[str] = set()
    found = []
    for start in names:
        stack = [start]
        while stack:
            name = stack[-1]
            if name in done:
                stack.pop()
                continue
            waiting = [
                edge.node
                for edge in graph.inputs(name)
                if edge.node in inside
                and edge.node not in done
                and graph.node(edge.node).op not in WAYS_BACK
            ]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            done.add(name)
            found.append(name)
    return found


def resource_behind(graph: Graph, name: str) -> str:
    """The node that hands out a resource, past loops and conditionals."""
    seen = set()
    while name not in seen:
        seen.add(name)
        op = graph.node(name).op
        # Those of references have the same names, but for this.
        op = op[3:] if op.startswith("Ref") else op
        if op not in ("Enter", "Switch", "Identity", "Merge", "Exit"):
            break
        name = graph.inputs(name)[0].node
    return name
