"""Files, directories, locks and the entries of the cache."""

from __future__ import annotations
