"""Tables whose contents are in the checkpoint, for loaders that do not restore them.

TF 1.15 skips them: such a table would come up empty, and no error would say so. TF 2.12
stops: it calls the function that saves a table with a str, which is not taken. The
contents become constants of the function that initializes the table.
"""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np

from hub_compat._io import files
from hub_compat._parsing.known_names import OBJECT_GRAPH
from hub_compat._tf import attr_value_pb2, tf, trackable_object_graph_pb2
from hub_compat.errors import UnknownOpError

from ..ir.constants import array_of
from ..ir.dtypes import DT_RESOURCE
from ..ir.functions import set_attr
from ..ir.names import Names
from ..opdata.targets import Registry

__all__ = ["empty_tables", "fill_tables"]

_OPS = frozenset(
    ["MutableDenseHashTableV2", "MutableHashTableOfTensorsV2", "MutableHashTableV2"]
    + ["AnonymousMutableDenseHashTable", "AnonymousMutableHashTable"]
    + ["AnonymousMutableHashTableOfTensors"]
)


# Tried are 2.10, 2.12 and 2.14; what fills a table does no harm in the two between.
_STOPS = ((2, 11), (2, 14))
# Names what fills a table, so that it is done once.
_FILLED = "hub_compat_fill"


def empty_tables(meta_graph: Any, registry: Registry) -> bool:
    """Whether there are such tables that nothing fills yet."""
    if registry.version >= (2, 0):
        if not _STOPS[0] <= registry.version < _STOPS[1]:
            return False
        if not any(node.saveable_objects for node in meta_graph.object_graph_def.nodes):
            return False
    library = meta_graph.graph_def.library.function
    return any(
        node.op in _OPS for function in library for node in function.node_def
    ) and not any(_FILLED in function.control_ret for function in library)


# Given: a mutable table, whose entries the checkpoint has under "<key>-keys", "-values"
#     _initialize(): nothing to do
# Result:
#     _initialize(table): LookupTableInsertV2(table, keys, values)
#
# The function is a copy under a new name, for the object alone: a session still calls
# the original, as its saver fills the table.
def fill_tables(
    meta_graph: Any, source: str, registry: Registry, done: Dict[str, int]
) -> None:
    """Lets the initializers of mutable tables fill them.

    Args:
      meta_graph: the model.
      source: its directory.
      registry: of the target.
      done: counts what was done.

    Raises:
      UnknownOpError: a table has no contents in the checkpoint.
    """
    if not empty_tables(meta_graph, registry):
        return
    library = meta_graph.graph_def.library.function
    functions = {f.signature.name: f for f in library}
    objects = meta_graph.object_graph_def
    contents = None
    for i, node in enumerate(objects.nodes):
        if node.WhichOneof("kind") != "resource":
            continue
        saved = getattr(node, "saveable_objects", None)
        if registry.version >= (2, 0) and not saved:
            continue
        own, held = {}, {}
        for child in node.children:
            names = objects.nodes[child.node_id].function.concrete_functions
            if names:
                own[child.local_name] = names[0]
                held[child.local_name] = names
        create = functions.get(own.get("_create_resource", ""))
        if create is None or _OPS.isdisjoint(n.op for n in create.node_def):
            continue
        if contents is None:
            contents = _contents(meta_graph, source)
        initialize = functions.get(own.get("_initialize", ""))
        if initialize is None or i not in contents:
            raise UnknownOpError(
                "The model has a table that changes at run time, and the checkpoint "
                "does not hold its entries. {} would leave it empty. Received: "
                "object {} of {!r}".format(registry.name, i, source)
            )
        # In a session the saver fills the table, and its graph calls what was there.
        filled = library.add()
        filled.CopyFrom(initialize)
        name = Names(functions).take(own["_initialize"])
        functions[name] = filled
        filled.signature.name = held["_initialize"][0] = name
        _fill(filled, *_taken(create, *contents[i]))
        bound = objects.concrete_functions[name]
        bound.CopyFrom(objects.concrete_functions[own["_initialize"]])
        bound.bound_inputs.append(i)
        if saved:
            saved.clear()
        done["a table's contents are in its initializer"] += 1


