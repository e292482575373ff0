"""What all wings of the compiler share: graphs, functions, signatures, the model."""

from __future__ import annotations
