"""Reads the MetaGraphDefs of a module, ready to be imported into a graph."""

from __future__ import annotations

import os
from typing import Any, Dict, List

from hub_compat._io import files, links
from hub_compat._parsing.full_proto import read_saved_model
from hub_compat._parsing.known_names import ATTACHMENTS
from hub_compat._tf import types_pb2
from hub_compat.converters.frontend.collections import asset_definitions
from hub_compat.converters.ir.graph import node_of
from hub_compat.errors import CorruptModuleError
from hub_compat.formats import Detection

__all__ = [
    "ASSETS",
    "ASSET_PATHS",
    "SUPPORTED_COLLECTIONS",
    "check_asset",
    "read_meta_graphs",
]

# AssetFileDefs, in files; the constants that are paths of assets, in graphs.
ASSETS = "saved_model_assets"
ASSET_PATHS = "asset_filepaths"
# What a module has a use for. The others are of the program that made the graph.
SUPPORTED_COLLECTIONS = frozenset(
    [
        "variables",
        "trainable_variables",
        "model_variables",
        "table_initializer",
        "update_ops",
        "regularization_losses",
        "cond_context",
        "while_context",
        ATTACHMENTS,
        ASSET_PATHS,
    ]
)


def read_meta_graphs(detection: Detection) -> List[Any]:
    """The MetaGraphDefs of a directory; the paths of their assets are absolute.

    Raises:
      CorruptModuleError: the file is damaged, or an asset leads out of the module.
    """
    found = list(read_saved_model(detection).meta_graphs)
    for meta_graph in found:
        _place_assets(meta_graph, detection.path)
    return found


def _place_assets(meta_graph: Any, directory: str) -> None:
    """Writes the paths of assets into their constants."""
    base = directory if files.is_remote(directory) else os.path.abspath(directory)
    paths: Dict[str, str] = {}
    for definition in asset_definitions(meta_graph):
        name = definition.filename
        if name.startswith("/") or ".." in name.split("/"):
            raise CorruptModuleError(
                "Asset filename points outside assets_dir: an asset's file name must "
                "stay inside assets/. Received: {!r}".format(name)
            )
        path = files.join(base, "assets", *name.split("/"))
        links.check_link(path, directory, links.FILES)
        paths[node_of(definition.tensor_info.name)] = path
    if ASSETS in meta_graph.collection_def:
        del meta_graph.collection_def[ASSETS]
    del meta_graph.asset_file_def[:]
    if not paths:
        return
    for node in meta_graph.graph_def.node:
        if node.name in paths:
            check_asset(node)
            node.attr["value"].tensor.string_val[:] = [paths[node.name].encode("utf-8")]
            # A packed form would be read in its place.
            node.attr["value"].tensor.tensor_content = b""
    listed = meta_graph.collection_def[ASSET_PATHS].node_list.value
    known = {node_of(value) for value in listed}
    listed.extend(name + ":0" for name in sorted(set(paths) - known))


def check_asset(node: Any) -> None:
    """Refuses a node that holds no path.

    Raises:
      CorruptModuleError: it is not a constant string.
    """
    value = node.attr["value"].tensor
    if (
        node.op != "Const"
        or node.attr["dtype"].type != types_pb2.DT_STRING
        or len(value.string_val) != 1
    ):
        raise CorruptModuleError(
            "The path of an asset must be a Const node with one string. Received: "
            "{!r}, a {}".format(node.name, node.op)
        )
