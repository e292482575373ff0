"""Reads the SavedModel proto of a detected directory."""

from __future__ import annotations

from typing import Any

from hub_compat import _files
from hub_compat._tf import parse_saved_model
from hub_compat.errors import CorruptModuleError, HubCompatError
from hub_compat.formats import Detection

from .chunks import read_chunked_model

__all__ = ["read_saved_model"]


def read_saved_model(detection: Detection) -> Any:
    """The SavedModel proto of a detected directory, whatever file holds it.

    Raises:
      CorruptModuleError: it cannot be parsed.
    """
    path = _files.join(detection.path, detection.file)
    try:
        if detection.file.endswith(".cpb"):
            return read_chunked_model(path)
        return parse_saved_model(detection.path, detection.file)
    except HubCompatError:
        raise
    except OSError as error:
        raise CorruptModuleError(
            "The model's file cannot be read: {}. Received: {!r}".format(error, path)
        ) from error
    except Exception as error:  # DecodeError and its kin; they differ by version
        raise CorruptModuleError(
            "The file does not hold a SavedModel proto: {}. It was cut short or "
            "damaged; fetch the module again. Received: {!r}".format(error, path)
        ) from error
