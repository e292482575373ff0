"""TF1 Hub modules and TF2 SavedModels, in TensorFlow 1.15 to 2.21.

Importing it imports no TensorFlow: the public names are looked up on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

from hub_compat._handles.settings import define_flags as _define_flags
from hub_compat._registration import register as _register

__version__ = "0.1.0"

_HOME = {
    "add_signature": "hub_compat.module_fn",
    "attach_image_module_info": "hub_compat.image_util",
    "attach_message": "hub_compat.module_fn",
    "ConversionReport": "hub_compat.formats",
    "convert": "hub_compat.converters",
    "create_module_spec": "hub_compat.module_fn",
    "create_module_spec_from_saved_model": "hub_compat.module_spec",
    "detect": "hub_compat.detector",
    "Detection": "hub_compat.formats",
    "errors": "hub_compat",
    "eval_function_for_module": "hub_compat.module",
    "export_reusable": "hub_compat.exporter",
    "Format": "hub_compat.formats",
    "get_attached_message": "hub_compat.attachments",
    "get_expected_image_size": "hub_compat.image_util",
    "get_num_image_channels": "hub_compat.image_util",
    "image_embedding_column": "hub_compat.feature_column",
    "ImageModuleInfo": "hub_compat.attachments",
    "KerasLayer": "hub_compat",
    "LatestModuleExporter": "hub_compat.estimator",
    "load": "hub_compat.loader",
    "load_module_spec": "hub_compat.module_spec",
    "Module": "hub_compat.module",
    "ModuleSpec": "hub_compat.module_spec",
    "register_module_for_export": "hub_compat.estimator",
    "register_resolver": "hub_compat._handles.resolving",
    "resolve": "hub_compat._handles.resolving",
    "save": "hub_compat.saver",
    "sparse_text_embedding_column": "hub_compat.feature_column",
    "text_embedding_column": "hub_compat.feature_column",
    "text_embedding_column_v2": "hub_compat.feature_column",
    "VerificationReport": "hub_compat.formats",
    "verify": "hub_compat.converters.verify",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from hub_compat import errors as errors
    from hub_compat._handles.resolving import register_resolver as register_resolver
    from hub_compat._handles.resolving import resolve as resolve
    from hub_compat.attachments import ImageModuleInfo as ImageModuleInfo
    from hub_compat.attachments import get_attached_message as get_attached_message
    from hub_compat.converters import convert as convert
    from hub_compat.converters.verify import verify as verify
    from hub_compat.detector import detect as detect
    from hub_compat.estimator import LatestModuleExporter as LatestModuleExporter
    from hub_compat.estimator import (
        register_module_for_export as register_module_for_export,
    )
    from hub_compat.exporter import export_reusable as export_reusable
    from hub_compat.feature_column import (
        image_embedding_column as image_embedding_column,
    )
    from hub_compat.feature_column import (
        sparse_text_embedding_column as sparse_text_embedding_column,
    )
    from hub_compat.feature_column import text_embedding_column as text_embedding_column
    from hub_compat.feature_column import (
        text_embedding_column_v2 as text_embedding_column_v2,
    )
    from hub_compat.formats import ConversionReport as ConversionReport
    from hub_compat.formats import Detection as Detection
    from hub_compat.formats import Format as Format
    from hub_compat.formats import VerificationReport as VerificationReport
    from hub_compat.image_util import (
        attach_image_module_info as attach_image_module_info,
    )
    from hub_compat.image_util import get_expected_image_size as get_expected_image_size
    from hub_compat.image_util import get_num_image_channels as get_num_image_channels

    # Or that of keras2, whose interface is the same.
    from hub_compat.keras3 import KerasLayer as KerasLayer
    from hub_compat.loader import load as load
    from hub_compat.module import Module as Module
    from hub_compat.module import eval_function_for_module as eval_function_for_module
    from hub_compat.module_fn import add_signature as add_signature
    from hub_compat.module_fn import attach_message as attach_message
    from hub_compat.module_fn import create_module_spec as create_module_spec
    from hub_compat.module_spec import ModuleSpec as ModuleSpec
    from hub_compat.module_spec import (
        create_module_spec_from_saved_model as create_module_spec_from_saved_model,
    )
    from hub_compat.module_spec import load_module_spec as load_module_spec
    from hub_compat.saver import save as save
else:
    # A type checker must not see it: each name would be there, of any type.
    def __getattr__(name: str) -> Any:
        # Each time: what KerasLayer is depends on what the program has imported.
        if name in ("errors", "keras2", "keras3"):
            value: Any = importlib.import_module("hub_compat." + name)
        elif name == "KerasLayer":
            from hub_compat._tf.keras import keras_generation

            home = "hub_compat.keras{}".format(keras_generation())
            value = importlib.import_module(home).KerasLayer
        elif name in _HOME:
            value = getattr(importlib.import_module(_HOME[name]), name)
        else:
            raise AttributeError(
                "module 'hub_compat' has no attribute {!r}".format(name)
            )
        _register()
        return value


def __dir__() -> List[str]:
    return sorted(set(globals()) | set(__all__) | {"keras2", "keras3"})


_register()
_define_flags()
