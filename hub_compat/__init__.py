"""TF1 Hub modules and TF2 SavedModels, in TensorFlow 1.15 to 2.21.

Importing it imports no TensorFlow: the public names are looked up on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

__version__ = "0.1.0"

_HOME = {
    "ConversionReport": "hub_compat.formats",
    "Detection": "hub_compat.formats",
    "Format": "hub_compat.formats",
    "convert": "hub_compat.converters",
    "detect": "hub_compat.detector",
    "errors": "hub_compat",
    "export_reusable": "hub_compat.exporter",
    "get_attached_message": "hub_compat.attachments",
    "ImageModuleInfo": "hub_compat.attachments",
    "KerasLayer": "hub_compat",
    "load": "hub_compat.loader",
    "save": "hub_compat.saver",
    "VerificationReport": "hub_compat.formats",
    "verify": "hub_compat.converters.verify",
}

__all__ = sorted(_HOME)

# What tensorflow_hub has, or once had, and what does it here.
_INSTEAD = {
    "LatestModuleExporter": "save(model, directory)",
    "Module": "load(directory, tags, fill_collections=True)",
    "create_module_spec": "export_reusable(model, directory)",
    "create_module_spec_from_saved_model": "load(directory)",
    "get_expected_image_size": "get_attached_message(directory, "
    "'image_module_info', ImageModuleInfo)",
    "image_embedding_column": "KerasLayer(directory)",
    "load_module_spec": "detect(directory)",
    "resolve": "load(directory), of a module that is downloaded and unpacked",
    "sparse_text_embedding_column": "KerasLayer(directory)",
    "text_embedding_column": "KerasLayer(directory)",
    "text_embedding_column_v2": "KerasLayer(directory)",
}

if TYPE_CHECKING:
    from hub_compat import errors as errors
    from hub_compat.formats import Detection as Detection
    from hub_compat.formats import Format as Format


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        instead = _INSTEAD.get(name)
        advice = "; in place of tensorflow_hub's there is {}".format(instead)
        raise AttributeError(
            "module 'hub_compat' has no attribute {!r}{}".format(
                name, advice if instead else ""
            )
        )
    if name == "errors":
        return importlib.import_module("hub_compat.errors")
    home = _HOME[name]
    if name == "KerasLayer":
        # The class for what tf.keras is in this program.
        from hub_compat._tf_keras import keras_generation

        home = "hub_compat.keras{}".format(keras_generation())
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted(set(globals()) | set(__all__))
