"""From the format of a source to the conversion that knows it."""

from __future__ import annotations

import dataclasses
from typing import Optional, Tuple

from hub_compat._io import files, links
from hub_compat._tf.runtime import is_newer
from hub_compat.detector import detect
from hub_compat.errors import FormatError
from hub_compat.formats import Detection, Format

from . import tf1_model
from .checkpoint.shards import BORROW
from .lowering import lower_directory, lower_saved_model
from .opdata import op_defs, targets
from .opdata.targets import Registry
from .request import HUB, SERVED, ConversionRequest, ConversionResult, Tags
from .tf1_hub import write_tf1_form
from .trial_loading import NothingLoads, find_exclusions, refusal

__all__ = [
    "as_hub_module",
    "check_convertible",
    "for_load",
    "for_save",
    "make_loadable",
    "run",
    "run_without_refused",
]

_TF1 = (Format.TF1_HUB_MODULE, Format.TF1_SAVED_MODEL)


# From and to, with the steps between:
#
#     TF1   -> TF2 SavedModel          convert_tf1_model
#     TF1   -> that of an older TF     convert_tf1_model, then lower
#     TF2   -> that of an older TF     lower_saved_model
#     TF2   -> TF1 form                write_tf1_form
#     TF1   -> the other TF1 form      convert_tf1_model, then write_tf1_form
def run(request: ConversionRequest) -> ConversionResult:
    """Converts, into an empty directory.

    Raises:
      FormatError: the format is not converted.
      ConversionError, CorruptModuleError: the source cannot be.
    """
    check_convertible(request.detection, request.registry, request.form, request.slim)
    if request.form is not None:
        return _run_backwards(request)
    if request.detection.format.is_tf2:
        return lower_saved_model(request)
    result = tf1_model.convert_tf1_model(request)
    if request.registry is None:
        return result
    return _lower(request.detection, request.directory, request.registry, result)


def _run_backwards(request: ConversionRequest) -> ConversionResult:
    """Converts into a format of TF1."""
    if request.detection.format.is_tf2:
        return write_tf1_form(request)
    between = files.join(request.directory, "reusable")
    files.make_dirs(between)
    first = dataclasses.replace(request, form=None, directory=between)
    converted = tf1_model.convert_tf1_model(first)
    second = dataclasses.replace(request, detection=detect(between))
    result = write_tf1_form(second)
    files.remove_tree(between)
    return dataclasses.replace(
        result,
        unused_keys=converted.unused_keys,
        bytes_copied=result.bytes_copied + converted.bytes_copied,
        weight_bytes_read=result.weight_bytes_read + converted.weight_bytes_read,
        warnings=converted.warnings
        + tuple(w for w in result.warnings if w not in converted.warnings),
    )


# What is in each already.
_OWN = {HUB: Format.TF1_HUB_MODULE, SERVED: Format.TF1_SAVED_MODEL}


def check_convertible(
    detection: Detection,
    registry: Optional[Registry],
    form: Optional[str] = None,
    slim: bool = False,
) -> None:
    """Refuses a format that is not converted.

    Args:
      detection: the source.
      registry: what the target knows; None without one.
      form: the format of TF1 that is wanted; None for a TF2 SavedModel.
      slim: whether what only Keras' own loader needs is to be left out.

    Raises:
      FormatError: it is refused.
    """
    if slim and (form is not None or not detection.format.is_tf2):
        raise FormatError(
            "slim=True leaves something out of a TF2 SavedModel, and the result is one "
            "too. What comes from TF1, or goes there, has nothing of the kind. Convert "
            "without it. Received: {!r}, which is a {}".format(
                detection.path, detection.format.value
            )
        )
    if form is not None and detection.format is _OWN[form]:
        raise FormatError(
            "The model is in the format of target={!r} already, and needs no "
            "conversion: copy the directory. Received: {!r}".format(
                form, detection.path
            )
        )
    if detection.format in _TF1:
        return
    if detection.format.is_tf2:
        if form is not None:
            return
        # No loader of TensorFlow's reads chunks; they are written as one file.
        if slim or registry is not None or detection.file.endswith(".cpb"):
            return
        raise FormatError(
            "The module is already a TF2 SavedModel, and needs no conversion. Load "
            "it with hub_compat.load(), or name an older TensorFlow: "
            "target='tf1.15'. Of a model of Keras 2, slim=True makes one that loads "
            "faster. Received: {!r}".format(detection.path)
        )
    raise FormatError(
        "This version converts {}; the module's format is {}. Received: {!r}".format(
            ", ".join(each.value for each in _TF1),
            detection.format.value,
            detection.path,
        )
    )


