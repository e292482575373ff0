"""Removes what killed processes left beside a destination.

A directory that is being written has a hidden name beside the destination,
``.NAME.tmp-PID-RANDOM``, and its writer holds a lock on it. One without a lock is
left over. Where two directories cannot be exchanged in one step, the old one is first
renamed to ``.NAME.old-PID-RANDOM``, of the same numbers: if both are there and the
destination is not, the writer was killed in between, and the new one, which is
complete by then, goes to its place.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from typing import List, Optional

from hub_compat._io import files, locks

__all__ = [
    "clear_away",
    "hidden",
    "in_folder",
    "last_change",
    "leftovers",
    "recover",
    "remove_dead",
]

# Where there are no locks: nothing that was written to since is left over.
_SECONDS = 24 * 3600.0

_HIDDEN = re.compile(r"\A\..*\.(tmp|old)-(\d+)-([0-9a-f]{8})\Z", re.DOTALL)


def hidden(target: str, kind: str) -> str:
    """A new hidden name beside a path, for ``kind`` "tmp" or "old"."""
    folder, _, name = target.rpartition("/" if files.is_remote(target) else os.sep)
    unique = "{}-{}".format(os.getpid(), uuid.uuid4().hex[:8])
    path = _prefix(name, kind) + unique
    if files.is_remote(target):
        # Not joined: of "ram://name" the folder is "ram:/".
        return "{}/{}".format(folder, path)
    return os.path.join(folder or os.sep, path)


def _prefix(name: str, kind: str) -> str:
    # Names end at 255 bytes.
    return ".{}.{}-".format(os.fsdecode(os.fsencode(name)[:200]), kind)


def leftovers(target: str) -> List[str]:
    """Hidden directories beside a local path: left over, or of writers at work."""
    folder, name = os.path.split(target)
    prefixes = tuple(_prefix(name, kind) for kind in ("tmp", "old"))
    return [p for p in in_folder(folder) if os.path.basename(p).startswith(prefixes)]


def in_folder(folder: str) -> List[str]:
    """All such directories in a local folder."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [os.path.join(folder, n) for n in sorted(names) if _HIDDEN.match(n)]


def clear_away(target: str) -> None:
    """Finishes what a killed process had begun, and removes what others left."""
    recover(target)
    for path in leftovers(target):
        remove_dead(path)


def recover(target: str) -> bool:
    """Puts a directory to its place whose writer was killed between two renames.

    Returns:
      Whether there is something at the path now.
    """
    found = leftovers(target)
    for old in found:
        if os.path.lexists(target) or ".old-" not in os.path.basename(old):
            continue
        new = _twin(old)
        if new in found:
            # Of a writer at work it cannot be locked.
            with contextlib.suppress(OSError):
                handle = locks.hold(new)
                try:
                    os.rename(new, target)
                finally:
                    locks.release(handle)
        elif any(p.startswith(new.rpartition("-")[0]) for p in found):
            # Earlier versions gave the two other numbers; the old one is complete.
            with contextlib.suppress(OSError):
                os.rename(old, target)
    return os.path.isdir(target)


def _twin(old: str) -> str:
    folder, name = os.path.split(old)
    head, _, unique = name.rpartition(".old-")
    return os.path.join(folder, "{}.tmp-{}".format(head, unique))


def remove_dead(path: str) -> bool:
    """Removes a hidden directory that nobody works on; says whether it is gone."""
    if ".old-" in os.path.basename(path) and os.path.isdir(_twin(path)):
        # Its writer may be about to put it back.
        if not _is_dead(_twin(path)):
            return False
    handle = _hold_dead(path)
    if handle is None:
        return False
    try:
        # Held until it is gone: its writer may be about to lock what it has just made.
        shutil.rmtree(path, ignore_errors=True)
    finally:
        locks.release(handle)
    return not os.path.lexists(path)


def _is_dead(path: str) -> bool:
    handle = _hold_dead(path)
    if handle is not None:
        locks.release(handle)
    return handle is not None


def _hold_dead(path: str) -> Optional[int]:
    """Locks a hidden directory; returns None if somebody works on it."""
    if os.path.islink(path) or not os.path.isdir(path):
        return None
    try:
        return locks.hold(path)
    except (BlockingIOError, FileNotFoundError):
        return None
    except OSError:
        # No lock can be had here.
        return locks.NONE if time.time() - last_change(path) > _SECONDS else None


def last_change(path: str) -> float:
    """When something below a directory was last written to."""
    latest = 0.0
    with contextlib.suppress(OSError):
        latest = os.lstat(path).st_mtime
        for folder, folders, names in os.walk(path):
            for name in folders + names:
                with contextlib.suppress(OSError):
                    facts = os.lstat(os.path.join(folder, name))
                    # A linked shard has the times of its source.
                    latest = max(latest, facts.st_mtime, facts.st_ctime)
    return latest
