"""The values that the init op of a TF1 SavedModel gives to variables.

A session-based loader restores the checkpoint and runs the init op: what that assigns
is what the variables are. Constants are read off the graph. Other values, such as
a normalized copy of another variable, a session computes.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Set

import numpy as np

from hub_compat._io import files
from hub_compat._tf import node_def_pb2, tf
from hub_compat._tf.loading import LOAD_ERRORS
from hub_compat.errors import ConversionError

from ..ir.constants import array_of
from ..ir.dtypes import DT_STRING
from ..ir.effects import Determinism
from ..ir.functions import set_attr
from ..ir.graph import (
    CONTROL_FLOW_OPS,
    Graph,
    node_of,
    normal,
    resource_name,
    split_tensor,
)
from ..ir.variables import HANDLE_OPS
from .init_effects import Effects

__all__ = ["compute", "random_ones"]

# What a session may run for its own sake while a model is converted.
_HARMLESS = ("Assert", "Print", "PrintV2")


def random_ones(
    graph: Graph, effects: Effects, handles: Iterable[str]
) -> Dict[str, str]:
    """The variables whose values are drawn, and by which op."""
    determinism = Determinism(graph)
    found = {}
    for handle in handles:
        nodes = graph.slice(["^" + name for name in effects.writers[handle]])
        random = determinism.random(nodes)
        if random:
            found[handle] = random[0]
    return found


def compute(
    graph: Graph,
    meta_graph: Any,
    source: str,
    init_op: str,
    effects: Effects,
    handles: Iterable[str],
) -> Dict[str, Any]:
    """Computes what variables are after the checkpoint and the init op.

    Args:
      graph: the graph, before any pass.
      meta_graph: its proto.
      source: the model's directory.
      init_op: the init op.
      effects: what it does.
      handles: the nodes of the variables.

    Raises:
      ConversionError: the values need more than a session may run here, or it fails.
    """
    handles = sorted(handles)
    targets = sorted({name for h in handles for name in effects.writers[h]})
    names = graph.slice(["^" + target for target in targets])
    if any(graph.nodes[name].op in CONTROL_FLOW_OPS for name in names):
        # What is in a branch or a loop is no target of its own.
        targets = [init_op]
        names = graph.slice(["^" + init_op])
    part = _Part(graph, meta_graph, source)
    part.add(names, set(effects.others))
    restored = part.add_restore(names)
    try:
        return part.run(restored, targets, handles)
    except LOAD_ERRORS + (TypeError,) as error:
        raise ConversionError(
            "The init op cannot be run. Received: {}".format(
                " ".join(str(error).split())[:400]
            )
        ) from error


# The graph of the session, in three steps:
#
#     restored    the saver's assignments to the variables and tables that matter
#     targets     the init op's writers of the wanted variables
#     values      reads of these variables
#
# Ops with other effects are NoOps in it (files, Python): a conversion must not act.
#
#     _nodes: name -> a copy of the node, changed where needed; the graph is untouched
class _Part:
    """The part of a graph that a session runs."""

    def __init__(self, graph: Graph, meta_graph: Any, source: str) -> None:
        self._graph = graph
        self._meta_graph = meta_graph
        self._source = source
        self._nodes: Dict[str, Any] = {}

    def add(self, names: Iterable[str], effects: Set[str]) -> None:
        """Adds nodes, but for what they do beside computing values."""
        for name in names:
            node = self._copy(name)
            if name in effects and node.op not in _HARMLESS:
                inputs = sorted({node_of(tensor) for tensor in node.input})
                node = node_def_pb2.NodeDef(name=name, op="NoOp")
                node.input.extend("^" + each for each in inputs)
            self._nodes[name] = node
        for name in names:
            for edge in self._graph.inputs(name):
                dropped = self._nodes[edge.node].op != self._graph.nodes[edge.node].op
                if dropped and not edge.tensor.startswith("^"):
                    raise ConversionError(
                        "The init op computes values with an op that does more than "
                        "that. Received: {!r}".format(self._graph.nodes[edge.node].op)
                    )

    def add_restore(self, names: Iterable[str]) -> List[str]:
        """Adds what restores the variables and tables among nodes; the targets."""
        graph = self._graph
        saver = self._meta_graph.saver_def
        restore = node_of(saver.restore_op_name)
        if restore not in graph.nodes:
            return []
        shared = {resource_name(graph.nodes[name]) for name in names}
        behind = graph.slice(["^" + restore])
        targets = [
            name
            for name in behind
            if any(
                not edge.tensor.startswith("^")
                and graph.nodes[edge.node].op in HANDLE_OPS + _TABLES
                and resource_name(graph.nodes[edge.node]) in shared
                for edge in graph.inputs(name)
            )
        ]
        for name in graph.slice(["^" + target for target in targets]):
            self._nodes.setdefault(name, self._copy(name))
        self._name_file(node_of(saver.filename_tensor_name))
        self._read_less()
        return targets

    def _name_file(self, name: str) -> None:
        prefix = files.join(self._source, "variables", "variables")
        if name in self._nodes:
            self._nodes[name] = _string(name, prefix)

    # Given:
    #     read = RestoreV2(file, ["a", "b", "huge"], ["", "", ""]);  only read:1 is used
    # Result:
    #     read/read_1 = RestoreV2(file, ["b"], [""])
    def _read_less(self) -> None:
        """Reads each restored tensor alone, because the others may be gigabytes."""
        moved: Dict[str, str] = {}
        for node in list(self._nodes.values()):
            for tensor in node.input:
                name, index = split_tensor(tensor)
                reader = self._nodes.get(name)
                if reader is None or reader.op != "RestoreV2" or tensor[0] == "^":
                    continue
                if any(self._op(each) != "Const" for each in reader.input[1:3]):
                    continue
                full = normal(tensor)
                if full not in moved:
                    moved[full] = self._reader(reader, index)
        for name in {node_of(tensor) for tensor in moved}:
            del self._nodes[name]
        for node in self._nodes.values():
            for i, tensor in enumerate(node.input):
                node.input[i] = moved.get(normal(tensor), tensor)

    def _op(self, tensor: str) -> str:
        return str(self._nodes[node_of(tensor)].op)

    def _reader(self, reader: Any, index: int) -> str:
        parts = []
        for kind, tensor in zip(("keys", "slices"), reader.input[1:3]):
            const = self._nodes[node_of(tensor)]
            values = array_of(const.attr["value"].tensor).ravel()
            name = "{}/{}_{}".format(reader.name, kind, index)
            self._nodes[name] = _string(name, [values[index]])
            parts.append(name)
        read = node_def_pb2.NodeDef(op="RestoreV2")
        read.name = "{}/read_{}".format(reader.name, index)
        read.input.extend([reader.input[0]] + parts)
        dtype = reader.attr["dtypes"].list.type[index]
        set_attr(read, "dtypes", ("types", [dtype]))
        self._nodes[read.name] = read
        return str(read.name)

    def _copy(self, name: str) -> Any:
        node = node_def_pb2.NodeDef()
        node.CopyFrom(self._graph.nodes[name])
        node.ClearField("device")
        node.attr.pop("_class", None)
        return node

    def run(
        self, restored: List[str], targets: List[str], handles: List[str]
    ) -> Dict[str, Any]:
        """Restores, runs the targets, and reads the variables."""
        for definition in self._meta_graph.asset_file_def:
            name = node_of(definition.tensor_info.name)
            if name in self._nodes:
                parts = definition.filename.split("/")
                path = files.join(self._source, "assets", *parts)
                self._nodes[name] = _string(name, path)
        graph_def = tf.compat.v1.GraphDef()
        graph_def.versions.CopyFrom(self._meta_graph.graph_def.versions)
        graph_def.library.function.extend(self._graph.library.values())
        graph_def.node.extend(self._nodes.values())
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(
                graph_def,
                name="",
                producer_op_list=self._meta_graph.meta_info_def.stripped_op_list,
            )
            values = {name: _value(graph, name) for name in handles}
            with tf.compat.v1.Session(graph=graph, config=config) as session:
                for ops in (restored, targets):
                    session.run([graph.get_operation_by_name(op) for op in ops])
                found: Mapping[str, Any] = session.run(values)
        return {name: np.asarray(value) for name, value in found.items()}


_TABLES = (
    "HashTable",
    "HashTableV2",
    "MutableDenseHashTable",
    "MutableDenseHashTableV2",
    "MutableHashTable",
    "MutableHashTableOfTensors",
    "MutableHashTableOfTensorsV2",
    "MutableHashTableV2",
)


def _value(graph: Any, name: str) -> Any:
    tensor = graph.get_tensor_by_name(name + ":0")
    operation = graph.get_operation_by_name(name)
    if operation.type == "VarHandleOp":
        dtype = operation.get_attr("dtype")
        return tf.raw_ops.ReadVariableOp(resource=tensor, dtype=dtype)
    return tensor


def _string(name: str, value: Any) -> Any:
    node = node_def_pb2.NodeDef(name=name, op="Const")
    node.attr["value"].tensor.CopyFrom(tf.compat.v1.make_tensor_proto(value, tf.string))
    set_attr(node, "dtype", ("type", DT_STRING))
    return node
