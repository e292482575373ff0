"""The last guard: what a module's files do to a reader comes out as an error of ours.

Each public function has one around all that reads the module, after its arguments
were looked at: a wrong argument stays the caller's error. What is no error of
hub_compat's tree by then came of bytes that nobody foresaw.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, List, Optional

from hub_compat._causes import cause
from hub_compat.errors import (
    ConversionError,
    CorruptModuleError,
    HandleError,
    HubCompatError,
)

__all__ = ["explained", "reading"]

# Not of a module's files: a package that is missing, a warning made an error.
_SPARED = (HubCompatError, ImportError, Warning)


@contextlib.contextmanager
def reading(
    path: Any, doing: str, loading: Optional[List[str]] = None
) -> Iterator[None]:
    """Turns foreign exceptions of a block that reads a module into ours.

    Args:
      path: the module, for the message.
      doing: what is done to it: ``"loaded"``.
      loading: the SavedModels that TensorFlow was given to load, as far as the block
        has got. Where it loads the last one into a graph of its own, the exception is
        not the module's fault, as where the program's graph is finalized; it passes.

    Raises:
      HandleError: a file cannot be read.
      CorruptModuleError: what the files hold cannot be.
      ConversionError: it cannot be told whose fault it is.
    """
    try:
        yield
    except _SPARED:
        raise
    except Exception as error:
        damaged = bool(loading)
        if loading and not _is_damage(error):
            from hub_compat._tf.loading import loads_alone

            if loads_alone(loading[-1]):
                raise
        raise explained(error, path, doing, damaged) from error


def explained(
    error: Exception, path: Any, doing: str, damaged: bool = False
) -> HubCompatError:
    """The error of ours for a foreign one.

    Args:
      error: the foreign one.
      path: the module.
      doing: what is done to it: ``"loaded"``.
      damaged: whether it is known that the module is to blame.
    """
    text, kind = cause(error), type(error).__name__
    if not text.startswith(kind):
        text = "{}: {}".format(kind, text)
    if isinstance(error, PermissionError) or _named(error, "PermissionDeniedError"):
        return HandleError(
            "The module cannot be {}: one of its files cannot be read: {}. Check "
            "that this user may read all of its files. Received: {!r}".format(
                doing, text, str(path)
            )
        )
    if isinstance(error, MemoryError) or _named(error, "ResourceExhaustedError"):
        return CorruptModuleError(
            "The module cannot be {}: there is not enough memory. The module is "
            "damaged, or too large for this machine. Free some memory, or download "
            "or export the module again ({}). Received: {!r}".format(
                doing, text, str(path)
            )
        )
    if isinstance(error, OSError):
        return HandleError(
            "The module cannot be {}: the file system reports: {}. Check its files, "
            "or download it again. Received: {!r}".format(doing, text, str(path))
        )
    if damaged or _is_damage(error):
        return CorruptModuleError(
            "The module cannot be {}; it may be damaged or incomplete. Download or "
            "export it again ({}). Received: {!r}".format(doing, text, str(path))
        )
    return ConversionError(
        "The module cannot be {}: it holds something that hub_compat does not expect "
        "({}). Download or export it again. If TensorFlow itself reads it, report this "
        "as a bug of hub_compat, with the lines above. Received: {!r}".format(
            doing, text, str(path)
        )
    )


def _is_damage(error: Exception) -> bool:
    """Whether an exception is what damaged bytes lead to, and nothing else."""
    kinds = (UnicodeError, RecursionError, EOFError)
    # Of TensorFlow and protobuf, which need not be imported here.
    return isinstance(error, kinds) or _named(error, "OpError", "DecodeError")


def _named(error: Exception, *names: str) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)
