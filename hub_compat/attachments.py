"""Messages that a publisher attached to a module.

A TF1 Hub module keeps them per variant in the MetaGraphDef's collection
``hub_module_attachments``: serialized ``ModuleAttachment`` messages with a
string ``key`` (field 1) and bytes ``value`` (field 2). A converted module
keeps those of its root variant there, those of another under
``hub_module_attachments/<tags>``.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from hub_compat import _guard
from hub_compat._handles.resolving import resolve
from hub_compat._io import files
from hub_compat._loaded import origin
from hub_compat._parsing import wire
from hub_compat._parsing.known_names import ATTACHMENTS
from hub_compat._parsing.varint import put_varint
from hub_compat.detector import detect
from hub_compat.errors import (
    AttachmentError,
    CorruptModuleError,
    HandleError,
    VariantError,
)
from hub_compat.formats import Detection

# ImageModuleInfo is made by __getattr__ below.
__all__ = [  # noqa: F822
    "ImageModuleInfo",
    "attached_messages",
    "get_attached_message",
    "read_attachments",
    "write_attachments",
]

_Tags = Tuple[str, ...]
_Messages = Dict[str, bytes]


class _Variant(NamedTuple):
    """Tags of a MetaGraphDef, and its attachment collections by name."""

    tags: _Tags
    collections: Dict[str, List[bytes]]


def get_attached_message(
    handle: Any,
    key: str,
    message_type: Any,
    tags: Optional[Iterable[str]] = None,
    required: bool = False,
) -> Any:
    """Returns a message that was attached to a module.

    Args:
      handle: directory of the module, original or converted, a string or
        ``os.PathLike``; or the result of ``load()``.
      key: the key it was attached under: ``"image_module_info"``.
      message_type: class of the message, such as
        ``hub_compat.ImageModuleInfo``.
      tags: the variant; by default the one that ``load()`` gives, or gave.
      required: raise an error, rather than return None, if there is none.

    Returns:
      A new ``message_type``, or None.

    Raises:
      AttachmentError: there is none although it is required, or its bytes are not a
        ``message_type``.
      VariantError: the module has no such variant.
      HandleError: ``handle`` is neither.
    """
    messages = attached_messages(handle, tags)
    if key not in messages:
        if required:
            raise AttachmentError(
                "The module {!r} has no message attached under that key; it has {}. "
                "Received: {!r}".format(
                    str(handle), ", ".join(map(repr, sorted(messages))) or "none", key
                )
            )
        return None
    message = message_type()
    try:
        message.ParseFromString(messages[key])
    except Exception as error:  # DecodeError; its module differs by version
        raise AttachmentError(
            "The message attached under {!r} is not a {}. Received: {!r}".format(
                key, message_type.__name__, messages[key][:40]
            )
        ) from error
    return message


def attached_messages(
    handle: Any, tags: Optional[Iterable[str]] = None
) -> Dict[str, bytes]:
    """All messages attached to one variant of a module, serialized, by key."""
    place = origin.of(handle)
    if place is not None:
        # The source has all variants, as long as it is there.
        there = files.exists(place.detection.path)
        handle = place.detection.path if there else place.directory
        if tags is None and (there or place.root is not None):
            # Else what was converted is this variant.
            tags = place.tags
    elif not isinstance(handle, (str, os.PathLike)):
        raise HandleError(
            "Expected the directory of a module, or the result of load(). Parts of "
            "it and other objects have no attached messages. Received: {!r}".format(
                handle
            )
        )
    wanted = None if tags is None else tuple(sorted(tags))
    path = resolve(handle)
    with _guard.reading(path, "searched for messages"):
        return _pick(_variants(detect(path)), wanted, str(handle))


def _variants(detection: Detection) -> List[_Variant]:
    path = files.join(detection.path, detection.file)
    if detection.file.endswith(".pb"):
        with files.open_read(path) as file:
            return _read_variants(wire.open_message(file, path))
    # Text and chunked files are rare, and read whole.
    from hub_compat._parsing.full_proto import read_saved_model

    data = read_saved_model(detection).SerializeToString()
    return _read_variants(wire.open_message(data, path))


def _read_variants(saved_model: wire.Message) -> List[_Variant]:
    """Reads SavedModel.meta_graphs (2)."""
    return [
        _read_variant(saved_model.message(field))
        for field in saved_model.fields()
        if field.number == 2
    ]


def _pick(variants: List[_Variant], wanted: Optional[_Tags], handle: str) -> _Messages:
    known: Dict[_Tags, _Messages] = {}
    for variant in variants:
        known.setdefault(variant.tags, {})
        for name, values in variant.collections.items():
            tags = variant.tags
            if name != ATTACHMENTS:
                tags = tuple(name[len(ATTACHMENTS) + 1 :].split(","))
            known.setdefault(tags, {}).update(read_attachments(values))
    if wanted is None:
        wanted = next((t for t in ((), ("serve",)) if t in known), variants[0].tags)
    if wanted not in known:
        raise VariantError(
            "The module {!r} has no such variant; it has {}. Received: tags={}".format(
                handle,
                ", ".join(str(list(tags)) for tags in sorted(known)),
                list(wanted),
            )
        )
    return known[wanted]


def _read_variant(meta_graph: wire.Message) -> _Variant:
    """Reads MetaGraphDef.meta_info_def (1) and .collection_def (4)."""
    tags: List[str] = []
    collections = {}
    for field in meta_graph.fields():
        if field.number == 1:
            info = meta_graph.message(field)
            tags += [info.text(tag) for tag in info.fields() if tag.number == 4]
        elif field.number == 4:
            entry = meta_graph.message(field)
            parts = {part.number: part for part in entry.fields()}
            name = entry.text(parts[1]) if 1 in parts else ""
            if name == ATTACHMENTS or name.startswith(ATTACHMENTS + "/"):
                # A map entry without a value has an empty one.
                collections[name] = (
                    _read_bytes_list(entry.message(parts[2])) if 2 in parts else []
                )
    return _Variant(tuple(sorted(tags)), collections)


def _read_bytes_list(collection: wire.Message) -> List[bytes]:
    """Reads CollectionDef.bytes_list (2), whose values are field 1."""
    values = []
    for kind in collection.fields():
        if kind.number != 2:
            raise CorruptModuleError(
                "The collection {!r} must hold bytes. Received: field {} of "
                "CollectionDef".format(ATTACHMENTS, kind.number)
            )
        items = collection.message(kind)
        values += [items.payload(item) for item in items.fields()]
    return values


def read_attachments(values: Iterable[bytes]) -> _Messages:
    """Reads serialized ModuleAttachments: serialized messages by their keys."""
    return dict(map(_parse_attachment, values))


def _parse_attachment(data: bytes) -> Tuple[str, bytes]:
    message = wire.open_message(data, ATTACHMENTS)
    key, value = "", b""
    for field in message.fields():
        if field.number == 1:
            key = message.text(field)
        elif field.number == 2:
            value = message.payload(field)
    return key, value


def write_attachments(meta_graph: Any, messages: Mapping[str, bytes]) -> None:
    """Attaches serialized messages, by key, to a MetaGraphDef."""
    if messages:
        # Field 1 and field 2 of a ModuleAttachment, each with its length.
        meta_graph.collection_def[ATTACHMENTS].bytes_list.value[:] = [
            b"".join(
                bytes([number << 3 | 2]) + put_varint(len(part)) + part
                for number, part in ((1, key.encode("utf-8")), (2, value))
            )
            for key, value in messages.items()
        ]


def __getattr__(name: str) -> Any:
    # Made when asked for: it needs protobuf, which comes with TensorFlow.
    if name != "ImageModuleInfo":
        raise AttributeError(name)
    globals()[name] = value = _image_module_info()
    return value


def _image_module_info() -> Any:
    """The class ``hub_compat.ImageModuleInfo``.

    The message that TensorFlow Hub attaches to image modules under
    ``image_module_info``: ``default_image_size`` with ``height`` (field 1) and
    ``width`` (field 2), in pixels. It lives in a descriptor pool of its own,
    because tensorflow_hub registers the same file in the default one.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tensorflow_hub/image_module_info.proto",
        package="tensorflow_hub",
        syntax="proto3",
    )
    size = file.message_type.add(name="ImageSize")
    for number, name in enumerate(("height", "width"), start=1):
        size.field.add(
            name=name,
            number=number,
            type=field.TYPE_UINT32,
            label=field.LABEL_OPTIONAL,
        )
    info = file.message_type.add(name="ImageModuleInfo")
    info.field.add(
        name="default_image_size",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow_hub.ImageSize",
        label=field.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("tensorflow_hub.ImageModuleInfo")
    # protobuf < 4.22, which TF 1.15 needs, makes classes with a factory object.
    make = getattr(message_factory, "GetMessageClass", None)
    if make is None:
        make = message_factory.MessageFactory(pool).GetPrototype
    return make(descriptor)
