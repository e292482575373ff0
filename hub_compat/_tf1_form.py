"""The TF1 Hub form of any model, for code that imports MetaGraphs."""

from __future__ import annotations

from hub_compat import cache, converters
from hub_compat._loaded import restore
from hub_compat.formats import Detection, Format

__all__ = ["tf1_form"]


def tf1_form(detection: Detection) -> str:
    """The directory of a TF1 Hub module that does what a model does.

    A TF1 Hub module is its own. Another model is converted once, into the cache; the
    result is the same in every TensorFlow.

    Args:
      detection: what ``detect()`` says of the model.

    Raises:
      ConversionError, CorruptModuleError: the model cannot be converted.
    """
    if detection.format is Format.TF1_HUB_MODULE:
        return detection.path
    from hub_compat.converters import dispatch

    return cache.normalised(
        detection.path,
        (converters.VERSION, "tf1-hub"),
        lambda directory: dispatch.as_hub_module(detection, directory),
        restore.is_whole,
    )
