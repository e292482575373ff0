"""resolve(): from a handle to the directory of a module."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Dict, Iterator, List, Optional
from urllib.parse import urlsplit

from hub_compat._handles import archives, kaggle, settings, shelf, transfer
from hub_compat._handles.grammar import Handle, Kind, parse, printable
from hub_compat._handles.streams import File
from hub_compat._io import files
from hub_compat._parsing.near_misses import MODEL_FILES
from hub_compat.errors import HandleError

__all__ = ["register_resolver", "resolve"]


class _NoPlaceError(HandleError, ValueError):
    """A server does not say where a module lies; TensorFlow Hub has a ValueError."""


Resolver = Callable[[str], Optional[str]]

_resolvers: List[Resolver] = []

_ATTEMPTS = 5
# What macOS puts into a zip beside what is packed.
_OF_FINDER = {"__MACOSX", ".DS_Store"}
# What is an archive on a remote file system, its name says.
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")


def register_resolver(resolver: Resolver) -> Resolver:
    """Registers a function that resolves handles of your own kind.

    Args:
      resolver: gets a handle, and returns the path of a directory, or None for a
        handle that is not its own. The one registered last is asked first, and all
        before hub_compat.

    Returns:
      The resolver, so that this can be a decorator.
    """
    _resolvers.append(resolver)
    return resolver


# Asked in this order, the first that fits:
#
#     a resolver of the program, the last that was registered first
#     an address, or a model of Kaggle's          fetched into the cache
#     a remote path that ends like an archive     unpacked into the cache
#     a local file that is an archive             the same; key: path, size, time
#     anything else                               a directory, as it is
def resolve(handle: Any) -> str:
    """Returns the directory of the module that a handle names; fetches it if needed.

    A directory is returned as it is. An address (the TF Hub hosting protocol), a model
    of Kaggle's and an archive are unpacked into the cache of downloads, once: an entry
    is there complete or not at all, and any number of processes may ask at a time.

    Args:
      handle: a path, ``https://tfhub.dev/...``, ``kaggle://...``, an archive; the
        grammar is in ``hub_compat/_handles/grammar.py``. The result of ``load()`` is
        not a handle.

    Returns:
      The path of a directory, local or on a file system that TensorFlow reads. It is
      not checked that a given directory holds a module.

    Raises:
      HandleError: nothing can be fetched; the message says why.
      ArchiveError: (a ``HandleError``) the fetched archive is unusable or refused.
      CacheError: the cache of downloads cannot be used.
      FormatError: it is neither a string nor an ``os.PathLike``.
      MissingDependencyError: ``requests`` or ``kagglehub`` is missing.
    """
    if isinstance(handle, str):
        for resolver in reversed(_resolvers):
            found = resolver(handle)
            if found is not None:
                return files.as_path(found)
    parsed = parse(handle)
    if parsed.kind is Kind.ADDRESS:
        return _from_server(parsed)
    if parsed.kind is Kind.KAGGLE:
        return _from_kaggle(parsed)
    if "\0" in parsed.location:
        # No path at all, which Python 3.7 says by an error: who reads it says so.
        return parsed.location
    path = _mapped(parsed.location)
    if files.is_remote(path):
        if not path.endswith(_ARCHIVES):
            return path
        return shelf.fetched(
            path, lambda folder: _unpack_path(path, folder), _why_not(path)
        )
    if not os.path.isfile(path) or not _is_archive(path):
        return path
    facts = os.stat(path)
    key = "{}?{}.{}".format(os.path.realpath(path), facts.st_size, facts.st_mtime_ns)
    return shelf.fetched(key, lambda folder: _unpack_path(path, folder))


def _is_archive(path: str) -> bool:
    try:
        return archives.is_archive(path)
    except OSError as error:
        raise HandleError(
            "The file cannot be read: {}. Received: {!r}".format(error, path)
        ) from error


def _mapped(path: str) -> str:
    """Where a directory of another machine is on this one."""
    if files.is_remote(path) or os.path.exists(path):
        return path
    for there, here in settings.path_map():
        if path == there or path.startswith(there + "/"):
            return here + path[len(there) :]
    return path


def _unpack_path(path: str, folder: str) -> Dict[str, File]:
    with files.open_read(path) as file:
        return _raised(archives.extract(file, folder, path), folder)


def _why_not(place: str) -> str:
    """Why nothing may be fetched; "" if it may."""
    # It is no network.
    if place.startswith("ram://") or not settings.offline():
        return ""
    return "HUB_COMPAT_OFFLINE forbids fetching it"


def _from_server(handle: Handle) -> str:
    uncompressed = settings.load_format() == "UNCOMPRESSED"
    why_not = _why_not(handle.text)
    if not uncompressed:
        return shelf.fetched(handle.text, _Download(handle.text), why_not)
    if why_not:
        raise HandleError("{}. Received: {!r}".format(why_not, printable(handle.text)))
    return _place_of(handle.text)


# Mirrors first, the address itself last. Each attempt begins with an empty folder, as
# the one before may have left files of another version.
class _Download:
    """Fetches a module from a server, or a mirror of it."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __call__(self, folder: str) -> Dict[str, File]:
        addresses = transfer.mirrored(self._address)
        problems = []
        with transfer.session() as made:
            for address in addresses:
                try:
                    return self._fetch(made, address, folder)
                except HandleError as error:
                    if len(addresses) == 1:
                        raise
                    problems.append(error)
                    _empty(folder)
        raise HandleError(
            "Neither the mirrors nor the original server has the module:\n{}\n"
            "Received: {!r}".format(
                "\n".join(map(str, problems)), printable(self._address)
            )
        ) from problems[-1]

    def _fetch(self, made: Any, address: str, folder: str) -> Dict[str, File]:
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(transfer.Changed):
                with transfer.Body(
                    made, address, shelf.entry_of(self._address)
                ) as body:
                    with _shown(body, self._address) as shown:
                        files = archives.extract(
                            shown, folder, printable(self._address)
                        )
                    return _raised(files, folder)
            _empty(folder)
        raise HandleError(
            "The server changed the module each time that the connection was cut, "
            "{} times in a row. Try again later. Received: {!r}".format(
                _ATTEMPTS, printable(address)
            )
        )


