"""Nodes of a function or of a graph, while rules rewrite them.

A FunctionDef names a tensor ``node:output_arg:index``, or by the name of an
argument; a GraphDef ``node:index``, or ``node`` for the first. Rules see neither:
they take inputs, add nodes and hand back tensors.

A ``Site`` is one node, wherever it is. A ``Rewrite`` is one of a ``Scope``, which goes
over all of them and renames at the end: it can also hand a node's outputs to others.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

from hub_compat._tf import node_def_pb2
from hub_compat.errors import CorruptModuleError

from .attributes import arg_types, attr_or_default, set_attr, set_by_definition
from .builder import Builder, Input, Place, Tensor, new_node
from .constants import array_of
from .names import Names

__all__ = ["Producers", "Rewrite", "Scope", "Site", "Unlowerable"]

OpDefs = Callable[[str], Any]


class Unlowerable(Exception):
    """A node that no older op can stand for; says why."""


class Producers:
    """The nodes of a function or graph by name, once somebody asks."""

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes
        self._by_name: Optional[Dict[str, Any]] = None

    def __call__(self, tensor: str) -> Any:
        """The node that a tensor comes from; None for an argument."""
        return self.by_name().get(tensor.split(":", 1)[0])

    def by_name(self) -> Dict[str, Any]:
        """All of them."""
        if self._by_name is None:
            self._by_name = {node.name: node for node in self._nodes}
        return self._by_name


# Given: y = BesselI0(x), which a rule replaces; z = Neg(y)
#     visit: the rule adds four nodes, and says that y is y/Mul now
# Result:
#     y/Abs, y/Exp, y/BesselI0e, y/Mul = Mul(y/Exp, y/BesselI0e),  z = Neg(y/Mul)
#
#     _result:   the new list of nodes, in order; what a rule adds comes before its node
#     _tensors:  tensor of a removed node -> the one that stands for it
#     _controls: removed node -> nodes to wait for instead
#
# Inputs are followed once, at the end: a rule sees all nodes as the model has them,
# whatever rules did before. Nothing is written where no rule did anything.
class Scope(Place):
    """One FunctionDef, or the GraphDef outside all functions.

    Attributes:
      producer: the nodes of the model.
      made: FunctionDefs that rules made, for the library.

    Args:
      nodes: its ``node_def`` or ``node`` field.
      source_op: from the name of an op or a function to its OpDef, as the model's
        writer had it.
      target_op: the same, as the target has it.
      function: the FunctionDef; None for a GraphDef.
    """

    def __init__(
        self, nodes: Any, source_op: OpDefs, target_op: OpDefs, function: Any = None
    ) -> None:
        self._nodes = nodes
        self.source_op = source_op
        self._target_op = target_op
        self._function = function
        self._names: Optional[Names] = None
        self._result: List[Any] = []
        self._tensors: Dict[str, str] = {}
        self._controls: Dict[str, List[str]] = {}
        self.producer = Producers(nodes)
        self.changed = False
        self.made: List[Any] = []

    @property
    def name(self) -> str:
        """The function's name; empty for a graph."""
        return "" if self._function is None else str(self._function.signature.name)

    def rewrite(self, visit: Callable[[Rewrite], None]) -> None:
        """Applies the rules to every node, and puts their results in its place."""
        for node in self._nodes:
            rewrite = Rewrite(self, node)
            visit(rewrite)
            if not rewrite.gone:
                self._result.append(node)
        if self.changed:
            self._write()

    def constant(self, tensor: str) -> Any:
        """The value of a tensor that is a constant; None for another."""
        node = self.producer(tensor)
        seen = 0
        while node is not None and node.op == "Identity" and seen < 8:
            node = self.producer(node.input[0])
            seen += 1
        if node is None or node.op != "Const":
            return None
        return array_of(node.attr["value"].tensor)

    def shape(self, tensor: str) -> Optional[List[int]]:
        """The shape that the writer knew a tensor to have, with -1 for what may vary.

        None where the rank may vary, or nothing is said.
        """
        node = self.producer(tensor)
        shapes: Any = []
        index = 0
        if node is not None:
            shapes = (
                node.attr["_output_shapes"].list.shape
                if ("_output_shapes" in node.attr)
                else []
            )
            names = [str(output) for output in self.source_outputs(node)]
            index = names.index(tensor) if tensor in names else 0
        elif self._function is not None:
            names = [arg.name for arg in self._function.signature.input_arg]
            if tensor in names and "_input_shapes" in self._function.attr:
                shapes = self._function.attr["_input_shapes"].list.shape
                index = names.index(tensor)
        if index >= len(shapes) or shapes[index].unknown_rank:
            return None
        return [dim.size for dim in shapes[index].dim]

    def op_def(self, op: str) -> Any:
        """The definition of an op that a rule adds, as the target has it."""
        return self._target_op(op)

    def source_outputs(self, node: Any) -> List[Tensor]:
        """The outputs of a node of the model, as other nodes refer to them."""
        return self.output_tensors(node, self.source_op(node.op))

    def outputs(self, node: Any) -> List[Tensor]:
        """The outputs of a node that a rule has made."""
        return self.output_tensors(node, self._target_op(node.op))

    def tensor_name(self, node: str, arg: str, number: int, index: int) -> str:
        """The name of an output, in the form that the nodes here have."""
        if self._function is not None:
            return "{}:{}:{}".format(node, arg, number)
        return "{}:{}".format(node, index)

    def unique_name(self, wanted: str) -> str:
        """A name that no node or argument has; it is taken then."""
        if self._names is None:
            taken = {node.name for node in self._nodes}
            if self._function is not None:
                taken.update(arg.name for arg in self._function.signature.input_arg)
            self._names = Names(taken)
        return self._names.take(wanted)

    def replace(self, node: node_def_pb2.NodeDef) -> None:
        """Adds a node, before the one that is looked at; or puts it in its place."""
        self.changed = True
        self._result.append(node)

    def redirect(self, old: Sequence[str], new: Sequence[str]) -> None:
        """Redirects the users of some tensors to others."""
        self.changed = True
        for one, other in zip(old, new):
            self._tensors[one] = other
            if self._function is None and one.endswith(":0"):
                self._tensors[one[:-2]] = other

    def taken(self, tensors: Sequence[str]) -> bool:
        """Whether a node of the model, or a result, takes one of some outputs."""
        wanted = set(tensors)
        given = [] if self._function is None else list(self._function.ret.values())
        return any(
            not wanted.isdisjoint(node.input)
            for node in self.producer.by_name().values()
        ) or not wanted.isdisjoint(given)

    def forget_control(self, name: str, instead: Iterable[str]) -> None:
        """Redirects control edges from a removed node to others."""
        self.changed = True
        self._controls[name] = list(instead)

    # In steps: what stands for a tensor may have been replaced in turn.
    def _follow(self, tensor: str) -> str:
        while tensor in self._tensors:
            tensor = self._tensors[tensor]
        return tensor

    def _follow_controls(self, name: str) -> List[str]:
        found, stack = [], [name]
        while stack:
            one = stack.pop()
            if one in self._controls:
                stack.extend(reversed(self._controls[one]))
            else:
                found.append(one)
        return found

    def _write(self) -> None:
        for node in self._result:
            inputs: Dict[str, None] = {}
            data = []
            for name in node.input:
                if name.startswith("^"):
                    inputs.update(
                        ("^" + n, None) for n in self._follow_controls(name[1:])
                    )
                else:
                    data.append(self._follow(name))
            new = data + list(inputs)
            if new != list(node.input):
                del node.input[:]
                node.input.extend(new)
        kept = list(self._result)
        del self._nodes[:]
        self._nodes.extend(kept)
        function = self._function
        if function is None:
            return
        for result, tensor in list(function.ret.items()):
            function.ret[result] = self._follow(tensor)
        for result, node in list(function.control_ret.items()):
            names = self._follow_controls(node)
            if len(names) == 1:
                function.control_ret[result] = names[0]
            else:
                del function.control_ret[result]
                # TF 1.15 looks for each of them in the graph.
                function.signature.control_output.remove(result)
                for i, name in enumerate(names):
                    key = "{}_{}".format(result, i)
                    function.control_ret[key] = name
                    function.signature.control_output.append(key)


