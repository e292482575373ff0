"""Models of Kaggle's, fetched by its own client and copied out of its cache.

kagglehub unpacks into its cache without a filter and without a lock between processes.
What it returns is looked at as an archive is: files and directories alone are copied,
under the lock of our entry.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
from typing import Any, Dict

from hub_compat._handles.archives import File
from hub_compat.errors import ArchiveError, HandleError, MissingDependencyError

__all__ = ["HINT", "fetch", "is_there"]

HINT = (
    "Kaggle's own client fetches it as well, with your account where one is needed: "
    "pip install hub-compat[kaggle]. The model is kaggle://{}"
)
_CHUNK = 1 << 20


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
            "A model of Kaggle's is fetched by the package kagglehub, which is not "
            "here: pip install hub-compat[kaggle]. Received: {!r}".format(
                "kaggle://" + model
            )
        ) from error
    try:
        source = kagglehub.model_download(model)
    except Exception as error:
        # It has errors of its own, and lets through those of requests.
        raise HandleError(
            "Kaggle does not give the model: {}: {}. Models that ask for consent need "
            "an account: see kagglehub.login(). Received: {!r}".format(
                type(error).__name__, error, "kaggle://" + model
            )
        ) from error
    return _copy(os.fspath(source), folder, model)


def _copy(source: str, folder: str, model: str) -> Dict[str, File]:
    found: Dict[str, File] = {}
    for base, folders, names in os.walk(source):
        for name in folders + names:
            path = os.path.join(base, name)
            mode = os.lstat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ArchiveError(
                    "The model that Kaggle gives has a link or a device in it, {!r}; "
                    "only files and directories are taken. Received: {!r}".format(
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