@contextlib.contextmanager
def _shown(body: Any, address: str) -> Iterator[Any]:
    """A body whose progress is shown, where it is to be."""
    if not settings.shows_progress():
        yield body
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield body
        return
    name = urlsplit(address).path.rstrip("/").rpartition("/")[2]
    options = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "desc": name}
    with tqdm.wrapattr(body, "read", total=body.size, **options) as shown:
        yield shown


def _place_of(address: str) -> str:
    """The place of the unpacked module, as a server names it.

    Raises:
      HandleError: it does not say.
    """
    asked = transfer.with_format(address, "uncompressed")
    with transfer.session() as made:
        answer = transfer.ask(made, asked, {}, follow=False)
        with contextlib.closing(answer):
            status, text = answer.status_code, ""
            if status == 303:
                text = transfer.start_of(answer)
    place = text.strip()
    if status != 303 or not place.startswith("gs://"):
        raise _NoPlaceError(
            "The server does not name the unpacked module: it answered {}{}; "
            "expected 303 and gs://... . Set TFHUB_MODEL_LOAD_FORMAT to COMPRESSED. "
            "Received: {!r}".format(
                status,
                " and {!r}".format(place[:100]) if place else "",
                printable(address),
            )
        )
    return place


def _from_kaggle(handle: Handle) -> str:
    why_not = _why_not(handle.text)
    if handle.text.startswith("kaggle:") or kaggle.is_there():
        return shelf.fetched(
            handle.text, lambda folder: kaggle.fetch(handle.location, folder), why_not
        )
    # As TensorFlow Hub asks: Kaggle speaks the hosting protocol.
    try:
        return _from_server(Handle(handle.text, Kind.ADDRESS, handle.text))
    except HandleError as error:
        if why_not:
            raise
        raise HandleError(
            "{} {}".format(error, kaggle.HINT.format(handle.location))
        ) from error


def _raised(files: Dict[str, File], folder: str) -> Dict[str, File]:
    """Files of a model, which may lie in the archive's only directory."""
    tops = {name.partition("/")[0] for name in files} - _OF_FINDER
    if len(tops) != 1 or not any("/" in name for name in files):
        return files
    (top,) = tops
    if not any(top + "/" + name in files for name in MODEL_FILES):
        return files
    # By a name that none of its files has.
    aside = os.path.join(folder, ".hub_compat-nested")
    os.rename(os.path.join(folder, top), aside)
    for name in os.listdir(aside):
        os.rename(os.path.join(aside, name), os.path.join(folder, name))
    os.rmdir(aside)
    start = len(top) + 1
    return {n[start:] if n[:start] == top + "/" else n: f for n, f in files.items()}


def _empty(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            files.remove_tree(path)
        else:
            os.remove(path)
