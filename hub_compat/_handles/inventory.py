"""Lists, checks and clears the cache of downloads.

It has two shelves: what was downloaded, and what was converted (``cache.py``).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from typing import Iterator, List, NamedTuple, Optional

from hub_compat import cache
from hub_compat._handles import settings, shelf
from hub_compat._handles.grammar import printable
from hub_compat._io import entries as _entries
from hub_compat._io import files
from hub_compat._io import leftovers as _leftovers
from hub_compat._io.builders import lock_file, locked
from hub_compat.errors import CacheError, HandleError

__all__ = [
    "Entry",
    "Repaired",
    "converted",
    "damages",
    "entries",
    "prune",
    "remove",
    "repair",
]

_NAME = re.compile(r"[0-9a-f]{40}\Z")
# Notes, locks, and what tensorflow_hub downloads into.
_BESIDE = re.compile(
    r"\.?([0-9a-f]{40})\.(hub_compat\.json|descriptor\.txt|lock|[^.]+\.tmp)\Z"
)
_OF_UPSTREAM = (".tmp", ".lock")
_DAY = 24 * 3600.0


class Entry(NamedTuple):
    """A module in the cache.

    Attributes:
      handle: what it was fetched by, or converted from; "" where nothing says.
      path: its directory.
      size: of all its files, in bytes; of what was converted, without hard links.
      fetched: when, in seconds since 1970.
      is_converted: whether it is on the shelf of what was converted.
    """

    handle: str
    path: str
    size: int
    fetched: float
    is_converted: bool = False


class Repaired(NamedTuple):
    """The result of ``repair``.

    Attributes:
      removed: handles, or paths, of entries that were damaged.
      leftovers: number of what killed processes left.
    """

    removed: List[str]
    leftovers: int


def entries() -> List[Entry]:
    """The contents of the cache, by handle.

    Raises:
      CacheError: the cache is on a remote file system, or cannot be read.
    """
    found = [_entry(path) for path in _paths()]
    return sorted(found, key=lambda entry: (entry.handle, entry.path))


def converted() -> List[Entry]:
    """The conversions, by the directory of their source."""
    found = [Entry(*known, is_converted=True) for known in cache.converted()]
    return sorted(found, key=lambda entry: (entry.handle, entry.path))


def damages(entry: Entry) -> List[str]:
    """The files of an entry that are missing, or not what was fetched.

    Of an entry that TensorFlow Hub made, nothing is known, and nothing found.
    """
    if entry.is_converted:
        return _entries.damages(entry.path)
    found = []
    for name, (size, digest) in shelf.manifest(entry.path).items():
        path = os.path.join(entry.path, *name.split("/"))
        try:
            if os.stat(path).st_size != size or files.sha256(path) != digest:
                found.append(name)
        except OSError:
            found.append(name)
    return found


def remove(handle: str) -> Entry:
    """Removes the entry of a handle, or of the name of its directory.

    Raises:
      HandleError: there is none.
      CacheError: it cannot be removed.
    """
    path = shelf.entry_of(handle)
    if _NAME.match(os.path.basename(handle)):
        # As ``list`` has it of which nothing is known, or only without its password.
        path = os.path.join(shelf.root(), os.path.basename(handle))
    if path not in _paths():
        raise HandleError(
            "The cache has no module of that handle; `hub-compat cache list` lists "
            "all. Received: {!r}".format(printable(handle))
        )
    entry = _entry(path)
    _remove(entry)
    return entry


def prune(
    older_than: Optional[float], max_size: Optional[int], now: float
) -> List[Entry]:
    """Removes what was fetched longest ago.

    Args:
      older_than: seconds; None for any age.
      max_size: bytes that may stay; None for any number.
      now: the time, in seconds since 1970.
    """
    removed = []
    left = sorted(entries() + converted(), key=lambda entry: entry.fetched)
    total = sum(entry.size for entry in left)
    for entry in left:
        is_old = older_than is not None and now - entry.fetched > older_than
        if is_old or (max_size is not None and total > max_size):
            # What a process has loaded stays.
            if _remove(entry):
                removed.append(entry)
                total -= entry.size
    return removed


def repair() -> Repaired:
    """Removes entries that are damaged, and what killed processes left."""
    removed = []
    for entry in entries() + converted():
        if damages(entry) and _remove(entry):
            removed.append(entry.handle or entry.path)
    folder = shelf.root()
    count = 0
    if os.path.isdir(folder):
        with _explained(folder):
            count = shelf.clear_away(folder) + _remove_notes(folder)
    # What is converted is cleared whenever something is.
    with contextlib.suppress(CacheError):
        count += cache.prune().leftovers
    return Repaired(removed, count)


def _remove_notes(folder: str) -> int:
    """Removes what is beside entries that are not there, and that nobody fetches."""
    count = 0
    for name in os.listdir(folder):
        found = _BESIDE.match(name)
        if found is None or os.path.isdir(os.path.join(folder, found.group(1))):
            continue
        path = os.path.join(folder, name)
        with locked(os.path.join(folder, found.group(1)), "fetches", 0.0) as alone:
            if not alone or os.path.isdir(os.path.join(folder, found.group(1))):
                continue
            # tensorflow_hub knows nothing of our locks, and has none that end.
            if name.endswith(_OF_UPSTREAM) and not name.startswith("."):
                if time.time() - _leftovers.last_change(path) < _DAY:
                    continue
                if os.path.isdir(path):
                    shutil.rmtree(path)
                    count += 1
                    continue
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
                # That of the lock was made just now, as often as not.
                count += not name.startswith(".")
            with contextlib.suppress(FileNotFoundError):
                os.remove(lock_file(os.path.join(folder, found.group(1))))
    return count


def _paths() -> List[str]:
    folder = shelf.root()
    if files.is_remote(folder):
        raise CacheError(
            "The cache is on a remote file system, which these commands do not "
            "change. Use the tools of its provider. Received: {!r}".format(folder)
        )
    with _explained(folder):
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        paths = [os.path.join(folder, name) for name in names if _NAME.match(name)]
        return [path for path in paths if os.path.isdir(path)]


def _entry(path: str) -> Entry:
    size = 0
    with _explained(path):
        for name in files.walk_files(path):
            size += os.lstat(os.path.join(path, name)).st_size
        return Entry(shelf.handle_of(path), path, size, os.stat(path).st_mtime)


def _remove(entry: Entry) -> bool:
    if entry.is_converted:
        return _entries.remove(entry.path)
    with _explained(entry.path), locked(entry.path, "fetches", settings.patience()):
        # At once: who asks for it meanwhile finds all of it, or none.
        aside = _leftovers.hidden(entry.path, "old")
        os.rename(entry.path, aside)
        shutil.rmtree(aside)
        shelf.forget_notes(entry.path)
        with contextlib.suppress(OSError):
            os.remove(lock_file(entry.path))
    return True


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, CacheError):
            raise
        raise CacheError(
            "The cache of downloads cannot be used: {}. Received: {!r}".format(
                error, path
            )
        ) from error
