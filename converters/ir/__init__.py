"""The terms that all wings of the compiler share: graphs, functions, signatures."""

from __future__ import annotations
