"""How the shards of a checkpoint get from one directory to another."""

from __future__ import annotations

import os
from typing import Any

from hub_compat._io import files, links
from hub_compat.errors import CorruptModuleError, DestinationError

__all__ = ["AUTO", "BORROW", "LINK_MODES", "bring"]

# Hard links where the file system has them.
AUTO = "auto"
LINK_MODES = (AUTO, "hard", "copy")
# As "auto", but with symbolic links where there can be no hard ones: for weights that
# are read once more and then replaced.
BORROW = "borrow"


def bring(path: str, target: str, root: str, link: str) -> bool:
    """Links or copies a shard.

    Args:
      path: the shard.
      target: where it goes.
      root: the module that it is of.
      link: one of ``LINK_MODES``, or ``BORROW``.

    Returns:
      Whether it was linked.

    Raises:
      CorruptModuleError: it cannot be read.
      DestinationError: it cannot be linked, and must be; it cannot be written.
    """
    if link != "copy" and _link(path, target, root, link):
        return True
    try:
        # What cannot be read is no fault of the place that it goes to.
        with files.open_read(path) as file:
            file.read(1)
    except OSError as error:
        raise CorruptModuleError(
            "The weights of the module cannot be read: {}. Check that the file is "
            "there and that you may read it. Received: {!r}".format(error, path)
        ) from error
    try:
        files.copy_file(path, target)
    except OSError as error:
        raise DestinationError(
            "The weights cannot be copied from {!r}: {}. Received: {!r}".format(
                path, error, target
            )
        ) from error
    return False


def _link(path: str, target: str, root: str, link: str) -> bool:
    reason: Any = "the paths are not both local"
    if not files.is_remote(path) and not files.is_remote(target):
        try:
            # A hard link would make a file that is outside part of the result.
            if links.leads_out(path, root):
                raise OSError("it is itself a symbolic link out of the module")
            # A link to a symbolic link would be one, with another base.
            os.link(os.path.realpath(path), target)
            return True
        except (OSError, NotImplementedError) as error:
            reason = error
        if link == BORROW:
            os.symlink(os.path.realpath(path), target)
            return True
    if link == "hard":
        raise DestinationError(
            "A hard link to the shard {!r} cannot be made: {}. Pass link='copy' or "
            "link='auto'. Received: {!r}".format(path, reason, target)
        )
    return False
