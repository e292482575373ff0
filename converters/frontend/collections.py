"""The collections of a MetaGraphDef."""

from __future__ import annotations

from typing import Any, Dict, List

from hub_compat._tf import meta_graph_pb2

from ..ir.graph import Graph, node_of

__all__ = ["asset_definitions", "bytes_list", "node_list", "tensor_list"]


def asset_definitions(meta_graph: Any) -> List[Any]:
    """The AssetFileDefs: which constants are the paths of which files."""
    definitions = list(meta_graph.asset_file_def)
    if not definitions and "saved_model_assets" in meta_graph.collection_def:
        collection = meta_graph.collection_def["saved_model_assets"]
        for packed in collection.any_list.value:
            definition = meta_graph_pb2.AssetFileDef()
            definition.ParseFromString(packed.value)
            definitions.append(definition)
    return definitions


def node_list(graph: Graph, collections: Any, name: str) -> List[str]:
    """The nodes of a collection, each once."""
    if name not in collections:
        return []
    found: Dict[str, None] = {}
    for value in collections[name].node_list.value:
        graph.node(node_of(value))
        found[node_of(value)] = None
    return list(found)


def tensor_list(collections: Any, name: str) -> List[str]:
    """The tensors of a collection."""
    return list(collections[name].node_list.value) if name in collections else []


def bytes_list(collections: Any, name: str) -> List[bytes]:
    """The byte strings of a collection."""
    return list(collections[name].bytes_list.value) if name in collections else []
