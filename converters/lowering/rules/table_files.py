"""Tables that are filled from a text file, whose lines count from more than 0.

A Keras ``StringLookup`` of a vocabulary file has its first word behind the masks and
the words that are unknown. TensorFlow 1.15 counts from 0: the file is read, split and
put in.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from ...ir.builder import Tensor
from ...ir.dtypes import DT_INT32, DT_INT64, DT_STRING
from ...ir.rewriter import Rewrite
from .arithmetic import cast, column, size_of, vector_slice

__all__ = ["ATTRIBUTES", "say_dtypes"]

_FILL = "InitializeTableFromTextFileV2"
# What a node is told of the table that it fills; other attributes are an op's own.
_KEY, _VALUE = "_hub_compat_key", "_hub_compat_value"
_WHOLE_LINE, _LINE_NUMBER = -2, -1


def say_dtypes(meta_graph: Any) -> None:
    """Tells nodes that fill a table from a file which dtypes the table has."""
    library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    if not any(n.op == _FILL for f in library.values() for n in f.node_def):
        return
    for create, initialize in _resources(meta_graph, library):
        made = [n for n in create.node_def if "key_dtype" in n.attr]
        if len(made) != 1:
            continue
        waiting = [initialize]
        while waiting:
            for node in waiting.pop().node_def:
                if node.op == _FILL:
                    node.attr[_KEY].CopyFrom(made[0].attr["key_dtype"])
                    node.attr[_VALUE].CopyFrom(made[0].attr["value_dtype"])
                elif node.op.endswith("PartitionedCall"):
                    called = library.get(node.attr["f"].func.name)
                    waiting += [called] if called is not None else []


def _resources(meta_graph: Any, library: Dict[str, Any]) -> Iterator[Tuple[Any, Any]]:
    """The functions that make and fill each resource of the object graph."""
    nodes = meta_graph.object_graph_def.nodes
    for node in nodes:
        if node.WhichOneof("kind") == "resource":
            own = {
                child.local_name: library.get(name)
                for child in node.children
                for name in nodes[child.node_id].function.concrete_functions[:1]
            }
            create, initialize = own.get("_create_resource"), own.get("_initialize")
            if create is not None and initialize is not None:
                yield create, initialize


def _with_offset(rewrite: Rewrite) -> bool:
    """Reads the file, splits it into lines, and puts these into the table."""
    table, filename = rewrite.inputs
    places = [rewrite.attr("key_index").i, rewrite.attr("value_index").i]
    dtypes = []
    for name, place in zip((_KEY, _VALUE), places):
        if name in rewrite.node.attr:
            dtypes.append(rewrite.node.attr[name].type)
        elif place == _LINE_NUMBER:
            dtypes.append(DT_INT64)
        elif place == _WHOLE_LINE:
            dtypes.append(DT_STRING)
        else:
            return False
    lines, count = _lines(rewrite, filename)
    vocabulary = rewrite.attr("vocab_size").i
    if vocabulary >= 0:
        # Where the file has less, this ends in an error, as it should.
        begin, size = rewrite.constant([0]), rewrite.constant([vocabulary])
        lines = rewrite.op("Slice", lines, begin, size)
        count = rewrite.constant(vocabulary)
    # As TensorFlow's reader: there are lines, and none is empty.
    some = rewrite.op("Greater", count, rewrite.constant(0))
    checks = [_check(rewrite, some, "The vocabulary has no line: ", filename)]
    full = rewrite.op("NotEqual", lines, rewrite.constant("", DT_STRING))
    full = rewrite.op("All", full, rewrite.constant([0]), keep_dims=False)
    checks.append(_check(rewrite, full, "The vocabulary has empty lines: ", filename))
    parts = []
    for place, dtype in zip(places, dtypes):
        part, complete = _part(rewrite, lines, count, place, dtype)
        parts.append(part)
        if complete is not None:
            said = "Lines of the vocabulary have too few columns: "
            checks.append(_check(rewrite, complete, said, filename))
    filled = rewrite.run("InitializeTableV2", table, *parts, after=checks)
    rewrite.drop([filled])
    return True


def _lines(rewrite: Rewrite, filename: Tensor) -> Tuple[Tensor, Tensor]:
    """The lines of a file, and how many there are."""
    text = rewrite.op("ReadFile", filename)
    # TensorFlow's reader drops one of these at the end of a line, and no other.
    ends = rewrite.constant("\r(\n|\\z)", DT_STRING)
    text = rewrite.op("RegexReplace", text, ends, rewrite.constant("\\1", DT_STRING))
    empty = rewrite.constant("", DT_STRING)
    text = rewrite.op("Reshape", text, rewrite.constant([1]))
    lines = _split(rewrite, text, "\n")[1]
    count = size_of(rewrite, lines)
    # What is after the last end of a line is a line if there is anything.
    last = vector_slice(rewrite, lines, -1, 0)
    nothing = cast(rewrite, rewrite.op("Equal", last, empty), DT_INT32)
    nothing = rewrite.op("Sum", nothing, rewrite.constant([0]), keep_dims=False)
    count = rewrite.op("Sub", count, nothing)
    size = rewrite.op("Pack", [count], axis=0)
    return rewrite.op("Slice", lines, rewrite.constant([0]), size), count


def _check(rewrite: Rewrite, holds: Tensor, text: str, filename: Tensor) -> str:
    """Adds an Assert; returns its name."""
    said = rewrite.constant(text, DT_STRING)
    return rewrite.run("Assert", holds, [said, filename], summarize=3)


def _part(
    rewrite: Rewrite, lines: Tensor, count: Tensor, place: int, dtype: int
) -> Tuple[Tensor, Optional[Tensor]]:
    """Of each line, what is a key or a value; and whether each line has it."""
    complete = None
    if place == _LINE_NUMBER:
        first = rewrite.constant(rewrite.attr("offset").i, DT_INT64)
        last = rewrite.op("Add", first, cast(rewrite, count, DT_INT64))
        one = rewrite.constant(1, DT_INT64)
        return cast(rewrite, rewrite.op("Range", first, last, one), dtype), None
    if place != _WHOLE_LINE:
        delimiter = rewrite.attr("delimiter").s
        indices, values, shape = _split(rewrite, lines, delimiter)
        empty = rewrite.constant("", DT_STRING)
        # Maybe no line has so many.
        least = rewrite.constant([0, place + 1], DT_INT64)
        shape = rewrite.op("Maximum", shape, least)
        fields = rewrite.op(
            "SparseToDense", indices, shape, values, empty, validate_indices=True
        )
        lines = column(rewrite, fields, place)
        there = column(rewrite, indices, 1)
        here = rewrite.constant(place, DT_INT64)
        there = cast(rewrite, rewrite.op("Equal", there, here), DT_INT32)
        there = rewrite.op("Sum", there, rewrite.constant([0]), keep_dims=False)
        complete = rewrite.op("Equal", there, count)
    if dtype == DT_STRING:
        return lines, complete
    return rewrite.op("StringToNumber", lines, out_type=dtype), complete


def _split(rewrite: Rewrite, strings: Tensor, separator: Any) -> List[Tensor]:
    """Indices, values and shape of what a vector of strings is split into."""
    separator = rewrite.constant(separator, DT_STRING)
    return rewrite.ops("StringSplitV2", strings, separator, maxsplit=-1)


ATTRIBUTES: Dict[Any, Callable[[Rewrite], bool]] = {(_FILL, "offset"): _with_offset}
