"""Directories of lowered models."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple, Optional

from hub_compat._io import files as _files
from hub_compat._io import links as _links
from hub_compat._io.fingerprint import fingerprint
from hub_compat._parsing.full_proto import read_saved_model
from hub_compat.detector import detect
from hub_compat.errors import ConversionError
from hub_compat.formats import Omission
from hub_compat.provenance import Provenance, read

from ..backend import canonical
from ..checkpoint import shards
from ..checkpoint.objects import check_object_checkpoint
from ..ir.outside_ops import warnings_of_saved_model
from ..opdata.targets import Registry
from ..request import ConversionRequest, ConversionResult
from ..slim import NotUnderstood, slim
from .lowering import Lowered, lower

__all__ = ["lower_directory", "lower_saved_model"]

# The model itself, and what says which bytes it has.
_REPLACED = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb", "fingerprint.pb")


def lower_saved_model(request: ConversionRequest) -> ConversionResult:
    """Writes a TF2 SavedModel, lowered, into an empty directory.

    Without a registry nothing is lowered: the model is only put together from its
    chunks, or made slim.

    Raises:
      ConversionError, CorruptModuleError: it cannot be lowered.
    """
    detection, directory, registry = (
        request.detection,
        request.directory,
        request.registry,
    )
    source = detection.path
    saved_model = read_saved_model(detection)
    check_object_checkpoint(source, saved_model)
    outside = tuple(warnings_of_saved_model(saved_model))
    if registry is None:
        # What slim models leave out is counted there.
        lowered = Lowered(collections.defaultdict(int), [])
    else:
        lowered = lower(saved_model, registry, source)
    if request.slim:
        _make_slim(saved_model, source, lowered, registry)
    brought = _bring_files(request)
    known = read(source)
    facts = known or Provenance(
        source_format=detection.format.value,
        source_fingerprint=fingerprint(source),
        source_tensorflow_version=detection.producer.tensorflow_version,
        callable=None,
        root_tags=detection.variants[0].tags,
        variants=tuple((v.tags, v.signatures) for v in detection.variants),
        variables=(),
        weights_elsewhere=False,
        warnings=(),
    )
    _finish(saved_model, directory, facts, lowered, registry)
    meta_graph = saved_model.meta_graphs[0]
    nodes = meta_graph.object_graph_def.nodes
    kinds = [node.WhichOneof("kind") for node in nodes]
    own = any(child.local_name == "__call__" for child in nodes[0].children)
    return ConversionResult(
        callable=facts.callable or ("__call__" if own else None),
        variables=kinds.count("variable"),
        trainable_variables=sum(node.variable.trainable for node in nodes),
        tables=kinds.count("resource"),
        assets=len(meta_graph.asset_file_def),
        functions=len(meta_graph.graph_def.library.function),
        nodes=lowered.nodes,
        files_linked=brought.files_linked,
        bytes_linked=brought.bytes_linked,
        bytes_copied=brought.bytes_copied,
        weight_bytes_read=0,
        unused_keys=(),
        warnings=facts.warnings + lowered.warnings() + outside,
        lowered=lowered.lines(),
    )


def _make_slim(
    saved_model: Any, source: str, lowered: Lowered, registry: Optional[Registry]
) -> None:
    """Leaves out what only Keras' own loader needs.

    Args:
      saved_model: the proto.
      source: the directory that it is of.
      lowered: where it is counted.
      registry: what the target knows; None without one.

    Raises:
      ConversionError: it is unknown what that is.
    """
    others = registry is None or registry.version >= (2, 0)
    try:
        done = slim(saved_model, for_sessions=True, for_others=others)
    except NotUnderstood as error:
        raise ConversionError(
            "The model has no slim form: {}. Convert it without slim=True. Received: "
            "{!r}".format(error, source)
        ) from error
    for what, count in (("an object", done.objects), ("a function", done.functions)):
        if count:
            lowered.done["{} that only Keras needs is skipped".format(what)] = count


class _Brought(NamedTuple):
    """The checkpoint shards that came along.

    Attributes:
      files_linked: how many are hard links.
      bytes_linked: the bytes in them.
      bytes_copied: the bytes of the others.
    """

    files_linked: int
    bytes_linked: int
    bytes_copied: int


def _bring_files(request: ConversionRequest) -> _Brought:
    """Brings all files but those that the lowering writes."""
    source = request.detection.path
    linked = copied = files = 0
    for name in _links.model_files(source, request.links):
        # What Keras needs to make layers of objects that are gone.
        if name in _REPLACED or (request.slim and name == "keras_metadata.pb"):
            continue
        path = _files.join(source, *name.split("/"))
        target = _files.join(request.directory, *name.split("/"))
        _files.make_dirs(target.rsplit("/", 1)[0])
        if not _links.is_shard(name):
            _files.copy_file(path, target)
        elif shards.bring(path, target, source, request.link):
            files += 1
            linked += _files.size(path)
        else:
            copied += _files.size(path)
    return _Brought(files, linked, copied)


def lower_directory(directory: str, registry: Registry) -> Lowered:
    """Lowers a converted module where it is."""
    detection = detect(directory)
    saved_model = read_saved_model(detection)
    lowered = lower(saved_model, registry, directory)
    facts = read(directory)
    assert facts is not None
    _finish(saved_model, directory, facts, lowered, registry)
    return lowered


def _finish(
    saved_model: Any,
    directory: str,
    facts: Provenance,
    lowered: Lowered,
    registry: Optional[Registry],
) -> None:
    _files.write_bytes(
        _files.join(directory, "saved_model.pb"),
        canonical.serialize(saved_model),
    )
    dataclasses.replace(
        facts,
        warnings=facts.warnings + lowered.warnings(),
        left_out=facts.left_out
        + tuple(Omission(facts.root_tags, name, why) for name, why in lowered.left_out),
        lowered_for="" if registry is None else registry.name,
        lowered=lowered.lines(),
    ).write(directory)
