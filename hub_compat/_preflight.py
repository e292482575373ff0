"""A look at a SavedModel's files before TensorFlow's own loader opens them.

That one waits for ever at a pipe, and ends the process over some entries of a
checkpoint's index that no writer makes.
"""

from __future__ import annotations

import os
import sys
from typing import Iterator

from hub_compat._io import files
from hub_compat._parsing.near_misses import is_pointer, pretence
from hub_compat.errors import CorruptModuleError, HandleError

__all__ = ["check_checkpoint", "check_files"]

# What loaders of TensorFlow 1.15 to 2.21 read.
_FILES = (
    "saved_model.pb",
    "saved_model.pbtxt",
    "saved_model.cpb",
    "fingerprint.pb",
    "keras_metadata.pb",
)
# Not everywhere can it be asked what the effective user may.
_EFFECTIVE = os.access in os.supports_effective_ids
_FOLDERS = ("assets", "assets.extra", "debug", "variables")


def check_files(directory: str) -> None:
    """Refuses a SavedModel of which something is no file, or cannot be read.

    Raises:
      HandleError: it says which file, and why.
      CorruptModuleError: a file is a pointer of Git LFS. As a vocabulary, that would be
        three words.
    """
    if files.is_remote(directory):
        return
    for path in _paths(directory):
        try:
            facts = os.stat(path)
        except OSError:
            # What is not there, or a link to nothing: if it is needed, that is said.
            continue
        what = files.irregular(facts.st_mode)
        if what:
            raise HandleError(
                "A file of the module is {}, which may never end. Replace it by a "
                "regular file. Received: {!r}".format(what, path)
            )
        if facts.st_size > _limit(path):
            raise CorruptModuleError(
                "A file of the module is too large: the limit is {} bytes. Download "
                "or export the module again. Received: {!r}, of {} bytes".format(
                    _limit(path), path, facts.st_size
                )
            )
        if is_pointer(path):
            raise CorruptModuleError("{} Received: {!r}".format(pretence(path), path))
        if not os.access(path, os.R_OK, effective_ids=_EFFECTIVE):
            raise HandleError(
                "A file of the module cannot be read. Check that this user may read "
                "it, and all directories above it. Received: {!r}".format(path)
            )


def _limit(path: str) -> int:
    """The most bytes that a file can have: all of it is read."""
    name = os.path.basename(path)
    if name in _FILES and name.endswith((".pb", ".pbtxt", ".cpb")):
        # No protobuf is larger, in any form.
        return (1 << 31) - 1
    return 1 << 30 if name == "variables.index" else sys.maxsize


def check_checkpoint(directory: str) -> None:
    """Refuses a SavedModel whose checkpoint TensorFlow's reader should not see.

    Raises:
      CorruptModuleError: the index is damaged, or does not fit the shards.
      HandleError: one of them cannot be read.
    """
    # The converters use this module, too.
    from hub_compat.converters.checkpoint.index import read_index

    prefix = files.join(directory, "variables", "variables")
    if files.exists(prefix + ".index"):
        read_index(prefix)


def _paths(directory: str) -> Iterator[str]:
    """The files that loaders read; links to other folders are not followed."""
    for name in _FILES:
        yield os.path.join(directory, name)
    for folder in _FOLDERS:
        for place, _, names in os.walk(os.path.join(directory, folder)):
            for name in names:
                yield os.path.join(place, name)
