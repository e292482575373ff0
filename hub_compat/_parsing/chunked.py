"""Reads saved_model.cpb, the chunked SavedModel, without TensorFlow.

TensorFlow's proto splitter (``tensorflow/tools/proto_splitter``, since 2.15) cuts a
SavedModel of more than 2 GB into records of a Riegeli file: record 0 is the
SavedModel without the parts that were cut out, the last record is a
``ChunkMetadata`` that says where each part belongs. The Riegeli format is
specified in ``doc/riegeli_records_file_format.md`` of google/riegeli.

Limits: no open-source TensorFlow writes such a file, and the Python loaders of
1.15 to 2.21 do not read it either: ``merged_chunks.py`` puts the parts together.
Records may be compressed; brotli (Riegeli's default) and zstd are unpacked if the
packages ``brotli`` or ``zstandard`` are there, Snappy in any case. Transposed chunks
are not. Hashes are not checked.
"""

from __future__ import annotations

import bisect
import io
import itertools
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from hub_compat._parsing import wire
from hub_compat.errors import CorruptModuleError

__all__ = ["ChunkedField", "ChunkedFile", "ChunkedMessage", "Step", "UnreadableRecords"]

_BLOCK = 1 << 16
_BLOCK_HEADER = 24
_USABLE = _BLOCK - _BLOCK_HEADER
_CHUNK_HEADER = 40
_SIGNATURE = bytes.fromhex(
    "83af70d10d884a3f0000000000000000"
    "400000000000000091bac23c9287e1a9"
    "0000000000000000e19f13c0e9b1c372"
    "73000000000000000000000000000000"
)
_SIMPLE = ord("r")
_TRANSPOSED = ord("t")
_CODECS = {ord("b"): "brotli", ord("z"): "zstandard", ord("s"): "snappy"}
# A compressed chunk is unpacked in memory; Riegeli's default chunk is 1 MB.
_MAX_UNPACKED = 1 << 30


class UnreadableRecords(Exception):
    """The records are packed in a way that cannot be unpacked here; says how."""


# Of where a part belongs: what a step names, and its number or key.
Step = Tuple[str, Any]
_FIELD, _KEY, _INDEX = "field", "key", "index"
_FIRST_GRAPH = ((_FIELD, 2), (_INDEX, 0), (_FIELD, 2))
_MOST_LEVELS = 100
_VARINT_BYTES = 10


class ChunkedMessage(NamedTuple):
    """The parts that a message is assembled from.

    Attributes:
      chunk: the number of a part that is merged into it, if any.
      parts: what is merged into fields of it.
    """

    chunk: Optional[int]
    parts: List[ChunkedField]


class ChunkedField(NamedTuple):
    """Where parts belong.

    Attributes:
      path: steps from the message to a field; none for the message itself.
      content: what is merged there.
    """

    path: Tuple[Step, ...]
    content: ChunkedMessage


class _Chunk(NamedTuple):
    """The header of a Riegeli chunk."""

    begin: int
    end: int
    kind: int
    data_size: int
    num_records: int
    decoded_size: int


class _Opened(NamedTuple):
    """A chunk whose records are known: where each ends, and what is unpacked."""

    chunk: _Chunk
    first: int
    bounds: List[int]
    values: Any


