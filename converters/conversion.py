"""One call of ``convert()``: from what it is given to the report.

TensorFlow is imported once the source has been looked at, and the destination.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Iterator,
    NamedTuple,
    Optional,
    Tuple,
    TypeVar,
)

from hub_compat import _guard, _preflight
from hub_compat._collector import collector_paused
from hub_compat._handles.resolving import resolve
from hub_compat._io import files, links
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

from .checkpoint.shards import LINK_MODES

if TYPE_CHECKING:
    from .opdata.targets import Registry
    from .request import ConversionRequest, ConversionResult

__all__ = ["Arguments", "run"]

# How often to begin anew where the source changes meanwhile.
_ATTEMPTS = 5
# Seconds between the first two.
_PAUSE = 0.05

_T = TypeVar("_T")


class Arguments(NamedTuple):
    """Those of ``convert()``."""

    source: str
    destination: str
    overwrite: bool
    link: str
    verify: bool
    tolerance: Optional[float]
    target: Optional[str]
    follow_links: bool
    slim: bool = False


# The order is that of costs: arguments, then files, then TensorFlow's import (seconds),
# then the conversion, then the comparison. Each refuses what it can before the next.
def run(source: Any, destination: Any, **options: Any) -> ConversionReport:
    """Does what ``convert()`` promises."""
    arguments = Arguments(resolve(source), files.as_path(destination), **options)
    if files.is_remote(arguments.source) or files.is_remote(arguments.destination):
        _import_tensorflow()
    clock = _Clock()
    detection = _check(arguments)
    with clock.stopped():
        _import_tensorflow()
    registry = _registry(arguments, detection)
    with _guard.reading(arguments.source, "converted"), atomic_directory(
        arguments.destination, overwrite=arguments.overwrite
    ) as directory:
        request, result = _of_one_export(
            arguments.source,
            directory,
            lambda: _convert_once(arguments, directory, registry, clock),
        )
        warnings = result.warnings
        if registry is None and request.form is None:
            warnings += _not_for_this_tensorflow(request.detection, directory)
    result = dataclasses.replace(result, warnings=warnings)
    return _report(arguments, request.detection, result, clock.seconds())


class _Clock:
    """Measures what a conversion takes, without TensorFlow's import and comparisons."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """The seconds so far."""
        return time.perf_counter() - self._started

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Does not count what is within."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._started += time.perf_counter() - before


def _check(arguments: Arguments) -> Detection:
    """Refuses what can be refused before TensorFlow is there, and anything written."""
    if arguments.link not in LINK_MODES:
        raise DestinationError(
            "link must be one of {}. Received: {!r}".format(
                ", ".join(map(repr, LINK_MODES)), arguments.link
            )
        )
    detection = detect(arguments.source)
    _check_apart(arguments.source, arguments.destination)
    if arguments.verify and _form(arguments) is not None:
        raise VerificationError(
            "verify compares what tf.saved_model.load() loads, which is no format of "
            "TF1. Convert without it, and compare in a session. Received: "
            "target={!r}".format(arguments.target)
        )
    if arguments.verify:
        _prepare_verification()
    return detection


def _registry(arguments: Arguments, detection: Detection) -> Optional[Registry]:
    """What the target knows; None without one.

    Raises:
      ConversionError: there is no such target.
      FormatError: the format is not converted.
    """
    from . import dispatch
    from .opdata.targets import of_target

    if arguments.verify and arguments.tolerance is not None:
        from .verify import check_tolerance

        check_tolerance(arguments.tolerance)
    registry = None
    if arguments.target is not None and _form(arguments) is None:
        registry = of_target(arguments.target)
    dispatch.check_convertible(detection, registry, _form(arguments), arguments.slim)
    return registry


def _form(arguments: Arguments) -> Optional[str]:
    """The format of TF1 that is the target; None for a TensorFlow."""
    from .request import FORMS

    return arguments.target if arguments.target in FORMS else None


def _convert_once(
    arguments: Arguments,
    directory: str,
    registry: Optional[Registry],
    clock: _Clock,
) -> Tuple[ConversionRequest, ConversionResult]:
    """Converts the source as it is now."""
    from . import dispatch
    from .request import ConversionRequest

    source = arguments.source
    detection = detect(source)
    _preflight.check_files(source)
    if detection.format.is_tf2:
        _preflight.check_checkpoint(source)
    request = ConversionRequest(
        detection,
        directory,
        arguments.link,
        links=links.ALL if arguments.follow_links else links.INSIDE,
        slim=arguments.slim,
        registry=registry,
        form=_form(arguments),
    )
    with collector_paused():
        result = dispatch.run(request)
    if arguments.verify:
        result = dispatch.make_loadable(request, result)
        with clock.stopped():
            result = _verified(request, result, arguments.tolerance)
    return request, result


def _report(
    arguments: Arguments,
    detection: Detection,
    result: ConversionResult,
    seconds: float,
) -> ConversionReport:
    return ConversionReport(
        source=arguments.source,
        destination=arguments.destination,
        format=detection.format,
        variants=detection.variants,
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
        warnings=result.warnings,
        seconds=seconds,
        verification=result.verification,
        lowered=result.lowered,
    )


# An error counts only if the source stayed as it was: halves of two exports fail in any
# way, and say nothing about either.
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


def _import_tensorflow() -> None:
    import hub_compat._tf  # noqa: F401


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
    from hub_compat._tf import tf
    from hub_compat._tf.runtime import is_newer

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
