"""Whether the checkpoint of a TF2 SavedModel is that of its graph.

TensorFlow's loader walks the objects of both side by side, by the names of the edges,
and stops at the first that does not fit with an exception that names no variable.
"""

from __future__ import annotations

from typing import Any, Iterator, Optional, Tuple

from hub_compat import _files
from hub_compat._tf import trackable_object_graph_pb2
from hub_compat.detector import detect
from hub_compat.errors import HubCompatError

from .bundle import TensorEntry
from .checkpoint_index import CheckpointIndex, read_index
from .saved_model import read_saved_model
from .sstable import Damage, varint

__all__ = ["mismatch"]

# The checkpoint's key for the object graph (trackable/base.py).
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_STRING = 7
# A string is its length, the checksum of that, and its bytes.
_CHECKSUM_BYTES = 4


def mismatch(directory: str) -> str:
    """What of the checkpoint does not fit the graph; empty if nothing is known to.

    Args:
      directory: a TF2 SavedModel.
    """
    try:
        index = read_index(_files.join(directory, "variables", "variables"))
        stored = _stored_objects(index)
        saved = read_saved_model(detect(directory)).meta_graphs[0].object_graph_def
    except HubCompatError:
        return ""
    try:
        for path, variable, key in _pairs(saved.nodes, stored.nodes):
            problem = _problem(path, variable, index.entries.get(key))
            if problem:
                return problem
    except IndexError:
        return "the objects in one of the two are damaged"
    return ""


def _stored_objects(index: CheckpointIndex) -> Any:
    """The TrackableObjectGraph of a checkpoint; an empty one if there is none."""
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    entry = index.entries.get(_OBJECT_GRAPH)
    if entry is None or entry.dtype != _STRING:
        return graph
    with _files.open_read(index.shard_path(entry.shard_id)) as file:
        file.seek(entry.offset)
        data = file.read(entry.size)
    try:
        length, start = varint(data, 0)
        start += _CHECKSUM_BYTES
        graph.ParseFromString(data[start : start + length])
    except (Damage, IndexError):
        graph.Clear()
    except Exception:  # DecodeError, whose module differs by version
        graph.Clear()
    return graph


def _pairs(saved: Any, stored: Any) -> Iterator[Tuple[str, Any, str]]:
    """The variables of a graph, each with a path to it and its key in a checkpoint.

    The key is empty where the checkpoint has no such object.
    """
    seen = set()
    waiting = [("", 0, 0)] if saved and stored else []
    while waiting:
        path, number, other = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        node = saved[number]
        if node.WhichOneof("kind") == "variable":
            yield node.variable.name or path, node.variable, _key(stored, other)
        edges = {c.local_name: c.node_id for c in stored[other].children}
        for child in node.children:
            name = child.local_name
            if name in edges:
                waiting.append((path + "/" + name, child.node_id, edges[name]))


def _key(stored: Any, number: int) -> str:
    for attribute in stored[number].attributes:
        if attribute.name == "VARIABLE_VALUE":
            return str(attribute.checkpoint_key)
    return ""


def _problem(path: str, variable: Any, entry: Optional[TensorEntry]) -> str:
    """What is wrong with the stored value of a variable; empty if nothing is."""
    if entry is None:
        return "it holds no value for the variable {!r}".format(path)
    if entry.dtype != variable.dtype:
        return "the variable {!r} has dtype {} in the graph, and {} there".format(
            path, variable.dtype, entry.dtype
        )
    dims = [dim.size for dim in variable.shape.dim]
    fits = len(dims) == len(entry.shape) and all(
        dim in (-1, size) for dim, size in zip(dims, entry.shape)
    )
    if not fits and not variable.shape.unknown_rank:
        return "the variable {!r} has shape {} in the graph, and {} there".format(
            path, dims, list(entry.shape)
        )
    return ""
