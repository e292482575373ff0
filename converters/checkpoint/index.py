"""The index of a checkpoint: which tensors there are, and where their bytes.

A checkpoint of TensorFlow ("tensor bundle", the V2 format of Saver) is a table,
``<prefix>.index``, and shards, ``<prefix>.data-00000-of-00001``, that hold nothing
but the bytes of tensors. The table maps the empty key to a header and each tensor's
name to an entry. A partitioned tensor is an entry without bytes that lists its
slices, and an entry per slice under a key made of the name and the slice.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Dict, Mapping, Optional, Sequence

from hub_compat._io import files
from hub_compat._parsing.near_misses import pretence
from hub_compat._parsing.varint import Damage
from hub_compat.errors import CorruptModuleError, FormatError, HandleError

from .bundle import (
    HEADER_KEY,
    VERSION,
    Extents,
    TensorEntry,
    check_entry,
    count_elements,
    decode_entry,
    decode_header,
    slice_key,
)
from .sstable import read_table

__all__ = [
    "CheckpointIndex",
    "needed_bytes",
    "read_index",
    "resolve",
    "shard_path",
]

# Of an index: some millions of tensors.
_MOST_BYTES = 1 << 30


# The table of variables.index, as TensorFlow writes it:
#
#     key                        value
#     ""                         header: number of shards, byte order, version
#     "w"                        dtype, shape, shard, offset, size, checksum
#     "p"                        dtype, shape, slices [(0, 2), (2, 2)]; no bytes
#     00 "p" 00 01 ... 0 2       the entry of the first slice of p
#     00 "p" 00 01 ... 2 2       the entry of the second
#
# Holds for each index that read_index returns: the slices of each tensor are there,
# fit into it, and do not overlap; all bytes are within the shards.
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
    entries: Dict[str, TensorEntry]
    parts: Mapping[bytes, TensorEntry]

    def shard_path(self, shard_id: int) -> str:
        """Returns the path of a shard."""
        return shard_path(self.prefix, shard_id, self.num_shards)

    def pieces(self, key: str) -> Dict[Extents, TensorEntry]:
        """Returns the stored pieces of a tensor by (offset, length) per dimension.

        A tensor that is not partitioned is one piece.
        """
        entry = self.entries[key]
        if not entry.slices:
            return {tuple((0, size) for size in entry.shape): entry}
        return {
            resolve(stored, entry.shape): self.parts[slice_key(key, stored)]
            for stored in entry.slices
        }

    def slice_entry(self, key: str, extents: Extents) -> Optional[TensorEntry]:
        """Returns the stored entry of exactly this slice; None if there is none."""
        return self.pieces(key).get(resolve(extents, self.entries[key].shape))


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
    index = _read(prefix)
    _check_shards(index)
    return index


def needed_bytes(prefix: str) -> Dict[str, int]:
    """How many bytes each shard must have, by its name; no shard need be there.

    Args:
      prefix: path of the checkpoint without ``.index``.

    Raises:
      HandleError, FormatError, CorruptModuleError: as ``read_index``.
    """
    index = _read(prefix)
    sizes: Dict[str, int] = {}
    for key in index.entries:
        for entry in index.pieces(key).values():
            name = os.path.basename(index.shard_path(entry.shard_id))
            sizes[name] = max(sizes.get(name, 0), entry.offset + entry.size)
    return sizes


def _read(prefix: str) -> CheckpointIndex:
    """Reads an index, and looks at no shard."""
    path = prefix + ".index"
    try:
        data = files.read_bytes(path, _MOST_BYTES)
    except OSError as error:
        raise _explain(prefix, error) from error
    try:
        items = dict(read_table(data, path))
    except CorruptModuleError as error:
        what = pretence(path)
        if what:
            raise CorruptModuleError("{} Received: {!r}".format(what, path)) from error
        raise
    try:
        num_shards, big_endian, needs = decode_header(items.pop(HEADER_KEY, b""))
        if needs > VERSION:
            raise FormatError(
                "{} needs a reader of a later checkpoint format; this version reads "
                "format {}. Upgrade hub_compat. Received: {}".format(
                    path, VERSION, needs
                )
            )
        stored = {key: decode_entry(value) for key, value in items.items()}
        index = _resolve_slices(prefix, num_shards, big_endian, stored)
    except (Damage, IndexError) as error:
        raise CorruptModuleError(
            "{} is damaged: {}. Download or export the module again. Received: {} "
            "bytes".format(path, error, len(data))
        ) from error
    return index


def resolve(extents: Extents, shape: Sequence[int]) -> Extents:
    """Replaces the lengths that mean all of a dimension."""
    return tuple(
        (offset, length) if length >= 0 else (0, size)
        for (offset, length), size in zip(extents, shape)
    )


# All of it is checked before anybody uses it: TensorFlow's own reader ends the process
# over some damaged entries, where we must raise.
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
        check_entry(name, entry)
        if entry.slices and not entry.shape:
            raise Damage("the scalar {!r} has slices".format(name))
        volume = 0
        for extents in entry.slices:
            part = stored.get(slice_key(name, extents))
            if part is None:
                raise Damage("a slice of {!r} is listed but absent".format(name))
            resolved = resolve(extents, entry.shape)
            if part.slices or part.shape != tuple(length for _, length in resolved):
                raise Damage("a slice of {!r} is of another shape".format(name))
            if part.dtype != entry.dtype:
                raise Damage("a slice of {!r} is of another dtype".format(name))
            if any(o + n > size for (o, n), size in zip(resolved, entry.shape)):
                raise Damage("a slice of {!r} reaches out of it".format(name))
            check_entry(name, part)
            volume += count_elements(part.shape)
            parts[slice_key(name, extents)] = part
        # Less may be right: somebody may have saved a few of the slices.
        if volume > count_elements(entry.shape):
            raise Damage("the slices of {!r} overlap".format(name))
    return CheckpointIndex(prefix, num_shards, big_endian, entries, parts)


def _check_shards(index: CheckpointIndex) -> None:
    """Refuses an index whose shards are missing, or end before its tensors do."""
    sizes: Dict[int, int] = {}
    for key, whole in index.entries.items():
        for entry in index.pieces(key).values() if whole.slices else (whole,):
            shard = entry.shard_id
            if shard not in sizes:
                sizes[shard] = _shard_size(index, shard, key)
            if entry.offset + entry.size > sizes[shard]:
                path = index.shard_path(shard)
                what = pretence(path, may_be_zeros=True)
                if what:
                    raise CorruptModuleError("{} Received: {!r}".format(what, path))
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


def _shard_size(index: CheckpointIndex, shard_id: int, key: str) -> int:
    path = index.shard_path(shard_id)
    if shard_id >= index.num_shards:
        raise CorruptModuleError(
            "The checkpoint's index puts {!r} into shard {}, but counts {} shards. "
            "Download or export the module again. Received: {!r}".format(
                key, shard_id, index.num_shards, index.prefix
            )
        )
    try:
        return files.size(path)
    except OSError as error:
        raise CorruptModuleError(
            "The checkpoint's index puts {!r} into a file that is not there: the "
            "module was fetched in part. Download or export it again. "
            "Received: {!r}".format(key, path)
        ) from error


# From the most certain to the least: an index that is there cannot be read; shards
# without an index were fetched in part; a file of the bare name is of format V1.
def _explain(prefix: str, error: OSError) -> Exception:
    """Returns the error for a checkpoint whose index cannot be read."""
    directory, stem = os.path.split(prefix)
    try:
        names = files.list_dir(directory or ".")
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
            "The checkpoint has shards but no index: the module was fetched in "
            "part. Download or export it again. Received: {!r}".format(
                prefix + ".index"
            )
        )
    if stem in names or any(name.startswith(stem + "-") for name in names):
        return FormatError(
            "The checkpoint is of format V1, one file without an index. TensorFlow "
            "wrote it before 0.12, or with write_version=SaverDef.V1. Restore it in "
            "TensorFlow 1.15 and save it with tf.compat.v1.train.Saver(), whose "
            "default is V2. Received: {!r}".format(prefix)
        )
    return HandleError(
        "There is no checkpoint: expected the files {0}.index and "
        "{0}.data-00000-of-00001. Pass the path without a suffix. Received: "
        "{1!r}".format(stem, prefix)
    )
