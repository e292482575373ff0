"""Reference data about ops: definitions, replacements, where they are from."""

from __future__ import annotations
