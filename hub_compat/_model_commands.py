"""The commands about models: detect, convert, and prune."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any, Dict, List, Optional, Sequence, Tuple

from absl import flags

import hub_compat
from hub_compat import _printing, cache
from hub_compat.errors import HubCompatError, VerificationError
from hub_compat.formats import Detection, Format, Variant, VerificationReport

__all__ = [
    "convert",
    "define_convert",
    "define_detect",
    "define_prune",
    "detect",
    "prune",
]

_FORMAT_NAMES = {
    Format.TF1_HUB_MODULE: "TF1 Hub module",
    Format.TF1_SAVED_MODEL: "TF1 SavedModel",
    Format.TF2_REUSABLE: "TF2 SavedModel, reusable",
    Format.TF2_KERAS: "TF2 SavedModel, written by Keras",
    Format.TF2_SIGNATURES: "TF2 SavedModel, signatures only",
}


def define_detect(values: flags.FlagValues) -> None:
    """Defines the flags of ``detect``."""
    flags.DEFINE_bool("json", False, "Print a JSON list, an object per DIR.", values)


def define_convert(values: flags.FlagValues) -> None:
    """Defines the flags of ``convert``."""
    flags.DEFINE_bool("json", False, "Print the report as a JSON object.", values)
    flags.DEFINE_bool("overwrite", False, "Replace OUT if it exists.", values)
    flags.DEFINE_bool(
        "slim",
        False,
        "Leave out of a SavedModel of Keras 2 what only Keras' own loader needs.",
        values,
    )
    flags.DEFINE_string(
        "target",
        None,
        "The oldest TensorFlow that must load OUT, such as tf1.15. Newer ops are "
        "rewritten as ops that it has. DIR may then be a TF2 SavedModel, too. Or "
        "tf1-hub, tf1-saved-model: a TF1 Hub module or a TF1 SavedModel of it.",
        values,
    )
    flags.DEFINE_enum(
        "link",
        "auto",
        ["auto", "hard", "copy"],
        "How the weights get to OUT: as hard links, which fail across file systems, "
        "or as copies. auto makes links where possible, else copies.",
        values,
    )
    flags.DEFINE_bool(
        "follow-links",
        False,
        "Treat symbolic links that lead out of DIR as part of it.",
        values,
    )
    flags.DEFINE_bool(
        "verify",
        False,
        "Run DIR and the result on the same inputs, and write OUT only if their "
        "outputs are equal.",
        values,
    )
    flags.DEFINE_float(
        "tolerance",
        None,
        "The largest relative difference that --verify accepts (default 1e-5). "
        "Implies --verify.",
        lower_bound=0,
        flag_values=values,
    )


def _variant_lines(variants: Sequence[Variant]) -> List[str]:
    tags = [", ".join(variant.tags) or "(no tags)" for variant in variants]
    width = max([len(tag) for tag in tags] or [0])
    return [
        "{:<{}}  {}".format(tag, width, ", ".join(variant.signatures) or "none")
        for tag, variant in zip(tags, variants)
    ]


def _print_detection(detection: Detection) -> None:
    producer = detection.producer
    version = producer.tensorflow_version
    written_by = "TensorFlow " + version if version else "unknown TensorFlow"
    if producer.graph_def_version:
        written_by += ", GraphDef version {}".format(producer.graph_def_version)
    _printing.print_fields(
        detection.path,
        [
            ("format", [_FORMAT_NAMES[detection.format]]),
            ("file", [detection.file]),
            ("written by", [written_by]),
            ("variants", _variant_lines(detection.variants)),
            ("evidence", detection.evidence),
        ],
    )


def detect(arguments: List[str], values: flags.FlagValues) -> int:
    """Runs ``hub-compat detect``."""
    documents = []  # type: List[Any]
    failed = False
    for position, path in enumerate(arguments):
        try:
            detection = hub_compat.detect(path)
        except HubCompatError as error:
            failed = True
            documents.append({"path": path, "error": _printing.error_to_json(error)})
            _printing.print_error(str(error))
            continue
        if values.json:
            documents.append(_printing.to_json(detection))
        else:
            if position:
                print()
            _print_detection(detection)
    if values.json:
        _printing.print_json(documents)
    return 1 if failed else 0


def _verification_lines(report: Optional[VerificationReport]) -> List[str]:
    if report is None:
        return []
    partly = sum(bool(found.skipped) for found in report.compared)
    text = "{} of {} compared".format(
        len(report.compared), _printing.count(len(report.signatures), "signature")
    )
    if report.compared:
        text += "; largest difference {:.2g}, relative {:.2g}".format(
            report.largest_absolute, report.largest_relative
        )
    else:
        text += "; the results of OUT are not checked"
    if partly:
        text += "; {} in part".format(partly)
    # Many signatures have one reason.
    whose: Dict[Tuple[str, str], List[str]] = {}
    for found in report.signatures:
        tags = ", ".join(found.tags) or "(no tags)"
        for reason in ([found.reason] if found.reason else []) + list(found.skipped):
            whose.setdefault((tags, reason), []).append(found.name)
    return [text] + [
        "not compared: {}: {}: {}".format(tags, ", ".join(names), reason)
        for (tags, reason), names in whose.items()
    ]


def _lowered_lines(report: Any) -> Sequence[str]:
    if report.format.is_tf2 and not report.lowered:
        return ["nothing: the target has all that the model uses"]
    return tuple(report.lowered)


def _duration(report: Any) -> str:
    text = "{:.2f} s".format(report.seconds)
    if report.verification is not None:
        text += ", and {:.2f} s to verify".format(report.verification.seconds)
    return text


def _print_report(report: Any) -> None:
    variables = "{}, {} trainable".format(
        _printing.count(report.variables, "variable"), report.trainable_variables
    )
    graph = ", ".join(
        [
            _printing.count(report.nodes, "node"),
            _printing.count(report.tables, "table"),
            _printing.count(report.assets, "asset"),
        ]
    )
    weights = "{} linked, {} copied".format(
        _printing.size(report.bytes_linked), _printing.size(report.bytes_copied)
    )
    unused = report.unused_keys
    if len(unused) > 3:
        unused = unused[:3] + ("and {} more".format(len(unused) - 3),)
    called = "none: the model has several signatures and no default"
    if report.callable == "__call__":
        called = "its own"
    elif report.callable is None and report.format.is_tf2:
        called = "none: the model has only signatures"
    elif report.callable is not None:
        called = 'signature "{}"'.format(report.callable)
    _printing.print_fields(
        "{} -> {}".format(report.source, report.destination),
        [
            ("from", [_FORMAT_NAMES[report.format]]),
            ("variants", _variant_lines(report.variants)),
            ("__call__", [called]),
            ("variables", [variables]),
            ("holds", [graph]),
            ("weights", [weights]),
            ("lowered", _lowered_lines(report)),
            ("took", [_duration(report)]),
            ("verified", _verification_lines(report.verification)),
            ("not in graph", unused),
            ("warning", report.warnings),
        ],
    )


def convert(arguments: List[str], values: flags.FlagValues) -> int:
    """Runs ``hub-compat convert``."""
    source, destination = arguments
    _silence_tensorflow(values.verbose)
    try:
        report = hub_compat.convert(
            source,
            destination,
            overwrite=values.overwrite,
            link=values.link,
            verify=values.verify or values.tolerance is not None,
            tolerance=values.tolerance,
            target=values.target,
            follow_links=values["follow-links"].value,
            slim=values.slim,
        )
    except HubCompatError as error:
        if values.json:
            document = {
                "source": source,
                "destination": destination,
                "error": _printing.error_to_json(error),
            }
            if isinstance(error, VerificationError):
                document["verification"] = _printing.to_json(error.report)
            _printing.print_json(document)
        _printing.print_error(str(error))
        return 1
    if values.json:
        _printing.print_json(_printing.to_json(report))
    else:
        _print_report(report)
    return 0


def define_prune(values: flags.FlagValues) -> None:
    """Defines the flags of ``prune``."""
    flags.DEFINE_bool(
        "all", False, "Remove entries that are still usable, too.", values
    )
    flags.DEFINE_bool("json", False, "Print the removed entries as JSON.", values)


def prune(arguments: List[str], values: flags.FlagValues) -> int:
    """Runs ``hub-compat prune``."""
    try:
        folder = cache.directory()
        pruned = cache.prune(everything=values.all)
    except HubCompatError as error:
        if values.json:
            _printing.print_json({"error": _printing.error_to_json(error)})
        _printing.print_error(str(error))
        return 1
    if values.json:
        _printing.print_json(dict(pruned._asdict(), directory=folder))
    else:
        _printing.print_fields(
            folder,
            [
                ("removed", [_printing.count(pruned.entries, "converted module")]),
                ("left over", [_printing.count(pruned.leftovers, "unfinished one")]),
                ("free", [_printing.size(pruned.size)]),
            ],
        )
    return 0


def _silence_tensorflow(verbose: bool) -> None:
    """Keeps TensorFlow's chatter off the terminal; only the command does this."""
    if verbose:
        return
    # Read by the C++ runtime when it is loaded, so it must be set before.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TF 2.21 announces oneDNN's kernels whatever the log level. A conversion
    # computes nothing, so it does not miss them.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # TF 1.15 under NumPy 1.17 and later: six lines at every import.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
