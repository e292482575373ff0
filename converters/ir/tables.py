"""The lookup tables and other resources of a TF1 graph."""

from __future__ import annotations

from typing import Iterable, List, Optional

from hub_compat._tf import node_def_pb2

from .dtypes import DT_RESOURCE
from .functions import set_attr
from .graph import CONTROL_FLOW_OPS, Graph, attr_or_default

__all__ = [
    "CARRIER",
    "find_tables",
    "is_carrier",
    "is_table",
    "set_shared_name",
    "shared_name",
]


# Those of them that make a table.
_REFERENCES = ("HashTable", "MutableHashTable", "MutableHashTableOfTensors")
# What begins with this is no table of the model's: init_actions.py.
CARRIER = "init_op/carrier"
# The one table that takes an input: the keys of empty and of deleted places.
_DENSE = "MutableDenseHashTable"


def find_tables(
    graph: Graph, names: Optional[Iterable[str]] = None
) -> List[node_def_pb2.NodeDef]:
    """Nodes that hand out a resource which is no variable, made of constants alone.

    Args:
      graph: the graph.
      names: the nodes to look at; all by default.
    """
    nodes = [graph.nodes[name] for name in (graph.nodes if names is None else names)]
    kinds = {op for op in {node.op for node in nodes} if is_table(graph, op)}
    return [
        node for node in nodes if node.op in kinds and _can_be_made(graph, node.name)
    ]


def is_table(graph: Graph, name: str) -> bool:
    """Whether an op hands out a shared resource of its own."""
    if name.startswith(_DENSE) or name in _REFERENCES:
        return True
    op = graph.op_def(name)
    return (
        name != "VarHandleOp"
        and not op.input_arg
        and [arg.type for arg in op.output_arg] == [DT_RESOURCE]
        and any(attr.name == "shared_name" for attr in op.attr)
    )


def is_carrier(name: str) -> bool:
    """Whether a resource of this name is there for what its initializer does."""
    return name.startswith(CARRIER)


def _can_be_made(graph: Graph, name: str) -> bool:
    """Whether nothing but constants is needed to make a table."""
    needed = [edge.tensor for edge in graph.inputs(name) if edge.tensor[0] != "^"]
    if graph.nodes[name].op.startswith(_DENSE) and len(needed) < 2:
        # The op of old knows no deleted keys, and has no twin.
        return False
    return not any(
        graph.nodes[other].op in CONTROL_FLOW_OPS
        or graph.nodes[other].op.startswith(("Placeholder", "Variable", "VarHandle"))
        or graph.op_def(graph.nodes[other].op).is_stateful
        for other in (graph.slice(needed) if needed else ())
    )


def shared_name(graph: Graph, node: node_def_pb2.NodeDef) -> str:
    """The name under which a session would share the resource."""
    op = graph.op_def(node.op)
    name: bytes = attr_or_default(node, op, "shared_name").s
    return name.decode() or node.name


def set_shared_name(graph: Graph, node: node_def_pb2.NodeDef, name: str) -> None:
    """Names a resource, as one that several functions may ask for.

    TF 1.15's loader makes names unique for each load only where the attribute is
    present; that of TensorFlow 2 makes those of HashTableV2 unique for each node
    unless names of nodes count.
    """
    set_attr(node, "shared_name", name.encode())
    if any(a.name == "use_node_name_sharing" for a in graph.op_def(node.op).attr):
        set_attr(node, "use_node_name_sharing", True)
