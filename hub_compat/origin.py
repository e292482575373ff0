"""What a loaded object remembers of where it came from."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, NamedTuple, Optional, Tuple

from hub_compat import _files
from hub_compat.formats import Detection

__all__ = ["Origin", "of", "remember"]

_ATTRIBUTE = "_hub_compat_origin"


class Origin(NamedTuple):
    """Where a loaded object came from.

    Attributes:
      detection: of what ``load()`` was given.
      directory: the TF2 SavedModel that TensorFlow loaded: the same directory, or
        one with what it was converted into.
      root: the object of all that directory, where the loaded one is a variant.
      written: size and time of the directory's model file, to tell whether it is
        still the same; None where that cannot be known.
      tags: the variant that was asked for; None for the default one.
    """

    detection: Detection
    directory: str
    root: Any
    written: Optional[Tuple[int, int]]
    tags: Optional[Tuple[str, ...]] = None

    def is_unchanged(self) -> bool:
        """Whether the directory still holds what was loaded."""
        return self.written is None or self.written == _written(self.directory)


def remember(
    loaded: Any,
    detection: Detection,
    directory: str,
    root: Any = None,
    tags: Optional[Tuple[str, ...]] = None,
) -> None:
    """Notes where an object came from, and keeps the whole of it alive."""
    here = dataclasses.replace(detection, path=_absolute(detection.path))
    directory = _absolute(directory)
    origin = Origin(here, directory, root, _written(directory), tags)
    # Not tracked: TensorFlow, saving a variant, must not save the whole module.
    object.__setattr__(loaded, _ATTRIBUTE, origin)


def of(loaded: Any) -> Optional[Origin]:
    """The origin of an object; None if it did not come from ``load()``."""
    origin = getattr(loaded, _ATTRIBUTE, None)
    return origin if isinstance(origin, Origin) else None


def _absolute(path: str) -> str:
    return path if _files.is_remote(path) else os.path.abspath(path)


def _written(directory: str) -> Optional[Tuple[int, int]]:
    if _files.is_remote(directory):
        return None
    for file in ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb"):
        try:
            facts = os.stat(os.path.join(directory, file))
        except OSError:
            continue
        return facts.st_size, facts.st_mtime_ns
    return (0, 0)
