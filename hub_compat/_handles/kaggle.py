"""Models of Kaggle's, fetched by its own client and copied out of its cache.

kagglehub unpacks into its cache without a filter and without a lock between processes.
So one process at a time has it fetch a model, and it unpacks by our rules
(``archives.py``). What it returns is looked at as well: files and directories alone are
copied, under the lock of our entry. Its cache, its account and what Kaggle's notebooks
have at hand stay of use.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import stat
import threading
from typing import Any, Callable, Dict, Iterator

from hub_compat._handles import archives, settings, shelf
from hub_compat._handles.streams import File
from hub_compat._io.builders import locked
from hub_compat.errors import (
    ArchiveError,
    HandleError,
    HubCompatError,
    MissingDependencyError,
)

__all__ = ["HINT", "fetch", "is_there"]

HINT = (
    "Kaggle's own client fetches it as well, with your account where one is needed: "
    "pip install hub-compat[kaggle]. The model is kaggle://{}"
)
_CHUNK = 1 << 20
# Of version 0.2, and 1.
_LISTINGS = ("_list_files", "_list_model_files")
# For threads: what is changed of the module is changed for all.
_guard = threading.Lock()


def is_there() -> bool:
    """Whether kagglehub can be imported."""
    return importlib.util.find_spec("kagglehub") is not None


def fetch(model: str, folder: str) -> Dict[str, File]:
    """Fetches a model into an empty directory.

    Args:
      model: ``owner/name/framework/variation[/version]``.
      folder: the directory.

    Raises:
      MissingDependencyError: kagglehub is not installed.
      HandleError: it gives no such model.
      ArchiveError: there are links or devices in it.
    """
    try:
        import kagglehub
    except ImportError as error:
        raise MissingDependencyError(
            "Kaggle models need the package kagglehub, which is not installed: pip "
            "install hub-compat[kaggle]. Received: {!r}".format("kaggle://" + model)
        ) from error
    # Its versions share a directory where it keeps what it downloads.
    name = "/".join(model.split("/")[:4])
    lock = shelf.entry_of("kaggle://" + name + "?client")
    try:
        with _guard, locked(lock, "fetches", settings.patience()), _filtered(model):
            source = kagglehub.model_download(model)
    except HubCompatError:
        raise
    except Exception as error:
        # It has errors of its own, and lets through those of requests.
        raise HandleError(
            "Kaggle refuses the model: {}: {}. Models that require consent need an "
            "account: see kagglehub.login(). Received: {!r}".format(
                type(error).__name__, error, "kaggle://" + model
            )
        ) from error
    return _copy(os.fspath(source), folder, model)


@contextlib.contextmanager
def _filtered(model: str) -> Iterator[None]:
    """Makes kagglehub check file names, and unpack, as ``archives.py`` does.

    Where a version of it has no such functions, what it returns is still looked at.
    """

    def extract(path: str, folder: str) -> None:
        # What it left there when it was killed it would write over.
        if os.path.isdir(folder):
            shutil.rmtree(folder)
        os.makedirs(folder)
        try:
            with open(path, "rb") as archive:
                archives.extract(archive, folder, "kaggle://" + model)
        except ArchiveError:
            # It would take it for downloaded.
            os.remove(path)
            raise

    def checked(listing: Callable[..., Any]) -> Callable[..., Any]:
        def function(*arguments: Any) -> Any:
            files, has_more = listing(*arguments)
            for name in files:
                if os.path.isabs(name) or ".." in name.replace("\\", "/").split("/"):
                    raise ArchiveError(
                        "The model from Kaggle holds a file whose path leads "
                        "outside of it, {!r}. Received: {!r}".format(
                            name, "kaggle://" + model
                        )
                    )
            return files, has_more

        return function

    try:
        from kagglehub import http_resolver
    except ImportError:
        yield
        return
    before = dict(vars(http_resolver))
    ours = {name: checked(before[name]) for name in _LISTINGS if name in before}
    if "_extract_archive" in before:
        ours["_extract_archive"] = extract
    vars(http_resolver).update(ours)
    try:
        yield
    finally:
        vars(http_resolver).update({name: before[name] for name in ours})


def _copy(source: str, folder: str, model: str) -> Dict[str, File]:
    found: Dict[str, File] = {}
    for base, folders, names in os.walk(source):
        for name in folders + names:
            path = os.path.join(base, name)
            mode = os.lstat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ArchiveError(
                    "The model from Kaggle holds a link or a device, {!r}. Only "
                    "files and directories are allowed. Received: {!r}".format(
                        os.path.relpath(path, source), "kaggle://" + model
                    )
                )
        for name in names:
            path = os.path.join(base, name)
            relative = os.path.relpath(path, source)
            target = os.path.join(folder, relative)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            found[relative.replace(os.sep, "/")] = _copy_file(path, target)
    return found


def _copy_file(path: str, target: str) -> File:
    digest: Any = hashlib.sha256()
    size = 0
    with open(path, "rb") as source, open(target, "xb") as copy:
        data = source.read(_CHUNK)
        while data:
            digest.update(data)
            copy.write(data)
            size += len(data)
            data = source.read(_CHUNK)
    shutil.copystat(path, target, follow_symlinks=False)
    os.chmod(target, 0o600)
    return File(size, digest.hexdigest())