# The file, by its Riegeli chunks:
#
#     64 bytes      signature
#     chunk         header of 40 bytes, sizes of its records, the records
#     ...           cut by a block header at each multiple of the block size
#     last record   ChunkMetadata: where the other records are, and where they belong
#
#     _opened: the chunk that was read last, unpacked if it was packed
#     _filled: chunks with records, in the order of the file
#     _begins: where these begin, to find the chunk of a position
#
# Record 0 is the SavedModel without the parts that were cut out.
class ChunkedFile:
    """A saved_model.cpb.

    Args:
      file: a binary file with ``seek`` and ``read``.
      name: what error messages call it.

    Raises:
      CorruptModuleError: it is not a Riegeli file, or it ends too early.
    """

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self._name = name
        file.seek(0, io.SEEK_END)
        self._size = file.tell()
        file.seek(0)
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            raise self._damaged(0, "the signature of a Riegeli file")
        # Records are mostly read in their order.
        self._opened: Optional[_Opened] = None
        self._first: Optional[_Chunk] = None
        self._last: Optional[_Chunk] = None
        self._filled = [chunk for chunk in self._chunks() if chunk.num_records]
        self._begins = [chunk.begin for chunk in self._filled]
        if self._filled:
            self._first, self._last = self._filled[0], self._filled[-1]

    def saved_model(self) -> wire.Message:
        """Returns record 0: the SavedModel without the parts that were cut out.

        Raises:
          UnreadableRecords: the record is packed.
          CorruptModuleError: the file is damaged.
        """
        if self._first is None:
            raise self._damaged(len(_SIGNATURE), "a chunk with records")
        return self._record(self._first, 0)

    def graph_def(self) -> Optional[wire.Message]:
        """Returns the first MetaGraph's GraphDef, if it was cut out as a whole.

        Raises:
          UnreadableRecords: the record is packed.
          CorruptModuleError: the file is damaged.
        """
        if self._last is None:
            return None
        offsets, tree = self.parts()
        for part in tree.parts:
            if part.path == _FIRST_GRAPH and part.content.chunk is not None:
                return self.part(offsets, part.content.chunk)
        return None

    # Given: a GraphDef that was cut out, and of it one node's constant
    # Result:
    #     offsets: the positions of both records
    #     tree:    field 2, index 0, field 2                -> part 0: the GraphDef
    #     in it:   field 1, index 7, field 5, key "value"   -> part 1: the attribute
    def parts(self) -> Tuple[List[int], ChunkedMessage]:
        """Returns where the parts are, and where they belong.

        Raises:
          UnreadableRecords: the record is packed.
          CorruptModuleError: the file is damaged.
        """
        if self._last is None:
            raise self._damaged(len(_SIGNATURE), "a chunk with records")
        metadata = self._record(self._last, self._last.num_records - 1)
        offsets: List[int] = []
        tree = ChunkedMessage(None, [])
        for field in metadata.fields():
            if field.number == 2:  # ChunkMetadata.chunks
                offsets.append(_integer(metadata.message(field), 3))
            elif field.number == 3:  # ChunkMetadata.message
                tree = self._tree(metadata.message(field), 0)
        return offsets, tree

    def part(self, offsets: List[int], number: int) -> wire.Message:
        """Returns a part, by its number in what ``parts()`` returned.

        Raises:
          UnreadableRecords: the record is packed.
          CorruptModuleError: the file is damaged.
        """
        if not 0 <= number < len(offsets):
            raise self._damaged(0, "{} parts or more".format(number + 1))
        # A record's position is that of its chunk plus its number in the chunk.
        position = offsets[number]
        place = bisect.bisect(self._begins, position) - 1
        if place >= 0:
            chunk = self._filled[place]
            if position < chunk.begin + chunk.num_records:
                return self._record(chunk, position - chunk.begin)
        raise self._damaged(position, "a record")

    def damaged(self, expected: str) -> CorruptModuleError:
        """Returns the error for parts that do not fit together."""
        return self._damaged(0, expected)

    def _tree(self, message: wire.Message, depth: int) -> ChunkedMessage:
        """Decodes a ChunkedMessage."""
        if depth > _MOST_LEVELS:
            raise self._damaged(message.start, "no more than 100 levels of parts")
        tree = ChunkedMessage(None, [])
        for field in message.fields():
            if field.number == 1:
                tree = tree._replace(chunk=message.integer(field))
            elif field.number == 2:
                part = message.message(field)
                path: List[Step] = []
                content = ChunkedMessage(None, [])
                for inner in part.fields():
                    if inner.number == 1:  # ChunkedField.field_tag
                        path.append(_step(part.message(inner)))
                    elif inner.number == 3:  # ChunkedField.message
                        content = self._tree(part.message(inner), depth + 1)
                tree.parts.append(ChunkedField(tuple(path), content))
        return tree

    def _chunks(self) -> Iterator[_Chunk]:
        """Walks the chunk headers, seeking over the data."""
        position = 0
        while position < self._size:
            header = self._read(position, _CHUNK_HEADER)
            data_size = int.from_bytes(header[8:16], "little")
            num_records = int.from_bytes(header[25:32], "little")
            end = max(
                _skip(position, _CHUNK_HEADER + data_size),
                _chunk_boundary(position + num_records),
            )
            if end > self._size:
                raise self._damaged(
                    position, "a chunk of {} bytes".format(end - position)
                )
            yield _Chunk(
                position,
                end,
                header[24],
                data_size,
                num_records,
                int.from_bytes(header[32:40], "little"),
            )
            position = end

    def _record(self, chunk: _Chunk, index: int) -> wire.Message:
        """Returns one record of a chunk as a message."""
        if self._opened is None or self._opened.chunk != chunk:
            self._opened = None
            self._opened = self._open(chunk)
        opened = self._opened
        before, end = opened.bounds[index : index + 2]
        if opened.values is not None:
            return wire.open_message(opened.values[before:end], self._name)
        stream = _ChunkData(self, chunk, opened.first + before, opened.first + end)
        return wire.open_message(stream, self._name)

    # Sizes are claims of the file. Each is compared with the size of the chunk before
    # memory is taken for it.
    def _open(self, chunk: _Chunk) -> _Opened:
        """Reads where the records of a chunk are, and unpacks them if need be."""
        if chunk.kind == _TRANSPOSED:
            raise UnreadableRecords("its records are transposed")
        if chunk.kind != _SIMPLE:
            raise self._damaged(chunk.begin, "a chunk of type 'r'")
        data = _ChunkData(self, chunk)
        # compression type, varint size of the sizes, the sizes, the values
        head = data.read(1 + _VARINT_BYTES)
        start = 1
        sizes_size = shift = 0
        while start < len(head):
            byte = head[start]
            start += 1
            sizes_size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if not head or start + sizes_size > chunk.data_size:
            raise self._damaged(chunk.begin, "a chunk with record sizes")
        data.seek(start)
        packed_sizes = data.read(sizes_size)
        values: Any = None
        if head[0]:
            if chunk.decoded_size > _MAX_UNPACKED:
                raise UnreadableRecords(
                    "a compressed chunk holds {} bytes".format(chunk.decoded_size)
                )
            packed_sizes = self._unpack(head[0], packed_sizes, 10 * chunk.num_records)
            values = self._unpack(head[0], data.read(), chunk.decoded_size)
        sizes = self._varints(packed_sizes, chunk)
        bounds = [0, *itertools.accumulate(sizes)]
        if len(sizes) != chunk.num_records or bounds[-1] != chunk.decoded_size:
            raise self._damaged(
                chunk.begin,
                "{} records of {} bytes together".format(
                    chunk.num_records, chunk.decoded_size
                ),
            )
        first = start + sizes_size
        if (values is None and first + bounds[-1] > chunk.data_size) or (
            values is not None and len(values) != bounds[-1]
        ):
            raise self._damaged(chunk.begin, "a record within its chunk")
        return _Opened(chunk, first, bounds, values)

    def _varints(self, data: bytes, chunk: _Chunk) -> List[int]:
        """Decodes a buffer of varints; a cut one at the end is left out."""
        values = []
        value = shift = 0
        for byte in data:
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                values.append(value)
                value = shift = 0
            elif shift >= 7 * _VARINT_BYTES:
                raise self._damaged(chunk.begin, "sizes of at most 10 bytes")
        return values

    def _unpack(self, codec: int, data: bytes, limit: int) -> bytes:
        """Unpacks a compressed buffer: a varint of its size, then the stream."""
        name = _CODECS.get(codec, "compression type {}".format(codec))
        start = 1
        while start < len(data) and start < _VARINT_BYTES and data[start - 1] > 127:
            start += 1
        try:
            if name == "brotli":
                import brotli

                machine = brotli.Decompressor()
                process = getattr(machine, "process", None) or machine.decompress
            elif name == "zstandard":
                import zstandard

                process = zstandard.ZstdDecompressor().decompressobj().decompress
            elif name == "snappy":
                # Needs no package.
                return self._unsnap(data, limit)
            else:
                raise UnreadableRecords("its records are compressed: {}".format(name))
        except ImportError as error:
            raise UnreadableRecords(
                "its records are compressed, and the package {} is not "
                "installed".format(name)
            ) from error
        unpacked = bytearray()
        try:
            # In pieces, so that a small file cannot unpack to any size.
            for begin in range(start, len(data), 4096):
                unpacked += process(data[begin : begin + 4096])
                if len(unpacked) > limit:
                    raise self._damaged(0, "{} bytes unpacked".format(limit))
        except CorruptModuleError:
            raise
        except Exception as error:
            # brotli.error and zstandard.ZstdError share no base class.
            raise self._damaged(0, "a {} stream".format(name)) from error
        return bytes(unpacked)

    def _unsnap(self, data: bytes, limit: int) -> bytes:
        from hub_compat._parsing import snappy, varint

        try:
            size, start = varint.varint(data, 0)
            if size <= limit:
                return snappy.decompress(data[start:])
        except (varint.Damage, IndexError) as error:
            raise self._damaged(0, "a snappy stream") from error
        raise self._damaged(0, "{} bytes unpacked".format(limit))

    def _read(self, position: int, amount: int) -> bytes:
        """Reads from a physical position, passing over block headers."""
        parts = []
        while amount:
            in_block = position % _BLOCK
            if in_block < _BLOCK_HEADER:
                position += _BLOCK_HEADER - in_block
                in_block = _BLOCK_HEADER
            part = min(amount, _BLOCK - in_block)
            self._file.seek(position)
            data = self._file.read(part)
            if len(data) < part:
                raise self._damaged(position, "{} more bytes".format(amount))
            parts.append(data)
            position += part
            amount -= part
        return b"".join(parts)

    def _damaged(self, offset: int, expected: str) -> CorruptModuleError:
        return CorruptModuleError(
            "{} is damaged or incomplete: expected {} at byte {}. Download or export "
            "the module again. The file has {} bytes.".format(
                self._name, expected, offset, self._size
            )
        )


