"""Which libraries of ops, and packages that have some, a program has loaded.

Another process that is to run the same models has to load them, too.
"""

from __future__ import annotations

import mmap
import os
import re
import site
import sys
import sysconfig
from typing import Iterable, List, Sequence, Set

from hub_compat._tf import tf
from hub_compat._tf.runtime import has_op

__all__ = ["libraries_of", "load_libraries", "packages"]

_MAPPED = re.compile(r"\S*/\S.*\.(?:so|dylib)(?:\.[\d.]+)?$")
# TensorFlow itself.
_CORE = re.compile(r"^(lib_?pywrap_|_?pywrap_|libtensorflow(_framework|_cc)?\.)")
_NO_PACKAGES = frozenset(
    [
        "hub_compat", "keras", "pytest", "tensorboard", "tensorflow",
        "tensorflow_core", "tensorflow_estimator",
    ]
)  # fmt: skip


def libraries_of(ops: Iterable[str]) -> List[str]:
    """The shared libraries in this process that have the names of some ops in them.

    TensorFlow does not say what ``tf.load_op_library`` loaded; the system knows which
    files are mapped. Where it does not (only Linux has such a list), there are none.
    """
    names = [op.encode() for op in ops if has_op(op)]
    found = []
    for path in _mapped() if names else ():
        if not _CORE.match(os.path.basename(path)) and _mentions(path, names):
            found.append(path)
    return found


def _mapped() -> List[str]:
    try:
        with open(
            "/proc/self/maps", encoding="utf-8", errors="surrogateescape"
        ) as file:
            paths = [line.split(None, 5)[-1].rstrip("\n") for line in file]
    except OSError:
        return []
    return [path for path in dict.fromkeys(paths) if _MAPPED.match(path)]


def _mentions(path: str, names: Sequence[bytes]) -> bool:
    try:
        with open(path, "rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                # What is before it may be the start of another: linkers merge ends.
                return any(data.find(name + b"\0") >= 0 for name in names)
    except (OSError, ValueError):
        return False


def packages() -> List[str]:
    """The installed packages in this process that use TensorFlow, sorted.

    A program's own modules are not among them: importing one again would run it.
    """
    folders = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    # Old versions of virtualenv have a site of their own.
    folders += getattr(site, "getsitepackages", list)()
    folders += [getattr(site, "getusersitepackages", str)()]
    places = tuple(os.path.join(os.path.realpath(f), "") for f in folders if f)
    found: Set[str] = set()
    for name, module in list(sys.modules.items()):
        top = name.split(".")[0]
        if top in found or top in _NO_PACKAGES:
            continue
        root = getattr(sys.modules.get(top), "__file__", None)
        if not root or not os.path.realpath(root).startswith(places):
            continue
        values = list(getattr(module, "__dict__", {}).values())
        if any(value is tf for value in values):
            found.add(top)
    return sorted(found)


def load_libraries(paths: Iterable[str]) -> bool:
    """Loads shared libraries of ops; says whether any could be."""
    loaded = False
    for path in paths:
        try:
            tf.load_op_library(path)
            loaded = True
        except (tf.errors.OpError, OSError, RuntimeError):
            # What is mapped need not be a library of ops; what lacks is seen later.
            continue
    return loaded
