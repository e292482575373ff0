"""Nodes that give what a variable holds, where an op uses what is its memory."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from hub_compat._tf import node_def_pb2

from ...ir.constants import add_constant, int32_tensor
from ...ir.dtypes import DT_INT32, DT_RESOURCE
from ...ir.functions import set_attr
from ...ir.graph import Graph, data_inputs, node_of, normal
from ...ir.variable_reads import add_read
from . import memory
from .aliases import READ, Alias, Entry, kind
from .late_reads import LateRead, LateReads
from .shared_memory import Followers, add_flag
from .sharing import View, place_of

__all__ = ["LateValues"]


# Given: late reads, as late_reads finds them
#     value = Identity(v),  y = Mul(value, 2, ^write)
# Result:
#     y/late_0 = ReadVariableOp(v, ^value, ^write)
#     y = Mul(y/late_0, 2, ^write)
# Given: a Merge that gives the memory of v, or a computed tensor
# Result:
#     which_... = Merge(number 1, number 0)          says what was chosen
#     y = Mul(Select(Equal(which, 1), y/late_0_1, the Merge's own value), 2)
#
# Holds at the end: each use that could show a write has a read of its own, behind the
# write. No node but its user takes it.
class LateValues:
    """Writes the reads that ``LateReads`` has found.

    Made before references become resources, and used after.

    Args:
      graph: the graph.
      late: what was found.
    """

    def __init__(self, graph: Graph, late: LateReads) -> None:
        self._graph = graph
        self._late = late
        self._dtypes = {
            name: node.attr["dtype"].type
            for name, node in graph.nodes.items()
            if node.op in ("Variable", "VariableV2")
        }
        # _ways: (tensor, Switches and Enters on its way) -> the last copy of them.
        # _which: chooser -> the node with the number of what it chose.
        # _flags: resource variable -> the variable that says whose memory it is.
        self._ways: Dict[Tuple[str, ...], str] = {}
        self._which: Dict[str, str] = {}
        self._flags: Dict[str, str] = {}
        # By writes that may change a size, reads just before.
        self._before: Dict[str, str] = {}
        # What nodes write to, as a tensor.
        self.written = {name: late.target(name) for name in late.writes()}

    def read(self, late: LateRead) -> None:
        """Gives a node, or a signature, the value of a variable when it runs."""
        graph = self._graph
        if late.resizer:
            tensor = self._resized(late)
        elif late.alias.chooser:
            tensor = self._chosen(late)
        else:
            tensor = self._value(late, late.alias, "")
        if late.node is None:
            graph.fetched[late.tensor] = normal(tensor)
        else:
            graph.set_input(late.node, late.place, tensor)

    def share(self) -> None:
        """Keeps resource variables equal to those whose memory they are."""
        if not self._late.sharing:
            return
        followers = Followers(self._graph, self, self._late.aliases)
        for sharing in self._late.sharing.values():
            followers.note(sharing)
            for write in self._late.followed(sharing):
                followers.follow(sharing, write)

    def flag(self, variable: str) -> str:
        """The node of the variable that says whose memory another one is."""
        if variable not in self._flags:
            self._flags[variable] = add_flag(self._graph, variable)
        return self._flags[variable]

    def now(self, base: str, alias: Alias, controls: List[str]) -> str:
        """The value of memory after some nodes have run."""
        late = LateRead(None, 0, base + ":0", alias, controls)
        graph = self._graph
        handle = self.brought(alias.variable, alias.path, DT_RESOURCE)
        tensor = graph.unique_name(base + "/now")
        add_read(graph, tensor, handle, controls, self._dtypes[alias.variable])
        for view in alias.views:
            tensor = self._seen(late, view, tensor, base)
        return tensor

    def _value(self, late: LateRead, alias: Alias, suffix: str) -> str:
        """The value of a variable, seen through its views."""
        graph = self._graph
        handle = self.brought(alias.variable, alias.path, DT_RESOURCE)
        base = late.node or node_of(late.tensor)
        tensor = graph.unique_name("{}/late_{}{}".format(base, late.place, suffix))
        add_read(graph, tensor, handle, late.controls, self._dtypes[alias.variable])
        if late.node is None:
            # Where bits are kept, the read is not the last node.
            name = tensor if graph.nodes[tensor].op != "Bitcast" else tensor + "/bits"
            graph.last_reads[name] = alias.variable
        for view in alias.views:
            tensor = self._seen(late, view, tensor, base)
        return tensor

    def _seen(self, late: LateRead, view: View, tensor: str, base: str) -> str:
        """Another shape, or a part, of what was read."""
        graph = self._graph
        copy = node_def_pb2.NodeDef()
        copy.CopyFrom(graph.nodes[view.node])
        copy.name = graph.unique_name("{}/{}".format(base, view.node))
        inputs = [i for i in copy.input if i[0] != "^"]
        inputs = [
            tensor if i == view.place else self._constant_here(each, late)
            for i, each in enumerate(inputs)
        ]
        del copy.input[:]
        copy.input.extend(inputs)
        graph.replace(copy)
        return "{}:{}".format(copy.name, view.output) if view.output else copy.name

    def _constant_here(self, tensor: str, late: LateRead) -> str:
        """A constant where the node is, which may be inside of a loop."""
        graph = self._graph
        constant = graph.nodes[node_of(tensor)]
        if constant.op != "Const" or not (late.alias.path or late.alias.chooser):
            return tensor
        copy = node_def_pb2.NodeDef()
        copy.CopyFrom(constant)
        copy.name = graph.unique_name(constant.name + "/late")
        del copy.input[:]
        copy.input.append("^" + node_of(late.tensor))
        graph.replace(copy)
        return str(copy.name)

    def brought(self, tensor: str, path: Sequence[Tuple[str, int]], dtype: int) -> str:
        """A tensor past loops and conditionals, as the value came into them."""
        graph = self._graph
        way: Tuple[str, ...] = (tensor,)
        entered = False
        for step, output in path:
            entered = entered or kind(graph, step) == "Enter"
            if kind(graph, step) == "Switch" and (entered or dtype == DT_RESOURCE):
                decides = data_inputs(graph, step)[1].node
                if graph.nodes[decides].op == "LoopCond":
                    # The same in each iteration.
                    continue
            way += (step,)
            if way not in self._ways:
                copy = node_def_pb2.NodeDef()
                copy.CopyFrom(graph.nodes[step])
                copy.name = graph.unique_name(step + "/handle")
                copy.input[0] = tensor
                set_attr(copy, "T", ("type", dtype))
                if copy.op == "Enter":
                    set_attr(copy, "is_constant", True)
                copy.attr.pop("_output_shapes", None)
                graph.replace(copy)
                self._ways[way] = copy.name
            tensor = "{}:{}".format(self._ways[way], output)
        return tensor

    def _chosen(self, late: LateRead) -> str:
        """What was chosen, if that was a variable as it is by now."""
        alias = late.alias
        entries = self._late.aliases.entries(alias.chooser)
        which = self.brought(self._number_of(alias.chooser), alias.path, DT_INT32)
        tensor = late.tensor
        base = late.node or node_of(late.tensor)
        for number, entry in sorted(entries.items()):
            memory_of = self._late.aliases.further(entry.alias, alias)
            value = self._value(late, memory_of, "_{}".format(number))
            wanted = self.add_number(number, base, ["^" + node_of(late.tensor)])
            asked = self.add(
                "Equal", base + "/is_variable", [which, wanted], T=("type", DT_INT32)
            )
            tensor = self._either(base, asked, value, tensor, entry, late)
        return tensor

    def _either(
        self, base: str, asked: str, yes: str, no: str, entry: Entry, late: LateRead
    ) -> str:
        """One of two tensors, whose shapes may differ."""
        graph = self._graph
        dtype = ("type", graph.output(normal(yes)).dtype)
        shape = memory.static_shape(graph, late.tensor)
        if shape is not None and None not in shape:
            return self.add("Select", base + "/chosen", [asked, yes, no], T=dtype)
        int32 = ("type", DT_INT32)
        shapes, sizes, ranks = [], [], []
        for tensor in (yes, no):
            shapes.append(
                self.add("Shape", base + "/shape", [tensor], T=dtype, out_type=int32)
            )
            sizes.append(
                self.add("Size", base + "/size", [tensor], T=dtype, out_type=int32)
            )
            ranks.append(self.add("Rank", base + "/rank", [tensor], T=dtype))
        dims = self._one_of(base, asked, shapes, ranks, int32, late)
        flat = [self._flat(base, tensor, dtype, late) for tensor in (yes, no)]
        values = self._one_of(base, asked, flat, sizes, dtype, late)
        return self.add(
            "Reshape", base + "/chosen", [values, dims], T=dtype, Tshape=int32
        )

    def _flat(self, base: str, tensor: str, dtype: Any, late: LateRead) -> str:
        vector = self.add_number(-1, base, ["^" + node_of(late.tensor)], scalar=False)
        int32 = ("type", DT_INT32)
        return self.add(
            "Reshape", base + "/flat", [tensor, vector], T=dtype, Tshape=int32
        )

    def _one_of(
        self,
        base: str,
        asked: str,
        vectors: List[str],
        lengths: List[str],
        dtype: Any,
        late: LateRead,
    ) -> str:
        """One of two vectors of different lengths."""
        int32 = ("type", DT_INT32)
        after = ["^" + node_of(late.tensor)]
        zero = self.add_number(0, base, after)
        start = self.add("Select", base + "/start", [asked, zero, lengths[0]], T=int32)
        length = self.add("Select", base + "/length", [asked] + lengths, T=int32)
        both = self.add(
            "ConcatV2", base + "/both", vectors + [zero], T=dtype, Tidx=int32, N=2
        )
        bounds = [
            self.add("ExpandDims", base + "/bound", [each, zero], T=int32, Tdim=int32)
            for each in (start, length)
        ]
        return self.add("Slice", base + "/part", [both] + bounds, T=dtype, Index=int32)

    def _resized(self, late: LateRead) -> str:
        """What was read before a write without ``validate_shape``.

        Of the same number of elements, the write is to the same memory.
        """
        graph = self._graph
        write = graph.nodes[late.resizer]
        base = late.node or node_of(late.tensor)
        if late.resizer not in self._before:
            before = graph.unique_name(late.resizer + "/before")
            after = ["^" + edge.node for edge in graph.inputs(late.resizer)[1:]]
            dtype = self._dtypes[late.alias.variable]
            add_read(graph, before, write.input[0], list(dict.fromkeys(after)), dtype)
            graph.wait_for(late.resizer, [before])
            self._before[late.resizer] = before
        both = [write.input[1], self._before[late.resizer]]
        dtype = ("type", graph.output(normal(both[1])).dtype)
        int32 = ("type", DT_INT32)
        sizes = [
            self.add("Size", base + "/size", [tensor], T=dtype, out_type=int32)
            for tensor in both
        ]
        asked = self.add("Equal", base + "/same_size", sizes, T=int32)
        flat = [self._flat(base, tensor, dtype, late) for tensor in both]
        values = self._one_of(base, asked, flat, sizes, dtype, late)
        dims = self.add("Shape", base + "/shape", both[1:], T=dtype, out_type=int32)
        tensor = self.add(
            "Reshape", base + "/resized", [values, dims], T=dtype, Tshape=int32
        )
        for view in late.alias.views:
            tensor = self._seen(late, view, tensor, base)
        return tensor

    def _number_of(self, chooser: str) -> str:
        """A tensor that says what a chooser has chosen."""
        if chooser in self._which:
            return self._which[chooser]
        graph = self._graph
        made = self._late.aliases.choosers[chooser]
        scope, _, last = chooser.rpartition("/")
        node = node_def_pb2.NodeDef(op=made.kind)
        # What is chosen by one predicate in one scope is one conditional.
        node.name = graph.unique_name((scope and scope + "/") + "which_" + last)
        self._which[chooser] = node.name
        original = graph.nodes[chooser]
        if made.kind == READ:
            place = place_of(graph, made.tensors[0])
            assert place is not None
            flag = self.brought(self.flag(place.node), place.path, DT_RESOURCE)
            controls = [i for i in original.input if i.startswith("^")]
            add_read(graph, node.name, flag, controls, DT_INT32)
            return str(node.name)
        graph.replace(node)
        inputs = [
            self._number_in(node.name, tensor, alias, made.kind)
            for tensor, alias in zip(made.tensors, made.inputs)
        ]
        if made.kind == memory.CHOOSES:
            inputs.insert(0, original.input[0])
        with graph.editing(node.name):
            if made.kind == "Merge":
                set_attr(node, "N", len(inputs))
            node.input.extend(inputs + [i for i in original.input if i.startswith("^")])
            set_attr(node, "T", ("type", DT_INT32))
        return str(node.name)

    def _number_in(
        self, base: str, tensor: str, alias: Optional[Alias], op: str
    ) -> str:
        """The number of what an input of a chooser is."""
        graph = self._graph
        if op == "Exit" and alias is not None:
            # A loop is left by its Switch.
            return self.brought(self._number_of(alias.chooser), alias.path, DT_INT32)
        step = graph.nodes[node_of(tensor)]
        around = kind(graph, step.name)
        if op == "Merge" and around in ("Enter", "NextIteration"):
            # A loop variable of its own.
            copy = node_def_pb2.NodeDef()
            copy.CopyFrom(step)
            copy.name = graph.unique_name(step.name + "/which")
            source = data_inputs(graph, step.name)[0].tensor
            if around == "Enter" and alias is not None and alias.path:
                alias = alias._replace(path=alias.path[:-1])
            del copy.input[:]
            copy.input.append(self.number_here(base, source, alias))
            set_attr(copy, "T", ("type", DT_INT32))
            copy.attr.pop("_output_shapes", None)
            graph.replace(copy)
            return str(copy.name)
        return self.number_here(base, tensor, alias)

    def number_here(self, base: str, tensor: str, alias: Optional[Alias]) -> str:
        """The number of what a tensor is, where it is."""
        graph = self._graph
        # What a write handed on is a handle by now.
        tensor = graph.aliases.get(normal(tensor), tensor)
        here = node_def_pb2.NodeDef(op="Identity", input=[tensor])
        here.name = graph.unique_name(base + "/here")
        set_attr(here, "T", ("type", graph.output(normal(tensor)).dtype))
        graph.replace(here)
        after = ["^" + here.name]
        aliases = self._late.aliases
        if alias is None or not alias.chooser:
            return self.add_number(aliases.number(alias), base, after)
        which = self.brought(self._number_of(alias.chooser), alias.path, DT_INT32)
        int32 = ("type", DT_INT32)
        found = self.add("Identity", base + "/number", [which] + after, T=int32)
        if not alias.views:
            return found
        # Of what was chosen, the part or shape has a number of its own.
        which = found
        for number, entry in sorted(aliases.entries(alias.chooser).items()):
            other = aliases.number(aliases.further(entry.alias, alias))
            asked = self.add(
                "Equal",
                base + "/is_number",
                [which, self.add_number(number, base, after)],
                T=int32,
            )
            constant = self.add_number(other, base, after)
            found = self.add(
                "Select", base + "/number", [asked, constant, found], T=int32
            )
        return found

    def add_number(
        self, number: int, base: str, after: List[str], scalar: bool = True
    ) -> str:
        """Adds a constant that is there once a node has run."""
        return add_constant(
            self._graph,
            base + "/number",
            int32_tensor(number, scalar=scalar),
            after=after[0][1:],
        )

    def add(self, op: str, name: str, inputs: List[str], **attrs: Any) -> str:
        """Adds a node; returns its name."""
        graph = self._graph
        node = node_def_pb2.NodeDef(op=op, name=graph.unique_name(name), input=inputs)
        for key, value in attrs.items():
            set_attr(node, key, value)
        graph.replace(node)
        return str(node.name)
