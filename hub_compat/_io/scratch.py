"""Temporary directories that are removed even if the process is killed.

Each is locked by its process. The next process that needs one removes those of the
same user that nobody holds any more.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import shutil
import stat
import tempfile
from typing import Dict, Iterator, Tuple

from hub_compat._io import locks

__all__ = ["lasting", "remove", "temporary"]

# Earlier versions began theirs with "hub_compat-", and locked none.
_PREFIX = "hub_compat-run-"

_ATTEMPTS = 100

# Path -> process and lock.
_made: Dict[str, Tuple[int, int]] = {}


@contextlib.contextmanager
def temporary() -> Iterator[str]:
    """A directory for the length of a block.

    Raises:
      OSError: none can be made.
    """
    path = _make()
    try:
        yield path
    finally:
        remove(path)


def lasting() -> str:
    """A directory for the life of this process.

    Raises:
      OSError: none can be made.
    """
    path = _make()
    atexit.register(remove, path)
    return path


def remove(path: str) -> None:
    """Removes one of them; in a process that was forked meanwhile, does nothing."""
    process, lock = _made.get(path, (os.getpid(), locks.NONE))
    if process == os.getpid():
        shutil.rmtree(path, ignore_errors=True)
        locks.release(lock)
        _made.pop(path, None)


def _make() -> str:
    _sweep()
    for _ in range(_ATTEMPTS):
        path = tempfile.mkdtemp(prefix=_PREFIX)
        # Whoever sweeps at this moment takes it for left over, and removes it.
        with contextlib.suppress(BlockingIOError):
            _made[path] = (os.getpid(), locks.hold_new(path))
            return path
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), tempfile.gettempdir())


def _sweep() -> None:
    """Removes what processes of this user left that were killed."""
    folder = tempfile.gettempdir()
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name.startswith(_PREFIX) and _is_own(path):
                with contextlib.suppress(OSError):
                    lock = locks.hold(path)
                    try:
                        shutil.rmtree(path, ignore_errors=True)
                    finally:
                        locks.release(lock)


def _is_own(path: str) -> bool:
    with contextlib.suppress(OSError):
        facts = os.lstat(path)
        user = getattr(os, "geteuid", lambda: facts.st_uid)()
        return stat.S_ISDIR(facts.st_mode) and facts.st_uid == user
    return False
