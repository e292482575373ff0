"""Where the saver of a SavedModel finds the values of variables."""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Iterable

from hub_compat._tf import meta_graph_pb2
from hub_compat.converters.frontend.initialization import restored_keys
from hub_compat.converters.ir.graph import Graph
from hub_compat.converters.ir.variables import listed

__all__ = ["keys_of_savers"]


def keys_of_savers(
    meta_graphs: Iterable[Any],
) -> Dict[FrozenSet[str], Dict[str, str]]:
    """The keys of variables in the checkpoint, by variant and by name.

    Those that are the variable's own name are left out. Moving averages, for one, are
    saved under their names and restored into the variables.
    """
    found: Dict[FrozenSet[str], Dict[str, str]] = {}
    for meta_graph in meta_graphs:
        own = found.setdefault(frozenset(meta_graph.meta_info_def.tags), {})
        if not meta_graph.saver_def.restore_op_name:
            continue
        copy = meta_graph_pb2.MetaGraphDef()
        copy.graph_def.CopyFrom(meta_graph.graph_def)
        keys = restored_keys(Graph(copy), meta_graph.saver_def)
        for name, definition in listed(meta_graph.collection_def).items():
            if name not in keys:
                continue
            part = definition.save_slice_info_def
            own_name = part.full_name if part.full_name else name
            if keys[name].key != own_name:
                own[own_name] = keys[name].key
    return found
