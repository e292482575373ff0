"""Handles: what names a module, where it is fetched from, and where it is kept."""

from __future__ import annotations
