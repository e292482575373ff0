"""The checkpoint of a TF2 SavedModel, held against the objects that ask for its values.

TensorFlow's loader walks the graph of the checkpoint's objects beside that of the
SavedModel, by the names of the edges. What it would miss is known before it starts.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, Iterator, Set, Tuple

from hub_compat._io import files
from hub_compat._parsing.known_names import OBJECT_GRAPH
from hub_compat._parsing.varint import Damage, varint
from hub_compat._tf import trackable_object_graph_pb2
from hub_compat.errors import CorruptModuleError

from ..ir.dtypes import DT_STRING
from .bundle import TensorEntry
from .crc32c import crc32c, mask
from .index import CheckpointIndex, read_index

__all__ = [
    "check_object_checkpoint",
    "checkpoint_keys",
    "matched_objects",
    "needed_graph",
]

# A variable's value; other attributes belong to tables and to Keras.
_VALUE = "VARIABLE_VALUE"


def check_object_checkpoint(directory: str, saved_model: Any) -> CheckpointIndex:
    """Checks that the checkpoint has what the objects of a TF2 SavedModel ask for.

    No weight is read: only the index, the sizes of the shards, and the checkpoint's
    own graph of objects.

    Args:
      directory: the model.
      saved_model: its proto.

    Returns:
      The index of the checkpoint.

    Raises:
      CorruptModuleError: there is no checkpoint, it is damaged, or it is that of
        another model.
    """
    prefix = files.join(directory, "variables", "variables")
    if not files.exists(prefix + ".index"):
        raise CorruptModuleError(
            "A TF2 SavedModel keeps the values of its variables in variables/, and "
            "there is no {}.index: the model was copied or committed in part. Fetch "
            "the whole directory, or export it again. Received: {!r}".format(
                "variables/variables", directory
            )
        )
    index = read_index(prefix)
    nodes = _objects(index, directory)
    objects = saved_model.meta_graphs[0].object_graph_def.nodes
    matched = set()
    for number, found in _matches(objects, nodes, directory):
        matched.add(number)
        for attribute in nodes[found].attributes:
            _check_value(index, objects[number], attribute, directory)
    for number in _reached(objects):
        node = objects[number]
        if node.WhichOneof("kind") == "variable" and number not in matched:
            # TensorFlow's loader stops with an AssertionError.
            raise _damaged(
                "it knows no variable {!r}".format(node.variable.name), directory
            )
    return index


# The first way to an object decides. Slot variables come after all children, because
# they are found through the variables that they belong to.
def checkpoint_keys(
    directory: str, saved_model: Any, index: CheckpointIndex
) -> Dict[int, str]:
    """The keys of the values of variables, by the number of the object.

    Args:
      directory: the model.
      saved_model: its proto.
      index: the index of its checkpoint, which ``check_object_checkpoint`` gave.

    Raises:
      CorruptModuleError: the checkpoint is damaged.
    """
    nodes = _objects(index, directory)
    objects = saved_model.meta_graphs[0].object_graph_def.nodes
    found: Dict[int, str] = {}
    pairs = list(_matches(objects, nodes, directory))
    there: Dict[int, int] = {}
    for number, other in pairs:
        there.setdefault(number, other)
    for number, other in pairs:
        # An optimizer's variables for others are no children of it.
        slots = {
            (slot.slot_name, slot.original_variable_node_id): slot.slot_variable_node_id
            for slot in nodes[other].slot_variables
        }
        for slot in objects[number].slot_variables:
            original = there.get(slot.original_variable_node_id, -1)
            if (slot.slot_name, original) in slots:
                own = slots[slot.slot_name, original]
                there.setdefault(slot.slot_variable_node_id, own)
    for number, other in there.items():
        if objects[number].WhichOneof("kind") == "variable":
            for attribute in nodes[other].attributes:
                if attribute.name == _VALUE:
                    found.setdefault(number, attribute.checkpoint_key)
    return found


def matched_objects(directory: str, saved_model: Any) -> Set[int]:
    """The ids of the objects of a TF2 SavedModel that its checkpoint knows.

    Args:
      directory: the model.
      saved_model: its proto.

    Raises:
      CorruptModuleError: there is no checkpoint, or it is damaged.
    """
    nodes = _objects(
        read_index(files.join(directory, "variables", "variables")), directory
    )
    objects = saved_model.meta_graphs[0].object_graph_def.nodes
    return {number for number, _ in _matches(objects, nodes, directory)}


def needed_graph(
    directory: str, saved_model: Any, index: CheckpointIndex
) -> Dict[str, bytes]:
    """The checkpoint's graph of objects, without those that a model does not have.

    TensorFlow warns of each value that no object takes.

    Args:
      directory: the model.
      saved_model: its proto.
      index: the index of its checkpoint.

    Returns:
      The graph by its key; nothing where an optimizer makes variables for others.

    Raises:
      CorruptModuleError: the checkpoint is damaged.
    """
    nodes = _objects(index, directory)
    objects = saved_model.meta_graphs[0].object_graph_def.nodes
    if any(node.slot_variables for node in objects):
        return {}
    names: Dict[int, Set[str]] = {}
    for number, other in _matches(objects, nodes, directory):
        own = {child.local_name for child in objects[number].children}
        names.setdefault(other, set()).update(own)
    numbers = {old: new for new, old in enumerate(sorted(names))}
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    for old in numbers:
        made = graph.nodes.add()
        made.CopyFrom(nodes[old])
        del made.children[:]
        del made.slot_variables[:]
        for child in nodes[old].children:
            if child.local_name in names[old] and child.node_id in numbers:
                made.children.add(
                    node_id=numbers[child.node_id], local_name=child.local_name
                )
    return {OBJECT_GRAPH: graph.SerializeToString(deterministic=True)}


def _objects(index: CheckpointIndex, directory: str) -> Any:
    """The nodes of the checkpoint's graph of objects."""
    entry = index.entries.get(OBJECT_GRAPH)
    if entry is None:
        raise CorruptModuleError(
            "The checkpoint in variables/ is not that of a TF2 SavedModel: it has no "
            "graph of objects, by which values are found. Export the model again. "
            "Received: {} keys in {!r}".format(len(index.entries), directory)
        )
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    try:
        graph.ParseFromString(_string(index, entry))
    except (Damage, IndexError, OSError) as error:
        raise _damaged(str(error), directory) from error
    except Exception as error:  # DecodeError and its kin; they differ by version
        raise _damaged("its graph of objects cannot be parsed", directory) from error
    return graph.nodes


