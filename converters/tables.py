"""Lookup tables and other resources of a TF1 graph."""

from __future__ import annotations

import hashlib
from typing import Dict, Iterable, List, Optional

from hub_compat._tf import attr_value_pb2, node_def_pb2

from .functions import Capture, FunctionWriter, emit, set_attr
from .graph import (
    CONTROL_FLOW_OPS,
    DT_INT32,
    DT_RESOURCE,
    Graph,
    attr_or_default,
)
from .model import Model, Table, VariantGraph, make_shape

__all__ = [
    "CARRIER",
    "add_tables",
    "create_function",
    "destroy_function",
    "find_tables",
    "initialize_function",
    "is_carrier",
    "is_table",
    "make_resources",
    "set_shared_name",
    "shared_name",
]

# Ops that hand tables out, or take them, as references to strings: TF before
# 1.0, and graphs that were made by its Python code for long after.
_REFERENCE_OPS = frozenset(
    [
        "HashTable",
        "InitializeTable",
        "InitializeTableFromTextFile",
        "LookupTableExport",
        "LookupTableFind",
        "LookupTableImport",
        "LookupTableInsert",
        "LookupTableSize",
        "MutableDenseHashTable",
        "MutableHashTable",
        "MutableHashTableOfTensors",
    ]
)


# Those of them that make a table.
_REFERENCES = ("HashTable", "MutableHashTable", "MutableHashTableOfTensors")
# What begins with this is no table of the model's: init_actions.py.
CARRIER = "init_op/carrier"
# The one table that takes an input: the keys of empty and of deleted places.
_DENSE = "MutableDenseHashTable"


def make_resources(graph: Graph) -> None:
    """Turns tables of reference type into resources: the V2 ops of same form."""
    for node in graph.nodes.values():
        if node.op in _REFERENCE_OPS:
            node.op += "V2"
            graph.forget(node.name)
            graph.forget(node.name)


def find_tables(
    graph: Graph, names: Optional[Iterable[str]] = None
) -> List[node_def_pb2.NodeDef]:
    """Nodes that hand out a resource which is no variable, made of constants alone.

    Args:
      graph: the graph.
      names: the nodes to look at; all by default.
    """
    nodes = [graph.nodes[name] for name in (graph.nodes if names is None else names)]
    kinds = {op for op in {node.op for node in nodes} if is_table(graph, op)}
    return [
        node for node in nodes if node.op in kinds and _can_be_made(graph, node.name)
    ]


def is_table(graph: Graph, name: str) -> bool:
    """Whether an op hands out a shared resource of its own."""
    if name.startswith(_DENSE) or name in _REFERENCES:
        return True
    op = graph.op_def(name)
    return (
        name != "VarHandleOp"
        and not op.input_arg
        and [arg.type for arg in op.output_arg] == [DT_RESOURCE]
        and any(attr.name == "shared_name" for attr in op.attr)
    )


def is_carrier(name: str) -> bool:
    """Whether a resource of this name is there for what its initializer does."""
    return name.startswith(CARRIER)


def _can_be_made(graph: Graph, name: str) -> bool:
    """Whether nothing but constants is needed to make a table."""
    needed = [edge.tensor for edge in graph.inputs(name) if edge.tensor[0] != "^"]
    if graph.nodes[name].op.startswith(_DENSE) and len(needed) < 2:
        # The op of old knows no deleted keys, and has no twin.
        return False
    return not any(
        graph.nodes[other].op in CONTROL_FLOW_OPS
        or graph.nodes[other].op.startswith(("Placeholder", "Variable", "VarHandle"))
        or graph.op_def(graph.nodes[other].op).is_stateful
        for other in (graph.slice(needed) if needed else ())
    )


def add_tables(model: Model, variant: VariantGraph) -> None:
    """Adds a variant's tables to the model and to the variant's captures.

    Tables of one name in two variants are one table where they are created
    and filled alike, as variables of one name are one variable; otherwise each
    variant has its own.
    """
    by_name: Dict[str, List[node_def_pb2.NodeDef]] = {}
    for node in find_tables(variant.graph):
        by_name.setdefault(shared_name(variant.graph, node), []).append(node)
    owners = {node.name: name for name, nodes in by_name.items() for node in nodes}
    fillers: Dict[str, List[str]] = {name: [] for name in by_name}
    for initializer in variant.initializers:
        behind = variant.graph.slice(["^" + initializer])
        touched = [name for name in behind if name in owners]
        captured = [variant.captures.get(name) for name in behind]
        # What it gives to variables is what they begin with.
        set_variables = any(
            capture is not None
            and capture.key in model.variables
            and model.variables[capture.key].initial is not None
            for capture in captured
        )
        if touched:
            # Where one op fills several, all are created by the time the
            # last of them is filled. What else the init op does comes after all.
            carriers = [name for name in touched if is_carrier(owners[name])]
            fillers[owners[(carriers or touched)[-1]]].append(initializer)
        elif variant.graph.nodes[initializer].op != "NoOp" and not set_variables:
            model.warnings.append(
                "the table initializer {!r} fills no table and is left out".format(
                    initializer
                )
            )
    for name, nodes in by_name.items():
        digest = _digest(variant, nodes[0], fillers[name])
        key = "table:" + name
        if key in model.tables and model.tables[key].digest != digest:
            own = "@{}".format(",".join(variant.tags))
            _rename(variant.graph, name, name + own)
            key, name = key + own, name + own
        for node in nodes:
            variant.captures[node.name] = Capture(key, DT_RESOURCE)
        if key not in model.tables:
            model.tables[key] = Table(
                key, name, digest, variant, nodes[0].name, fillers[name]
            )


