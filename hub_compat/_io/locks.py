"""Locks of the kernel's on files and directories: they end with their process.

A process that is killed cannot say so. What it was writing it held a lock on, and
the lock is gone with it: so others know which directories nobody works on any more.

Not by the package filelock. Its 3.12, the last for Python 3.7, calls the same flock(2),
but first empties the file that says for those who wait which process holds the lock. It
locks no directories, and has no shared locks, which readers of an entry hold.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

# Windows has none.
fcntl: Any
try:
    import fcntl
except ImportError:
    fcntl = None

__all__ = ["NONE", "close", "hold", "hold_new", "release"]

# What stands for a lock where there are no locks.
NONE = -1


def hold(path: str, *, shared: bool = False) -> int:
    """Locks a directory or file that exists, if nobody else does.

    Args:
      path: a local path.
      shared: let others lock it so as well.

    Returns:
      The handle that holds the lock.

    Raises:
      BlockingIOError: somebody else holds it.
      OSError: there is nothing at the path, or no lock can be had there: on some
        network file systems, on Windows.
    """
    if fcntl is None:
        raise OSError("This system has no locks on files")
    handle = os.open(path, os.O_RDONLY)
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
        # Somebody may have removed or replaced it just before it was locked.
        if not os.path.samestat(os.fstat(handle), os.stat(path)):
            raise BlockingIOError("It was replaced meanwhile: {!r}".format(path))
        return handle
    except BaseException:
        os.close(handle)
        raise


def hold_new(path: str) -> int:
    """Locks a directory that was made just now; ``NONE`` where there are no locks.

    Raises:
      BlockingIOError: somebody who tidies up has taken it for left over.
    """
    try:
        return hold(path)
    except (BlockingIOError, FileNotFoundError) as error:
        raise BlockingIOError(*error.args) from error
    except OSError:
        return NONE


def release(handle: int) -> None:
    """Unlocks, also for children that were forked meanwhile."""
    if handle != NONE:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
    close(handle)


def close(handle: int) -> None:
    """Gives up this process's part of a lock; forked processes keep theirs."""
    if handle != NONE:
        with contextlib.suppress(OSError):
            os.close(handle)
