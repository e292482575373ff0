"""The compiler: any format of module to a Reusable TF2 SavedModel.

``convert()`` is here; ``dispatch.py`` picks the conversion for a format.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, TypeVar

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
    HandleError,
    VerificationError,
)
from hub_compat.formats import ConversionReport, Detection
from hub_compat.provenance import CONVERTER_VERSION as VERSION

from .checkpoint.shards import LINK_MODES

__all__ = [
    "VERSION",
    "convert",
]

# How often to begin anew where the source changes meanwhile.
_ATTEMPTS = 5
# Seconds between the first two.
_PAUSE = 0.05

if TYPE_CHECKING:
    from .request import ConversionRequest, ConversionResult

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
    from . import dispatch
    from .opdata.targets import of_target
    from .request import ConversionRequest

    registry = None if target is None else of_target(target)
    dispatch.check_convertible(detection, registry)
    with _guard.reading(source, "converted"), atomic_directory(
        destination, overwrite=overwrite
    ) as directory:

        def convert_once() -> Tuple[ConversionRequest, ConversionResult]:
            nonlocal started
            detection = detect(source)
            _preflight.check_files(source)
            if detection.format.is_tf2:
                _preflight.check_checkpoint(source)
            request = ConversionRequest(
                detection,
                directory,
                link,
                links=_links.ALL if follow_links else _links.INSIDE,
                registry=registry,
            )
            with collector_paused():
                result = dispatch.run(request)
            if verify:
                result = dispatch.make_loadable(request, result)
                before = time.perf_counter()
                result = _verified(request, result, tolerance)
                started += time.perf_counter() - before
            return request, result

        request, result = _of_one_export(source, directory, convert_once)
        warnings = result.warnings
        if registry is None:
            warnings += _not_for_this_tensorflow(request.detection, directory)
    return ConversionReport(
        source=source,
        destination=destination,
        format=request.detection.format,
        variants=request.detection.variants,
        callable=result.callable,
        variables=result.variables,
        trainable_variables=result.trainable_variables,
        tables=result.tables,
        assets=result.assets,
        functions=result.functions,
        nodes=result.nodes,
        files_linked=result.files_linked,
        bytes_linked=result.bytes_linked,
        bytes_copied=result.bytes_copied,
        weight_bytes_read=result.weight_bytes_read,
        unused_keys=result.unused_keys,
        warnings=warnings,
        seconds=time.perf_counter() - started,
        verification=result.verification,
        lowered=result.lowered,
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


def _import_tensorflow() -> float:
    """Imports TensorFlow; says how many seconds of no conversion that took."""
    before = time.perf_counter()
    import hub_compat._tf  # noqa: F401

    return time.perf_counter() - before


def _prepare_verification() -> None:
    from .verification.process import prepare

    prepare()


def _verified(
    request: ConversionRequest,
    result: ConversionResult,
    tolerance: Optional[float],
) -> ConversionResult:
    """Compares; without what keeps the rest from loading, if need be.

    Returns:
      What was done, with the report.

    Raises:
      VerificationError: the result differs, or does not load.
    """
    # Imported when needed: it runs TensorFlow.
    from . import dispatch
    from .verification.job import NOT_LOADED
    from .verify import TOLERANCE, verify_conversion

    if tolerance is None:
        tolerance = TOLERANCE
    detection, directory = request.detection, request.directory
    try:
        report = verify_conversion(detection, directory, tolerance=tolerance)
    except VerificationError as error:
        if detection.format.is_tf2 or not str(error).startswith(NOT_LOADED):
            raise
        without = dispatch.run_without_refused(request)
        if without is None:
            raise
        result = without
        report = verify_conversion(detection, directory, tolerance=tolerance)
    return dataclasses.replace(result, verification=report)


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
