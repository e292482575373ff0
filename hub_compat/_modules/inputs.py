"""The inputs and outputs of a call of a module."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from hub_compat._tf import tf
from hub_compat._tf.structures import type_spec_of
from hub_compat.errors import FormatError, InputError

from .tensor_info import ParsedTensorInfo

__all__ = ["check_types", "choose_outputs", "convert", "convert_all", "name_inputs"]


def check_types(infos: Mapping[str, ParsedTensorInfo], name: str, kind: str) -> None:
    """Refuses a signature with values of types that modules do not take or give.

    Args:
      infos: its inputs, or its outputs.
      name: the signature.
      kind: ``"input"`` or ``"output"``.

    Raises:
      FormatError: it has such a type.
    """
    for key, info in sorted(infos.items()):
        if not info.is_supported_type:
            raise FormatError(
                "Signature {!r} expects a {} for {} {!r}, which is not supported by "
                "this version of tensorflow_hub's interface: tensors, sparse tensors "
                "and ragged tensors are. Received: {}".format(
                    name,
                    info.type_spec.value_type.__name__,
                    kind,
                    key,
                    info.type_spec,
                )
            )


def name_inputs(inputs: Any, known: Mapping[str, Any]) -> Dict[str, Any]:
    """The inputs of a call by their names.

    Args:
      inputs: a dict, the value of the only input, or None.
      known: the inputs of the signature, by name.

    Raises:
      InputError: they are not those of the signature.
    """
    if inputs is None:
        named: Dict[str, Any] = {}
    elif isinstance(inputs, dict):
        named = inputs
    elif len(known) == 1:
        named = dict.fromkeys(known, inputs)
    elif not known:
        raise InputError("Signature expects no inputs. Received: {!r}".format(inputs))
    else:
        raise InputError(
            "Signature expects multiple inputs. Use a dict. Its keys are {}. Received: "
            "a value of type {}".format(sorted(known), type(inputs).__name__)
        )
    if set(named) != set(known):
        raise InputError(
            "Cannot convert dict_inputs: missing {!r}, extra given {!r}. Received: "
            "{!r}".format(
                sorted(set(known) - set(named)),
                sorted(set(named) - set(known), key=str),
                sorted(named, key=str),
            )
        )
    return named


def convert_all(inputs: Any, infos: Mapping[str, ParsedTensorInfo]) -> Dict[str, Any]:
    """The inputs of a call as tensors, by their names.

    Raises:
      InputError: they are not those of the signature, or of other types or shapes.
    """
    named = name_inputs(inputs, infos)
    return {
        key: convert(value, infos[key], "Can't convert {!r}".format(key))
        for key, value in sorted(named.items())
    }


def convert(value: Any, info: ParsedTensorInfo, what: str) -> Any:
    """A value as a tensor or a composite tensor of a signature.

    Args:
      value: what ``tf.convert_to_tensor()`` takes, or a composite tensor.
      info: what the signature expects.
      what: begins the message of an error.

    Raises:
      InputError: it is of another dtype, shape or type.
    """
    spec = type_spec_of(value)
    is_variable = isinstance(value, tf.Variable)
    if spec is None or is_variable or isinstance(value, tf.Tensor):
        try:
            value = tf.compat.v1.convert_to_tensor_or_indexed_slices(value, info.dtype)
        except (TypeError, ValueError) as error:
            raise InputError("{}: {}".format(what, error)) from error
        spec = type_spec_of(value)
        if isinstance(value, tf.Tensor):
            spec = tf.TensorSpec(value.shape, value.dtype.base_dtype)
    found = ParsedTensorInfo(spec)
    if not found.is_supported_type:
        raise InputError(
            "{}: Passed argument of type {}, which is not supported by this version of "
            "tensorflow_hub's interface. Pass a tensor, a sparse tensor or a ragged "
            "tensor. Received: {!r}".format(what, spec.value_type.__name__, value)
        )
    wanted = info.type_spec
    if not spec.is_compatible_with(wanted):
        got, expected = str(spec), str(wanted)
        if spec.value_type != wanted.value_type:
            got, expected = spec.value_type.__name__, wanted.value_type.__name__
        raise InputError("{}: Got {}. Expected {}.".format(what, got, expected))
    return value


def choose_outputs(outputs: Dict[str, Any], as_dict: Any) -> Any:
    """All outputs of a call, or the one that is called ``default``.

    Raises:
      InputError: there is none of that name.
    """
    if as_dict:
        return outputs
    if "default" not in outputs:
        raise InputError(
            "There is no output named 'default'. Use as_dict=True. Received: as_dict="
            "{!r}, for outputs {}".format(as_dict, sorted(outputs))
        )
    return outputs["default"]
