"""Recorded models with something changed in their protos."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable

import expected


def edited(name: str, tmp_path: Path, edit: Callable[[Any], None]) -> Path:
    """A copy of a recorded model with another SavedModel proto."""
    return edited_copy(expected.load_expected(name).path, tmp_path / "source", edit)


def edited_copy(source: Any, copy: Path, edit: Callable[[Any], None]) -> Path:
    """A copy of a model with another SavedModel proto."""
    from hub_compat._tf import saved_model_pb2

    shutil.copytree(str(source), str(copy))
    file = copy / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    edit(proto)
    file.write_bytes(proto.SerializeToString())
    return copy
