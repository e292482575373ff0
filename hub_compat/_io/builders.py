"""One builder for each entry of the cache, whom the others wait for.

The lock is the kernel's, on an open file beside the entry: it ends with the process,
however that ends. The file says whose it is, for those who wait.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from typing import Iterator, Optional, Tuple

from hub_compat._io import files, locks

__all__ = ["locked"]

_logger = logging.getLogger("hub_compat.cache")

# Seconds to wait for another process that builds the same entry. It matters where
# that one hangs, or left the lock to a child that it forked meanwhile: whoever goes
# ahead converts the module a second time, and does no harm.
_PATIENCE = 120.0
# After how many seconds to say what the program waits for.
_SILENCE = 5.0
# A builder that is stopped (Ctrl-Z, SIGSTOP) for so many seconds is not waited for.
_STOPPED = 2.0


def lock_file(entry: str) -> str:
    """Where the lock of an entry is."""
    folder, name = os.path.split(entry)
    return os.path.join(folder, "." + name + ".lock")


@contextlib.contextmanager
def locked(
    entry: str,
    work: str = "converts",
    patience: Optional[float] = None,
    stopped_patience: float = _STOPPED,
) -> Iterator[bool]:
    """Keeps other builders of an entry out; yields whether that worked.

    Args:
      entry: the entry.
      work: what they do to the module, for messages.
      patience: seconds to wait for another process that does it; None for those
        that a conversion may take.
      stopped_patience: the same from when it is seen to be stopped.
    """
    handle = locks.NONE
    if not files.is_remote(entry):
        with contextlib.suppress(OSError):
            longest = _PATIENCE if patience is None else patience
            handle = _acquire(lock_file(entry), entry, work, longest, stopped_patience)
    try:
        yield handle != locks.NONE
    finally:
        # A child forked meanwhile shares the lock, and closing leaves it with that.
        locks.release(handle)


def _acquire(
    path: str, entry: str, work: str, longest: float, longest_stopped: float
) -> int:
    started = time.monotonic()
    said = False
    stopped_since: Optional[float] = None
    pause = 0.01
    while True:
        # Whoever clears the cache may have removed it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            handle = locks.hold(path)
        except (BlockingIOError, FileNotFoundError):
            pass
        else:
            _sign(path)
            return handle
        now = time.monotonic()
        process, stopped = _builder(path)
        stopped_since = (stopped_since or now) if stopped else None
        patience = longest
        if stopped_since is not None:
            patience = min(patience, stopped_since - started + longest_stopped)
        if now - started > patience:
            _logger.warning(
                "Process %s %s the cache entry %r for %d seconds; this process "
                "stops waiting",
                process or "unknown",
                "is stopped, which builds" if stopped else "has been building",
                entry,
                now - started,
            )
            return locks.NONE
        if now - started > _SILENCE and not said:
            said = True
            _logger.warning(
                "Waiting for process %s, which %s the same module into the cache entry "
                "%r%s; after %d seconds this one %s it itself",
                process or "unknown",
                work,
                entry,
                ", and is stopped" if stopped else "",
                patience,
                work,
            )
        time.sleep(pause)
        pause = min(2 * pause, 0.25)


def _sign(path: str) -> None:
    """Notes in a lock's file whose it is."""
    with contextlib.suppress(OSError):
        with open(path, "w") as file:
            file.write("{} {}\n".format(os.getpid(), platform.node()))


def _builder(path: str) -> Tuple[int, bool]:
    """The process that holds a lock, and whether it is stopped; 0 if not known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(path) as file:
            process, host = file.read(1000).split()
        number = int(process)
        if host != platform.node() or number == os.getpid():
            return number, False
        with open("/proc/{}/stat".format(number)) as file:
            # "123 (the name) T ..."; the name may hold anything.
            state = file.read().rpartition(")")[2].split()[0]
        return number, state in ("T", "t")
    return 0, False
