"""Remembers where a loaded object came from."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Dict, NamedTuple, Optional, Tuple

from hub_compat._io import files
from hub_compat._parsing.near_misses import MODEL_FILES
from hub_compat.formats import Detection
from hub_compat.provenance import Provenance

__all__ = ["Origin", "note_rewritten", "now", "of", "remember"]

_ATTRIBUTE = "_hub_compat_origin"


# Sizes and times of the files that say what a directory holds.
Written = Tuple[Tuple[int, int], ...]


class Origin(NamedTuple):
    """Where a loaded object came from.

    Attributes:
      detection: of what ``load()`` was given.
      directory: the TF2 SavedModel that TensorFlow loaded: the same directory, or
        one with what it was converted into.
      root: the object of all that directory, where the loaded one is a variant.
      written: of that directory, to tell whether it is still the same; None where
        that cannot be known.
      tags: the variant that was asked for; None for the default one.
      facts: what the loaded directory said of its own origin, if anything.
      source_written: as ``written``, of what ``load()`` was given.
      is_rewritten: whether the directory holds, by now, all of a TF1 module as
        ``save()`` wrote it, rather than what was loaded.
    """

    detection: Detection
    directory: str
    root: Any
    written: Optional[Written]
    tags: Optional[Tuple[str, ...]] = None
    facts: Optional[Provenance] = None
    source_written: Optional[Written] = None
    is_rewritten: bool = False

    def is_unchanged(self) -> bool:
        """Whether the directory still holds what was loaded."""
        return self.written is None or self.written == _written(self.directory)

    def is_source_unchanged(self) -> bool:
        """Whether what ``load()`` was given is still there."""
        return self.source_written in (None, _written(self.detection.path))


# What save() wrote over the module that it was asked to save, by path and what was
# there before. All objects that were loaded from there go on from that.
_rewritten: Dict[Tuple[str, Written], Tuple[Detection, Written]] = {}


def remember(
    loaded: Any,
    detection: Detection,
    directory: str,
    root: Any = None,
    tags: Optional[Tuple[str, ...]] = None,
    facts: Optional[Provenance] = None,
) -> None:
    """Notes where an object came from, and keeps the whole of it alive."""
    here = dataclasses.replace(detection, path=_absolute(detection.path))
    directory = _absolute(directory)
    origin = Origin(
        here,
        directory,
        root,
        _written(directory),
        tags,
        facts,
        _written(here.path),
    )
    # Not tracked: TensorFlow, saving a variant, must not save the whole module.
    object.__setattr__(loaded, _ATTRIBUTE, origin)


def of(loaded: Any) -> Optional[Origin]:
    """The origin of an object; None if it did not come from ``load()``."""
    origin = getattr(loaded, _ATTRIBUTE, None)
    return origin if isinstance(origin, Origin) else None


def now(loaded: Any) -> Optional[Origin]:
    """As ``of``, by what ``save()`` has written to that place since."""
    origin = of(loaded)
    while origin is not None and origin.source_written is not None:
        path = os.path.realpath(origin.detection.path)
        found = _rewritten.get((path, origin.source_written))
        if found is None or found[1] == origin.source_written:
            break
        detection, written = found
        origin = origin._replace(
            detection=detection,
            directory=detection.path,
            written=written,
            source_written=written,
            is_rewritten=origin.is_rewritten or not origin.detection.format.is_tf2,
        )
    return origin


def note_rewritten(origin: Origin, detection: Detection) -> None:
    """Notes that ``save()`` wrote a module to the place that it was loaded from.

    Args:
      origin: of the module.
      detection: of what is there now.
    """
    written = _written(detection.path)
    if written is not None and origin.source_written is not None:
        path = os.path.realpath(origin.detection.path)
        _rewritten[path, origin.source_written] = detection, written


def _absolute(path: str) -> str:
    return path if files.is_remote(path) else os.path.abspath(path)


def _written(directory: str) -> Optional[Written]:
    if files.is_remote(directory):
        return None
    found = []
    for file in MODEL_FILES + ("variables/variables.index",):
        try:
            facts = os.stat(os.path.join(directory, file))
        except OSError:
            found.append((0, 0))
        else:
            found.append((facts.st_size, facts.st_mtime_ns))
    return tuple(found)
