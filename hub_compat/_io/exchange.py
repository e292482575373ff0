"""Two directories change places in one step of the file system."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import sys
from typing import Any, Callable, Optional, Tuple

__all__ = ["exchange"]

# linux/fcntl.h and linux/fs.h; sys/stdio.h of macOS.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_RENAME_SWAP = 2
# Of renameat2, where the C library has no function for it (glibc before 2.28).
_SYSTEM_CALLS = {"x86_64": 316, "aarch64": 276}

_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)


def exchange(one: str, other: str) -> bool:
    """Exchanges two local paths, both of which must exist.

    Returns:
      False where system or file system cannot do it; then nothing was done.

    Raises:
      OSError: a path does not exist, or may not be renamed.
    """
    function = _function()
    if function is None:
        return False
    if function(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), one, None, other)


@functools.lru_cache(maxsize=None)
def _function() -> Optional[Callable[[bytes, bytes], int]]:
    try:
        library: Any = ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):
        return None
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return lambda one, other: int(library.renamex_np(one, other, _RENAME_SWAP))
    if not sys.platform.startswith("linux"):
        return None
    start: Tuple[int, ...] = (_AT_FDCWD,)
    if hasattr(library, "renameat2"):
        rename = library.renameat2
    elif platform.machine() in _SYSTEM_CALLS and hasattr(library, "syscall"):
        rename = library.syscall
        start = (_SYSTEM_CALLS[platform.machine()], _AT_FDCWD)
    else:
        return None
    return lambda one, other: int(
        rename(*start, one, _AT_FDCWD, other, _RENAME_EXCHANGE)
    )