class Site(Builder):
    """A node that is looked at; what it adds runs after what the node waits for.

    Attributes:
      node: the node; a rule may change its attributes in place.
      controls: the control inputs, each with ``^``.
      gone: whether something else is in its place, or nothing.
    """

    def __init__(self, place: Place, node: Any, op: Any, device: str = "") -> None:
        self.node = node
        self._definition = op
        self.controls = [name for name in node.input if name.startswith("^")]
        super().__init__(place, node.name, self.controls, device)
        self.gone = False

    @property
    def inputs(self) -> List[Tensor]:
        """The tensors it takes."""
        return [tensor for group in self.groups() for tensor in group]

    @property
    def arguments(self) -> List[Input]:
        """One for each input of the OpDef: a tensor, or a list of them."""
        args = self._definition.input_arg
        return [
            group if arg.number_attr or arg.type_list_attr else group[0]
            for arg, group in zip(args, self.groups())
        ]

    def groups(self) -> List[List[Tensor]]:
        """The tensors that each input of the OpDef stands for.

        Raises:
          CorruptModuleError: the node takes more or less.
        """
        op = self._definition
        names = [name for name in self.node.input if not name.startswith("^")]
        dtypes = [arg_types(self.node, op, arg) for arg in op.input_arg]
        if len(names) != sum(map(len, dtypes)):
            raise CorruptModuleError(
                "Node {!r} ({}) must take {} tensors. Received: {}".format(
                    self.node.name, self.node.op, sum(map(len, dtypes)), names
                )
            )
        rest = iter(names)
        return [[Tensor(next(rest), dtype) for dtype in group] for group in dtypes]

    def attr(self, name: str) -> Any:
        """An attribute, or its default where the node leaves it out."""
        return attr_or_default(self.node, self._definition, name)

    def type(self, name: str) -> int:
        """An attribute that is a dtype."""
        return int(self.attr(name).type)

    def attrs(self, *names: str) -> Dict[str, Any]:
        """Attributes of these names, to be handed to ``op``."""
        return {name: self.attr(name) for name in names}

    def become(self, op: str, *inputs: Input, **attrs: Any) -> None:
        """Puts a node of another op in its place, whose outputs have the same names."""
        definition = self._place.op_def(op)
        node = new_node(definition, self.node.name, inputs, self.controls, attrs)
        self._place.replace(node)
        self.gone = True