def make_loadable(
    request: ConversionRequest, result: ConversionResult
) -> ConversionResult:
    """Converts again, if TensorFlow refuses the result, without what it refuses."""
    if request.form is not None or request.detection.format.is_tf2:
        return result
    if refusal(request.directory) is None:
        return result
    return run_without_refused(request) or result


# The directory is emptied only once it is known that the second attempt helps.
def run_without_refused(request: ConversionRequest) -> Optional[ConversionResult]:
    """Converts again, without the signatures that keep the others from loading.

    Returns:
      None, with the directory as it was, where that does not help.
    """
    exclusions = find_exclusions(request, run)
    if exclusions is None:
        return None
    files.remove_tree(request.directory)
    files.make_dirs(request.directory)
    return run(dataclasses.replace(request, exclusions=exclusions))


def as_hub_module(detection: Detection, directory: str) -> None:
    """Writes a TF2 SavedModel as a TF1 Hub module into an empty directory."""
    run(ConversionRequest(detection, directory, links=links.FILES, form=HUB))


def for_load(
    detection: Detection,
    directory: str,
    tags: Optional[Tags] = None,
    weights: bool = True,
    available_ops: Tuple[str, ...] = (),
    registry: Optional[Registry] = None,
    what_loads: bool = False,
) -> None:
    """Converts no more than one variant, for a loader, into an empty directory.

    Args:
      detection: the module.
      directory: where the result goes.
      tags: the variant; None for the one that ``load()`` gives by default.
      weights: False for a checkpoint without values.
      available_ops: what ``op_defs.available`` says of the loader.
      registry: what the loader's TensorFlow knows; None where it is not older than
        the one that wrote the module.
      what_loads: leave out the signatures that keep the others from loading.

    Raises:
      NothingLoads: that does not help.
    """
    request = ConversionRequest(
        detection,
        directory,
        links=links.FILES,
        registry=registry,
        available_ops=available_ops,
        weights=weights,
        tags=tags,
        # Half the functions load in two thirds of the time.
        whole=False,
    )
    if what_loads:
        exclusions = find_exclusions(request, run)
        if exclusions is None:
            raise NothingLoads(
                "TensorFlow does not load any choice of the module's signatures. "
                "Received: {!r}".format(detection.path)
            )
        request = dataclasses.replace(request, exclusions=exclusions)
    run(request)


def for_save(
    detection: Detection, directory: str, excluded: bool, followed: str
) -> None:
    """Converts all of a module into an empty directory, for its weights to be replaced.

    Args:
      detection: the module.
      directory: where the result goes.
      excluded: whether some signatures keep the others from loading.
      followed: what becomes of links out of the module, see ``_io/links.py``.
    """
    is_tf2 = detection.format.is_tf2
    request = ConversionRequest(
        detection,
        directory,
        link=BORROW,
        links=followed,
        registry=targets.of_runtime()
        if is_tf2 or is_newer(detection.producer)
        else None,
        available_ops=tuple(op_defs.available()),
    )
    if excluded:
        exclusions = find_exclusions(request, run)
        request = dataclasses.replace(request, exclusions=exclusions)
    run(request)


def _lower(
    detection: Detection,
    directory: str,
    registry: Registry,
    result: ConversionResult,
) -> ConversionResult:
    """Lowers a converted TF1 model, if a newer TensorFlow wrote it."""
    release = "{}.{}".format(*registry.version)
    if not detection.producer.is_newer_than(release, registry.graph_def_version):
        return result
    lowered = lower_directory(directory, registry)
    return dataclasses.replace(
        result,
        nodes=lowered.nodes,
        lowered=lowered.lines(),
        warnings=result.warnings + lowered.warnings(),
    )
