"""A converted model held against its original, in a process of its own."""

from __future__ import annotations
