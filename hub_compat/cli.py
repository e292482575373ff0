"""The command ``hub-compat``.

    hub-compat detect DIR... [--json]
    hub-compat convert DIR OUT [--target=tf1.15] [--overwrite]
                               [--link=auto|hard|copy] [--follow-links] [--json]
                               [--verify] [--tolerance=NUMBER]
    hub-compat prune [--all] [--json]

Standard output carries the result, standard error everything else; with
``--json`` the former is one JSON document. Exit codes: 0 for success, 1 where a
module failed, 2 for a command line that makes no sense, 130 for Ctrl-C.

TensorFlow is imported by ``convert`` alone, which keeps ``detect`` instant. The
flags are defined in containers of their own: absl's global ``FLAGS`` belongs to
the program that imports hub_compat, and to tensorflow_hub.
"""

from __future__ import annotations

import logging as std_logging
import os
import signal
import sys
import textwrap
import warnings
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from absl import flags, logging

import hub_compat
from hub_compat import _printing, cache
from hub_compat._handles import commands
from hub_compat.errors import HubCompatError, VerificationError
from hub_compat.formats import Detection, Format, Variant, VerificationReport

__all__ = ["main", "run"]

_FORMAT_NAMES = {
    Format.TF1_HUB_MODULE: "TF1 Hub module",
    Format.TF1_SAVED_MODEL: "TF1 SavedModel",
    Format.TF2_REUSABLE: "TF2 SavedModel, reusable",
    Format.TF2_KERAS: "TF2 SavedModel, written by Keras",
    Format.TF2_SIGNATURES: "TF2 SavedModel, signatures only",
}


class _UsageError(Exception):
    """The command line makes no sense."""


class _Command(NamedTuple):
    """One subcommand.

    Attributes:
      usage: its arguments, for a person: ``"DIR OUT"``.
      summary: what it does, in a line.
      define: defines its flags in a container.
      arguments: the least and the greatest number of positional arguments;
        None for no limit.
      execute: runs it, given its arguments and flags; returns the exit code.
    """

    usage: str
    summary: str
    define: Callable[[flags.FlagValues], None]
    arguments: Tuple[int, Optional[int]]
    execute: Callable[[List[str], flags.FlagValues], int]


def _define_common(values: flags.FlagValues) -> None:
    flags.DEFINE_bool("help", False, "Show this text.", values, short_name="h")
    flags.DEFINE_bool("version", False, "Show the version.", values)
    flags.DEFINE_bool(
        "verbose", False, "Show the log of TensorFlow, too.", values, short_name="v"
    )


def _define_detect(values: flags.FlagValues) -> None:
    flags.DEFINE_bool("json", False, "Print a JSON list, an object per DIR.", values)


