"""Resource variables that a session makes the memory of reference variables.

``resource.assign(ref)`` takes over the memory of what it is given. From then on what is
written to the reference changes the resource as well, in later steps too, until the
resource is written itself: it gets memory of its own then. Once it was gathered from or
scattered to, it keeps to its own for good.

Here both are apart. A variable beside the resource says whose memory a session would
have it be, and each write to that one is followed by one to the resource.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Set

import numpy as np

from hub_compat._tf import node_def_pb2

from ...ir.dtypes import DT_INT32, DT_RESOURCE
from ...ir.functions import set_attr
from ...ir.graph import Graph, data_inputs, resource_name
from ...ir.signatures import make_shape
from ...ir.variable_reads import STORED_AS, add_read
from .aliases import Aliases
from .sharing import HANDED_ON, Memory, Sharing, place_of

__all__ = ["Followers", "add_flag", "find_sharing"]

_NO_CHANGE = ("ReadVariableOp", "VarIsInitializedOp", "VariableShape")
_COPIES = ("AssignAddVariableOp", "AssignSubVariableOp", "ResourceApply")
# From then on the variable copies what it is given, and what is read of it.
_COPIES_FOR_GOOD = (
    "ResourceGather",
    "ResourceScatter",
    "ResourceSparseApply",
    "ResourceStridedSliceAssign",
)


def find_sharing(graph: Graph, aliases: Aliases) -> Dict[str, Sharing]:
    """The resource variables that are given the memory of others, by name.

    Those whose use the graph does not fully state are skipped.
    """
    found: Dict[str, Sharing] = {}
    unknown: Set[str] = set()
    for name, node in graph.nodes.items():
        for edge in data_inputs(graph, name):
            if node.op in HANDED_ON or graph.output(edge.tensor).dtype != DT_RESOURCE:
                continue
            place = place_of(graph, edge.tensor)
            if place is None:
                continue
            key = resource_name(graph.nodes[place.node])
            known = found.setdefault(key, Sharing(place.node, set(), {}, {}, set(), {}))
            if node.op == "AssignVariableOp":
                known.assigns[name] = place
                value = data_inputs(graph, name)[1].tensor
                known.given[name] = value
                memories = _memories(aliases, value)
                known.memories.update(memories or ())
                if memories is None:
                    unknown.add(key)
            elif node.op.startswith(_COPIES + _COPIES_FOR_GOOD):
                known.copies[name] = place
                if node.op.startswith(_COPIES_FOR_GOOD):
                    known.for_good.add(name)
            elif node.op not in _NO_CHANGE:
                unknown.add(key)
    return {
        key: known
        for key, known in found.items()
        if known.memories and key not in unknown
    }


def _memories(aliases: Aliases, tensor: str) -> Optional[Set[Memory]]:
    """The variable whose memory a tensor may be; None if a run decides."""
    alias = aliases.get(tensor)
    if alias is None:
        return set()
    if aliases.unsure(alias):
        return None
    if not alias.chooser:
        return {(alias.variable, alias.views)}
    return {
        (entry.alias.variable, entry.alias.views + alias.views)
        for entry in aliases.entries(alias.chooser).values()
    }


# Given:
#     set = AssignVariableOp(r, Identity(v))     r is the memory of v from then on
#     add = AssignAdd(v, x)                      changes r as well, in a session
# Result:
#     r/memory_of = VarHandleOp int32            0: its own; n: that of memory n
#     set/whose = AssignVariableOp(r/memory_of, number of v)          before set
#     add/write = the write to v
#     add/write/whose = ReadVariableOp(r/memory_of, ^add/write)
#     add/write/follow = AssignVariableOp(r, v), where whose is the number of v
#     add = NoOp, after all of that
#
# Holds between two calls: where r/memory_of names v, both have equal values. The flag
# is a variable, since the sharing outlives the call that began it.
class Followers:
    """Writes what keeps resource variables equal to those whose memory they are.

    Args:
      graph: the graph, whose references are resources by now.
      values: writes reads of what nodes saw as memory.
      aliases: what a session takes for the same memory.
    """

    def __init__(self, graph: Graph, values: Any, aliases: Aliases) -> None:
        self._graph = graph
        self._values = values
        self._aliases = aliases

    def note(self, sharing: Sharing) -> None:
        """Makes each writer of a resource variable note whose memory it is then."""
        graph = self._graph
        flag = self._values.flag(sharing.place)
        for name, place in list(sharing.assigns.items()) + list(sharing.copies.items()):
            node = graph.nodes[name]
            inputs = ["^" + edge.node for edge in graph.inputs(name)]
            handle = self._values.brought(flag, place.path, DT_RESOURCE)
            if name in sharing.assigns:
                value = data_inputs(graph, name)[1].tensor
                alias = self._aliases.get(sharing.given[name])
                number = self._values.number_here(name, value, alias)
            else:
                here = self._values.add(
                    "Identity", name + "/here", [node.input[0]], T=_RESOURCE
                )
                one = -1 if name in sharing.for_good else 0
                number = self._values.add_number(one, name, ["^" + here])
            if sharing.for_good and name not in sharing.for_good:
                number = self._unless_for_good(name, handle, number, inputs)
            written = self._values.add(
                "AssignVariableOp",
                name + "/whose",
                [handle, number] + list(dict.fromkeys(inputs)),
                dtype=_INT32,
            )
            graph.wait_for(name, [written])

    def _unless_for_good(
        self, name: str, handle: str, number: str, inputs: List[str]
    ) -> str:
        read = self._graph.unique_name(name + "/whose_before")
        add_read(self._graph, read, handle, inputs, DT_INT32)
        nothing = self._values.add_number(0, name, ["^" + read])
        less = self._values.add("Less", name + "/own", [read, nothing], T=_INT32)
        return str(
            self._values.add("Select", name + "/whose", [less, read, number], T=_INT32)
        )

    def follow(self, sharing: Sharing, write: str) -> None:
        """Adds a write to a resource after a write to a reference variable."""
        graph = self._graph
        node = graph.nodes[write]
        moved = node_def_pb2.NodeDef()
        moved.CopyFrom(node)
        moved.name = graph.unique_name(write + "/write")
        graph.replace(moved)
        after = ["^" + moved.name]
        last = moved.name
        source = self._aliases.get(self._values.written[write])
        assert source is not None
        for variable, views in sorted(sharing.memories):
            if variable == source.variable:
                after = [self._follow(sharing, moved.name, source, views, after)]
                last = after[0][1:]
        # What waited for the write waits for all.
        done = node_def_pb2.NodeDef(op="NoOp", name=write, input=["^" + last])
        graph.replace(done)

    def _follow(
        self, sharing: Sharing, base: str, source: Any, views: Any, after: List[str]
    ) -> str:
        graph, values = self._graph, self._values
        dtype = graph.nodes[source.variable].attr["dtype"].type
        flag = values.brought(values.flag(sharing.place), source.path, DT_RESOURCE)
        which = graph.unique_name(base + "/whose")
        add_read(graph, which, flag, after, DT_INT32)
        memory = source._replace(views=views)
        wanted = values.add_number(self._aliases.number(memory), base, ["^" + which])
        asked = values.add("Equal", base + "/shared", [which, wanted], T=_INT32)
        value = values.now(base, memory, after)
        other = values.brought(sharing.place, source.path, DT_RESOURCE)
        handle = values.add("Switch", base + "/to", [other, asked], T=_RESOURCE)
        kind = ("type", graph.output(value if ":" in value else value + ":0").dtype)
        taken = values.add("Switch", base + "/value", [value, asked], T=kind)
        written = values.add(
            "AssignVariableOp",
            base + "/follow",
            [handle + ":1", taken + ":1"],
            dtype=("type", STORED_AS.get(dtype, dtype)),
        )
        yes = values.add_number(1, base, ["^" + written])
        no = values.add("Switch", base + "/apart", [which, asked], T=_INT32)
        done = values.add("Merge", base + "/done", [no, yes], T=_INT32, N=2)
        return "^" + str(done)


_INT32 = ("type", DT_INT32)
_RESOURCE = ("type", DT_RESOURCE)


def add_flag(graph: Graph, variable: str) -> str:
    """Adds the variable that says whose memory another one is; returns its node."""
    name = graph.unique_name(variable + "/memory_of")
    node = node_def_pb2.NodeDef(op="VarHandleOp", name=name)
    set_attr(node, "dtype", _INT32)
    set_attr(node, "shape", ("shape", make_shape([])))
    set_attr(node, "shared_name", name.encode())
    set_attr(node, "container", b"")
    graph.replace(node)
    graph.started[name] = np.int32(0)
    return name