class Rewrite(Site):
    """A node of a scope, and what rules put in its place.

    Attributes:
      scope: where it is.
    """

    def __init__(self, scope: Scope, node: Any) -> None:
        super().__init__(scope, node, scope.source_op(node.op), node.device)
        self.scope = scope

    def emit(
        self, op: str, inputs: Sequence[str], wait: Sequence[str] = (), **attrs: Any
    ) -> List[Tensor]:
        """Adds a node as ``ops`` does, with all its inputs in a row and all attributes.

        Nothing is derived; for a node that is copied from elsewhere.
        """
        name = self.scope.unique_name("{}/{}".format(self.node.name, op))
        added = node_def_pb2.NodeDef(name=name, op=op, device=self.node.device)
        added.input.extend(list(inputs) + self.controls)
        added.input.extend("^" + tensor.split(":", 1)[0] for tensor in wait)
        for key, value in attrs.items():
            if isinstance(value, tuple):
                set_attr(added, key, value)
            else:
                set_by_definition(added, self.scope.op_def(op), key, value)
        self.scope.replace(added)
        self.added.append(name)
        return self.scope.outputs(added)

    def done(self, outputs: Sequence[str]) -> None:
        """Takes the node away, and gives its outputs to whoever took them."""
        self.scope.redirect(self.scope.source_outputs(self.node), outputs)
        own = set(self.added)
        waits = {tensor.split(":", 1)[0] for tensor in outputs}
        # A tensor may also be an argument or another node's, which may go away.
        instead = [name for name in sorted(waits) if name in own]
        self.drop(instead or None)

    def drop(self, instead: Optional[Sequence[str]] = None) -> None:
        """Takes the node away, with nobody taking its outputs.

        Args:
          instead: nodes to wait for instead of this one; by default those that
            this one waits for.
        """
        if instead is None:
            instead = [name[1:] for name in self.controls]
        self.gone = True
        self.scope.forget_control(self.node.name, instead)
