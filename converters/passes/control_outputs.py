"""Adds what functions do to their control results, so that it runs before what follows.

::

    before:  f(handle): write = AssignAddVariableOp(handle)    control results: none
    after:   f(handle): write = AssignAddVariableOp(handle)    control results: write

A function is inlined where it is called. What follows the call then waits for the
function's control results only; functions that TF1 made have none. Two kinds of nodes
become control results:

1. stateful ops that take a resource argument of the function;
2. ops with another effect, in functions that it calls as well; random ops have none.

Left alone: functions with TF1 control flow, as what is inside a loop or conditional
cannot leave the function. See also ``backend/bodies.py`` (``run_before_return``). What
follows an If waits for control results of its branches since TensorFlow 2.21.
"""

from __future__ import annotations

from ..ir.calls import CALLS
from ..ir.context import Context
from ..ir.dtypes import DT_RESOURCE
from ..ir.effects import Determinism, is_random
from ..ir.graph import CONTROL_FLOW_OPS, Graph
from ..ir.names import Names
from ..opdata.op_defs import builtin_ops

__all__ = ["run"]


# Given:
#     show(a) -> a:    print = PrintV2("called");  noise = RandomUniform([2])
#     outer(w, a) -> a:  call = StatefulPartitionedCall(w, a) {f: @add}
# Result:
#     show(a) -> a,    control results: print       drawing a number is no effect
#     outer(w, a) -> a,  control results: call      add has its own already
#
# Afterwards, a control edge from a call waits for all effects of the function, unless
# TF1 control flow is left in it.
#
# After "control flow": its new branches and bodies are functions, too.
def run(graph: Graph, context: Context) -> None:
    """Makes what functions do, with handles or besides, run before what follows a call.

    That waits for control results only, see ``Bodies.run_before_return``; in
    TensorFlow 2.21, what comes after an If does. Functions that TF1 made have none.
    """
    determinism = Determinism(graph)
    for function in graph.library.values():
        args = function.signature.input_arg
        handles = {arg.name for arg in args if arg.type == DT_RESOURCE}
        # What is inside of TF1's loops and conditionals cannot leave a function.
        if any(n.op in CONTROL_FLOW_OPS for n in function.node_def):
            continue
        known = set(function.control_ret.values())
        names = Names(function.control_ret)
        for node in function.node_def:
            if node.name in known:
                continue
            takes = not handles.isdisjoint(node.input)
            if (
                takes
                and graph.op_def(node.op).is_stateful
                or any(_acts(graph, op) for op in determinism.ops_of(node))
            ):
                result = names.take("control_result")
                function.signature.control_output.append(result)
                function.control_ret[result] = node.name


def _acts(graph: Graph, op: str) -> bool:
    """Whether an op does more than compute a value, and is no call."""
    if op in graph.library or op in CALLS or op not in builtin_ops():
        return False
    return builtin_ops()[op].is_stateful and not is_random(op)