class _ChunkData:
    """A stretch of a chunk's data as a file, so that it need not be in memory."""

    def __init__(
        self,
        owner: ChunkedFile,
        chunk: _Chunk,
        start: int = 0,
        end: Optional[int] = None,
    ) -> None:
        self._owner = owner
        self._begin = chunk.begin
        self._start = start
        self._size = (chunk.data_size if end is None else end) - start
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset if whence == io.SEEK_SET else self._size + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, amount: int = -1) -> bytes:
        left = max(0, self._size - self._position)
        amount = left if amount < 0 else min(amount, left)
        first = _skip(self._begin, _CHUNK_HEADER + self._start + self._position)
        self._position += amount
        return self._owner._read(first, amount)


def _skip(position: int, amount: int) -> int:
    """Position after so many bytes of content, block headers not counted."""
    blocks = (amount + (position + _USABLE - 1) % _BLOCK) // _USABLE
    return position + amount + blocks * _BLOCK_HEADER


def _chunk_boundary(position: int) -> int:
    """The first position from here on at which a chunk may begin."""
    left = _BLOCK - 1 - (position + _BLOCK - 1) % _BLOCK
    return position + max(0, left - (_USABLE - 1))


def _integer(message: wire.Message, number: int) -> int:
    """Returns an integer field of a message, 0 if it is not set."""
    for field in message.fields():
        if field.number == number:
            return message.integer(field)
    return 0


def _step(tag: wire.Message) -> Step:
    """Decodes a FieldIndex."""
    step: Step = (_FIELD, 0)
    for choice in tag.fields():
        if choice.number == 1:
            step = (_FIELD, tag.integer(choice))
        elif choice.number == 2:
            step = (_KEY, _key(tag.message(choice)))
        elif choice.number == 3:
            step = (_INDEX, tag.integer(choice))
    return step


def _key(key: wire.Message) -> Any:
    """Decodes a FieldIndex.MapKey."""
    found: Any = ""
    for choice in key.fields():
        if choice.number == 1:
            found = key.text(choice)
        else:
            found = key.integer(choice)
            if choice.number == 2:
                found = bool(found)
    return found
