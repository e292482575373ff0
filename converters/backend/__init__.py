"""Writes the terms of ``ir`` as a Reusable TF2 SavedModel."""

from __future__ import annotations
