"""Ends conditionals that have no Merge, if something of a branch is wanted.

::

    before:  p -> Switch -> op
    after:   p -> Switch -> op -> Const -> Merge <- Const <- the other branch

TF1 runs an op in a branch that is not taken by doing nothing (``end``). A tensor of
such a branch is an error, and so is what ``take_out`` adds: an Assert in the other
branch.
"""

from __future__ import annotations

from typing import Tuple

from hub_compat._tf import attr_value_pb2

from ...ir.builder import Builder
from ...ir.constants import int32_tensor
from ...ir.dtypes import DT_BOOL, DT_STRING
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
    build = Builder(graph)
    guards = regions.guards[target]
    while guards:
        skipped, guards = _other_branch(graph, regions, guards, target)
        if not skipped:
            break
        done = [
            build.constant(int32_tensor(0), name=name + "/done", beside=name)
            for name in (target, skipped)
        ]
        target = build.op("Merge", done, name=target + "/ended")
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
        build = Builder(graph)
        failing = build.run(
            "Assert",
            build.constant(never, DT_BOOL, base + "/never", beside=skipped),
            [build.constant(message, DT_STRING, base + "/message", beside=skipped)],
            name=base + "/not",
        )
        empty = attr_value_pb2.AttrValue()
        empty.tensor.dtype = dtype
        empty.tensor.tensor_shape.dim.add()
        nothing = build.constant(empty, dtype, base + "/nothing", beside=failing)
        found = build.op("Merge", [graph.tensor(found), nothing], name=base)
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
                    other = graph.tensor("{}:{}".format(pivot, 1 - branch))
                    build = Builder(graph)
                    return build.op("Identity", other, name=name + "/skipped"), rest
    return "", guards
