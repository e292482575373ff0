"""TF1 Hub module or TF1 SavedModel -> Reusable TF2 SavedModel.

Both hold one MetaGraphDef for each variant, and one checkpoint. A TF1 Hub module
has ``tfhub_module.pb`` beside them, and the keys of its checkpoint are the names of
its variables (written by TensorFlow Hub's ``native_module``); in a TF1 SavedModel
they are what its saver says.
"""

from __future__ import annotations

import os
import tempfile
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
)

from hub_compat._io import files as _files
from hub_compat._io import links as _links
from hub_compat._io.fingerprint import fingerprint
from hub_compat._parsing.full_proto import read_saved_model
from hub_compat._parsing.known_names import OBJECT_GRAPH
from hub_compat.errors import ConversionError, CorruptModuleError
from hub_compat.formats import Detection, Format
from hub_compat.provenance import Provenance

from .backend import canonical
from .backend.object_graph import variable_key
from .backend.reusable import Reusable, build
from .checkpoint import relabel
from .checkpoint.index import CheckpointIndex
from .checkpoint.shards import AUTO, BORROW
from .checkpoint.writer import RelabelReport
from .ir import outside_ops
from .ir.context import Source
from .ir.model import Model, root_tags
from .ir.tables import is_carrier
from .omissions import (
    leave_out_dense_tables,
    leave_out_dropped,
    leave_out_without_value,
)
from .pipeline import add_variant
from .request import NOTHING, ConversionRequest, ConversionResult, Exclusions
from .source_values import (
    map_variables,
    read_source_index,
    say_shapes,
    unused_keys,
)

__all__ = ["convert_tf1_model", "read_with_signature"]


class _Weights(NamedTuple):
    """The new checkpoint.

    Attributes:
      unused: keys of the source's that no variable has.
      report: what was written.
    """

    unused: Tuple[str, ...]
    report: RelabelReport


# The order of what can fail, before anything is written:
#
#     read the variants       passes; each variant that fails is skipped
#     the index               which may be of format V1, and is upgraded then
#     variables               signatures whose variables have no value are skipped; a
#                             checkpoint of another export is refused
#     ops                     signatures with dropped ops or dense tables are skipped
#     build                   all functions and objects
#     write                   weights, assets, provenance, and saved_model.pb last
#
# Without its saved_model.pb a directory is no model, whatever stopped the conversion.
def convert_tf1_model(request: ConversionRequest) -> ConversionResult:
    """Converts a TF1 model into an empty directory.

    Raises:
      ConversionError, CorruptModuleError: nothing of it can be converted.
    """
    detection, directory = request.detection, request.directory
    model, meta_graphs = _read_model(
        detection, request.tags, request.exclusions or NOTHING, weights=request.weights
    )
    upgraded = _files.join(directory, "upgraded_checkpoint")
    index = read_source_index(detection.path, upgraded)
    if detection.format is not Format.TF1_HUB_MODULE:
        leave_out_without_value(model, index)
    say_shapes(model, index)
    # Before anything is written: it refuses a checkpoint of another export.
    mapping = map_variables(model, index)
    leave_out_dropped(model, request.available_ops)
    leave_out_dense_tables(model)
    model.warnings.extend(outside_ops.warnings_of_model(model))
    reusable = build(model, meta_graphs, request.whole)
    weights = _write_weights(request, model, reusable, index, mapping, upgraded)
    _copy_assets(model, detection.path, directory, request.links)
    _write_provenance(request, model, reusable, mapping)
    _files.write_bytes(
        _files.join(directory, "saved_model.pb"),
        canonical.serialize(reusable.saved_model),
    )
    library = reusable.saved_model.meta_graphs[0].graph_def.library.function
    report = weights.report
    return ConversionResult(
        callable=reusable.callable,
        variables=sum(not model.variables[k].local for k in reusable.variables),
        trainable_variables=reusable.trainable,
        tables=sum(not is_carrier(table.name) for table in model.tables.values()),
        assets=len(model.assets),
        functions=len(library),
        nodes=sum(len(function.node_def) for function in library),
        files_linked=report.files_linked,
        bytes_linked=report.bytes_linked,
        bytes_copied=report.bytes_copied + report.weight_bytes_written,
        weight_bytes_read=report.weight_bytes_read,
        unused_keys=weights.unused,
        warnings=tuple(model.warnings),
    )


def _write_weights(
    request: ConversionRequest,
    model: Model,
    reusable: Reusable,
    index: Optional[CheckpointIndex],
    mapping: Mapping[str, Tuple[str, Any]],
    upgraded: str,
) -> _Weights:
    """Writes the new checkpoint: a new index over the old shards."""
    unused = tuple(unused_keys(index, mapping))
    keys: Dict[str, Tuple[str, Any]] = {}
    new: Dict[str, Any] = {}
    for i, key in enumerate(reusable.variables):
        if key not in mapping:
            new[variable_key(i)] = model.variables[key].initial
        elif request.weights:
            keys[variable_key(i)] = mapping[key]
    if request.weights:
        keys.update((key, (key, None)) for key in unused)
    held = set(keys).union(new)
    new[OBJECT_GRAPH] = reusable.objects.checkpoint_graph(held)
    folder = _files.join(request.directory, "variables")
    _files.make_dirs(folder)
    is_upgraded = index is not None and index.prefix.startswith(upgraded)
    report = relabel.relabel(
        index,
        _files.join(folder, "variables"),
        keys,
        new,
        # What is removed cannot be borrowed.
        link=AUTO if is_upgraded and request.link == BORROW else request.link,
    )
    if is_upgraded:
        _files.remove_tree(upgraded)
    return _Weights(unused, report)


