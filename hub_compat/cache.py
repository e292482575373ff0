"""Converted modules, kept so that the second load of a module converts nothing.

Where: ``$HUB_COMPAT_CACHE_DIR``, or ``$TFHUB_CACHE_DIR/hub_compat`` if that is
local, or ``hub_compat/models`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. Where none of
these can be written, or others than the user may write to it, a temporary directory
that ends with the process. On the file system of the source the weights are hard
links and take no space; on another one they are copied. All of it may be deleted at
any time. What is built also clears away: entries whose module is gone or another by
now, unless a process has them loaded, and what killed processes left.

What::

    <root>/<first two digits of the key>/<key>/model/...      the converted module
                                               manifest.json  what must be there
    <root>/<first two digits of the key>/.<key>.lock          held by its builder

The key is a hash of the source's fingerprint and of what the caller adds, such as the
version of the converter: equal modules share an entry wherever they are, and a module
that changes gets another. An entry is checked whenever it is used, as ``_io/entry.py``
says, and built anew if it does not hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import threading
from typing import Any, Callable, Dict, List, Optional, Sequence

from hub_compat._io import entries, files, scratch
from hub_compat._io.builders import locked
from hub_compat._io.entry import Request, write_manifest
from hub_compat._io.fingerprint import (
    fingerprint,
    fingerprint_of,
    is_unchanged,
    source_files,
)
from hub_compat._io.publish import atomic_directory
from hub_compat._io.trust import distrust
from hub_compat.errors import CacheError, CorruptModuleError, DestinationError

__all__ = [
    "absolute",
    "converted",
    "directory",
    "fingerprint",
    "forget",
    "keep",
    "normalised",
    "of_user",
    "prune",
]

_logger = logging.getLogger(__name__)

# Changes with the layout of an entry.
_LAYOUT = 2

# What others have no business in: weights may be secret, and a model is a program.
_PRIVATE = 0o700

_ATTEMPTS = 5


class _SourceChanged(Exception):
    """The module was written to while it was converted."""


def directory() -> str:
    """Where converted modules are kept, whether or not it exists.

    Raises:
      CacheError: the environment names no directory; there is no home.
    """
    own = os.environ.get("HUB_COMPAT_CACHE_DIR")
    if own:
        return absolute(own)
    shared = os.environ.get("TFHUB_CACHE_DIR")
    if shared:
        path = absolute(shared)
        # Downloads may well go to gs://; weights are better linked than sent there.
        if not files.is_remote(path):
            return os.path.join(path, "hub_compat")
    return os.path.join(of_user(), "models")


def of_user() -> str:
    """The directory for what this user's hub_compat keeps.

    Raises:
      CacheError: there is no home.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        # The specification says to ignore a relative one.
        base = absolute("~/.cache")
    return os.path.join(base, "hub_compat")


# The key of an entry, as JSON before it is hashed:
#
#     [layout, fingerprint of the files, version of the converter, options ...]
#
# The fingerprint is taken before the conversion and compared after it. A module that
# changed in between would else be kept under the key of what it was.
def normalised(
    source: str,
    key_parts: Sequence[str],
    build: Callable[[str], Any],
    is_whole: Optional[Callable[[str], bool]] = None,
) -> str:
    """Returns the converted form of a module, from the cache or put there now.

    Safe with any number of threads and processes: one builds, the others wait for
    it, and an entry is there complete or not at all.

    Args:
      source: directory of the module, local or remote.
      key_parts: what the result depends on beside the module: the version of the
        converter and its options.
      build: writes the converted form into the empty directory it is given.
      is_whole: whether the weights of a converted form are those that its index has
        checksums of. It is asked of an entry whose weights are of another copy of
        the module, which may be damaged.

    Returns:
      Path of the directory with the converted form. It stays valid when the source
      is deleted; ``keep`` says for how long it is needed.

    Raises:
      HandleError: the source cannot be listed.
      CorruptModuleError: the source is being written to.
      CacheError: neither the cache nor a temporary directory can be written.
    """
    for _ in range(_ATTEMPTS):
        files = source_files(source)
        parts = [str(_LAYOUT), fingerprint_of(source, files)] + list(key_parts)
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        with contextlib.suppress(_SourceChanged):
            return _cached(Request(source, files, parts, key, build, is_whole))
    raise CorruptModuleError(
        "The module changed while it was read, {} times in a row. Try again when no "
        "program writes to it. Received: {!r}".format(_ATTEMPTS, source)
    )


def keep(model: str, holder: Any) -> None:
    """Keeps what ``normalised`` returned for as long as an object lives.

    Args:
      model: path of the directory with the converted form; other paths are left alone.
      holder: the object that needs it.
    """
    entries.keep(model, holder)


def forget(model: str) -> None:
    """Takes what ``normalised`` returned out of the cache; other paths are left alone.

    Args:
      model: path of the directory with the converted form.
    """
    entries.drop(model)
    entry, name = os.path.split(model)
    roots = [root for root in (_temporary.get(os.getpid()),) if root]
    with contextlib.suppress(CacheError):
        roots.append(directory())
    if name != "model" or os.path.dirname(os.path.dirname(entry)) not in roots:
        return
    with contextlib.suppress(CacheError, DestinationError), locked(entry):
        shutil.rmtree(entry, ignore_errors=True)


def prune(everything: bool = False) -> entries.Pruned:
    """Removes from the cache what nobody needs any more, unless a process uses it.

    That is what was made of modules that are gone or others by now, and what
    processes left that were killed. Whatever is converted into the cache does the
    same.

    Args:
      everything: removes the rest as well.

    Returns:
      What was removed.

    Raises:
      CacheError: the environment names no directory, or a remote one; another user
        may write to it.
    """
    root = directory()
    if files.is_remote(root):
        raise CacheError(
            "Only a local cache can be pruned: for others, it is not known which "
            "entries are in use. Received: {!r}".format(root)
        )
    if not os.path.isdir(root):
        return entries.Pruned(0, 0, 0)
    _check_private(root)
    return entries.prune(root, everything)


