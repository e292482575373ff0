"""Runs the whole suite against the installed wheel, once per leg.

    python tools/run_tests.py                            # every leg
    python tools/run_tests.py --legs tf221,tf215 -- -k detector -x

A leg is an environment and a mode of TensorFlow. The wheel is built once and
installed into a virtual environment of this checkout, in ``build/``, that sees
the shared environment's packages: clones that run at the same time do not
install over each other. pytest starts in a directory from where the checkout's
own ``hub_compat`` cannot be imported.

The legs ``versions`` run the tests marked ``smoke`` in the TensorFlows in between
(``make test-versions``); two of them are run with the others.

Each leg is divided into processes of about the same time. Two processes run at a
time (``HUB_COMPAT_JOBS``), the longest first; a leg prints when its last is done.
The twenty slowest tests of all come before the summary, whose last line is
``N passed, N failed, N skipped``. The exit code is 0 only if something passed,
nothing failed, and, where ``CI=true``, no leg was left out.

``--quick`` runs what needs no TensorFlow and the passes, in one leg, and a few smoke
tests in two.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree
from pathlib import Path
from typing import IO, Dict, List, Optional, Set, Tuple

import environments
import support_table
import test_parts
import versions_table
import wheel

ROOT = wheel.ROOT
BUILD = ROOT / "build"
# What each file of tests took, in the last run of each leg.
SECONDS = BUILD / "seconds.json"


@dataclasses.dataclass(frozen=True)
class Leg:
    """One run of the suite.

    Attributes:
      name: ``"tf115-eager"``.
      environment: a key of ``environments.ENVIRONMENTS``.
      mode: ``"graph"`` or ``"eager"``, for tests/conftest.py.
      marked: which tests, as an expression of pytest's markers.
      parts: into how many processes the files of tests are divided.
      arguments: for pytest.
    """

    name: str
    environment: str
    mode: str
    marked: str = "not exporters"
    parts: int = 1
    arguments: Tuple[str, ...] = ()


# The TensorFlows in between: one leg for each.
VERSIONS = tuple(
    Leg(name, name, "eager", marked="smoke")
    for name in sorted(environments.ENVIRONMENTS)
    if name.startswith("tf2.")
)
# Those of them that run with the others: the last loader that gives no shapes to the
# handles of variables, and the only one that cannot restore what 2.21 writes of tables.
_ALWAYS = ("tf2.8.4", "tf2.12.1")
# What needs no TensorFlow runs in the oldest Python and in the newest; handles, which
# other libraries fetch, in each Python.
_WITH_TENSORFLOW = "not exporters and (handles or not plain)"
# What is the same in both modes of TensorFlow 1.15 runs in graph mode.
_IN_A_MODE = "not exporters and not plain and not modeless"
# TensorFlow 1.15 lets go of no function and no session's graph: one process would
# come to 15 GB.
LEGS = (
    Leg("tf221", "tf221", "eager", parts=4),
    Leg("tf215", "tf215", "eager", _WITH_TENSORFLOW, parts=4),
    Leg("tf115-graph", "tf115", "graph", parts=4),
    Leg("tf115-eager", "tf115", "eager", _IN_A_MODE, parts=4),
    Leg("exporters", "exporters", "eager", marked="exporters"),
) + tuple(leg for leg in VERSIONS if leg.name in _ALWAYS)
# A TF1 module and a SavedModel, with variables, statistics and a table.
_FEW = ("-k", "image_bn or text_embedding or tf1_simple_save")
_QUICKEST = "plain or passes"
QUICK = (
    Leg("quick-plain", "tf221", "eager", marked=_QUICKEST),
    Leg("quick-tf221", "tf221", "eager", marked="smoke", arguments=_FEW),
    Leg("quick-tf115", "tf115", "graph", marked="smoke", arguments=_FEW),
)


@dataclasses.dataclass
class Outcome:
    """What came of a leg.

    Attributes:
      passed: number of tests.
      failed: number of tests, errors included; a leg that crashed counts as one.
      skipped: number of tests.
      seconds: how long its processes took.
      problem: why the leg as a whole did not run well; empty if it did.
      failures: names of the tests that failed.
      output: what pytest printed.
      tests: seconds and name of each test.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    problem: str = ""
    failures: Tuple[str, ...] = ()
    output: str = ""
    tests: Tuple[test_parts.Timed, ...] = ()

    def add(self, other: Outcome) -> None:
        """Adds what came of another process of the leg."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.seconds += other.seconds
        self.problem = self.problem or other.problem
        self.failures += other.failures
        self.output += other.output
        self.tests += other.tests


@dataclasses.dataclass(frozen=True)
class Part:
    """One process of a leg.

    Attributes:
      leg: the leg.
      number: of the part.
      paths: what pytest is given to run.
      weight: seconds that it is expected to take.
    """

    leg: Leg
    number: int
    paths: Tuple[str, ...]
    weight: float


def say(message: str) -> None:
    """Prints a line of progress."""
    # In one piece: print() would write the line's end apart, and others between.
    sys.stdout.write("[tests] " + message + "\n")
    sys.stdout.flush()


def install(name: str, base: Path, wheel_path: Path) -> Path:
    """Installs the wheel over a shared environment, not into it.

    Args:
      name: the environment's name.
      base: the environment's Python.
      wheel_path: the wheel.

    Returns:
      A Python that sees the environment's packages and the wheel's.

    Raises:
      environments.BuildFailed: venv or pip failed.
    """
    overlay = BUILD / "envs" / name
    shutil.rmtree(str(overlay), ignore_errors=True)
    python = overlay / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"

    def run(*command: str) -> str:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output = result.stdout.decode(errors="replace")
        if result.returncode:
            raise environments.BuildFailed(
                "Installing the wheel over {} failed: {}\n{}".format(
                    name, " ".join(command), output
                )
            )
        return output.strip()

    run(str(base), "-m", "venv", "--without-pip", str(overlay))
    shared, own = run(str(base), "-c", query), run(str(python), "-c", query)
    # addsitedir, unlike a plain line, also reads the .pth files in there.
    line = "import site; site.addsitedir({!r})\n".format(shared)
    Path(own, "shared_environment.pth").write_text(line)
    run(
        *(str(base), "-m", "pip", "--python", str(python), "install", "--quiet"),
        *("--no-deps", "--no-index", "--force-reinstall", str(wheel_path)),
    )
    return python


def _count(junit: Path, outcome: Outcome) -> None:
    """Reads the numbers out of pytest's own report."""
    failures = []
    for case in xml.etree.ElementTree.parse(str(junit)).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            outcome.failed += 1
            names = (case.get("classname"), case.get("name"))
            failures.append("::".join(name for name in names if name))
        elif "skipped" in kinds:
            outcome.skipped += 1
        else:
            outcome.passed += 1
    outcome.failures += tuple(failures)
    outcome.tests += tuple(test_parts.timed(junit))


