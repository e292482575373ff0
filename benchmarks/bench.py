"""Runs the two sides of a comparison, each in processes of its own."""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Union

from models import ROOT, Models
from report import Facts, Row, median, seconds_text

__all__ = ["Bench", "SideFailed"]

SIDES = Path(__file__).resolve().with_name("sides.py")

# Nothing is imported before the clock starts that the import itself needs.
IMPORT = """
import sys, time
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
tensorflow = "tensorflow" in sys.modules
import json
print("\\n" + json.dumps(dict(seconds=seconds, tensorflow=tensorflow)))
"""
# `python -m hub_compat`, which ends with the peak of its memory. Not what the
# system tells the parent: a child inherits the parent's own peak.
DETECT = """
import atexit, runpy, sys
def peak():
    print(next(line for line in open("/proc/self/status") if line[:5] == "VmHWM"))
atexit.register(peak)
sys.argv = ["hub_compat", "detect", sys.argv[1]]
runpy.run_module("hub_compat", run_name="__main__", alter_sys=True)
"""


class SideFailed(Exception):
    """A measured process did not succeed."""


class Bench:
    """Runs the sides and collects the rows.

    Args:
      models: the modules to run on.
      scratch: a directory beside the modules, for what the runs write: hard
        links need the same file system.
      options: the command line.
    """

    def __init__(self, models: Models, scratch: Path, options: argparse.Namespace):
        self.models = models
        self.scratch = scratch
        self.quick: bool = options.quick
        self.megabytes: int = options.megabytes or (100 if self.quick else 1200)
        self.runs: int = options.runs or (3 if self.quick else 5)
        # A ratio near its bar is less than one run differs from the next.
        self.many_runs: int = self.runs if self.quick else max(self.runs, 15)
        self.rows: List[Row] = []
        self.environ = _environ(_snapshot(scratch))

    # How a side is run.

    def side(self, *arguments: Union[str, Path]) -> Facts:
        """Runs a function of sides.py, in a process of its own."""
        lines = self.output(str(SIDES), *map(str, arguments))
        facts: Facts = json.loads(lines[-1])
        return facts

    def old_side(self, *arguments: Union[str, Path]) -> Facts:
        """The same in TensorFlow 1.15."""
        command = [self.models.tf1(), str(SIDES), *map(str, arguments)]
        facts: Facts = json.loads(self._run(command).decode().splitlines()[-1])
        return facts

    def importing(self, module: str) -> Facts:
        """The import of a module, in a process of its own."""
        facts: Facts = json.loads(self.output("-c", IMPORT.format(module=module))[-1])
        return facts

    def memory_of_detect(self, source: Path) -> int:
        """The peak of resident memory of ``python -m hub_compat detect``, in bytes."""
        lines = self.output("-c", DETECT, str(source))
        peak = next(line for line in lines if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024

    def output(self, *arguments: str) -> List[str]:
        """The lines that this Python writes when run with these arguments."""
        return self._run([sys.executable] + list(arguments)).decode().splitlines()

    def writing(self, name: str, source: Path, twice: bool = False) -> Facts:
        """A side that writes a directory, which is deleted again."""
        options = ["--twice", name] if twice else [name]
        with self.directory() as directory:
            return self.side(*options, source, directory / "out")

    def copying(self, source: Path) -> Facts:
        """``cp -r``, to the same file system."""
        with self.directory() as directory:
            return self.command("cp", "-r", str(source), str(directory / "out"))

    def loading(self, source: Path) -> Facts:
        """``hub_compat.load`` with nothing in its cache."""
        with self.directory() as directory:
            self.environ["HUB_COMPAT_CACHE_DIR"] = str(directory)
            return self.side("hub_compat_load", source)

    def layering(self, source: Path) -> Facts:
        """``KerasLayer(path)`` with nothing in its cache."""
        with self.directory() as directory:
            self.environ["HUB_COMPAT_CACHE_DIR"] = str(directory)
            return self.side("hub_compat_layer", source)

    def command(self, *command: str) -> Facts:
        """A whole process."""
        start = time.perf_counter()
        self._run(command)
        return {"seconds": time.perf_counter() - start}

    def _run(self, command: Sequence[str]) -> bytes:
        result = subprocess.run(
            command,
            cwd=str(self.scratch),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        if result.returncode:
            raise SideFailed(_failure(command[:3], result.stderr))
        return result.stdout

    def alternate(
        self, sides: Dict[str, Callable[[], Facts]], runs: Optional[int] = None
    ) -> Dict[str, List[Facts]]:
        """Runs the sides in turn: ABBAABBA, so that neither always comes first."""
        facts: Dict[str, List[Facts]] = {name: [] for name in sides}
        names = list(sides)
        for run in range((runs or self.runs) + 1):
            for name in names:
                # A conversion ends with fsync: it must not wait for what another
                # side left to write.
                os.sync()
                result = sides[name]()
                if run:
                    facts[name].append(result)
            names.reverse()
        return facts

    @contextlib.contextmanager
    def directory(self) -> Iterator[Path]:
        """A new directory, deleted in the end."""
        directory = Path(tempfile.mkdtemp(dir=str(self.scratch)))
        try:
            yield directory
        finally:
            shutil.rmtree(str(directory))

    # The rows.

    def add(self, row: Row) -> None:
        """Adds a line to the table, and shows it at once."""
        self.rows.append(row)
        print("[bench] {:4} {}".format(row.verdict, row.what), file=sys.stderr)

    def add_faster(
        self,
        what: str,
        facts: Dict[str, List[Facts]],
        theirs: str,
        bar: float,
        judged: bool = True,
    ) -> None:
        """A line on how many times faster ours is."""
        mine, other = median(facts["ours"]), median(facts[theirs])
        self.add(
            Row(
                what,
                seconds_text(mine),
                "{} {}".format(seconds_text(other), theirs),
                "{:.3g}x faster".format(other / mine),
                ("{:g}x faster".format(bar) if bar > 1 else "faster") if judged else "",
                other / mine >= bar if judged else None,
                facts,
            )
        )

    def add_share(
        self,
        what: str,
        facts: Dict[str, List[Facts]],
        theirs: str,
        bar: float,
        judged: bool = True,
    ) -> None:
        """A line on which share of their time ours takes.

        The ratio is the median of those of neighbouring runs: the machine's own
        speed changes by a third within minutes.
        """
        mine, other = median(facts["ours"]), median(facts[theirs])
        share = statistics.median(
            one["seconds"] / two["seconds"]
            for one, two in zip(facts["ours"], facts[theirs])
        )
        self.add(
            Row(
                what,
                seconds_text(mine),
                "{} {}".format(seconds_text(other), theirs),
                "{:.3f}x its time".format(share),
                "{:g}x its time".format(bar) if judged else "",
                share <= bar if judged else None,
                facts,
            )
        )

    def add_limit(
        self, what: str, value: float, limit: float, show: Callable[[float], str]
    ) -> None:
        """A line on something that must stay under a limit."""
        self.add(Row(what, show(value), "", "", "under " + show(limit), value < limit))


def _snapshot(scratch: Path) -> Path:
    """The package as pip installs it: real directories, compiled.

    And as it is now: whoever edits the checkout meanwhile changes nothing.
    """
    site = scratch / "site"
    shutil.copytree(
        str(ROOT / "hub_compat"),
        str(site / "hub_compat"),
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    compileall.compile_dir(str(site), quiet=1)
    return site


def _environ(site: Path) -> Dict[str, str]:
    environ = dict(
        os.environ,
        PYTHONPATH=str(site),
        TF_CPP_MIN_LOG_LEVEL="2",
        CUDA_VISIBLE_DEVICES="",
    )
    # The Makefile sets it, for the checkout's sake; modules that were never
    # compiled would be compiled on every run.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return environ


def _failure(command: Sequence[str], output: bytes) -> str:
    return "{}\n{}".format(
        " ".join(command), output.decode(errors="replace").strip()[-3000:]
    )
