"""Writes the files of a checkpoint: its shards, old and new, and its index."""

from __future__ import annotations

import dataclasses
import io
import os
import struct
from typing import Any, BinaryIO, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hub_compat._io import files
from hub_compat._parsing.varint import put_varint
from hub_compat.errors import (
    ConversionError,
    CorruptModuleError,
    DestinationError,
    HubCompatError,
)

from ..ir.dtypes import DT_STRING
from .bundle import (
    HEADER_KEY,
    Extents,
    TensorEntry,
    count_elements,
    encode_entry,
    encode_header,
    encode_key,
)
from .crc32c import crc32c, mask
from .index import CheckpointIndex, shard_path
from .shards import BORROW, LINK_MODES, bring
from .sstable import write_table

__all__ = ["CheckpointWriter", "Cut", "Pieces", "RelabelReport", "Typed"]

_DTYPES = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "complex64": 8,
    "int64": 9,
    "bool": 10,
    "bfloat16": 14,
    "uint16": 17,
    "complex128": 18,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
}


class Typed(NamedTuple):
    """A value of a dtype that the array does not tell, such as a quantized one.

    Attributes:
      dtype: a ``DataType``.
      values: an array; of bytes, where it holds strings.
    """

    dtype: int
    values: Any


# Stored pieces of a tensor, by (offset, length) in each dimension.
Pieces = Dict[Extents, TensorEntry]
# A part to be written anew: its tensor, its extents, what it is made from.
Cut = Tuple[TensorEntry, Extents, Pieces]


@dataclasses.dataclass(frozen=True)
class RelabelReport:
    """The result of ``relabel()``.

    Attributes:
      files_linked: shards that are hard links to the source's.
      bytes_linked: the bytes in them.
      files_copied: shards that were copied.
      bytes_copied: the bytes in them.
      weight_bytes_read: bytes of tensors that had to be read, because a part was
        wanted that the source does not keep as a piece of its own.
      weight_bytes_written: bytes of the parts that came of it.
    """

    files_linked: int = 0
    bytes_linked: int = 0
    files_copied: int = 0
    bytes_copied: int = 0
    weight_bytes_read: int = 0
    weight_bytes_written: int = 0


