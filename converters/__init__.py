"""The compiler: any format of module to a Reusable TF2 SavedModel.

``convert()`` is a table from the source's format to the function that knows
it; everything else is in the files beside this one.
"""

from __future__ import annotations

import functools
import os
import time
from typing import Any, Callable, Collection, Dict, Optional, Tuple, TypeVar

from hub_compat import _guard, _preflight
from hub_compat._collector import collector_paused
from hub_compat._handles.resolving import resolve
from hub_compat._io import files
from hub_compat._io import links as _links
from hub_compat._io.fingerprint import fingerprint_of, is_unchanged, source_files
from hub_compat._io.publish import atomic_directory, resolved
from hub_compat.detector import detect
from hub_compat.errors import (
    CorruptModuleError,
    DestinationError,
    FormatError,
    HandleError,
    VerificationError,
)
from hub_compat.formats import ConversionReport, Detection, Format
from hub_compat.provenance import CONVERTER_VERSION as VERSION

from .checkpoint.shards import BORROW, LINK_MODES

__all__ = [
    "VERSION",
    "convert",
    "convert_for_load",
    "convert_for_save",
    "lower_for_load",
    "lower_for_save",
]

# How often to begin anew where the source changes meanwhile.
_ATTEMPTS = 5
# Seconds between the first two.
_PAUSE = 0.05

_T = TypeVar("_T")


def convert(
    source: Any,
    destination: Any,
    *,
    overwrite: bool = False,
    link: str = "auto",
    verify: bool = False,
    tolerance: Optional[float] = None,
    target: Optional[str] = None,
    follow_links: bool = False,
) -> ConversionReport:
    """Converts a module into a Reusable TF2 SavedModel, or for an older TensorFlow.

    Without ``target`` the result loads in TensorFlow 1.15 to 2.21, with
    ``tf.saved_model.load``, with ``tf.compat.v1.saved_model.load`` and with
    TensorFlow Hub, unless a newer TensorFlow than 1.15 wrote the source. No weights
    are read: the new checkpoint is a new index over the old shards.

    Args:
      source: directory of a TF1 Hub module or a TF1 SavedModel, and with
        ``target`` of a TF2 SavedModel; a string or ``os.PathLike``.
      destination: directory to write. It appears whole or not at all.
      overwrite: replace a destination that exists.
      link: how the checkpoint shards get there: ``"hard"`` links, ``"copy"``, or
        ``"auto"``, hard links if the file system has them. Linked shards are the same
        file as the source's: a program that changes one in place changes both.
      verify: compare the result with the source before it appears, as
        ``hub_compat.verify()`` does.
      tolerance: for that; by default that of ``hub_compat.verify()``.
      target: the oldest TensorFlow that must load the result, ``"tf1.15"``,
        ``"tf2.15"`` or ``"tf2.21"``. Newer ops are rewritten as ops that it has. A
        model without newer ops is written as it is.
      follow_links: treat symbolic links that lead out of the module as part of it.
        Its own folders, such as ``assets``, may be links in any case.

    Returns:
      A report of what was converted, and what was skipped.

    Raises:
      HandleError: there is nothing at ``source``.
      FormatError: it is not a module, or its format is not converted.
      CorruptModuleError: it is damaged.
      ConversionError: nothing of it can be converted, or the target is unknown.
      UnknownOpError: it has ops without an equivalent in the target.
      DestinationError: ``destination`` exists, or cannot be written.
      VerificationError: the result differs from the source; nothing is written.
    """
    source, destination = resolve(source), files.as_path(destination)
    if files.is_remote(source) or files.is_remote(destination):
        _import_tensorflow()
    started = time.perf_counter()
    if link not in LINK_MODES:
        raise DestinationError(
            "link must be one of {}. Received: {!r}".format(
                ", ".join(map(repr, LINK_MODES)), link
            )
        )
    # What can be known is refused before anything is written.
    detection = detect(source)
    _check_apart(source, destination)
    if verify:
        _prepare_verification()
    started += _import_tensorflow()
    if verify and tolerance is not None:
        from .verify import check_tolerance

        check_tolerance(tolerance)
    registry = None if target is None else _target(target)
    _converter(detection, registry)
    with _guard.reading(source, "converted"), atomic_directory(
        destination, overwrite=overwrite
    ) as directory:

        def convert_once() -> Tuple[Detection, Dict[str, Any]]:
            nonlocal started
            detection = detect(source)
            _preflight.check_files(source)
            if detection.format.is_tf2:
                _preflight.check_checkpoint(source)
            converter = functools.partial(
                _converter(detection, registry),
                links=_links.ALL if follow_links else _links.INSIDE,
            )
            with collector_paused():
                facts = converter(detection, directory, link)
            if verify:
                facts = _loadable(detection, directory, link, converter) or facts
                verified = time.perf_counter()
                facts = _verified(
                    detection, directory, link, converter, facts, tolerance
                )
                started += time.perf_counter() - verified
            if registry is None:
                facts["warnings"] += _not_for_this_tensorflow(detection, directory)
            return detection, facts

        detection, facts = _of_one_export(source, directory, convert_once)
    return ConversionReport(
        source=source,
        destination=destination,
        format=detection.format,
        variants=detection.variants,
        seconds=time.perf_counter() - started,
        **facts,
    )


