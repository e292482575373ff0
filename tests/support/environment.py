"""What the environment of the tests has."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from typing import Any, List


def has_module(name: str) -> bool:
    """Whether a top-level module is installed."""
    return importlib.util.find_spec(name) is not None


@functools.lru_cache(maxsize=None)
def tensorflow_version() -> str:
    """The version of the TensorFlow at hand, ``""`` without one."""
    if not has_module("tensorflow"):
        return ""
    # TF 1.15 warns of NumPy and Python features in several lines; pytest shows
    # all that is imported at this point.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("tensorflow").__version__


@functools.lru_cache(maxsize=None)
def executes_eagerly() -> bool:
    """Whether operations run when they are called."""
    if not tensorflow_version():
        return False
    return bool(importlib.import_module("tensorflow").executing_eagerly())


@functools.lru_cache(maxsize=None)
def keras_generations() -> List[int]:
    """The generations of Keras that can be imported, in order."""
    if not tensorflow_version():
        return []
    found = set()
    if has_module("tf_keras") or not has_module("keras"):
        found.add(2)
    if has_module("keras"):
        version = importlib.import_module("keras").__version__
        found.add(int(version.split(".")[0]))
    return sorted(found)


def keras_versions() -> List[str]:
    """The version of Keras 2, and that of Keras 3, of those that are there."""
    found = []
    for generation in keras_generations():
        name = "tf_keras" if generation == 2 and has_module("tf_keras") else "keras"
        module: Any = importlib.import_module("tensorflow").keras
        if has_module(name):
            module = importlib.import_module(name)
        found.append(str(module.__version__))
    return found
