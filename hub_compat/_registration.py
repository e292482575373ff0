"""Registers KerasLayer with Keras under the name that saved models use."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any, Set

__all__ = ["register"]

# The generations of Keras that know the layer, or that cannot be had.
_done: Set[int] = set()


def register() -> None:
    """Registers the layer with each Keras that the program has imported.

    It imports nothing that is not there, and does nothing before TensorFlow is. It is
    called when hub_compat is imported, and whenever something of it is used: so a
    program that loads a saved model needs not name the class first.
    """
    if "tensorflow" not in sys.modules:
        return
    for generation in _imported() - _done:
        _done.add(generation)
        # Without the TensorFlow backend of Keras 3, for instance.
        with contextlib.suppress(ImportError):
            importlib.import_module("hub_compat.keras{}".format(generation))


def _imported() -> Set[int]:
    """The generations of Keras in this program."""
    found = set()
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
    if legacy or "tf_keras" in sys.modules:
        found.add(2)
    keras: Any = sys.modules.get("keras")
    version = str(getattr(keras, "__version__", ""))
    if version:
        found.add(3 if version.startswith("3.") else 2)
    if _is_part_of_tensorflow():
        found.add(2)
    return found


def _is_part_of_tensorflow() -> bool:
    """Whether tf.keras is TensorFlow's own, as it is up to TF 2.5."""
    version = str(getattr(sys.modules["tensorflow"], "__version__", ""))
    return version.startswith(("1.", "2.0.", "2.1.", "2.2.", "2.3.", "2.4.", "2.5."))
