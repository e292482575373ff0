"""The state of a TF2 SavedModel as nodes of a TF1 graph: variables, tables, assets."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from hub_compat._tf import attr_value_pb2, variable_pb2
from hub_compat.errors import ConversionError

from ..ir.attributes import set_attr
from ..ir.dtypes import DT_INT32, DT_STRING
from ..ir.flat_graph import FlatGraph
from ..ir.graph import node_of
from ..ir.inlining import Inliner, Kind
from ..ir.names import Names, node_name
from ..ir.signatures import make_shape
from .objects import Objects

__all__ = ["State", "Variable", "find_variables"]

ASSET = b"SAVEDMODEL-ASSET"


class Variable(NamedTuple):
    """A variable of the result.

    Attributes:
      number: its object.
      name: its node, and its key in the new checkpoint.
      key: its key in the old checkpoint.
      trainable: whether training changes it.
      saved: the SavedVariable.
    """

    number: int
    name: str
    key: str
    trainable: bool
    saved: Any


def find_variables(
    objects: Objects, captured: Sequence[int], keys: Mapping[int, str]
) -> List[Variable]:
    """The variables that the result has, under names of their own.

    Args:
      objects: the object graph.
      captured: the objects that the functions use.
      keys: by object, its key in the checkpoint.

    Raises:
      ConversionError: a variable has no value in the checkpoint.
    """
    listed = objects.items(0, "variables") or []
    trained = objects.items(0, "trainable_variables")
    names = Names()
    found = []
    for number in dict.fromkeys(listed + list(captured)):
        if objects.kind(number) != "variable":
            continue
        saved = objects.proto.nodes[number].variable
        if number not in keys:
            raise ConversionError(
                "The checkpoint has no value of a variable that the model uses. Save "
                "the model again, with the variable as an attribute of one of its "
                "objects. Received: {!r}".format(saved.name)
            )
        trainable = saved.trainable if trained is None else number in trained
        name = names.take(node_name(saved.name.split(":")[0] or "Variable"))
        found.append(Variable(number, name, keys[number], trainable, saved))
    return found


# Given: a variable, an asset and a table that functions capture, by number of the
# object
# Result:
#     w = VarHandleOp;  w/Assign, w/Initializer/zeros, w/Read     as tf.Variable has
#     asset_path = Const
#     table = HashTableV2 {shared_name: its own name};  table/initialize = NoOp(^fill)
#
#     _tensors: number of the object -> its tensor, so that each is made once
#
# Initializers give zeros: the checkpoint has the values, but programs of TF1 run
# initializers first, and VariableDefs must name one.
class State:
    """Nodes for the objects that functions capture, each once.

    Attributes:
      graph: where they are.
      table_initializers: nodes that fill the tables.
      asset_nodes: nodes with the path of an asset, and its file name.
      definitions: by variable, its VariableDef.
    """

    def __init__(
        self,
        graph: FlatGraph,
        meta_graph: Any,
        objects: Objects,
        inliner: Inliner,
        variables: Sequence[Variable],
        served: bool = False,
    ) -> None:
        self.graph = graph
        self._served = served
        self._asset_values: Dict[int, str] = {}
        self._kept_paths: List[str] = []
        self.table_initializers: List[str] = []
        self.asset_nodes: Dict[str, str] = {}
        self.definitions: Dict[str, Any] = {}
        self._meta_graph = meta_graph
        self._objects = objects
        self._inliner = inliner
        self._constants = {node.name: node for node in meta_graph.graph_def.node}
        self._tensors: Dict[int, str] = {}
        # Each has its name before another node may take it.
        for variable in variables:
            graph.reserve(variable.name)
        for variable in variables:
            self._add_variable(variable)

    def tensor(self, number: int) -> str:
        """The tensor of an object.

        Raises:
          ConversionError: an object of that kind has none.
        """
        if number not in self._tensors:
            kind = self._objects.kind(number)
            if kind == "constant":
                self._tensors[number] = self._constant(number)
            elif kind == "asset":
                self._tensors[number] = self._asset(number)
            elif kind == "resource":
                self._add_table(number)
            else:
                raise ConversionError(
                    "A function of the model uses an object of a kind that a TF1 "
                    "graph does not have. Received: {!r}".format(kind)
                )
        return self._tensors[number]

    def tensors(self, function: str, initializes: bool = False) -> List[str]:
        """The tensors that a function captures.

        Args:
          function: its name.
          initializes: whether it is run by an initializer.
        """
        return self.tensors_of(self._objects.bound(function), initializes)

    def tensors_of(
        self, numbers: Sequence[int], initializes: bool = False
    ) -> List[str]:
        """The tensors of some objects, as functions take them."""
        found = []
        for number in numbers:
            tensor = self.tensor(number)
            if self._served and not initializes and node_of(tensor) in self.asset_nodes:
                tensor = self._kept_path(number, tensor)
            found.append(tensor)
        return found

    def initializers(self) -> List[str]:
        """What a session runs after it has restored variables."""
        return self.table_initializers + self._kept_paths

    def _kept_path(self, number: int, constant: str) -> str:
        """An asset's path for calls, where a loader feeds it to initializers only."""
        if number not in self._asset_values:
            text, name = ("type", DT_STRING), node_of(constant)
            handle = self.graph.node(
                "VarHandleOp",
                name + "/variable",
                dtype=text,
                shape=("shape", make_shape([])),
                shared_name=(name + "/variable").encode(),
                container=b"",
            )
            self._kept_paths.append(
                self.graph.node(
                    "AssignVariableOp",
                    name + "/assign",
                    [handle + ":0", constant],
                    dtype=text,
                )
            )
            read = self.graph.node(
                "ReadVariableOp", name + "/read", [handle + ":0"], dtype=text
            )
            self._asset_values[number] = read + ":0"
        return self._asset_values[number]

    # ---- variables

    def _add_variable(self, variable: Variable) -> None:
        graph, name, saved = self.graph, variable.name, variable.saved
        dtype = ("type", saved.dtype)
        graph.named(
            "VarHandleOp",
            name,
            dtype=dtype,
            shape=("shape", saved.shape),
            shared_name=name.encode(),
            container=b"",
        )
        handle = name + ":0"
        self._tensors[variable.number] = handle
        sizes = [max(dim.size, 0) for dim in saved.shape.dim]
        shape = graph.node(
            "Const",
            name + "/Initializer/zeros/shape_as_tensor",
            dtype=("type", DT_INT32),
            value=_vector(sizes),
        )
        zero = graph.node(
            "Const",
            name + "/Initializer/zeros/Const",
            dtype=dtype,
            value=_zero(saved.dtype),
        )
        zeros = graph.node(
            "Fill",
            name + "/Initializer/zeros",
            [shape + ":0", zero + ":0"],
            T=dtype,
            index_type=("type", DT_INT32),
        )
        graph.node(
            "VarIsInitializedOp",
            name + "/IsInitialized/VarIsInitializedOp",
            [handle],
        )
        assign = graph.node(
            "AssignVariableOp", name + "/Assign", [handle, zeros + ":0"], dtype=dtype
        )
        read = graph.node(
            "ReadVariableOp", name + "/Read/ReadVariableOp", [handle], dtype=dtype
        )
        self.definitions[name] = variable_pb2.VariableDef(
            variable_name=handle,
            initializer_name=assign,
            snapshot_name=read + ":0",
            initial_value_name=zeros + ":0",
            is_resource=True,
            trainable=variable.trainable,
            synchronization=saved.synchronization,
            aggregation=saved.aggregation,
        )

    # ---- constants, assets, tables

    def _constant(self, number: int) -> str:
        name = self._objects.proto.nodes[number].constant.operation
        node = self._constants[name]
        attrs = {key: node.attr[key] for key in ("dtype", "value")}
        return self.graph.node("Const", node.name, **attrs) + ":0"

    def _asset(self, number: int) -> str:
        index = self._objects.proto.nodes[number].asset.asset_file_def_index
        filename = self._meta_graph.asset_file_def[index].filename
        value = attr_value_pb2.AttrValue()
        value.tensor.dtype = DT_STRING
        value.tensor.tensor_shape.SetInParent()
        value.tensor.string_val.append(ASSET)
        node = self.graph.node(
            "Const", "asset_path", dtype=("type", DT_STRING), value=value
        )
        self.asset_nodes[node] = filename
        return node + ":0"

    def _add_table(self, number: int) -> None:
        own = self._objects.children(number)
        create = self._objects.function(own["_create_resource"])
        made = FlatGraph()
        inlined = self._inliner.inline(made, create, self.tensors(create, True))
        (result,) = inlined.results
        names: Dict[str, str] = {}
        for name, node in made.nodes.items():
            inputs = [names[node_of(t)] + ":0" for t in node.input]
            names[name] = self.graph.node(
                node.op, node.name, inputs, **{key: node.attr[key] for key in node.attr}
            )
        table = names[node_of(result)]
        _take_no_inputs(self.graph.nodes[table])
        # Two tables of one name would be one in a session.
        set_attr(self.graph.nodes[table], "shared_name", table.encode())
        self._tensors[number] = table + ":0"
        self._initialize(number, table)

    def _initialize(self, number: int, table: str) -> None:
        own = self._objects.children(number)
        if "_initialize" not in own:
            return
        initialize = self._objects.function(own["_initialize"])
        self.graph.begin()
        inlined = self._inliner.inline(
            self.graph, initialize, self.tensors(initialize, True)
        )
        kinds = self._inliner.kinds
        done = [n for n in inlined.touched if kinds[n] in (Kind.WRITE, Kind.CHECK)]
        if done:
            node = self.graph.node("NoOp", table + "/initialize", (), done)
            self.table_initializers.append(node)


