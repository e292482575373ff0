"""Where the nodes of TF1 control flow are: in which frames and which branches.

TF1 keeps no record of its loops and conditionals but their nodes. A *frame* is
what is between the Enter and Exit nodes of a ``frame_name``. A *guard* is a
predicate and the branch in which a node runs: a Switch adds one, and a Merge whose
inputs disagree on one predicate ends that conditional.
"""

from __future__ import annotations

from typing import (
    AbstractSet,
    Dict,
    FrozenSet,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

from ...ir.graph import (
    Edge,
    Graph,
    attr_or_default,
    data_inputs,
    split_tensor,
    topological,
)

__all__ = [
    "Frame",
    "Guards",
    "NotUnderstood",
    "Regions",
    "data_inputs",
    "is_invariant",
    "topological",
]

# Names of nested frames, the outermost first; () is outside of all loops.
Frame = Tuple[str, ...]
# Predicates, as ``Regions.predicate`` names them, and branches: 0 is false, 1 true.
Guards = FrozenSet[Tuple[str, int]]

_NO_GUARDS: Guards = frozenset()


class NotUnderstood(Exception):
    """A loop or conditional that stays as it is.

    Args:
      node: the node at fault.
      reason: what it does, as a sentence that begins with the node.
    """

    def __init__(self, node: str, reason: str) -> None:
        super().__init__("node {!r} {}".format(node, reason))
        self.node = node


class Choice(NamedTuple):
    """How a Merge chooses: inputs by number, or choices by further predicates.

    Attributes:
      predicate: the predicate.
      branches: what is taken where it is false, and where it is true.
    """

    predicate: str
    branches: Tuple[Union[int, Choice], Union[int, Choice]]


# Given:
#     x -> Switch(p) -> :1 -> Enter("loop") -> ... -> Exit -> Merge <- :0 <- Switch(p)
# Result:
#     node              frame       guards
#     Switch            ()          {}
#     Enter, ...        ("loop",)   {}            guards are those within the frame
#     Exit              ()          {(p, 1)}      what the frame itself is under
#     Merge             ()          {}            its inputs disagree on p: p is settled
#
# Holds for each node: one frame and one set of guards, found from its inputs. So nodes
# are placed in topological order, and NextIteration edges do not count.
class Regions:
    """The frames and guards of some nodes of a graph.

    Nodes elsewhere count as outside of all loops and conditionals.

    Attributes:
      order: places in a topological order.
      frames: the frame of each node; an Enter is inside, an Exit outside.
      guards: the guards of each node within its frame.
      entered: the Enters of each frame.
      left: the Exits of each frame.
      choices: what each Merge of a conditional chooses by.
      problems: what is the matter with nodes that are not understood.
    """

    def __init__(self, graph: Graph, names: Sequence[str]) -> None:
        self._graph = graph
        self.order: Dict[str, int] = {}
        self.frames: Dict[str, Frame] = {}
        self.guards: Dict[str, Guards] = {}
        self.entered: Dict[Frame, List[str]] = {}
        self.left: Dict[Frame, List[str]] = {}
        self.choices: Dict[str, Choice] = {}
        self.problems: Dict[str, str] = {}
        self._outer_guards: Dict[Frame, Guards] = {}
        self._predicates: Dict[str, str] = {}
        for name in topological(graph, names):
            self.order[name] = len(self.order)
            self.place(name)

    def place(self, name: str, like: Optional[str] = None) -> None:
        """Finds where a node is; those before it have their places.

        Args:
          name: the node.
          like: for a new node, the node in whose place of the order it is.
        """
        if like is not None:
            self.order[name] = self.order[like]
        op = self._graph.node(name).op
        if op == "Enter":
            self._place_enter(name)
        elif op == "Exit":
            frame = self._frame_of_inputs(name)
            self.left.setdefault(frame, []).append(name)
            self.frames[name] = frame[:-1]
            self.guards[name] = self._outer_guards.get(frame, _NO_GUARDS)
        elif self.is_loop_merge(name):
            self.frames[name] = self._frame_of_inputs(name)
            self.guards[name] = _NO_GUARDS
        else:
            self.frames[name] = self._frame_of_inputs(name)
            if op == "Merge":
                self.guards[name] = self._merged_guards(name)
            else:
                guards = _NO_GUARDS
                for edge in self._graph.inputs(name):
                    guards |= self.tensor_guards(edge)
                self.guards[name] = guards

    def _place_enter(self, name: str) -> None:
        node = self._graph.node(name)
        frame = self._frame_of_inputs(name) + (node.attr["frame_name"].s.decode(),)
        self.frames[name] = frame
        self.guards[name] = _NO_GUARDS
        self.entered.setdefault(frame, []).append(name)
        outer = self._outer_guards.get(frame, _NO_GUARDS)
        for edge in self._graph.inputs(name):
            outer |= self.tensor_guards(edge)
        self._outer_guards[frame] = outer

    # The longest frame wins: a constant outside of the loop may be an input as well.
    def _frame_of_inputs(self, name: str) -> Frame:
        edges = data_inputs(self._graph, name) or self._graph.inputs(name)
        found: Frame = ()
        for edge in edges:
            if self._graph.node(edge.node).op == "NextIteration":
                continue
            frame = self.frames.get(edge.node, ())
            if frame and found and frame != found:
                self.problems[name] = "takes tensors of two loops at once"
            found = max(frame, found, key=len)
        return found

    def tensor_guards(self, edge: Edge) -> Guards:
        """The guards of what comes over an edge."""
        guards = self.guards.get(edge.node, _NO_GUARDS)
        if edge.node in self.guards and not edge.tensor.startswith("^"):
            if self.is_branching(edge.node):
                _, branch = split_tensor(edge.tensor)
                guards |= {(self.predicate(edge.node), branch)}
        return guards

    def is_loop_merge(self, name: str) -> bool:
        """Whether a node is the Merge of a loop's variable."""
        return self._graph.node(name).op == "Merge" and any(
            self._graph.node(edge.node).op == "NextIteration"
            for edge in self._graph.inputs(name)
        )

    def is_branching(self, name: str) -> bool:
        """Whether a node is the Switch of a conditional, and not of a loop."""
        if self._graph.node(name).op != "Switch":
            return False
        producer, _ = split_tensor(self.predicate(name))
        return bool(self._graph.node(producer).op != "LoopCond")

    def predicate(self, switch: str) -> str:
        """The predicate of a Switch; equal for all Switches of a conditional.

        The Switch of the pivot and those of data take it by different names: as
        itself and past an Identity, and in a loop past an Enter.
        """
        found = self._predicates.get(switch)
        if found is None:
            found = self._graph.inputs(switch)[1].tensor
            while True:
                producer, _ = split_tensor(found)
                node = self._graph.node(producer)
                if node.op != "Identity" and not is_invariant(self._graph, producer):
                    break
                found = self._graph.inputs(producer)[0].tensor
            self._predicates[switch] = found
        return found

    def _merged_guards(self, name: str) -> Guards:
        guards = [self.tensor_guards(edge) for edge in data_inputs(self._graph, name)]
        settled: Set[str] = set()
        choice = _choose(guards, list(range(len(guards))), settled)
        if choice is None:
            self.problems[name] = (
                "has inputs that are not the branches of one conditional"
            )
            return _NO_GUARDS
        if isinstance(choice, Choice):
            self.choices[name] = choice
        rest = frozenset(
            guard for each in guards for guard in each if guard[0] not in settled
        )
        if len({predicate for predicate, _ in rest}) < len(rest):
            self.problems[name] = "has inputs that no run can provide"
            return _NO_GUARDS
        return rest


def is_invariant(graph: Graph, name: str) -> bool:
    """Whether a node brings the same tensor into each iteration of a loop."""
    node = graph.node(name)
    if node.op != "Enter":
        return False
    return bool(attr_or_default(node, graph.op_def("Enter"), "is_constant").b)


# Given:
#     inputs under {(p, 0)},  {(p, 1), (q, 0)},  {(p, 1), (q, 1)}
# Result:
#     Choice(p, (0, Choice(q, (1, 2))))
#
# Each input must have exactly one branch of the predicate that divides them. Where a
# predicate leads nowhere, what it settled is taken back, and the next one is tried.
def _choose(
    guards: Sequence[AbstractSet[Tuple[str, int]]],
    inputs: List[int],
    settled: Set[str],
) -> Optional[Union[int, Choice]]:
    """By which predicates some inputs of a Merge exclude each other.

    Args:
      guards: those of all inputs.
      inputs: the inputs to tell apart.
      settled: takes the predicates.

    Returns:
      None where they do not.
    """
    if len(inputs) == 1:
        return inputs[0]
    first = guards[inputs[0]]
    for predicate in sorted({predicate for predicate, _ in first}):
        if predicate in settled:
            continue
        split: Tuple[List[int], List[int]] = ([], [])
        for i in inputs:
            branches = [branch for other, branch in guards[i] if other == predicate]
            if len(branches) != 1:
                break
            split[branches[0]].append(i)
        else:
            if split[0] and split[1]:
                known = set(settled)
                settled.add(predicate)
                no = _choose(guards, split[0], settled)
                yes = _choose(guards, split[1], settled)
                if no is not None and yes is not None:
                    return Choice(predicate, (no, yes))
                settled.clear()
                settled.update(known)
    return None
