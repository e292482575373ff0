"""The nodes of a FunctionDef that is there already, for passes to add some."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable

from hub_compat._tf import node_def_pb2, op_def_pb2

from .builder import Place, Tensor
from .names import Names

__all__ = ["FunctionNodes"]


class FunctionNodes(Place):
    """The nodes of one function, with the verbs of a ``Graph``.

    ``FunctionWriter`` makes a function anew; this changes one.

    Attributes:
      nodes: NodeDefs by name.

    Args:
      function: the FunctionDef.
      op_def: gives the definition of an op or function.
    """

    def __init__(
        self, function: Any, op_def: Callable[[str], op_def_pb2.OpDef]
    ) -> None:
        self._function = function
        self._op_def = op_def
        self.nodes: Dict[str, node_def_pb2.NodeDef] = {
            node.name: node for node in function.node_def
        }
        self._dtypes = {arg.name: arg.type for arg in function.signature.input_arg}
        self._names = Names(list(self.nodes) + list(self._dtypes))

    def op_def(self, op: str) -> op_def_pb2.OpDef:
        """The definition of an op or function."""
        return self._op_def(op)

    def unique_name(self, wanted: str) -> str:
        """A name that no node or argument has; it is taken then."""
        return self._names.take(wanted)

    def tensor_name(self, node: str, arg: str, number: int, index: int) -> str:
        """The name of an output: ``node:arg:number``."""
        return "{}:{}:{}".format(node, arg, number)

    def replace(self, node: node_def_pb2.NodeDef) -> None:
        """Puts a node in place of the one of the same name, or adds it."""
        if node.name not in self.nodes:
            self.nodes[node.name] = self._function.node_def.add()
        self.nodes[node.name].CopyFrom(node)

    def wait_for(self, name: str, others: Iterable[str]) -> None:
        """Makes a node wait for other nodes, too."""
        self.nodes[name].input.extend("^" + other for other in others)

    def tensor(self, name: str) -> Tensor:
        """A tensor, with its dtype: an argument, or an output of a node."""
        if name in self._dtypes:
            return Tensor(name, self._dtypes[name])
        node = self.nodes[name.split(":", 1)[0]]
        return next(
            tensor
            for tensor in self.output_tensors(node, self._op_def(node.op))
            if tensor == name
        )
