"""What ``ModuleSpec`` and ``Module`` are made of: MetaGraphDefs, read and imported."""

from __future__ import annotations
