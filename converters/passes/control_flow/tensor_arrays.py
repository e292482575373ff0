"""Rewrites TensorArrays as TensorLists.

::

    before:  TensorArrayV3 -> handle, flow
             TensorArrayWriteV3(handle, i, x, flow) -> flow
    after:   TensorListReserve -> list
             TensorListSetItem(list, i, x) -> list

A TensorArray is a resource with a *handle*, and a *flow*, a float that orders what is
done to it. A TensorList is a value, a variant: it goes where the flow went, and the
handle disappears. Arrays that are gathered from are stacked first: the gradient of
TensorListGather keeps one of several rows of the same index. Arrays of strings that are
unstacked and only read stay tensors.

Left alone, with the reason of ``NotUnderstood``: arrays of ``tf.gradients``, and arrays
whose handle or flow takes another way.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Set

from hub_compat._tf import node_def_pb2

from ...ir.attributes import set_attr
from ...ir.builder import Builder, Input, Tensor
from ...ir.constants import int32_tensor, int32_value, shape_of
from ...ir.dtypes import DT_INT32, DT_INT64, DT_STRING, DT_VARIANT
from ...ir.graph import (
    Graph,
    attr_or_default,
    data_inputs,
    normal,
    split_tensor,
)
from ...ir.rewriter import Site
from .components import ARRAY, PASSES_ON, STACKS
from .regions import NotUnderstood
from .static_sizes import computed_alike, length, range_limit

__all__ = ["make_lists"]

_FLOW_INPUTS = ("flow_in",)

# What ScatterNd puts together on each device: half, float, double, int32, int64.
_SCATTERED = (19, 1, 2, 3, 9)


# Given:
#     array = TensorArrayV3(limit)                       array:0 handle, array:1 flow
#     flow/enter = Enter(array:1)
#     write = TensorArrayWriteV3(array/enter, i, x, flow/switch:1)
#     y = TensorArrayReadV3(array, last, flow/exit)
# Result:
#     array = TensorListReserve(shape, limit)            array:0 the list
#     flow/enter = Enter(array)
#     write = TensorListSetItem(flow/switch:1, i, x)
#     y = TensorListGetItem(flow/exit, last, shape)
#
# Afterwards, no node takes a handle of an array, and what was a flow (float32) is a
# list (variant). A loop hands it on like any other loop-carried variable.
#
# After hoisting. Before loops become functions: a While hands on values, and the list
# is one.
def make_lists(graph: Graph, names: List[str]) -> List[str]:
    """Rewrites the TensorArrays among some nodes.

    Args:
      graph: the graph.
      names: the nodes, in topological order.

    Returns:
      The nodes that there are then.
    """
    if not any(graph.nodes[name].op.startswith((ARRAY,) + STACKS) for name in names):
        return names
    kinds = _kinds(graph, names)
    origins = _origins(graph, names, kinds)
    arrays = _Arrays(graph, kinds, _unstacked_strings(graph, origins))
    for name in names:
        node = graph.nodes[name]
        if node.op.startswith(ARRAY):
            rewrite = getattr(arrays, "rewrite_" + node.op[len(ARRAY) :].lower(), None)
            if rewrite is None:
                raise NotUnderstood(name, "is a {}".format(node.op))
            arrays.rewriting = name
            rewrite(node)
        elif kinds.get(name) == "flow":
            whole = origins[name] in arrays.unstacked
            with graph.editing(name):
                if whole:
                    node.attr.pop("_output_shapes", None)
                set_attr(node, "T", ("type", DT_STRING if whole else DT_VARIANT))
    gone = {
        name
        for name, kind in kinds.items()
        if kind == "handle" and not graph.nodes[name].op.startswith("TensorList")
    }
    for name in gone:
        graph.remove(name)
    left = [name for name in names if name not in gone] + arrays.added
    for name in left:
        for i, edge in enumerate(graph.inputs(name)):
            if kinds.get(edge.node) == "array" and edge.tensor == edge.node + ":1":
                graph.set_input(name, i, edge.node)
        inputs = graph.nodes[name].input
        graph.set_inputs(name, [i for i in inputs if i.lstrip("^") not in gone])
    return left


# Kinds: "array" makes both (output 0 the handle, output 1 the flow), "handle" and
# "flow" pass one of them on. A node that is not in the answer has neither.
def _kinds(graph: Graph, names: Sequence[str]) -> Dict[str, str]:
    """Which nodes hand on an array's handle, and which its flow."""
    kinds: Dict[str, str] = {}
    for name in names:
        op = graph.nodes[name].op
        if op in STACKS or op.startswith(ARRAY + "Grad"):
            raise NotUnderstood(
                name, "keeps a value for a gradient in the graph (tf.gradients)"
            )
        if op == "TensorArrayV3":
            kinds[name] = "array"
            continue
        edges = data_inputs(graph, name)
        if op.startswith(ARRAY):
            declared = graph.op_def(op).input_arg
            for arg, edge in zip(declared, edges):
                kind = _kind(kinds, edge.tensor, edge.node)
                if (kind == "flow") != (arg.name in _FLOW_INPUTS):
                    raise NotUnderstood(
                        name, "has no flow of a TensorArray as an input"
                    )
            if any(o.arg == "flow_out" for o in graph.outputs(name)):
                kinds[name] = "flow"
            continue
        found = {_kind(kinds, edge.tensor, edge.node) for edge in edges}
        if op == "Merge":
            # What comes back around a loop has no kind yet.
            back = [e for e in edges if graph.nodes[e.node].op == "NextIteration"]
            if back:
                found.discard("")
        if found == {""} or not found:
            continue
        kind = _kind(kinds, edges[0].tensor, edges[0].node)
        if op not in PASSES_ON or not kind or found - {kind, ""}:
            raise NotUnderstood(
                name,
                "is not an op of TensorArrays, but has one, or its flow, as an input",
            )
        kinds[name] = kind
    return kinds


