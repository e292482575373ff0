"""Keeps the other actions of an init op, such as checks and messages.

A session-based loader runs it each time that it loads the model. Here a resource of
its own does, whose initializer every loader runs after it has restored the variables.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple, Set

from hub_compat._tf import node_def_pb2

from ..ir.calls import CALLS
from ..ir.dtypes import DT_INT64, REF_OFFSET
from ..ir.effects import Determinism
from ..ir.functions import set_attr
from ..ir.graph import (
    CONTROL_FLOW_OPS,
    Graph,
    data_inputs,
    node_of,
    resource_behind,
    resource_name,
)
from ..ir.tables import CARRIER, find_tables
from ..ir.variables import HANDLE_OPS
from ..opdata import op_defs
from ..opdata.op_defs import builtin_ops
from .init_effects import Effects

__all__ = ["Actions", "run_at_load"]

# What the names of copies begin with.
_COPIES = "init_op/"
# They call what is in another process, or on a device that is not there.
_ELSEWHERE = ("PyFunc", "EagerPyFunc", "TPU", "XlaHostCompute")
_TPU = "DistributedTPU"
# They hand on a reference, which others read.
_HAND_ON = ("Identity", "RefIdentity", "RefSwitch", "RefMerge")
# To fill these twice is to fill them once.
_FILLED_AGAIN = ("InitializeTable", "LookupTableI", "MakeIterator")


class Actions(NamedTuple):
    """What becomes of what an init op does.

    Attributes:
      fillers: what the initializer of the resource runs; none or one.
      left: why a node is not run, by the node.
    """

    fillers: List[str]
    left: Dict[str, str]


# Given: the init op of a SavedModel
#     init = NoOp(^fill, ^check);  check = Assert(ok, ...);  ok = Less(Assign(n, 1), 5)
# Result:
#     init_op/check = Assert(init_op/ok, ...);  init_op/ok = Less(Identity(n), 5)
#     carrier = HashTableV2                    nobody looks anything up in it
#     init_op/run = NoOp(^carrier, ^init_op/check)
#
# Afterwards, init_op/run is the filler of a table like any other, so that each loader
# runs it, after it has restored the variables. Fills are not copied: they run anyway.
def run_at_load(
    graph: Graph, init_op: str, effects: Effects, fillers: Iterable[str], reads: bool
) -> Actions:
    """Adds nodes that do what an init op does besides.

    Args:
      graph: the graph, before any pass.
      init_op: the init op.
      effects: what it does.
      fillers: those that fill tables which the model keeps.
      reads: whether variables have their values by then.
    """
    part = _Part(graph, init_op, effects, set(fillers), reads)
    wanted: Dict[str, None] = {}
    left = {}
    for name in effects.others:
        target = part.target(name)
        reason = part.obstacle(name, target)
        if reason:
            left[name] = reason
        else:
            wanted[target] = None
    if not wanted:
        return Actions([], left)
    return Actions([_carry(graph, part.copy(wanted))], left)


class _Part:
    """The part of a graph that is to run when a model is loaded."""

    def __init__(
        self,
        graph: Graph,
        init_op: str,
        effects: Effects,
        fillers: Set[str],
        reads: bool,
    ) -> None:
        self._graph = graph
        self._init_op = init_op
        self._effects = effects
        self._fillers = fillers
        self._reads = reads
        self._determinism = Determinism(graph)
        # Ops that the init op does not need may be nobody's.
        behind = graph.slice(["^" + init_op])
        self._tables = {node.name for node in find_tables(graph, behind)}
        # By name of a variable, its writers.
        self._writers = {w for names in effects.writers.values() for w in names}
        self._written: Dict[str, Set[str]] = {}
        for handle, names in effects.writers.items():
            name = resource_name(graph.nodes[handle])
            self._written.setdefault(name, set()).update(names)

    def target(self, name: str) -> str:
        """The tensor that a session fetches to run a node: nothing within a branch."""
        return self._init_op if self._in_branch(name) else name

    def _in_branch(self, name: str) -> bool:
        behind = self._graph.slice(["^" + name])
        return any(self._graph.nodes[n].op in CONTROL_FLOW_OPS for n in behind)

    # All or nothing for each action: one that runs without what had to run before could
    # fail, or show other values than the session did.
    def obstacle(self, name: str, target: str) -> str:
        """Why a node is not run when a model is loaded; "" if it is."""
        reason = self._nowhere(name)
        if reason:
            return reason
        for other in self._behind([target]):
            reason = self._blocks(other)
            if reason:
                return reason
        return ""

    # A writer of a variable has the variable as its only data input here: the value is
    # there already, when a model is loaded, so nothing of what computed it runs again.
    def _behind(self, targets: Iterable[str]) -> List[str]:
        """What has to run for some nodes, where what is written is written already."""
        found: Set[str] = set()
        stack = list(targets)
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                stack += [node_of(tensor) for tensor in self._inputs(name)]
        return self._graph.in_order(found)

    def _inputs(self, name: str) -> List[str]:
        inputs = list(self._graph.nodes[name].input)
        if name not in self._writers:
            return inputs
        return inputs[:1] + [tensor for tensor in inputs[1:] if tensor[0] == "^"]

    def _nowhere(self, name: str) -> str:
        """Why a node cannot be run at all."""
        for op in sorted(self._determinism.ops([name])):
            if op in self._graph.library:
                continue
            if op.startswith(_ELSEWHERE) or _TPU in op:
                return "{} needs the program or the device that it was made in".format(
                    op
                )
            if op not in builtin_ops() or op in op_defs.homes():
                return "not every TensorFlow has the op {}".format(op)
        return ""

    def _blocks(self, name: str) -> str:
        """Why nothing can be run for which a node has to run before."""
        node = self._graph.nodes[name]
        if node.op.startswith("Restore"):
            return "it restores a checkpoint"
        if name in self._writers and node.op in CALLS:
            return "it waits for a function that sets variables"
        if name in self._fillers and not node.op.startswith(_FILLED_AGAIN):
            return "it waits for {}, which must run once".format(node.op)
        if self._is_left(name) and self._graph.outputs(name):
            return "it uses an output of {}".format(node.op)
        for variable in self._read_by(name):
            if not self._reads:
                return "it reads the variable {!r}, which has no value yet".format(
                    variable
                )
            before = self._written.get(variable, set())
            if not before.issubset(self._graph.slice(["^" + name])):
                return "it reads the variable {!r} before it is set".format(variable)
        return ""

    def _read_by(self, name: str) -> List[str]:
        """The variables that a node reads, or may."""
        op = self._graph.nodes[name].op
        if name in self._writers or op in CONTROL_FLOW_OPS or op in _HAND_ON:
            return []
        found = []
        for edge in data_inputs(self._graph, name):
            source = self._graph.nodes[resource_behind(self._graph, edge.node)]
            if source.op in HANDLE_OPS and edge.node not in self._writers:
                found.append(resource_name(source))
        return found

    def copy(self, targets: Iterable[str]) -> List[str]:
        """Copies what has to run for some nodes; returns the copies of these.

        A variable that is written has its value already: what waits for a write, or
        takes what it returns, takes the variable.
        """
        targets = list(targets)
        names = [name for name in self._behind(targets) if self._is_copied(name)]
        copies = {n: self._graph.unique_name(_COPIES + n) for n in names}
        for name in names:
            node = node_def_pb2.NodeDef()
            node.CopyFrom(self._graph.nodes[name])
            node.name = copies[name]
            node.ClearField("device")
            node.attr.pop("_class", None)
            if name in self._writers:
                self._read_instead(name, node)
            elif self._is_left(name):
                _do_nothing(node, list(node.input))
            for i, tensor in enumerate(node.input):
                node.input[i] = _renamed(tensor, copies)
            self._graph.replace(node)
        return [copies.get(target, target) for target in targets]

    def _is_copied(self, name: str) -> bool:
        node = self._graph.nodes[name]
        if node.op in HANDLE_OPS or name in self._fillers or name in self._tables:
            return False
        # Constants are one, as they may be the paths of assets.
        return bool(node.input) or node.op == "NoOp" or name in self._effects.others

    def _is_left(self, name: str) -> bool:
        """Whether a node changes what the model does not keep, or cannot run."""
        if name in self._effects.fillers:
            return name not in self._fillers
        return name in self._effects.others and bool(self._nowhere(name))

    def _read_instead(self, name: str, node: Any) -> None:
        types = self._graph.inputs_types(name)
        inputs = self._inputs(name)
        _do_nothing(node, inputs)
        if types and types[0] > REF_OFFSET:
            del node.input[:]
            node.op = "Identity"
            node.input.extend(inputs)
            set_attr(node, "T", ("type", types[0] - REF_OFFSET))


def _do_nothing(node: Any, inputs: Iterable[str]) -> None:
    names = sorted({node_of(tensor) for tensor in inputs})
    node.op = "NoOp"
    node.attr.clear()
    del node.input[:]
    node.input.extend("^" + name for name in names)


def _renamed(tensor: str, copies: Dict[str, str]) -> str:
    name = node_of(tensor)
    if name not in copies:
        return tensor
    if tensor.startswith("^"):
        return "^" + copies[name]
    return copies[name] + tensor[len(name) :]


def _carry(graph: Graph, targets: List[str]) -> str:
    """Adds the resource, and what its initializer runs."""
    carrier = node_def_pb2.NodeDef(op="HashTableV2")
    carrier.name = graph.unique_name(CARRIER)
    set_attr(carrier, "key_dtype", ("type", DT_INT64))
    set_attr(carrier, "value_dtype", ("type", DT_INT64))
    set_attr(carrier, "shared_name", carrier.name.encode())
    set_attr(carrier, "container", b"")
    graph.replace(carrier)
    group = node_def_pb2.NodeDef(op="NoOp")
    group.name = graph.unique_name(_COPIES + "run")
    group.input.extend("^" + name for name in [carrier.name] + targets)
    graph.replace(group)
    return str(group.name)
