"""Detects the format of a directory, with evidence: ``detect()``.

No TensorFlow, no protobuf: the few fields that decide are read off the file, the
graph is seeked over, so a gigabyte takes as long as a kilobyte.

The decision, and where each fact comes from:

================================  ==================  ============================
marker ``tfhub_module.pb``        MetaGraphs          format
================================  ==================  ============================
any                               exactly one, with   one of the TF2 kinds
                                  object_graph_def
``format: 3``, nothing required   anything else       ``TF1_HUB_MODULE``
absent                            anything else       ``TF1_SAVED_MODEL``
================================  ==================  ============================

- *One MetaGraph with an object graph* is the test by which TensorFlow 1.15 to 2.21
  choose between their two loaders (``tensorflow/python/saved_model/load.py``). It
  goes before the marker: a copied marker does not make a TF2 model older.
- *The marker* is ``ModuleDef{format = 1, required_features = 2}`` of
  ``tensorflow_hub/module_def.proto`` (up to 0.15). Only format 3 exists, no feature
  does, and readers must refuse what they do not know.
- *The TF2 kinds* come from ``SavedObjectGraph`` in
  ``tensorflow/core/protobuf/saved_object_graph.proto``. ``TF2_KERAS``: node 0's
  ``user_object.identifier`` starts with ``_tf_keras_`` (``keras/saving/legacy/
  saved_model``, Keras 2 models and layers), or Keras 2's ``keras_metadata.pb`` is
  there. Such a model is nearly always callable too; the evidence says so.
  ``TF2_REUSABLE``: node 0 has a child ``__call__`` that is a function, the interface
  of "Reusable SavedModels". ``TF2_SIGNATURES``: neither. Keras 3's
  ``Model.export()`` and ``ExportArchive`` write this kind: the root is a plain
  object with ``serve`` and without ``__call__`` (seen in TF 2.21, Keras 3.15).
- *Which file*: TensorFlow's Python loaders read ``saved_model.pb``, else
  ``saved_model.pbtxt`` (``loader_impl.parse_saved_model``), so this order holds
  here. ``saved_model.cpb`` they do not read; it counts only if it is alone. (The
  C++ merger of the proto splitter prefers it, but is not in the wheels.)
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, List, Optional, Union

from hub_compat import _guard
from hub_compat._handles.resolving import resolve
from hub_compat._io import files, leftovers
from hub_compat._parsing import wire
from hub_compat._parsing.chunked import ChunkedFile, UnreadableRecords
from hub_compat._parsing.near_misses import (
    KERAS_METADATA_FILE,
    MARKER_FILE,
    MODEL_FILES,
    not_a_directory,
    not_a_module,
    not_found,
    pretence,
)
from hub_compat._parsing.readers import TextReader, WireReader
from hub_compat._parsing.summary import (
    SCHEMA,
    Model,
    ObjectGraph,
    read_chunked,
    read_model,
)
from hub_compat._parsing.text_format import open_text
from hub_compat.errors import CorruptModuleError, FormatError, HandleError
from hub_compat.formats import Detection, Format, Producer, Variant

__all__ = ["MARKER_FILE", "MODEL_FILES", "detect"]

_MODULE_FORMAT = 3
# What addresses begin with that no file system of TensorFlow's has.
_HANDLES = ("ftp", "sftp", "ssh", "git", "hf", "tfhub")


def detect(path: Union[str, os.PathLike[str]]) -> Detection:
    """Detects the format of a module directory, with the evidence.

    Reads the marker file and a few fields of the model file; never the graph, the
    weights or, for a local path, TensorFlow.

    Args:
      path: directory with a ``saved_model.pb`` (or ``.pbtxt``, ``.cpb``), local, or
        on any file system that ``tf.io.gfile`` knows; or a handle that ``resolve()``
        takes.

    Returns:
      The format with its evidence, the variants and the producer. A
      ``saved_model.cpb`` whose records cannot be unpacked here has no variants
      and an empty producer; the evidence says why.

    Raises:
      HandleError: there is nothing at the path.
      FormatError: it is not a module, or its format is refused; the message says what
        was found.
      CorruptModuleError: (a ``FormatError``) the module is damaged or incomplete.

    Example::

        >>> detect("/models/half_plus_two").format
        <Format.TF1_HUB_MODULE: 'tf1_hub_module'>
    """
    directory = resolve(path)
    given = path if isinstance(path, str) else directory
    with _guard.reading(given, "read"):
        return _detect(directory, given)


# Errors go from the file to its surroundings: a file that cannot be parsed may be a
# page of a web server, or a pointer of git-lfs, and that is what the user must hear.
def _detect(directory: str, given: str) -> Detection:
    names = _list_module(directory)
    marker = MARKER_FILE in names
    if marker:
        _check_marker(files.join(directory, MARKER_FILE))
    file = next((name for name in MODEL_FILES if name in names), None)
    if file is None:
        raise not_a_module(directory, names)

    model_path = files.join(directory, file)
    has_metadata = KERAS_METADATA_FILE in names
    try:
        with files.open_read(model_path) as opened:
            model = _read_file(opened, file, model_path)
    except CorruptModuleError as error:
        other = _instead(model_path)
        if other is None:
            raise
        raise other from error
    except UnreadableRecords as error:
        return _sealed_detection(given, marker, has_metadata, str(error))
    except OSError as error:
        raise _unreadable(model_path, error) from error
    if not model.graphs:
        raise _instead(model_path) or CorruptModuleError(
            "{} is damaged or incomplete: it holds no MetaGraph, a SavedModel has at "
            "least one. Download or export the module again. It has {} bytes.".format(
                model_path, files.size(model_path)
            )
        )

    evidence: List[str] = []
    chosen = _decide(model, marker, has_metadata, model_path, evidence)
    first = model.graphs[0]
    return Detection(
        path=given,
        format=chosen,
        file=file,
        variants=tuple(
            Variant(tuple(sorted(set(graph.tags))), tuple(sorted(graph.signatures)))
            for graph in model.graphs
        ),
        producer=Producer(first.tensorflow_version, first.graph_def_version),
        evidence=tuple(evidence),
    )


def _read_file(opened: Any, file: str, model_path: str) -> Model:
    if file == "saved_model.pb":
        message = wire.open_message(opened, model_path)
        return read_model(WireReader(message, "SavedModel", SCHEMA))
    if file == "saved_model.pbtxt":
        return read_model(
            TextReader(open_text(opened, model_path), "SavedModel", SCHEMA)
        )
    return read_chunked(ChunkedFile(opened, model_path))


# Asked in this order, as the first answer settles it:
#
#     one MetaGraph with an object graph       TF2, whatever the marker says
#     the marker tfhub_module.pb               TF1 Hub module
#     neither                                  TF1 SavedModel
#
# An object graph comes first, because no TF1 writes one: a marker beside it was copied.
def _decide(
    model: Model,
    marker: bool,
    has_metadata: bool,
    model_path: str,
    evidence: List[str],
) -> Format:
    """Applies the table of the module docstring."""
    first = model.graphs[0]
    if len(model.graphs) == 1 and first.objects is not None:
        if not first.objects.count:
            raise CorruptModuleError(
                "{} is damaged or incomplete: its object graph has no nodes, a TF2 "
                "SavedModel has at least a root. Export the model again.".format(
                    model_path
                )
            )
        evidence.append(
            "Its only MetaGraph has an object graph: tf.saved_model.save of TF2 "
            "wrote it."
        )
        if marker:
            evidence.append(
                "The TF1 Hub marker {} is there, but the model is TF2; the marker "
                "is ignored.".format(MARKER_FILE)
            )
        return _tf2_kind(first.objects, has_metadata, evidence)

    if len(model.graphs) > 1 and any(graph.objects for graph in model.graphs):
        evidence.append(
            "A MetaGraph has an object graph, but there are {}; TensorFlow reads "
            "object graphs only from a single one.".format(len(model.graphs))
        )
    else:
        evidence.append("No MetaGraph has an object graph: it was saved the TF1 way.")
    if marker:
        evidence.append("The TF1 Hub marker {} is there.".format(MARKER_FILE))
        return Format.TF1_HUB_MODULE
    evidence.append("There is no TF1 Hub marker {}.".format(MARKER_FILE))
    if not model.schema_version and any(not graph.tags for graph in model.graphs):
        evidence.append(
            "Without schema version and with an untagged MetaGraph it looks like a "
            "TF1 Hub module that lost its marker."
        )
    return Format.TF1_SAVED_MODEL


def _tf2_kind(objects: ObjectGraph, has_metadata: bool, evidence: List[str]) -> Format:
    keras = objects.root_identifier.startswith("_tf_keras_")
    if keras:
        evidence.append(
            "The root is a Keras 2 object: {}.".format(objects.root_identifier)
        )
    if has_metadata:
        evidence.append("Keras 2's {} is there.".format(KERAS_METADATA_FILE))
    if objects.callable:
        evidence.append("The root is callable: its child __call__ is a function.")
    else:
        evidence.append(
            "The root is not callable: it has no child __call__ that is a function."
        )
    if keras or has_metadata:
        return Format.TF2_KERAS
    if objects.callable:
        return Format.TF2_REUSABLE
    if objects.export_archive:
        evidence.append("The root looks like an export of Keras (Model.export).")
    return Format.TF2_SIGNATURES


def _sealed_detection(
    path: str, marker: bool, has_metadata: bool, reason: str
) -> Detection:
    """The detection of a chunked file that cannot be unpacked."""
    evidence = [
        "saved_model.cpb is a chunked SavedModel; only tf.saved_model.save of TF "
        "2.15 or newer writes it.",
        "Its signatures cannot be listed: {}.".format(reason),
    ]
    if marker:
        evidence.append(
            "The TF1 Hub marker {} is there, but no TF1 writes a chunked model; the "
            "marker is ignored.".format(MARKER_FILE)
        )
    chosen = Format.TF2_SIGNATURES
    if has_metadata:
        evidence.append("Keras 2's {} is there.".format(KERAS_METADATA_FILE))
        chosen = Format.TF2_KERAS
    else:
        evidence.append("Whether the root is callable is not known.")
    return Detection(
        path=path,
        format=chosen,
        file="saved_model.cpb",
        variants=(),
        producer=Producer("", 0),
        evidence=tuple(evidence),
    )


def _check_marker(path: str) -> None:
    """Refuses a marker of a format or with features that nobody knows."""
    number = 0
    features = []
    try:
        with files.open_read(path) as opened:
            reader = WireReader(wire.open_message(opened, path), "ModuleDef", SCHEMA)
            for name, value in reader.fields():
                if name == "format":
                    number = value
                else:
                    features.append(value)
    except CorruptModuleError as error:
        other = _instead(path)
        if other is None:
            raise
        raise other from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if number != _MODULE_FORMAT:
        raise FormatError(
            "Unsupported module def format {} in {}. The only TF1 Hub format is {}. "
            "The module may be newer, or damaged. Received: format {}".format(
                number, path, _MODULE_FORMAT, number
            )
        )
    if features:
        raise FormatError(
            "Unsupported module features in {}: this version supports none, and the "
            "module requires them. Received: {}".format(path, sorted(features))
        )


def _instead(path: str) -> Optional[CorruptModuleError]:
    """The error for a file that another one pretends to be; None if it is not known."""
    what = pretence(path)
    return CorruptModuleError("{} Received: {!r}".format(what, path)) if what else None


def _list_module(directory: str) -> List[str]:
    """Returns the names in the directory, or says what there is instead."""
    scheme = directory.lower().split("://")[0] if files.is_remote(directory) else ""
    if scheme in _HANDLES:
        raise HandleError(
            "Addresses that begin with {}:// are not supported. Fetch and unpack "
            "the module and pass its directory, or see register_resolver(). "
            "Received: {!r}".format(scheme, directory)
        )
    if scheme == "ram" and "tensorflow" not in sys.modules:
        # It holds what this process put there, through TensorFlow.
        raise not_found(directory)
    try:
        if files.is_dir(directory):
            return files.list_dir(directory)
        found = files.exists(directory)
        if not found and _was_being_replaced(directory):
            return files.list_dir(directory)
        if not found and not files.is_remote(directory):
            # Says that a directory above may not be read, of which the others say that
            # nothing is there.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.stat(directory)
    except (OSError, ValueError) as error:
        raise _unreadable(directory, error) from error
    if found:
        raise not_a_directory(directory)
    raise not_found(directory)


def _was_being_replaced(directory: str) -> bool:
    """Whether a writer that was killed had it half replaced; then it is there now."""
    if files.is_remote(directory) or not directory:
        return False
    return leftovers.recover(os.path.realpath(directory))


def _unreadable(path: str, error: Exception) -> HandleError:
    return HandleError(
        "{} cannot be read: {}. Check the path, and that this user may read "
        "it. Received: {!r}".format(path, error, path)
    )
