"""Lists the effects of the init op of a TF1 SavedModel.

It fills tables, starts iterators, gives variables values; or it prints, checks and
writes files.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple, Set

from ..ir.calls import CALLS
from ..ir.dtypes import DT_RESOURCE, REF_OFFSET
from ..ir.effects import Determinism, is_random, is_write
from ..ir.graph import Graph, resource_behind
from ..ir.tables import find_tables
from ..ir.variables import HANDLE_OPS

__all__ = ["Effects", "find_effects", "has_effect"]

# Ops that take a handle or a reference, and change nothing.
_READS = frozenset(
    [
        "Enter",
        "Exit",
        "Identity",
        "IsVariableInitialized",
        "IteratorToStringHandle",
        "LookupTableExport",
        "LookupTableExportV2",
        "LookupTableFind",
        "LookupTableFindV2",
        "LookupTableSize",
        "LookupTableSizeV2",
        "Merge",
        "NextIteration",
        "QueueIsClosed",
        "QueueIsClosedV2",
        "QueueSize",
        "QueueSizeV2",
        "ReadVariableOp",
        "RefEnter",
        "RefExit",
        "RefIdentity",
        "RefMerge",
        "RefNextIteration",
        "RefSwitch",
        "ResourceGather",
        "ResourceGatherNd",
        "Switch",
        "VarIsInitializedOp",
        "VariableShape",
    ]
)
# Stateful, and yet nothing but what makes a value.
_VALUES = (
    "GuaranteeConst",
    "Placeholder",
    "Random",
    "Restore",
    "Stack",
    "Stateless",
    "TensorArray",
    "Timestamp",
)


class Effects(NamedTuple):
    """The nodes behind an init op that do something, in file order.

    Attributes:
      fillers: those that change a table, an iterator or a queue.
      writers: for each handle of a variable, those that write it.
      others: those that do something else.
      mixed: functions that write variables and do something else.
    """

    fillers: List[str]
    writers: Dict[str, List[str]]
    others: List[str]
    mixed: List[str]


# A node that only computes is in no list. Writers are apart, since they are no action
# of a load: what they write is the variable's value from the start.
def find_effects(graph: Graph, ops: Iterable[str]) -> Effects:
    """What some ops do.

    Args:
      graph: the graph, before any pass.
      ops: the init op.
    """
    names = graph.slice(["^" + op for op in ops])
    tables = {node.name for node in find_tables(graph, names)}
    determinism = Determinism(graph)
    found = Effects([], {}, [], [])
    for name in names:
        op = graph.nodes[name].op
        if op in _READS or op in HANDLE_OPS or name in tables:
            continue
        handles = _handles(graph, name)
        filled = handles & tables
        written = {h for h in handles - tables if graph.nodes[h].op in HANDLE_OPS}
        if op in CALLS and not any(map(is_write, determinism.ops([name]))):
            written = set()
        for handle in sorted(written):
            found.writers.setdefault(handle, []).append(name)
        if filled:
            found.fillers.append(name)
        elif has_effect(graph, determinism, name):
            if not written:
                found.others.append(name)
            elif any(
                _is_effect(graph, each) and not is_write(each)
                for each in determinism.ops([name]) - {op}
            ):
                found.mixed.append(name)
    return found


def has_effect(graph: Graph, determinism: Determinism, name: str) -> bool:
    """Whether a node that takes no handle does more than compute a value."""
    node = graph.nodes[name]
    ops: Set[str] = {node.op}
    if node.op in CALLS or node.op in graph.library:
        ops = determinism.ops([name])
    return any(_is_effect(graph, op) for op in ops)


def _is_effect(graph: Graph, op: str) -> bool:
    if op in graph.library or op in CALLS or op in _READS or op in HANDLE_OPS:
        return False
    if not graph.op_def(op).is_stateful or is_random(op) or "Dataset" in op:
        return False
    return not op.startswith(_VALUES)


def _handles(graph: Graph, name: str) -> Set[str]:
    """The nodes whose handle, or reference to a variable, a node takes."""
    found: Set[str] = set()
    types: List[Any] = graph.inputs_types(name)
    for edge, dtype in zip(graph.inputs(name), types):
        if dtype == DT_RESOURCE or dtype > REF_OFFSET:
            found.add(resource_behind(graph, edge.node))
    return found
