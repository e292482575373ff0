"""The cache of downloads: one directory for each handle, complete or not there.

Where: ``$TFHUB_CACHE_DIR`` or ``--tfhub_cache_dir``; without them
``$HUB_COMPAT_CACHE_DIR/downloads``; then the ``tfhub_modules`` that TensorFlow Hub left
in the temporary directory, if it is this user's alone; then
``hub_compat/downloads`` in ``$XDG_CACHE_HOME`` or ``~/.cache``, which no restart of the
machine clears. What::

    <root>/<SHA-1 of the handle>/...               the module, as TensorFlow Hub has it
    <root>/<SHA-1 of the handle>.hub_compat.json   its files' sizes and checksums
    <root>/<SHA-1 of the handle>.descriptor.txt    for people
    <root>/.<SHA-1 of the handle>.lock             held by who fetches it

An entry that TensorFlow Hub made has no list of files; it is taken as it is. A hit
writes nothing, and waits for nobody.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import re
import tempfile
import time
from typing import Any, Callable, Dict, Optional

from hub_compat import cache
from hub_compat._handles import settings
from hub_compat._handles.grammar import printable
from hub_compat._handles.streams import File, private
from hub_compat._io import files as _files
from hub_compat._io import leftovers as _leftovers
from hub_compat._io import scratch as _scratch
from hub_compat._io.builders import locked
from hub_compat._io.publish import atomic_directory
from hub_compat._io.trust import distrust
from hub_compat._parsing.near_misses import MODEL_FILES
from hub_compat.errors import CacheError, DestinationError, HandleError, HubCompatError

__all__ = [
    "clear_away",
    "entry_of",
    "fetched",
    "forget_notes",
    "handle_of",
    "manifest",
    "root",
]

_logger = logging.getLogger(__name__)

_PRIVATE = 0o700
_UPSTREAM = "tfhub_modules"
_MANIFEST, _DESCRIPTOR = ".hub_compat.json", ".descriptor.txt"
# A manifest of so many bytes has a list of a million files.
_LARGEST = 256 << 20
_CHUNK = 1 << 20
_HIDDEN = re.compile(r"\.[0-9a-f]{40}\.(tmp|old)-")


def root() -> str:
    """Where downloads are kept, whether or not it exists."""
    named = settings.cache_dir()
    if named:
        return cache.absolute(named)
    if os.environ.get("HUB_COMPAT_CACHE_DIR"):
        return os.path.join(cache.directory(), "downloads")
    upstream = os.path.join(tempfile.gettempdir(), _UPSTREAM)
    with contextlib.suppress(OSError):
        if os.path.isdir(upstream) and distrust(os.stat(upstream)) is None:
            return upstream
    return os.path.join(cache.of_user(), "downloads")


def entry_of(handle: str) -> str:
    """The directory of a handle's module, whether or not it is there."""
    name = hashlib.sha1(handle.encode("utf-8", "surrogatepass")).hexdigest()
    return _files.join(root(), name)


# Twice looked, once locked: a hit takes no lock and writes nothing, so that a read-only
# cache serves any number of processes. Who waited for the lock looks again.
def fetched(
    handle: str, fetch: Callable[[str], Dict[str, File]], why_not: str = ""
) -> str:
    """The directory of a handle's module, fetched now if it is not there.

    Args:
      handle: what the entry is known by.
      fetch: writes the module into the empty directory it is given.
      why_not: if not empty, the reason for which nothing may be fetched.

    Raises:
      HandleError: it is not there, and must not be fetched.
      CacheError: the cache cannot be written, or others may write to it.
    """
    entry = entry_of(handle)
    if _is_whole(entry, handle):
        return entry
    if why_not:
        raise HandleError(
            "The module is not in the cache, and {}. Fetch it on another machine "
            "with `hub-compat resolve` and copy the cache, or pass a directory. Its "
            "place in the cache is {!r}. Received: {!r}".format(
                why_not, entry, printable(handle)
            )
        )
    with _explained(entry):
        _make_root(os.path.dirname(entry))
        with locked(entry, "fetches", settings.patience(), settings.stopped_patience()):
            # Who held the lock may have fetched it.
            if not _is_whole(entry, handle, said=True):
                clear_away(os.path.dirname(entry))
                with atomic_directory(entry, overwrite=True, mode=_PRIVATE) as new:
                    _fill(entry, handle, new, fetch)
    return entry


def _fill(
    entry: str, handle: str, new: str, fetch: Callable[[str], Dict[str, File]]
) -> None:
    """Writes a module, and what is noted of it, before it is at its place."""
    if not _files.is_remote(new):
        _note(entry, handle, fetch(new), new)
        return
    with _scratch.temporary() as folder:
        files = fetch(folder)
        for name in files:
            target = _files.join(new, name)
            _files.make_dirs(target.rpartition("/")[0])
            _files.copy_file(os.path.join(folder, name), target)
    _note(entry, handle, files, "")


def clear_away(folder: str) -> int:
    """Removes what killed processes left in the cache; returns how many."""
    if _files.is_remote(folder):
        return 0
    ours = [
        p for p in _leftovers.in_folder(folder) if _HIDDEN.match(os.path.basename(p))
    ]
    return sum(map(_leftovers.remove_dead, ours))


