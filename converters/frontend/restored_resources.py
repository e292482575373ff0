"""Resources other than variables that the saver of a TF1 SavedModel restores.

Tables that change at run time and ensembles of boosted trees have their contents in
the checkpoint; an op of the restore graph puts them in. The loader of TF2 SavedModels
restores variables only, so the contents become constants of the initializer.
"""

from __future__ import annotations

from typing import Any, Dict, List, Set

import numpy as np

from hub_compat._io import files
from hub_compat._tf import node_def_pb2, tf
from hub_compat.errors import CorruptModuleError

from ..ir.constants import array_of
from ..ir.functions import set_attr
from ..ir.graph import Graph, node_of, normal, split_tensor
from ..ir.tables import find_tables, shared_name

__all__ = ["fillers", "run_before"]


# Given: in the restore graph
#     import = LookupTableImportV2(table, RestoreV2:0, RestoreV2:1)
# Result:
#     import = LookupTableImportV2(table, import/held, import/held_1)      constants
#
# Afterwards, the initializer of the table needs no checkpoint: a function of the result
# could not know the path of the model.
def fillers(graph: Graph, saver: Any, source: str) -> List[str]:
    """The nodes of the restore graph that fill such resources, with constants.

    Args:
      graph: the graph, before any pass; gets the constants.
      saver: ``MetaGraphDef.saver_def``.
      source: the model's directory.

    Raises:
      CorruptModuleError: the checkpoint does not have the contents.
    """
    restore = node_of(saver.restore_op_name)
    if restore not in graph.nodes:
        return []
    names = graph.slice(["^" + restore])
    resources = {node.name for node in find_tables(graph, names)}
    found = []
    reader = None
    for name in names if resources else ():
        node = graph.nodes[name]
        tensors = [normal(tensor) for tensor in node.input if tensor[0] != "^"]
        read = [graph.nodes[node_of(t)].op == "RestoreV2" for t in tensors]
        if not any(read) or resources.isdisjoint(node_of(t) for t in tensors):
            continue
        if reader is None:
            reader = _reader(source)
        values = {
            i: _read(graph, name, reader, tensor)
            for i, tensor in enumerate(tensors)
            if read[i]
        }
        filler = node_def_pb2.NodeDef()
        filler.CopyFrom(node)
        table = graph.nodes[node_of(tensors[0])]
        if len(values) == 2:
            if table.op.startswith("MutableDenseHashTable"):
                values = _entries(graph, table, values)
            keys, held = (np.asarray(values[i]) for i in sorted(values))
            if "Dense" in table.op or keys.shape != held.shape:
                # TF 1.15 imports no values of another shape than the keys.
                filler.op = node.op.replace("Import", "Insert")
        for i, value in values.items():
            filler.input[i] = _constant(graph, name, value)
        graph.replace(filler)
        found.append(name)
    return found


def run_before(graph: Graph, restored: List[str], fillers: List[str]) -> None:
    """Makes the init op change what the saver has put into a table.

    Args:
      graph: the graph.
      restored: the nodes that put in what the checkpoint holds.
      fillers: those of the init op.
    """
    tables = {name: _tables(graph, name) for name in restored}
    for name in fillers:
        own = _tables(graph, name)
        graph.wait_for(name, [other for other in restored if own & tables[other]])


def _tables(graph: Graph, name: str) -> Set[str]:
    nodes = find_tables(graph, graph.slice(["^" + name]))
    return {shared_name(graph, node) for node in nodes}


def _reader(source: str) -> Any:
    return tf.compat.v1.train.NewCheckpointReader(
        files.join(source, "variables", "variables")
    )


def _read(graph: Graph, name: str, reader: Any, tensor: str) -> Any:
    """The keys that a RestoreV2 node reads."""
    restore, index = split_tensor(tensor)
    keys = graph.nodes[node_of(graph.nodes[restore].input[1])]
    key = array_of(keys.attr["value"].tensor).ravel()[index].decode()
    if not reader.has_tensor(key):
        raise CorruptModuleError(
            "The checkpoint does not hold the entries that {!r} fills a table with. "
            "Export or download the model again. Received: no key {!r}".format(
                name, key
            )
        )
    return reader.get_tensor(key)


def _entries(graph: Graph, table: Any, buckets: Dict[int, Any]) -> Dict[int, Any]:
    """The entries of a dense table, of which the checkpoint has all places.

    They are inserted: to import them as they are, their shape must not be known.
    """
    empty, deleted = (_value(graph, tensor) for tensor in _inputs(table, 2))
    keys, values = (np.asarray(buckets[i]) for i in sorted(buckets))
    shape = np.shape(empty)
    keys = keys.reshape((len(keys),) + shape)
    places = tuple(range(1, keys.ndim))
    used = ~((keys == empty).all(places) | (keys == deleted).all(places))
    dims = [dim.size for dim in table.attr["value_shape"].shape.dim]
    values = values.reshape([len(values)] + dims)
    return dict(zip(sorted(buckets), (keys[used], values[used])))


def _inputs(node: Any, count: int) -> List[str]:
    """The inputs of a node; the old dense table has no deleted key."""
    inputs = [tensor for tensor in node.input if tensor[0] != "^"]
    return (inputs * count)[:count]


def _value(graph: Graph, tensor: str) -> Any:
    node = graph.nodes[node_of(tensor)]
    while node.op == "Identity":
        node = graph.nodes[node_of(node.input[0])]
    return array_of(node.attr["value"].tensor)


def _constant(graph: Graph, name: str, value: Any) -> str:
    """A constant; the name of its node."""
    proto = tf.compat.v1.make_tensor_proto(value)
    constant = node_def_pb2.NodeDef(name=graph.unique_name(name + "/held"), op="Const")
    constant.attr["value"].tensor.CopyFrom(proto)
    set_attr(constant, "dtype", ("type", proto.dtype))
    graph.replace(constant)
    return str(constant.name)