# Process groups; a session of their own keeps the terminal's Ctrl-C from them.
_RUNNING: Set[int] = set()


def _kill_group(leader: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(leader, signal.SIGKILL)


def _tables(leg: Leg) -> Tuple[str, ...]:
    """The tables of README.md that the leg has results for."""
    if leg in VERSIONS:
        return ("versions",)
    return ("support", "versions") if leg in LEGS and leg.marked != "exporters" else ()


def _forget(leg: Leg, whole: bool) -> None:
    """Removes what an earlier run of a leg left."""
    shutil.rmtree(str(BUILD / "run" / leg.name), ignore_errors=True)
    for table in _tables(leg) if whole else ():
        (BUILD / table).mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            (BUILD / table / (leg.name + ".json")).unlink()


def run_part(part: Part, python: Path, arguments: List[str], timeout: float) -> Outcome:
    """Runs pytest for one part of a leg and reports what came of it.

    Args:
      part: the part.
      python: the Python with the wheel.
      arguments: for pytest; without any, all tests run.
      timeout: in seconds.
    """
    leg, start = part.leg, time.time()
    work = BUILD / "run" / leg.name / str(part.number)
    work.mkdir(parents=True)
    log, junit = work / "output.log", work / "junit.xml"
    command = [str(python), "-m", "pytest", "-c", str(ROOT / "pyproject.toml")]
    command += ["--rootdir", str(ROOT), "-o", "pythonpath=", "-p", "no:cacheprovider"]
    command += ["--basetemp", str(work / "tmp")]
    # One file that cannot be imported should not hide what is with the others.
    command += ["--continue-on-collection-errors", "--disable-warnings"]
    command += ["-m", leg.marked, *leg.arguments, *arguments]
    command += ["--junitxml", str(junit), *part.paths]
    say(
        "{}, part {}: output in {}".format(leg.name, part.number, log.relative_to(ROOT))
    )
    with open(str(log), "wb") as output:
        environ = _environment(leg, python, not arguments)
        code = _run_group(command, work, environ, output, timeout)
    outcome = Outcome(output=log.read_text(errors="replace"))
    outcome.problem = _problem(junit, code, outcome)
    shutil.rmtree(str(work / "tmp"), ignore_errors=True)
    if code is None:
        outcome.problem = "stopped after {:.0f} s, in {}".format(
            timeout, _last_file(outcome.output)
        )
    outcome.seconds = time.time() - start
    say("{}, part {}: {:.0f} s".format(leg.name, part.number, outcome.seconds))
    return outcome


def _environment(leg: Leg, python: Path, whole: bool) -> Dict[str, str]:
    """What pytest finds in its environment; ``whole`` if nothing is selected."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environ.update(
        HUB_COMPAT_TEST_INSTALLED="1",
        HUB_COMPAT_TEST_LEG=leg.name,
        HUB_COMPAT_TEST_MODE=leg.mode,
        PYTHONNOUSERSITE="1",
        PYTHONDONTWRITEBYTECODE="1",
    )
    if leg.environment == "tf115":
        # It looks for what XLA could compile in every graph that it runs, also where
        # nothing asks for it: a sixth of all its time. With no fuel it does not look.
        environ["TF_XLA_FLAGS"] = "--tf_xla_clustering_fuel=0"
    # A selection says nothing about the rest.
    for table in _tables(leg) if whole else ():
        environ["HUB_COMPAT_{}_DIR".format(table.upper())] = str(BUILD / table)
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # The scripts of the wheel and of the environment, as if it were activated.
    environ["PATH"] = str(python.parent) + os.pathsep + environ.get("PATH", "")
    return environ


def _parts(leg: Leg, arguments: List[str]) -> List[Part]:
    """The processes of a leg; one alone where tests are selected."""
    if any(argument.startswith(str(ROOT)) for argument in arguments):
        return [Part(leg, 0, (), 0.0)]
    files = {path.stem: path for path in (ROOT / "tests").rglob("test_*.py")}
    weights = {n: test_parts.seconds_of(SECONDS, leg.name, n) for n in files}
    divided = test_parts.divide(weights, 1 if arguments else leg.parts)
    if leg.marked in ("exporters", "smoke", _QUICKEST):
        # Of which they run little.
        divided = [(0.0, names) for _, names in divided]
    return [
        Part(leg, number, tuple(str(files[name]) for name in names), weight)
        for number, (weight, names) in enumerate(divided)
    ]


def _run_group(
    command: List[str],
    cwd: Path,
    environ: Dict[str, str],
    output: IO[bytes],
    left: float,
) -> Optional[int]:
    """Runs a command, and ends what it leaves behind; None if the time was over."""
    process = subprocess.Popen(
        command,
        cwd=str(cwd),
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        # Its group is killed as a whole: also what a test may have left running.
        start_new_session=True,
    )
    _RUNNING.add(process.pid)
    try:
        code: Optional[int] = process.wait(max(left, 1))
    except subprocess.TimeoutExpired:
        code = None
    _kill_group(process.pid)
    process.wait()
    _RUNNING.discard(process.pid)
    return code


def _problem(junit: Path, code: Optional[int], outcome: Outcome) -> str:
    """Counts a report; says why the process as a whole did not run well, if so."""
    failed = outcome.failed
    try:
        _count(junit, outcome)
    except (OSError, xml.etree.ElementTree.ParseError):
        return "pytest wrote no report"
    if code and code < 0:
        return "pytest was killed by signal {}".format(-code)
    # 5: the leg's marker selects none of these files' tests.
    if code not in (None, 0, 5) and outcome.failed == failed:
        return "pytest ended with code {}".format(code)
    return ""


def _last_file(output: str) -> str:
    """The file of tests that pytest was in when it was stopped."""
    found = re.findall(r"^(?:\S*/)?(test_\w+\.py)", output, re.MULTILINE)
    return found[-1] if found else "no test"


def _prepare(
    legs: List[Leg], jobs: int
) -> Tuple[Dict[str, Path], Dict[str, str], Dict[str, str]]:
    """Builds the environments and installs the wheel over each.

    Returns:
      Pythons by environment; why there is none, for want of an interpreter; and
      why there is none, for another reason.
    """
    wheel_path = wheel.build(BUILD / "dist")
    say("testing {}".format(wheel_path.relative_to(ROOT)))
    pythons: Dict[str, Path] = {}
    missing: Dict[str, str] = {}
    broken: Dict[str, str] = {}

    def prepare(name: str) -> None:
        try:
            pythons[name] = install(name, environments.ensure(name), wheel_path)
        except environments.EnvironmentMissing as error:
            missing[name] = str(error)
        except environments.BuildFailed as error:
            broken[name] = str(error)

    names = sorted({leg.environment for leg in legs})
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(prepare, names))
    return pythons, missing, broken


def _print_leg(leg: Leg, outcome: Outcome) -> None:
    title = " {} ".format(leg.name).center(78, "=")
    text = "\n{}\n{}\n".format(title, outcome.output.rstrip())
    if outcome.problem:
        text += "{}: {}\n".format(leg.name, outcome.problem)
    sys.stdout.write(text)
    sys.stdout.flush()


def _support_table_is_stale() -> bool:
    for table in (support_table, versions_table):
        folder = BUILD / table.FOLDER
        results = table.read_results()
        if list(folder.glob("*.json")) and table.merge(results, folder) != results:
            return True
    return False


def _print_slowest(outcomes: Dict[str, Outcome], number: int = 20) -> None:
    """Prints the tests that took longest, of the whole run."""
    tests = [
        (seconds, "{}: {}".format(leg, name))
        for leg, outcome in outcomes.items()
        for seconds, name in outcome.tests
    ]
    print("\n" + " slowest tests, seconds ".center(78, "="))
    for seconds, name in sorted(tests, reverse=True)[:number]:
        print("{:7.1f}  {}".format(seconds, name))
    # Unlike the seconds above, the same on a machine that others use.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("{:7.0f}  of processors, all in all".format(used.ru_utime + used.ru_stime))


def _summarise(
    legs: List[Leg],
    outcomes: Dict[str, Outcome],
    left_out: Set[str],
    ci: bool,
    complete: bool,
) -> int:
    """Prints the table and the closing line; returns the exit code."""
    print("\n" + " summary ".center(78, "="))
    for leg in legs:
        for name in outcomes[leg.name].failures if leg.name in outcomes else ():
            print("FAILED {}: {}".format(leg.name, name))
    row = "{:14}{:>8}{:>8}{:>9}{:>9}  {}"
    print(row.format("leg", "passed", "failed", "skipped", "seconds", "").rstrip())
    total = Outcome()
    for leg in legs:
        outcome = outcomes.get(leg.name)
        if outcome is None:
            print(row.format(leg.name, "-", "-", "-", "-", "NOT RUN, see above"))
            total.failed += ci
            continue
        numbers = (outcome.passed, outcome.failed, outcome.skipped)
        seconds = "{:.0f}".format(outcome.seconds)
        print(row.format(leg.name, *numbers, seconds, outcome.problem).rstrip())
        total.passed += outcome.passed
        total.failed += outcome.failed + bool(outcome.problem)
        total.skipped += outcome.skipped
    for reason in sorted(left_out):
        kind = "ERROR (CI=true)" if ci else "WARNING: SKIPPED"
        print("*** {}: {} ***".format(kind, reason))
    if complete and not total.failed and _support_table_is_stale():
        print("README's tables do not show these results: run `make support`.")
    print(
        "{} passed, {} failed, {} skipped".format(
            total.passed, total.failed, total.skipped
        ),
        flush=True,
    )
    return 0 if total.passed and not total.failed else 1


def _run(
    parts: List[Part],
    pythons: Dict[str, Path],
    arguments: List[str],
    timeout: float,
    jobs: int,
    outcomes: Dict[str, Outcome],
) -> bool:
    """Runs parts, the longest first, and adds what came of them to ``outcomes``.

    Returns:
      Whether they ran to their end; not if the keyboard interrupted them.
    """
    left: Dict[str, int] = collections.Counter(part.leg.name for part in parts)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = {
            pool.submit(
                run_part, part, pythons[part.leg.environment], arguments, timeout
            ): part
            for part in sorted(parts, key=lambda part: -part.weight)
        }
        try:
            for future in concurrent.futures.as_completed(futures):
                leg = futures[future].leg
                outcome = outcomes.setdefault(leg.name, Outcome())
                outcome.add(future.result())
                left[leg.name] -= 1
                if not left[leg.name]:
                    _finish(leg, outcome, not arguments)
        except KeyboardInterrupt:
            for future in futures:
                future.cancel()
            for leader in list(_RUNNING):
                _kill_group(leader)
            return False
    return True


def _finish(leg: Leg, outcome: Outcome, whole: bool) -> None:
    """Judges and prints a leg whose last part is done."""
    if not (outcome.passed or outcome.failed or outcome.problem):
        outcome.problem = "no test ran"
    if whole and not outcome.problem:
        test_parts.remember(SECONDS, leg.name, outcome.tests)
    _print_leg(leg, outcome)


def main(argv: List[str]) -> int:
    """Runs the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Runs the suite on the wheel.")
    parser.add_argument("--legs", default="", help="names, by comma; default: all")
    parser.add_argument("--quick", action="store_true", help="a verdict in two minutes")
    parser.add_argument(
        "--timeout", type=float, default=2700, help="seconds per process"
    )
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    options = parser.parse_args(argv)
    names = [name for name in options.legs.split(",") if name]
    if "versions" in names:
        names += [leg.name for leg in VERSIONS]
    every = LEGS + tuple(leg for leg in VERSIONS if leg not in LEGS)
    unknown = set(names) - {leg.name for leg in every} - {"versions"}
    if unknown:
        known = ", ".join(["versions"] + [leg.name for leg in every])
        parser.error("no such leg; the legs are {}: {}".format(known, sorted(unknown)))
    legs = [leg for leg in every if leg.name in names] if names else list(LEGS)
    if options.quick:
        legs = list(QUICK)
    # pytest starts elsewhere.
    arguments = [
        str(ROOT / a) if a.startswith("tests/") else a for a in options.arguments
    ]
    ci = os.environ.get("CI", "").lower() in ("1", "true")
    jobs = int(os.environ.get("HUB_COMPAT_JOBS") or min(2, os.cpu_count() or 1))

    try:
        pythons, missing, broken = _prepare(legs, jobs)
    except (
        environments.BuildFailed,
        environments.EnvironmentMissing,
        wheel.WheelError,
    ) as error:
        print("ERROR: {}".format(error), file=sys.stderr)
        return 1
    # The results of an earlier run are those of another converter.
    outcomes: Dict[str, Outcome] = {}
    for leg in legs:
        if leg.environment in broken:
            outcomes[leg.name] = Outcome(problem="no environment, see above")
        if leg.environment in missing:
            say("*** {} WILL NOT RUN: {}".format(leg.name, missing[leg.environment]))
    for reason in broken.values():
        say("ERROR: " + reason)
    runnable = [leg for leg in legs if leg.environment in pythons]
    for leg in runnable:
        _forget(leg, not arguments)
    parts = [part for leg in runnable for part in _parts(leg, arguments)]
    if not _run(parts, pythons, arguments, options.timeout, jobs, outcomes):
        return 130
    _print_slowest(outcomes)
    complete = not arguments and not options.quick
    return _summarise(legs, outcomes, set(missing.values()), ci, complete)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