def _contents(meta_graph: Any, source: str) -> Dict[int, Tuple[Any, Any]]:
    """Keys and values of the tables in a checkpoint, by their number in the model.

    The checkpoint numbers objects in its own way; names lead from the root to each.
    """
    prefix = files.join(source, "variables", "variables")
    if not files.exists(prefix + ".index"):
        return {}
    reader = tf.compat.v1.train.NewCheckpointReader(prefix)
    held = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(OBJECT_GRAPH)
    )
    found: Dict[int, Tuple[Any, Any]] = {}
    seen = set()
    stack = [(0, 0)]
    while stack:
        pair = stack.pop()
        if pair in seen:
            continue
        seen.add(pair)
        number, other = pair
        for attribute in held.nodes[other].attributes:
            key = attribute.checkpoint_key
            if reader.has_tensor(key + "-keys"):
                found[number] = (
                    reader.get_tensor(key + "-keys"),
                    reader.get_tensor(key + "-values"),
                )
        others = {c.local_name: c.node_id for c in held.nodes[other].children}
        for child in meta_graph.object_graph_def.nodes[number].children:
            if child.local_name in others:
                stack.append((child.node_id, others[child.local_name]))
    return found


def _taken(create: Any, keys: Any, values: Any) -> Tuple[Any, Any]:
    """Keys that mean something, and their values.

    A dense table is stored with its free places, and each scalar as a row of one.
    """
    nodes = {node.name: node for node in create.node_def}
    for node in create.node_def:
        if node.op not in _OPS or "Dense" not in node.op:
            continue
        taken = np.ones(keys.shape[:1], bool)
        # Keys that stand for a free place, and for one that got free.
        for name in node.input[:2]:
            key = array_of(nodes[name.split(":")[0]].attr["value"].tensor)
            keys = keys.reshape((-1,) + key.shape)
            taken &= ~np.equal(keys, key).reshape(len(taken), -1).all(axis=1)
        shape = [dim.size for dim in node.attr["value_shape"].shape.dim]
        return keys[taken], values[taken].reshape([-1] + shape)
    return keys, values


def _fill(function: Any, keys: Any, values: Any) -> None:
    """Adds a table as the last argument of a function, and fills it there.

    By an insertion: TF 1.15 lets no values of another shape than the keys be imported,
    and nothing of a dense table but all of its places.
    """
    signature = function.signature
    names = Names(
        [node.name for node in function.node_def]
        + [arg.name for arg in signature.input_arg]
    )
    table = names.take("table")
    signature.input_arg.add(name=table, type=DT_RESOURCE)
    shapes = function.attr["_input_shapes"].list
    if not shapes.shape:
        function.attr["_input_shapes"].list.SetInParent()
    function.attr["_input_shapes"].list.shape.add()
    tensors, dtypes = [], []
    for label, array in (("keys", keys), ("values", values)):
        proto = tf.compat.v1.make_tensor_proto(array)
        value = attr_value_pb2.AttrValue()
        value.tensor.CopyFrom(proto)
        node = function.node_def.add(name=names.take(label), op="Const")
        set_attr(node, "value", value)
        set_attr(node, "dtype", ("type", proto.dtype))
        tensors.append(node.name + ":output:0")
        dtypes.append(proto.dtype)
    filled = function.node_def.add(name=names.take("fill"), op="LookupTableInsertV2")
    filled.input.extend([table] + tensors)
    set_attr(filled, "Tin", ("type", dtypes[0]))
    set_attr(filled, "Tout", ("type", dtypes[1]))
    # Whatever the function returns, it returns when the table is full.
    for node in function.node_def:
        if node.op == "Identity":
            node.input.append("^" + filled.name)
    signature.is_stateful = True
    signature.control_output.append(_FILLED)
    function.control_ret[_FILLED] = filled.name
