"""Whose a directory is, and who may write to it: as ssh asks of its own files."""

from __future__ import annotations

import os
import stat
from typing import Any, Optional

# Windows has neither.
grp: Any
pwd: Any
try:
    import grp
    import pwd
except ImportError:
    grp = pwd = None

__all__ = ["distrust"]


def distrust(facts: os.stat_result) -> Optional[str]:
    """Why others than this user could have written something; None if none could.

    Args:
      facts: of the file or directory.
    """
    if pwd is None:
        return None
    if not _is_own(facts.st_uid):
        return "it belongs to {}, not to this user".format(_name(facts.st_uid))
    if facts.st_mode & stat.S_IWOTH:
        return "every user may write to it"
    if facts.st_mode & stat.S_IWGRP and not _is_private(facts.st_gid, facts.st_uid):
        return "the members of a group may write to it"
    return None


def _is_own(user: int) -> bool:
    return user in (0, os.geteuid())


def _is_private(group: int, user: int) -> bool:
    """Whether a group has no member but a user of the same name (umask 002)."""
    try:
        name, entry = pwd.getpwuid(user).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == name and not set(entry.gr_mem) - {name}


def _name(user: int) -> str:
    try:
        return repr(pwd.getpwuid(user).pw_name)
    except KeyError:
        return "the user with number {}".format(user)
