"""Reads files of strangers: SavedModels in each encoding, without TensorFlow first."""

from __future__ import annotations
