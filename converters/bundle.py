"""Reads the index of a checkpoint: which tensors there are, and where their bytes.

A checkpoint of TensorFlow ("tensor bundle", the V2 format of Saver) is a table,
``<prefix>.index``, and shards, ``<prefix>.data-00000-of-00001``, that hold nothing
but the bytes of tensors. The table maps the empty key to a BundleHeaderProto and
each tensor's name to a BundleEntryProto (``tensor_bundle.proto``). A partitioned
tensor is an entry without bytes that lists its slices, and an entry per slice under
a key made of the name and the slice (``saved_tensor_slice_util.h``).

The three small protos are coded here: their classes are no public part of
TensorFlow, and this way reading an index needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from hub_compat import _files
from hub_compat.errors import CorruptModuleError, FormatError, HandleError

from .sstable import Damage, put_varint, read_table, varint

__all__ = [
    "CheckpointIndex",
    "Extents",
    "TensorEntry",
    "count_elements",
    "encode_entry",
    "encode_header",
    "read_index",
    "shard_path",
    "slice_key",
]

# (offset, length) for each dimension. In a list of slices a length of -1, with an
# offset of 0, is all of a dimension.
Extents = Tuple[Tuple[int, int], ...]

HEADER_KEY = b""
_VERSION = 1
_MAX_SHARDS = 99999
_MAX_RANK = 254
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class TensorEntry(NamedTuple):
    """One entry of the index.

    Attributes:
      dtype: a ``DataType``.
      shape: of the whole tensor.
      shard_id: number of the shard that holds the bytes.
      offset: where in the shard they begin.
      size: how many bytes.
      crc32c: their checksum, masked.
      slices: of a partitioned tensor, its slices, as stored; its bytes are not at
        ``offset`` but elsewhere, see ``CheckpointIndex.pieces``.
    """

    dtype: int
    shape: Tuple[int, ...]
    shard_id: int = 0
    offset: int = 0
    size: int = 0
    crc32c: int = 0
    slices: Tuple[Extents, ...] = ()


@dataclasses.dataclass(frozen=True)
class CheckpointIndex:
    """The index of a checkpoint.

    Attributes:
      prefix: path of the checkpoint, without ``.index``.
      num_shards: the count in the shards' names; not all need exist.
      big_endian: the byte order of all numbers in the shards.
      entries: the tensors by name, sorted; a partitioned one is one entry.
      parts: the slices of partitioned tensors by their encoded keys.
    """

    prefix: str
    num_shards: int
    big_endian: bool
    entries: Mapping[str, TensorEntry]
    parts: Mapping[bytes, TensorEntry]

    def shard_path(self, shard_id: int) -> str:
        """Returns the path of a shard."""
        return shard_path(self.prefix, shard_id, self.num_shards)

    def pieces(self, key: str) -> List[Tuple[Extents, TensorEntry]]:
        """Returns the stored pieces of a tensor; one, if it is not partitioned.

        Each comes with its (offset, length) in each dimension.
        """
        entry = self.entries[key]
        if not entry.slices:
            return [(tuple((0, size) for size in entry.shape), entry)]
        return [
            (_resolve(stored, entry.shape), self.parts[slice_key(key, stored)])
            for stored in entry.slices
        ]

    def slice_entry(self, key: str, extents: Extents) -> Optional[TensorEntry]:
        """Returns the stored entry of exactly this slice; None if there is none."""
        extents = _resolve(extents, self.entries[key].shape)
        return dict(self.pieces(key)).get(extents)


def shard_path(prefix: str, shard_id: int, num_shards: int) -> str:
    """Returns the path of a shard."""
    return "{}.data-{:05d}-of-{:05d}".format(prefix, shard_id, num_shards)


def read_index(prefix: str) -> CheckpointIndex:
    """Reads the index of a checkpoint, and looks whether the shards fit it.

    No shard is read, only their sizes are asked for.

    Args:
      prefix: path of the checkpoint without ``.index``:
        ``"/module/variables/variables"``.

    Raises:
      HandleError: there is no checkpoint.
      FormatError: it is of a format that is not read.
      CorruptModuleError: it is damaged, or a shard is missing or too short.
    """
    path = prefix + ".index"
    try:
        data = _files.read_bytes(path)
    except OSError as error:
        raise _explain(prefix, error) from error
    items = dict(read_table(data, path))
    try:
        num_shards, big_endian = _decode_header(items.pop(HEADER_KEY, None), path)
        stored = {key: _decode_entry(items[key]) for key in items}
        index = _resolve_slices(prefix, num_shards, big_endian, stored)
    except (Damage, IndexError) as error:
        raise CorruptModuleError(
            "{} is damaged: {}. Download or export the module again. Received: {} "
            "bytes".format(path, error, len(data))
        ) from error
    _check_shards(index)
    return index


def count_elements(sizes: Iterable[int]) -> int:
    """Returns the product of sizes, 1 for a scalar's."""
    product = 1
    for size in sizes:
        product *= size
    return product


