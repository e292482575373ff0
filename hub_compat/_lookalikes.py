"""What a path is if it is not a module: errors that say what was found instead."""

from __future__ import annotations

import difflib
import os
from typing import List

from hub_compat import _files
from hub_compat.errors import FormatError, HandleError

__all__ = [
    "KERAS_METADATA_FILE",
    "MARKER_FILE",
    "MODEL_FILES",
    "not_a_directory",
    "not_a_module",
    "not_found",
]

MARKER_FILE = "tfhub_module.pb"
MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
KERAS_METADATA_FILE = "keras_metadata.pb"

# Suffixes of what people point a loader at by mistake, and what to do about it.
_FOREIGN = (
    ("model.json", "a TensorFlow.js model", "Only TensorFlow.js can load it"),
    (".tflite", "a TensorFlow Lite model", "Load it with tf.lite.Interpreter"),
    (".keras", "a Keras model file", "Load it with keras.models.load_model"),
    (".h5", "a Keras HDF5 file", "Load it with keras.models.load_model"),
    (".hdf5", "a Keras HDF5 file", "Load it with keras.models.load_model"),
    (".tar.gz", "an archive", "Extract it and pass the directory"),
    (".tgz", "an archive", "Extract it and pass the directory"),
    (".tar", "an archive", "Extract it and pass the directory"),
    (".zip", "an archive", "Extract it and pass the directory"),
    (".onnx", "an ONNX model", "Only an ONNX runtime can load it"),
)
_GRAPH_SUFFIXES = (".pb", ".pbtxt")


def not_found(directory: str) -> HandleError:
    """Returns the error for a path at which there is nothing."""
    hint = "Check the spelling"
    if not os.path.isabs(directory) and not _files.working_directory():
        hint = "The working directory has been deleted"
    elif os.path.islink(directory):
        hint = "It is a symbolic link to {}".format(os.readlink(directory))
    elif directory.startswith("~"):
        hint = "Only a shell expands a ~; pass os.path.expanduser(...)"
    elif not _files.is_remote(directory) and directory:
        parent, name = os.path.split(os.path.abspath(directory))
        while not os.path.isdir(parent) and parent != os.path.dirname(parent):
            parent, name = os.path.split(parent)
        try:
            near = difflib.get_close_matches(name, os.listdir(parent), 1)
        except OSError:
            near = []
        if near:
            hint = "Did you mean {}?".format(os.path.join(parent, near[0]))
        elif not os.path.isabs(directory):
            hint = "It was looked for in {}".format(_files.working_directory())
        else:
            hint = "The nearest directory that does is {}".format(parent)
    return HandleError(
        "{} does not exist. {} Received: {!r}".format(
            directory, _sentence(hint), directory
        )
    )


def not_a_directory(path: str) -> FormatError:
    """Returns the error for a file where a directory was expected."""
    name = path.rstrip("/").replace(os.sep, "/").rsplit("/", 1)[-1]
    if name in MODEL_FILES + (MARKER_FILE, KERAS_METADATA_FILE):
        folder = path[: -len(name)].rstrip("/" + os.sep) or "."
        advice = "Pass its directory: {}".format(folder)
    else:
        foreign = _foreign([name])
        advice = foreign or "Pass a directory that holds one of {}".format(
            ", ".join(MODEL_FILES)
        )
    return FormatError(
        "Expected the directory of a module, found a file. {}. Received: {!r}".format(
            advice, path
        )
    )


def not_a_module(directory: str, names: List[str]) -> FormatError:
    """Returns the error for a directory without a model file.

    Args:
      directory: the directory.
      names: what is in it.
    """
    advice = _inner_module(directory, names) or _foreign(names) or _checkpoint(names)
    if not advice and "variables" in names:
        advice = "It looks like a SavedModel whose model file was lost"
    shown = names[:10]
    return FormatError(
        "{} is of an unknown type: it contains neither {} nor {} (nor {}). {} "
        "Found: {}{}".format(
            directory,
            MODEL_FILES[0],
            MODEL_FILES[1],
            MODEL_FILES[2],
            _sentence(
                advice
                or "Pass the directory that tf.saved_model.save or export() wrote"
            ),
            ", ".join(shown) if shown else "an empty directory",
            " and {} more".format(len(names) - 10) if len(names) > 10 else "",
        )
    )


def _inner_module(directory: str, names: List[str]) -> str:
    """Advice if a sub-directory is a module: hub archives often nest or number."""
    inner = []
    for name in names[:50]:
        path = _files.join(directory, name)
        try:
            if any(_files.exists(_files.join(path, file)) for file in MODEL_FILES):
                inner.append(path)
        except OSError:
            continue
    if len(inner) == 1:
        return "Did you mean its sub-directory {}?".format(inner[0])
    if inner:
        return "It holds {} modules; pass one of them, as {}".format(
            len(inner), inner[-1]
        )
    return ""


def _foreign(names: List[str]) -> str:
    """Advice if a file of another format is there."""
    for suffix, what, advice in _FOREIGN:
        for name in names:
            if name.lower().endswith(suffix):
                return "{} is {}. {}".format(name, what, advice)
    for name in names:
        if name.lower().endswith(_GRAPH_SUFFIXES) and name not in (
            MARKER_FILE,
            KERAS_METADATA_FILE,
            "fingerprint.pb",
        ):
            return (
                "{} may be a frozen graph, which has no signatures. Load it with "
                "tf.import_graph_def, or export it as a SavedModel".format(name)
            )
    return ""


def _checkpoint(names: List[str]) -> str:
    """Advice if only a checkpoint is there."""
    if "checkpoint" in names or any(name.endswith(".index") for name in names):
        return (
            "It holds a checkpoint: weights without a graph. Build the model in "
            "code, restore the checkpoint, and export a SavedModel"
        )
    return ""


def _sentence(text: str) -> str:
    return text if text.endswith("?") else text + "."
