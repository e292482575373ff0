"""Gives the tensors of a checkpoint other names, without touching their bytes.

The new checkpoint is a new index over the old shards: hard links to them, or
copies. Tensors that the old one has not are written to one small shard, the last.
No API of TensorFlow writes such an index; the result is for TensorFlow's own reader
(``RestoreV2``, ``tf.train.load_checkpoint``).
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from hub_compat.errors import ConversionError, CorruptModuleError

from ..ir.dtypes import (
    DT_HALF,
    DT_QINT16,
    DT_QUINT16,
    DT_RESOURCE,
    DT_STRING,
    DT_UINT16,
    DT_UINT32,
    DT_UINT64,
    DT_VARIANT,
    DataType,
)
from .bundle import Extents, TensorEntry, count_elements, encode_key, slice_key
from .index import CheckpointIndex, read_index
from .writer import CheckpointWriter, Cut, Pieces, RelabelReport

__all__ = ["CheckpointIndex", "RelabelReport", "TensorEntry", "read_index", "relabel"]

# Values of these dtypes do not lie side by side in equal sizes.
_UNSLICEABLE: Dict[int, str] = {
    DT_STRING: "string",
    DT_RESOURCE: "resource",
    DT_VARIANT: "variant",
}
# Of these, TensorFlow's reader puts the slices of a partitioned tensor together
# (1.15 to 2.21); float16, strings and the unsigned ones past 8 bits are not among
# them, and their slices can only be read one by one.
_MERGED = set(DataType) - {
    DT_HALF,
    DT_QINT16,
    DT_QUINT16,
    DT_RESOURCE,
    DT_STRING,
    DT_UINT16,
    DT_UINT32,
    DT_UINT64,
    DT_VARIANT,
}

# Where a tensor is: a key, and the (offset, length) in each dimension of the part
# of it that is wanted; None for all of it.
Source = Tuple[str, Optional[Sequence[Tuple[int, int]]]]


def relabel(
    source: Optional[CheckpointIndex],
    destination: str,
    mapping: Mapping[str, Source],
    new_tensors: Mapping[str, Any],
    *,
    link: str = "auto",
) -> RelabelReport:
    """Writes a checkpoint that keeps tensors of another under new names.

    A part of a tensor is had for nothing where the source keeps it as a slice of
    its own, or as several; else the tensor is read, and the part written anew.

    Args:
      source: the index of the old checkpoint; None if there is none.
      destination: path of the new checkpoint, without ``.index``, in a directory
        that exists.
      mapping: new key -> (old key, part). The part is the (offset, length) in each
        dimension, or None for the whole tensor, partitioned if it was. A key that
        is also in ``new_tensors`` is ignored.
      new_tensors: tensors to add: bytes are a string scalar, anything else what
        ``numpy.asarray`` makes of it.
      link: how the shards get there: ``"hard"``, ``"copy"`` or ``"auto"``, which
        copies where hard links are impossible.

    Returns:
      How many bytes were linked, copied and read.

    Raises:
      CorruptModuleError: the source has not the tensors asked for, or a tensor
        that had to be read is damaged.
      ConversionError: a part of a string tensor is wanted that is not kept as such.
      DestinationError: the checkpoint exists, or cannot be written.
    """
    wanted = {key: place for key, place in mapping.items() if key not in new_tensors}
    kept, cut = _places(source, wanted)
    used = sorted({entry.shard_id for entry in kept.values() if not entry.slices})
    # Even an empty checkpoint has a shard.
    shards = len(used) + bool(cut or new_tensors or not used)
    writer = CheckpointWriter(source, destination, shards, link)
    writer.check_free()
    for number, shard_id in enumerate(used):
        writer.add_shard(shard_id, number)
    numbers = {shard_id: number for number, shard_id in enumerate(used)}
    entries = {
        key: entry if entry.slices else entry._replace(shard_id=numbers[entry.shard_id])
        for key, entry in kept.items()
    }
    if shards > len(used):
        entries.update(writer.add_new_shard(cut, new_tensors))
    writer.write_index(entries)
    return RelabelReport(**writer.counts)


# For each new key, the cheapest of three ways:
#
#     whole tensor                        its entry, under the new key
#     a part that pieces make up          the entries of the pieces, as slices
#     any other part                      cut: read, sliced, written to the last shard
#
# Only the third reads weights.
def _places(
    source: Optional[CheckpointIndex], mapping: Mapping[str, Source]
) -> Tuple[Dict[bytes, TensorEntry], Dict[str, Cut]]:
    """Returns what can be kept where it is, and what must be cut out and written."""
    kept: Dict[bytes, TensorEntry] = {}
    cut: Dict[str, Cut] = {}
    pieces_of: Dict[str, Pieces] = {}
    for key, (old_key, part) in mapping.items():
        if source is None or old_key not in source.entries:
            raise CorruptModuleError(
                "The checkpoint has no tensor {!r}, which {!r} needs: the module "
                "was exported incompletely. Received: {}".format(
                    old_key,
                    key,
                    "no checkpoint"
                    if source is None
                    else "{} keys in {!r}".format(len(source.entries), source.prefix),
                )
            )
        if old_key not in pieces_of:
            pieces_of[old_key] = source.pieces(old_key)
        whole = source.entries[old_key]
        extents = _check_part(old_key, whole, part)
        pieces: Optional[Pieces] = pieces_of[old_key]
        if part is not None:
            pieces = _pieces_within(extents, whole, pieces_of[old_key])
        if pieces is None:
            cut[key] = (whole, extents, pieces_of[old_key])
            _check_cut(key, *cut[key])
        else:
            kept.update(_entries_for(key, whole, extents, pieces))
    return kept, cut


def _check_part(
    key: str, entry: TensorEntry, part: Optional[Sequence[Tuple[int, int]]]
) -> Extents:
    """Returns the extents of a part, or of the whole, of a tensor."""
    if part is None:
        return tuple((0, size) for size in entry.shape)
    extents = tuple((int(offset), int(length)) for offset, length in part)
    if len(extents) != len(entry.shape) or any(
        offset < 0 or length < 0 or offset + length > size
        for (offset, length), size in zip(extents, entry.shape)
    ):
        raise CorruptModuleError(
            "The graph needs a part of {!r} that does not fit its shape in the "
            "checkpoint, {}. The graph and the checkpoint are of different exports. "
            "Received: (offset, length) {}".format(
                key, list(entry.shape), list(extents)
            )
        )
    return extents


# Pieces do not overlap (read_index has looked). So they make up the part if they lie in
# it, and if their sizes add up to its size.
def _pieces_within(
    extents: Extents, whole: TensorEntry, pieces: Pieces
) -> Optional[Pieces]:
    """Returns the stored pieces that make up a part; None if it must be cut."""
    if extents in pieces:
        return {extents: pieces[extents]}
    found = {
        stored: entry
        for stored, entry in pieces.items()
        if all(o <= p and p + n <= o + m for (p, n), (o, m) in zip(stored, extents))
    }
    volume = sum(count_elements(entry.shape) for entry in found.values())
    # Nothing is not made of pieces, it is written anew without a byte.
    wanted = count_elements(length for _, length in extents)
    whole_pieces = volume == wanted and wanted and whole.dtype in _MERGED
    return found if whole_pieces else None


def _check_cut(key: str, whole: TensorEntry, extents: Extents, pieces: Pieces) -> None:
    """Refuses to cut a part that cannot be cut."""
    if whole.dtype in _UNSLICEABLE:
        raise ConversionError(
            "The graph has {!r} as a part of a {} tensor. The checkpoint keeps that "
            "tensor in other parts, which cannot be cut. Received: (offset, length) "
            "{}".format(key, _UNSLICEABLE[whole.dtype], list(extents))
        )
    there = sum(
        count_elements(
            max(0, min(p + n, o + m) - max(p, o))
            for (p, n), (o, m) in zip(stored, extents)
        )
        for stored in pieces
    )
    wanted = count_elements(length for _, length in extents)
    if there < wanted:
        raise CorruptModuleError(
            "The graph has {!r} as a part of a tensor. The checkpoint keeps only "
            "other parts of that tensor: {} of its {} elements. The module was "
            "exported incompletely. Received: (offset, length) {}".format(
                key, there, wanted, list(extents)
            )
        )


# One piece needs no slices: it is the tensor. Of several, offsets count from the part
# and no longer from the old tensor.
def _entries_for(
    key: str, whole: TensorEntry, extents: Extents, pieces: Pieces
) -> Dict[bytes, TensorEntry]:
    """Returns the entries of a tensor that is made of these stored pieces."""
    if extents in pieces:
        return {encode_key(key): pieces[extents]}
    # Partitioned in the new checkpoint, too: TensorFlow puts it together.
    shape = tuple(length for _, length in extents)
    slices = {
        tuple((p - o, n) for (p, n), (o, _) in zip(stored, extents)): entry
        for stored, entry in pieces.items()
    }
    entries = {slice_key(key, stored): entry for stored, entry in slices.items()}
    entries[encode_key(key)] = TensorEntry(whole.dtype, shape, slices=tuple(slices))
    return entries
