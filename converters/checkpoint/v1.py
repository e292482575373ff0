"""Checkpoints of format V1, which TensorFlow wrote before 0.12: one file, no index.

The file is a table whose empty key holds the names, shapes and dtypes, and whose other
keys hold the values, one ``SavedTensorSlices`` each (``saved_tensor_slice.proto``). A
``Saver`` with ``write_version=SaverDef.V1`` writes it to this day. It is written once
more, as one of format V2: all that follows knows only that.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from hub_compat._io import files as _files
from hub_compat._parsing.varint import Damage
from hub_compat._tf import attr_value_pb2
from hub_compat.errors import CorruptModuleError, HandleError

from .bundle import (
    Extents,
    count_elements,
    decode_shape,
    decode_slice,
    fields_of,
    slice_key,
)
from .index import CheckpointIndex, read_index, resolve
from .sstable import read_table
from .writer import CheckpointWriter, Typed

__all__ = ["files_of", "upgrade"]

_MOST_BYTES = (1 << 31) - 1
_TensorProto: Any = type(attr_value_pb2.AttrValue().tensor)
# By DataType, the field of a TensorProto with the values, and what they are.
_VALUES = {
    1: ("float_val", "float32"),
    2: ("double_val", "float64"),
    3: ("int_val", "int32"),
    4: ("int_val", "uint8"),
    5: ("int_val", "int16"),
    6: ("int_val", "int8"),
    7: ("string_val", "object"),
    8: ("scomplex_val", "complex64"),
    9: ("int64_val", "int64"),
    10: ("bool_val", "bool"),
    11: ("int_val", "int8"),
    12: ("int_val", "uint8"),
    13: ("int_val", "int32"),
    15: ("int_val", "int16"),
    16: ("int_val", "uint16"),
    17: ("int_val", "uint16"),
    18: ("dcomplex_val", "complex128"),
    19: ("half_val", "float16"),
}


class _Tensor(NamedTuple):
    """The entry of a tensor in the table of contents."""

    dtype: int
    shape: Tuple[int, ...]
    slices: List[Extents]


def files_of(prefix: str) -> List[str]:
    """The files of a checkpoint of format V1; none if there is no such checkpoint."""
    if _files.exists(prefix) and not _files.is_dir(prefix):
        return [prefix]
    folder, _, stem = prefix.rpartition("/")
    if not _files.is_dir(folder):
        return []
    shard = re.compile(re.escape(stem) + r"-\d{5}-of-\d{5}\Z")
    names = [name for name in _files.list_dir(folder) if shard.match(name)]
    return [_files.join(folder, name) for name in names]


def upgrade(files: List[str], folder: str) -> CheckpointIndex:
    """Writes a checkpoint of format V1 once more, in format V2.

    Args:
      files: its files.
      folder: an empty directory.

    Returns:
      The index of the new one.

    Raises:
      HandleError: a file cannot be read.
      CorruptModuleError: it is damaged.
    """
    tensors = _Tensors(files)
    destination = _files.join(folder, "variables")
    writer = CheckpointWriter(None, destination, 1, "auto")
    writer.write_index(writer.add_new_shard({}, tensors))
    return read_index(destination)


# A mapping and no dict: the writer asks for one tensor after the other, so only one is
# decoded at a time beside the records themselves.
#
#     _contents: name -> dtype, shape and the slices of all files together
#     _records:  the key of a slice, as in format V2 -> a serialized SavedTensorSlices
class _Tensors(Mapping[str, Any]):
    """The tensors of a checkpoint by name, made when they are asked for."""

    def __init__(self, files: List[str]) -> None:
        self._name = files[0]
        self._contents: Dict[str, _Tensor] = {}
        self._records: Dict[bytes, bytes] = {}
        for path in files:
            items = dict(read_table(_read(path), path))
            try:
                self._add_contents(items.pop(b"", b""))
            except (Damage, IndexError, UnicodeDecodeError) as error:
                raise self._damaged(str(error)) from error
            self._records.update(items)

    def __len__(self) -> int:
        return len(self._contents)

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __getitem__(self, name: str) -> Typed:
        tensor = self._contents[name]
        whole: Optional[Any] = None
        missing = count_elements(tensor.shape)
        for stored in tensor.slices or [tuple((0, -1) for _ in tensor.shape)]:
            try:
                record = self._records[slice_key(name, stored)]
                extents = resolve(stored, tensor.shape)
                values = _values(record, tensor.dtype, extents)
            except (Damage, IndexError, KeyError, ValueError) as error:
                raise self._damaged(
                    "the values of {!r} cannot be read ({})".format(name, error)
                ) from error
            if whole is None:
                whole = np.zeros(tensor.shape, values.dtype)
            place = tuple(slice(o, o + n) for o, n in extents)
            if whole[place].shape != values.shape:
                raise self._damaged("a slice of {!r} reaches out of it".format(name))
            whole[place] = values
            missing -= values.size
        if missing > 0 or whole is None:
            raise self._damaged("a slice of {!r} is absent".format(name))
        return Typed(tensor.dtype, whole)

    def _add_contents(self, data: bytes) -> None:
        """Decodes SavedTensorSlices.meta, a SavedTensorSliceMeta."""
        found = [value for number, value in fields_of(data) if number == 1]
        if not found:
            raise Damage("it is a table, but has no contents of a checkpoint")
        for number, value in fields_of(found[0]):
            if number == 1:
                self._add_tensor(value)

    def _add_tensor(self, data: bytes) -> None:
        """Decodes a SavedSliceMeta."""
        name, dtype = "", 0
        shape: Tuple[int, ...] = ()
        slices: List[Extents] = []
        for number, value in fields_of(data):
            if number == 1:
                name = value.decode("utf-8", "surrogateescape")
            elif number == 2:
                shape = decode_shape(value)
            elif number == 3:
                dtype = value
            elif number == 4:
                slices.append(decode_slice(value))
        if dtype not in _VALUES:
            raise Damage("{!r} is of an unknown dtype, {}".format(name, dtype))
        if count_elements(shape) > _MOST_BYTES:
            raise Damage("{!r} has the shape {}".format(name, list(shape)[:10]))
        if any(len(stored) != len(shape) for stored in slices):
            raise Damage("a slice has not the rank of its tensor")
        # Each file of several has some of the slices.
        known = self._contents.get(name, _Tensor(dtype, shape, []))
        if (known.dtype, known.shape) != (dtype, shape):
            raise Damage("the slices of {!r} do not fit".format(name))
        self._contents[name] = known._replace(slices=known.slices + slices)

    def _damaged(self, problem: str) -> CorruptModuleError:
        return CorruptModuleError(
            "The checkpoint of format V1 is damaged: {}. Download or export the module "
            "again. Received: {!r}".format(problem, self._name)
        )


def _read(path: str) -> bytes:
    try:
        return _files.read_bytes(path, _MOST_BYTES)
    except OSError as error:
        raise HandleError(
            "The checkpoint cannot be read: {}. Received: {!r}".format(error, path)
        ) from error


def _values(record: bytes, dtype: int, extents: Extents) -> Any:
    """Decodes SavedTensorSlices.data, a SavedSlice: the array in it."""
    saved = [value for number, value in fields_of(record) if number == 2]
    data = [value for number, value in fields_of(saved[0]) if number == 3]
    proto = _TensorProto()
    try:
        for piece in data:
            proto.MergeFromString(piece)
    except Exception as error:  # DecodeError, whose module differs by version
        raise Damage("it is not a tensor") from error
    shape = tuple(length for _, length in extents)
    field, name = _VALUES[dtype]
    held = list(getattr(proto, field))
    if name == "float16":
        flat: Any = np.array(held, np.uint16).view(np.float16)
    elif name.startswith("complex"):
        pair = {"complex64": np.float32, "complex128": np.float64}[name]
        flat = np.array(held, pair).view(name)
    elif name == "object":
        flat = np.empty(len(held), object)
        flat[:] = held
    else:
        flat = np.array(held, name)
    return flat.reshape(shape)