def _take_no_inputs(node: Any) -> None:
    """Makes a table that is made of nothing of a dense one.

    Of what has inputs, hub.Module makes another one for each application, and fills
    none of these. A dense table has keys that stand for free places. They are no
    entries, and neither are they in the other table.
    """
    if not node.op.startswith("MutableDenseHashTable"):
        return
    is_scalar = not node.attr["value_shape"].shape.dim
    node.op = "MutableHashTableV2" if is_scalar else "MutableHashTableOfTensorsV2"
    del node.input[:]
    for key in ("initial_num_buckets", "max_load_factor"):
        node.attr.pop(key, None)
    if is_scalar:
        node.attr.pop("value_shape", None)


def _vector(sizes: Sequence[int]) -> Any:
    value = attr_value_pb2.AttrValue()
    value.tensor.dtype = DT_INT32
    value.tensor.tensor_shape.dim.add().size = len(sizes)
    value.tensor.int_val.extend(sizes)
    return value


def _zero(dtype: int) -> Any:
    """A scalar that is 0; TensorFlow reads a value that is left out as that."""
    value = attr_value_pb2.AttrValue()
    value.tensor.dtype = dtype
    value.tensor.tensor_shape.SetInParent()
    if dtype == DT_STRING:
        value.tensor.string_val.append(b"")
    return value
