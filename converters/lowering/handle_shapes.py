"""Functions that say of a variable's handle that it is a scalar.

So it is. But some shape functions take that for the shape of the variable, where
nothing else says it, and refuse a step of an optimizer. Loaders up to TF 2.9 do not.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator

from ..ir.dtypes import DT_RESOURCE

__all__ = ["STATES_HANDLES", "forget_shapes", "misleading"]

# From here on a loader gives a handle what the function states of its variable, and no
# shape of its own (function_def_to_graph.py).
STATES_HANDLES = (2, 10)

# Ops that ask the handle itself: ShapeOrHandleShape() of training_ops.cc, and
# GatherNdShape() and ScatterNdUpdateShape() of common_shape_fns.cc.
_ASKING = (
    "ResourceApply",
    "ResourceGatherNd",
    "ResourceScatterNd",
    "ResourceSparseApply",
)


def misleading(meta_graph: Any) -> bool:
    """Whether a function of a model is refused for what it says of a handle."""
    return any(True for _ in _shapes(meta_graph))


def forget_shapes(meta_graph: Any, done: Dict[str, int]) -> None:
    """Says nothing of the handles where that would be believed."""
    for shape in list(_shapes(meta_graph)):
        shape.Clear()
        shape.unknown_rank = True
        done["the shape of a handle is not stated"] += 1


def _shapes(meta_graph: Any) -> Iterator[Any]:
    for function in meta_graph.graph_def.library.function:
        if "_input_shapes" not in function.attr or not any(
            node.op.startswith(_ASKING) for node in function.node_def
        ):
            continue
        shapes = function.attr["_input_shapes"].list.shape
        for arg, shape in zip(function.signature.input_arg, shapes):
            if arg.type == DT_RESOURCE and not shape.unknown_rank:
                yield shape
