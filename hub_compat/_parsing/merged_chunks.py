"""Puts a chunked SavedModel together: ``saved_model.cpb`` -> the proto.

The rules are those of TensorFlow's own merger, which its wheels lack
(``tensorflow/tools/proto_splitter/merge.cc``): a part is merged into the field that
its path names, those nearer to the root and of lower numbers first.
"""

from __future__ import annotations

from typing import Any, List, Tuple

from hub_compat._io import files
from hub_compat._parsing.chunked import (
    ChunkedField,
    ChunkedFile,
    ChunkedMessage,
    Step,
    UnreadableRecords,
)
from hub_compat._tf import saved_model_pb2
from hub_compat.errors import FormatError

__all__ = ["read_chunked_model"]

# A list grows by no more than this many elements that nothing was said of.
_MOST_NEW = 1 << 16
# No protobuf is larger.
_MOST_BYTES = (1 << 31) - 1


def read_chunked_model(path: str) -> Any:
    """Returns the SavedModel proto that a ``saved_model.cpb`` holds.

    Raises:
      FormatError: its records are packed in a way that is not read here.
      CorruptModuleError: it is damaged.
    """
    with files.open_read(path) as opened:
        file = ChunkedFile(opened, path)
        try:
            offsets, tree = file.parts()
            model = saved_model_pb2.SavedModel()
            _Merger(file, offsets).merge(tree, model)
        except UnreadableRecords as error:
            raise FormatError(
                "The chunked SavedModel cannot be unpacked: {}. Install the package if "
                "one is named; otherwise export the model again without "
                "experimental_image_format. Received: {!r}".format(error, path)
            ) from error
        return model


class _Merger:
    """Merges the parts of one file into messages."""

    def __init__(self, file: ChunkedFile, offsets: List[int]) -> None:
        self._file = file
        self._offsets = offsets
        self._merged = 0

    def merge(self, tree: ChunkedMessage, message: Any) -> None:
        """Merges all that belongs into a message."""
        if tree.chunk is not None:
            message.MergeFromString(self._part(tree.chunk))
        for part in sorted(tree.parts, key=_order):
            self._merge_field(part, message)

    def _part(self, number: int) -> bytes:
        part = self._file.part(self._offsets, number)
        # One part may belong in many places.
        self._merged += len(part)
        if self._merged > _MOST_BYTES:
            raise self._file.damaged("parts of no more than 2 GB together")
        return part.data()

    def _merge_field(self, part: ChunkedField, message: Any) -> None:
        steps = _grouped(part.path)
        for position, (number, selector) in enumerate(steps):
            field = message.DESCRIPTOR.fields_by_number.get(number)
            if field is None:
                raise self._file.damaged("the path of a field that there is")
            last = position == len(steps) - 1
            if field.message_type is None:
                if not last:
                    raise self._file.damaged("a path through messages")
                self._set(message, field, selector, part.content)
                return
            message = self._child(message, field, selector)
        self.merge(part.content, message)

    def _child(self, message: Any, field: Any, selector: Any) -> Any:
        """The message that a field holds, or an element of it; made if need be."""
        held = getattr(message, field.name)
        if field.message_type.GetOptions().map_entry:
            values = field.message_type.fields_by_number[2]
            if selector is None or values.message_type is None:
                raise self._file.damaged("the key of a map of messages")
            return held[selector]
        if not hasattr(held, "add"):
            return held
        if not isinstance(selector, int) or not 0 <= selector < len(held) + _MOST_NEW:
            raise self._file.damaged("the number of an element")
        while len(held) <= selector:
            held.add()
        return held[selector]

    def _set(
        self, message: Any, field: Any, selector: Any, content: ChunkedMessage
    ) -> None:
        """Sets, or makes longer, a field of bytes or text."""
        if field.type not in (field.TYPE_BYTES, field.TYPE_STRING):
            raise self._file.damaged("a field of bytes")
        if content.chunk is None or content.parts:
            raise self._file.damaged("the bytes of a field")
        data: Any = self._part(content.chunk)
        if field.type == field.TYPE_STRING:
            data = data.decode("utf-8")
        held = getattr(message, field.name)
        if not hasattr(held, "append"):
            setattr(message, field.name, held + data)
            return
        if not isinstance(selector, int) or not 0 <= selector <= len(held):
            raise self._file.damaged("the number of an element")
        if selector == len(held):
            held.append(data)
        else:
            held[selector] = data


def _grouped(path: Tuple[Step, ...]) -> List[Tuple[int, Any]]:
    """Field numbers, each with the number or key of an element; None for neither."""
    steps: List[Tuple[int, Any]] = []
    for kind, value in path:
        if kind == "field":
            steps.append((value, None))
        elif steps:
            steps[-1] = (steps[-1][0], value)
    return steps


def _order(part: ChunkedField) -> Any:
    # Keys of maps may be of several types; their order does not matter.
    path = tuple((kind, value if kind != "key" else 0) for kind, value in part.path)
    return path, part.content.chunk or 0
