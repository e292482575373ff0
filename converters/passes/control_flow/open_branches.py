"""Ends conditionals that have no Merge, if something of a branch is wanted.

::

    before:  p -> Switch -> op
    after:   p -> Switch -> op -> Const -> Merge <- Const <- the other branch

TF1 runs an op in a branch that is not taken by doing nothing (``end``). A tensor of
such a branch is an error, and so is what ``take_out`` adds: an Assert in the other
branch.
"""

from __future__ import annotations

from typing import Any, Tuple

from hub_compat._tf import attr_value_pb2, node_def_pb2

from ...ir.constants import add_constant, int32_tensor
from ...ir.dtypes import DT_BOOL, DT_INT32, DT_STRING
from ...ir.functions import set_attr
from ...ir.graph import Edge, Graph, node_of, normal
from .regions import Guards, Regions

__all__ = ["end", "take_out"]


# Given:
#     either = Switch(x, flag)
#     target = AssignAddVariableOp(w, either:1)        no Merge follows
# Result:
#     target/done = Const(^target)
#     target/skipped = Identity(either:0)
#     target/skipped/done = Const(^target/skipped)
#     target/ended = Merge(target/done, target/skipped/done)
#
# Afterwards, target/ended runs in both cases, so that it can be a target outside.
def end(graph: Graph, regions: Regions, target: str) -> str:
    """A node that runs whenever one of a branch does, and also where that does not.

    TF1 runs an op in a branch that is not taken by doing nothing. There the
    conditional has no Merge, so this adds one.

    Returns:
      The node itself if it is in no branch.
    """
    guards = regions.guards[target]
    while guards:
        skipped, guards = _other_branch(graph, regions, guards, target)
        if not skipped:
            break
        done = [
            add_constant(graph, name + "/done", int32_tensor(0), after=name)
            for name in (target, skipped)
        ]
        target = _merge(graph, target + "/ended", done, DT_INT32)
    return target


# Given:
#     either = Switch(x, flag);  y = Neg(either:1)     y is fetched, no Merge follows
# Result:
#     y/taken/skipped = Identity(either:0)             runs where y does not
#     y/taken/not = Assert(False, "... is in a branch that is not taken")
#     y/taken = Merge(y, Const(^y/taken/not))
#     graph.aliases: y:0 -> y/taken:0
#
# Afterwards, the tensor is outside of all branches. Each round leaves one conditional.
def take_out(graph: Graph, regions: Regions, tensor: str) -> None:
    """Makes an alias of a tensor of a branch, which is there after the conditional.

    Where the branch is not taken, a session that wants the tensor ends in an error,
    and so does what this adds.
    """
    tensor = normal(tensor)
    node = node_of(tensor)
    guards = regions.tensor_guards(Edge(tensor, node))
    if not guards or regions.frames[node]:
        return
    dtype = graph.output(tensor).dtype
    base, found = node + "/taken", tensor
    while guards:
        skipped, guards = _other_branch(graph, regions, guards, base)
        if not skipped:
            return
        message = attr_value_pb2.AttrValue()
        message.tensor.dtype = DT_STRING
        message.tensor.tensor_shape.SetInParent()
        message.tensor.string_val.append(
            "{!r} is in a branch that is not taken".format(tensor).encode()
        )
        never = attr_value_pb2.AttrValue()
        never.tensor.dtype = DT_BOOL
        never.tensor.tensor_shape.SetInParent()
        never.tensor.bool_val.append(False)
        failing = node_def_pb2.NodeDef(name=graph.unique_name(base + "/not"))
        failing.op = "Assert"
        failing.input.extend(
            [
                add_constant(graph, base + "/never", never, DT_BOOL, skipped),
                add_constant(graph, base + "/message", message, DT_STRING, skipped),
            ]
        )
        set_attr(failing, "T", ("types", [DT_STRING]))
        graph.replace(failing)
        empty = attr_value_pb2.AttrValue()
        empty.tensor.dtype = dtype
        empty.tensor.tensor_shape.dim.add()
        nothing = add_constant(graph, base + "/nothing", empty, dtype, failing.name)
        found = _merge(graph, base, [found, nothing], dtype)
    graph.aliases[tensor] = found + ":0"


def _other_branch(
    graph: Graph, regions: Regions, guards: Guards, name: str
) -> Tuple[str, Guards]:
    """A node that runs where a branch is not taken, and the guards outside of both.

    Returns:
      "" where no Switch is known that decides about them.
    """
    for predicate, branch in sorted(guards):
        rest = guards - {(predicate, branch)}
        for pivot in regions.order:
            if regions.guards[pivot] == rest and regions.is_branching(pivot):
                if regions.predicate(pivot) == predicate:
                    skipped = node_def_pb2.NodeDef(op="Identity")
                    skipped.name = graph.unique_name(name + "/skipped")
                    skipped.input.append("{}:{}".format(pivot, 1 - branch))
                    set_attr(skipped, "T", graph.nodes[pivot].attr["T"])
                    graph.replace(skipped)
                    return str(skipped.name), rest
    return "", guards


def _merge(graph: Graph, name: str, inputs: Any, dtype: int) -> str:
    merge = node_def_pb2.NodeDef(name=graph.unique_name(name), op="Merge", input=inputs)
    set_attr(merge, "T", ("type", dtype))
    set_attr(merge, "N", 2)
    graph.replace(merge)
    return str(merge.name)
