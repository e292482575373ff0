"""Explains what a path is if it is not a module."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from typing import List

from hub_compat._io import files
from hub_compat._parsing import wire
from hub_compat.errors import CorruptModuleError, FormatError, HandleError

__all__ = [
    "KERAS_METADATA_FILE",
    "MARKER_FILE",
    "MODEL_FILES",
    "is_pointer",
    "not_a_directory",
    "not_a_module",
    "not_found",
    "pretence",
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
# Beginnings of what downloads leave in place of a file, and what to do about it.
_LFS = b"version https://git-lfs.github.com/spec/"
_BEGINNINGS = (
    (
        _LFS,
        "a pointer of Git LFS, not the file itself. Run `git lfs pull` where the "
        "repository was cloned",
    ),
    (b"\x1f\x8b", "a gzip archive. Unpack it, and pass the directory in it"),
    (
        b"PK\x03\x04",
        "a zip archive. Unpack it, and pass the directory in it",
    ),
    (b"\x89HDF\r\n", "a Keras HDF5 file. Load it with keras.models.load_model"),
    (
        b"<!doctype",
        "a page of HTML, as servers send when they want a login, or have moved. "
        "Open the address in a browser, and download the file again",
    ),
    (
        b"<html",
        "a page of HTML, as servers send when they want a login, or have moved. "
        "Open the address in a browser, and download the file again",
    ),
    (
        b"<?xml",
        "a page of XML, as a server sends when it refuses a request. Open the "
        "address in a browser, and download the file again",
    ),
)
_TEXT = (b"saved_model_schema_version", b"meta_graphs")
_HEAD_BYTES = 4096
# That are looked into for a module.
_MOST_NAMES = 200
_GRAPH_SUFFIXES = (".pb", ".pbtxt")


def pretence(path: str, may_be_zeros: bool = False) -> str:
    """The real kind of a misnamed file, with advice; empty if unknown.

    Args:
      path: the file.
      may_be_zeros: whether zeros are what it may well be full of, as weights are.
    """
    try:
        with files.open_read(path) as file:
            head = file.read(_HEAD_BYTES)
            name = path.replace(os.sep, "/").rsplit("/", 1)[-1]
            zeros = may_be_zeros and not head.strip(b"\0")
            what = "" if zeros else _what_begins(head)
            if not what and name == MODEL_FILES[0] and head.startswith(_TEXT):
                what = "text. Rename it to {}".format(MODEL_FILES[1])
            elif not what and name == MODEL_FILES[0]:
                what = _what_graph(wire.open_message(file, path))
    except OSError:
        return ""
    return "{} is {}.".format(name, what) if what else ""


def is_pointer(path: str) -> bool:
    """Whether a file is a pointer of Git LFS, which any program takes for text."""
    try:
        # A pointer has 130 bytes or so.
        if files.size(path) > 1024:
            return False
        with files.open_read(path) as file:
            return file.read(len(_LFS)) == _LFS
    except OSError:
        return False


def _what_begins(head: bytes) -> str:
    text = head.lstrip().lower() if head[:1] in b"< \r\n\t" else head
    for beginning, what in _BEGINNINGS:
        if text.startswith(beginning):
            return what
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model. Load it with tf.lite.Interpreter"
    if head and not head.strip(b"\0"):
        return (
            "damaged or incomplete: full of zeros, as after an interrupted "
            "download. Download it again"
        )
    return ""


def _what_graph(message: wire.Message) -> str:
    """Whether a message is a graph without a SavedModel."""
    numbers = []
    try:
        for field in message.fields():
            numbers.append((field.number, field.wire_type))
            if len(numbers) == 3:
                break
    except CorruptModuleError:
        # What comes later may well be damaged, too.
        pass
    # A SavedModel begins with a number; a GraphDef and a MetaGraphDef with a message.
    if (1, wire.BYTES) not in numbers[:1]:
        return ""
    if numbers[1:2] == [(2, wire.BYTES)]:
        return (
            "a MetaGraphDef (the .meta file of a checkpoint), not a SavedModel. "
            "Load it with tf.compat.v1.train.import_meta_graph, and export a "
            "SavedModel"
        )
    return (
        "a GraphDef (a frozen graph), not a SavedModel: it has no signatures. Load "
        "it with tf.import_graph_def, and export a SavedModel"
    )


def not_found(directory: str) -> HandleError:
    """Returns the error for a path at which there is nothing."""
    hint = "Check the spelling"
    if not os.path.isabs(directory) and not files.working_directory():
        hint = "The working directory has been deleted"
    elif os.path.islink(directory):
        hint = "It is a symbolic link to {}".format(os.readlink(directory))
    elif directory.startswith("~"):
        hint = "Only a shell expands a ~; pass os.path.expanduser(...)"
    elif not files.is_remote(directory) and directory:
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
            hint = "It was looked for in {}".format(files.working_directory())
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
    inner = [path for path in _below(directory, names) if _is_module(path)]
    if not inner and not files.is_remote(directory):
        # Archives hold a directory with the directories of the versions.
        for path in _below(directory, names):
            with contextlib.suppress(OSError):
                found = _below(path, files.list_dir(path)) if _is_dir(path) else []
                inner += [below for below in found if _is_module(below)]
    if len(inner) == 1:
        return "Did you mean its sub-directory {}?".format(inner[0])
    if inner:
        # Versions are numbers, and the last one is the newest.
        last = max(inner, key=lambda path: [int(n) for n in re.findall("[0-9]+", path)])
        return "It holds {} modules; pass one of them, as {}".format(len(inner), last)
    return ""


def _below(directory: str, names: List[str]) -> List[str]:
    return [files.join(directory, name) for name in names[:_MOST_NAMES]]


def _is_dir(path: str) -> bool:
    try:
        return files.is_dir(path)
    except OSError:
        return False


def _is_module(path: str) -> bool:
    try:
        return any(files.exists(files.join(path, file)) for file in MODEL_FILES)
    except OSError:
        return False


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
