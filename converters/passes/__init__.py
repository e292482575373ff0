"""Each pass changes a graph in one respect; ``..pipeline`` has their order."""

from __future__ import annotations
