"""The ratios that the design promises, measured: ``make bench``.

Both sides of a comparison run in the same minute on the same machine,
alternately, each time in a new process which imports before its clock starts.
The table shows medians. The first run of each side only warms the file caches
and does not count. Needs Linux: memory and reads are taken from /proc.

    make bench
    make bench ARGS="--quick"                       # smaller models, three runs
    make bench ARGS="--only load --json out.json"   # every single run as well

Exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import dataclasses
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Union

from models import (
    EMBEDDING,
    RECURRENT,
    ROOT,
    ModelMissing,
    Models,
    default_directory,
    size_of,
    weights_of,
)

SIDES = Path(__file__).resolve().with_name("sides.py")
MEGABYTE = 10**6
Facts = Dict[str, Any]

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


@dataclasses.dataclass
class Row:
    """A line of the table.

    Attributes:
      what: what is measured: ``"convert ResNet-50"``.
      ours, theirs: what came out, for people; theirs names the other side too.
      ratio: how they relate, or empty.
      bar: what is promised, or empty for a line that only informs.
      ok: whether the bar is kept; None where there is none, or where --quick
        takes a model too small for it.
      facts: every single run, by side.
    """

    what: str
    ours: str
    theirs: str
    ratio: str
    bar: str
    ok: Optional[bool]
    facts: Dict[str, List[Facts]] = dataclasses.field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The table's last column."""
        return {True: "ok", False: "MISS", None: "-"}[self.ok]


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
        command = [sys.executable] + list(arguments)
        result = subprocess.run(
            command,
            cwd=str(self.scratch),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        if result.returncode:
            raise SideFailed(_failure(command[:3], result.stderr))
        return result.stdout.decode().splitlines()

    def writing(self, name: str, source: Path, twice: bool = False) -> Facts:
        """A side that writes a directory, which is deleted again."""
        options = ["--twice", name] if twice else [name]
        with self._directory() as directory:
            return self.side(*options, source, directory / "out")

    def copying(self, source: Path) -> Facts:
        """``cp -r``, to the same file system."""
        with self._directory() as directory:
            return self.command("cp", "-r", str(source), str(directory / "out"))

    def loading(self, source: Path) -> Facts:
        """``hub_compat.load`` with nothing in its cache."""
        with self._directory() as directory:
            self.environ["HUB_COMPAT_CACHE_DIR"] = str(directory)
            return self.side("hub_compat_load", source)

    def command(self, *command: str) -> Facts:
        """A whole process."""
        start = time.perf_counter()
        result = subprocess.run(
            command,
            cwd=str(self.scratch),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        seconds = time.perf_counter() - start
        if result.returncode:
            raise SideFailed(_failure(command, result.stderr))
        return {"seconds": seconds}

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
    def _directory(self) -> Iterator[Path]:
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
        mine, other = _median(facts["ours"]), _median(facts[theirs])
        self.add(
            Row(
                what,
                _seconds(mine),
                "{} {}".format(_seconds(other), theirs),
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
        mine, other = _median(facts["ours"]), _median(facts[theirs])
        share = statistics.median(
            one["seconds"] / two["seconds"]
            for one, two in zip(facts["ours"], facts[theirs])
        )
        self.add(
            Row(
                what,
                _seconds(mine),
                "{} {}".format(_seconds(other), theirs),
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

    def convert(self) -> None:
        """Conversion of a large graph."""
        resnet = self.models.hub_module("resnet50")
        facts = self.alternate(
            {
                "ours": lambda: self.writing("convert", resnet, twice=True),
                "load + save": lambda: self.writing(
                    "load_and_save", resnet, twice=True
                ),
            },
            runs=self.many_runs,
        )
        self.add_faster("convert ResNet-50", facts, "load + save", 20)
        # In a new process TensorFlow makes much ready at its first load, which is
        # no import; a script that converts many modules pays for it once.
        again = {name: [f["again"] for f in runs] for name, runs in facts.items()}
        self.add_faster("  again, in one process", again, "load + save", 20, False)

    def weights(self) -> None:
        """Conversion of large weights."""
        source = self._embedding()
        what = "convert {} embedding".format(_bytes(size_of(source)))
        facts = self.alternate(
            {
                "ours": lambda: self.writing("convert", source),
                "load + save": lambda: self.writing("load_and_save", source),
                "cp -r": lambda: self.copying(source),
            }
        )
        # Both bars are about a gigabyte: less is copied before a process has started.
        judged = self.megabytes >= 1000
        self.add_faster(what, facts, "load + save", 100, judged)
        self.add_faster("  against a copy", facts, "cp -r", 1, judged)
        extra = {
            name: statistics.median(f["extra_memory"] for f in facts[name])
            for name in ("ours", "load + save")
        }
        self.add(
            Row(
                "  memory beyond import tensorflow",
                _bytes(extra["ours"]),
                "{} load + save".format(_bytes(extra["load + save"])),
                "",
                "under 50 MB",
                # The worst run, not the median: memory has no noise to forgive.
                max(f["extra_memory"] for f in facts["ours"]) < 50 * MEGABYTE,
            )
        )
        weights = weights_of(source)
        reported = max(f["weight_bytes_read"] for f in facts["ours"])
        read = max(f["bytes_read"] for f in facts["ours"])
        self.add(
            Row(
                "  weights read, as reported",
                _bytes(reported),
                "{} there".format(_bytes(weights)),
                "",
                "0 B",
                reported == 0,
            )
        )
        # Everything a conversion may read: the graph, the index, the assets.
        self.add_limit(
            "  read by the process, in all",
            read,
            size_of(source) - weights + 2 * MEGABYTE,
            _bytes,
        )
        source = self._partitioned()
        facts = self.alternate(
            {
                "ours": lambda: self.writing("convert", source),
                "cp -r": lambda: self.copying(source),
            }
        )
        what = "convert {} embedding in parts".format(_bytes(size_of(source)))
        self.add_faster(what, facts, "cp -r", 1, judged)

    def _embedding(self) -> Path:
        size = str(self.megabytes)
        return self.models.hub_module(
            "embedding", "--megabytes", size, writer=EMBEDDING
        )

    def _partitioned(self) -> Path:
        return self.models.hub_module("embedding", "--megabytes", str(self.megabytes))

    def growth(self) -> None:
        """Conversion of growing graphs."""
        sizes = (100, 1000, 10_000) if self.quick else (1000, 10_000, 100_000)
        sources = {
            size: self.models.hub_module("deep", "--nodes", str(size)) for size in sizes
        }
        facts = self.alternate(
            {
                str(size): lambda size=size: self.writing("convert", sources[size])
                for size in sizes
            }
        )
        times = [_median(facts[str(size)]) for size in sizes]
        for size, seconds in zip(sizes[:2], times):
            self.add(
                Row(
                    "convert a chain of {:,} nodes".format(size),
                    _seconds(seconds),
                    "",
                    _seconds(seconds / size) + " a node",
                    "",
                    None,
                )
            )
        self.add(
            Row(
                "convert a chain of {:,} nodes".format(sizes[2]),
                _seconds(times[2]),
                "{} for {:,}".format(_seconds(times[1]), sizes[1]),
                "{:.1f}x for 10x, {} a node".format(
                    times[2] / times[1], _seconds(times[2] / sizes[2])
                ),
                "15x for 10x",
                times[2] / times[1] <= 15,
                facts,
            )
        )

    def lower(self) -> None:
        """Lowering of a model of this TensorFlow for TensorFlow 1.15."""
        sizes = (100, 1000) if self.quick else (1000, 10_000)
        sources = {
            str(size): self.models.newer("deep", "--nodes", str(size)) for size in sizes
        }
        sources["ResNet-50"] = self.models.newer("resnet50")
        facts = self.alternate(
            {
                name: lambda source=source: self.writing("lower", source, twice=True)
                for name, source in sources.items()
            }
        )
        times = {name: _median([f["again"] for f in facts[name]]) for name in facts}
        first = _median(facts["ResNet-50"])
        self.add_limit("lower ResNet-50, once in a process", first, 0.5, _seconds)
        small, large = (times[str(size)] for size in sizes)
        self.add(
            Row(
                "lower a chain of {:,} nodes".format(sizes[1]),
                _seconds(large),
                "{} for {:,}".format(_seconds(small), sizes[0]),
                "{:.1f}x for 10x".format(large / small),
                "15x for 10x",
                large / small <= 15,
                facts,
            )
        )

    def load(self) -> None:
        """Loading of TF1 Hub modules, conversion included, and of a TF2 SavedModel."""
        resnet = self.models.hub_module("resnet50")
        cases = [("ResNet-50", resnet, 0.7, self.many_runs)]
        for name, source in (
            ("embedding", self._embedding()),
            ("embedding in parts", self._partitioned()),
        ):
            name = "{} {}".format(_bytes(size_of(source)), name)
            cases.append((name, source, 1.05, self.runs))
        for name, source, bar, runs in cases:
            facts = self.alternate(
                {
                    "ours": lambda source=source: self.loading(source),
                    "tensorflow_hub": lambda source=source: self.side(
                        "tensorflow_hub_load", source
                    ),
                },
                runs=runs,
            )
            self.add_share("first load of " + name, facts, "tensorflow_hub", bar)
        self._load_tf2(self.models.tf2_saved_model(resnet))

    def _load_tf2(self, source: Path) -> None:
        """Loading of what TensorFlow loads, which must not take longer."""
        theirs = "tf.saved_model.load"
        # Three in a hundred is far less than one process differs from the next,
        # so the two sides take turns within each.
        facts: Dict[str, List[Facts]] = {"ours": [], theirs: []}
        for _ in range(self.runs):
            sides = ("hub_compat_load", "tensorflow_load")
            pairs = self.side("--pairs", "9", *sides, source)
            for name, side in zip(facts, sides):
                facts[name].extend({"seconds": seconds} for seconds in pairs[side])
        self.add_share("load of a TF2 SavedModel", facts, theirs, 1.03)
        facts = self.alternate(
            {
                "ours": lambda: self.loading(source),
                theirs: lambda: self.side("tensorflow_load", source),
            },
            runs=self.many_runs,
        )
        self.add_share("  first in a process", facts, theirs, 1.03, judged=False)

    def recurrent(self) -> None:
        """An LSTM of 100 steps, written as TF1 writes loops."""
        source = self.models.hub_module("lstm", writer=RECURRENT)
        for what, sides, bar in (
            ("forward", ("converted_forward", "untouched_forward"), 1.2),
            ("gradient", ("converted_gradient", "keras_gradient"), 1.5),
        ):
            theirs = {"forward": "the graph untouched", "gradient": "tf_keras"}[what]
            facts: Dict[str, List[Facts]] = {"ours": [], theirs: []}
            with self._directory() as directory:
                self.environ["HUB_COMPAT_CACHE_DIR"] = str(directory)
                for _ in range(self.runs):
                    pairs = self.side("--pairs", "9", *sides, source)
                    for name, side in zip(facts, sides):
                        facts[name].extend({"seconds": s} for s in pairs[side])
            self.add_share("LSTM, 100 steps, {} x10".format(what), facts, theirs, bar)

    def layer(self) -> None:
        """KerasLayer, called and trained, against tensorflow_hub's."""
        small = self._converted(ROOT / "testdata" / "image_bn" / "module")
        resnet = self._converted(self.models.hub_module("resnet50"))
        hub, raw = "tensorflow_hub", "a concrete function"
        for what, one, other, source, theirs, bar in (
            ("KerasLayer x50", "our_layer_eager", "their_layer_eager", small, hub, 1.1),
            ("", "our_layer_eager", "concrete_eager", small, raw, 0),
            (
                "  in a tf.function",
                "our_layer_in_function",
                "concrete_in_function",
                small,
                raw,
                1.1,
            ),
            (
                "  in a tf.function",
                "our_layer_in_function",
                "their_layer_in_function",
                small,
                hub,
                1.1,
            ),
            (
                "fit, ResNet-50 frozen",
                "our_fit_frozen",
                "their_fit_frozen",
                resnet,
                hub,
                1.1,
            ),
            (
                "fit, ResNet-50 trained",
                "our_fit_trainable",
                "their_fit_trainable",
                resnet,
                hub,
                1.1,
            ),
        ):
            self._pairs(what or "  against it", (one, other), source, theirs, bar)

    def _converted(self, source: Path) -> Path:
        """What tensorflow_hub can train, too."""
        target = self.scratch / (source.parent.name + source.name + "-converted")
        if not target.exists():
            self.side("convert", source, target)
        return target

    def _pairs(
        self,
        what: str,
        sides: Sequence[str],
        source: Path,
        theirs: str,
        bar: float,
    ) -> None:
        facts: Dict[str, List[Facts]] = {"ours": [], theirs: []}
        for _ in range(self.runs):
            pairs = self.side("--pairs", "5", *sides, source)
            for name, side in zip(facts, sides):
                facts[name].extend({"seconds": s} for s in pairs[side])
        self.add_share(what, facts, theirs, bar, judged=bool(bar))

    def detect(self) -> None:
        """The command line, from a cold shell."""
        resnet = self.models.hub_module("resnet50")
        gigabyte = self.models.with_huge_graph(resnet, 10**9)
        tool = str(Path(sys.executable).with_name("saved_model_cli"))

        def ours(directory: Path) -> Callable[[], Facts]:
            python = (sys.executable, "-m", "hub_compat")
            return lambda: self.command(*python, "detect", str(directory))

        facts = self.alternate(
            {
                "ours": ours(resnet),
                "ours, 1 GB": ours(gigabyte),
                "saved_model_cli": lambda: self.command(
                    tool, "show", "--dir", str(resnet), "--all"
                ),
            }
        )
        huge = {
            "ours": facts.pop("ours, 1 GB"),
            "saved_model_cli": facts["saved_model_cli"],
        }
        for name, source, runs in (
            ("detect ResNet-50, from a shell", resnet, facts),
            # Against their time on ResNet-50: on this they would take longer still.
            ("detect 1 GB of saved_model.pb", gigabyte, huge),
        ):
            self.add_faster(name, runs, "saved_model_cli", 20)
            peak = max(self.memory_of_detect(source) for _ in range(self.runs))
            self.add_limit("  memory of the process", peak, 30 * MEGABYTE, _bytes)

    def imports(self) -> None:
        """``import hub_compat``."""
        facts = self.alternate(
            {
                "ours": lambda: self.importing("hub_compat"),
                "tensorflow_hub": lambda: self.importing("tensorflow_hub"),
            }
        )
        seconds = _median(facts["ours"])
        theirs = _median(facts["tensorflow_hub"])
        clean = not any(f["tensorflow"] for f in facts["ours"])
        self.add(
            Row(
                "import hub_compat",
                _seconds(seconds) + ("" if clean else ", with TensorFlow"),
                "{} tensorflow_hub".format(_seconds(theirs)),
                "{:.3g}x faster".format(theirs / seconds),
                "under 50 ms, no TensorFlow",
                seconds < 0.05 and clean,
                facts,
            )
        )


GROUPS: Dict[str, Callable[[Bench], None]] = {
    "import": Bench.imports,
    "detect": Bench.detect,
    "convert": Bench.convert,
    "weights": Bench.weights,
    "growth": Bench.growth,
    "load": Bench.load,
    "lower": Bench.lower,
    "recurrent": Bench.recurrent,
    "layer": Bench.layer,
}


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


def _median(facts: List[Facts]) -> float:
    return statistics.median(f["seconds"] for f in facts)


def _seconds(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 1:
            return "{:.3g} {}".format(value * factor, unit)
    return "{:.3g} us".format(value * 1e6)


def _bytes(value: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return "{:.3g} {}".format(value / factor, unit)
    return "{:.0f} B".format(value)


def table(rows: List[Row]) -> str:
    """The rows as aligned text."""
    cells = [("what", "ours", "theirs", "ratio", "bar", "")]
    cells += [(r.what, r.ours, r.theirs, r.ratio, r.bar, r.verdict) for r in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _machine() -> Facts:
    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _options(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="smaller models and three runs; bars about a gigabyte are not judged",
    )
    parser.add_argument("--only", choices=sorted(GROUPS), action="append")
    parser.add_argument("--runs", type=int, help="5, or 3 with --quick")
    parser.add_argument(
        "--megabytes", type=int, help="of the embedding; 1200, or 100 with --quick"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="every single run")
    parser.add_argument(
        "--tf1-python",
        metavar="PYTHON",
        help="has TensorFlow 1.15 and tensorflow_hub, to write the models; by "
        "default that of tools/environments.py",
    )
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the benchmarks; see the module's docstring."""
    options = _options(argv)
    models = Models(default_directory(), options.tf1_python)
    models.directory.mkdir(parents=True, exist_ok=True)
    machine = [_machine()]
    failures = []
    with tempfile.TemporaryDirectory(prefix="run-", dir=str(models.directory)) as name:
        bench = Bench(models, Path(name), options)
        for group, function in GROUPS.items():
            if options.only and group not in options.only:
                continue
            # One broken side must not hide the rows of the others.
            try:
                function(bench)
            except (SideFailed, ModelMissing) as error:
                failures.append("{}: {}".format(group, error))
    machine.append(_machine())
    print(table(bench.rows))
    print(
        "\nmedians of {} runs or more, of neighbouring runs' ratios where it says 'its "
        "time'; {} CPUs, load {:.1f} before and {:.1f} after".format(
            bench.runs,
            machine[0]["cpus"],
            machine[0]["load_average"][0],
            machine[1]["load_average"][0],
        )
    )
    if options.json:
        rows = [dataclasses.asdict(row) for row in bench.rows]
        report = {"machine": machine, "rows": rows, "failures": failures}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    for failure in failures:
        print("\nFAILED: " + failure)
    missed = [row.what.strip() for row in bench.rows if row.ok is False]
    if missed:
        print("\nMISSED: " + "; ".join(missed))
    return 1 if missed or failures else 0


if __name__ == "__main__":
    sys.exit(main())
