"""When a session reads a reference variable: when an op computes with it.

A reference is a place in memory, and Identity, Reshape, Switch or Enter hand on the
same place. What was written in the meantime shows. It shows in what a signature returns
as well, which is fetched when all has run. ``Variable.value()`` is one Identity for the
whole program. So ``with control_dependencies([assign_add(v, x)]): y = v * 2.0`` has
nothing but the edge from the write to the product. A ReadVariableOp gives the value of
its own moment.
"""

from __future__ import annotations

import dataclasses
from typing import (
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from .graph import Edge, Graph, data_inputs, node_of, normal, topological

__all__ = ["Alias", "LateRead", "LateReads"]

# Outputs are inputs: the same tensor, and the same with another shape or type.
_SAME = frozenset(
    [
        "Identity",
        "IdentityN",
        "PreventGradient",
        "RefIdentity",
        "Snapshot",
        "StopGradient",
    ]
)
_VIEWS = frozenset(
    ["Bitcast", "CheckNumerics", "EnsureShape", "ExpandDims", "Reshape", "Squeeze"]
)
_FORWARDS = frozenset(
    "Ref" + kind
    for kind in (
        "Enter",
        "Exit",
        "Identity",
        "Merge",
        "NextIteration",
        "Select",
        "Switch",
    )
)
_WAYS_BACK = ("NextIteration", "RefNextIteration")
# Takes what comes first, and does not wait for the rest.
_ONE_INPUT = ("Merge", "RefMerge")


class Alias(NamedTuple):
    """A tensor that is the memory of a variable.

    Attributes:
      variable: its node.
      path: the Switches and Enters behind which the tensor is, with the output taken.
      views: the nodes that gave it another shape, in order.
      read: the first node that takes the reference for a value, if there is one.
    """

    variable: str
    path: Tuple[Tuple[str, int], ...] = ()
    views: Tuple[str, ...] = ()
    read: Optional[str] = None


@dataclasses.dataclass
class LateRead:
    """An input of a node that has to be read for that node.

    Attributes:
      node: the node; None where a signature returns the tensor.
      place: which of its inputs.
      tensor: what it takes.
      alias: what that is.
      controls: what the read has to wait for.
    """

    node: Optional[str]
    place: int
    tensor: str
    alias: Alias
    controls: List[str]


class LateReads:
    """Finds what the order of reads and writes is in a graph.

    Args:
      graph: the graph, with its references.
      references: tensors of reference type.
      declared: by node with a reference among its inputs, whether each input has to be
        one.
    """

    def __init__(
        self,
        graph: Graph,
        references: Iterable[str],
        declared: Mapping[str, Sequence[bool]],
    ) -> None:
        self._graph = graph
        self._references = set(references)
        self._declared = declared
        self._roots: Dict[str, Set[str]] = {}
        self._bits: Dict[str, int] = {}
        self._behind: Dict[str, int] = {}
        self._in_turn: Dict[str, int] = {}
        self._aliases: Dict[str, Optional[Alias]] = {}
        self._impure: Set[str] = set()
        if any(self._is_write(name) for name in declared):
            order = topological(graph, list(graph.nodes))
            self._entered = any(
                node.op in ("Enter", "RefEnter") for node in graph.nodes.values()
            )
            self._find_writes(order)
            self._find_aliases(order)

    def of_nodes(self) -> List[LateRead]:
        """What nodes have to read for themselves."""
        if not self._bits:
            return []
        found = []
        for name in self._graph.nodes:
            for i, edge in enumerate(data_inputs(self._graph, name)):
                if name in self._declared and self._declared[name][i]:
                    continue
                alias = self._aliases.get(edge.tensor)
                if alias is None or self._handed_on(name, i):
                    continue
                read = self._late_read(name, i, edge.tensor, alias)
                if read is not None:
                    found.append(read)
        return found

    def controls(self, name: str, place: int) -> List[str]:
        """What the read of a reference has to wait for, beside a node's control edges.

        Args:
          name: the node that takes it.
          place: which of its inputs it is.
        """
        if not self._bits or self._graph.nodes[name].op in _ONE_INPUT:
            return []
        tensor = data_inputs(self._graph, name)[place].tensor
        writes = 0
        for root in self._roots.get(tensor, ()):
            writes |= self._bits.get(root, 0)
        edges = [e for e in data_inputs(self._graph, name) if e.tensor != tensor]
        return self._controls(edges, writes)

    def _controls(self, edges: Iterable[Edge], writes: int) -> List[str]:
        """Control edges from those that some writes come before."""
        found: Dict[str, None] = {}
        stack = list(edges)
        while stack:
            edge = stack.pop()
            if self._behind[edge.node] & writes:
                if self._graph.nodes[edge.node].op == "Const":
                    # Passes make other constants of it, which wait for nothing.
                    stack += self._graph.inputs(edge.node)
                else:
                    found["^" + edge.node] = None
        return sorted(found)

    def of_outputs(
        self, signatures: Iterable[Tuple[Sequence[str], Set[str]]]
    ) -> List[LateRead]:
        """What signatures return of variables that they write.

        Args:
          signatures: outputs and inputs of each.
        """
        found: Dict[str, LateRead] = {}
        for outputs, fed in signatures if self._bits else ():
            names = set(self._graph.slice(outputs, fed))
            for tensor in map(normal, outputs):
                alias = self._aliases.get(tensor)
                if alias is None or alias.path or tensor in found or tensor in fed:
                    continue
                known = self._behind[alias.read or node_of(tensor)]
                if self._written(alias.variable, names) & ~known:
                    after = ["^" + node_of(tensor)]
                    found[tensor] = LateRead(None, 0, tensor, alias, after)
        return list(found.values())

    def _late_read(
        self, name: str, place: int, tensor: str, alias: Alias
    ) -> Optional[LateRead]:
        if tensor in self._references:
            # Read for this node in any case.
            return None
        graph = self._graph
        writes = self._bits.get(alias.variable, 0)
        inputs = graph.inputs(name)
        if graph.nodes[name].op in _ONE_INPUT:
            inputs = [edge for edge in inputs if edge.tensor == tensor]
        for behind in (self._behind, self._in_turn):
            known = behind.get(alias.read or "", 0)
            if any(behind[edge.node] & writes & ~known for edge in inputs):
                break
        else:
            return None
        others = [edge for edge in inputs if edge.tensor != tensor]
        controls = ["^" + node_of(tensor)] + self._controls(others, writes)
        return LateRead(name, place, tensor, alias, controls)

    def _written(self, variable: str, names: Set[str]) -> int:
        """The writes of a variable among some nodes."""
        found = 0
        for name in names:
            if name in self._writers and variable in self._writers[name][1]:
                found |= self._writers[name][0]
        return found

    def _is_write(self, name: str) -> bool:
        op = self._graph.nodes[name].op
        return (
            any(self._declared[name])
            and op not in _FORWARDS
            and op != "IsVariableInitialized"
        )

    def _find_writes(self, order: Sequence[str]) -> None:
        """Which node writes what, and which writes are behind each node."""
        graph = self._graph
        self._writers: Dict[str, Tuple[int, Set[str]]] = {}
        changed = True
        while changed:
            # A loop needs more than one pass.
            changed = False
            for name in order:
                roots: Set[str] = set()
                for i, edge in enumerate(data_inputs(graph, name)):
                    if name in self._declared and self._declared[name][i]:
                        roots |= self._roots.get(edge.tensor, set())
                if not roots and graph.nodes[name].op in ("Variable", "VariableV2"):
                    roots = {name}
                for i in range(len(graph.outputs(name)) if roots else 0):
                    tensor = "{}:{}".format(name, i)
                    if tensor in self._references:
                        if not roots <= self._roots.setdefault(tensor, set()):
                            self._roots[tensor] |= roots
                            changed = True
                if name in self._declared and self._is_write(name):
                    bit, known = self._writers.setdefault(
                        name, (1 << len(self._writers), set())
                    )
                    known |= roots
        for bit, roots in self._writers.values():
            for root in roots:
                self._bits[root] = self._bits.get(root, 0) | bit
        while self._add_writes_behind(order, self._behind, ()):
            pass
        # Of a turn of a loop alone: another one has written as well.
        self._add_writes_behind(order, self._in_turn, _WAYS_BACK)

    def _add_writes_behind(
        self, order: Sequence[str], found: Dict[str, int], without: Sequence[str]
    ) -> bool:
        """Adds the writes behind each node; whether there were more than before."""
        graph = self._graph
        changed = False
        for name in order:
            behind = self._writers[name][0] if name in self._writers else 0
            for edge in graph.inputs(name):
                if graph.nodes[edge.node].op not in without:
                    behind |= found.get(edge.node, 0)
            if behind != found.get(name):
                found[name] = behind
                changed = True
        return changed

    def _find_aliases(self, order: Sequence[str]) -> None:
        """What is the memory of one variable, whatever way control flow takes."""
        while True:
            self._aliases.clear()
            for name in order:
                for i in range(len(self._graph.outputs(name))):
                    alias = self._alias(name, i)
                    if alias is not None:
                        self._aliases["{}:{}".format(name, i)] = alias
            impure: Set[str] = set()
            for name in order:
                if not self._goes_round(name):
                    # What goes in, and what goes round, is read there.
                    edges = data_inputs(self._graph, name)
                    impure.update([name], (edge.node for edge in edges))
            if impure <= self._impure:
                return
            # Not all turns of a loop have the variable in it.
            self._impure |= impure

    def _goes_round(self, name: str) -> bool:
        """Whether what a loop hands on is what it began with."""
        begun = self._aliases.get(name + ":0")
        if begun is None or self._kind(name) != "Merge":
            return True
        return all(
            after is not None and after.variable == begun.variable and not after.views
            for after in (
                self._aliases.get(edge.tensor)
                for edge in data_inputs(self._graph, name)
            )
        )

    def _kind(self, name: str) -> str:
        op = self._graph.nodes[name].op
        return op[len("Ref") :] if op in _FORWARDS else op

    def _handed_on(self, name: str, place: int) -> bool:
        """Whether a node hands an input on as it is."""
        graph = self._graph
        kind = self._kind(name)
        if kind == "IdentityN":
            return "{}:{}".format(name, place) in self._aliases
        return (place == 0 or kind == "Merge") and any(
            "{}:{}".format(name, i) in self._aliases
            for i in range(len(graph.outputs(name)))
        )

    def _alias(self, name: str, output: int) -> Optional[Alias]:
        graph = self._graph
        node, kind = graph.nodes[name], self._kind(name)
        if node.op in ("Variable", "VariableV2"):
            return Alias(name)
        edges = data_inputs(graph, name)
        if not edges or (
            output and node.op not in ("IdentityN", "RefSwitch", "Switch")
        ):
            return None
        place = output if node.op == "IdentityN" else 0
        source = edges[place].tensor
        alias = self._aliases.get(source)
        if kind == "Merge":
            return self._merged(name, [edge.tensor for edge in edges])
        if alias is None or name in self._impure:
            return None
        if (
            source in self._references
            and "{}:{}".format(name, output) not in self._references
        ):
            alias = alias._replace(read=name)
        elif name in self._declared and self._is_write(name):
            return alias
        if kind in _SAME or kind == "NextIteration":
            return alias
        if kind == "Cast":
            same = node.attr["SrcT"].type == node.attr["DstT"].type
            return alias if same else None
        if kind in _VIEWS:
            fixed = all(graph.nodes[e.node].op == "Const" for e in edges[1:])
            if self._entered and not fixed:
                return None
            return alias._replace(views=alias.views + (name,))
        if kind == "Switch":
            if graph.nodes[edges[1].node].op == "LoopCond":
                return alias
            return alias._replace(path=alias.path + ((name, output),))
        if kind == "Enter":
            return alias._replace(path=alias.path + ((name, 0),))
        if kind == "Exit":
            return self._left(alias, "Enter")
        return None

    def _merged(self, name: str, tensors: Sequence[str]) -> Optional[Alias]:
        """What a Merge gives, if it is the same whatever comes."""
        kinds = [self._kind(node_of(tensor)) for tensor in tensors]
        if name in self._impure:
            return None
        if "NextIteration" in kinds:
            tensors = [t for t, kind in zip(tensors, kinds) if kind != "NextIteration"]
            begun = [self._aliases.get(tensor) for tensor in tensors]
            return None if begun[0] is None or begun[0].views else begun[0]
        found = [self._aliases.get(tensor) for tensor in tensors]
        first = found[0]
        if first is None or any(
            alias is None or alias.views or alias.variable != first.variable
            for alias in found
        ):
            return None
        return self._left(first._replace(read=None), "Switch")

    def _left(self, alias: Alias, kind: str) -> Optional[Alias]:
        """What is outside of the conditional or loop that a tensor was in."""
        path = list(alias.path)
        while path:
            name, _ = path.pop()
            if self._kind(name) == kind:
                return alias._replace(path=tuple(path))
        return None
