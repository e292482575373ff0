"""Reference data about ops: definitions, where they went, who has them.

``make ops``, ``make survey``, ``make first-versions`` and ``make package-ops`` write
the files beside this module.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
from typing import Any, Dict, List

from hub_compat._tf import op_def_pb2
from hub_compat._tf.runtime import has_op

__all__ = [
    "available",
    "builtin_ops",
    "first_versions",
    "homes",
    "packages_by_op",
    "read_ops",
]

_FOLDER = os.path.dirname(os.path.abspath(__file__))


@functools.lru_cache(maxsize=None)
def read_ops(file_name: str) -> Dict[str, op_def_pb2.OpDef]:
    """The op definitions of one TensorFlow, by name, from one of the files here."""
    op_list = op_def_pb2.OpList()
    with gzip.open(os.path.join(_FOLDER, file_name), "rb") as file:
        op_list.ParseFromString(file.read())
    return {op.name: op for op in op_list.op}


def builtin_ops() -> Dict[str, op_def_pb2.OpDef]:
    """The op definitions of TF 1.15.5, by name.

    Not those of the running TensorFlow, so that a conversion gives the same
    bytes under every version.
    """
    return read_ops("ops_tf1_15.pb.gz")


@functools.lru_cache(maxsize=None)
def _read_names(file_name: str) -> Any:
    with open(os.path.join(_FOLDER, file_name), encoding="utf-8") as file:
        return json.load(file)


def homes() -> Dict[str, str]:
    """Ops of TensorFlow 1.15 that are gone; what had them: ``tf.contrib.image``."""
    found: Dict[str, str] = _read_names("dropped_ops.json")
    return found


def available() -> List[str]:
    """Those of them that the TensorFlow at hand has."""
    return sorted(op for op in homes() if has_op(op))


@functools.lru_cache(maxsize=None)
def first_versions() -> Dict[str, str]:
    """The TensorFlow 2 that brought an op: ``{"Name": "2.4"}``."""
    by_version = _read_names("first_versions.json")
    return {op: version for version, ops in by_version.items() for op in ops}


@functools.lru_cache(maxsize=None)
def packages_by_op() -> Dict[str, List[str]]:
    """The packages that have an op of their own, by the op."""
    found: Dict[str, List[str]] = {}
    for package, ops in _read_names("package_ops.json").items():
        for op in ops:
            found.setdefault(op, []).append(package)
    return found
