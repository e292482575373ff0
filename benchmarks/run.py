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
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional

import conversion_rows
import handle_rows
import module_rows
import slim_rows
import training_rows
from bench import Bench, SideFailed
from models import ModelMissing, Models, default_directory
from report import Facts, table

GROUPS: Dict[str, Callable[[Bench], None]] = {
    "import": conversion_rows.imports,
    "detect": conversion_rows.detect,
    "convert": conversion_rows.convert,
    "weights": conversion_rows.weights,
    "growth": conversion_rows.growth,
    "load": conversion_rows.load,
    "slim": slim_rows.slim,
    "module": module_rows.module,
    "resolve": handle_rows.resolve,
    "lower": training_rows.lower,
    "recurrent": training_rows.recurrent,
    "layer": training_rows.layer,
    "fit": training_rows.fit,
}


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
