"""What gives the variables of a TF1 SavedModel their values.

A session-based loader runs the restore op of the SaverDef, and then one init op
(loader_impl.py): the saver says under which keys of the checkpoint the values are,
which need not be the variables' names; the init op makes those of local variables
(metrics), which the checkpoint does not hold, and fills tables.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hub_compat._tf import tf

from .graph import Graph, node_of, normal, split_tensor
from .variables import Variable

__all__ = [
    "Restored",
    "apply",
    "init_ops",
    "initial_values",
    "restored_keys",
    "table_fillers",
]

INIT_SIGNATURE = "__saved_model_init_op"
# In the order in which loader_impl.py looks for it.
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
# The others read one tensor each, and are of TensorFlow before 0.12.
_RESTORE = ("RestoreV2", "RestoreSlice", "Restore")
_ASSIGN = ("Assign", "AssignVariableOp")
_FILLERS = ("InitializeTable", "LookupTableImport", "LookupTableInsert")
# A local variable counts or sums up; nobody keeps weights in one.
_MOST_ELEMENTS = 1 << 20


class Restored(NamedTuple):
    """Where a checkpoint keeps a variable's value.

    Attributes:
      key: the key.
      part: of a partitioned variable, (offset, length) per dimension of the whole.
    """

    key: str
    part: Optional[Tuple[Tuple[int, int], ...]]


def restored_keys(graph: Graph, saver: Any) -> Dict[str, Restored]:
    """Where the saver finds the value of each variable, by the variable's node.

    Args:
      graph: the graph, before any pass.
      saver: ``MetaGraphDef.saver_def``.
    """
    found: Dict[str, Restored] = {}
    restore = node_of(saver.restore_op_name)
    if restore not in graph.nodes:
        return found
    for name in graph.slice(["^" + restore]):
        node = graph.nodes[name]
        if node.op not in _ASSIGN:
            continue
        tensor = normal(node.input[1])
        while graph.node(node_of(tensor)).op == "Identity":
            tensor = normal(graph.node(node_of(tensor)).input[0])
        source, index = split_tensor(tensor)
        reader = graph.node(source)
        if reader.op not in _RESTORE:
            continue
        keys = _constant(graph, reader.input[1])
        specs: Optional[np.ndarray] = np.array([b""], object)
        if reader.op != "Restore":
            specs = _constant(graph, reader.input[2])
        if keys is not None and specs is not None and index < keys.size:
            key, spec = keys.ravel()[index], specs.ravel()[index]
            found[node_of(node.input[0])] = Restored(key.decode(), _part(spec.decode()))
    return found


def _part(spec: str) -> Optional[Tuple[Tuple[int, int], ...]]:
    """``"4 2 0,2:-"`` -> ``((0, 2), (0, 2))``: dimensions, then start,length of each.

    The form is that of tensorflow/core/util/saved_tensor_slice_util; ``-`` is all
    of a dimension.
    """
    if not spec:
        return None
    *dims, extents = spec.split(" ")
    part = []
    for size, extent in zip(dims, extents.split(":")):
        start, _, length = extent.partition(",")
        part.append((0, int(size)) if extent == "-" else (int(start), int(length)))
    return tuple(part)


def init_ops(graph: Graph, meta_graph: Any) -> List[str]:
    """The node that a session-based loader runs after restoring; none or one."""
    signatures = meta_graph.signature_def
    if INIT_SIGNATURE in signatures:
        outputs = signatures[INIT_SIGNATURE].outputs
        if INIT_SIGNATURE in outputs:
            return [graph.node(node_of(outputs[INIT_SIGNATURE].name)).name]
    for collection in _INIT_COLLECTIONS:
        if collection in meta_graph.collection_def:
            nodes = meta_graph.collection_def[collection].node_list.value
            if nodes:
                return [graph.node(node_of(nodes[0])).name]
    return []


def table_fillers(graph: Graph, ops: List[str]) -> List[str]:
    """The nodes among those behind the init op that fill tables."""
    return [
        name
        for name in graph.slice(["^" + op for op in ops])
        if graph.nodes[name].op.startswith(_FILLERS)
    ]


def initial_values(graph: Graph, ops: List[str]) -> Dict[str, np.ndarray]:
    """The constants that the init op assigns, by the variable's node."""
    found = {}
    for name in graph.slice(["^" + op for op in ops]):
        node = graph.nodes[name]
        if node.op in _ASSIGN:
            value = _constant(graph, node.input[1])
            if value is not None and value.dtype.kind in "biufc":
                found[node_of(node.input[0])] = value
    return found


def apply(
    variables: Sequence[Variable],
    restored: Mapping[str, Restored],
    initial: Mapping[str, Any],
) -> None:
    """Tells variables where the checkpoint has their values, or which they are."""
    for variable in variables:
        for node in variable.nodes:
            if node in restored:
                variable.checkpoint_key, variable.part = restored[node]
            if node in initial:
                variable.initial = initial[node]


def _constant(graph: Graph, tensor: str) -> Optional[np.ndarray]:
    """A tensor's value if it is plainly constant."""
    node = graph.node(node_of(tensor))
    if node.op == "Const":
        return np.asarray(tf.make_ndarray(node.attr["value"].tensor))
    if node.op == "Identity":
        return _constant(graph, node.input[0])
    if node.op == "Fill":
        dims = _constant(graph, node.input[0])
        value = _constant(graph, node.input[1])
        if dims is not None and value is not None:
            if int(np.prod(dims, dtype=np.int64)) <= _MOST_ELEMENTS:
                return np.full(dims, value)
    return None
