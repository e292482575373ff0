"""Reads the settings of handles: environment variables, TensorFlow Hub's flags.

``TFHUB_CACHE_DIR``, ``TFHUB_MODEL_LOAD_FORMAT``, ``TFHUB_DOWNLOAD_PROGRESS`` and
``TFHUB_DISABLE_CERT_VALIDATION`` mean what they mean to TensorFlow Hub; so do the flags
``--tfhub_cache_dir`` and ``--tfhub_model_load_format``, which a variable overrides.
Each is looked at when it is needed, and not before.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, List, Optional, Tuple, TypeVar

from hub_compat.errors import OptionsError

__all__ = [
    "cache_dir",
    "connect_timeout",
    "define_flags",
    "disk_limit",
    "load_format",
    "member_limit",
    "mirrors",
    "offline",
    "path_map",
    "patience",
    "ratio_limit",
    "read_timeout",
    "retries",
    "shows_progress",
    "stopped_patience",
    "verifies_certificates",
]

_FORMATS = ("AUTO", "COMPRESSED", "UNCOMPRESSED")
_CACHE_FLAG, _FORMAT_FLAG = "tfhub_cache_dir", "tfhub_model_load_format"

_Number = TypeVar("_Number", int, float)


def define_flags() -> None:
    """Defines TensorFlow Hub's flags, where absl is in use and nobody has yet.

    TensorFlow Hub, imported later, may define them again.
    """
    if "absl.flags" not in sys.modules:
        return
    from absl import flags

    if _CACHE_FLAG not in flags.FLAGS:
        flags.DEFINE_string(
            _CACHE_FLAG, None, "Where modules are downloaded to.", allow_override=True
        )
    if _FORMAT_FLAG not in flags.FLAGS:
        flags.DEFINE_enum(
            _FORMAT_FLAG,
            "AUTO",
            list(_FORMATS),
            "How to request modules from a server.",
            allow_override=True,
        )


def _flag(name: str) -> Any:
    """The value of a flag, without having the command line parsed."""
    if "absl.flags" not in sys.modules:
        return None
    from absl import flags

    if name not in flags.FLAGS:
        return None
    # A flag that was not parsed has its default.
    return flags.FLAGS[name].value


def cache_dir() -> Optional[str]:
    """Where the user wants downloads to be; None for the usual place."""
    return os.environ.get("TFHUB_CACHE_DIR") or _flag(_CACHE_FLAG) or None


def load_format() -> str:
    """How a server is asked: ``"COMPRESSED"`` or ``"UNCOMPRESSED"``.

    Raises:
      OptionsError: the variable has another value.
    """
    name = "TFHUB_MODEL_LOAD_FORMAT"
    value = os.environ.get(name) or _flag(_FORMAT_FLAG) or "AUTO"
    if value not in _FORMATS:
        raise OptionsError(
            "{} must be one of {}. Received: {!r}".format(
                name, ", ".join(_FORMATS), value
            )
        )
    return "COMPRESSED" if value == "AUTO" else str(value)


def shows_progress() -> bool:
    """Whether downloads show a bar: on a terminal, in a notebook, or if asked for."""
    if os.environ.get("TFHUB_DOWNLOAD_PROGRESS"):
        return True
    if "ipykernel" in sys.modules:
        return True
    return bool(getattr(sys.stderr, "isatty", lambda: False)())


def verifies_certificates() -> bool:
    """Whether the certificates of servers are checked."""
    return os.environ.get("TFHUB_DISABLE_CERT_VALIDATION") != "true"


def offline() -> bool:
    """Whether nothing may be fetched."""
    value = os.environ.get("HUB_COMPAT_OFFLINE", "").lower()
    return value not in ("", "0", "false", "no")


def mirrors() -> List[str]:
    """Base addresses that are tried before the original, in order."""
    value = os.environ.get("HUB_COMPAT_MIRRORS", "")
    return [base.strip().rstrip("/") for base in value.split(",") if base.strip()]


def path_map() -> List[Tuple[str, str]]:
    """The local names of another machine's directories.

    Raises:
      OptionsError: it is not ``/there=/here``, several by comma.
    """
    name = "HUB_COMPAT_PATH_MAP"
    found = []
    for pair in filter(None, os.environ.get(name, "").split(",")):
        there, equals, here = pair.partition("=")
        if not (there and equals and here):
            raise OptionsError(
                "{} must be /there=/here, several by comma. Received: {!r}".format(
                    name, pair
                )
            )
        found.append((there.rstrip("/"), here.rstrip("/")))
    return found


def _number(name: str, default: _Number, kind: Callable[[str], _Number]) -> _Number:
    value = os.environ.get(name)
    if not value:
        return default
    try:
        number = kind(value)
        if 0 <= number < float("inf"):
            return number
    except ValueError:
        pass
    raise OptionsError(
        "{} must be a number that is not negative. Received: {!r}".format(name, value)
    )


def connect_timeout() -> float:
    """Seconds until a server must have answered a connection."""
    return _number("HUB_COMPAT_CONNECT_TIMEOUT", 10.0, float)


def read_timeout() -> float:
    """Seconds for which a server may send nothing."""
    return _number("HUB_COMPAT_READ_TIMEOUT", 60.0, float)


def retries() -> int:
    """How often in a row a request is repeated that brought nothing."""
    return _number("HUB_COMPAT_RETRIES", 5, int)


def patience() -> float:
    """Seconds to wait for another process that fetches the same module."""
    return _number("HUB_COMPAT_LOCK_TIMEOUT", 600.0, float)


def stopped_patience() -> float:
    """The same where the other process is stopped (Ctrl-Z, SIGSTOP)."""
    return _number("HUB_COMPAT_LOCK_TIMEOUT", 10.0, float)


def member_limit() -> int:
    """How many files an archive may have."""
    return _number("HUB_COMPAT_ARCHIVE_MAX_FILES", 100000, int)


def disk_limit() -> int:
    """How many bytes an archive may unpack to."""
    return _number("HUB_COMPAT_ARCHIVE_MAX_BYTES", 1 << 40, int)


def ratio_limit() -> int:
    """How many bytes each byte of an archive may unpack to, beyond what is free."""
    return _number("HUB_COMPAT_ARCHIVE_MAX_RATIO", 200, int)