def converted() -> List[entries.Converted]:
    """The contents of the cache; none of a remote or missing one."""
    with contextlib.suppress(CacheError):
        root = directory()
        if not files.is_remote(root):
            return entries.listed(root)
    return []


# A cache that is full, read-only or somebody else's must not keep a model from loading:
# a directory of this process serves then, and goes with it.
def _cached(request: Request) -> str:
    """The entry in the cache; in the temporary one if that cannot be had."""
    reason: OSError
    try:
        root = directory()
        # The main cache was too full for this entry; do not try it again.
        temporary = _temporary.get(os.getpid())
        if temporary:
            found = entries.found(_place(temporary, request.key), request)
            if found is not None:
                return found
        return _get(root, request)
    except (CacheError, DestinationError) as error:
        reason = error
    root = _temporary_root(reason)
    try:
        return _get(root, request)
    except DestinationError as error:
        raise CacheError(
            "The converted module cannot be kept, neither in the cache nor in a "
            "temporary directory. Set HUB_COMPAT_CACHE_DIR to a directory with enough "
            "space in which you may write. The cache: {} The temporary directory: {} "
            "Received: {!r}".format(reason, error, root)
        ) from error


# Looked for three times: without a lock (a hit is free, also read-only), with it (who
# waited finds what the other one made), and after a failed write (no locks on some
# file systems, where both build).
def _get(root: str, request: Request) -> str:
    """The entry below a root, built if need be."""
    entry = _place(root, request.key)
    _make_private(root, os.path.dirname(entry))
    # Without a lock first: the cache may be read-only, and have it.
    found = entries.found(entry, request)
    if found is not None:
        return found
    with locked(entry):
        found = entries.found(entry, request)
        if found is not None:
            return found
        damaged = False
        with contextlib.suppress(OSError):
            damaged = files.exists(entry)
        if damaged:
            _logger.info("The cache entry %r is out of date or damaged", entry)
        try:
            with atomic_directory(entry, overwrite=damaged, mode=_PRIVATE) as new:
                _build(new, request)
        except DestinationError:
            # Without locks, another process may have been faster.
            found = entries.found(entry, request)
            if found is None:
                raise
            return found
        found = entries.found(entry, request)
    if not files.is_remote(root):
        entries.prune(root)
    return found or files.join(entry, "model")


def _build(unfinished: str, request: Request) -> None:
    model = files.join(unfinished, "model")
    files.make_dirs(model)
    request.build(model)
    # The fingerprint is the second of the key's parts.
    if not is_unchanged(request.source, request.files, request.parts[1]):
        raise _SourceChanged
    write_manifest(unfinished, request)


def _place(root: str, key: str) -> str:
    return files.join(root, key[:2], key)


def _make_private(*folders: str) -> None:
    """Makes folders that only this user may write to, or looks whether they are such.

    Raises:
      CacheError: others may write to them.
    """
    for folder in folders:
        if files.is_remote(folder):
            return
        # What cannot be made, nothing is in; what is to be written there, says why.
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            os.mkdir(folder, _PRIVATE)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _check_private(folder)


def _check_private(folder: str) -> None:
    try:
        reason = distrust(os.stat(folder))
    except PermissionError as error:
        raise CacheError(
            "The cache of converted modules is not used, as another user made it, and "
            "this one may not read it. Name another directory by "
            "HUB_COMPAT_CACHE_DIR. Received: {!r}".format(folder)
        ) from error
    if reason:
        raise CacheError(
            "The cache of converted modules is not used: others could put a module "
            "there that this program would run. Of {!r}, {}. Let only yourself "
            "write to it (chmod go-w), or name another directory in "
            "HUB_COMPAT_CACHE_DIR. Received: {!r}".format(folder, reason, folder)
        )


# Process id -> its temporary cache. A fork inherits the table and adds its own.
_temporary: Dict[int, str] = {}
_temporary_guard = threading.Lock()


def _temporary_root(reason: OSError) -> str:
    """The cache for the life of this process, in place of the one that fails."""
    pid = os.getpid()
    with _temporary_guard:
        path = _temporary.get(pid)
        if path is not None and os.path.isdir(path):
            return path
        try:
            path = scratch.lasting()
        except OSError as error:
            raise CacheError(
                "The converted module cannot be kept: there is neither a cache nor a "
                "temporary directory that can be written ({}). Set "
                "HUB_COMPAT_CACHE_DIR. Received: {}".format(error, reason)
            ) from error
        _temporary[pid] = path
    _logger.warning(
        "The cache of converted modules cannot be used; until this process ends, %r is "
        "used instead. Set HUB_COMPAT_CACHE_DIR to a directory in which you may write. "
        "The reason: %s",
        path,
        reason,
    )
    return path


def absolute(value: str) -> str:
    """An absolute path, or a remote one, of what a variable says."""
    path = files.as_path(value)
    if files.is_remote(path):
        return path.rstrip("/")
    try:
        path = os.path.expanduser(path)
        if not path.startswith("~"):
            return os.path.abspath(path)
    except (KeyError, OSError):
        # Python 3.7 raises KeyError where later versions leave "~".
        pass
    raise CacheError(
        "The directory for the cache is unknown: there is no home directory or no "
        "working directory. Set HUB_COMPAT_CACHE_DIR to an absolute path. Received: "
        "{!r}".format(value)
    )
