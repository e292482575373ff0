"""Which tensors of a session are the memory of a reference variable.

Identity, Reshape, Switch or Enter hand on the memory that they get. A Merge may give
the memory of one variable or another, or what was computed: which, a run decides. So
does a Select with a scalar condition, and an Exit where a loop was left. Those are the
*choosers*.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import (
    Dict,
    FrozenSet,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from ...ir.graph import (
    WAYS_BACK,
    Graph,
    data_inputs,
    node_of,
    resource_name,
    split_tensor,
)
from . import memory
from .sharing import Sharing, View, place_of

__all__ = ["FORWARDS", "READ", "Alias", "Aliases", "Chooser", "Entry", "kind"]

FORWARDS = frozenset(
    "Ref" + name
    for name in (
        "Enter",
        "Exit",
        "Identity",
        "Merge",
        "NextIteration",
        "Select",
        "Switch",
    )
)
# A chooser that is a read of a resource variable.
READ = "Read"
# Through what a loop variable gets its values.
_TURNS = ("Enter", "NextIteration")


class Alias(NamedTuple):
    """A tensor that is the memory of a variable.

    Attributes:
      variable: its node; empty where a chooser says which variable it is.
      path: the Switches and Enters behind which the tensor is, with the output taken.
      views: what gave it another shape, in order.
      read: the first node that takes the reference for a value, if there is one.
      chooser: the node that chooses.
      unsure: the node of which a run decides whether it hands memory on, if any.
    """

    variable: str
    path: Tuple[Tuple[str, int], ...] = ()
    views: Tuple[View, ...] = ()
    read: Optional[str] = None
    chooser: str = ""
    unsure: str = ""


class Entry(NamedTuple):
    """The tensors that a chooser may have chosen.

    Attributes:
      number: says which: the same for a variable, and a part of it, anywhere.
      alias: the memory, as it is where the chooser is.
      reads: the nodes that take the reference for a value.
      unlike: predicates and outcomes without which it is not chosen.
    """

    number: int
    alias: Alias
    reads: FrozenSet[str]
    unlike: FrozenSet[Tuple[str, int]]


class Chooser(NamedTuple):
    """A node that gives one of several memories.

    Attributes:
      kind: ``Merge``, ``Exit``, ``Select`` or ``Read``.
      inputs: what each of the tensors is that it may give; None is memory of its own.
      tensors: those.
    """

    kind: str
    inputs: Tuple[Optional[Alias], ...]
    tensors: Tuple[str, ...]


def kind(graph: Graph, name: str) -> str:
    """The op of a node, without the Ref of what hands on references."""
    op: str = graph.nodes[name].op
    return op[len("Ref") :] if op in FORWARDS else op


# Given:
#     value = Identity(v)                     v: VariableV2
#     flat = Reshape(value, [-1])
#     total = Add(value, 1)
#     either = Merge(value of a branch, total of the other)
# Result:
#     value:0   Alias(v, read=value)
#     flat:0    Alias(v, read=value, views=(flat,))
#     total:0   None: memory of its own
#     either:0  Alias("", chooser=either)
#
# Holds at the end: a tensor without an alias can never show a later write. What may be
# memory or a copy has an alias, marked unsure, so that doubt refuses and never guesses.
class Aliases:
    """Finds what is the memory of variables, whatever way control flow takes.

    Attributes:
      choosers: by node.

    Args:
      graph: the graph, with its references.
      references: tensors of reference type.
      writes: nodes that write through a reference, which they hand on.
      order: all nodes, each after its inputs.
      sharing: resource variables that are the memory of others, by name.
    """

    def __init__(
        self,
        graph: Graph,
        references: Set[str],
        writes: Set[str],
        order: Sequence[str],
        sharing: Mapping[str, Sharing] = MappingProxyType({}),
    ) -> None:
        self._graph = graph
        self._sharing = sharing
        self._references = references
        self._writes = writes
        self._found: Dict[str, Optional[Alias]] = {}
        self.choosers: Dict[str, Chooser] = {}
        # Loop variables that are not the same memory in each iteration.
        self._mixed: Set[str] = set()
        # (variable, views) -> the number by which the graph itself tells memories apart
        # when it runs; 0 is memory of its own.
        self._numbers: Dict[Tuple[str, Tuple[View, ...]], int] = {}
        self._entries: Dict[str, Dict[int, Entry]] = {}
        self._entered = any(kind(graph, name) == "Enter" for name in order)
        self._find(order)
        self._guards: Dict[str, FrozenSet[Tuple[str, int]]] = {}
        if self.choosers and not self._entered:
            self._find_guards(order)

    def get(self, tensor: str) -> Optional[Alias]:
        """The variable whose memory a tensor is; None if it was computed."""
        return self._found.get(tensor)

    def guards(self, name: str) -> FrozenSet[Tuple[str, int]]:
        """Predicates and outcomes without which a node does not run."""
        return self._guards.get(name, frozenset())

    def handed_on(self, name: str, place: int) -> bool:
        """Whether a node hands an input on as it is."""
        graph = self._graph
        chosen = kind(graph, name) in ("Merge", memory.CHOOSES)
        for output in range(len(graph.outputs(name))):
            alias = self._found.get("{}:{}".format(name, output))
            if alias is None or alias.unsure == name:
                continue
            if chosen or place == self._place(name, output):
                return True
        return False

    def entries(self, chooser: str) -> Dict[int, Entry]:
        """The alternatives of a chooser, by number."""
        if chooser not in self._entries:
            found = self._entries[chooser] = {}
            self._collect(chooser, found, set())
        return self._entries[chooser]

    def unsure(self, alias: Alias) -> str:
        """A node that may have copied the memory, or not; empty if there is none."""
        seen: Set[str] = set()
        stack = [alias]
        while stack:
            alias = stack.pop()
            if alias.unsure:
                return alias.unsure
            if not alias.chooser or alias.chooser in seen:
                continue
            seen.add(alias.chooser)
            made = self.choosers[alias.chooser]
            for each, tensor in zip(made.inputs, made.tensors):
                if each is None:
                    continue
                if each.views and self._reaches(each.chooser, alias.chooser):
                    # Another number in each iteration.
                    return each.views[-1].node
                if alias.chooser in self._mixed:
                    if kind(self._graph, node_of(tensor)) not in _TURNS:
                        return alias.chooser
                for view in each.views:
                    if not self._fixed(view.node, view.place):
                        return view.node
                stack.append(each)
        return ""

    def _reaches(self, chooser: str, wanted: str) -> bool:
        """Whether what a chooser gives may have come from another one."""
        stack, seen = [chooser], set()
        while stack:
            name = stack.pop()
            if name == wanted:
                return True
            if name and name not in seen:
                seen.add(name)
                inputs = self.choosers[name].inputs
                stack += [each.chooser for each in inputs if each is not None]
        return False

    def _fixed(self, name: str, place: int) -> bool:
        """Whether all inputs but one are constants."""
        return all(
            self._graph.nodes[edge.node].op == "Const"
            for i, edge in enumerate(data_inputs(self._graph, name))
            if i != place
        )

    def number(self, alias: Optional[Alias]) -> int:
        """The number of a memory that nothing chooses; 0 is memory of its own."""
        if alias is None:
            return 0
        key = (alias.variable, alias.views)
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def further(self, alias: Alias, way: Alias) -> Alias:
        """What comes of the memory that a chooser chose, on its way from there."""
        return alias._replace(path=alias.path + way.path, views=alias.views + way.views)

    def _collect(self, chooser: str, found: Dict[int, Entry], seen: Set[str]) -> None:
        seen.add(chooser)
        made = self.choosers[chooser]
        left = {"Merge": "Switch", "Exit": "Enter"}.get(made.kind, "")
        for alias, tensor in zip(made.inputs, made.tensors):
            if alias is None:
                continue
            if not alias.chooser:
                entries = [
                    Entry(
                        self.number(alias),
                        alias,
                        frozenset([alias.read or ""]),
                        self._tensor_guards(tensor),
                    )
                ]
            elif alias.chooser in seen:
                continue
            else:
                inner: Dict[int, Entry] = {}
                self._collect(alias.chooser, inner, seen)
                entries = []
                for entry in inner.values():
                    further = self.further(entry.alias, alias)
                    number = self.number(further)
                    entries.append(entry._replace(number=number, alias=further))
            for entry in entries:
                known = found.get(entry.number, entry)
                found[entry.number] = entry._replace(
                    alias=self._left(entry.alias, left),
                    reads=known.reads | entry.reads,
                    unlike=known.unlike & entry.unlike,
                )

    # A fixed point: a loop variable counts as what it began with, until an iteration is
    # seen to give something else. It is mixed from then on, and never goes back, so
    # that this ends.
    def _find(self, order: Sequence[str]) -> None:
        while True:
            self._found.clear()
            self.choosers.clear()
            for name in order:
                for i in range(len(self._graph.outputs(name))):
                    alias = self._alias(name, i)
                    if alias is not None:
                        self._found["{}:{}".format(name, i)] = alias
            mixed = {
                name
                for name in order
                if name not in self._mixed and not self._goes_round(name)
            }
            if not mixed:
                break
            self._mixed |= mixed
        for name in self._mixed:
            # Of its next iteration, more is known now.
            tensors = [edge.tensor for edge in data_inputs(self._graph, name)]
            self._choose(name, "Merge", tensors)

    def _goes_round(self, name: str) -> bool:
        """Whether what a loop hands on is what it began with."""
        if kind(self._graph, name) != "Merge":
            return True
        begun = self._found.get(name + ":0")
        for edge in data_inputs(self._graph, name):
            if self._graph.nodes[edge.node].op not in WAYS_BACK:
                continue
            after = self._found.get(edge.tensor)
            if begun is None or after is None:
                if begun is not after:
                    return False
            elif begun._replace(path=(), read=None) != after._replace(
                path=(), read=None
            ):
                return False
        return True

    def _place(self, name: str, output: int) -> Optional[int]:
        """The input that an output is the memory of."""
        op = kind(self._graph, name)
        if op in ("Enter", "Exit", "NextIteration") or name in self._writes:
            return 0
        if op == "Switch":
            return 0
        handed = memory.handed(self._graph, name, output)
        return None if handed is None else handed.place

    def _alias(self, name: str, output: int) -> Optional[Alias]:
        graph = self._graph
        node, op = graph.nodes[name], kind(graph, name)
        if node.op in ("Variable", "VariableV2"):
            return Alias(name)
        edges = data_inputs(graph, name)
        if not edges:
            return None
        if op == "ReadVariableOp":
            return self._read(name, edges[0].tensor) if self._sharing else None
        if op == "Merge":
            tensors = [edge.tensor for edge in edges]
            return self._merged(name, tensors) if output == 0 else None
        if node.op == memory.CHOOSES:
            return self._selected(name, [edge.tensor for edge in edges])
        place = self._place(name, output)
        if place is None or place >= len(edges):
            return None
        source = edges[place].tensor
        alias = self._found.get(source)
        if alias is None:
            return None
        handed_on = "{}:{}".format(name, output) in self._references
        if name in self._writes:
            # CountUpTo gives a number.
            return alias if handed_on else None
        if source in self._references and not handed_on:
            alias = alias._replace(read=name)
        if op == "Switch":
            if graph.nodes[edges[1].node].op == "LoopCond" and not alias.chooser:
                return alias
            return alias._replace(path=alias.path + ((name, output),))
        if op == "Enter":
            return alias._replace(path=alias.path + ((name, 0),))
        if op == "Exit":
            return self._exited(name, source, alias)
        if op == "NextIteration":
            return alias
        return self._seen(alias, name, output)

    def _read(self, name: str, handle: str) -> Optional[Alias]:
        """What a resource variable gives: its memory, which may be another's."""
        place = place_of(self._graph, handle)
        if place is None:
            return None
        sharing = self._sharing.get(resource_name(self._graph.nodes[place.node]))
        if sharing is None:
            return None
        inputs = tuple(
            Alias(variable, place.path, views, read=name)
            for variable, views in sorted(sharing.memories)
        )
        self.choosers[name] = Chooser(READ, inputs, (handle,) * len(inputs))
        return Alias("", chooser=name)

    def _seen(self, alias: Alias, name: str, output: int) -> Alias:
        """The memory that an op passes on without computing."""
        found = memory.handed(self._graph, name, output)
        assert found is not None
        if not found.sure:
            return alias._replace(unsure=alias.unsure or name)
        if not found.view:
            return alias
        fixed = self._fixed(name, found.place)
        if self._entered and not fixed:
            return alias._replace(unsure=alias.unsure or name)
        view = View(name, found.place, output)
        return alias._replace(views=alias.views + (view,))

    def _exited(self, name: str, source: str, alias: Alias) -> Alias:
        """The memory that leaves a loop."""
        steps = [kind(self._graph, step) for step, _ in alias.path]
        if alias.chooser and "Enter" not in steps:
            return self._choose(name, "Exit", [source])
        return self._left(alias, "Enter")

    def _merged(self, name: str, tensors: List[str]) -> Optional[Alias]:
        """The memory that a Merge gives."""
        back = [
            tensor
            for tensor in tensors
            if self._graph.nodes[node_of(tensor)].op in WAYS_BACK
        ]
        if name in self._mixed:
            return self._choose(name, "Merge", tensors)
        found = [self._found.get(tensor) for tensor in tensors if tensor not in back]
        if back:
            # As it begins, until an iteration gives something else.
            begun = found[0]
            return None if begun is None else begun
        if all(alias is None for alias in found):
            return None
        first = found[0]
        if first is not None and all(
            alias is not None
            and not alias.chooser
            and not alias.views
            and not alias.unsure
            and alias.variable == first.variable
            for alias in found
        ):
            return self._left(first._replace(read=None), "Switch")
        return self._choose(name, "Merge", tensors)

    def _selected(self, name: str, tensors: List[str]) -> Optional[Alias]:
        """What a Select gives: one of its inputs, if its condition is a scalar."""
        found = [self._found.get(tensor) for tensor in tensors[1:]]
        shape = memory.static_shape(self._graph, tensors[0])
        if all(alias is None for alias in found) or shape:
            return None
        if shape is None:
            first = found[0] or found[1]
            assert first is not None
            return first._replace(unsure=first.unsure or name)
        return self._choose(name, memory.CHOOSES, tensors[1:])

    def _choose(self, name: str, op: str, tensors: Sequence[str]) -> Alias:
        inputs = tuple(self._found.get(tensor) for tensor in tensors)
        self.choosers[name] = Chooser(op, inputs, tuple(tensors))
        return Alias("", chooser=name)

    def _left(self, alias: Alias, op: str) -> Alias:
        """The memory outside of the conditional or loop that a tensor was in."""
        kinds = [kind(self._graph, name) for name, _ in alias.path]
        if op == "Switch" and kinds[-1:] == ["Switch"]:
            return alias._replace(path=alias.path[:-1])
        if op == "Enter" and "Enter" in kinds:
            last = len(kinds) - kinds[::-1].index("Enter") - 1
            return alias._replace(path=alias.path[:last])
        # What a branch takes without a Switch is there outside of it as well.
        return alias

    def _find_guards(self, order: Sequence[str]) -> None:
        graph = self._graph
        for name in order:
            edges = graph.inputs(name)
            found = [self._tensor_guards(edge.tensor) for edge in edges]
            if kind(graph, name) == "Merge" and found:
                self._guards[name] = frozenset.intersection(*found)
            else:
                self._guards[name] = frozenset().union(*found)

    def _tensor_guards(self, tensor: str) -> FrozenSet[Tuple[str, int]]:
        graph = self._graph
        name = node_of(tensor)
        found = self._guards.get(name, frozenset())
        if not self._entered and not tensor.startswith("^"):
            if kind(graph, name) == "Switch":
                predicate = data_inputs(graph, name)[1].tensor
                while graph.nodes[node_of(predicate)].op == "Identity":
                    predicate = data_inputs(graph, node_of(predicate))[0].tensor
                found |= {(predicate, split_tensor(tensor)[1])}
        return found
