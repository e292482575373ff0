"""Converted modules, kept so that the second load of a module converts nothing.

Where: ``$HUB_COMPAT_CACHE_DIR``, or ``$TFHUB_CACHE_DIR/hub_compat`` if that is
local, or ``hub_compat/models`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. Where none of
these can be written, a temporary directory that ends with the process. On the file
system of the source the weights are hard links and take no space; on another one
they are copied. All of it may be deleted at any time; nothing is deleted by itself.

What::

    <root>/<first two digits of the key>/<key>/model/...      the converted module
                                               manifest.json  what must be there
    <root>/<first two digits of the key>/.<key>.lock          held by its builder

The key is a hash of the source's fingerprint and of what the caller adds, such as the
version of the converter: equal modules share an entry wherever they are, and a module
that changes gets another. An entry is checked by ``stat`` whenever it is used, and
built anew if a file is absent, cut short, or linked to a file that was written to:
linked weights are the source's own file, and whoever writes to that in place, rather
than replacing it as TensorFlow does, also changes what the cache holds.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from hub_compat import _files
from hub_compat._fingerprint import (
    SourceFile,
    fingerprint,
    fingerprint_of,
    is_shard,
    source_files,
)
from hub_compat._publish import atomic_directory, leftovers
from hub_compat.errors import CacheError, CorruptModuleError, DestinationError

# Windows has none. Two processes may then build the same entry, of which one is kept.
fcntl: Any
try:
    import fcntl
except ImportError:
    fcntl = None

__all__ = ["directory", "fingerprint", "forget", "normalised"]

_logger = logging.getLogger(__name__)

# Changes with the layout of an entry.
_LAYOUT = 1

# Seconds to wait for another process that builds the same entry. It matters where
# that one hangs, or left the lock to a child that it forked meanwhile.
_PATIENCE = 600.0

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
        return _absolute(own)
    shared = os.environ.get("TFHUB_CACHE_DIR")
    if shared:
        path = _absolute(shared)
        # Downloads may well go to gs://; weights are better linked than sent there.
        if not _files.is_remote(path):
            return os.path.join(path, "hub_compat")
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        # The specification says to ignore a relative one.
        base = _absolute("~/.cache")
    return os.path.join(base, "hub_compat", "models")


def normalised(
    source: str, key_parts: Sequence[str], build: Callable[[str], Any]
) -> str:
    """Returns the converted form of a module, from the cache or put there now.

    Safe with any number of threads and processes: one builds, the others wait for
    it, and an entry is there complete or not at all.

    Args:
      source: directory of the module, local or remote.
      key_parts: what the result depends on beside the module: the version of the
        converter and its options.
      build: writes the converted form into the empty directory it is given.

    Returns:
      Path of the directory with the converted form. It stays valid when the source
      is deleted.

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
            return _cached(_Request(source, files, parts, key, build))
    raise CorruptModuleError(
        "The module was written to while it was read, {} times in a row. Try again "
        "when whatever writes it is done. Received: {!r}".format(_ATTEMPTS, source)
    )


def forget(model: str) -> None:
    """Takes what ``normalised`` returned out of the cache; other paths are left alone.

    Args:
      model: path of the directory with the converted form.
    """
    entry, name = os.path.split(model)
    roots = [root for root in (_temporary.get(os.getpid()),) if root]
    with contextlib.suppress(CacheError):
        roots.append(directory())
    if name != "model" or os.path.dirname(os.path.dirname(entry)) not in roots:
        return
    with contextlib.suppress(CacheError, DestinationError), _locked(entry):
        shutil.rmtree(entry, ignore_errors=True)


class _Request(NamedTuple):
    """What ``normalised`` was asked for, and the key that follows from it."""

    source: str
    files: List[SourceFile]
    parts: List[str]
    key: str
    build: Callable[[str], Any]


def _cached(request: _Request) -> str:
    """The entry in the cache; in the temporary one if that cannot be had."""
    reason: OSError
    try:
        root = directory()
        # Was the cache too full for this entry, it need not be tried again.
        temporary = _temporary.get(os.getpid())
        found = temporary and _lookup(_entry(temporary, request.key), request)
        return found or _get(root, request)
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


def _get(root: str, request: _Request) -> str:
    """The entry below a root, built if need be."""
    entry = _entry(root, request.key)
    # Without a lock first: the cache may be read-only, and have it.
    found = _lookup(entry, request)
    if found is not None:
        return found
    with _locked(entry) as locked:
        found = _lookup(entry, request)
        if found is not None:
            return found
        if locked:
            # Who holds the lock is the only builder: the others were killed.
            for path in leftovers(entry):
                shutil.rmtree(path, ignore_errors=True)
        damaged = False
        with contextlib.suppress(OSError):
            damaged = _files.exists(entry)
        if damaged:
            _logger.info("The cache entry %r is out of date or damaged", entry)
        try:
            with atomic_directory(entry, overwrite=damaged) as unfinished:
                _build(unfinished, request)
        except DestinationError:
            # Without locks, another process may have been faster.
            found = _lookup(entry, request)
            if found is None:
                raise
            return found
        return _files.join(entry, "model")


