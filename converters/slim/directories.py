"""Directories of slim models."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
from typing import Any, NamedTuple, Tuple

from hub_compat._io import files, links
from hub_compat._parsing.full_proto import read_saved_model
from hub_compat.detector import detect
from hub_compat.errors import CorruptModuleError, DestinationError

from ..backend import canonical
from ..checkpoint import relabel
from ..checkpoint.index import read_index
from ..checkpoint.objects import matched_objects, needed_graph
from .objects import HELD, NotUnderstood
from .slimming import Slim, slim

__all__ = ["SlimFacts", "pays", "read_facts", "write_slim"]

_MODEL = "saved_model.pb"
# Beside the model itself, what is about the whole of it.
_REPLACED = (_MODEL, "saved_model.pbtxt", "saved_model.cpb", "fingerprint.pb")
_OF_KERAS = "keras_metadata.pb"
# Each layer has an object of this name, and four functions.
_MARK = b"keras_api"
# Where the names of what is gone are, in a directory that load() makes for itself.
_FACTS = ("assets.extra", "hub_compat_slim.json")


def pays(directory: str, layers: int) -> bool:
    """Whether a model has so many layers of Keras 2 that its slim form loads faster.

    Nothing is parsed.

    Args:
      directory: a TF2 SavedModel.
      layers: how many there must be.
    """
    path = files.join(directory, _MODEL)
    if files.is_remote(directory) or not os.path.isfile(path):
        return False
    found, position = 0, 0
    with open(path, "rb") as file:
        with contextlib.ExitStack() as stack:
            try:
                data = stack.enter_context(
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                )
            except (OSError, ValueError):
                # An empty file, or a file system without maps.
                return False
            while found < layers:
                position = data.find(_MARK, position) + len(_MARK)
                if position < len(_MARK):
                    return False
                found += 1
    return True


class SlimFacts(NamedTuple):
    """What a directory that ``write_slim`` wrote says of itself.

    Attributes:
      reason: why there is no slim form; empty where there is one.
      lost: attributes of the root that it does not have.
    """

    reason: str
    lost: Tuple[str, ...]


def write_slim(directory: str, target: str) -> None:
    """Writes the slim form of a TF2 SavedModel, for a loader of TensorFlow's.

    Weights are linked, and never copied. Of a model that is better loaded as it is,
    only the reason is written, so that nobody tries again.

    Args:
      directory: the model.
      target: an empty directory.
    """
    try:
        facts = SlimFacts("", _write(directory, target).lost)
    except NotUnderstood as error:
        files.remove_tree(target)
        files.make_dirs(target)
        facts = SlimFacts(str(error), ())
    files.make_dirs(files.join(target, _FACTS[0]))
    files.write_bytes(files.join(target, *_FACTS), json.dumps(facts._asdict()).encode())


def read_facts(target: str) -> SlimFacts:
    """Reads what ``write_slim`` wrote."""
    facts = json.loads(files.read_bytes(files.join(target, *_FACTS), 1 << 26).decode())
    return SlimFacts(facts["reason"], tuple(facts["lost"]))


def _write(directory: str, target: str) -> Slim:
    saved_model = read_saved_model(detect(directory))
    done = _made_slim(directory, saved_model)
    _write_checkpoint(directory, target, saved_model)
    for name in links.model_files(directory, links.FILES):
        if name in _REPLACED or name == _OF_KERAS or name.startswith("variables/"):
            continue
        path = files.join(directory, *name.split("/"))
        place = files.join(target, *name.split("/"))
        files.make_dirs(place.rsplit("/", 1)[0])
        files.copy_file(path, place)
    files.write_bytes(files.join(target, _MODEL), canonical.serialize(saved_model))
    return done


def _write_checkpoint(directory: str, target: str, saved_model: Any) -> None:
    """Writes an index over links to the shards."""
    prefix = files.join(directory, "variables", "variables")
    files.make_dirs(files.join(target, "variables"))
    try:
        index = read_index(prefix)
        graph = needed_graph(directory, saved_model, index)
        relabel.relabel(
            index,
            files.join(target, "variables", "variables"),
            {key: (key, None) for key in index.entries},
            graph,
            link="hard",
        )
    except (CorruptModuleError, DestinationError) as error:
        raise NotUnderstood(str(error)) from error


def _made_slim(directory: str, saved_model: Any) -> Slim:
    """Makes a proto slim, and looks whether the checkpoint serves it as well."""
    try:
        before = matched_objects(directory, saved_model)
        done = slim(saved_model, for_sessions=False)
        after = matched_objects(directory, saved_model)
    except CorruptModuleError as error:
        # A loader says it better.
        raise NotUnderstood(str(error)) from error
    nodes = saved_model.meta_graphs[0].object_graph_def.nodes
    for old, new in done.numbers.items():
        if old in before and new not in after and nodes[new].WhichOneof("kind") in HELD:
            raise NotUnderstood("the checkpoint has no path to some objects")
    return done
