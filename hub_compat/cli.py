"""The command ``hub-compat``.

    hub-compat detect DIR... [--json]
    hub-compat convert DIR OUT [--target=tf1.15] [--overwrite]
                               [--link=auto|hard|copy] [--follow-links] [--json]
                               [--verify] [--tolerance=NUMBER] [--slim]
    hub-compat prune [--all] [--json]

Standard output carries the result, standard error everything else; with
``--json`` the former is one JSON document. Exit codes: 0 for success, 1 where a
module failed, 2 for a command line that makes no sense, 130 for Ctrl-C.

TensorFlow is imported by ``convert`` alone, which keeps ``detect`` instant. The
flags are defined in containers of their own: absl's global ``FLAGS`` belongs to
the program that imports hub_compat, and to tensorflow_hub.

They are absl's, not argparse's: with subcommands, argparse takes no flag between
arguments (``detect a --json b``), and its intermixed parsing refuses subcommands.
"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from absl import flags, logging

import hub_compat
from hub_compat import _model_commands, _printing
from hub_compat._handles import commands

__all__ = ["main", "run"]


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


_COMMANDS = {
    "detect": _Command(
        "DIR...",
        "Print the format of each directory. Needs no TensorFlow.",
        _model_commands.define_detect,
        (1, None),
        _model_commands.detect,
    ),
    "convert": _Command(
        "DIR OUT",
        "Write the module in DIR to OUT, as a Reusable TF2 SavedModel.",
        _model_commands.define_convert,
        (2, 2),
        _model_commands.convert,
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
        _model_commands.define_prune,
        (0, 0),
        _model_commands.prune,
    ),
}


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
