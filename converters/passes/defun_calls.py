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


# Given:
#     y = twice(x)
#     twice(a):  first = double(a);  second = double(first)
# Result:
#     y = PartitionedCall(x) {f: @twice}
#     twice(a):  first = PartitionedCall(a) {f: @double}
#                second = PartitionedCall(first) {f: @double}
#
# Afterwards, no op has the name of a function, but for functions with attributes. The
# passes below look for the ops of ir.calls.CALLS.
#
# Before all passes that follow calls: "tf.switch_case" and those after it.
def run(graph: Graph, context: Context) -> None:
    """Makes each node whose op is a function a PartitionedCall of it."""
    make_partitioned(graph)
