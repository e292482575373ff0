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
    Optional,
    Set,
    Tuple,
)

from hub_compat._io import files as _files
from hub_compat._io import links as _links
from hub_compat._io.fingerprint import fingerprint
from hub_compat._parsing.full_proto import read_saved_model
from hub_compat.errors import ConversionError, CorruptModuleError
from hub_compat.formats import Detection, Format
from hub_compat.provenance import Provenance

from .backend import canonical
from .backend.object_graph import variable_key
from .backend.reusable import build
from .checkpoint import relabel, v1
from .checkpoint.index import CheckpointIndex
from .checkpoint.shards import BORROW
from .ir import outside_ops
from .ir.calls import CALLS
from .ir.context import Source
from .ir.effects import written_resources
from .ir.functions import set_attr
from .ir.model import Model, VariantGraph, root_tags
from .ir.signatures import make_shape
from .ir.tables import is_carrier
from .ir.variable_reads import STORED_AS
from .omissions import NOTHING, Exclusions
from .opdata import op_defs
from .pipeline import add_variant

__all__ = ["convert_tf1_model", "read_with_signature"]

# What may give a variable another shape.
_REPLACING = ("AssignVariableOp", *CALLS)
# The checkpoint's key for the object graph (trackable/base.py).
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def convert_tf1_model(
    detection: Detection,
    directory: str,
    link: str,
    weights: bool = True,
    tags: Optional[Tuple[str, ...]] = None,
    whole: bool = True,
    available_ops: Collection[str] = (),
    exclusions: Optional[Exclusions] = None,
    links: str = _links.INSIDE,
) -> Dict[str, Any]:
    """Converts a TF1 model into an empty directory.

    Args:
      detection: the module.
      directory: where the result goes.
      link: how checkpoint shards get there, see ``converters.convert``.
      weights: False for a checkpoint without any value, for a loader that
        restores the variables from the source.
      tags: the only variant to convert.
      whole: whether the other variants come along.
      available_ops: ops that newer TensorFlows lack, and the one at hand has.
      exclusions: what to leave out for TensorFlow to load the rest.
      links: what becomes of those out of the module, see ``_io/links.py``.

    Returns:
      The fields of a ConversionReport that the conversion knows.
    """
    source = detection.path
    model, meta_graphs = _read_model(
        detection, tags, exclusions or NOTHING, weights=weights
    )
    upgraded = _files.join(directory, "upgraded_checkpoint")
    index = _read_index(source, upgraded)
    if detection.format is not Format.TF1_HUB_MODULE:
        _leave_out_without_value(model, index)
    _say_shapes(model, index)
    mapping = _map_variables(model, index)
    _leave_out_dropped(model, available_ops)
    _leave_out_dense_tables(model)
    model.warnings.extend(outside_ops.warnings_of_model(model))
    reusable = build(model, meta_graphs, whole)
    unused = _unused_keys(index, mapping)
    keys: Dict[str, Tuple[str, Any]] = {}
    new: Dict[str, Any] = {}
    for i, key in enumerate(reusable.variables):
        if key not in mapping:
            new[variable_key(i)] = model.variables[key].initial
        elif weights:
            keys[variable_key(i)] = mapping[key]
    if weights:
        keys.update((key, (key, None)) for key in unused)
    held = set(keys).union(new)
    new[_OBJECT_GRAPH] = reusable.objects.checkpoint_graph(held)
    variables_dir = _files.join(directory, "variables")
    _files.make_dirs(variables_dir)
    is_upgraded = index is not None and index.prefix.startswith(upgraded)
    report = relabel.relabel(
        index,
        _files.join(variables_dir, "variables"),
        keys,
        new,
        # What is removed cannot be borrowed.
        link="auto" if is_upgraded and link == BORROW else link,
    )
    if is_upgraded:
        _files.remove_tree(upgraded)
    _copy_assets(model, source, directory, links)
    facts = Provenance(
        source_format=detection.format.value,
        source_fingerprint=fingerprint(source),
        source_tensorflow_version=detection.producer.tensorflow_version,
        callable=reusable.callable,
        root_tags=reusable.tags,
        variants=tuple(
            (v.tags, tuple(v.signatures))
            for v in model.variants
            if whole or v.tags == reusable.tags
        ),
        variables=tuple(
            (model.variables[key].name,) + mapping[key]
            if key in mapping
            # Nothing else has the name: another variant may have another value.
            else (key.partition(":")[2], "", None)
            for key in reusable.variables
            if not model.variables[key].local
        ),
        weights_elsewhere=not weights,
        warnings=tuple(model.warnings),
        left_out=tuple(model.left_out),
        excluded=exclusions is not None,
    )
    facts.write(directory)
    _files.write_bytes(
        _files.join(directory, "saved_model.pb"),
        canonical.serialize(reusable.saved_model),
    )
    library = reusable.saved_model.meta_graphs[0].graph_def.library.function
    return dict(
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
        unused_keys=tuple(unused),
        warnings=tuple(model.warnings),
    )


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
            index = _read_index(detection.path, os.path.join(upgraded, "new"))
        _leave_out_without_value(model, index)
    _leave_out_dropped(model, available_ops)
    _leave_out_dense_tables(model)
    return model, edited[0]


