"""verify(): a TF1 model and its converted form, compared on the same inputs.

The original runs as TensorFlow 1 runs it: its graph in a session, its saver, its init
op. The converted model runs as its users load it.
"""

from __future__ import annotations

import numbers
import time
from typing import Any, Dict, Mapping, Optional

from hub_compat import _guard, provenance
from hub_compat._handles.resolving import resolve
from hub_compat.detector import detect
from hub_compat.errors import FormatError, VerificationError
from hub_compat.formats import Detection, VerificationReport

from .verification.job import FAILS, Job
from .verification.process import compare
from .verification.run import advice, as_it_was

__all__ = ["TOLERANCE", "check_tolerance", "verify", "verify_conversion"]

TOLERANCE = 1e-5

Inputs = Mapping[str, Mapping[str, Any]]


def verify(
    source: Any,
    converted: Any,
    inputs: Optional[Inputs] = None,
    *,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> VerificationReport:
    """Compares a converted module with its original, on the same inputs.

    Each signature of each variant runs in both, from the values of the checkpoint.
    The original runs in a session of TensorFlow 1. The converted one runs by
    TensorFlow's object loader and, for the variant of its root, by its session
    loader. Shapes, dtypes, integers, strings and paths of assets must be equal; no
    element of a floating-point output may be further from the original's than
    ``tolerance`` times the largest magnitude in that output, or 1e-7. NaN equals NaN.

    All of it runs in another process, if one can be started; it is kept for the next
    comparison. A graph that ends the process is not compared. Neither is one that
    takes longer than HUB_COMPAT_VERIFY_TIMEOUT seconds (600).

    An output that cannot be compared is no failure; the report names it, with the
    reason. Reasons are random numbers, a clock, queues, a variable that is read while
    it is written, an op that the running TensorFlow lacks, and inputs that cannot be
    guessed.

    Args:
      source: directory of a TF1 Hub module or TF1 SavedModel, or of a TF2 SavedModel
        that was converted for an older TensorFlow.
      converted: directory of its conversion by ``convert()``.
      inputs: by signature and by input, arrays to compare with; components of a
        sparse input are ``x_indices``, ``x_values`` and ``x_dense_shape``, those of a
        ragged one ``x_component_0`` and so on. Inputs of other signatures are
        generated: from dtypes and shapes, from vocabularies, as the ``tf.Example``
        that the graph parses or the image that it decodes.
      tolerance: the largest relative difference; at least 2e-3 for outputs that are
        float16, and 2e-2 for bfloat16.
      seed: of the generated inputs.

    Returns:
      What was compared, and the differences.

    Raises:
      HandleError: there is nothing at one of the paths.
      FormatError: ``source`` is not a model, or ``converted`` is not a conversion.
      CorruptModuleError: one of them is damaged.
      SignatureError: ``inputs`` names an unknown signature.
      VerificationError: they differ, with the report as its ``report``; or given
        inputs do not fit, or the converted module does not load.

    Example:
      ``hub.verify("module", "saved_model", {"default": {"images": images}})``
    """
    source, converted = resolve(source), resolve(converted)
    detection = detect(source)
    detect(converted)
    return verify_conversion(detection, converted, inputs, tolerance, seed)


def verify_conversion(
    detection: Detection,
    directory: str,
    inputs: Optional[Inputs] = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> VerificationReport:
    """As ``verify()``, of a detected source."""
    started = time.perf_counter()
    facts = provenance.read(directory)
    if detection.format.is_tf2:
        facts = as_it_was(detection)
    if facts is None:
        raise FormatError(
            "verify() compares a model with its conversion by hub_compat.convert(). "
            "Received: {!r} ({}) and {!r}{}".format(
                detection.path,
                detection.format.value,
                directory,
                "" if facts else ", which convert() did not write",
            )
        )
    check_tolerance(tolerance)
    given = _sendable(inputs or {})
    with _guard.reading(detection.path, "compared"):
        job = Job(detection.path, directory, given, tolerance, seed)
        signatures = compare(job)
    report = VerificationReport(
        tolerance=tolerance,
        signatures=tuple(signatures),
        seconds=time.perf_counter() - started,
    )
    if not report.equal:
        raise _differs(detection, directory, report)
    return report


def check_tolerance(tolerance: float) -> None:
    """Refuses what is no tolerance.

    Raises:
      VerificationError: it is none.
    """
    if not isinstance(tolerance, numbers.Real) or not 0 <= tolerance < float("inf"):
        raise VerificationError(
            "The tolerance must be a number, 0 or more. Received: {!r}".format(
                tolerance
            )
        )


def _sendable(inputs: Inputs) -> Dict[str, Dict[str, Any]]:
    """Given inputs, of what another process takes: tensors become arrays."""
    return {
        name: {
            key: value.numpy() if hasattr(value, "numpy") else value
            for key, value in values.items()
        }
        for name, values in inputs.items()
    }


def _differs(
    detection: Detection, directory: str, report: VerificationReport
) -> VerificationError:
    mismatches = [text for found in report.signatures for text in found.mismatches]
    texts = "; ".join(
        "variant {}, signature {!r}: {}".format(
            list(found.tags), found.name, "; ".join(found.mismatches)
        )
        for found in report.signatures
        if found.mismatches
    )
    if all(text.startswith(FAILS) for text in mismatches):
        message = (
            "The converted module does not run in this TensorFlow where its original "
            "does: {}. {}".format(texts, advice(detection, directory))
        )
    else:
        message = (
            "The results of the converted module differ from those of its original "
            "by more than the tolerance of {:g}: {}. If that is rounding, verify "
            "with a larger tolerance. Otherwise report it as a bug "
            "of hub_compat.".format(report.tolerance, texts)
        )
    error = VerificationError(message + " Received: {!r}".format(detection.path))
    error.report = report
    return error
