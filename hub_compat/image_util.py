"""The size of images that a module takes, and the message that says so."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from hub_compat import _guard, attachments
from hub_compat._handles.resolving import resolve
from hub_compat._loaded import origin
from hub_compat._modules.tensor_info import parse
from hub_compat._parsing.full_proto import read_saved_model
from hub_compat._parsing.known_names import INTERNAL_SIGNATURES
from hub_compat._tf import tf
from hub_compat.detector import detect
from hub_compat.errors import InputError, SignatureError
from hub_compat.module_fn import attach_message
from hub_compat.module_spec import load_module_spec

__all__ = [
    "attach_image_module_info",
    "get_expected_image_size",
    "get_image_module_info",
    "get_num_image_channels",
]

_KEY = "image_module_info"
_INPUT = "images"
_SIGNATURES = ("default", "serving_default")


def attach_image_module_info(image_module_info: Any) -> None:
    """Attaches the size of images to the module that a ``module_fn`` builds.

    Args:
      image_module_info: an ``ImageModuleInfo``, with ``default_image_size``.

    Raises:
      AttachmentError: it is no protocol buffer.
      ModuleFnError: it is called outside of a ``module_fn``.
    """
    attach_message(_KEY, image_module_info)


def get_image_module_info(module_or_spec: Any, required: bool = False) -> Any:
    """Returns the ``ImageModuleInfo`` that is attached to a module, or None.

    Args:
      module_or_spec: a ``Module``, a ``ModuleSpec``, the result of ``load()``, or the
        directory of a model.
      required: raise an error, rather than return None, if there is none.

    Raises:
      AttachmentError: there is none although it is required.
    """
    info = attachments.ImageModuleInfo
    if hasattr(module_or_spec, "get_attached_message"):
        return module_or_spec.get_attached_message(_KEY, info, required=required)
    if not isinstance(module_or_spec, (str, os.PathLike)) and (
        origin.of(module_or_spec) is None
    ):
        if not required:
            # Such as an object of tf.saved_model.load(): it shows none.
            return None
    return attachments.get_attached_message(
        module_or_spec, _KEY, info, required=required
    )


def get_expected_image_size(
    module_or_spec: Any,
    signature: Optional[str] = None,
    input_name: Optional[str] = None,
) -> List[int]:
    """Returns the height and the width of the images that a module takes.

    An attached ``ImageModuleInfo`` counts more than the shape of the input.

    Args:
      module_or_spec: a ``Module``, a ``ModuleSpec``, the result of ``load()``, or the
        directory of a model.
      signature: the name of the signature; by default the one that calls use.
      input_name: the input, of shape ``[batch, height, width, channels]``; by default
        ``"images"``. Of a directory or a loaded object, the only one of that rank.

    Returns:
      ``[height, width]``, in pixels.

    Raises:
      InputError: there is no such input, or its size is not known.
      SignatureError: there is no such signature.
    """
    info = get_image_module_info(module_or_spec)
    if info is not None:
        size = info.default_image_size
        if size.height and size.width:
            return [size.height, size.width]
    _, height, width, _ = _image_shape(module_or_spec, signature, input_name)
    if not height or not width:
        raise _unknown("height and width", module_or_spec, signature, input_name)
    return [height, width]


def get_num_image_channels(
    module_or_spec: Any,
    signature: Optional[str] = None,
    input_name: Optional[str] = None,
) -> int:
    """Returns the number of channels of the images that a module takes.

    Args:
      module_or_spec: as for ``get_expected_image_size()``.
      signature: as for ``get_expected_image_size()``.
      input_name: as for ``get_expected_image_size()``.

    Raises:
      InputError: there is no such input, or the number is not known.
      SignatureError: there is no such signature.
    """
    channels = _image_shape(module_or_spec, signature, input_name)[3]
    if channels is None:
        raise _unknown("num_channels", module_or_spec, signature, input_name)
    return channels


def _image_shape(
    model: Any, signature: Optional[str], input_name: Optional[str]
) -> List[Optional[int]]:
    shape = _shape(model, signature, input_name)
    if shape.ndims != 4:
        raise _unknown("4 dimensions", model, signature, input_name)
    dims: List[Optional[int]] = shape.as_list()
    return dims


def _unknown(
    what: str, model: Any, signature: Optional[str], input_name: Optional[str]
) -> InputError:
    return InputError(
        "Shape of module input: expected [batch_size, height, width, num_channels] "
        "with known {}. Received: {}".format(what, _shape(model, signature, input_name))
    )


def _shape(model: Any, signature: Optional[str], input_name: Optional[str]) -> Any:
    """The ``tf.TensorShape`` of the input."""
    if hasattr(model, "get_input_info_dict"):
        infos = model.get_input_info_dict(signature)
        shapes = {name: info.get_shape() for name, info in infos.items()}
        chosen = input_name or _INPUT
    else:
        shapes = _shapes_of_model(model, signature)
        images = [name for name, shape in shapes.items() if shape.ndims == 4]
        only = images[0] if len(images) == 1 else _INPUT
        chosen = input_name or (_INPUT if _INPUT in shapes else only)
    if chosen not in shapes:
        raise InputError(
            "The module is missing the input in its signature {!r}, which has {}. Give "
            "signature= and input_name=. Received: input_name={!r}".format(
                signature or "default",
                ", ".join(map(repr, sorted(shapes))) or "no inputs",
                chosen,
            )
        )
    return shapes[chosen]


def _shapes_of_model(model: Any, signature: Optional[str]) -> Dict[str, Any]:
    """The shapes of the inputs of a directory or a loaded object, by name."""
    if isinstance(model, (str, os.PathLike)):
        return _shapes_of_directory(model, signature)
    # A KerasLayer has loaded one.
    model = getattr(model, "resolved_object", model)
    signatures = getattr(model, "signatures", None)
    if signatures is None:
        raise InputError(
            "Expected a Module, a ModuleSpec, the result of load(), or the directory "
            "of a model. Received: {!r}".format(model)
        )
    name = _pick(signature, list(signatures))
    args, keywords = signatures[name].structured_input_signature
    specs = dict(keywords)
    specs.update({spec.name: spec for spec in args})
    return {key: tf.TensorShape(spec.shape) for key, spec in specs.items()}


def _shapes_of_directory(handle: Any, signature: Optional[str]) -> Dict[str, Any]:
    directory = resolve(handle)
    with _guard.reading(directory, "read"):
        detection = detect(directory)
        if detection.format.is_tf2:
            # Its signatures are in the file; there is no need to convert it.
            (meta_graph,) = read_saved_model(detection).meta_graphs
            defined = meta_graph.signature_def
            inputs = parse(defined[_pick(signature, list(defined))].inputs)
        else:
            inputs = load_module_spec(directory).get_input_info_dict(signature)
    return {key: info.get_shape() for key, info in inputs.items()}


def _pick(signature: Optional[str], names: List[str]) -> str:
    known = [name for name in names if not name.startswith(INTERNAL_SIGNATURES)]
    if signature is None:
        wanted = next((name for name in _SIGNATURES if name in known), None)
        signature = wanted or (known[0] if len(known) == 1 else "default")
    if signature not in known:
        raise SignatureError(
            "The model has no such signature; it has {}. Received: "
            "signature={!r}".format(
                ", ".join(map(repr, sorted(known))) or "none", signature
            )
        )
    return signature
