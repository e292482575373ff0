"""Calls of Defuns, which TF1 made, as the calls that TensorFlow 2 differentiates."""

from __future__ import annotations

from ..ir.calls import make_partitioned
from ..ir.context import Context
from ..ir.graph import Graph

__all__ = ["run"]


def run(graph: Graph, context: Context) -> None:
    """Makes each node whose op is a function a PartitionedCall of it."""
    make_partitioned(graph)
