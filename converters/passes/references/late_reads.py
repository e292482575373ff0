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
    Any,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from ...ir.graph import (
    WAYS_BACK,
    Edge,
    Graph,
    attr_or_default,
    data_inputs,
    node_of,
    normal,
    resource_name,
    topological,
)
from ...ir.variables import REFERENCE_OPS
from .aliases import FORWARDS, Alias, Aliases, kind
from .doubts import Doubt, Signature, UnsureReads, User
from .memory import static_shape, static_size
from .shared_memory import find_sharing
from .sharing import Sharing

__all__ = ["LateRead", "LateReads"]

# Resources that take over each other's memory; a loop of views has no end.
_MOST_ROUNDS = 8
_CONTROL_FLOW = ("Enter", "Merge", "Switch")
# Takes what comes first, and does not wait for the rest.
_ONE_INPUT = ("Merge", "RefMerge")


@dataclasses.dataclass
class LateRead:
    """An input of a node that has to be read for that node.

    Attributes:
      node: the node; None where a signature returns the tensor.
      place: which of its inputs.
      tensor: what it takes.
      alias: what that is.
      controls: what the read has to wait for.
      resizer: the write that leaves the memory as it was, if it changes the size.
    """

    node: Optional[str]
    place: int
    tensor: str
    alias: Alias
    controls: List[str]
    resizer: str = ""


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
        # _roots: reference tensor -> the variables that it may be of. _bits: variable
        # -> its writes, one bit each; _resizing: the writes that may change a size.
        # _behind: node -> the writes that come before it on any way. _in_turn: the same
        # within one iteration. Sets of writes are ints, as graphs have thousands of
        # nodes.
        self._roots: Dict[str, Set[str]] = {}
        self._bits: Dict[str, int] = {}
        self._resizing = 0
        self._by_name: Dict[str, List[str]] = {}
        self._behind: Dict[str, int] = {}
        self._in_turn: Dict[str, int] = {}
        self._unsure = UnsureReads()
        # Resource variables that are the memory of others.
        self.sharing: Dict[str, Sharing] = {}
        if any(self._is_write(name) for name in declared):
            order = topological(graph, list(graph.nodes))
            self._find_writes(order)
            self._find_aliases(order)

    def _find_aliases(self, order: Sequence[str]) -> None:
        """Finds what is the memory of variables; resources can hand it on."""
        writes = set(self._writers)
        known: Dict[str, Set[Any]] = {}
        for _ in range(_MOST_ROUNDS):
            self.aliases = Aliases(
                self._graph, self._references, writes, order, self.sharing
            )
            found = find_sharing(self._graph, self.aliases)
            self.sharing = {k: s for k, s in found.items() if self._is_followed(s)}
            memories = {key: each.memories for key, each in self.sharing.items()}
            if memories == known:
                return
            known = memories
        self.sharing = {}
        self.aliases = Aliases(self._graph, self._references, writes, order)

    def _is_followed(self, sharing: Sharing) -> bool:
        """Whether a write to what a resource is the memory of can be followed."""
        writes = self.followed(sharing)
        for name in writes:
            alias = self.aliases.get(self.target(name))
            if alias is None or alias.chooser or self._graph.outputs(name)[1:]:
                return False
            if self._may_resize(self._graph.nodes[name]):
                return False
        return bool(writes)

    def followed(self, sharing: Sharing) -> List[str]:
        """The writes to what a resource may be the memory of."""
        bits = 0
        for variable, _ in sharing.memories:
            bits |= self._bits.get(variable, 0)
        return [name for name, (bit, _) in self._writers.items() if bit & bits]

    def writes(self) -> List[str]:
        """The nodes that write through references."""
        return list(self._writers) if self._bits else []

    def target(self, name: str) -> str:
        """The reference that a node writes through."""
        edges = data_inputs(self._graph, name)
        place = list(self._declared[name]).index(True)
        return edges[place].tensor

    # Given:
    #     value = Identity(v)
    #     write = AssignAdd(v, x)
    #     y = Mul(value, 2, ^write)
    # Result:
    #     LateRead(node=y, place=0, tensor=value:0, controls=[^value, ^write])
    #
    # Holds for what is not in the answer: no write lies between the read and the use,
    # so one ReadVariableOp in the place of the Identity gives what the session gave.
    def of_nodes(self) -> List[LateRead]:
        """The inputs that nodes have to read for themselves."""
        if not self._bits:
            return []
        found = []
        for name in self._graph.nodes:
            for i, edge in enumerate(data_inputs(self._graph, name)):
                if name in self._declared and self._declared[name][i]:
                    continue
                alias = self.aliases.get(edge.tensor)
                if alias is None or self.aliases.handed_on(name, i):
                    continue
                read = self._late_read(name, i, edge.tensor, alias)
                if read is not None:
                    found.append(read)
        return found

    def controls(self, name: str, place: int) -> List[str]:
        """The control edges of a reference's read, beside those of its node.

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

    def of_outputs(self, signatures: Iterable[Signature]) -> List[LateRead]:
        """The outputs of signatures that are variables which they write.

        Args:
          signatures: outputs and inputs of each.
        """
        found: Dict[str, LateRead] = {}
        for number, (outputs, fed) in enumerate(signatures if self._bits else ()):
            names = set(self._graph.slice(outputs, fed))
            for tensor in map(normal, outputs):
                alias = self.aliases.get(tensor)
                if alias is None or alias.path or tensor in fed:
                    continue
                written = self.written(names)
                node = node_of(tensor)
                resizer = self._resizer(alias, written, node)
                if resizer:
                    found[tensor] = LateRead(None, 0, tensor, alias, [], resizer)
                    continue
                self._doubt_new_memory(alias, self._behind, written, node, number)
                written &= ~self._resizing
                if self._shows(alias, self._behind, written, node):
                    if self._doubtful(alias, number) or tensor in found:
                        continue
                    after = ["^" + node]
                    found[tensor] = LateRead(None, 0, tensor, alias, after)
        return list(found.values())

    def _late_read(
        self, name: str, place: int, tensor: str, alias: Alias
    ) -> Optional[LateRead]:
        if tensor in self._references:
            # Read for this node in any case.
            return None
        graph = self._graph
        inputs = graph.inputs(name)
        if graph.nodes[name].op in _ONE_INPUT:
            inputs = [edge for edge in inputs if edge.tensor == tensor]
        # Both are asked: over all iterations, a write comes before everything in its
        # loop, and so before the read itself as well. Only the second tells their
        # order.
        for behind in (self._behind, self._in_turn):
            done = 0
            for edge in inputs:
                done |= behind[edge.node]
            resizer = self._resizer(alias, done, node_of(tensor))
            if resizer:
                return LateRead(name, place, tensor, alias, [], resizer)
            self._doubt_new_memory(alias, behind, done, node_of(tensor), name)
            if self._shows(alias, behind, done & ~self._resizing, ""):
                break
        else:
            return None
        if self._doubtful(alias, name):
            return None
        others = [edge for edge in inputs if edge.tensor != tensor]
        writes = 0
        for variable in self._variables(alias):
            writes |= self._bits.get(variable, 0)
        controls = ["^" + node_of(tensor)] + self._controls(others, writes)
        return LateRead(name, place, tensor, alias, controls)

    def doubts(self) -> List[Doubt]:
        """The reads of what may be memory or a copy, once all were looked for."""
        return self._unsure.doubts()

    def variables_of(self, tensor: str) -> List[str]:
        """The variables whose memory a tensor may be; none if nothing is written."""
        if not self._bits:
            return []
        alias = self.aliases.get(tensor)
        return [] if alias is None else self._variables(alias)

    def writes_to(self, variable: str) -> int:
        """The writes to a variable, a bit for each."""
        return self._bits.get(variable, 0)

    def written(self, names: Iterable[str]) -> int:
        """The writes among some nodes."""
        found = 0
        for name in names:
            if name in self._writers:
                found |= self._writers[name][0]
        return found

    def done_before(self, name: str) -> int:
        """The writes that come before a node."""
        found = 0
        for edge in self._graph.inputs(name):
            found |= self._behind[edge.node]
        return found

    def done_in_turn(self, name: str) -> int:
        """The writes that come before a node in its own iteration, itself included."""
        return self._in_turn[name]

    def _doubt_new_memory(
        self,
        alias: Alias,
        behind: Mapping[str, int],
        done: int,
        node: str,
        user: User,
    ) -> None:
        """Notes an alias of what a write may have left behind.

        An Assign without validate_shape gives a variable new memory where the shape is
        another one. What was read before stays what it was.
        """
        if self._shows(alias, behind, done & self._resizing, node):
            self._unsure.add(node, self._variables(alias), user)

    def _resizer(self, alias: Alias, done: int, since: str) -> str:
        """The write that may have given the variable new memory, if it is the last.

        A run decides; what was read is what the variable held just before, or what it
        was given. Empty if there is none, or if more than one write, or other control
        flow, is involved.
        """
        if alias.chooser or alias.path or alias.unsure or not self._resizing:
            return ""
        shown = done & self._bits.get(alias.variable, 0)
        shown &= ~self._behind.get(alias.read or since, 0)
        names = [n for n, (bit, _) in self._writers.items() if bit & shown]
        last = [n for n in names if self._writers[n][0] & self._resizing]
        if len(last) != 1 or shown & ~self._behind[last[0]]:
            return ""
        needed = self._graph.slice(["^" + last[0]])
        if any(kind(self._graph, name) in _CONTROL_FLOW for name in needed):
            return ""
        return last[0]

    def _doubtful(self, alias: Alias, user: User) -> bool:
        node = self.aliases.unsure(alias)
        if node:
            self._unsure.add(node, self._variables(alias), user)
        return bool(node)

    def _variables(self, alias: Alias) -> List[str]:
        """The variables that an alias may be of."""
        if not alias.chooser:
            return [alias.variable]
        entries = self.aliases.entries(alias.chooser).values()
        return sorted({entry.alias.variable for entry in entries})

    def _shows(
        self, alias: Alias, behind: Mapping[str, int], done: int, since: str
    ) -> bool:
        """Whether some writes are to the memory that an alias is, after its read.

        Args:
          alias: the alias.
          behind: the writes behind each node.
          done: the writes.
          since: the node that stands for the read of what is a reference itself.
        """
        if not alias.chooser:
            known = behind.get(alias.read or since, 0)
            # What may copy has seen these, whether it does or not.
            known |= behind.get(alias.unsure, 0)
            return bool(done & self._bits.get(alias.variable, 0) & ~known)
        for entry in self.aliases.entries(alias.chooser).values():
            found = done & self._bits.get(entry.alias.variable, 0)
            for read in entry.reads:
                found &= ~behind.get(read or since, 0)
            for name, (bit, _) in self._writers.items() if found else ():
                others = self.aliases.guards(name)
                if found & bit and any((p, 1 - i) in others for p, i in entry.unlike):
                    found &= ~bit
            if found:
                return True
        return False

    def _is_write(self, name: str) -> bool:
        op = self._graph.nodes[name].op
        return (
            any(self._declared[name])
            and op not in FORWARDS
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
                if not roots and graph.nodes[name].op in REFERENCE_OPS:
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
        for name, (bit, roots) in self._writers.items():
            if self._may_resize(graph.nodes[name]):
                self._resizing |= bit
            for root in roots:
                for twin in self._twins(root):
                    self._bits[twin] = self._bits.get(twin, 0) | bit
        while self._add_writes_behind(order, self._behind, ()):
            pass
        # Of one iteration alone: another one has written as well.
        self._add_writes_behind(order, self._in_turn, WAYS_BACK)

    def _may_resize(self, node: Any) -> bool:
        """Whether a node may give a variable other memory.

        An Assign without validate_shape does where the number of elements changes.
        """
        if not self._unvalidated(node):
            return False
        twins = {t for r in self._writers[node.name][1] for t in self._twins(r)}
        held = [twin + ":0" for twin in twins]
        for name, (_, roots) in self._writers.items():
            if self._graph.nodes[name].op == "Assign" and roots & twins:
                held.append(data_inputs(self._graph, name)[1].tensor)
        sizes = {static_size(self._graph, tensor) for tensor in held}
        return len(sizes) != 1 or None in sizes

    def _unvalidated(self, node: Any) -> bool:
        if node.op != "Assign":
            return False
        op = self._graph.op_def(node.op)
        return not attr_or_default(node, op, "validate_shape").b

    def reshaped(self) -> Set[str]:
        """The variables that are given values of another shape than they declare."""
        found: Set[str] = set()
        for name, (_, roots) in self._writers.items() if self._bits else ():
            if self._unvalidated(self._graph.nodes[name]):
                value = data_inputs(self._graph, name)[1].tensor
                shape = static_shape(self._graph, value)
                for root in roots:
                    if shape is None or shape != static_shape(self._graph, root + ":0"):
                        found.update(self._twins(root))
        return found

    def _twins(self, variable: str) -> List[str]:
        """The nodes that are the variable which a node is: a session knows the name."""
        if not self._by_name:
            for node in self._graph.nodes.values():
                if node.op in REFERENCE_OPS:
                    self._by_name.setdefault(resource_name(node), []).append(node.name)
        return self._by_name[resource_name(self._graph.nodes[variable])]

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
