"""What a TF1 SavedModel has beside a TF1 Hub module: a saver and an init op."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence

from hub_compat._tf import attr_value_pb2

from ..ir.dtypes import DT_STRING
from ..ir.flat_graph import FlatGraph
from ..ir.signatures import make_shape
from .state import State, Variable

__all__ = ["Served", "add_session_ops"]


class Served(NamedTuple):
    """The nodes that a session loader runs.

    Attributes:
      filename: the placeholder of the checkpoint's path.
      save: the tensor that is there when all is saved.
      restore: the node that restores all variables.
      init: the node that runs then.
    """

    filename: str
    save: str
    restore: str
    init: str

    def write(self, meta_graph: Any) -> None:
        """Names them in a MetaGraphDef."""
        saver = meta_graph.saver_def
        saver.filename_tensor_name = self.filename + ":0"
        saver.save_tensor_name = self.save + ":0"
        saver.restore_op_name = self.restore
        saver.version = 2
        saver.max_to_keep = 5
        saver.keep_checkpoint_every_n_hours = 10000.0
        collection = meta_graph.collection_def["saved_model_main_op"]
        collection.node_list.value.append(self.init)

    def nodes(self) -> List[str]:
        """The nodes."""
        return [self.filename, self.save, self.restore, self.init]


def add_session_ops(
    graph: FlatGraph, state: State, variables: Sequence[Variable]
) -> Served:
    """Adds a saver of some variables and an init op that fills tables."""
    text = ("type", DT_STRING)
    filename = graph.node(
        "Placeholder", "saver/filename", dtype=text, shape=("shape", make_shape([]))
    )
    init = graph.node("NoOp", "init", (), state.initializers())
    if not variables:
        save = graph.node("Identity", "saver/save", [filename + ":0"], T=text)
        return Served(filename, save, graph.node("NoOp", "saver/restore_all"), init)
    keys = [variable.name.encode() for variable in variables]
    dtypes = ("types", [variable.saved.dtype for variable in variables])
    names = [
        graph.node("Const", "saver/" + label, dtype=text, value=_strings(values)) + ":0"
        for label, values in (("names", keys), ("slices", [b""] * len(keys)))
    ]
    values, assigned = [], []
    for variable in variables:
        dtype = ("type", variable.saved.dtype)
        read = graph.node(
            "ReadVariableOp", "saver/read", [variable.name + ":0"], dtype=dtype
        )
        values.append(read + ":0")
    written = graph.node(
        "SaveV2", "saver/write", [filename + ":0"] + names + values, dtypes=dtypes
    )
    save = graph.node("Identity", "saver/save", [filename + ":0"], [written], T=text)
    restored = graph.node(
        "RestoreV2", "saver/restore", [filename + ":0"] + names, dtypes=dtypes
    )
    for i, variable in enumerate(variables):
        handle, value = variable.name + ":0", "{}:{}".format(restored, i)
        dtype = ("type", variable.saved.dtype)
        assigned.append(
            graph.node("AssignVariableOp", "saver/assign", [handle, value], dtype=dtype)
        )
    restore = graph.node("NoOp", "saver/restore_all", (), assigned)
    return Served(filename, save, restore, init)


def _strings(values: Sequence[bytes]) -> Any:
    attr = attr_value_pb2.AttrValue()
    attr.tensor.dtype = DT_STRING
    attr.tensor.tensor_shape.dim.add().size = len(values)
    attr.tensor.string_val.extend(values)
    return attr
