"""Writes a TF1 Hub module: MetaGraphDefs, assets, values of variables."""

from __future__ import annotations

import warnings
from typing import Any, Dict, Iterable, List, Mapping, Set

from hub_compat._io import files
from hub_compat._io.publish import atomic_directory
from hub_compat._parsing.near_misses import MARKER_FILE
from hub_compat._tf import meta_graph_pb2, saved_model_pb2, tf
from hub_compat.converters.checkpoint.relabel import relabel
from hub_compat.converters.ir.graph import node_of
from hub_compat.converters.lowering.meta_graphs import lower_meta_graph
from hub_compat.converters.opdata.targets import TARGETS, of_target, version_of
from hub_compat.errors import CorruptModuleError, HandleError, UnknownOpError

from .reading import ASSET_PATHS, ASSETS, check_asset

__all__ = ["write_module"]

# ModuleDef(format=FORMAT_V3), the only one there is.
_MARKER = b"\x08\x03"
_PLACEHOLDER = b"SAVEDMODEL-ASSET"
# The target that modules are written for.
_OLDEST = "tf1.15"


def write_module(
    path: str, meta_graphs: Iterable[Any], values: Mapping[str, Any]
) -> None:
    """Writes a module in one step: others see all of it, or nothing.

    Args:
      path: the directory, which is not there yet, or empty.
      meta_graphs: MetaGraphDefs with absolute paths of assets; they stay as they are.
      values: of the variables, by their names in the module: arrays, or ``Typed``.

    Raises:
      DestinationError: the directory is not empty, or cannot be written.
      HandleError: an asset is not there any more.
    """
    saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    for meta_graph in meta_graphs:
        saved_model.meta_graphs.add().CopyFrom(meta_graph)
        _make_portable(saved_model.meta_graphs[-1])
    assets = _Assets()
    for meta_graph in saved_model.meta_graphs:
        assets.collect(meta_graph)
    with atomic_directory(path) as directory:
        assets.write(files.join(directory, "assets"))
        if values:
            folder = files.join(directory, "variables")
            files.make_dirs(folder)
            relabel(None, files.join(folder, "variables"), {}, values)
        files.write_bytes(
            files.join(directory, "saved_model.pb"), saved_model.SerializeToString()
        )
        # The last: what has it is a module.
        files.write_bytes(files.join(directory, MARKER_FILE), _MARKER)


def _make_portable(meta_graph: Any) -> None:
    """Writes a graph in the ops of TensorFlow 1.15, which has most readers, if it can.

    A newer TensorFlow has ops and attributes of its own even for plain variables.
    """
    if version_of(tf.__version__) <= TARGETS[_OLDEST].version:
        return
    try:
        lower_meta_graph(meta_graph, of_target(_OLDEST))
    except UnknownOpError as error:
        warnings.warn(
            "The module can be read in newer versions of TensorFlow only: {} Received: "
            "tags={!r}".format(error, sorted(meta_graph.meta_info_def.tags)),
            stacklevel=4,
        )


class _Assets:
    """The files that the graphs of a module read."""

    def __init__(self) -> None:
        self._names: Dict[str, str] = {}
        self._taken: Set[str] = set()

    def collect(self, meta_graph: Any) -> None:
        """Replaces the paths in a graph by the names of files in ``assets``."""
        listed: List[str] = list(
            meta_graph.collection_def[ASSET_PATHS].node_list.value
            if ASSET_PATHS in meta_graph.collection_def
            else ()
        )
        wanted = {node_of(tensor) for tensor in listed}
        found: Dict[str, str] = {}
        for node in meta_graph.graph_def.node:
            if node.name in wanted:
                check_asset(node)
                value = node.attr["value"].tensor
                found[node.name] = self._name(value.string_val[0].decode("utf-8"))
                # Nobody is to learn where the file was.
                value.string_val[0] = _PLACEHOLDER
        missing = sorted(wanted - set(found))
        if missing:
            raise CorruptModuleError(
                "The collection {!r} has a tensor that the graph has not. Received: "
                "{!r}".format(ASSET_PATHS, missing[0])
            )
        for name in sorted(found):
            definition = meta_graph_pb2.AssetFileDef(filename=found[name])
            definition.tensor_info.name = name + ":0"
            meta_graph.collection_def[ASSETS].any_list.value.add().Pack(definition)

    def _name(self, path: str) -> str:
        """The name of a file in ``assets``: one for each path, all different."""
        if path not in self._names:
            base = path.rstrip("/").rsplit("/", 1)[-1]
            name, number = base, 0
            while name in self._taken:
                name, number = "{}{}".format(base, number), number + 1
            self._taken.add(name)
            self._names[path] = name
        return self._names[path]

    def write(self, folder: str) -> None:
        """Copies the files."""
        files.make_dirs(folder)
        for path, name in self._names.items():
            try:
                files.copy_file(path, files.join(folder, name))
            except FileNotFoundError as error:
                raise HandleError(
                    "An asset of the module is not there any more. Put the file "
                    "back, or make the module again. Received: {!r}".format(path)
                ) from error