def _write_provenance(
    request: ConversionRequest,
    model: Model,
    reusable: Reusable,
    mapping: Mapping[str, Tuple[str, Any]],
) -> None:
    """Writes where the result is from, and what load() asks of it."""
    detection = request.detection
    Provenance(
        source_format=detection.format.value,
        source_fingerprint=fingerprint(detection.path),
        source_tensorflow_version=detection.producer.tensorflow_version,
        callable=reusable.callable,
        root_tags=reusable.tags,
        variants=tuple(
            (v.tags, tuple(v.signatures))
            for v in model.variants
            if request.whole or v.tags == reusable.tags
        ),
        variables=tuple(
            (model.variables[key].name,) + mapping[key]
            if key in mapping
            # Nothing else has the name: another variant may have another value.
            else (key.partition(":")[2], "", None)
            for key in reusable.variables
            if not model.variables[key].local
        ),
        weights_elsewhere=not request.weights,
        warnings=tuple(model.warnings),
        left_out=tuple(model.left_out),
        excluded=request.exclusions is not None,
    ).write(request.directory)


def read_with_signature(
    detection: Detection,
    tags: Optional[Tuple[str, ...]],
    edit: Callable[[Any], None],
    available_ops: Collection[str],
) -> Tuple[Model, Any]:
    """The model as ``convert_tf1_model`` has it before it writes it.

    Args:
      detection: the module.
      tags: the only variant to read.
      edit: gives the MetaGraphDef of the wanted variant another signature.
      available_ops: ops that newer TensorFlows lack, and the one at hand has.

    Returns:
      The model, and the MetaGraphDef that was edited.
    """
    edited: List[Any] = []

    def keep(meta_graph: Any) -> None:
        edit(meta_graph)
        edited.append(meta_graph)

    model, _ = _read_model(detection, tags, NOTHING, keep)
    if detection.format is not Format.TF1_HUB_MODULE:
        with tempfile.TemporaryDirectory() as upgraded:
            index = read_source_index(detection.path, os.path.join(upgraded, "new"))
        leave_out_without_value(model, index)
    leave_out_dropped(model, available_ops)
    leave_out_dense_tables(model)
    return model, edited[0]


# A failed variant may have added variables and tables: so each gets a copy of the
# model, which takes the model's place only if all went well.
def _read_model(
    detection: Detection,
    tags: Optional[Tuple[str, ...]],
    exclusions: Exclusions,
    edit: Optional[Callable[[Any], None]] = None,
    weights: bool = True,
) -> Tuple[Model, List[Any]]:
    """The model, and the MetaGraphDefs of its variants.

    A variant that cannot be converted is skipped, unless it is the one that is
    wanted, or that ``load()`` gives by default.

    Args:
      detection: the module.
      tags: the only variant to read.
      exclusions: what to leave out of them.
      edit: changes the MetaGraphDef of the wanted one first.
      weights: whether the result has the variables' values.
    """
    meta_graphs: Dict[Tuple[str, ...], Any] = {}
    for meta_graph in read_saved_model(detection).meta_graphs:
        own = tuple(sorted(meta_graph.meta_info_def.tags))
        if tags is None or own == tags:
            meta_graphs.setdefault(own, meta_graph)
    wanted = root_tags(meta_graphs)
    if edit is not None:
        edit(meta_graphs[wanted])
    by_saver = detection.format is not Format.TF1_HUB_MODULE
    model = Model([], {}, {}, {}, [])
    read = []
    for own, meta_graph in meta_graphs.items():
        attempt = model.copy()
        try:
            # A session runs the init op of the variant that it loads, and no other.
            acts = own == wanted
            place = Source(detection.path, by_saver, acts, weights)
            add_variant(attempt, meta_graph, place, exclusions)
        except (ConversionError, CorruptModuleError) as error:
            if own == wanted:
                raise
            model.warnings.append("variant {} is skipped: {}".format(list(own), error))
        else:
            model = attempt
            read.append(meta_graph)
    return model, read


def _copy_assets(model: Model, source: str, directory: str, links: str) -> None:
    """Copies the asset files; TensorFlow's loaders expect the directory."""
    assets = _files.join(directory, "assets")
    _files.make_dirs(assets)
    for filename in model.assets.values():
        path = _files.join(source, "assets", *filename.split("/"))
        if not _files.exists(path):
            # Nothing that runs at load needs it; a warning has named it.
            continue
        _links.check_link(path, source, links)
        target = _files.join(assets, *filename.split("/"))
        _files.make_dirs(target.rsplit("/", 1)[0])
        _files.copy_file(path, target)