def _read_model(
    detection: Detection,
    tags: Optional[Tuple[str, ...]],
    exclusions: Exclusions,
    edit: Optional[Callable[[Any], None]] = None,
    weights: bool = True,
) -> Tuple[Model, List[Any]]:
    """The model, and the MetaGraphDefs of its variants.

    A variant that cannot be converted is left out, unless it is the one that is
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


def _leave_out_without_value(model: Model, index: Optional[CheckpointIndex]) -> None:
    """Leaves out variables that have no value, and what needs them.

    A graph declares variables that its exporter did not save: those of metrics, or
    what only another signature's program initialized.
    """
    missing = set()
    lost = {key for key, variable in model.variables.items() if variable.lost}
    for key, variable in model.variables.items():
        saved = index is not None and variable.checkpoint_key in index.entries
        if variable.initial is None and not saved or key in lost:
            missing.add(key)
    tags = root_tags(variant.tags for variant in model.variants)
    root = next(variant for variant in model.variants if variant.tags == tags)
    if not missing or root.restored.intersection(missing - lost):
        # Its own loader could not restore it: _map_variables says what it lacks.
        return
    for variant in model.variants:
        keys = {n: c.key for n, c in variant.captures.items() if c.key in missing}

        def reason(name: str, keys: Dict[str, str] = keys) -> str:
            variable = model.variables[keys[name]]
            if variable.lost:
                return "its outputs need the variable {!r}: {}".format(
                    name, variable.lost
                )
            return (
                "the checkpoint holds no value for the variable {!r}, which its "
                "outputs need".format(name)
            )

        _leave_out_what_needs(set(keys), model, variant, reason)
        variant.variables = [key for key in variant.variables if key not in missing]
        variant.trainable -= missing
    for key in missing:
        del model.variables[key]


def _say_shapes(model: Model, index: Optional[CheckpointIndex]) -> None:
    """Gives variables of unknown shape that of their values.

    A graph does not say it with ``validate_shape=False``. What a program assigns anew
    may get another one, and stays unknown.
    """
    unknown = {
        key: variable
        for key, variable in model.variables.items()
        if variable.shape.unknown_rank
        or any(dim.size < 0 for dim in variable.shape.dim)
    }
    if not unknown:
        return
    assigned = {
        variant.captures[name].key
        for variant in model.variants
        for name, writers in written_resources(variant.graph).items()
        if name in variant.captures
        and any(variant.graph.nodes[w].op in _REPLACING for w in writers)
    }
    for key, variable in unknown.items():
        if key in assigned:
            continue
        if variable.part is not None:
            sizes = [length for _, length in variable.part]
        elif index is not None and variable.checkpoint_key in index.entries:
            sizes = list(index.entries[variable.checkpoint_key].shape)
        elif variable.initial is not None:
            sizes = list(variable.initial.shape)
        else:
            continue
        variable.shape = make_shape(sizes)
        for variant in model.variants:
            for name, capture in variant.captures.items():
                if capture.key == key:
                    node = variant.graph.nodes[name]
                    set_attr(node, "shape", ("shape", variable.shape))


def _leave_out_dropped(model: Model, available: Collection[str]) -> None:
    """Leaves out what needs an op that TensorFlow has dropped.

    Args:
      model: the model.
      available: such ops that are there nevertheless.
    """
    homes = op_defs.homes()
    for variant in model.variants:
        ops = {
            name: node.op
            for name, node in variant.graph.nodes.items()
            if node.op in homes and node.op not in available
        }

        def reason(name: str, ops: Dict[str, str] = ops) -> str:
            return "it uses the op {} of {}, which TensorFlow 2 removed".format(
                ops[name], homes[ops[name]]
            )

        _leave_out_what_needs(set(ops), model, variant, reason)


def _leave_out_dense_tables(model: Model) -> None:
    """Leaves out what needs a table whose empty key is not made of constants.

    No object of a SavedModel can be made from a tensor of a graph, and in a function
    each call would have a table of its own, empty.
    """
    for variant in model.variants:
        nodes = {
            name
            for name, node in variant.graph.nodes.items()
            if node.op.startswith("MutableDenseHashTable")
            and name not in variant.captures
        }
        _leave_out_what_needs(
            nodes,
            model,
            variant,
            "it needs the dense hash table {!r}, which would be empty".format,
        )


def _leave_out_what_needs(
    nodes: Set[str],
    model: Model,
    variant: VariantGraph,
    reason: Callable[[str], str],
) -> None:
    """Leaves out the signatures, update ops and losses that some nodes are behind."""
    if not nodes:
        return
    graph = variant.graph
    for name, signature in list(variant.signatures.items()):
        fed = {c.tensor for c in signature.flat_inputs()}
        outputs = [c.tensor for c in signature.flat_outputs()]
        needed = nodes.intersection(graph.slice(outputs, fed))
        if needed:
            del variant.signatures[name]
            model.leave_out_signature(variant.tags, name, reason(min(needed)))
    variant.update_ops = [
        op for op in variant.update_ops if nodes.isdisjoint(graph.slice(["^" + op]))
    ]
    variant.losses = [
        loss for loss in variant.losses if nodes.isdisjoint(graph.slice([loss]))
    ]
    for table in model.tables.values():
        if table.variant is not variant or not is_carrier(table.name):
            continue
        for name in list(table.fillers):
            needed = nodes.intersection(graph.slice(["^" + name]))
            if needed:
                table.fillers.remove(name)
                model.warnings.append(
                    "variant {}: the init op does more than fill tables and set "
                    "variables; this is skipped: {}".format(
                        list(variant.tags), reason(min(needed))
                    )
                )


def _read_index(source: str, folder: str) -> Optional[CheckpointIndex]:
    """The index of the checkpoint; None for a module without variables.

    Args:
      source: the module.
      folder: where a checkpoint of an older format is written in the present one.
    """
    prefix = _files.join(source, "variables", "variables")
    if _files.exists(prefix + ".index"):
        return relabel.read_index(prefix)
    files = v1.files_of(prefix)
    if not files:
        return None
    _files.make_dirs(folder)
    return v1.upgrade(files, folder)


def _map_variables(
    model: Model, index: Optional[CheckpointIndex]
) -> Dict[str, Tuple[str, Any]]:
    """Where the checkpoint keeps each variable's value, by the variable's key.

    Raises:
      CorruptModuleError: it has no value, or one of another dtype or shape.
    """
    mapping = {}
    for key, variable in model.variables.items():
        if variable.initial is not None:
            continue
        if index is None or variable.checkpoint_key not in index.entries:
            raise CorruptModuleError(
                "The checkpoint holds no value for the variable {!r} (key {!r}): "
                "the module was exported or fetched in part. Received: {}".format(
                    variable.name,
                    variable.checkpoint_key,
                    "no variables/variables.index"
                    if index is None
                    else "an index with {} keys".format(len(index.entries)),
                )
            )
        entry = index.entries[variable.checkpoint_key]
        if STORED_AS.get(entry.dtype) == variable.dtype and not entry.slices:
            entry = entry._replace(dtype=variable.dtype)
            index.entries[variable.checkpoint_key] = entry
        found = tuple(entry.shape)
        if variable.part is not None and len(variable.part) == len(found):
            found = tuple(length for _, length in variable.part)
        dims = tuple(dim.size for dim in variable.shape.dim)
        fits = len(dims) == len(found) and all(
            dim in (-1, size) for dim, size in zip(dims, found)
        )
        if entry.dtype != variable.dtype or not (fits or variable.shape.unknown_rank):
            raise CorruptModuleError(
                "The graph declares the variable {!r} with dtype {} and shape {}, "
                "but the checkpoint has another under {!r}. The graph and the "
                "checkpoint are of different exports. Received: dtype {} and shape "
                "{}".format(
                    variable.name,
                    variable.dtype,
                    list(dims),
                    variable.checkpoint_key,
                    entry.dtype,
                    list(found),
                )
            )
        mapping[key] = (variable.checkpoint_key, variable.part)
    return mapping


def _unused_keys(
    index: Optional[CheckpointIndex], mapping: Mapping[str, Tuple[str, Any]]
) -> List[str]:
    """Keys that no variable of the graphs has; they are kept as they are."""
    if index is None:
        return []
    used = {key for key, _ in mapping.values()}
    used.add(_OBJECT_GRAPH)
    return [key for key in index.entries if key not in used]


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
