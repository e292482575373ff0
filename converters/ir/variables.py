"""The variables of a TF1 graph."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Tuple

from hub_compat._tf import tensor_shape_pb2, variable_pb2
from hub_compat.errors import CorruptModuleError

from .dtypes import DT_DOUBLE, DT_FLOAT, DT_HALF
from .graph import Graph, node_of, resource_name

__all__ = [
    "HANDLE_OPS",
    "INLINED",
    "REFERENCE_OPS",
    "Variable",
    "find_variables",
    "listed",
]


# What is between the name of a call and those of a function's nodes in its place.
INLINED = "/inlined/body/"
REFERENCE_OPS = ("Variable", "VariableV2")
# What hands out a variable, or a reference to one.
HANDLE_OPS = REFERENCE_OPS + ("VarHandleOp",)
_FLOATS = (DT_HALF, DT_FLOAT, DT_DOUBLE)


@dataclasses.dataclass
class Variable:
    """One variable: for a partitioned one, one of its parts.

    Attributes:
      name: the variable's name, ``"dense/kernel"``, ``"embedding/part_0"``.
      nodes: the handle nodes that stand for it.
      dtype: a ``DataType``.
      shape: TensorShapeProto.
      trainable: whether the TRAINABLE_VARIABLES collection has it.
      checkpoint_key: where the checkpoint keeps its value.
      part: of a partitioned variable, this part's (offset, length) per
        dimension of the whole that ``checkpoint_key`` names.
      synchronization, aggregation: as in VariableDef.
      updated: whether an update op writes it.
      initial: the value that the init op assigns, a NumPy array, or None.
      listed: whether a collection of variables has it, or the saver restores it.
      lost: why the value that the init op assigns is not known, or nothing.
    """

    name: str
    nodes: List[str]
    dtype: int
    shape: Any
    trainable: bool
    checkpoint_key: str
    part: Optional[Tuple[Tuple[int, int], ...]] = None
    synchronization: int = 0
    aggregation: int = 0
    updated: bool = False
    initial: Any = None
    listed: bool = False
    lost: str = ""

    @property
    def local(self) -> bool:
        """Whether it is no weight, but what counts for a metric."""
        return self.initial is not None and not self.listed

    @property
    def distribution(self) -> Tuple[int, int]:
        """How replicas keep the variable: its synchronization and aggregation.

        A moving average is each replica's own, and read as the mean of all. TensorFlow
        says so in the VariableDef of a batch norm from 1.13 on; before, none could.
        """
        if (
            self.updated
            and not self.trainable
            and self.dtype in _FLOATS
            and (self.synchronization, self.aggregation) == (0, 0)
        ):
            return variable_pb2.VARIABLE_SYNCHRONIZATION_ON_READ, (
                variable_pb2.VARIABLE_AGGREGATION_MEAN
            )
        return self.synchronization, self.aggregation


# Given: w = VarHandleOp {shared_name: "w"},  w_1 = VarHandleOp {shared_name: "w"}
# Result:
#     Variable("w", nodes=["w", "w_1"]): a session has one variable
#
# Of several nodes, the one that a VariableDef names gives the variable its name, since
# checkpoints use that.
def find_variables(graph: Graph, collections: Any) -> List[Variable]:
    """The variables of a graph whose variables are all resources.

    Args:
      graph: the graph, after ``make_resources``.
      collections: ``MetaGraphDef.collection_def``.
    """
    definitions = listed(collections)
    trainable = {
        node_of(definition.variable_name)
        for definition in _definitions(collections, "trainable_variables")
    }
    found: Dict[str, Variable] = {}
    handles = {n for n, node in graph.nodes.items() if node.op == "VarHandleOp"}
    for node in graph.nodes.values():
        if node.name not in handles:
            continue
        # Handles of one shared name are one variable.
        shared_name = resource_name(node)
        if shared_name in found:
            variable = found[shared_name]
            variable.nodes.append(node.name)
            if node.name not in definitions:
                continue
        else:
            variable = found[shared_name] = Variable(
                # One that a function made has the name of a place in it.
                name=shared_name if INLINED in node.name else node.name,
                nodes=[node.name],
                dtype=node.attr["dtype"].type,
                shape=tensor_shape_pb2.TensorShapeProto.FromString(
                    node.attr["shape"].shape.SerializeToString()
                ),
                trainable=False,
                checkpoint_key=node.name,
            )
        definition = definitions.get(node.name)
        if definition is not None:
            variable.name = variable.checkpoint_key = node.name
            variable.listed = True
            variable.trainable = node.name in trainable
            variable.synchronization = definition.synchronization
            variable.aggregation = definition.aggregation
            if definition.HasField("save_slice_info_def"):
                part = definition.save_slice_info_def
                variable.checkpoint_key = part.full_name
                variable.part = tuple(zip(part.var_offset, part.var_shape))
                if list(part.var_shape) == list(part.full_shape) and (
                    part.full_name not in handles
                ):
                    # A partitioner that makes one part says so in the node's name.
                    variable.name = part.full_name
    return list(found.values())


def listed(collections: Any) -> Dict[str, Any]:
    """The VariableDefs of the collections of weights, by the variable's node."""
    return {
        node_of(definition.variable_name): definition
        for collection in ("variables", "model_variables", "trainable_variables")
        for definition in _definitions(collections, collection)
    }


def _definitions(collections: Any, name: str) -> List[Any]:
    if name not in collections:
        return []
    definitions = []
    for data in collections[name].bytes_list.value:
        try:
            definitions.append(variable_pb2.VariableDef.FromString(data))
        except Exception as error:
            raise CorruptModuleError(
                "The collection {!r} must hold VariableDefs. Received: {!r}".format(
                    name, data[:40]
                )
            ) from error
    return definitions