@contextlib.contextmanager
def _explained(entry: str) -> Any:
    try:
        yield
    except DestinationError as error:
        raise CacheError(
            "The module cannot be put into the cache of downloads: {} Set "
            "TFHUB_CACHE_DIR to a directory of your own, with enough space. Received: "
            "{!r}".format(error, entry)
        ) from error
    except OSError as error:
        if isinstance(error, HubCompatError):
            raise
        raise CacheError(
            "The module cannot be put into the cache of downloads: {}. Set "
            "TFHUB_CACHE_DIR to a directory of your own, with enough space. Received: "
            "{!r}".format(error, entry)
        ) from error


def _make_root(folder: str) -> None:
    if _files.is_remote(folder):
        _files.make_dirs(folder)
        return
    # makedirs gives those above the usual permissions, and who may write there may
    # put another directory in its place.
    missing = []
    above = folder
    while not os.path.isdir(above) and os.path.dirname(above) != above:
        missing.append(above)
        above = os.path.dirname(above)
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, _PRIVATE)
    reason = distrust(os.stat(folder))
    if reason is not None:
        raise _untrusted(folder, reason)


def _untrusted(path: str, reason: str) -> CacheError:
    return CacheError(
        "The cache of downloads is not used, because {}, and a module is a program. "
        "Set TFHUB_CACHE_DIR to a directory of your own. If you trust the module, "
        "pass its directory as the handle. Received: {!r}".format(reason, path)
    )


# Trust comes before wholeness. A module is a program: one that another user may have
# written is refused, and not fetched again over those files.
def _is_whole(entry: str, handle: str, said: bool = False) -> bool:
    """Whether an entry is there, and nothing is missing of what it had.

    Raises:
      CacheError: others may have written it.
    """
    if _files.is_remote(entry):
        if not _files.is_dir(entry) or not _files.list_dir(entry):
            return False
        # Its files are moved there one by one.
        return _missing(entry) is None
    try:
        if not os.listdir(entry):
            return False
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise CacheError(
            "The cache of downloads cannot be read: {}. Received: {!r}".format(
                error, entry
            )
        ) from error
    for path in (os.path.dirname(entry), entry):
        reason = distrust(os.stat(path))
        if reason is not None:
            raise _untrusted(path, reason)
    missing = _missing(entry)
    if missing is not None and not said:
        _logger.warning(
            "The cache lost %r of %r, which is fetched again. Perhaps a program "
            "cleans %r.",
            missing,
            printable(handle),
            os.path.dirname(entry),
        )
    return missing is None


def _missing(entry: str) -> Optional[str]:
    """A file of an entry that is gone, or of another size; None if none is."""
    files = manifest(entry)
    for name, facts in files.items():
        try:
            if _files.size(_files.join(entry, *name.split("/"))) != facts[0]:
                return name
        except OSError:
            return name
    return None if files or _files.is_remote(entry) else _surely_missing(entry)


def _surely_missing(entry: str) -> Optional[str]:
    """The same for an entry without a list of its files."""
    names = set(os.listdir(entry))
    if "variables" in names and not names.intersection(MODEL_FILES):
        return "saved_model.pb"
    # Those who clear temporary directories leave directories.
    if not any(files for _, _, files in os.walk(entry)):
        return "all files"
    return None


def manifest(entry: str) -> Dict[str, Any]:
    """Size and checksum by file; nothing where there is no list that can be read."""
    try:
        content = json.loads(_files.read_bytes(entry + _MANIFEST, _LARGEST).decode())
        files = content["files"]
        return {
            str(name): (int(size), str(digest))
            for name, (size, digest) in files.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def handle_of(entry: str) -> str:
    """The handle of an entry, from its manifest or descriptor; else ""."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        content = json.loads(_files.read_bytes(entry + _MANIFEST, _LARGEST).decode())
        return str(content["handle"])
    with contextlib.suppress(OSError, ValueError):
        text = _files.read_bytes(entry + _DESCRIPTOR, _CHUNK).decode()
        for line in text.splitlines():
            if line.startswith("Module: "):
                return line[len("Module: ") :].strip()
    return ""


def forget_notes(entry: str) -> None:
    """Removes what is written beside an entry."""
    for end in (_MANIFEST, _DESCRIPTOR):
        with contextlib.suppress(FileNotFoundError):
            os.remove(entry + end)


# The notes come first, and then the entry: an entry without notes would count as one of
# TensorFlow Hub's, whose files nobody can check. Notes without an entry harm nobody.
def _note(entry: str, handle: str, files: Dict[str, File], folder: str) -> None:
    """Writes what an entry is to have, before it is there.

    By way of a local directory, which goes away with a process that is killed.
    """
    handle = printable(handle)
    content = {"handle": handle, "files": {n: list(f) for n, f in files.items()}}
    _replace(folder, entry + _MANIFEST, json.dumps(content, indent=1, sort_keys=True))
    _replace(
        folder,
        entry + _DESCRIPTOR,
        "Module: {}\nDownload Time: {}\nDownloader Hostname: {} (PID:{})\n".format(
            handle, time.ctime(), platform.node(), os.getpid()
        ),
    )


def _replace(folder: str, path: str, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    if _files.is_remote(path):
        _files.write_bytes(path, data)
        return
    temporary = os.path.join(folder, ".hub_compat-note")
    with open(temporary, "wb", opener=private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
