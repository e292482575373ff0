"""Reads the SavedModel proto of a detected directory."""

from __future__ import annotations

from typing import Any

from hub_compat._io import files
from hub_compat._parsing import newer_text
from hub_compat._parsing.merged_chunks import read_chunked_model
from hub_compat._tf import saved_model_pb2
from hub_compat.errors import CorruptModuleError, HubCompatError
from hub_compat.formats import Detection

__all__ = ["parse_saved_model", "read_saved_model"]


# No protobuf is larger.
_MOST_PROTO_BYTES = (1 << 31) - 1


def read_saved_model(detection: Detection) -> Any:
    """The SavedModel proto of a detected directory, whatever file holds it.

    Raises:
      CorruptModuleError: it cannot be parsed.
    """
    path = files.join(detection.path, detection.file)
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


def parse_saved_model(directory: str, file: str) -> Any:
    """Parses ``saved_model.pb`` or its text form into a SavedModel proto."""
    path = "/".join((directory.rstrip("/"), file))
    data = files.read_bytes(path, _MOST_PROTO_BYTES)
    if file.endswith(".pbtxt"):
        return newer_text.parse(data.decode("utf-8"), saved_model_pb2.SavedModel())
    return saved_model_pb2.SavedModel.FromString(data)
