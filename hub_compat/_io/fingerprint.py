"""Hashes a module: the name under which the cache keeps its conversion."""

from __future__ import annotations

import hashlib
import json
from typing import List, NamedTuple, Tuple

from hub_compat._io import files as _files
from hub_compat._io import links
from hub_compat._io.links import is_shard
from hub_compat.errors import HandleError

__all__ = [
    "SourceFile",
    "fingerprint",
    "fingerprint_of",
    "is_shard",
    "is_unchanged",
    "source_files",
]

_FOLDERS = ("assets", "assets.extra", "variables")


class SourceFile(NamedTuple):
    """A file of a module.

    Attributes:
      name: relative, with ``/``: ``"variables/variables.index"``.
      size: in bytes.
      time: of the last change, in nanoseconds; 0 for a remote file.
      identity: device and inode; zeros for a remote file.
      changed: when content, name or mode last changed, in nanoseconds; 0 for a remote
        file, and for a shard, of which a hard link is such a change.
      link: of a folder that is a link, what is known of it, in place of its files.
    """

    name: str
    size: int
    time: int
    identity: Tuple[int, int] = (0, 0)
    changed: int = 0
    link: str = ""


def fingerprint(directory: str) -> str:
    """A hash of what a module is, the same in every place and on every machine.

    It covers names and contents of all that a conversion can depend on, except for
    the weights, of which it covers size and checksums: the index of a checkpoint
    holds the CRC-32C of each tensor.

    Args:
      directory: the module, local or remote.

    Returns:
      64 hexadecimal digits.

    Raises:
      HandleError: the directory cannot be listed.
    """
    return fingerprint_of(directory, source_files(directory))


def fingerprint_of(directory: str, files: List[SourceFile]) -> str:
    """As ``fingerprint``, of files that are known already."""
    total = hashlib.sha256()
    for file in files:
        content = file.link
        if not content and not is_shard(file.name):
            content = _content_hash(_files.join(directory, file.name))
        total.update(json.dumps([file.name, file.size, content]).encode())
    return total.hexdigest()


def source_files(directory: str) -> List[SourceFile]:
    """The files of a module that a conversion can depend on, sorted by name.

    Raises:
      HandleError: the directory cannot be listed.
    """
    try:
        if _files.is_remote(directory):
            names = [n for n in _files.walk_files(directory) if _is_relevant(n)]
            return [
                SourceFile(name, _files.size(_files.join(directory, name)), 0)
                for name in names
            ]
        return sorted(
            _source_file(found)
            for found in links.walk(directory, _FOLDERS)
            if _is_relevant(found.name)
        )
    except OSError as error:
        raise HandleError(
            "The module's files cannot be listed: {}. Check that it is there, and that "
            "you may read it. Received: {!r}".format(error, directory)
        ) from error


def is_unchanged(directory: str, before: List[SourceFile], hashed: str = "") -> bool:
    """Whether a module is what it was: not written to, nor exchanged for another.

    Args:
      directory: the module.
      before: its files as they were.
      hashed: its fingerprint at that time. Of remote files no time is known, so that
        it is compared as well.
    """
    try:
        now = source_files(directory)
    except HandleError:
        return False
    # Some file systems make up inodes.
    if [f._replace(identity=(0, 0)) for f in now] != [
        f._replace(identity=(0, 0)) for f in before
    ]:
        return False
    if not hashed or not _files.is_remote(directory):
        return True
    return fingerprint_of(directory, now) == hashed


def _is_relevant(name: str) -> bool:
    """Whether a file, or a folder, can matter; a log or a README cannot."""
    top = name.split("/")[0]
    if top == name:
        return name.startswith("saved_model.") or name == "tfhub_module.pb"
    return top in _FOLDERS


def _source_file(found: links.Found) -> SourceFile:
    if found.same_as:
        return SourceFile(found.name, 0, 0, link="as " + found.same_as)
    if found.elsewhere:
        return SourceFile(found.name, 0, 0, link="at " + found.elsewhere)
    facts = found.facts
    return SourceFile(
        found.name,
        facts.st_size,
        facts.st_mtime_ns,
        (facts.st_dev, facts.st_ino),
        0 if is_shard(found.name) else facts.st_ctime_ns,
    )


def _content_hash(path: str) -> str:
    try:
        return _files.sha256(path)
    except OSError:
        # If it is needed, the conversion says that it cannot be read.
        return "unreadable"
