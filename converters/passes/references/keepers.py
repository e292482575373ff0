"""Arrays, lists, stacks, queues and datasets that keep a variable's memory.

A session keeps the tensor that it is given, which is the memory of the variable. What
it gives later shows the writes in between. Functions cannot tell: whose memory an
element is, only a run knows, and queues know it across runs.

Ops by trial in TensorFlow 1.15.5. Those that keep copies are not here: arrays that are
filled by unstack, scatter or split, ``enqueue_many``, barriers, accumulators, tables.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Optional, Sequence, Set, Tuple

from ...ir.graph import Graph, data_inputs
from ...ir.variables import HANDLE_OPS
from .aliases import FORWARDS
from .doubts import WAY_OUT, Doubt, Signature
from .late_reads import LateReads
from .memory import handed

__all__ = ["find_doubts"]

# What keeps a tensor for the step, and what gives it again.
_IN_STEP = (
    "OptionalFromValue",
    "StackPush",
    "TensorArrayWrite",
    "TensorListPushBack",
    "TensorListSetItem",
)
_GIVE = (
    "OptionalGetValue",
    "StackPop",
    "TensorArrayRead",
    "TensorListGetItem",
    "TensorListPopBack",
)
_GIVE_COPIES = (
    "TensorArrayConcat",
    "TensorArrayGather",
    "TensorArrayPack",
    "TensorListConcat",
    "TensorListGather",
    "TensorListStack",
)
# What keeps a tensor beyond the step. Every dataset keeps its inputs.
_BEYOND = ("MapStage", "OrderedMapStage", "QueueEnqueue", "Stage")
_COPY = ("QueueEnqueueMany", "TensorListPushBackBatch")
_PASS_ON = FORWARDS | {"Enter", "Exit", "Merge", "NextIteration", "Select", "Switch"}


def find_doubts(
    graph: Graph, late: LateReads, signatures: Sequence[Signature]
) -> List[Doubt]:
    """What a session may give of other values than the converted model does.

    Args:
      graph: the graph, with its references.
      late: which tensors are memory, and the order of writes.
      signatures: outputs and inputs of each.
    """
    kept = _Keepers(graph, late, signatures).doubts()
    return late.doubts() + _apart(graph, late) + kept


def _apart(graph: Graph, late: LateReads) -> List[Doubt]:
    """Resource variables that are given a reference variable, and do not follow it."""
    found = []
    for name, node in graph.nodes.items():
        if node.op != "AssignVariableOp":
            continue
        if any(name in each.assigns for each in late.sharing.values()):
            continue
        handle, value = data_inputs(graph, name)[:2]
        for variable in late.variables_of(value.tensor):
            if late.writes_to(variable):
                reason = (
                    "node {!r} assigns the variable {!r} to the resource variable "
                    "{!r}. In a session both share one memory from then on: a write to "
                    "the first changes the second. {}"
                ).format(name, variable, handle.node, WAY_OUT)
                found.append(Doubt(reason, frozenset([name])))
    return found


# Given:
#     write = TensorArrayWriteV3(array, 0, value of v, flow)
#     add = AssignAdd(v, x, ^write)
#     y = TensorArrayReadV3(array, 0, flow, ^add)
# Result: a Doubt about the signatures that return y, as a session gives v + x
# Given: the same, and nothing writes v after the array got it
# Result: no Doubt
# Given: QueueEnqueue(queue, value of v), and a write to v anywhere
# Result: a Doubt about all that needs the node, as a later run may dequeue
class _Keepers:
    """Finds the signatures to which a session would give what was written since.

    Args:
      graph: the graph, with its references.
      late: which tensors are memory, and the order of writes.
      signatures: outputs and inputs of each.
    """

    def __init__(
        self, graph: Graph, late: LateReads, signatures: Sequence[Signature]
    ) -> None:
        self._graph = graph
        self._late = late
        self._signatures = signatures
        self._takers: Optional[Dict[str, List[str]]] = None

    def doubts(self) -> List[Doubt]:
        """What is in doubt, for each node that keeps a variable's memory."""
        found = []
        for name, node in self._graph.nodes.items():
            beyond = _keeps_beyond(node.op)
            if not beyond and not _begins(node.op, _IN_STEP):
                continue
            for variable in self._kept(name):
                numbers: FrozenSet[int] = frozenset()
                nodes: FrozenSet[str] = frozenset()
                if beyond:
                    nodes = self._users(name)
                else:
                    numbers = self._shown(name, self._late.writes_to(variable))
                if nodes or numbers:
                    reason = (
                        "node {!r}, a {}, keeps the memory of the variable {!r}. In a "
                        "session, what it gives later shows the writes in between. {}"
                    ).format(name, node.op, variable, WAY_OUT)
                    found.append(Doubt(reason, nodes, numbers))
        return found

    def _kept(self, name: str) -> List[str]:
        """The variables that are written, and whose memory a node is given."""
        found: Dict[str, None] = {}
        for edge in data_inputs(self._graph, name):
            for variable in self._late.variables_of(edge.tensor):
                if self._late.writes_to(variable):
                    found[variable] = None
        return list(found)

    def _users(self, name: str) -> FrozenSet[str]:
        """The node that keeps beyond the step; if none needs it, what it fills.

        Without the signature that hands the memory over, nobody else sees it. What an
        init op handed over is there in any case.
        """
        if any(name in self._graph.slice(*each) for each in self._signatures):
            return frozenset([name])
        filled: Set[str] = set()
        for after in self._after(name):
            filled.update(self._graph.slice(["^" + after]))
        shared = {self._shared(each) for each in filled} - {""}
        return frozenset(
            each for each in self._graph.nodes if self._shared(each) in shared
        )

    def _after(self, name: str) -> Set[str]:
        """A node, and all that takes what comes of it."""
        found, stack = {name}, [name]
        while stack:
            taken = stack.pop()
            for i in range(len(self._graph.outputs(taken))):
                for taker in self._who("{}:{}".format(taken, i)):
                    if taker not in found:
                        found.add(taker)
                        stack.append(taker)
        return found

    def _shared(self, name: str) -> str:
        """The name by which a session finds what a node uses; empty of most."""
        node = self._graph.nodes[name]
        if node.op in HANDLE_OPS or "shared_name" not in node.attr:
            return ""
        return node.attr["shared_name"].s.decode("utf-8", "replace") or name

    def _shown(self, name: str, writes: int) -> FrozenSet[int]:
        """The signatures in which an array shows writes after the one to it."""
        writes &= ~self._late.done_in_turn(name)
        found = set()
        for number, (outputs, fed) in enumerate(self._signatures if writes else ()):
            needed = set(self._graph.slice(outputs, fed))
            if name not in needed:
                continue
            done = writes & self._late.written(needed)
            every = _GIVE + _GIVE_COPIES
            givers = [n for n in needed if _begins(self._graph.nodes[n].op, every)]
            if done and any(self._shows(n, outputs, needed, done) for n in givers):
                found.add(number)
        return frozenset(found)

    def _shows(
        self, giver: str, outputs: Sequence[str], needed: Set[str], writes: int
    ) -> bool:
        """Whether some writes come before something of an array is used."""
        if self._late.done_before(giver) & writes:
            return True
        if _begins(self._graph.nodes[giver].op, _GIVE_COPIES):
            return False
        found, stack = {giver}, [giver]
        while stack:
            name = stack.pop()
            for i in range(len(self._graph.outputs(name))):
                tensor = "{}:{}".format(name, i)
                if tensor in outputs or (i == 0 and name in outputs):
                    return True
                for taker in self._who(tensor):
                    if taker not in needed or taker in found:
                        continue
                    if self._late.done_before(taker) & writes:
                        return True
                    if self._passes_on(taker):
                        found.add(taker)
                        stack.append(taker)
        return False

    def _passes_on(self, name: str) -> bool:
        op = self._graph.nodes[name].op
        if op in _PASS_ON or _begins(op, _IN_STEP):
            return True
        outputs = range(len(self._graph.outputs(name)))
        return any(handed(self._graph, name, i) is not None for i in outputs)

    def _who(self, tensor: str) -> List[str]:
        """The nodes that take a tensor."""
        if self._takers is None:
            self._takers = {}
            for name in self._graph.nodes:
                for edge in data_inputs(self._graph, name):
                    self._takers.setdefault(edge.tensor, []).append(name)
        return self._takers.get(tensor, [])


def _begins(op: str, names: Tuple[str, ...]) -> bool:
    return op.startswith(names) and not op.startswith(_COPY)


def _keeps_beyond(op: str) -> bool:
    if _begins(op, _BEYOND):
        return not op.endswith(("Size", "Clear"))
    return op.rstrip("V0123456789").endswith("Dataset")