def slice_key(key: str, stored: Extents) -> bytes:
    """Returns the key under which the index keeps a slice.

    The parts are in TensorFlow's "ordered code", whose bytes sort as the values do:
    the number 0, the name, the rank, offset and length of each dimension.
    """
    name = encode_key(key).replace(b"\xff", b"\xff\x00").replace(b"\x00", b"\x00\xff")
    if b"\xff" in encode_key(key):
        # Both escapes at once: the zero that the first adds is not to be escaped.
        pairs = {0x00: b"\x00\xff", 0xFF: b"\xff\x00"}
        name = b"".join(pairs.get(b, bytes((b,))) for b in encode_key(key))
    rank = bytes((1, len(stored))) if stored else b"\x00"
    numbers = b"".join(_ordered(n) for extent in stored for n in extent)
    return b"\x00" + name + b"\x00\x01" + rank + numbers


def encode_key(key: str) -> bytes:
    """Returns the name of a tensor as the index holds it."""
    return key.encode("utf-8", "surrogateescape")


def encode_header(num_shards: int, big_endian: bool) -> bytes:
    """Returns a serialized BundleHeaderProto."""
    header = b"\x08" + put_varint(num_shards)
    if big_endian:
        header += b"\x10\x01"
    return header + b"\x1a\x02\x08" + put_varint(_VERSION)


def encode_entry(entry: TensorEntry) -> bytes:
    """Returns a serialized BundleEntryProto, as TensorFlow would write it."""
    shape = b"".join(_message(2, _number(1, size)) for size in entry.shape)
    data = _number(1, entry.dtype) + _message(2, shape)
    data += _number(3, entry.shard_id) + _number(4, entry.offset)
    data += _number(5, entry.size)
    if entry.crc32c:
        data += b"\x35" + entry.crc32c.to_bytes(4, "little")
    for stored in entry.slices:
        data += _message(7, b"".join(_message(1, _extent(*e)) for e in stored))
    return data


def _extent(offset: int, length: int) -> bytes:
    # A length is written where it is 0, too: its absence means all.
    return b"" if length < 0 else _number(1, offset) + b"\x10" + put_varint(length)


def _number(field: int, value: int) -> bytes:
    return bytes((field << 3,)) + put_varint(value) if value else b""


def _message(field: int, data: bytes) -> bytes:
    return bytes((field << 3 | _BYTES,)) + put_varint(len(data)) + data


def _ordered(value: int) -> bytes:
    """A signed number in ordered code.

    As many leading ones as it takes bytes, then a zero, then the value in two's
    complement, all inverted for a negative one; seven bits of payload in a byte.
    """
    length = (~value if value < 0 else value).bit_length() // 7 + 1
    ones = ((1 << length) - 1) << 7 * length
    return (value & (1 << 8 * length) - 1 ^ ones).to_bytes(length, "big")


