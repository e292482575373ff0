"""References to variables, and where a session hands them on without need."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Sequence, Set, Tuple

from hub_compat._tf import node_def_pb2

from ...ir.dtypes import REF_OFFSET
from ...ir.effects import is_write
from ...ir.functions import set_attr
from ...ir.graph import CONTROL_FLOW_OPS, Graph, data_inputs, node_of
from ...ir.variables import REFERENCE_OPS

__all__ = ["find_references", "hand_on_values", "read_first"]

_FORWARDS = (
    "RefEnter",
    "RefExit",
    "RefIdentity",
    "RefMerge",
    "RefNextIteration",
    "RefSwitch",
)


def find_references(graph: Graph, names: Sequence[str]) -> Dict[str, int]:
    """The references to variables among the outputs of some nodes, and their dtypes.

    Queues, and what is a variable for one step only, hand out references as well.
    """
    found: Dict[str, int] = {}
    stack = [name for name in names if graph.nodes[name].op in REFERENCE_OPS]
    users: Dict[str, List[str]] = {}
    for name in names if stack else ():
        if any(output.dtype > REF_OFFSET for output in graph.outputs(name)):
            for edge in graph.inputs(name):
                users.setdefault(edge.tensor, []).append(name)
    while stack:
        name = stack.pop()
        for i, output in enumerate(graph.outputs(name)):
            tensor = "{}:{}".format(name, i)
            if output.dtype > REF_OFFSET and tensor not in found:
                found[tensor] = output.dtype - REF_OFFSET
                stack += users.get(tensor, ())
    return found


# Given:
#     branch = RefSwitch(v, p)
#     y = RefMerge(branch:0, w)                     only read
# Result:
#     y/value_0 = Identity(branch:0)
#     y/value_1 = Identity(w)
#     y = Merge(y/value_0, y/value_1)
#
# Afterwards, a RefMerge or RefNextIteration is left only where something writes
# through it. Before references are listed, as fewer nodes hand some out then.
def hand_on_values(graph: Graph) -> None:
    """Makes loops and conditionals give values, if nothing writes through them.

    A conditional that gives one variable or another gives a reference, and so does a
    iteration of a loop that ends with a write. There is no If or While of resources.
    """
    merges = [name for name, node in graph.nodes.items() if node.op == "RefMerge"]
    back = [n for n, node in graph.nodes.items() if node.op == "RefNextIteration"]
    if not merges and not back:
        return
    references = find_references(graph, list(graph.nodes))
    users: Dict[str, List[str]] = {}
    for name in graph.nodes:
        for edge in data_inputs(graph, name):
            users.setdefault(edge.tensor, []).append(name)
    kept: Dict[str, Set[str]] = {}
    for name in merges + back:
        forwards = _forwards(graph, name, users)
        if forwards is not None and name + ":0" in references:
            kept[name] = forwards
    changed: Set[str] = set().union(*kept.values()) if kept else set()
    for name in graph.in_order(changed):
        node = graph.nodes[name]
        for i, edge in enumerate(data_inputs(graph, name)):
            if edge.tensor in references and edge.node not in changed:
                value = node_def_pb2.NodeDef(op="Identity", input=[node.input[i]])
                value.name = graph.unique_name("{}/value_{}".format(name, i))
                set_attr(value, "T", ("type", references[edge.tensor]))
                graph.replace(value)
                node.input[i] = value.name
    for name in changed:
        with graph.editing(name) as node:
            node.op = node.op[len("Ref") :]


def _forwards(
    graph: Graph, name: str, users: Dict[str, List[str]]
) -> Optional[Set[str]]:
    """All that hands a reference on from a node; None where something writes it."""
    found = {name}
    stack = [name]
    while stack:
        name = stack.pop()
        for i in range(len(graph.outputs(name))):
            tensor = "{}:{}".format(name, i)
            for user in users.get(tensor, ()):
                types = graph.inputs_types(user)
                for dtype, edge in zip(types, data_inputs(graph, user)):
                    if edge.tensor != tensor or dtype <= REF_OFFSET:
                        continue
                    if graph.nodes[user].op not in _FORWARDS:
                        return None
                    if user not in found:
                        found.add(user)
                        stack.append(user)
    return found


# Given:
#     total = ReadVariableOp(v)                     a metric
#     update = AssignAddVariableOp(v, x)            and its update, in one signature
# Result:
#     update = AssignAddVariableOp(v, x, ^total)
#
# Afterwards, the read comes first, as in a session, where it is ready at once. After
# the references are resources: only reads without inputs but the handle count.
def read_first(
    graph: Graph, signatures: Iterable[Tuple[Sequence[str], Set[str]]]
) -> None:
    """Puts reads that wait for nothing before writes that nothing orders.

    A session begins with them. A signature that returns a metric and its update has no
    edge between both; in a function, the sum could be read before, the count after.

    Args:
      graph: the graph, whose variables are resources.
      signatures: what each returns, and what it is fed.
    """
    for outputs, fed in signatures:
        names = graph.slice(outputs, fed)
        nodes = [graph.nodes[name] for name in names]
        if any(node.op in CONTROL_FLOW_OPS for node in nodes):
            continue
        reads: Dict[str, List[str]] = {}
        for node in nodes:
            if node.op == "ReadVariableOp" and len(node.input) == 1:
                reads.setdefault(node_of(node.input[0]), []).append(node.name)
        for node in nodes if reads else ():
            if not is_write(node.op) or not node.input:
                continue
            handle = node_of(node.input[0])
            while graph.nodes[handle].op == "Identity":
                handle = node_of(graph.nodes[handle].input[0])
            if handle in reads:
                known = set(graph.slice(["^" + node.name]))
                first = [read for read in reads[handle] if read not in known]
                graph.wait_for(node.name, first)