def _of_one_export(source: str, directory: str, convert_once: Callable[[], _T]) -> _T:
    """Converts again, if the source was exchanged or written to meanwhile.

    Args:
      source: directory of the module.
      directory: where the result goes.
      convert_once: converts it.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            files.remove_tree(directory)
            files.make_dirs(directory)
            # Whoever exchanges two directories needs two steps for it.
            time.sleep(_PAUSE * attempt)
        try:
            before = source_files(source)
        except HandleError:
            if not attempt:
                raise
            continue
        hashed = fingerprint_of(source, before) if files.is_remote(source) else ""
        try:
            result = convert_once()
        except Exception:
            # Halves of two modules do not fit together.
            if is_unchanged(source, before, hashed):
                raise
            continue
        if is_unchanged(source, before, hashed):
            return result
    raise CorruptModuleError(
        "The module changed during the conversion, {} times in a row. Try again "
        "when no program writes to it. Received: {!r}".format(_ATTEMPTS, source)
    )


def convert_for_load(
    detection: Detection,
    directory: str,
    tags: Optional[Tuple[str, ...]],
    weights: bool,
    available_ops: Collection[str],
    registry: Any,
    refused: Optional[Exception] = None,
) -> None:
    """Converts no more than one variant, for a loader, into an empty directory.

    Args:
      detection: the module.
      directory: where the result goes.
      tags: the variant; None for the one that ``load()`` gives by default.
      weights: False for a checkpoint without values.
      available_ops: what ``dropped_ops.available`` says of the loader.
      registry: what the loader's TensorFlow knows; None where it is not older than
        the one that wrote the module.
      refused: what TensorFlow said of the result of the same without this argument:
        signatures that keep the others from loading are left out.

    Raises:
      ``refused``, if that does not help.
    """
    from .omissions import find_exclusions

    converter = functools.partial(
        _converter(detection, registry),
        available_ops=available_ops,
        links=_links.FILES,
    )
    exclusions = None
    if refused is not None:
        exclusions = find_exclusions(detection, converter, tags)
        if exclusions is None:
            raise refused
    # Half the functions load in two thirds of the time.
    converter(
        detection,
        directory,
        "auto",
        weights=weights,
        tags=tags,
        whole=False,
        exclusions=exclusions,
    )


def convert_for_save(
    detection: Detection, directory: str, excluded: bool, links: str
) -> None:
    """Converts all of a module into an empty directory, for its weights to be replaced.

    Args:
      detection: the module.
      directory: where the result goes.
      excluded: whether some signatures keep the others from loading.
      links: what becomes of those out of the module, see ``_io/links.py``.
    """
    from hub_compat._tf import is_newer

    from . import lowering
    from .omissions import find_exclusions
    from .opdata import op_defs

    registry = lowering.of_runtime() if is_newer(detection.producer) else None
    converter = functools.partial(
        _converter(detection, registry),
        available_ops=op_defs.available(),
        links=links,
    )
    exclusions = find_exclusions(detection, converter) if excluded else None
    converter(detection, directory, BORROW, exclusions=exclusions)


def lower_for_load(detection: Detection, directory: str, registry: Any) -> None:
    """Lowers a TF2 SavedModel, for a loader, into an empty directory.

    Args:
      detection: the model.
      directory: where the result goes.
      registry: what the loader's TensorFlow knows.
    """
    converter = _converter(detection, registry)
    converter(detection, directory, "auto", links=_links.FILES)


def lower_for_save(detection: Detection, directory: str, links: str) -> None:
    """Lowers a TF2 SavedModel anew, for its weights to be replaced.

    Args:
      detection: the model.
      directory: where the result goes, empty.
      links: what becomes of those out of the model, see ``_io/links.py``.
    """
    from . import lowering

    converter = _converter(detection, lowering.of_runtime())
    converter(detection, directory, BORROW, links=links)


def _target(name: str) -> Any:
    from .lowering import of_target

    return of_target(name)


def _converter(
    detection: Detection, registry: Any = None
) -> Callable[..., Dict[str, Any]]:
    # Imported when needed: they need TensorFlow's protos.
    from .tf1_model import convert_tf1_model

    converters = {
        Format.TF1_HUB_MODULE: convert_tf1_model,
        Format.TF1_SAVED_MODEL: convert_tf1_model,
    }
    if detection.format in converters:
        converter = converters[detection.format]
        if registry is None:
            return converter
        return functools.partial(_convert_and_lower, converter, registry)
    if detection.format.is_tf2:
        if registry is not None:
            from .lowering import lower_saved_model

            return functools.partial(lower_saved_model, registry=registry)
        if detection.file.endswith(".cpb"):
            # No loader of TensorFlow's reads it; it is written as one file.
            from .lowering import lower_saved_model

            return functools.partial(lower_saved_model, registry=None)
        raise FormatError(
            "The module is already a TF2 SavedModel, and needs no conversion. Load "
            "it with hub_compat.load(), or name an older TensorFlow: "
            "target='tf1.15'. Received: {!r}".format(detection.path)
        )
    raise FormatError(
        "This version converts {}; the module's format is {}. Received: {!r}".format(
            ", ".join(f.value for f in converters),
            detection.format.value,
            detection.path,
        )
    )


def _import_tensorflow() -> float:
    """Imports TensorFlow; says how many seconds of no conversion that took."""
    before = time.perf_counter()
    import hub_compat._tf  # noqa: F401

    return time.perf_counter() - before


def _prepare_verification() -> None:
    from .verification.process import prepare

    prepare()


def _verified(
    detection: Detection,
    directory: str,
    link: str,
    converter: Callable[..., Dict[str, Any]],
    facts: Dict[str, Any],
    tolerance: Optional[float],
) -> Dict[str, Any]:
    """Compares; without what keeps the rest from loading, if need be.

    Returns:
      What the converter returned, with the report.
    """
    # Imported when needed: it runs TensorFlow.
    from .verification.job import NOT_LOADED
    from .verify import TOLERANCE, verify_conversion

    if tolerance is None:
        tolerance = TOLERANCE
    try:
        report = verify_conversion(detection, directory, tolerance=tolerance)
    except VerificationError as error:
        if detection.format.is_tf2 or not str(error).startswith(NOT_LOADED):
            raise
        without = _without_refused(detection, directory, link, converter)
        if without is None:
            raise
        facts = without
        report = verify_conversion(detection, directory, tolerance=tolerance)
    facts["verification"] = report
    return facts


def _loadable(
    detection: Detection,
    directory: str,
    link: str,
    converter: Callable[..., Dict[str, Any]],
) -> Optional[Dict[str, Any]]:
    """Converts again, if TensorFlow refuses the result, without what it refuses.

    Returns:
      What the converter returned; None if nothing had to be done.
    """
    from .omissions import refusal

    if detection.format.is_tf2 or refusal(directory) is None:
        return None
    return _without_refused(detection, directory, link, converter)


def _without_refused(
    detection: Detection,
    directory: str,
    link: str,
    converter: Callable[..., Dict[str, Any]],
) -> Optional[Dict[str, Any]]:
    from .omissions import find_exclusions

    exclusions = find_exclusions(detection, converter)
    if exclusions is None:
        return None
    files.remove_tree(directory)
    files.make_dirs(directory)
    return converter(detection, directory, link, exclusions=exclusions)


def _convert_and_lower(
    converter: Callable[..., Dict[str, Any]],
    registry: Any,
    detection: Detection,
    directory: str,
    link: str,
    **options: Any,
) -> Dict[str, Any]:
    """Converts a TF1 model, and lowers the result if a newer TensorFlow wrote it."""
    from .lowering import lower_directory

    facts = converter(detection, directory, link, **options)
    release = "{}.{}".format(*registry.version)
    if detection.producer.is_newer_than(release, registry.graph_def_version):
        lowered = lower_directory(directory, registry)
        facts.update(
            nodes=lowered.nodes,
            lowered=lowered.lines(),
            warnings=facts["warnings"] + lowered.warnings(),
        )
    return facts


def _not_for_this_tensorflow(detection: Detection, directory: str) -> Tuple[str, ...]:
    """Says so, where plain TensorFlow of this version cannot load what was written.

    The result is the same in each TensorFlow, and so it is not lowered here.
    """
    from hub_compat._parsing.full_proto import read_saved_model
    from hub_compat._tf import is_newer, tf

    from . import lowering

    if detection.format.is_tf2 or not is_newer(detection.producer):
        return ()
    if not lowering.is_unknown(
        read_saved_model(detect(directory)), lowering.of_runtime()
    ):
        return ()
    return (
        "TensorFlow {}, which wrote the model, is newer than this one, {}. The result "
        "has ops or attributes that this one does not know: hub_compat.load() loads it "
        "here, and tf.saved_model.load() does not. Convert with "
        "target='tf1.15' (--target=tf1.15) for an older TensorFlow".format(
            detection.producer.tensorflow_version or "of unknown version",
            tf.__version__,
        ),
    )


def _check_apart(source: str, destination: str) -> None:
    """Refuses a destination that is the source, inside it, or around it."""
    if files.is_remote(source) != files.is_remote(destination):
        return
    one, other = (os.path.join(resolved(path), "") for path in (source, destination))
    if one.startswith(other) or other.startswith(one):
        raise DestinationError(
            "The destination must be apart from the source, neither inside nor around "
            "it ({!r}). Received: {!r}".format(source, destination)
        )
