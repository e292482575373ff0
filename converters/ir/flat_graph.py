"""A graph in the making, without calls: each of its nodes once.

Equal nodes become one. Two nodes are equal if they have the same op and attributes,
take the same tensors and wait for the same nodes. Of nodes with state, the n-th of one
run equals the n-th of the next run only: two dropouts of a signature stay two, and
those of two signatures that share all their inputs become one.
"""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

from hub_compat._tf import node_def_pb2

from .attributes import set_attr
from .graph import node_of
from .names import Names, node_name

__all__ = ["FlatGraph"]

# More nodes to wait for than this are gathered by a NoOp.
_MOST_CONTROLS = 8


#     _equal:  (op and attributes, inputs, controls[, count]) -> the node that has them
#     _counts: the same without the count -> how many with state this run has had
#
# The count tells two dropouts of one run apart; begin() starts it again.
class FlatGraph:
    """Nodes by name, in the order in which they were added.

    A tensor is ``"node:index"``, also for the first; or the name of an argument.

    Attributes:
      nodes: the NodeDefs, each after its inputs.
    """

    def __init__(self) -> None:
        self.nodes: Dict[str, node_def_pb2.NodeDef] = {}
        self._names = Names()
        self._equal: Dict[Tuple[Any, ...], str] = {}
        self._counts: Dict[Tuple[Any, ...], int] = {}

    def begin(self) -> None:
        """Begins a run: another signature, whose first node with state is a first."""
        self._counts = {}

    def reserve(self, name: str) -> str:
        """Takes a name that no node gets by chance; returns it, or a free one."""
        return self._names.take(node_name(name))

    def node(
        self,
        op: str,
        name: str,
        inputs: Sequence[str] = (),
        controls: Sequence[str] = (),
        **attrs: Any,
    ) -> str:
        """Adds a node that is like no other; returns its name."""
        return self.named(op, self.reserve(name), inputs, controls, **attrs)

    def named(
        self,
        op: str,
        name: str,
        inputs: Sequence[str] = (),
        controls: Sequence[str] = (),
        **attrs: Any,
    ) -> str:
        """Adds a node under a name that was reserved; returns the name."""
        node = node_def_pb2.NodeDef(name=name, op=op)
        for key, value in attrs.items():
            set_attr(node, key, value)
        self._put(node, inputs, controls)
        return name

    def copy(
        self,
        node: node_def_pb2.NodeDef,
        key: bytes,
        stateful: bool,
        inputs: Sequence[str],
        controls: Sequence[str],
    ) -> str:
        """Adds a copy of a node, unless there is an equal one; returns its name.

        Args:
          node: its op and its attributes.
          key: equal for nodes with the same op and the same attributes.
          stateful: whether it has state.
          inputs: the tensors that the copy takes.
          controls: the nodes that it waits for.
        """
        controls = self.gathered(controls)
        full: Tuple[Any, ...] = (key, tuple(inputs), controls)
        if stateful:
            count = self._counts[full] = self._counts.get(full, 0) + 1
            full += (count,)
        found = self._equal.get(full)
        if found is None:
            found = self._equal[full] = self.reserve(node.name)
            added = node_def_pb2.NodeDef(name=found, op=node.op)
            for name, value in node.attr.items():
                added.attr[name].CopyFrom(value)
            self._put(added, inputs, controls)
        return found

    def gathered(self, controls: Sequence[str]) -> Tuple[str, ...]:
        """The same nodes to wait for, or one that waits for them."""
        controls = tuple(dict.fromkeys(controls))
        if len(controls) <= _MOST_CONTROLS:
            return controls
        full = ("NoOp", controls)
        if full not in self._equal:
            self._equal[full] = self.node("NoOp", "gathered", (), controls)
        return (self._equal[full],)

    def identity(self, tensor: str, dtype: int, controls: Sequence[str]) -> str:
        """A tensor that is there when some nodes have run."""
        node = node_def_pb2.NodeDef(name=node_of(tensor) + "/after", op="Identity")
        set_attr(node, "T", ("type", dtype))
        key = b"Identity %d" % dtype
        return self.copy(node, key, False, [tensor], controls) + ":0"

    def _put(
        self,
        node: node_def_pb2.NodeDef,
        inputs: Sequence[str],
        controls: Sequence[str],
    ) -> None:
        node.input.extend(t[:-2] if t.endswith(":0") else t for t in inputs)
        node.input.extend("^" + name for name in controls)
        self.nodes[node.name] = node

    def slice(self, fetches: Sequence[str]) -> List[str]:
        """Names of the nodes that run for tensors and nodes, in order."""
        needed = set()
        stack = [node_of(name) for name in fetches]
        while stack:
            name = stack.pop()
            if name not in needed:
                needed.add(name)
                stack.extend(node_of(tensor) for tensor in self.nodes[name].input)
        return [name for name in self.nodes if name in needed]
