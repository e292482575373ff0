"""The variables of a TF1 graph, and reference variables made resources.

TF1's reference variables (``VariableV2``) hand out tensors of reference type
that ops write through. TF2 objects only track resource variables, so the pass
below turns the handle into a resource handle under the same node name, every
op that writes through a reference into its resource twin, and every op that
takes the value of one into a read.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from hub_compat._tf import (
    node_def_pb2,
    tensor_shape_pb2,
    types_pb2,
    variable_pb2,
)
from hub_compat.errors import ConversionError, CorruptModuleError

from .functions import set_attr
from .graph import (
    DT_RESOURCE,
    REF_OFFSET,
    Graph,
    attr_or_default,
    builtin_ops,
    node_of,
    normal,
    resource_name,
)
from .late_reads import LateReads
from .late_values import LateValues
from .reading import STORED_AS, add_bitcast, add_read
from .references import REFERENCE_OPS, find_references, hand_on_values, read_first

__all__ = [
    "Variable",
    "find_variables",
    "listed",
    "make_resources",
    "obstacle",
    "value_of",
]

# What is between the name of a call and those of a function's nodes in its place.
INLINED = "/inlined/body/"
# What hands out a variable, or a reference to one.
HANDLE_OPS = REFERENCE_OPS + ("VarHandleOp",)
_FLOATS = (types_pb2.DT_HALF, types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
_CONTROL_FLOW = {
    "RefEnter": "Enter",
    "RefExit": "Exit",
    "RefIdentity": "Identity",
    "RefMerge": "Merge",
    "RefNextIteration": "NextIteration",
    "RefSwitch": "Switch",
}
_ASSIGNMENTS = {
    "Assign": "AssignVariableOp",
    "AssignAdd": "AssignAddVariableOp",
    "AssignSub": "AssignSubVariableOp",
    "IsVariableInitialized": "VarIsInitializedOp",
}


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


def make_resources(
    graph: Graph, signatures: Sequence[Tuple[Sequence[str], Set[str]]] = ()
) -> List[str]:
    """Turns the variables of a graph into resource variables that TF2 has.

    Args:
      graph: the graph.
      signatures: what each signature returns, and what it is fed.

    Returns:
      Warnings of what the graph alone does not say.

    Raises:
      ConversionError: an op writes through a reference, and has no twin for
        resources; or it uses a variable of a dtype that TF2 has no variables of.
    """
    _store_bits(graph)
    if not any(node.op in REFERENCE_OPS for node in graph.nodes.values()):
        return []
    references = graph.references
    hand_on_values(graph)
    references.update(find_references(graph, list(graph.nodes)))
    # Inputs are judged by the original ops, so all of them before any changes.
    declared = {
        name: graph.inputs_types(name)
        for name, node in graph.nodes.items()
        if any(normal(i) in references for i in node.input)
    }
    late = LateReads(
        graph,
        references,
        {name: [t > REF_OFFSET for t in types] for name, types in declared.items()},
    )
    reads = late.of_nodes() + late.of_outputs(signatures)
    values = LateValues(graph, late)
    controls = {
        (name, i): late.controls(name, i)
        for name, types in declared.items()
        for i, dtype in enumerate(types)
        if dtype <= REF_OFFSET
    }
    for name in list(graph.nodes):
        node = graph.nodes[name]
        if node.op in REFERENCE_OPS:
            graph.replace(_handle(graph, node))
        elif name in declared:
            _use(graph, node, declared[name], references, controls)
    graph.redirect(graph.aliases)
    read_first(graph, signatures)
    for read in reads:
        values.read(read)
    return late.doubts()


def _store_bits(graph: Graph) -> None:
    """Gives the resource variables of ``STORED_AS`` the dtype they are kept in."""
    if not any(
        node.op == "VarHandleOp" and node.attr["dtype"].type in STORED_AS
        for node in graph.nodes.values()
    ):
        return
    for node in list(graph.nodes.values()):
        dtype = node.attr["dtype"].type if "dtype" in node.attr else None
        if dtype not in STORED_AS:
            continue
        if node.op == "VarHandleOp":
            set_attr(node, "dtype", ("type", STORED_AS[dtype]))
        elif node.op == "ReadVariableOp":
            add_read(graph, node.name, node.input[0], list(node.input[1:]), dtype)
        elif node.op == "AssignVariableOp":
            set_attr(node, "dtype", ("type", STORED_AS[dtype]))
            name = graph.unique_name(node.name + "/bits")
            add_bitcast(graph, name, node.input[1], dtype, STORED_AS[dtype])
            node.input[1] = name
            graph.forget(node.name)
        else:
            reason = _uses_bits(graph, node)
            if reason is not None:
                raise ConversionError(reason)


def value_of(graph: Graph, tensor: str) -> str:
    """The tensor to fetch for ``tensor``: its value where it is a reference."""
    tensor = normal(tensor)
    if tensor in graph.fetched:
        return graph.fetched[tensor]
    dtype = graph.references.get(tensor)
    while tensor in graph.aliases:
        tensor = graph.aliases[tensor]
    if dtype is None:
        return tensor
    name = graph.unique_name(node_of(tensor) + "/value")
    add_read(graph, name, tensor, [], dtype)
    return name + ":0"


def _handle(graph: Graph, node: node_def_pb2.NodeDef) -> node_def_pb2.NodeDef:
    handle = node_def_pb2.NodeDef(name=node.name, op="VarHandleOp")
    op = graph.op_def(node.op)
    dtype = node.attr["dtype"].type
    set_attr(handle, "dtype", ("type", STORED_AS.get(dtype, dtype)))
    handle.attr["shape"].CopyFrom(node.attr["shape"])
    if node.op == "Variable":
        # The oldest op writes an unknown shape as a scalar's; its checkpoint
        # entry knows better, and a handle of unknown shape holds any.
        if not node.attr["shape"].shape.dim:
            handle.attr["shape"].shape.unknown_rank = True
    shared_name = attr_or_default(node, op, "shared_name").s
    set_attr(handle, "shared_name", shared_name or node.name.encode())
    set_attr(handle, "container", b"")
    return handle


def _use(
    graph: Graph,
    node: node_def_pb2.NodeDef,
    declared: List[int],
    references: Dict[str, int],
    also: Mapping[Tuple[str, int], List[str]],
) -> None:
    """Rewrites a node that takes references, whether it writes or reads."""
    controls = [i for i in node.input if i.startswith("^")]
    if node.op == "Identity" and normal(node.input[0]) in references:
        dtype = references[normal(node.input[0])]
        add_read(graph, node.name, node.input[0], controls, dtype)
        return
    writes = False
    for i, tensor in enumerate(node.input):
        if normal(tensor) not in references:
            continue
        if declared[i] > REF_OFFSET:
            writes = True
            continue
        # Read when the consumer runs, after whatever it waits for.
        name = graph.unique_name("{}/read_{}".format(node.name, i))
        after = list(dict.fromkeys(controls + also[node.name, i]))
        add_read(graph, name, tensor, after, references[normal(tensor)])
        node.input[i] = name
        graph.forget(node.name)
    if not writes:
        return
    if node.op in _CONTROL_FLOW:
        node.op = _CONTROL_FLOW[node.op]
        set_attr(node, "T", ("type", DT_RESOURCE))
        # They were the variable's; a handle is a scalar.
        node.attr.pop("_output_shapes", None)
        graph.forget(node.name)
        return
    _write(graph, node, references)


def obstacle(graph: Graph, names: Sequence[str]) -> Optional[str]:
    """Why one of some nodes of a graph, as it was read, has no resource twin.

    Args:
      graph: the graph, before any pass.
      names: the nodes, with all that they need.
    """
    references = find_references(graph, names)
    for name in names:
        node = graph.nodes[name]
        reason = _uses_bits(graph, node)
        if reason is not None:
            return reason
        if node.op in _CONTROL_FLOW or not any(
            normal(tensor) in references for tensor in node.input
        ):
            continue
        for tensor, dtype in zip(node.input, graph.inputs_types(name)):
            if dtype > REF_OFFSET and normal(tensor) in references:
                reason = _no_twin(graph, node, references)
                if reason is not None:
                    return reason
    return None


def _twin(op: str) -> str:
    return _ASSIGNMENTS.get(op, "Resource" + op)


def _no_twin(
    graph: Graph, node: node_def_pb2.NodeDef, references: Mapping[str, int]
) -> Optional[str]:
    """Why a write cannot be one to a resource variable; None where it can."""
    old = graph.op_def(node.op)
    twin = builtin_ops().get(_twin(node.op))
    recast = any(references.get(normal(i)) in STORED_AS for i in node.input)
    if twin is None or len(twin.input_arg) != len(old.input_arg) or recast:
        return (
            "Node {!r} writes to a reference variable with an op that has no twin for "
            "resource variables; a signature that needs it cannot be converted. "
            "Received: {!r}".format(node.name, node.op)
        )
    return None


def _uses_bits(graph: Graph, node: node_def_pb2.NodeDef) -> Optional[str]:
    """Why a node cannot use a variable of ``STORED_AS``; None where it can."""
    dtype = node.attr["dtype"].type if "dtype" in node.attr else None
    if dtype not in STORED_AS or node.op in ("AssignVariableOp", "ReadVariableOp"):
        return None
    if DT_RESOURCE not in graph.inputs_types(node.name):
        return None
    return (
        "Node {!r}, a {}, uses a variable of dtype {}. Eager execution has no "
        "variables of that dtype: this one can only be read and assigned.".format(
            node.name, node.op, types_pb2.DataType.Name(dtype)
        )
    )


def _write(
    graph: Graph, node: node_def_pb2.NodeDef, references: Dict[str, int]
) -> None:
    """Turns an op that writes through a reference into its resource twin."""
    reason = _no_twin(graph, node, references)
    if reason is not None:
        raise ConversionError(reason)
    twin = builtin_ops()[_twin(node.op)]
    new = node_def_pb2.NodeDef(name=node.name, op=twin.name)
    new.input.extend(node.input)
    for attr in twin.attr:
        source = "T" if attr.name == "dtype" and "T" in node.attr else attr.name
        if source in node.attr:
            new.attr[attr.name].CopyFrom(node.attr[source])
    graph.replace(new)
    output = "{}:0".format(node.name)
    if output in references:
        # The twin has no output. Whoever takes the reference takes the handle
        # once the write is done.
        done = node_def_pb2.NodeDef(op="Identity")
        done.name = graph.unique_name(node.name + "/handle")
        done.input.extend([node.input[0], "^" + node.name])
        set_attr(done, "T", ("type", DT_RESOURCE))
        graph.replace(done)
        graph.aliases[output] = done.name + ":0"
