"""Makes each call of a Defun a PartitionedCall, which TensorFlow 2 differentiates.

::

    before:  x -> f (an op named after the function)
    after:   x -> PartitionedCall(f=f)

Under its own name as an op, a function is differentiated by C++ code
(SymbolicGradient). That lacks most gradients, and all of them once the function is
marked ``noinline``. Calls within functions are rewritten, too.

Left alone: functions with attributes, which do not state their dtypes.
"""

from __future__ import annotations

from ..ir.calls import make_partitioned
from ..ir.context import Context
from ..ir.graph import Graph

__all__ = ["run"]


def run(graph: Graph, context: Context) -> None:
    """Makes each node whose op is a function a PartitionedCall of it."""
    make_partitioned(graph)
