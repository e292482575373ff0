"""What a module is, as a hash: the name under which the cache keeps its conversion."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from typing import Iterator, List, NamedTuple, Sequence

from hub_compat import _files
from hub_compat.errors import HandleError

__all__ = ["SourceFile", "fingerprint", "fingerprint_of", "is_shard", "source_files"]

_FOLDERS = ("assets", "assets.extra", "variables")
_SHARD = re.compile(r"variables/.*\.data-\d{5}-of-\d{5}\Z")
_CHUNK = 1 << 20


class SourceFile(NamedTuple):
    """A file of a module.

    Attributes:
      name: relative, with ``/``: ``"variables/variables.index"``.
      size: in bytes.
      time: of the last change, in nanoseconds; 0 for a remote file.
    """

    name: str
    size: int
    time: int


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
        content = ""
        if not is_shard(file.name):
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
        return sorted(_walk(directory, "", ()))
    except OSError as error:
        raise HandleError(
            "The module's files cannot be listed: {}. Check that it is there, and that "
            "you may read it. Received: {!r}".format(error, directory)
        ) from error


def is_shard(name: str) -> bool:
    """Whether a file holds weights, of which the index beside it has checksums."""
    return _SHARD.match(name) is not None


def _is_relevant(name: str) -> bool:
    """Whether a file, or a folder, can matter; a log or a README cannot."""
    top = name.split("/")[0]
    if top == name:
        return name.startswith("saved_model.") or name == "tfhub_module.pb"
    return top in _FOLDERS


def _walk(root: str, below: str, above: Sequence[str]) -> Iterator[SourceFile]:
    """Files under a folder; links to folders are followed, but not in circles."""
    folder = os.path.join(root, below)
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as scan:
        entries = list(scan)
    for entry in entries:
        name = below + "/" + entry.name if below else entry.name
        try:
            facts = os.stat(entry.path)
        except OSError:
            # A link that leads nowhere: if it is needed, the conversion says so.
            continue
        if stat.S_ISDIR(facts.st_mode):
            if below or entry.name in _FOLDERS:
                yield from _walk(root, name, tuple(above) + (real,))
        elif stat.S_ISREG(facts.st_mode) and _is_relevant(name):
            yield SourceFile(name, facts.st_size, facts.st_mtime_ns)


def _content_hash(path: str) -> str:
    content = hashlib.sha256()
    try:
        with _files.open_read(path) as file:
            data = file.read(_CHUNK)
            while data:
                content.update(data)
                data = file.read(_CHUNK)
    except OSError:
        # If it is needed, the conversion says that it cannot be read.
        return "unreadable"
    return content.hexdigest()
