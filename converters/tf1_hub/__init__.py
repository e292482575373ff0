"""A TF2 SavedModel as a TF1 Hub module, or as a TF1 SavedModel."""

from __future__ import annotations

from .directories import write_tf1_form

__all__ = ["write_tf1_form"]