def _kind(kinds: Dict[str, str], tensor: str, node: str) -> str:
    kind = kinds.get(node, "")
    if kind == "array":
        return "flow" if tensor.endswith(":1") else "handle"
    return kind


def _origins(
    graph: Graph, names: Sequence[str], kinds: Mapping[str, str]
) -> Dict[str, str]:
    """The TensorArrayV3 behind each node of an array; "" for one of several."""
    found: Dict[str, str] = {}
    for name in names:
        op = graph.nodes[name].op
        if op == "TensorArrayV3":
            found[name] = name
        elif op.startswith(ARRAY) or name in kinds:
            edges = data_inputs(graph, name)
            if op.startswith(ARRAY):
                edges = edges[:1]
            behind = {found[edge.node] for edge in edges if edge.node in found}
            found[name] = behind.pop() if len(behind) == 1 else ""
    return found


def _unstacked_strings(graph: Graph, origins: Mapping[str, str]) -> Set[str]:
    """The arrays of strings that are filled at once, and then read only.

    Those are tensors, whose rows are read: TensorFlow asks for the gradient of a list
    of strings in a loop, as a list may hold anything, and cannot make one of zeros.
    """
    ops: Dict[str, Set[str]] = {}
    filling: Dict[str, List[str]] = {}
    for name, origin in origins.items():
        op = graph.nodes[name].op
        if op.startswith(ARRAY) and op != "TensorArrayCloseV3":
            ops.setdefault(origin, set()).add(op)
        if any(edge.tensor == origin + ":1" for edge in graph.inputs(name)):
            filling.setdefault(origin, []).append(op)
    return {
        origin
        for origin, found in ops.items()
        if origin
        and graph.nodes[origin].attr["dtype"].type == DT_STRING
        and found == {ARRAY + "V3", ARRAY + "ReadV3", ARRAY + "ScatterV3"}
        and filling.get(origin) == [ARRAY + "ScatterV3"]
    }


