"""The functions that make, fill and destroy a table."""

from __future__ import annotations

from hub_compat._tf import attr_value_pb2, node_def_pb2

from ..ir.dtypes import DT_INT32, DT_RESOURCE
from ..ir.functions import FunctionWriter, emit
from ..ir.model import Table
from ..ir.signatures import make_shape
from ..ir.tables import set_shared_name

__all__ = ["create_function", "destroy_function", "initialize_function"]


# Given: table = HashTableV2 {shared_name: "words"}
# Result:
#     create_table_words():     HashTableV2 {shared_name: "words"} -> handle
#     initialize_table_words(): the fillers -> done = 1
#     destroy_...():            done = 1
#
# The shared name is what makes the table of create and of initialize one: each function
# runs by itself.
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
