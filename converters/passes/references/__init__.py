"""Says which tensors are a reference variable's memory, and when a session reads it.

::

    v -> Identity -^- AssignAdd(v, x)        y = Identity * 2
    The product computes with v after the addition: Identity hands on memory.

* ``aliases``: which tensors are the memory of a variable.
* ``memory``: which ops hand on an input's memory, found by trial in TF 1.15.5.
* ``late_reads``: which input has to be read when, and after which writes.
* ``late_values``: the nodes that give these values.
* ``shared_memory``, ``sharing``: resource variables that were assigned a reference.
* ``spared_copies``: references that are handed on without need.
"""

from __future__ import annotations