class _Arrays:
    """Rewrites the ops of arrays.

    Attributes:
      unstacked: the arrays that become a tensor.
      added: the names of new nodes.
      rewriting: the node in whose place they are.
    """

    def __init__(
        self, graph: Graph, kinds: Dict[str, str], unstacked: Set[str]
    ) -> None:
        self._graph = graph
        self.unstacked = unstacked
        self._kinds = kinds
        # The TensorArrayV3 nodes as they were, by name: the ops of an array need its
        # dtype and element_shape after the node itself has become a list.
        self._arrays: Dict[str, Any] = {}
        self.added: List[str] = []
        self.rewriting = ""

    def _node(self, op: str, suffix: str, *inputs: Input, **attrs: Any) -> Tensor:
        build = Builder(self._graph)
        name = "{}/{}".format(self.rewriting, suffix)
        result = build.op(op, *inputs, name=name, **attrs)
        self.added += build.added
        return result

    def _constant(self, suffix: str, value: Any, dtype: int = DT_INT32) -> Tensor:
        return self._node("Const", suffix, dtype=dtype, value=value)

    def _become(self, node: Any, op: str, *inputs: Input, **attrs: Any) -> None:
        """Makes another op of a node."""
        if "_output_shapes" in node.attr and op != "TensorListReserve":
            attrs["_output_shapes"] = node.attr["_output_shapes"]
        self._site(node).become(op, *inputs, **attrs)

    def _site(self, node: Any) -> Site:
        return Site(self._graph, node, self._graph.op_def(node.op))

    def _inputs(self, node: Any) -> List[Tensor]:
        return self._site(node).inputs

    def _array(self, handle: str) -> Any:
        """The TensorArrayV3 behind a handle, as it was."""
        while True:
            name, _ = split_tensor(normal(handle))
            if name in self._arrays:
                return self._arrays[name]
            handle = self._graph.nodes[name].input[0]

    def _shape(self, shape: Any, prefix: Sequence[int] = ()) -> Tensor:
        """An int32 Const of a shape: -1 where it is unknown."""
        if shape is None or shape.unknown_rank:
            value = int32_tensor(-1)
        else:
            sizes = list(prefix) + [dim.size for dim in shape.dim]
            value = int32_tensor(*sizes, scalar=False)
        return self._constant("shape", value)

    def _element_shape(self, node: Any, rows: bool = False) -> Tensor:
        """The shape of an array's elements, of what is known to a node of it.

        Args:
          node: the node.
          rows: whether the node's own output holds elements as its rows.
        """
        array = self._array(node.input[0])
        shape = attr_or_default(
            array, self._graph.op_def("TensorArrayV3"), "element_shape"
        ).shape
        if shape.unknown_rank and "element_shape" in node.attr:
            shape = node.attr["element_shape"].shape
        if shape.unknown_rank and self._graph.outputs(node.name)[0].arg == "value":
            found = shape_of(self._graph, node.name)
            if found is not None and not found.unknown_rank:
                shape = type(found)()
                shape.dim.extend(found.dim[1 if rows else 0 :])
        return self._shape(shape)

    def _dtype(self, node: Any) -> int:
        return int(self._array(node.input[0]).attr["dtype"].type)

    def _dynamic(self, node: Any) -> bool:
        array = self._array(node.input[0])
        return "dynamic_size" in array.attr and array.attr["dynamic_size"].b

    # Given: an array of dynamic size, and an index that may lie past its end
    # Result:
    #     grown = TensorListResize(list, Maximum(TensorListLength(list), index + 1))
    #
    # TensorListSetItem refuses such an index; TensorArrayWrite makes room.
    def _grown(self, tensors: Tensor, most: Tensor) -> Tensor:
        """A list with place for an element, as an array of dynamic size finds it."""
        length = self._node("TensorListLength", "length", tensors)
        one = self._constant("one", int32_tensor(1))
        wanted = self._node("AddV2", "wanted", most, one)
        size = self._node("Maximum", "size", length, wanted)
        return self._node("TensorListResize", "grown", tensors, size)

    def rewrite_v3(self, node: Any) -> None:
        """TensorArrayV3: makes the array."""
        old = node_def_pb2.NodeDef()
        old.CopyFrom(node)
        self._arrays[node.name] = old
        shape = attr_or_default(
            node, self._graph.op_def(node.op), "element_shape"
        ).shape
        self._become(
            node,
            "TensorListReserve",
            self._shape(shape),
            *self._inputs(node),
            element_dtype=node.attr["dtype"].type,
        )

    def rewrite_writev3(self, node: Any) -> None:
        """TensorArrayWriteV3: sets an element."""
        _, index, value, flow = self._inputs(node)
        if self._dynamic(node):
            flow = self._grown(flow, index)
        self._become(node, "TensorListSetItem", flow, index, value)

    def rewrite_readv3(self, node: Any) -> None:
        """TensorArrayReadV3: an element."""
        handle, index, flow = self._inputs(node)
        if self._array(handle).name in self.unstacked:
            self._become_rows(node, flow, index)
            return
        shape = self._element_shape(node)
        dtype = self._dtype(node)
        self._become(node, "TensorListGetItem", flow, index, shape, element_dtype=dtype)

    def _become_rows(self, node: Any, tensor: Tensor, indices: Tensor) -> None:
        """Makes a GatherV2 of a node."""
        zero = self._constant("axis", int32_tensor(0))
        rows = Tensor(tensor, self._dtype(node))
        self._become(node, "GatherV2", rows, indices, zero)

    def rewrite_sizev3(self, node: Any) -> None:
        """TensorArraySizeV3: the number of elements."""
        self._become(node, "TensorListLength", self._inputs(node)[1])

    def rewrite_closev3(self, node: Any) -> None:
        """TensorArrayCloseV3: frees memory that a list does not hold."""
        self._become(node, "NoOp")

    # Given: rows = TensorArrayGatherV3(array, indices, flow)
    # Result:
    #     rows = TensorListStack(flow)                      indices are all, in order
    #     rows = GatherV2(TensorListStack(flow), indices)   otherwise
    def rewrite_gatherv3(self, node: Any) -> None:
        """TensorArrayGatherV3: some elements as the rows of a tensor.

        TensorListGather would be the op of that name, but its gradient keeps one of
        the rows that an index occurs in, where TensorArray's adds them up.
        """
        _, indices, flow = self._inputs(node)
        shape = self._element_shape(node, rows=True)
        attrs = {"element_dtype": self._dtype(node), "num_elements": -1}
        if self._all_of_array(indices, node):
            self._become(node, "TensorListStack", flow, shape, **attrs)
            return
        stacked = self._node("TensorListStack", "stacked", flow, shape, **attrs)
        # TF 1.15 hands the IndexedSlices that are the gradient of a gather to that of
        # the stack, which fails; the gradient of a Reshape is dense.
        whole = self._node("Shape", "whole", stacked, out_type=DT_INT32)
        dense = self._node("Reshape", "dense", stacked, whole)
        self._become_rows(node, dense, indices)

    # Given: flow = TensorArrayScatterV3(array, indices, value, flow_in)
    # Result, the first that fits:
    #     Identity(value)                              strings that are only read
    #     TensorListFromTensor(value)                  indices are all of an empty array
    #     TensorListScatterIntoExistingList(grown)     an array of dynamic size
    #     TensorListFromTensor(ScatterNd(...))         nothing was written before
    #     TensorListScatterIntoExistingList(flow_in)   otherwise
    def rewrite_scatterv3(self, node: Any) -> None:
        """TensorArrayScatterV3: sets elements to the rows of a tensor."""
        _, indices, value, flow = self._inputs(node)
        dtype = self._dtype(node)
        if self._array(node.input[0]).name in self.unstacked:
            # There are as many rows as indices, or the op fails.
            if range_limit(self._graph, indices) is not None:
                node.attr.pop("_output_shapes", None)
                self._become(node, "Identity", Tensor(value, dtype))
                return
            self.unstacked.remove(self._array(node.input[0]).name)
        if self._fills_array(indices, value, flow, node):
            shape = self._element_shape(node)
            self._become(node, "TensorListFromTensor", value, shape)
            return
        if self._dynamic(node):
            zero = self._constant("axis", int32_tensor(0))
            most = self._node("Max", "most", indices, zero, keep_dims=False)
            flow = self._grown(flow, most)
        elif self._is_first(node) and dtype in _SCATTERED:
            # XLA has no kernel of TensorListScatterIntoExistingList.
            rows = self._scattered(node, indices, value)
            shape = self._element_shape(node)
            self._become(node, "TensorListFromTensor", rows, shape)
            return
        self._become(node, "TensorListScatterIntoExistingList", flow, value, indices)

    def _is_first(self, node: Any) -> bool:
        """Whether nothing was written to an array before."""
        flow = normal(self._inputs(node)[3])
        return bool(flow == self._array(node.input[0]).name + ":1")

    def _scattered(self, node: Any, indices: Tensor, value: Tensor) -> Tensor:
        """The rows of a tensor in the places that they have in an array."""
        one, all_of, axis, last = (
            self._constant("number", number)
            for number in (
                int32_tensor(1, scalar=False),
                int32_tensor(2**31 - 1, scalar=False),
                int32_tensor(0),
                int32_tensor(1),
            )
        )
        shape = self._node("Shape", "shape", value, out_type=DT_INT32)
        rest = self._node("StridedSlice", "rest", shape, one, all_of, one, end_mask=1)
        count = Tensor(self._array(node.input[0]).input[0], DT_INT32)
        size = self._node("ExpandDims", "size", count, axis)
        whole = self._node("ConcatV2", "whole", [size, rest], axis)
        places = self._node("ExpandDims", "places", indices, last)
        return self._node("ScatterNd", "scattered", places, value, whole)

    def rewrite_splitv3(self, node: Any) -> None:
        """TensorArraySplitV3: sets all elements to parts of a tensor."""
        _, value, lengths, _ = self._inputs(node)
        shape = attr_or_default(
            self._array(node.input[0]),
            self._graph.op_def("TensorArrayV3"),
            "element_shape",
        ).shape
        self._become(node, "TensorListSplit", value, self._shape(shape), lengths)

    def rewrite_concatv3(self, node: Any) -> None:
        """TensorArrayConcatV3: all elements, one after the other."""
        _, flow = self._inputs(node)
        shape = self._site(node).attr("element_shape_except0").shape
        none = int32_tensor(scalar=False)
        none.tensor.dtype = DT_INT64
        dims = self._constant("leading_dims", none, DT_INT64)
        self._become(
            node,
            "TensorListConcatV2",
            flow,
            self._shape(shape, [-1]),
            dims,
            element_dtype=self._dtype(node),
        )

    def _all_of_array(self, indices: str, node: Any) -> bool:
        """Whether indices are range(0, the size of the same array)."""
        limit = range_limit(self._graph, indices)
        if limit is None:
            return False
        size = self._graph.node(split_tensor(normal(limit))[0])
        if size.op == "TensorListLength":
            # Rewritten already: before it, as its result is needed here.
            return self._origin(size.input[0]) == self._origin(self._inputs(node)[2])
        return False

    def _fills_array(self, indices: str, value: str, flow: str, node: Any) -> bool:
        """Whether indices are range(0, the size of an array that is still empty)."""
        limit = range_limit(self._graph, indices)
        array, _ = split_tensor(normal(flow))
        if limit is None or array not in self._arrays:
            return False
        if self._dynamic(node):
            # An array of dynamic size has at least the size that it began with.
            return int32_value(self._graph, self._arrays[array].input[0]) == 0
        size = self._arrays[array].input[0]
        if computed_alike(self._graph, limit, size):
            return True
        # The size is a constant where it was known when the graph was made.
        fixed = int32_value(self._graph, size)
        return fixed is not None and fixed == length(self._graph, limit, value)

    def _origin(self, flow: str) -> str:
        """The array that a list began as."""
        while True:
            name, _ = split_tensor(normal(flow))
            if name in self._arrays:
                return name
            node = self._graph.nodes[name]
            if node.op in ("TensorListFromTensor", "TensorListSplit"):
                return name
            flow = node.input[0]
