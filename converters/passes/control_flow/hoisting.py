"""Moves reads of variables and tables before loops and conditionals.

::

    before:  handle -> Enter -> ReadVariableOp (in each iteration)
    after:   handle -> ReadVariableOp -> Enter -> Identity

TensorFlow 2 silently gives a variable that is read in a loop within a loop a gradient
of zero, and fails at one that is read in a conditional within a loop. Values pass
through them. TF 1.15 fails at the gradient of an If or While that takes the handle of a
table.
1. A variable that nothing wrote before is read outside.
2. A table whose keys come from outside is looked up outside.
3. Where keys are computed inside, the table is named there: loaders make the names of
   resources others for each load, and the same in all of its functions.
4. A product of concatenated matrices with one that stays the same becomes a sum of
   products.

Left alone: reads after a write, and handles that are computed inside.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from hub_compat._tf import node_def_pb2

from ...ir.builder import Builder, Input, Tensor
from ...ir.constants import int32_tensor, int32_value, shape_of
from ...ir.dtypes import DT_DOUBLE, DT_FLOAT, DT_RESOURCE
from ...ir.functions import set_attr
from ...ir.graph import (
    CONTROL_FLOW_OPS,
    Edge,
    Graph,
    attr_or_default,
    data_inputs,
    node_of,
    split_tensor,
)
from ...ir.rewriter import Site
from ...ir.tables import is_table, set_shared_name, shared_name
from ...ir.variable_reads import READS
from .regions import Regions, is_invariant

__all__ = ["read_before"]

_LOOK_UPS = ("LookupTableFindV2", "LookupTableSizeV2")


class _Way(NamedTuple):
    """How a tensor comes into loops and conditionals.

    Attributes:
      origin: the tensor outside of all of them.
      steps: the nodes that it passes, the innermost first, and their outputs.
    """

    origin: str
    steps: Tuple[Tuple[str, int], ...]


# Given:
#     weights/enter = Enter(weights) {is_constant: true}
#     value = ReadVariableOp(weights/enter, ^a/switch)     in each iteration
#     product = Mul(a/switch:1, value)
# Result:
#     weights/before/read = ReadVariableOp(weights)        once, before the loop
#     weights/enter/value = Enter(weights/before/read) {is_constant: true}
#     value = Identity(weights/enter/value, ^a/switch)
#
# Afterwards, a read that is left inside comes after a write, has a handle from
# inside, or has a form of its own (another dtype, batch_dims).
#
# After components are found, and before lists and functions are written: the copies of
# Enters and Switches belong to the component whose reads they serve.
def read_before(
    graph: Graph, names: List[str], regions: Regions, written: Mapping[str, List[str]]
) -> List[str]:
    """Moves reads out of the loops and conditionals that some nodes are.

    Args:
      graph: the graph.
      names: the nodes.
      regions: where they are.
      written: see ``written_resources``. What comes after a write stays where it is.

    Returns:
      The nodes that were added to the loops and conditionals.
    """
    hoisting = _Hoisting(graph, regions, written)
    for name in names:
        if regions.frames.get(name) or regions.guards.get(name):
            if graph.nodes[name].op in READS:
                hoisting.read(name)
            elif graph.nodes[name].op not in _LOOK_UPS or not hoisting.look_up(name):
                hoisting.name_tables(name)
    for name in names:
        if regions.frames.get(name) and graph.nodes[name].op == "MatMul":
            hoisting.split_product(name)
    return hoisting.added


class _Hoisting:
    """Moves reads, with a copy of the way that the resource takes to them.

    Attributes:
      added: the new nodes inside of loops and conditionals.
    """

    def __init__(
        self, graph: Graph, regions: Regions, written: Mapping[str, List[str]]
    ) -> None:
        self._graph = graph
        self._regions = regions
        self._written = written
        # What was added already, by what it is for, so that each read is made once:
        # (handle,) -> its value; (constant,) -> its free copy;
        # (matrix, "split", widths...) -> its columns;
        # (Enter or Switch, tensor) -> the copy that brings the tensor in.
        self._known: Dict[Tuple[str, ...], str] = {}
        self.added: List[str] = []

    def read(self, name: str) -> None:
        """Moves a read of a variable."""
        graph = self._graph
        node = graph.nodes[name]
        edges = data_inputs(graph, name)
        way = self._way(edges[0].tensor)
        handle = graph.nodes[split_tensor(way.origin)[0]] if way is not None else None
        if way is None or handle is None or handle.op != "VarHandleOp":
            return
        dtype = handle.attr["dtype"].type
        if self._after_write(name, handle.name) or (
            "dtype" in node.attr and node.attr["dtype"].type != dtype
        ):
            return
        value = self._brought(self._value(handle), way.steps, dtype)
        if node.op == "ReadVariableOp":
            self._become(node, "Identity", value)
        elif node.op == "VariableShape":
            out = attr_or_default(node, graph.op_def(node.op), "out_type").type
            self._become(node, "Shape", value, out_type=out)
        elif not attr_or_default(node, graph.op_def(node.op), "batch_dims").i:
            axis = Builder(graph).constant(int32_tensor(0), name=name + "/axis")
            self._become(node, "GatherV2", value, graph.tensor(edges[1].tensor), axis)

    def look_up(self, name: str) -> bool:
        """Moves a look-up in a table whose keys come from outside; whether it did."""
        graph = self._graph
        node = graph.nodes[name]
        ways = [self._way(edge.tensor) for edge in data_inputs(graph, name)]
        origins = [way.origin for way in ways if way is not None]
        if len(origins) < len(ways):
            return False
        if self._after_write(name, split_tensor(origins[0])[0]):
            return False
        before = node_def_pb2.NodeDef()
        before.CopyFrom(node)
        before.name = graph.unique_name(name + "/before")
        del before.input[:]
        before.input.extend(origins)
        graph.replace(before)
        dtype = graph.outputs(name)[0].dtype
        assert ways[0] is not None
        value = self._brought(before.name + ":0", ways[0].steps, dtype)
        self._become(node, "Identity", value)
        return True

    # Given: in each iteration
    #     both = ConcatV2(input, state, 1);  gates = MatMul(both, kernel)
    # Result:
    #     kernel/split = SplitV(kernel, [widths of both], 0)        before the loop
    #     gates = AddN(MatMul(input, kernel/split:0), MatMul(state, kernel/split:1))
    def split_product(self, name: str) -> None:
        """Makes a sum of a product of concatenated matrices and what stays the same.

        The cells of TF1 multiply ``[input, state]`` by one matrix, those of Keras each
        by its own. Per iteration the first costs a concatenation, its gradient, and a
        gradient of twice the size, which the caches often do not hold: of 100 steps of
        an LSTM, twice the time (``make bench``). Where types are narrower than
        float32, the sum would be less exact.
        """
        graph = self._graph
        node = graph.nodes[name]
        dtype = node.attr["T"].type
        turned = {
            side: attr_or_default(node, graph.op_def("MatMul"), "transpose_" + side).b
            for side in "ab"
        }
        left, right = data_inputs(graph, name)
        parts, widths = self._columns(left.tensor)
        way = self._way(right.tensor)
        if (
            way is None
            or len(parts) < 2
            or dtype not in (DT_FLOAT, DT_DOUBLE)
            or turned["a"]
        ):
            return
        key = (way.origin, "split") + tuple(map(str, widths))
        if key not in self._known:
            split = graph.unique_name(node_of(way.origin) + "/split")
            build = Builder(graph)
            sizes = int32_tensor(*widths, scalar=False)
            axis = int32_tensor(int(turned["b"]))
            self._known[key] = build.op(
                "SplitV",
                graph.tensor(way.origin),
                build.constant(sizes, name=split + "/sizes"),
                build.constant(axis, name=split + "/axis"),
                name=split,
                num_split=len(widths),
            )
        products = []
        for i, part in enumerate(parts):
            product = node_def_pb2.NodeDef()
            product.CopyFrom(node)
            product.name = graph.unique_name("{}/part_{}".format(name, i))
            weights = "{}:{}".format(self._known[key], i)
            product.input[:2] = [part, self._brought(weights, way.steps, dtype)]
            graph.replace(product)
            self.added.append(product.name)
            products.append(graph.tensor(product.name))
        self._become(node, "AddN", products)

    def _columns(self, tensor: str) -> Tuple[List[str], List[int]]:
        """The matrices that one is a concatenation of, and their widths, if known."""
        graph = self._graph
        name, _ = split_tensor(tensor)
        if graph.nodes[name].op != "ConcatV2" or not self._regions.frames.get(name):
            return [], []
        edges = data_inputs(graph, name)
        if int32_value(graph, edges.pop().tensor) not in (1, -1):
            return [], []
        shapes = [shape_of(graph, edge.tensor) for edge in edges]
        if any(shape is None or len(shape.dim) != 2 for shape in shapes):
            return [], []
        widths = [int(shape.dim[1].size) for shape in shapes]
        if min(widths) < 0:
            return [], []
        return [edge.tensor for edge in edges], widths

    # Given: in a loop
    #     ids = LookupTableFindV2(table/enter, keys, unknown)     keys from inside
    # Result:
    #     ids/table = HashTableV2(^keys) {shared_name: that of table}
    #     ids = LookupTableFindV2(ids/table, keys, unknown)
    def name_tables(self, name: str) -> None:
        """Gives a node the tables that it takes by their names."""
        graph = self._graph
        edges = data_inputs(graph, name)
        resources = {
            i
            for i, e in enumerate(edges)
            if graph.output(e.tensor).dtype == DT_RESOURCE
        }
        # What is computed inside says where the table is.
        inside = [
            edge.node
            for i, edge in enumerate(edges)
            if i not in resources and graph.nodes[edge.node].op not in CONTROL_FLOW_OPS
        ]
        for i in sorted(resources if inside else ()):
            way = self._way(edges[i].tensor)
            table = None if way is None else graph.nodes[split_tensor(way.origin)[0]]
            # One that is made of constants is handed in.
            if (
                table is not None
                and is_table(graph, table.op)
                and not data_inputs(graph, table.name)
            ):
                named = node_def_pb2.NodeDef()
                named.CopyFrom(table)
                named.name = graph.unique_name(name + "/table")
                named.input.append("^" + inside[0])
                set_shared_name(graph, named, shared_name(graph, table))
                graph.replace(named)
                self.added.append(named.name)
                graph.set_input(name, i, named.name)

    def _after_write(self, name: str, resource: str) -> bool:
        """Whether a node reads what the graph may have written before.

        A write that waits for the read waits for it wherever it is.
        """
        writers = self._written.get(resource, [])
        if not writers:
            return False
        # A write of a loop comes before the reads of the next iteration.
        if any(self._regions.frames.get(writer) for writer in writers):
            return True
        return not set(writers).isdisjoint(self._graph.slice(["^" + name]))

    def _way(self, tensor: str) -> Optional[_Way]:
        """How a tensor comes in; None if it is computed inside."""
        graph = self._graph
        steps: List[Tuple[str, int]] = []
        while True:
            name, index = split_tensor(tensor)
            node = graph.nodes[name]
            if node.op == "Const":
                return _Way(self._constant(name), tuple(steps))
            plain = node.op == "Identity" and all(
                self._is_iteration(edge) for edge in graph.inputs(name)[1:]
            )
            if plain or node.op == "Switch" or is_invariant(graph, name):
                steps.append((name, index))
                tensor = graph.inputs(name)[0].tensor
                continue
            regions = self._regions
            if regions.frames.get(name) or regions.guards.get(name):
                return None
            return _Way(tensor, tuple(steps))

    def _is_iteration(self, edge: Edge) -> bool:
        """Whether an edge only says that a loop goes on."""
        graph = self._graph
        inputs = graph.inputs(edge.node)
        return (
            edge.tensor.startswith("^")
            and graph.nodes[edge.node].op == "Identity"
            and len(inputs) == 1
            and graph.nodes[inputs[0].node].op == "Switch"
            and not self._regions.is_branching(inputs[0].node)
        )

    def _constant(self, name: str) -> str:
        """A constant, as one that nothing needs to run before."""
        if not self._graph.nodes[name].input:
            return name + ":0"
        key = (name,)
        if key not in self._known:
            constant = node_def_pb2.NodeDef()
            constant.CopyFrom(self._graph.nodes[name])
            constant.name = self._graph.unique_name(name + "/before")
            del constant.input[:]
            self._graph.replace(constant)
            self._known[key] = constant.name + ":0"
        return self._known[key]

    def _value(self, handle: Any) -> str:
        """The value of a variable, read outside of all loops and conditionals."""
        key = (handle.name,)
        if key not in self._known:
            read = Builder(self._graph).op(
                "ReadVariableOp",
                self._graph.tensor(handle.name),
                name=handle.name + "/before/read",
                dtype=handle.attr["dtype"],
            )
            self._known[key] = read + ":0"
        return self._known[key]

    # Given: value, and the way of another tensor: Enter "loop", then Switch p
    # Result:
    #     enter/value = Enter(value);  switch/value = Switch(enter/value, p)
    def _brought(
        self, tensor: str, steps: Tuple[Tuple[str, int], ...], dtype: int
    ) -> Tensor:
        """A tensor from outside, brought in as another one came."""
        origin = tensor
        for name, index in reversed(steps):
            node = self._graph.nodes[name]
            if node.op == "Identity":
                continue
            key = (name, origin)
            if key not in self._known:
                copy = node_def_pb2.NodeDef()
                copy.CopyFrom(node)
                copy.name = self._graph.unique_name(name + "/value")
                copy.input[0] = tensor
                copy.attr.pop("_output_shapes", None)
                set_attr(copy, "T", ("type", dtype))
                self._graph.replace(copy)
                self.added.append(copy.name)
                self._known[key] = copy.name
            tensor = "{}:{}".format(self._known[key], index)
        return Tensor(tensor, dtype)

    def _become(self, node: Any, op: str, *inputs: Input, **attrs: Any) -> None:
        """Makes another op of a node."""
        if "_output_shapes" in node.attr:
            attrs["_output_shapes"] = node.attr["_output_shapes"]
        site = Site(self._graph, node, self._graph.op_def(node.op))
        site.become(op, *inputs, **attrs)
