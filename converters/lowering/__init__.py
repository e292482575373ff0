"""A model from a newer TensorFlow, in the ops of an older one.

A pass over the protos of a TF2 SavedModel: ``targets.py`` says what the target
knows, ``..ir.rewriter`` is how a rule rewrites a node, the files named after what they
are about hold the rules, and ``lowering.py`` applies them.
"""

from __future__ import annotations

from ..opdata.targets import TARGETS, Registry, of_runtime, of_target
from .directories import lower_directory, lower_saved_model
from .lowering import Lowered, is_unknown, lower, needs_lowering, unknown_ops

__all__ = [
    "TARGETS",
    "Lowered",
    "Registry",
    "lower",
    "lower_directory",
    "lower_saved_model",
    "is_unknown",
    "needs_lowering",
    "of_runtime",
    "of_target",
    "unknown_ops",
]
