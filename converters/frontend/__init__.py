"""Reads TF1 formats: MetaGraphDef -> the terms of ``ir``."""

from __future__ import annotations
