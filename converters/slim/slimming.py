"""One model without what only Keras needs: objects, functions, nodes."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Tuple

from ..opdata.targets import NEWEST, ops_of
from .library import Library, named_functions
from .objects import NotUnderstood, rebuild, select
from .twins import merge_twins

__all__ = ["Slim", "slim"]


class Slim(NamedTuple):
    """What became of a model.

    Attributes:
      lost: attributes of the root that are gone.
      objects: how many objects are gone.
      functions: how many functions are gone.
      numbers: the ids of objects that stay, by those that they had.
    """

    lost: Tuple[str, ...]
    objects: int
    functions: int
    numbers: Dict[int, int]


def slim(saved_model: Any, for_sessions: bool, for_others: bool = False) -> Slim:
    """Removes what only Keras' bookkeeping reaches, in place.

    Args:
      saved_model: the proto of a TF2 SavedModel.
      for_sessions: whether the graph for sessions and servers stays.
      for_others: whether newer TensorFlows than this one may read the result.

    Raises:
      NotUnderstood: it is unlike any model that TensorFlow writes. It may have been
        changed by then.
    """
    if len(saved_model.meta_graphs) != 1:
        raise NotUnderstood("it has {} graphs".format(len(saved_model.meta_graphs)))
    meta_graph = saved_model.meta_graphs[0]
    if for_others and _has_unknown_fields(meta_graph):
        raise NotUnderstood(
            "a newer TensorFlow wrote it, and this one does not know all of its fields"
        )
    objects = meta_graph.object_graph_def
    library = Library(meta_graph.graph_def.library)
    before = len(objects.nodes), len(library.functions)
    _merge(select(meta_graph, library), library, meta_graph)
    selection = select(meta_graph, library)
    if for_sessions:
        _keep_called(selection, library, meta_graph.graph_def.node)
    else:
        _drop_graph(meta_graph, objects, selection.nodes)
    numbers = rebuild(objects, selection)
    library.keep(selection.functions)
    aliases = getattr(meta_graph.meta_info_def, "function_aliases", {})
    for name in list(aliases):
        if name not in selection.functions:
            del aliases[name]
    return Slim(
        selection.lost,
        before[0] - len(objects.nodes),
        before[1] - len(library.functions),
        numbers,
    )


def _has_unknown_fields(message: Any) -> bool:
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    return bool(copy.ByteSize() != message.ByteSize())


def _merge(selection: Any, library: Library, meta_graph: Any) -> None:
    """Merges functions that are equal, but for those that objects name."""
    # A SavedModel does not list what only functions within functions have.
    ops = dict(ops_of(NEWEST))
    ops.update((op.name, op) for op in meta_graph.meta_info_def.stripped_op_list.op)
    merge_twins(
        library,
        meta_graph.object_graph_def,
        selection.functions,
        set(selection.concrete),
        {name for name, op in ops.items() if not op.is_stateful},
    )


def _keep_called(selection: Any, library: Library, nodes: Any) -> None:
    """Keeps what the nodes outside of functions call."""
    pending = library.among(named_functions(nodes))
    while pending:
        name = pending.pop()
        if name not in selection.functions:
            selection.functions.add(name)
            pending.extend(library.called_by(name))


def _drop_graph(meta_graph: Any, objects: Any, kept: Any) -> None:
    """Removes the graph for sessions, but for constants that objects name."""
    named = {
        objects.nodes[number].constant.operation
        for number in kept
        if objects.nodes[number].WhichOneof("kind") == "constant"
    }
    graph = meta_graph.graph_def
    nodes = [
        type(n).FromString(n.SerializeToString()) for n in graph.node if n.name in named
    ]
    for node in nodes:
        del node.input[:]
    del graph.node[:]
    graph.node.extend(nodes)
    meta_graph.ClearField("signature_def")
    meta_graph.ClearField("saver_def")
    meta_graph.ClearField("collection_def")