def _string(index: CheckpointIndex, entry: TensorEntry) -> bytes:
    """The value of a string scalar: see ``CheckpointWriter`` for its form."""
    if entry.dtype != DT_STRING or entry.shape:
        raise Damage("its graph of objects is not a string")
    with files.open_read(index.shard_path(entry.shard_id)) as file:
        file.seek(entry.offset)
        data = file.read(entry.size)
    length, start = varint(data, 0)
    text = data[start + 4 :]
    order = ">" if index.big_endian else "<"
    width = "Q" if length > 0xFFFFFFFF else "I"
    crc = crc32c(struct.pack(order + width, length))
    crc = crc32c(text, crc32c(data[start : start + 4], crc))
    if len(text) != length or mask(crc) != entry.crc32c:
        raise Damage("its graph of objects does not match its checksum")
    return text


# Both graphs are walked from their roots (number 0) by equal names of children:
#
#     SavedModel:  0 -"layer"-> 4 -"kernel"-> 7
#     checkpoint:  0 -"layer"-> 2 -"kernel"-> 3         pairs (0, 0), (4, 2), (7, 3)
#
# Pairs are remembered, and not objects: shared objects have several ways to them, and
# cycles are common (a Keras layer is a child of its own model's lists).
def _matches(objects: Any, nodes: Any, directory: str) -> Iterator[Tuple[int, int]]:
    """Pairs an object of the SavedModel with that of the checkpoint, each pair once."""
    seen = set()
    waiting = [(0, 0)] if len(objects) and len(nodes) else []
    while waiting:
        pair = waiting.pop()
        if pair in seen:
            continue
        seen.add(pair)
        number, found = pair
        yield pair
        children: Dict[str, int] = {
            child.local_name: child.node_id for child in nodes[found].children
        }
        for child in objects[number].children:
            other = children.get(child.local_name)
            if other is None:
                continue
            if not 0 <= child.node_id < len(objects) or not 0 <= other < len(nodes):
                raise _damaged("an object has a child that is not there", directory)
            waiting.append((child.node_id, other))


def _reached(objects: Any) -> Iterator[int]:
    """The objects that the root leads to, each once."""
    seen = set()
    waiting = [0] if len(objects) else []
    while waiting:
        number = waiting.pop()
        if number in seen or not 0 <= number < len(objects):
            continue
        seen.add(number)
        yield number
        waiting.extend(child.node_id for child in objects[number].children)


def _check_value(
    index: CheckpointIndex, saved_object: Any, attribute: Any, directory: str
) -> None:
    """Refuses a value that is not there, or is not that of the variable."""
    # A table has several values, under keys that begin with that of its attribute.
    if saved_object.WhichOneof("kind") != "variable" or attribute.name != _VALUE:
        return
    key = attribute.checkpoint_key
    entry = index.entries.get(key)
    if entry is None:
        raise _damaged("it has no value under the key {!r}".format(key), directory)
    if entry.slices:
        return
    variable = saved_object.variable
    sizes = [dim.size for dim in variable.shape.dim]
    same_shape = variable.shape.unknown_rank or (
        len(sizes) == len(entry.shape)
        and all(size in (-1, own) for size, own in zip(sizes, entry.shape))
    )
    if variable.dtype != entry.dtype or not same_shape:
        raise CorruptModuleError(
            "The graph and the checkpoint of the model are of different exports. "
            "The variable {!r} has dtype {} and shape {}; its value under {!r} has "
            "dtype {} and shape {}. Export the model again. Received: {!r}".format(
                variable.name,
                variable.dtype,
                "unknown" if variable.shape.unknown_rank else sizes,
                key,
                entry.dtype,
                list(entry.shape),
                directory,
            )
        )


def _damaged(problem: str, directory: str) -> CorruptModuleError:
    return CorruptModuleError(
        "The checkpoint in variables/ is damaged, or of another model: {}. Fetch or "
        "export the model again. Received: {!r}".format(problem, directory)
    )
