"""Arguments of functions, as objects state them, in the terms of an older loader.

What a StructuredValue has of a kind that the loader does not know ends in its
NotEncodableError. Default values that are tensors or arrays become the numbers in
them, which a call makes a tensor of again; bounds of a TensorSpec say nothing of calls.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from hub_compat._parsing.varint import varint
from hub_compat._tf import struct_pb2, tensor_pb2

from ..ir.constants import array_of
from ..opdata.targets import Registry

__all__ = ["lower_specs", "loses_keywords", "make_positional", "newer_specs"]

# Kinds by their number in StructuredValue; protos of an older TensorFlow lack them.
_BOUNDED, _TENSOR, _ARRAY = 35, 55, 56
# The TensorFlow that first knows the kind. Tried are 2.12, which does not know tensors,
# and 2.14, which does.
_FIRST = {_BOUNDED: (2, 2), _TENSOR: (2, 14), _ARRAY: (2, 14)}


def newer_specs(objects: Any, registry: Registry) -> bool:
    """Whether a loader would stop at some argument."""
    if registry.version >= max(_FIRST.values()):
        return False
    return any(
        _kind(value)[0] in _unknown(registry)
        for stated in _stated(objects)
        for value in _all_in(stated)
    )


# A StructuredValue has one field set, by its kind. An older loader does not know the
# newer kinds, and stops. For each there is an older kind that says nearly the same:
#
#     BoundedTensorSpec    the TensorSpec that it extends: its first fields
#     a tensor, as default its numbers in nested lists; None where lists cannot say it
def lower_specs(objects: Any, registry: Registry, done: Dict[str, int]) -> None:
    """Replaces what a loader would stop at."""
    if registry.version >= max(_FIRST.values()):
        return
    unknown = _unknown(registry)
    for stated in _stated(objects):
        for value in list(_all_in(stated)):
            number, data = _kind(value)
            if number not in unknown:
                continue
            if number == _BOUNDED:
                value.Clear()
                # The first fields are those of a TensorSpec.
                spec = struct_pb2.TensorSpecProto.FromString(data)
                value.tensor_spec_value.name = spec.name
                value.tensor_spec_value.dtype = spec.dtype
                value.tensor_spec_value.shape.CopyFrom(spec.shape)
                done["a TensorSpec states no bounds"] += 1
                continue
            value.CopyFrom(_default(data) or _nothing())
            done["a default value is numbers"] += 1


def _default(data: bytes) -> Optional[Any]:
    try:
        array = array_of(tensor_pb2.TensorProto.FromString(data))
    except TypeError:
        # Of a dtype that TF 1.15 does not give to NumPy.
        return None
    return _numbers(array)


def _unknown(registry: Registry) -> Any:
    return {kind for kind, first in _FIRST.items() if registry.version < first}


def _stated(objects: Any) -> Iterator[Any]:
    """The StructuredValues of an object graph that are about arguments."""
    for node in objects.nodes:
        kind = node.WhichOneof("kind")
        if kind not in ("function", "bare_concrete_function"):
            continue
        # TF < 2.4 does not know that of the second.
        spec = getattr(getattr(node, kind), "function_spec", None)
        if spec is not None:
            yield spec.fullargspec
            yield spec.input_signature
    for concrete in objects.concrete_functions.values():
        yield concrete.canonicalized_input_signature


def _all_in(value: Any) -> Iterator[Any]:
    """A StructuredValue, and all that are in it."""
    yield value
    kind = value.WhichOneof("kind")
    if kind in ("list_value", "tuple_value"):
        inner = list(getattr(value, kind).values)
    elif kind == "dict_value":
        inner = list(value.dict_value.fields.values())
    elif kind == "named_tuple_value":
        inner = [pair.value for pair in value.named_tuple_value.values]
    else:
        return
    for each in inner:
        yield from _all_in(each)


# A field that the protos of this TensorFlow lack is told by its number in the bytes.
def _kind(value: Any) -> Tuple[int, bytes]:
    """The number of the field that is set, and what it holds, if that is a message."""
    kind = value.WhichOneof("kind")
    if kind is not None:
        number = value.DESCRIPTOR.fields_by_name[kind].number
        if number not in _FIRST:
            return number, b""
        return number, getattr(value, kind).SerializeToString()
    data = value.SerializeToString()
    return _field(data) if data else (0, b"")


def _field(data: bytes) -> Tuple[int, bytes]:
    """The number and the payload of the one field of a message, which is a message."""
    key, start = varint(data, 0)
    if key & 7 != 2:
        return 0, b""
    size, start = varint(data, start)
    return key >> 3, data[start : start + size]


def _nothing() -> Any:
    """For what numbers cannot say: a call without the argument finds no trace."""
    value = struct_pb2.StructuredValue()
    value.none_value.SetInParent()
    return value


def _numbers(array: Any) -> Optional[Any]:
    """Nested lists of what an array holds; None where no list means the same."""
    value = struct_pb2.StructuredValue()
    if array.ndim:
        if 0 in array.shape[:-1]:
            return None
        inner = [_numbers(np.asarray(each)) for each in array]
        if any(each is None for each in inner):
            return None
        value.list_value.SetInParent()
        value.list_value.values.extend(inner)
        return value
    item = array.item()
    if isinstance(item, bool):
        value.bool_value = item
    elif isinstance(item, int) and -(2**63) <= item < 2**63:
        value.int64_value = item
    elif isinstance(item, bytes):
        try:
            value.string_value = item.decode()
        except UnicodeDecodeError:
            return None
    elif array.dtype.kind in "fV":
        value.float64_value = float(array)
    else:
        return None
    return value


def loses_keywords(node: Any, objects: Any) -> bool:
    """Whether a function has keywords whose default values TF 1.15 would leave out."""
    return bool(_keywords(node)) and bool(_traces(node, objects))


def make_positional(node: Any, objects: Any) -> None:
    """Makes arguments of a function that go by keyword alone the last of all.

    TF 1.15 adds the default values of other arguments, and takes any by keyword.
    """
    names, traces = _keywords(node), _traces(node, objects)
    specs = [node.function.function_spec]
    specs += [bare.function_spec for bare in _bare_of(node, names, objects)]
    for spec in specs:
        _place_last(spec, names)
    for canonical in traces:
        given, keywords = canonical.tuple_value.values
        for name in names:
            given.tuple_value.values.add().CopyFrom(keywords.dict_value.fields[name])
        keywords.dict_value.fields.clear()
        keywords.dict_value.SetInParent()


def _place_last(function_spec: Any, names: Tuple[str, ...]) -> None:
    """Makes the arguments by keyword alone of one FunctionSpec the last of all."""
    spec = _fields(function_spec.fullargspec)
    defaults = spec["kwonlydefaults"].dict_value.fields
    stated = spec["kwonlydefaults"].WhichOneof("kind") == "dict_value"
    if stated and spec["defaults"].WhichOneof("kind") != "tuple_value":
        spec["defaults"].tuple_value.SetInParent()
    for name in names:
        spec["args"].list_value.values.add().string_value = name
        if stated:
            default = defaults[name] if name in defaults else _nothing()
            spec["defaults"].tuple_value.values.add().CopyFrom(default)
    del spec["kwonlyargs"].list_value.values[:]
    if stated:
        defaults.clear()


def _bare_of(node: Any, names: Tuple[str, ...], objects: Any) -> Iterator[Any]:
    """The traces of a function that are objects of their own, with the same arguments.

    TF < 2.4 does not know that they state any.
    """
    for other in objects.nodes:
        if other.WhichOneof("kind") != "bare_concrete_function":
            continue
        bare = other.bare_concrete_function
        if bare.concrete_function_name not in node.function.concrete_functions:
            continue
        spec = getattr(bare, "function_spec", None)
        stated = {} if spec is None else _fields(spec.fullargspec)
        if "kwonlyargs" not in stated:
            continue
        keywords = stated["kwonlyargs"].list_value.values
        if list(names) == sorted(keyword.string_value for keyword in keywords):
            yield bare


def _fields(fullargspec: Any) -> Dict[str, Any]:
    return {pair.key: pair.value for pair in fullargspec.named_tuple_value.values}


def _keywords(node: Any) -> Tuple[str, ...]:
    """Names of the arguments by keyword alone, in the order of their tensors.

    None where none has a default value, or there is more behind the arguments.
    """
    if node.WhichOneof("kind") != "function":
        return ()
    spec = _fields(node.function.function_spec.fullargspec)
    if not {"args", "varargs", "defaults", "kwonlyargs", "kwonlydefaults"} <= set(spec):
        return ()
    if spec["varargs"].WhichOneof("kind") == "string_value":
        return ()
    if not spec["kwonlydefaults"].dict_value.fields:
        return ()
    return tuple(sorted(v.string_value for v in spec["kwonlyargs"].list_value.values))


def _traces(node: Any, objects: Any) -> Any:
    """The keywords of a function's traces, if each takes the same ones."""
    names = list(_keywords(node))
    found: List[Any] = []
    for name in node.function.concrete_functions:
        canonical = objects.concrete_functions[name].canonicalized_input_signature
        if len(canonical.tuple_value.values) != 2:
            return []
        if sorted(canonical.tuple_value.values[1].dict_value.fields) != names:
            return []
        # Two objects may have the same function.
        if not any(canonical is each for each in found):
            found.append(canonical)
    return found