def _build(unfinished: str, request: _Request) -> None:
    model = _files.join(unfinished, "model")
    _files.make_dirs(model)
    request.build(model)
    local = not _files.is_remote(request.source)
    if local and source_files(request.source) != request.files:
        raise _SourceChanged
    manifest = {
        "key": request.parts,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "files": {n: _facts_to_keep(model, n) for n in _files.walk_files(model)},
        "source": os.path.realpath(request.source) if local else request.source,
        "shards": _shards(request.files),
    }
    data = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    _files.write_bytes(_files.join(unfinished, "manifest.json"), data.encode())


def _entry(root: str, key: str) -> str:
    return _files.join(root, key[:2], key)


def _lookup(entry: str, request: _Request) -> Optional[str]:
    """The model in an entry; None if there is none, or not as it was built."""
    model = _files.join(entry, "model")
    try:
        data = _files.read_bytes(_files.join(entry, "manifest.json"))
        manifest = json.loads(data.decode())
        for name, (size, changed) in manifest["files"].items():
            now_size, now_changed = _facts(model, name)
            if now_size != size or not _same_time(changed, now_changed):
                return None
        # The checksums in the index say what the weights ought to be. If the same
        # place holds other files than at that time, maybe these are not damaged.
        if os.path.realpath(request.source) == manifest["source"]:
            shards = _shards(request.files)
            for name, (_, changed) in manifest["shards"].items():
                if not _same_time(changed, shards[name][1]):
                    return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return model


def _facts(root: str, name: str) -> List[int]:
    """Size and time of change of a file; 0 for a time that is not known."""
    path = _files.join(root, name)
    if _files.is_remote(path):
        return [_files.size(path), 0]
    facts = os.stat(path)
    return [facts.st_size, facts.st_mtime_ns]


def _facts_to_keep(root: str, name: str) -> List[int]:
    """What an entry's file must be like; a file without a second name, of any time.

    Nobody else writes to that, but a copied cache may not have its times.
    """
    path = _files.join(root, name)
    linked = not _files.is_remote(path) and os.stat(path).st_nlink > 1
    size, changed = _facts(root, name)
    return [size, changed if linked else 0]


def _same_time(before: int, now: int) -> bool:
    """Whether two times are the same, as far as is known (0 stands for unknown)."""
    if 0 in (before, now):
        return True
    second = 10**9
    # Archives, such as the layers of container images, may keep whole seconds.
    if before % second == 0 or now % second == 0:
        return before // second == now // second
    return before == now


def _shards(files: List[SourceFile]) -> Dict[str, List[int]]:
    return {f.name: [f.size, f.time] for f in files if is_shard(f.name)}


@contextlib.contextmanager
def _locked(entry: str) -> Iterator[bool]:
    """Keeps other builders of an entry out; yields whether that worked.

    The lock is the kernel's, on an open file: it ends with the process, however
    that ends.
    """
    handle = -1
    if fcntl is not None and not _files.is_remote(entry):
        folder, name = os.path.split(entry)
        with contextlib.suppress(OSError):
            os.makedirs(folder, exist_ok=True)
            path = os.path.join(folder, "." + name + ".lock")
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    if handle < 0:
        yield False
        return
    try:
        yield _acquire(handle, entry)
    finally:
        # A child forked meanwhile shares the lock, and closing leaves it with that.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _acquire(handle: int, entry: str) -> bool:
    started = time.monotonic()
    pause = 0.01
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass
        except OSError:
            # Some network file systems have no locks.
            return False
        if time.monotonic() - started > _PATIENCE:
            _logger.warning(
                "Another process has been building the cache entry %r for %d seconds; "
                "not waiting for it any longer",
                entry,
                _PATIENCE,
            )
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.25)


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
            path = tempfile.mkdtemp(prefix="hub_compat-")
        except OSError as error:
            raise CacheError(
                "The converted module cannot be kept: there is neither a cache nor a "
                "temporary directory that can be written ({}). Set "
                "HUB_COMPAT_CACHE_DIR. Received: {}".format(error, reason)
            ) from error
        _temporary[pid] = path
        atexit.register(_remove_temporary, pid, path)
    _logger.warning(
        "The cache of converted modules cannot be used; until this process ends, %r is "
        "used instead. Set HUB_COMPAT_CACHE_DIR to a directory in which you may write. "
        "The reason: %s",
        path,
        reason,
    )
    return path


def _remove_temporary(pid: int, path: str) -> None:
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)


def _absolute(value: str) -> str:
    """An absolute path, or a remote one, of what a variable says."""
    path = _files.as_path(value)
    if _files.is_remote(path):
        return path.rstrip("/")
    try:
        path = os.path.expanduser(path)
        if not path.startswith("~"):
            return os.path.abspath(path)
    except (KeyError, OSError):
        # Python 3.7 raises KeyError where later versions leave "~".
        pass
    raise CacheError(
        "The directory for the cache is unknown, as there is no home directory, or no "
        "working directory, to start from. Set HUB_COMPAT_CACHE_DIR to an absolute "
        "path. Received: {!r}".format(value)
    )