# The files of a new checkpoint, where the old one has shards A and B:
#
#     variables.index                   written last
#     variables.data-00000-of-00003     hard link to A
#     variables.data-00001-of-00003     hard link to B
#     variables.data-00002-of-00003     new tensors, and parts that were cut
#
# The index is last, since a directory without one is no checkpoint: what stopped in
# between is never taken for a result.
class CheckpointWriter:
    """Writes the files of one checkpoint.

    Args:
      source: the index of the checkpoint that shards come from, if any.
      destination: path of the new checkpoint, without ``.index``.
      num_shards: how many shards it will have.
      link: ``"auto"``, ``"hard"`` or ``"copy"``.
    """

    def __init__(
        self,
        source: Optional[CheckpointIndex],
        destination: str,
        num_shards: int,
        link: str,
    ) -> None:
        self.counts: Dict[str, int] = dict.fromkeys(
            (field.name for field in dataclasses.fields(RelabelReport)), 0
        )
        self._source = source
        self._destination = destination
        self._num_shards = num_shards
        self._link = link
        self._big_endian = source is not None and source.big_endian
        self._last_read: Optional[Tuple[TensorEntry, bytes]] = None

    def check_free(self) -> None:
        """Refuses to write over files; they may be hard links to something."""
        if self._link not in LINK_MODES + (BORROW,):
            raise DestinationError(
                "link must be one of {}. Received: {!r}".format(
                    ", ".join(map(repr, LINK_MODES)), self._link
                )
            )
        paths = [self._destination + ".index"]
        paths += [self._shard(number) for number in range(self._num_shards)]
        for path in paths:
            if files.exists(path):
                raise DestinationError(
                    "A checkpoint already exists there, and is not overwritten. "
                    "Pass a path in an empty directory. Received: {!r}".format(path)
                )

    def add_shard(self, shard_id: int, number: int) -> None:
        """Links or copies a shard of the source."""
        assert self._source is not None
        path = self._source.shard_path(shard_id)
        target = self._shard(number)
        size = files.size(path)
        # The shards are in the folder "variables" of a module.
        root = os.path.dirname(os.path.dirname(path))
        kind = "linked" if bring(path, target, root, self._link) else "copied"
        self.counts["files_" + kind] += 1
        self.counts["bytes_" + kind] += size

    def add_new_shard(
        self, cut: Mapping[str, Cut], new_tensors: Mapping[str, Any]
    ) -> Dict[bytes, TensorEntry]:
        """Writes the last shard; returns the entries of what is in it."""
        path = self._shard(self._num_shards - 1)
        try:
            if not files.is_remote(path):
                # A local file grows tensor by tensor; a remote one is sent at once.
                with open(path, "wb") as file:
                    return self._fill_shard(file, cut, new_tensors)
            buffer = io.BytesIO()
            entries = self._fill_shard(buffer, cut, new_tensors)
            files.write_bytes(path, buffer.getvalue())
            return entries
        except HubCompatError:
            raise
        except OSError as error:
            raise self._unwritable(path, error) from error

    def _fill_shard(
        self, file: BinaryIO, cut: Mapping[str, Cut], new_tensors: Mapping[str, Any]
    ) -> Dict[bytes, TensorEntry]:
        entries = {}
        offset = 0
        # Parts of one tensor follow each other, and it is read once.
        for key in sorted(cut, key=lambda key: (_place(cut[key]), key)) + sorted(
            new_tensors
        ):
            if key in cut:
                dtype, shape, data, crc = self._cut(key, *cut[key])
            else:
                dtype, shape, data, crc = self._encode(key, new_tensors[key])
            entries[encode_key(key)] = TensorEntry(
                dtype, shape, self._num_shards - 1, offset, len(data), mask(crc)
            )
            offset += len(data)
            file.write(data)
        return entries

    def write_index(self, entries: Mapping[bytes, TensorEntry]) -> None:
        """Writes the index."""
        header = encode_header(self._num_shards, self._big_endian)
        items = sorted((key, encode_entry(entry)) for key, entry in entries.items())
        path = self._destination + ".index"
        try:
            files.write_bytes(path, write_table([(HEADER_KEY, header)] + items))
        except OSError as error:
            raise self._unwritable(path, error) from error

    def _shard(self, number: int) -> str:
        return shard_path(self._destination, number, self._num_shards)

    def _unwritable(self, path: str, error: OSError) -> DestinationError:
        return DestinationError(
            "The checkpoint cannot be written: {}. Received: {!r}".format(error, path)
        )

    def _encode(self, key: str, value: Any) -> Tuple[int, Tuple[int, ...], bytes, int]:
        """Returns dtype, shape, bytes and checksum of a new tensor."""
        if isinstance(value, bytes):
            data, crc = self._encode_strings([value])
            return DT_STRING, (), data, crc
        dtype = value.dtype if isinstance(value, Typed) else 0
        array = np.asarray(value.values if isinstance(value, Typed) else value)
        items = array.ravel().tolist() if array.dtype.kind in "OS" else [None]
        if dtype == DT_STRING or all(isinstance(item, bytes) for item in items):
            data, crc = self._encode_strings(items)
            return DT_STRING, array.shape, data, crc
        if array.dtype.name not in _DTYPES:
            raise ConversionError(
                "The tensor {!r} cannot be written: its dtype is not one of {}. "
                "Received: {}".format(key, ", ".join(sorted(_DTYPES)), array.dtype.name)
            )
        if self._big_endian:
            array = array.astype(array.dtype.newbyteorder(">"))
        data = array.tobytes()
        return dtype or _DTYPES[array.dtype.name], array.shape, data, crc32c(data)

    # For [b"ab", b""], in pieces:
    #
    #     02 00         the lengths, varints
    #     4 bytes       masked checksum of the lengths, each as 4 bytes, or 8
    #     61 62         the strings
    def _encode_strings(self, values: Sequence[bytes]) -> Tuple[bytes, int]:
        """Returns the bytes and the checksum of a tensor of strings.

        The lengths as varints, the masked checksum of the lengths, the strings. The
        checksums are of the lengths as numbers of fixed width instead.
        """
        order = ">" if self._big_endian else "<"
        crc = 0
        for value in values:
            width = "Q" if len(value) > 0xFFFFFFFF else "I"
            crc = crc32c(struct.pack(order + width, len(value)), crc)
        checksum = struct.pack(order + "I", mask(crc))
        crc = crc32c(checksum, crc)
        for value in values:
            crc = crc32c(value, crc)
        lengths = b"".join(put_varint(len(value)) for value in values)
        return lengths + checksum + b"".join(values), crc

    # Elements are moved as raw bytes ("V4" for float32): byte order and NaNs stay as
    # they are, and dtypes that NumPy lacks, such as bfloat16, need no type of their
    # own.
    def _cut(
        self, key: str, whole: TensorEntry, extents: Extents, pieces: Pieces
    ) -> Tuple[int, Tuple[int, ...], bytes, int]:
        """Returns dtype, shape, bytes and checksum of a part, made from pieces."""
        shape = tuple(length for _, length in extents)
        result: Any = None
        for stored, entry in pieces.items():
            inner = []
            outer = []
            for (p, n), (o, m) in zip(stored, extents):
                first, last = max(p, o), min(p + n, o + m)
                inner.append(slice(first - p, max(first, last) - p))
                outer.append(slice(first - o, max(first, last) - o))
            if not all(s.stop > s.start for s in inner):
                continue
            item = "V{}".format(entry.size // count_elements(entry.shape))
            values = np.frombuffer(self._read(key, entry), item).reshape(entry.shape)
            if result is None:
                result = np.zeros(shape, item)
            result[tuple(outer)] = values[tuple(inner)]
        data = b"" if result is None else result.tobytes()
        self.counts["weight_bytes_written"] += len(data)
        return whole.dtype, shape, data, crc32c(data)

    def _read(self, key: str, entry: TensorEntry) -> bytes:
        """Reads the bytes of a stored tensor, and checks them."""
        if self._last_read is not None and self._last_read[0] == entry:
            return self._last_read[1]
        assert self._source is not None
        path = self._source.shard_path(entry.shard_id)
        # Two tensors in memory are one too many.
        self._last_read = None
        try:
            with files.open_read(path) as file:
                file.seek(entry.offset)
                data = file.read(entry.size)
        except OSError as error:
            raise CorruptModuleError(
                "The tensor that {!r} is cut from cannot be read: {}. Received: "
                "{!r}".format(key, error, path)
            ) from error
        self.counts["weight_bytes_read"] += len(data)
        elements = count_elements(entry.shape)
        if len(data) % elements or mask(crc32c(data)) != entry.crc32c:
            raise CorruptModuleError(
                "The bytes of the tensor that {!r} is cut from do not match their "
                "checksum: {} is damaged. Download or export the module again. "
                "Received: {} bytes at {}".format(key, path, len(data), entry.offset)
            )
        self._last_read = (entry, data)
        return data


def _place(cut: Cut) -> Tuple[int, int]:
    """Where the first byte of the tensor is that a part is cut from."""
    return min((entry.shard_id, entry.offset) for entry in cut[2].values())