def _define_convert(values: flags.FlagValues) -> None:
    flags.DEFINE_bool("json", False, "Print the report as a JSON object.", values)
    flags.DEFINE_bool("overwrite", False, "Replace OUT if it exists.", values)
    flags.DEFINE_string(
        "target",
        None,
        "The oldest TensorFlow that must load OUT, such as tf1.15. Newer ops are "
        "rewritten as ops that it has. DIR may then be a TF2 SavedModel, too.",
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


def _detect(arguments: List[str], values: flags.FlagValues) -> int:
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


def _convert(arguments: List[str], values: flags.FlagValues) -> int:
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


def _define_prune(values: flags.FlagValues) -> None:
    flags.DEFINE_bool(
        "all", False, "Remove entries that are still usable, too.", values
    )
    flags.DEFINE_bool("json", False, "Print the removed entries as JSON.", values)


def _prune(arguments: List[str], values: flags.FlagValues) -> int:
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


_COMMANDS = {
    "detect": _Command(
        "DIR...",
        "Print the format of each directory. Needs no TensorFlow.",
        _define_detect,
        (1, None),
        _detect,
    ),
    "convert": _Command(
        "DIR OUT",
        "Write the module in DIR to OUT, as a Reusable TF2 SavedModel.",
        _define_convert,
        (2, 2),
        _convert,
    ),
    "resolve": _Command(
        "HANDLE...",
        "Fetch what each handle names into the cache, and print its directory.",
        commands.define_resolve,
        (1, None),
        commands.resolve,
    ),
    "prefetch": _Command(
        "HANDLE...",
        "Fetch what each handle names, several at a time, for a machine offline.",
        commands.define_prefetch,
        (1, None),
        commands.prefetch,
    ),
    "cache": _Command(
        "list|size|verify|repair|prune|remove [HANDLE...]",
        "Manage the cache of downloads.",
        commands.define_cache,
        (1, None),
        commands.cache,
    ),
    "prune": _Command(
        "",
        "Remove unused entries from the cache: modules that are gone, leftovers.",
        _define_prune,
        (0, 0),
        _prune,
    ),
}


def _silence_tensorflow(verbose: bool) -> None:
    """Keeps TensorFlow's chatter off the terminal; only the command does this."""
    if verbose:
        return
    # Read by the C++ runtime when it is loaded, so it must be set before.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TF 2.21 announces oneDNN's kernels whatever the log level. A conversion
    # computes nothing, so it does not miss them.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    std_logging.getLogger("tensorflow").setLevel(std_logging.ERROR)
    # TF 1.15 under NumPy 1.17 and later: six lines at every import.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)


def _usage(name: str) -> str:
    """The help text of the program (``""``), or of one of its commands."""
    lines = []
    values = flags.FlagValues()
    _define_common(values)
    if name:
        command = _COMMANDS[name]
        command.define(values)
        lines += ["usage: hub-compat {} {} [FLAGS]".format(name, command.usage), ""]
        lines += [command.summary, ""]
    else:
        lines += ["usage: hub-compat COMMAND ARGUMENTS [FLAGS]", "", "commands:"]
        for other, command in _COMMANDS.items():
            label = "{} {}".format(other, command.usage)
            lines.append("  {:<18}{}".format(label, command.summary))
        lines.append("")
    lines.append("flags:")
    for flag_name in sorted(values, key=lambda n: (n in ("help", "version"), n)):
        if len(flag_name) == 1:
            continue
        flag = values[flag_name]
        label = "--" + flag_name
        choices = getattr(flag.parser, "enum_values", None)
        if choices:
            label += "=" + "|".join(choices)
        if flag.short_name:
            label = "-{}, {}".format(flag.short_name, label)
        text = textwrap.wrap(flag.help, 56)
        if choices:
            # absl puts the choices before the text; here the label shows them.
            sentence = flag.help.split(">: ", 1)[-1]
            text = textwrap.wrap("{} Default: {}.".format(sentence, flag.default), 56)
        if len(label) > 18:
            lines.append("  " + label)
            label = ""
        for line in text:
            lines.append("  {:<18}  {}".format(label, line))
            label = ""
    return "\n".join(lines)


def _parse(argv: Sequence[str]) -> Tuple[str, List[str], flags.FlagValues]:
    """Splits a command line.

    Args:
      argv: the program's name and its arguments.

    Returns:
      The command's name, ``""`` where only help or the version was asked for;
      its arguments; its flags.

    Raises:
      _UsageError: the command line makes no sense.
    """
    # The command is the first argument that is no flag, so that both
    # "hub-compat --help convert" and "hub-compat convert --help" are understood.
    words = [word for word in argv[1:] if not word.startswith("-")]
    name = words[0] if words else ""
    if name and name not in _COMMANDS:
        raise _UsageError(
            "unknown command; choose one of {}. Received: {}".format(
                ", ".join(_COMMANDS), name
            )
        )
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # flags may follow arguments
    _define_common(values)
    if name:
        _COMMANDS[name].define(values)
    try:
        rest = values(list(argv))[1:]
    except flags.Error as error:
        raise _UsageError(str(error)) from error
    if values.help or values.version:
        return name, [], values
    if not name:
        raise _UsageError("a command is missing; choose one of " + ", ".join(_COMMANDS))
    arguments = rest[1:]
    least, most = _COMMANDS[name].arguments
    if len(arguments) < least or (most is not None and len(arguments) > most):
        raise _UsageError(
            "usage: hub-compat {} {}; received: {}".format(
                name, _COMMANDS[name].usage, " ".join(arguments) or "nothing"
            )
        )
    return name, arguments, values


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs a command line.

    Args:
      argv: the program's name and its arguments; by default, the process's.

    Returns:
      The exit code: 0, 1 (a module failed), 2 (bad usage) or 130 (Ctrl-C).
    """
    argv = sys.argv if argv is None else argv
    try:
        name, arguments, values = _parse(argv)
    except _UsageError as error:
        _printing.print_error("{}\nSee hub-compat --help.".format(error))
        return 2
    try:
        if values.help:
            print(_usage(name))
            code = 0
        elif values.version:
            print("hub-compat " + hub_compat.__version__)
            code = 0
        else:
            code = _COMMANDS[name].execute(arguments, values)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _printing.print_error("interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader (`| head`) has had enough. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def run() -> None:
    """Entry point of ``hub-compat`` and of ``python -m hub_compat``."""
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    sys.exit(main())
