"""Nodes that read a variable, in the dtype that it is kept in."""

from __future__ import annotations

from typing import Dict, List

from hub_compat._tf import node_def_pb2

from .dtypes import (
    DT_INT16,
    DT_INT32,
    DT_INT64,
    DT_QINT16,
    DT_QUINT16,
    DT_UINT16,
    DT_UINT32,
    DT_UINT64,
)
from .functions import set_attr
from .graph import Graph

__all__ = ["READS", "STORED_AS", "add_bitcast", "add_read"]

# Ops that take a variable's handle and only read it.
READS = ("ReadVariableOp", "ResourceGather", "VariableShape")
# Eager execution has no variables of qint16 and quint16 in any TensorFlow, nor of
# uint32 and uint64 in TF 1.15 (AssignVariableOp has no kernel for them on a CPU):
# they are kept as int16, uint16, int32 and int64, and read through Bitcast.
STORED_AS: Dict[int, int] = {
    DT_QINT16: DT_INT16,
    DT_QUINT16: DT_UINT16,
    DT_UINT32: DT_INT32,
    DT_UINT64: DT_INT64,
}


def add_read(
    graph: Graph, name: str, handle: str, controls: List[str], dtype: int
) -> None:
    """Adds a node of that name that gives the value behind a handle."""
    stored = STORED_AS.get(dtype, dtype)
    read = node_def_pb2.NodeDef(name=name, op="ReadVariableOp")
    read.input.append(handle)
    read.input.extend(controls)
    set_attr(read, "dtype", ("type", stored))
    if stored != dtype:
        read.name = graph.unique_name(name + "/bits")
        add_bitcast(graph, name, read.name, stored, dtype)
    graph.replace(read)


def add_bitcast(graph: Graph, name: str, tensor: str, old: int, new: int) -> None:
    """Adds a node of that name that takes bits for another dtype."""
    cast = node_def_pb2.NodeDef(name=name, op="Bitcast", input=[tensor])
    set_attr(cast, "T", ("type", old))
    set_attr(cast, "type", ("type", new))
    graph.replace(cast)
