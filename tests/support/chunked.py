"""Writes saved_model.cpb, as TensorFlow's proto splitter does where it has Riegeli."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

# A message is a list of (field number, field name, value); a value is an int, a
# str, bytes or a message.
Spec = List[Tuple[int, str, Any]]


def varint(value: int) -> bytes:
    """Encodes an unsigned integer."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def to_wire(spec: Spec) -> bytes:
    """Encodes a message in protobuf's binary format."""
    out = b""
    for number, _, value in spec:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
            continue
        if isinstance(value, list):
            value = to_wire(value)
        elif isinstance(value, str):
            value = value.encode("utf-8")
        out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def to_riegeli(chunks: Sequence[Sequence[bytes]], compression: int = 0) -> bytes:
    """Writes a Riegeli file of simple chunks; hashes are left zero."""
    out = bytearray(b"\x83\xaf\x70\xd1\x0d\x88\x4a\x3f" + bytes(8) + b"\x40" + bytes(7))
    out += b"\x91\xba\xc2\x3c\x92\x87\xe1\xa9" + bytes(8)
    out += b"\xe1\x9f\x13\xc0\xe9\xb1\xc3\x72" + b"s" + bytes(15)
    for records in chunks:
        sizes = b"".join(varint(len(record)) for record in records)
        values = b"".join(records)
        if compression:
            sizes, values = _snapped(sizes), _snapped(values)
        body = bytes([compression]) + varint(len(sizes)) + sizes + values
        header = bytes(8) + len(body).to_bytes(8, "little") + bytes(8) + b"r"
        header += len(records).to_bytes(7, "little")
        header += sum(map(len, records)).to_bytes(8, "little")
        begin = len(out)
        content = header + body
        while content:
            room = 65536 - len(out) % 65536
            if room == 65536:
                out += bytes(24)
                room -= 24
            out += content[:room]
            content = content[room:]
        while len(out) < begin + len(records) or len(out) % 65536 in range(1, 25):
            out.append(0)
    return bytes(out)


def _snapped(data: bytes) -> bytes:
    """A Snappy stream that compresses nothing, behind its size as Riegeli has it."""
    size = varint(len(data))
    out = size + size
    for start in range(0, len(data), 60):
        piece = data[start : start + 60]
        out += bytes([(len(piece) - 1) << 2]) + piece
    return out


def split_model(data: bytes, compression: int = 0) -> bytes:
    """A SavedModel in parts: its graph, functions, large constants, and the rest.

    Args:
      data: a serialized SavedModel.
      compression: 0, or ``ord("s")``, Snappy.
    """
    from hub_compat._tf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(data)
    paths: List[List[Tuple[str, Any]]] = []
    cut: List[bytes] = []
    for number, meta_graph in enumerate(model.meta_graphs):
        top = [("field", 2), ("index", number), ("field", 2)]
        library = meta_graph.graph_def.library
        # Every other function, so that some stay where they are.
        for place in range(0, len(library.function), 2):
            function = library.function[place]
            paths.append(top + [("field", 2), ("field", 1), ("index", place)])
            cut.append(function.SerializeToString())
            function.Clear()
        for place, node in enumerate(meta_graph.graph_def.node):
            tensor = node.attr["value"].tensor if "value" in node.attr else None
            if tensor is not None and len(tensor.tensor_content) > 16:
                # Bytes in two parts are joined.
                half = len(tensor.tensor_content) // 2
                steps = [("field", 1), ("index", place), ("field", 5), ("key", "value")]
                steps += [("field", 8), ("field", 4)]
                for piece in (
                    tensor.tensor_content[:half],
                    tensor.tensor_content[half:],
                ):
                    paths.append(top + steps)
                    cut.append(piece)
                tensor.tensor_content = b""
        paths.append(top)
        cut.append(meta_graph.graph_def.SerializeToString())
        meta_graph.ClearField("graph_def")
    # Of the meta-information, a part that is merged into the message itself.
    rest = model.SerializeToString()
    groups = [[rest], cut[: len(cut) // 2], cut[len(cut) // 2 :]]
    groups = [group for group in groups if group]
    tree: Spec = [(1, "chunk_index", 0)]
    for index, path in enumerate(paths):
        spec: Spec = [(1, "field_tag", _step(*step)) for step in path]
        spec.append((3, "message", [(1, "chunk_index", index + 1)]))
        tree.append((2, "chunked_fields", spec))
    metadata: Spec = []
    for number, group in enumerate(groups):
        begin = len(to_riegeli(groups[:number], compression))
        metadata += [
            (2, "chunks", [(3, "offset", begin + place)]) for place in range(len(group))
        ]
    metadata.append((3, "message", tree))
    return to_riegeli(groups + [[to_wire(metadata)]], compression)


def _step(kind: str, value: Any) -> Spec:
    if kind == "key":
        return [(2, "map_key", [(1, "s", value)])]
    return [({"field": 1, "index": 3}[kind], kind, value)]
