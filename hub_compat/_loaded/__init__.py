"""What a loaded object has and remembers."""

from __future__ import annotations
