"""Kills processes that replace a directory, and looks at what is there.

A process of its own, which forks: test_kills.py runs it, on what stands for a
model. By hand it also kills conversions and savings of a module:

    PYTHONPATH=. python tests/programs/killed.py convert 200 testdata/image_bn/module
    PYTHONPATH=. python tests/programs/killed.py save 200 testdata/image_bn/module
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from hub_compat._io import leftovers, publish
from hub_compat._io.publish import atomic_directory

# What is traced: a line of one of these may be the last.
_TRACED = ("publish.py", "leftovers.py", "exchange.py", "locks.py")


def write(out: str, text: str) -> None:
    """Replaces a directory by what stands for a model."""
    with atomic_directory(out, overwrite=True) as folder:
        os.mkdir(os.path.join(folder, "variables"))
        for name in ("saved_model.pb", "variables/a", "variables/b"):
            Path(folder, name).write_text(text)


def killing(line: int) -> Any:
    """A trace function that kills the process at the nth line."""
    left = [line]

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if os.path.basename(frame.f_code.co_filename) not in _TRACED:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def files(out: str) -> Optional[List[str]]:
    """The files of a directory by name; None if there is none."""
    if not os.path.isdir(out):
        return None
    return sorted(p.relative_to(out).as_posix() for p in Path(out).rglob("*"))


def attempt(
    out: str, work: Callable[[], None], line: int, seconds: float
) -> Dict[str, Any]:
    """Kills a child that does some work; says what was there meanwhile.

    Args:
      out: what it replaces.
      work: what it does.
      line: at which line it is killed; 0 for none.
      seconds: after which time it is killed; 0 for never.
    """
    before = files(out)
    started = time.monotonic()
    child = os.fork()
    if not child:
        try:
            if line:
                sys.settrace(killing(line))
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    seen = set()
    while True:
        there = os.path.isfile(os.path.join(out, "saved_model.pb"))
        seen.add(there)
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if seconds and time.monotonic() - started > seconds:
            os.kill(child, signal.SIGKILL)
        time.sleep(0)
    return {
        "always there": seen == {True},
        "same files": files(out) == before,
        "killed": os.WIFSIGNALED(status),
        "failed": os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0,
    }


def litter(folder: str) -> List[str]:
    """What is left beside the destination, the source and the cache."""
    names = sorted(os.listdir(folder))
    for place in (os.path.join(folder, "cache"), tempfile.gettempdir()):
        for path in Path(place).rglob(".*") if os.path.isdir(place) else ():
            if ".tmp-" in path.name or ".old-" in path.name:
                names.append(str(path))
    names += [n for n in os.listdir(tempfile.gettempdir()) if "hub_compat" in n]
    return [name for name in names if name not in ("out", "source", "cache")]


def publishing(folder: str, kills: int, in_two_steps: bool) -> Dict[str, int]:
    """Kills writers of a small directory, at evenly spread lines of our code."""
    out = os.path.join(folder, "out")
    if in_two_steps:
        publish.exchange = lambda one, other: False
    write(out, "old")
    # For each line, whether the destination is there when it is reached.
    there: List[bool] = []

    def look(frame: Any, event: str, argument: Any) -> Any:
        if os.path.basename(frame.f_code.co_filename) not in _TRACED:
            return None
        if event == "line":
            there.append(os.path.isdir(out))
        return look

    sys.settrace(look)
    write(out, "old")
    sys.settrace(None)
    lines = {1 + number * len(there) // kills for number in range(kills)}
    # Two renames are a few lines apart: evenly spread kills may miss them.
    lines |= {number for number, is_there in enumerate(there, 1) if not is_there}
    found = dict.fromkeys(("killed", "gone", "not restored", "mixed", "litter"), 0)
    for number, line in enumerate(sorted(lines)):
        facts = attempt(out, lambda n=number: write(out, str(n)), line, 0)
        found["killed"] += facts["killed"]
        found["gone"] += not facts["always there"]
        # What a reader does that finds nothing.
        found["not restored"] += not (os.path.isdir(out) or leftovers.recover(out))
        texts = {p.read_text() for p in Path(out).rglob("*") if p.is_file()}
        found["mixed"] += len(texts) != 1 or len(files(out) or ()) != 4
        write(out, "old")
        found["litter"] += bool(litter(folder))
    return found


def of_module(kind: str, folder: str, kills: int, source: str) -> Dict[str, int]:
    """Kills conversions or savings of a module, at random times and lines."""
    os.environ["HUB_COMPAT_CACHE_DIR"] = os.path.join(folder, "cache")
    import hub_compat as hub
    from hub_compat import loader, saver  # noqa: F401
    from hub_compat.converters import tf1_model  # noqa: F401

    out = os.path.join(folder, "out")
    shutil.copytree(source, os.path.join(folder, "source"))

    def convert() -> None:
        hub.convert(os.path.join(folder, "source"), out, overwrite=True)

    def save() -> None:
        hub.save(hub.load(os.path.join(folder, "source")), out, overwrite=True)

    work = convert if kind == "convert" else save
    # A child each: TensorFlow's threads do not survive a fork.
    attempt(out, work, 0, 0)
    started = time.monotonic()
    attempt(out, work, 0, 0)
    needed = time.monotonic() - started
    found = dict.fromkeys(("killed", "gone", "changed", "litter", "failed"), 0)
    for number in range(kills):
        shutil.rmtree(os.path.join(folder, "cache"), ignore_errors=True)
        line = random.randint(1, 250) if number % 2 else 0
        seconds = 0 if line else random.uniform(0, needed * 1.3)
        facts = attempt(out, work, line, seconds)
        found["killed"] += facts["killed"]
        found["gone"] += not facts["always there"]
        found["changed"] += not facts["same files"]
        if number % 5 == 4:
            found["failed"] += attempt(out, work, 0, 0)["failed"]
            found["litter"] += bool(litter(folder))
    return found


def main(arguments: List[str]) -> None:
    """Runs one kind of kills and prints what was found as JSON."""
    kind, kills = arguments[0], int(arguments[1])
    with tempfile.TemporaryDirectory() as base:
        folder = os.path.join(os.path.realpath(base), "work")
        os.mkdir(folder)
        os.mkdir(os.path.join(base, "tmp"))
        tempfile.tempdir = os.path.join(base, "tmp")
        os.environ["TMPDIR"] = tempfile.tempdir
        if kind in ("exchange", "two-steps"):
            found = publishing(folder, kills, kind == "two-steps")
        else:
            found = of_module(kind, folder, kills, arguments[2])
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
