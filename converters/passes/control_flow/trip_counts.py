"""Finds how many iterations a loop may have.

::

    i < n, i = 0, i += 1     at most n iterations

The trip count is an input of the While; XLA differentiates no other loop. It is -1 if
the loop does not state it.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Optional, Union

from ...ir.constants import int32_value
from ...ir.dtypes import DT_INT32
from ...ir.graph import Graph, data_inputs, node_of, normal
from .outlining import Outside, constant_behind

__all__ = ["most_iterations"]


# Given:
#     i = Merge(Enter(0), NextIteration(Add(i, 1)))
#     go = LoopCond(LogicalAnd(Less(i, limit), other condition))
# Result:
#     limit: 3 where it is the constant, else the tensor before the loop, else -1
#
# The answer is an upper limit: another condition of the LogicalAnd may end the loop
# earlier. The gradient code sizes its lists by it, so other forms give -1.
def most_iterations(
    graph: Graph,
    continues: str,
    variables: Mapping[str, Any],
    boundary: Callable[[str, str], Optional[Outside]],
) -> Union[int, str]:
    """The largest number of iterations: a number or a tensor; -1 if unknown.

    It is known if the condition of the loop compares a counter of its iterations with
    a limit, as with ``maximum_iterations``. XLA differentiates no others.

    Args:
      graph: the graph.
      continues: the tensor that says whether there is another iteration.
      variables: the loop variables, by their Merges.
      boundary: what an edge leads to outside of an iteration.
    """
    stack = [continues]
    while stack:
        node = graph.node(node_of(normal(stack.pop())))
        edges = data_inputs(graph, node.name) if node.name in graph.nodes else []
        if node.op in ("Identity", "LogicalAnd", "LoopCond"):
            stack += [edge.tensor for edge in reversed(edges)]
        if node.op != "Less" or node.attr["T"].type != DT_INT32:
            continue
        counter, limit = edges
        variable = variables.get(counter.node)
        if variable is None or not _counts(graph, variable):
            continue
        constant = constant_behind(graph, limit.tensor, ())
        known = None if constant is None else int32_value(graph, constant)
        if known is not None:
            return known
        outside = boundary(limit.tensor, limit.node)
        if outside is not None and node_of(outside.tensor) not in variables:
            return outside.tensor
    return -1


def _counts(graph: Graph, variable: Any) -> bool:
    """Whether a loop variable counts the iterations so far."""
    begin = constant_behind(graph, variable.initial, ())
    if begin is None or int32_value(graph, begin) != 0:
        return False
    step = graph.node(node_of(normal(variable.following)))
    if step.op not in ("Add", "AddV2"):
        return False
    terms = [edge.tensor for edge in data_inputs(graph, step.name)]
    for one, other in (terms, terms[::-1]):
        ones = constant_behind(graph, one, ())
        if ones is not None and int32_value(graph, ones) == 1:
            return bool(_behind_switch(graph, other) == variable.merge)
    return False


def _behind_switch(graph: Graph, tensor: str) -> str:
    """The Merge whose value an iteration starts with."""
    node = node_of(normal(tensor))
    while graph.node(node).op in ("Identity", "Switch"):
        node = graph.inputs(node)[0].node
    return node
