"""Reads saved_model.cpb, the chunked SavedModel, without TensorFlow.

TensorFlow's proto splitter (``tensorflow/tools/proto_splitter``, since 2.15) cuts a
SavedModel of more than 2 GB into records of a Riegeli file: record 0 is the
SavedModel without the parts that were cut out, the last record is a
``ChunkMetadata`` that says where each part belongs. The Riegeli format is
specified in ``doc/riegeli_records_file_format.md`` of google/riegeli.

Limits: no open-source TensorFlow writes such a file, and the Python loaders of
1.15 to 2.21 do not read it either, so this serves to *say* what a directory is.
Records may be compressed; brotli (Riegeli's default) and zstd are unpacked if the
packages ``brotli`` or ``zstandard`` are there. Snappy and transposed chunks are
not. Hashes are not checked.
"""

from __future__ import annotations

import io
from typing import Any, Iterator, List, NamedTuple, Optional

from hub_compat import _wire
from hub_compat.errors import CorruptModuleError

__all__ = ["ChunkedFile", "UnreadableRecords"]

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


class _Chunk(NamedTuple):
    """The header of a Riegeli chunk."""

    begin: int
    end: int
    kind: int
    data_size: int
    num_records: int
    decoded_size: int


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
        self._first: Optional[_Chunk] = None
        self._last: Optional[_Chunk] = None
        for chunk in self._chunks():
            if chunk.num_records:
                self._first = self._first or chunk
                self._last = chunk

    def saved_model(self) -> _wire.Message:
        """Returns record 0: the SavedModel without the parts that were cut out.

        Raises:
          UnreadableRecords: the record is packed.
          CorruptModuleError: the file is damaged.
        """
        if self._first is None:
            raise self._damaged(len(_SIGNATURE), "a chunk with records")
        return self._record(self._first, 0)

    def graph_def(self) -> Optional[_wire.Message]:
        """Returns the first MetaGraph's GraphDef, if it was cut out as a whole.

        Raises:
          UnreadableRecords: the record is packed.
          CorruptModuleError: the file is damaged.
        """
        if self._last is None:
            return None
        metadata = self._record(self._last, self._last.num_records - 1)
        offsets: List[int] = []
        chosen: Optional[int] = None
        for field in metadata.fields():
            if field.number == 2:  # ChunkMetadata.chunks
                offsets.append(_integer(metadata.message(field), 3))
            elif field.number == 3:  # ChunkMetadata.message
                message = metadata.message(field)
                for part in message.fields():
                    # ChunkedMessage.chunked_fields
                    if part.number == 2 and chosen is None:
                        chosen = _chunk_of_first_graph(message.message(part))
        if chosen is None or chosen >= len(offsets):
            return None
        # A record's position is that of its chunk plus its number in the chunk.
        position = offsets[chosen]
        for chunk in self._chunks():
            if chunk.begin <= position < chunk.begin + chunk.num_records:
                return self._record(chunk, position - chunk.begin)
        raise self._damaged(position, "the record of a GraphDef")

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

    def _record(self, chunk: _Chunk, index: int) -> _wire.Message:
        """Returns one record of a chunk as a message."""
        if chunk.kind == _TRANSPOSED:
            raise UnreadableRecords("its records are transposed")
        if chunk.kind != _SIMPLE:
            raise self._damaged(chunk.begin, "a chunk of type 'r'")
        data = _ChunkData(self, chunk)
        # compression type, varint size of the sizes, the sizes, the values
        head = data.read(11)
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
        sizes = _varints(packed_sizes)
        if len(sizes) != chunk.num_records or index >= len(sizes):
            raise self._damaged(
                chunk.begin, "{} record sizes".format(chunk.num_records)
            )
        before = sum(sizes[:index])
        end = before + sizes[index]
        if end > chunk.decoded_size:
            raise self._damaged(chunk.begin, "a record within its chunk")
        if values is not None:
            return _wire.open_message(values[before:end], self._name)
        first = start + sizes_size
        stream = _ChunkData(self, chunk, first + before, first + end)
        return _wire.open_message(stream, self._name)

    def _unpack(self, codec: int, data: bytes, limit: int) -> bytes:
        """Unpacks a compressed buffer: a varint of its size, then the stream."""
        name = _CODECS.get(codec, "compression type {}".format(codec))
        while data and data[0] > 127:
            data = data[1:]
        try:
            if name == "brotli":
                import brotli

                machine = brotli.Decompressor()
                process = getattr(machine, "process", None) or machine.decompress
            elif name == "zstandard":
                import zstandard

                process = zstandard.ZstdDecompressor().decompressobj().decompress
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
            for start in range(1, len(data), 4096):
                unpacked += process(data[start : start + 4096])
                if len(unpacked) > limit:
                    raise self._damaged(0, "{} bytes unpacked".format(limit))
        except CorruptModuleError:
            raise
        except Exception as error:
            # brotli.error and zstandard.ZstdError share no base class.
            raise self._damaged(0, "a {} stream".format(name)) from error
        return bytes(unpacked)

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


def _varints(data: bytes) -> List[int]:
    """Decodes a buffer of varints; a cut one at the end is left out."""
    values = []
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            values.append(value)
            value = shift = 0
    return values


def _integer(message: _wire.Message, number: int) -> int:
    """Returns an integer field of a message, 0 if it is not set."""
    for field in message.fields():
        if field.number == number:
            return message.integer(field)
    return 0


def _chunk_of_first_graph(part: _wire.Message) -> Optional[int]:
    """Returns the chunk index of a ChunkedField, if it is meta_graphs[0].graph_def."""
    path = []
    chunk = None
    for field in part.fields():
        if field.number == 1:  # ChunkedField.field_tag
            tag = part.message(field)
            for choice in tag.fields():
                # FieldIndex: field = 1, map_key = 2, index = 3
                if choice.number in (1, 3):
                    path.append((choice.number, tag.integer(choice)))
        elif field.number == 3:  # ChunkedField.message
            chunk = _integer(part.message(field), 1)
    return chunk if path == [(1, 2), (3, 0), (1, 2)] else None
