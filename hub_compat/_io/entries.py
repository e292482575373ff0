"""All entries of the cache: which are in use, and which may go.

Whoever uses an entry shares a lock on its directory; whoever removes one must have
the lock alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import weakref
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from hub_compat._io import files, leftovers, locks
from hub_compat._io.builders import lock_file
from hub_compat._io.entry import Request, is_orphan, lookup, read_manifest

__all__ = [
    "Converted",
    "Pruned",
    "damages",
    "drop",
    "found",
    "keep",
    "listed",
    "prune",
    "remove",
]

_KEY = re.compile(r"[0-9a-f]{64}\Z")

_guard = threading.Lock()
# Model -> locks that nothing is bound to yet, at most one for each model.
_pending: Dict[str, int] = {}
# (Number of the object that needs it, model): one lock is enough for both.
_kept: Set[Tuple[int, str]] = set()


class Pruned(NamedTuple):
    """The entries that were removed from the cache.

    Attributes:
      entries: how many converted modules.
      leftovers: how many directories that killed processes left.
      size: bytes on the disk that are free now; a hard link takes none.
    """

    entries: int
    leftovers: int
    size: int


class Converted(NamedTuple):
    """A converted module in the cache.

    Attributes:
      source: what it was made of; "" where nothing says.
      path: of the entry.
      size: bytes on the disk; a hard link takes none.
      made: when, in seconds since 1970.
    """

    source: str
    path: str
    size: int
    made: float


def found(entry: str, request: Request) -> Optional[str]:
    """The model in an entry, held until ``keep`` says for how long; else None."""
    lock = locks.NONE
    if not files.is_remote(entry):
        try:
            lock = locks.hold(entry, shared=True)
        except (FileNotFoundError, NotADirectoryError, BlockingIOError):
            # There is none, or somebody is replacing or removing it.
            return None
        except OSError:
            pass
    model = lookup(entry, request)
    if model is None:
        locks.close(lock)
        return None
    with _guard:
        locks.close(_pending.pop(model, locks.NONE))
        _pending[model] = lock
    return model


def keep(model: str, holder: Any) -> None:
    """Keeps an entry for as long as an object lives.

    Args:
      model: what ``found`` returned; other paths are left alone.
      holder: needs the files.
    """
    with _guard:
        lock = _pending.pop(model, locks.NONE)
        key = (id(holder), model)
        if lock == locks.NONE or key in _kept:
            locks.close(lock)
            return
        _kept.add(key)
    weakref.finalize(holder, _let_go, key, lock)


def _let_go(key: Tuple[int, str], lock: int) -> None:
    _kept.discard(key)
    # Not unlocked: a process that was forked may have it loaded as well.
    locks.close(lock)


def drop(model: str) -> None:
    """Gives up a model that was found and is of no use."""
    with _guard:
        locks.close(_pending.pop(model, locks.NONE))


def prune(root: str, everything: bool = False) -> Pruned:
    """Removes what nobody needs any more, unless it is in use.

    Args:
      root: of the cache, local.
      everything: also entries whose module is still there.
    """
    entries = dead = size = 0
    for folder in _folders(root):
        for path in leftovers.in_folder(folder):
            there = _size(path)
            if leftovers.remove_dead(path):
                dead, size = dead + 1, size + there
        for name in filter(_KEY.match, _names(folder)):
            entry = os.path.join(folder, name)
            there = _size(entry)
            if _remove(entry, everything):
                entries, size = entries + 1, size + there
        for name in _names(folder):
            if name.startswith(".") and name.endswith(".lock"):
                _remove_lock(os.path.join(folder, name))
    return Pruned(entries, dead, size)


def listed(root: str) -> List[Converted]:
    """All entries of a local cache."""
    result = []
    for folder in _folders(root):
        for name in filter(_KEY.match, _names(folder)):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                made = os.stat(path).st_mtime
                source = (read_manifest(path) or {}).get("source", "")
                result.append(Converted(str(source), path, _size(path), made))
    return result


def damages(entry: str) -> List[str]:
    """The files of an entry that are missing, or not what was written."""
    wrong = []
    facts = (read_manifest(entry) or {}).get("files")
    if not isinstance(facts, dict):
        return ["manifest.json"]
    for name, known in facts.items():
        path = os.path.join(entry, "model", *name.split("/"))
        try:
            same = os.stat(path).st_size == known["size"]
            # Weights have no hash: their index has checksums, which load() compares.
            if same and known["sha256"]:
                same = files.sha256(path) == known["sha256"]
        except (OSError, KeyError, TypeError):
            same = False
        if not same:
            wrong.append(name)
    return wrong


def remove(entry: str) -> bool:
    """Removes an entry, unless a process uses it; says whether it is gone."""
    return _remove(entry, everything=True)


def _folders(root: str) -> List[str]:
    names = [name for name in _names(root) if re.match(r"[0-9a-f]{2}\Z", name)]
    return [os.path.join(root, name) for name in names]


def _names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _remove(entry: str, everything: bool) -> bool:
    if not everything and not _is_needless(entry):
        return False
    try:
        lock = locks.hold(entry)
    except OSError:
        # In use, or it cannot be known.
        return False
    try:
        # Not there by half at any time, and removed by the next one if this is killed.
        aside = leftovers.hidden(entry, "old")
        os.rename(entry, aside)
        shutil.rmtree(aside, ignore_errors=True)
        return True
    except OSError:
        return False
    finally:
        locks.release(lock)


def _is_needless(entry: str) -> bool:
    manifest = read_manifest(entry)
    if manifest is None:
        return True
    try:
        return is_orphan(manifest)
    except (KeyError, TypeError, AttributeError, ValueError):
        # Of another version, which may be in use beside this one.
        return False


def _remove_lock(path: str) -> None:
    folder, name = os.path.split(path)
    entry = os.path.join(folder, name[1 : -len(".lock")])
    if os.path.lexists(entry) or lock_file(entry) != path:
        return
    with contextlib.suppress(OSError):
        lock = locks.hold(path)
        try:
            os.unlink(path)
        finally:
            locks.release(lock)


def _size(path: str) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                facts = os.lstat(os.path.join(folder, name))
                total += facts.st_size if facts.st_nlink == 1 else 0
    return total
