"""The bytes of a proto, the same from every implementation of protobuf.

``SerializeToString(deterministic=True)`` sorts the entries of a map by key. Upb, which
is behind Python's protobuf from 4.21 on, has a key after those that begin with it
(``Tidx`` before ``T``), and numbers from the last to the first (both seen up to 7.36),
unlike the C++ implementation that TensorFlow 1.15 uses. So entries are put in order
here, in place: a map has the same size in any order.
"""

from __future__ import annotations

import re
from typing import Any, Collection, Dict, List, Optional, Set, Tuple

from hub_compat._parsing.varint import varint
from hub_compat._tf import node_def_pb2

__all__ = ["serialize"]

# By field number, whether it is a map, and what is in the message.
_Fields = Dict[int, Tuple[bool, Any]]

_NODE = node_def_pb2.NodeDef.DESCRIPTOR.full_name

_schemas: Dict[str, _Fields] = {}
_needed: List[bool] = []


def serialize(message: Any) -> bytes:
    """Serializes a message, with the entries of maps by their keys' bytes.

    Args:
      message: any message without groups, such as a SavedModel.
    """
    data: bytes = message.SerializeToString(deterministic=True)
    if not _is_needed():
        return data
    buffer = bytearray(data)
    plain = _plain_ops(message, data)
    _sort(buffer, 0, len(buffer), _schema(message.DESCRIPTOR), plain)
    return bytes(buffer)


def _plain_ops(message: Any, data: bytes) -> Set[bytes]:
    """The ops whose nodes have no attributes to sort: nearly all of a graph.

    By the lists of ops in a SavedModel. Nodes have attributes of no op as well, whose
    names begin with an underscore.
    """
    found: Set[bytes] = set()
    for meta_graph in getattr(message, "meta_graphs", ()):
        for op in meta_graph.meta_info_def.stripped_op_list.op:
            names = [attr.name for attr in op.attr]
            functions = [attr.name for attr in op.attr if "func" in attr.type]
            if not functions and not _has_prefixes(names):
                found.add(op.name.encode())
    if found and _has_prefixes(set(_OF_NO_OP.findall(data))):
        found = set()
    return found


_OF_NO_OP = re.compile(rb"\n.(_\w+)\x12", re.DOTALL)


def _has_prefixes(names: Collection[Any]) -> bool:
    """Whether one of some strings begins with another."""
    ordered = sorted(names)
    return any(b.startswith(a) for a, b in zip(ordered, ordered[1:]))


def _is_needed() -> bool:
    if not _needed:
        node = node_def_pb2.NodeDef()
        for name in ("T", "Tidx"):
            node.attr[name].i = 1
        data = node.SerializeToString(deterministic=True)
        _needed.append(data.index(b"Tidx") < data.index(b"T\x12"))
    return _needed[0]


def _schema(descriptor: Any) -> _Fields:
    """The fields of a message that are maps or hold some."""
    found = _schemas.get(descriptor.full_name)
    if found is None:
        # Entered first: messages may hold themselves.
        found = _schemas[descriptor.full_name] = {}
        reach = _reaching(descriptor)
        for field in descriptor.fields:
            inner = field.message_type
            if inner is not None and inner.full_name in reach:
                found[field.number] = (_is_map(inner), _schema(inner))
    return found


def _is_map(descriptor: Any) -> bool:
    return bool(descriptor.GetOptions().map_entry)


# Most fields of a SavedModel hold no map, however deep. They are passed over.
def _reaching(descriptor: Any) -> Dict[str, Any]:
    """The messages within one that are maps or lead to some."""
    holders: Dict[str, List[str]] = {}
    known: Dict[str, Any] = {}
    pending = [descriptor]
    while pending:
        found = pending.pop()
        if found.full_name not in known:
            known[found.full_name] = found
            for field in found.fields:
                inner = field.message_type
                if inner is not None:
                    holders.setdefault(inner.full_name, []).append(found.full_name)
                    pending.append(inner)
    reach: Dict[str, Any] = {}
    stack = [name for name, found in known.items() if _is_map(found)]
    while stack:
        name = stack.pop()
        if name not in reach:
            reach[name] = known[name]
            stack.extend(holders.get(name, ()))
    return reach


# Works on the bytes in place. The parts of a map are moved as they are, so no message
# is parsed to Python objects and back: a graph has hundreds of thousands of attributes.
def _sort(
    buffer: bytearray, position: int, end: int, schema: _Fields, plain: Set[bytes]
) -> None:
    """Sorts the maps of a message, and of those in it but nodes of plain ops."""
    if schema is _schemas.get(_NODE) and _op(buffer, position, end) in plain:
        return
    # Of the map at hand: the field, where it begins, and its entries.
    current, begin = 0, 0
    entries: List[Tuple[Any, int]] = []
    while position < end:
        start = position
        tag = buffer[position]
        position += 1
        if tag > 127:
            tag, position = varint(buffer, start)
        wire_type = tag & 7
        if wire_type == 2:
            size = buffer[position]
            position += 1
            if size > 127:
                size, position = varint(buffer, position - 1)
            known: Optional[Tuple[bool, Any]] = schema.get(tag >> 3)
            if known is not None and size:
                if known[1]:
                    _sort(buffer, position, position + size, known[1], plain)
                if known[0]:
                    if entries and tag != current:
                        _put_in_order(buffer, begin, entries)
                        entries = []
                    if not entries:
                        current, begin = tag, start
                    entries.append((_key(buffer, position), position + size))
            position += size
        elif wire_type == 0:
            while buffer[position] > 127:
                position += 1
            position += 1
        else:
            position += 8 if wire_type == 1 else 4
    if entries:
        _put_in_order(buffer, begin, entries)


def _op(buffer: bytearray, position: int, end: int) -> bytes:
    """The op of a node; empty where it has no name."""
    if buffer[position] != 0x0A:  # name = 1
        return b""
    size, position = varint(buffer, position + 1)
    position += size
    if position >= end or buffer[position] != 0x12:  # op = 2
        return b""
    size, position = varint(buffer, position + 1)
    return bytes(buffer[position : position + size])


def _key(buffer: bytearray, position: int) -> Any:
    """The key of an entry: bytes, or a number, which TensorFlow's are not below 0."""
    # Field 1, written first.
    is_text = buffer[position] & 7 == 2
    value, position = varint(buffer, position + 1)
    return bytes(buffer[position : position + value]) if is_text else value


def _put_in_order(
    buffer: bytearray, begin: int, entries: List[Tuple[Any, int]]
) -> None:
    """Sorts entries, given by key and end, that stand next to each other."""
    if all(a[0] < b[0] for a, b in zip(entries, entries[1:])):
        return
    parts = []
    position = begin
    for key, end in entries:
        parts.append((key, bytes(buffer[position:end])))
        position = end
    buffer[begin:position] = b"".join(part for _, part in sorted(parts))
