"""Which outputs of a TF1 graph are the same each time they are computed."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set

from .calls import called_by
from .dtypes import DT_RESOURCE
from .graph import Graph, data_inputs, node_of, resource_behind

__all__ = [
    "Determinism",
    "is_random",
    "is_write",
    "written_resources",
]

# Ops that draw anew, in each session or with each run; all of them are stateful.
_RANDOM = (
    "Multinomial",
    "Parameterized",
    "Random",
    "SampleDistortedBoundingBox",
    "TruncatedNormal",
)
_SAMPLER = "CandidateSampler"
# A derivative, and ops that get their seed as an input.
_NOT_RANDOM = ("RandomDataset", "RandomGammaGrad", "RandomIndexShuffle")
# What comes from outside of the graph: a clock, a file of data, another thread. These
# words are in the names of such ops.
_OUTSIDE = (
    "Barrier",
    "Iterator",
    "MapPeek",
    "OrderedMap",
    "PyFunc",
    "Queue",
    "Reader",
    "RecordInput",
    "Stage",
    "Timestamp",
)
_VARIABLES = ("VarHandleOp", "Variable", "VariableV2", "TemporaryVariable")
_TABLES = ("MutableDenseHashTable", "MutableHashTable")
_WRITERS = ("Apply", "Assign", "CountUpTo", "ResourceApply", "ResourceScatter")
_SLICE_WRITERS = ("ResourceStridedSliceAssign", "StridedSliceAssign")
_MORE_WRITERS = ("ResourceSparseApply", "Scatter", "SparseApply", "ResourceCountUpTo")
_TABLE_WRITERS = ("LookupTableImport", "LookupTableInsert", "LookupTableRemove")


class Determinism:
    """The effects and random ops that the outputs of a graph depend on.

    Args:
      graph: the graph, before any pass.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._functions: Dict[str, Set[str]] = {}

    def ops(self, nodes: Iterable[str]) -> Set[str]:
        """The ops of some nodes and of the functions that they call."""
        found: Set[str] = set()
        for name in nodes:
            found.update(self.ops_of(self._graph.node(name)))
        return found

    def outside(self, nodes: Iterable[str]) -> List[str]:
        """The ops among those of nodes whose results nobody can foresee."""
        return sorted(
            op for op in self.ops(nodes) if any(word in op for word in _OUTSIDE)
        )

    def random(self, nodes: Iterable[str]) -> List[str]:
        """The ops among those of nodes that draw random numbers."""
        return sorted(op for op in self.ops(nodes) if is_random(op))

    # Given:
    #     total = ReadVariableOp(v)
    #     update = AssignAddVariableOp(v, x)             no edge between both
    # Result: an output behind one of both races; no comparison of values can judge it
    #
    # Sets of nodes are ints, one bit for each user of a written variable: graphs have
    # thousands of nodes, and few of these.
    def racing(self, outputs: Iterable[str], fed: Set[str]) -> Dict[str, str]:
        """Outputs that read a variable before or after it is written, as it happens.

        Args:
          outputs: the tensors that one run fetches.
          fed: the tensors that it feeds.

        Returns:
          By output, the name of a variable.
        """
        outputs = list(outputs)
        nodes = self._graph.slice(outputs, fed)
        # By variable, the nodes that use it, and whether they write it.
        users: Dict[str, Dict[str, bool]] = {}
        written: Set[str] = set()
        for name in nodes:
            writes = is_write(self._graph.nodes[name].op)
            for edge in self._graph.inputs(name):
                if self._graph.nodes[edge.node].op.startswith(_VARIABLES + _TABLES):
                    users.setdefault(edge.node, {})[name] = writes
                    if writes:
                        written.add(edge.node)
        if not written:
            return {}
        bits: Dict[str, int] = {}
        for variable in written:
            for name in users[variable]:
                bits.setdefault(name, 1 << len(bits))
        before = self._run_before(nodes, fed, bits)
        racing: Dict[str, str] = {}
        for variable in sorted(written):
            writers = [name for name, writes in users[variable].items() if writes]
            for user in users[variable]:
                for writer in writers:
                    ordered = before[user] & bits[writer] or before[writer] & bits[user]
                    if user != writer and not ordered:
                        racing[user] = variable
        found: Dict[str, str] = {}
        for output in outputs:
            for name, variable in racing.items():
                if output not in fed and before[node_of(output)] & bits[name]:
                    found.setdefault(output, variable)
        return found

    def _run_before(
        self, nodes: Sequence[str], fed: Set[str], bits: Mapping[str, int]
    ) -> Dict[str, int]:
        """For each node, the bits of those that run before it, and its own.

        A loop's way back is not followed.
        """
        found = dict.fromkeys(nodes, 0)
        stack = list(reversed(nodes))
        done: Set[str] = set()
        entered: Set[str] = set()
        while stack:
            name = stack[-1]
            if name in done:
                stack.pop()
                continue
            inputs = [
                edge.node
                for edge in self._graph.inputs(name)
                if edge.tensor not in fed
                and self._graph.nodes[edge.node].op != "NextIteration"
            ]
            if name not in entered:
                entered.add(name)
                stack += [other for other in inputs if other not in entered]
                continue
            stack.pop()
            done.add(name)
            mask = bits.get(name, 0)
            for other in inputs:
                mask |= found[other]
            found[name] = mask
        return found

    def writes(self, nodes: Iterable[str]) -> bool:
        """Whether nodes change what a later run of the session finds."""
        return any(is_write(op) for op in self.ops(nodes))

    def ops_of(self, node: Any) -> Set[str]:
        """The ops of a node and of the functions that it calls."""
        found = {node.op}
        for name in called_by(node):
            found |= self._function_ops(name)
        return found

    def _function_ops(self, name: str) -> Set[str]:
        if name not in self._functions:
            self._functions[name] = set()  # for a function that calls itself
            function = self._graph.library.get(name)
            found: Set[str] = set()
            for node in function.node_def if function is not None else ():
                found |= self.ops_of(node)
            self._functions[name] = found
        return self._functions[name]


def is_random(op: str) -> bool:
    """Whether an op draws random numbers that depend on more than its inputs."""
    if op.startswith(_NOT_RANDOM):
        return False
    return op.startswith(_RANDOM) or op.endswith(_SAMPLER)


# By the beginnings of names, as no flag of an OpDef says it: is_stateful is true of
# reads as well, and false of TF1's ops on references.
def is_write(op: str) -> bool:
    """Whether an op changes a variable or a table."""
    if op.startswith(_WRITERS + _MORE_WRITERS + _SLICE_WRITERS + _TABLE_WRITERS):
        # ScatterNd makes a tensor of its own.
        return op != "ScatterNd" and not op.startswith("ScatterNdNonAliasing")
    return op.startswith("Stateful") and "Partitioned" not in op


def written_resources(
    graph: Graph, names: Optional[Iterable[str]] = None
) -> Dict[str, List[str]]:
    """By node that hands out a resource, the nodes that write it.

    Args:
      graph: the graph.
      names: those to look at; all nodes by default.
    """
    found: Dict[str, List[str]] = {}
    determinism = Determinism(graph)
    for name in graph.nodes if names is None else names:
        if any(is_write(op) for op in determinism.ops([name])):
            for edge in data_inputs(graph, name):
                if graph.output(edge.tensor).dtype == DT_RESOURCE:
                    resource = resource_behind(graph, edge.node)
                    found.setdefault(resource, []).append(name)
    return found
