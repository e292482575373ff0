"""Resources other than variables that the saver of a TF1 SavedModel restores.

Tables that change at run time and ensembles of boosted trees have their contents in
the checkpoint; an op of the restore graph puts them in. The loader of TF2 SavedModels
restores variables only, so the contents become constants of the initializer.
"""

from __future__ import annotations

from typing import Any, List

from hub_compat import _files
from hub_compat._tf import node_def_pb2, tf
from hub_compat.errors import CorruptModuleError

from .functions import set_attr
from .graph import Graph, node_of, normal, split_tensor
from .tables import find_tables

__all__ = ["fillers"]


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
    resources.update(name for name in names if graph.nodes[name].op in _OF_OLD)
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
        filler = node_def_pb2.NodeDef()
        filler.CopyFrom(node)
        for i, tensor in enumerate(tensors):
            if read[i]:
                filler.input[i] = _constant(graph, name, reader, tensor)
        graph.replace(filler)
        found.append(name)
    return found


# Tables of reference type, which become resources later.
_OF_OLD = frozenset(
    ["MutableDenseHashTable", "MutableHashTable", "MutableHashTableOfTensors"]
)


def _reader(source: str) -> Any:
    return tf.compat.v1.train.NewCheckpointReader(
        _files.join(source, "variables", "variables")
    )


def _constant(graph: Graph, name: str, reader: Any, tensor: str) -> str:
    """What a RestoreV2 node reads, as a constant; the name of its node."""
    restore, index = split_tensor(tensor)
    keys = graph.nodes[node_of(graph.nodes[restore].input[1])]
    key = tf.make_ndarray(keys.attr["value"].tensor).ravel()[index].decode()
    if not reader.has_tensor(key):
        raise CorruptModuleError(
            "The checkpoint does not hold what {!r} fills a table with; export or "
            "download the model again. Received: no key {!r}".format(name, key)
        )
    proto = tf.make_tensor_proto(reader.get_tensor(key))
    constant = node_def_pb2.NodeDef(name=graph.unique_name(name + "/held"), op="Const")
    constant.attr["value"].tensor.CopyFrom(proto)
    set_attr(constant, "dtype", ("type", proto.dtype))
    graph.replace(constant)
    return str(constant.name)