def _rename(graph: Graph, name: str, other: str) -> None:
    """Renames a table where functions ask for it by its name."""
    for function in graph.library.values():
        for node in function.node_def:
            if is_table(graph, node.op) and node.attr["shared_name"].s.decode() == name:
                set_shared_name(graph, node, other)


def shared_name(graph: Graph, node: node_def_pb2.NodeDef) -> str:
    """The name under which a session would share the resource."""
    op = graph.op_def(node.op)
    name: bytes = attr_or_default(node, op, "shared_name").s
    return name.decode() or node.name


def set_shared_name(graph: Graph, node: node_def_pb2.NodeDef, name: str) -> None:
    """Names a resource, as one that several functions may ask for.

    TF 1.15's loader makes names unique for each load only where the attribute is
    present; that of TensorFlow 2 makes those of HashTableV2 unique for each node
    unless names of nodes count.
    """
    set_attr(node, "shared_name", name.encode())
    if any(a.name == "use_node_name_sharing" for a in graph.op_def(node.op).attr):
        set_attr(node, "use_node_name_sharing", True)


def _digest(
    variant: VariantGraph, node: node_def_pb2.NodeDef, fillers: List[str]
) -> bytes:
    digest = hashlib.sha256(node.SerializeToString(deterministic=True))
    for name in variant.graph.slice(["^" + filler for filler in fillers]):
        filler = variant.graph.nodes[name]
        digest.update(filler.SerializeToString(deterministic=True))
        if name in variant.captures:
            digest.update(variant.captures[name].key.encode())
    return digest.digest()


def create_function(table: Table, name: str) -> FunctionWriter:
    """The function that hands out the table's handle."""
    graph = table.variant.graph
    node = node_def_pb2.NodeDef()
    node.CopyFrom(graph.nodes[table.node])
    set_shared_name(graph, node, table.name)
    inputs = [tensor for tensor in node.input if not tensor.startswith("^")]
    names = graph.slice(inputs) if inputs else []
    writer = FunctionWriter(name, names + [node.name])
    resolve = emit(graph, writer, names, {}, {})
    writer.copy(node, [resolve(tensor) for tensor in inputs])
    output = graph.outputs(node.name)[0]
    tensor = "{}:{}:{}".format(node.name, output.arg, output.number)
    writer.result("handle", DT_RESOURCE, tensor, make_shape([]))
    writer.stateful = True
    return writer


def initialize_function(table: Table, name: str) -> FunctionWriter:
    """The function that fills the table, and returns a scalar."""
    graph = table.variant.graph
    names = graph.slice(["^" + filler for filler in table.fillers])
    writer = FunctionWriter(name, names)
    emit(graph, writer, names, {}, table.variant.captures)
    one = writer.node(
        "Const",
        "done",
        control=table.fillers,
        dtype=("type", DT_INT32),
        value=_scalar_one(),
    )
    for filler in table.fillers:
        writer.control_result(filler)
    writer.result("done", DT_INT32, one + ":output:0", make_shape([]))
    return writer


def destroy_function(name: str) -> FunctionWriter:
    """The function that runs when an object that has the table goes: it does nothing.

    So do those that TensorFlow writes. ``tf.saved_model.save`` makes a copy of each
    table's object, whose end would be that of the table in use.
    """
    writer = FunctionWriter(name)
    one = writer.node("Const", "done", dtype=("type", DT_INT32), value=_scalar_one())
    writer.result("done", DT_INT32, one + ":output:0", make_shape([]))
    return writer


def _scalar_one() -> attr_value_pb2.AttrValue:
    value = attr_value_pb2.AttrValue()
    value.tensor.dtype = DT_INT32
    value.tensor.tensor_shape.SetInParent()
    value.tensor.int_val.append(1)
    return value
