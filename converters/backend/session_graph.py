"""The flat graph of a SavedModel, for loaders that open a session.

TF Serving, the C++ and Java loaders and tf.compat.v1.saved_model.load read
only this: placeholders and calls for the signatures, a saver, an init op.
TF2's object loader takes from the same GraphDef the function library alone.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from hub_compat._parsing.known_names import INIT_SIGNATURE
from hub_compat._tf import attr_value_pb2

from ..ir.dtypes import DT_STRING
from ..ir.functions import Body, Capture, set_attr
from ..ir.model import Model
from ..ir.names import node_name
from ..ir.signatures import make_shape
from .object_graph import variable_key
from .traces import Trace

__all__ = ["write"]

_INIT_OP = "init"
_PREDICT = "tensorflow/serving/predict"


def write(
    meta_graph: Any,
    model: Model,
    signatures: Mapping[str, Trace],
    variables: Sequence[str],
    tables: Mapping[str, Tuple[Any, Body]],
) -> None:
    """Writes nodes, signatures, saver and init op into a MetaGraphDef.

    Args:
      meta_graph: the proto.
      model: whose variables and assets.
      signatures: the signatures, by name.
      variables: keys of the variables, in checkpoint order.
      tables: by key, the FunctionDef that creates a table, whose last node it is,
        and the function that fills it.
    """
    graph = _SessionGraph(meta_graph)
    for key in variables:
        graph.add_variable(key, model.variables[key])
    for key, filename in model.assets.items():
        graph.add_asset(key, filename)
    for key, (create, _) in tables.items():
        graph.add_table(key, create)
    # One initializer may fill several.
    for _, initialize in tables.values():
        graph.add_initializer(initialize)
    for name in sorted(signatures):
        graph.add_signature(name, signatures[name])
    graph.add_init_op()
    graph.add_saver(
        [(variable_key(i), model.variables[k], k) for i, k in enumerate(variables)]
    )


# What is written, for one variable, one table, one signature:
#
#     w = VarHandleOp                         words = HashTableV2
#     initialize_table = call of the table's initializer(words)
#     serving_default_x = Placeholder
#     call_serving_default = StatefulPartitionedCall(serving_default_x, w, words)
#     saver/restore_all = NoOp(^AssignVariableOp(w, RestoreV2(...)))
#     init = NoOp(^initialize_table)
#
#     _names:        name -> how often it was asked for, to number the next one
#     _tensors:      key of an object -> the tensor that calls take for it
#     _init:         what the init op runs
#     _asset_values: key of an asset -> the read of the variable with its path
#
# Each node is written after its inputs. Loaders with a session run restore_all first,
# and init after it.
class _SessionGraph:
    def __init__(self, meta_graph: Any) -> None:
        self._meta_graph = meta_graph
        self._names: Dict[str, int] = {}
        self._tensors: Dict[str, str] = {}
        self._init: List[str] = []
        self._asset_values: Dict[str, str] = {}

    def node(
        self,
        op: str,
        name: str,
        inputs: Sequence[str] = (),
        control: Sequence[str] = (),
        **attrs: Any,
    ) -> str:
        """Adds a node; returns its name, made unique."""
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        if count:
            return self.node(op, "{}_{}".format(name, count), inputs, control, **attrs)
        node = self._meta_graph.graph_def.node.add(name=name, op=op)
        node.input.extend(inputs)
        node.input.extend("^" + c for c in control)
        for key, value in attrs.items():
            set_attr(node, key, value)
        return name

    def add_variable(self, key: str, variable: Any) -> None:
        """A handle; the saver restores its value."""
        self._tensors[key] = self.node(
            "VarHandleOp",
            variable.name,
            dtype=("type", variable.dtype),
            shape=("shape", variable.shape),
            shared_name=variable.name.encode(),
            container=b"",
        )

    def add_asset(self, key: str, filename: str) -> None:
        """A constant that the loader feeds while it runs the init op."""
        node = self.node(
            "Const",
            "asset_path",
            dtype=("type", DT_STRING),
            value=_strings([filename.encode()], scalar=True),
        )
        definition = self._meta_graph.asset_file_def.add(filename=filename)
        definition.tensor_info.name = node + ":0"
        definition.tensor_info.dtype = DT_STRING
        definition.tensor_info.tensor_shape.SetInParent()
        self._tensors[key] = node

    def add_table(self, key: str, create: Any) -> None:
        """A table.

        The op itself, as calling the function that creates it makes TF 1.15
        crash: it keeps the handle's shapes past the function's graph.
        """
        names: Dict[str, str] = {}
        for node in create.node_def:
            attrs = {name: node.attr[name] for name in node.attr}
            # The table is the last, after the constants that it is made of.
            inputs = [names[tensor.split(":")[0]] for tensor in node.input]
            names[node.name] = self.node(node.op, node.name, inputs, **attrs)
            self._tensors[key] = names[node.name]

    def add_initializer(self, initialize: Body) -> None:
        """Lets the init op fill a table."""
        self._init.append(self._call(initialize, [], "initialize_table"))

    def _call(self, body: Body, inputs: Sequence[str], name: str) -> str:
        captures = [self._tensors[c.key] for c in body.captures]
        types = [a.dtype for a in body.arguments] + [c.dtype for c in body.captures]
        return self.node(
            "StatefulPartitionedCall" if body.stateful else "PartitionedCall",
            name,
            list(inputs) + captures,
            Tin=("types", types),
            Tout=("types", [r.dtype for r in body.results]),
            f=("func", body.name),
            config=b"",
            config_proto=b"",
            executor_type=b"",
        )

    def add_signature(self, name: str, trace: Trace) -> None:
        """Placeholders, a call, and the SignatureDef."""
        definition = self._meta_graph.signature_def[name]
        definition.method_name = _PREDICT
        body = trace.body
        inputs = []
        placeholders: Dict[str, str] = {}
        for key, argument in zip(trace.keywords, body.arguments):
            shape = argument.shape
            # What was one tensor to feed is one here.
            first = trace.same.get(key, key)
            if first not in placeholders:
                placeholders[first] = self.node(
                    "Placeholder",
                    node_name("{}_{}".format(name, key)),
                    dtype=("type", argument.dtype),
                    shape=("shape", shape),
                )
            node = placeholders[first]
            inputs.append(node)
            _tensor_info(definition.inputs[key], node + ":0", argument.dtype, shape)
        for capture in body.captures:
            self._keep_asset_path(capture)
        call = self._call(body, inputs, "call_" + node_name(name))
        for i, (key, result) in enumerate(zip(trace.results, body.results)):
            _tensor_info(
                definition.outputs[key],
                "{}:{}".format(call, i),
                result.dtype,
                result.shape,
            )

    # Given: a signature that takes the path of an asset
    # Result:
    #     asset_path = Const "vocab.txt"                      fed by the loader, once
    #     asset_path/assign = AssignVariableOp(asset_path/variable, asset_path)
    #     asset_path/read = ReadVariableOp(asset_path/variable)       what calls take
    def _keep_asset_path(self, capture: Capture) -> None:
        """Makes calls read an asset's path from what the init op was fed.

        A loader feeds the path while it runs the init op, and only then: the
        constant itself holds no more than the file's name.
        """
        if capture.dtype != DT_STRING or capture.key in self._asset_values:
            return
        constant = self._tensors[capture.key]
        handle = self.node(
            "VarHandleOp",
            constant + "/variable",
            dtype=("type", DT_STRING),
            shape=("shape", make_shape([])),
            shared_name=(constant + "/variable").encode(),
            container=b"",
        )
        assign = self.node(
            "AssignVariableOp",
            constant + "/assign",
            [handle, constant],
            dtype=("type", DT_STRING),
        )
        self._init.append(assign)
        self._asset_values[capture.key] = self._tensors[capture.key] = self.node(
            "ReadVariableOp", constant + "/read", [handle], dtype=("type", DT_STRING)
        )

    def add_init_op(self) -> None:
        """One op that fills the tables, under both names that loaders know."""
        init = self.node("NoOp", _INIT_OP, control=self._init)
        collection = self._meta_graph.collection_def["saved_model_main_op"]
        collection.node_list.value.append(init)
        signature = self._meta_graph.signature_def[INIT_SIGNATURE]
        output = signature.outputs[INIT_SIGNATURE]
        output.name = init
        output.tensor_shape.unknown_rank = True

    def add_saver(self, variables: Sequence[Tuple[str, Any, str]]) -> None:
        """Saving and restoring by the checkpoint's object-based keys."""
        filename = self.node(
            "Placeholder",
            "saver_filename",
            dtype=("type", DT_STRING),
            shape=("shape", make_shape([])),
        )
        saver = self._meta_graph.saver_def
        saver.filename_tensor_name = filename + ":0"
        saver.version = 2
        saver.max_to_keep = 5
        saver.keep_checkpoint_every_n_hours = 10000.0
        if not variables:
            save = self.node(
                "Identity", "saver/save", [filename], T=("type", DT_STRING)
            )
            restore = self.node("NoOp", "saver/restore_all")
        else:
            save, restore = self._add_save_and_restore(filename, variables)
        saver.save_tensor_name = save + ":0"
        saver.restore_op_name = restore

    def _add_save_and_restore(
        self, filename: str, variables: Sequence[Tuple[str, Any, str]]
    ) -> Tuple[str, str]:
        keys = _strings([key.encode() for key, _, _ in variables])
        slices = _strings([b""] * len(variables))
        dtypes = [variable.dtype for _, variable, _ in variables]
        names = [
            self.node("Const", "saver/names", dtype=("type", DT_STRING), value=keys),
            self.node("Const", "saver/slices", dtype=("type", DT_STRING), value=slices),
        ]
        values = [
            self.node(
                "ReadVariableOp",
                "saver/read",
                [self._tensors[key]],
                dtype=("type", variable.dtype),
            )
            for _, variable, key in variables
        ]
        written = self.node(
            "SaveV2",
            "saver/write",
            [filename] + names + values,
            dtypes=("types", dtypes),
        )
        save = self.node(
            "Identity", "saver/save", [filename], [written], T=("type", DT_STRING)
        )
        restored = self.node(
            "RestoreV2", "saver/restore", [filename] + names, dtypes=("types", dtypes)
        )
        assigned = [
            self.node(
                "AssignVariableOp",
                "saver/assign",
                [self._tensors[key], "{}:{}".format(restored, i)],
                dtype=("type", variable.dtype),
            )
            for i, (_, variable, key) in enumerate(variables)
        ]
        return save, self.node("NoOp", "saver/restore_all", control=assigned)


def _tensor_info(info: Any, name: str, dtype: int, shape: Any) -> None:
    info.name = name
    info.dtype = dtype
    info.tensor_shape.SetInParent()
    if shape is not None:
        info.tensor_shape.CopyFrom(shape)


def _strings(values: Sequence[bytes], scalar: bool = False) -> Any:
    attr = attr_value_pb2.AttrValue()
    attr.tensor.dtype = DT_STRING
    attr.tensor.tensor_shape.SetInParent()
    if not scalar:
        attr.tensor.tensor_shape.dim.add().size = len(values)
    attr.tensor.string_val.extend(values)
    return attr
