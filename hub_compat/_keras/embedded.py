"""A module within the configuration of a layer: ``KerasLayer(..., embed=True)``.

All of the module is in it but the values of the layer's weights, which Keras keeps in
the file of the model. It is text, so that it goes wherever Keras writes a
configuration: ``.keras`` and ``.h5`` files, SavedModels, ``to_json()``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import threading
from typing import Any, Dict, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from hub_compat._io import scratch
from hub_compat._io.fingerprint import fingerprint
from hub_compat._keras import archive as _archive
from hub_compat._loaded import origin
from hub_compat.errors import CacheError, CorruptModuleError, HubCompatError
from hub_compat.formats import Format
from hub_compat.saver import write

__all__ = ["Embedded", "pack"]


class Embedded(NamedTuple):
    """A module as text.

    Attributes:
      data: a zip archive of a TF2 SavedModel, in base64.
      fingerprint: of the directory that it was made of.
      hub_module: whether that was a TF1 Hub module.
    """

    data: str
    fingerprint: str
    hub_module: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Embedded:
        """Reads what ``to_config`` returned.

        Raises:
          CorruptModuleError: it is not that.
        """
        try:
            data, hashed, hub_module = (config[name] for name in cls._fields)
        except (KeyError, TypeError, IndexError) as error:
            raise _unreadable(error) from error
        if not isinstance(data, str) or not isinstance(hashed, str):
            raise _unreadable("fields of another type")
        return cls(data, hashed, bool(hub_module))

    def to_config(self) -> Dict[str, Any]:
        """All of it, as JSON takes it."""
        return dict(self._asdict())

    def directory(self, handle: str) -> str:
        """Where the module is now.

        Args:
          handle: the directory that it was made of. If it is gone, or holds another
            module by now, the result is a directory that this process removes in the
            end; the weights have no values there (NaN).

        Raises:
          CorruptModuleError: the text is not what ``pack()`` wrote.
        """
        try:
            if fingerprint(handle) == self.fingerprint:
                return handle
        except (OSError, HubCompatError):
            pass
        return _unpacked(self.data)


def pack(loaded: Any, weights: Sequence[Any]) -> Embedded:
    """Makes text of a loaded module.

    Args:
      loaded: what ``load()`` returned.
      weights: the variables whose values come from elsewhere.

    Raises:
      SaveError: its files are gone or not the same any more.
    """
    place = origin.of(loaded)
    assert place is not None
    elsewhere = {id(weight) for weight in weights}

    def values(variables: Mapping[str, Any]) -> Dict[str, Any]:
        # Small in the archive, and nothing that a program could take for weights.
        return {
            key: np.full(v.shape.as_list(), np.nan).astype(v.dtype.as_numpy_dtype)
            for key, v in variables.items()
            if id(v) in elsewhere
            and v.shape.is_fully_defined()
            and (v.dtype.is_floating or v.dtype.is_complex)
        }

    try:
        with scratch.temporary() as folder:
            write(loaded, folder, values)
            data = _archive.pack(folder)
    except HubCompatError:
        raise
    except OSError as error:
        raise _no_place(error) from error
    return Embedded(
        base64.b64encode(data).decode("ascii"),
        fingerprint(place.detection.path),
        place.detection.format is Format.TF1_HUB_MODULE,
    )


# (Process, hash of the text) -> directory. A fork makes its own.
_unpacked_at: Dict[Tuple[int, str], str] = {}
_guard = threading.Lock()


def _unpacked(data: str) -> str:
    """A directory with the module, one for all layers of this process."""
    try:
        archive = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unreadable(error) from error
    key = (os.getpid(), hashlib.sha256(archive).hexdigest())
    with _guard:
        folder = _unpacked_at.get(key)
        if folder is None or not os.path.isdir(folder):
            try:
                folder = scratch.lasting()
            except OSError as error:
                raise _no_place(error) from error
            try:
                _archive.unpack(archive, folder)
            except BaseException:
                scratch.remove(folder)
                raise
            _unpacked_at[key] = folder
        return folder


def _unreadable(reason: object) -> CorruptModuleError:
    return CorruptModuleError(
        "The module in the layer's configuration cannot be read. Perhaps the file "
        "of the model was edited. Received: {!r}".format(reason)
    )


def _no_place(error: OSError) -> CacheError:
    return CacheError(
        "A module in a layer's configuration needs space in a temporary directory: "
        "{}. Set TMPDIR to a directory with enough of it. Received: {!r}".format(
            error, error.filename
        )
    )
