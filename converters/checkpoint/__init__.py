"""The files of checkpoints, without TensorFlow."""

from __future__ import annotations
