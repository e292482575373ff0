"""The grammar of handles: what a string says of where a module is.

::

    handle  = path | address | kaggle
    path    = ["file://"] local path | scheme "://" rest     a directory or an archive
    scheme  = "gs" | "s3" | "hdfs" | ...                     what tf.io.gfile reads
    address = ("http" | "https") "://" host "/" rest         the TF Hub hosting protocol
    kaggle  = "kaggle://" model
            | "https://" ["www."] "kaggle.com/models/" (model | page)
    model   = owner "/" name "/" framework "/" variation ["/" version]
    page    = owner "/" name "/frameworks/" framework "/variations/" variation
              ["/versions/" version]

An archive is a tar (plain, gzip, bzip2, xz) or a zip; its content says so, not its
name. Source of the protocol: tensorflow.org/hub/hosting and tensorflow_hub 0.16.1.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import re
from typing import Any, Optional
from urllib.parse import unquote, urlsplit

from hub_compat._io import files
from hub_compat.errors import HandleError

__all__ = ["Handle", "Kind", "parse", "printable"]


class Kind(enum.Enum):
    """The kind of place that a handle names."""

    PATH = "path"
    ADDRESS = "address"
    KAGGLE = "kaggle"


@dataclasses.dataclass(frozen=True)
class Handle:
    """A handle that was understood.

    Attributes:
      text: as it was given; the cache knows the module by it.
      kind: what kind of place it names.
      location: the path, the address, or ``owner/name/framework/variation[/version]``.
    """

    text: str
    kind: Kind
    location: str


_KAGGLE_HOSTS = ("kaggle.com", "www.kaggle.com")
_PAGE = re.compile(
    "([^/]+/[^/]+)/frameworks/([^/]+)/variations/([^/]+)(?:/versions/([0-9]+))?/?$"
)
_MODEL = re.compile("([^/]+)/([^/]+)/([^/]+)/([^/]+?)(?:/([0-9]+))?/?$")

# A password may hold anything but a slash; what is behind the last @ is the host.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s'\"]*@")
_SECRET = re.compile(
    r"([?&][^=&#\s'\"]*(?:token|key|sig|secret|passw|credential|auth)[^=&#\s'\"]*=)"
    r"[^&#\s'\"]+",
    re.IGNORECASE,
)


def parse(handle: Any) -> Handle:
    """Understands a handle; touches no file and no network.

    Args:
      handle: a string or an ``os.PathLike``.

    Raises:
      FormatError: it is neither.
      HandleError: it is an address without a host, or names no model of Kaggle's.
    """
    path = files.as_path(handle)
    text = handle if isinstance(handle, str) else path
    if isinstance(handle, os.PathLike):
        return Handle(path, Kind.PATH, path)
    scheme = path.partition("://")[0].lower() if "://" in path else ""
    if scheme == "kaggle":
        model = _model(path.partition("://")[2])
        if model is None:
            raise HandleError(
                "The handle does not name a Kaggle model; write "
                "kaggle://OWNER/NAME/FRAMEWORK/VARIATION, with /VERSION or without. "
                "Received: {!r}".format(text)
            )
        return Handle(text, Kind.KAGGLE, model)
    if scheme in ("http", "https"):
        parts = _split(text)
        if parts.hostname in _KAGGLE_HOSTS and parts.path.startswith("/models/"):
            model = _model(unquote(parts.path[len("/models/") :]))
            if model is not None:
                return Handle(text, Kind.KAGGLE, model)
        return Handle(text, Kind.ADDRESS, text)
    if not scheme:
        path = os.path.expanduser(path)
    return Handle(text, Kind.PATH, path)


def printable(text: str) -> str:
    """A handle, or a text with addresses, without passwords and keys.

    For messages, logs and the notes in the cache: ``https://user:password@host/m?key=1``
    is ``https://***@host/m?key=***``.
    """
    return _SECRET.sub(r"\1***", _USER.sub(r"\1***@", text))


def _split(text: str) -> Any:
    try:
        parts = urlsplit(text)
        # It is looked at when it is asked for.
        parts.port  # noqa: B018
    except ValueError as error:
        raise HandleError(
            "The handle is not a valid address: {}. Received: {!r}".format(
                printable(str(error)), printable(text)
            )
        ) from error
    if not parts.hostname:
        raise HandleError(
            "The handle is an address without a host; write https://HOST/MODULE. "
            "Received: {!r}".format(printable(text))
        )
    return parts


def _model(path: str) -> Optional[str]:
    """The model that a path of Kaggle's names, in kagglehub's form."""
    page = _PAGE.match(path)
    if page is not None:
        found = [group for group in page.groups() if group]
        return "/".join(found)
    model = _MODEL.match(path)
    if model is None or "frameworks" in model.groups():
        return None
    return "/".join(group for group in model.groups() if group)
