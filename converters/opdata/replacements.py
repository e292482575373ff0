"""Graphs that stand for ops, as tools/make_replacements.py wrote them."""

from __future__ import annotations

import gzip
import os
from typing import Any, Dict, Tuple

from hub_compat._tf import saved_model_pb2

__all__ = ["graph_for"]

_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "replacements.pb.gz")
_graphs: Dict[Tuple[str, ...], Any] = {}


def graph_for(*tags: str) -> Any:
    """A GraphDef from ``input_0``, ``input_1``, ... to the outputs of ``output``.

    Args:
      *tags: the op, then the dtypes or other attributes that it was traced for.

    Returns:
      None where there is none for them.
    """
    if not _graphs:
        with gzip.open(_FILE, "rb") as file:
            proto = saved_model_pb2.SavedModel.FromString(file.read())
        for meta_graph in proto.meta_graphs:
            _graphs[tuple(meta_graph.meta_info_def.tags)] = meta_graph.graph_def
    return _graphs.get(tags)