def _fields(data: bytes) -> Iterator[Tuple[int, Any]]:
    """Walks the fields of a message: numbers, and bytes for what has a length."""
    position, limit = 0, len(data)
    while position < limit:
        tag = data[position]
        position += 1
        if tag > 127:
            tag, position = varint(data, position - 1)
        wire_type = tag & 7
        if wire_type == _VARINT:
            value = data[position]
            position += 1
            if value > 127:
                value, position = varint(data, position - 1)
            yield tag >> 3, value
            continue
        if wire_type == _BYTES:
            size, position = varint(data, position)
        elif wire_type == _FIXED32 or wire_type == _FIXED64:
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise Damage("a message has a field of wire type {}".format(wire_type))
        end = position + size
        if end > limit:
            raise Damage("a message ends in the middle of a field")
        payload = data[position:end]
        position = end
        if wire_type == _BYTES:
            yield tag >> 3, payload
        else:
            yield tag >> 3, int.from_bytes(payload, "little")


def _of_type(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Damage("a field of a message is of another type")
    return value


def _size(value: Any) -> int:
    """A number that proto's int64 holds and that cannot be negative."""
    size: int = _of_type(value, int)
    if size >> 63:
        raise Damage("a size is negative")
    return size


def _decode_header(data: Optional[bytes], path: str) -> Tuple[int, bool]:
    """Decodes a BundleHeaderProto; returns the count of shards and the byte order."""
    if data is None:
        raise Damage("it is a table, but has no header entry of a checkpoint")
    num_shards, endianness, needs = 0, 0, 0
    for number, value in _fields(data):
        if number == 1:
            num_shards = _size(value)
        elif number == 2:
            endianness = _size(value)
        elif number == 3:
            for version, number in _fields(_of_type(value, bytes)):
                if version == 2:
                    needs = _size(number)
    if needs > _VERSION:
        raise FormatError(
            "{} says that only readers of a later checkpoint format can read it; this "
            "version reads format {}. Upgrade hub_compat. Received: {}".format(
                path, _VERSION, needs
            )
        )
    if not 0 < num_shards <= _MAX_SHARDS or endianness > 1:
        raise Damage("its header is not that of a checkpoint")
    return num_shards, bool(endianness)


def _decode_entry(data: bytes) -> TensorEntry:
    """Decodes a BundleEntryProto."""
    numbers = [0] * 8
    shape: Tuple[int, ...] = ()
    slices = []
    for number, value in _fields(data):
        if number == 2:
            shape = _decode_shape(_of_type(value, bytes))
        elif number == 7:
            slices.append(_decode_slice(_of_type(value, bytes)))
        elif number < 7:
            numbers[number] = _size(value)
    _, dtype, _, shard_id, offset, size, crc, _ = numbers
    if any(len(stored) != len(shape) for stored in slices):
        raise Damage("a slice has not the rank of its tensor")
    return TensorEntry(dtype, shape, shard_id, offset, size, crc, tuple(slices))


def _decode_shape(data: bytes) -> Tuple[int, ...]:
    """Decodes a TensorShapeProto."""
    sizes = []
    for number, value in _fields(data):
        if number == 2:
            size = 0
            for field, content in _fields(_of_type(value, bytes)):
                if field == 1:
                    size = _size(content)
            sizes.append(size)
        elif number == 3:
            raise Damage("a tensor has no shape")
    if len(sizes) > _MAX_RANK:
        raise Damage("a tensor has {} dimensions".format(len(sizes)))
    return tuple(sizes)


def _decode_slice(data: bytes) -> Extents:
    """Decodes a TensorSliceProto."""
    extents = []
    for number, value in _fields(data):
        if number != 1:
            continue
        offset, length = 0, -1
        for field, content in _fields(_of_type(value, bytes)):
            if field == 1:
                offset = _size(content)
            elif field == 2:
                length = _size(content)
        extents.append((offset, length) if length >= 0 else (0, -1))
    return tuple(extents)


def _resolve(extents: Extents, shape: Sequence[int]) -> Extents:
    """Replaces the lengths that mean all of a dimension."""
    return tuple(
        (offset, length) if length >= 0 else (0, size)
        for (offset, length), size in zip(extents, shape)
    )


def _resolve_slices(
    prefix: str, num_shards: int, big_endian: bool, stored: Dict[bytes, TensorEntry]
) -> CheckpointIndex:
    """Sorts the stored entries into tensors and slices of tensors."""
    entries = {}
    parts = {}
    for key, entry in stored.items():
        # The keys of slices, and no others, begin with a zero. One that no tensor
        # lists cannot be reached, by TensorFlow neither, and is left out.
        if key[0] == 0:
            continue
        name = key.decode("utf-8", "surrogateescape")
        entries[name] = entry
        if entry.slices and not entry.shape:
            raise Damage("the scalar {!r} has slices".format(name))
        volume = 0
        for extents in entry.slices:
            part = stored.get(slice_key(name, extents))
            if part is None:
                raise Damage("a slice of {!r} is listed but absent".format(name))
            resolved = _resolve(extents, entry.shape)
            if part.slices or part.shape != tuple(length for _, length in resolved):
                raise Damage("a slice of {!r} is of another shape".format(name))
            if part.dtype != entry.dtype:
                raise Damage("a slice of {!r} is of another dtype".format(name))
            if any(o + n > size for (o, n), size in zip(resolved, entry.shape)):
                raise Damage("a slice of {!r} reaches out of it".format(name))
            volume += count_elements(part.shape)
            parts[slice_key(name, extents)] = part
        if entry.slices and volume != count_elements(entry.shape):
            raise Damage("the slices of {!r} are not all of it".format(name))
    return CheckpointIndex(prefix, num_shards, big_endian, entries, parts)


def _check_shards(index: CheckpointIndex) -> None:
    """Refuses an index whose shards are missing, or end before its tensors do."""
    sizes: Dict[int, int] = {}
    whole = ((k, e) for k, e in index.entries.items() if not e.slices)
    for entries in (whole, index.parts.items()):
        for key, entry in entries:
            shard = entry.shard_id
            if shard not in sizes:
                sizes[shard] = _shard_size(index, shard, key)
            if entry.offset + entry.size > sizes[shard]:
                raise CorruptModuleError(
                    "The checkpoint's index puts {!r} at bytes {} to {} of {}, which "
                    "is shorter: it was cut off, or is of another checkpoint. Download "
                    "or export the module again. Received: {} bytes".format(
                        key,
                        entry.offset,
                        entry.offset + entry.size,
                        index.shard_path(shard),
                        sizes[shard],
                    )
                )


def _shard_size(index: CheckpointIndex, shard_id: int, key: Any) -> int:
    path = index.shard_path(shard_id)
    if shard_id >= index.num_shards:
        raise CorruptModuleError(
            "The checkpoint's index puts {!r} into shard {}, but counts {} shards. "
            "Download or export the module again. Received: {!r}".format(
                key, shard_id, index.num_shards, index.prefix
            )
        )
    try:
        return _files.size(path)
    except OSError as error:
        raise CorruptModuleError(
            "The checkpoint's index puts {!r} into a file that is not there: half of "
            "the module was fetched. Download or export it again. Received: "
            "{!r}".format(key, path)
        ) from error


def _explain(prefix: str, error: OSError) -> Exception:
    """Returns the error for a checkpoint whose index cannot be read."""
    directory, _, stem = prefix.rpartition("/")
    try:
        names = _files.list_dir(directory or ".")
    except OSError:
        names = []
    if stem + ".index" in names:
        return HandleError(
            "The index of the checkpoint cannot be read: {}. Received: {!r}".format(
                error, prefix + ".index"
            )
        )
    if any(name.startswith(stem + ".data-") for name in names):
        return CorruptModuleError(
            "There are shards of a checkpoint, but no index: half of the module was "
            "fetched. Download or export it again. Received: {!r}".format(
                prefix + ".index"
            )
        )
    if stem in names or any(name.startswith(stem + "-") for name in names):
        return FormatError(
            "The checkpoint is of format V1, one file without an index, which "
            "TensorFlow wrote before 0.12 and with write_version=SaverDef.V1. Restore "
            "it in TensorFlow 1.15 and save it with tf.compat.v1.train.Saver(), whose "
            "default is V2. Received: {!r}".format(prefix)
        )
    return HandleError(
        "There is no checkpoint: expected the files {0}.index and "
        "{0}.data-00000-of-00001. Pass the path without a suffix. Received: "
        "{1!r}".format(stem, prefix)
    )
