"""Everything that can be checked without running TensorFlow: ``make check``.

All checks run, also after one has failed; the exit code tells whether any did.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import List, Tuple

import environments
import wheel

ROOT = wheel.ROOT

# (title, command; "python" stands for the one of the environment "tools")
_CHECKS: Tuple[Tuple[str, List[str]], ...] = (
    ("lint", ["python", "-m", "ruff", "check", "--output-format=concise", "."]),
    (
        "format",
        ["python", "-m", "ruff", "format", "--check", "--output-format=concise", "."],
    ),
    ("types", ["python", "-m", "mypy", "-p", "hub_compat"]),
    ("types for callers", ["python", "-m", "mypy", "tests/typing/caller.py"]),
    ("wheel against tree", [sys.executable, "tools/wheel.py", "--check"]),
    ("support table", [sys.executable, "tools/support_table.py", "--check"]),
    ("reference", [sys.executable, "tools/make_reference.py", "--check"]),
    ("changelog", [sys.executable, "tools/check.py", "--changelog"]),
)


def changelog_problem() -> str:
    """Why CHANGELOG.md is not in order; empty if it is."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    source = (ROOT / "hub_compat" / "__init__.py").read_text(encoding="utf-8")
    version = re.findall('^__version__ = "(.+)"', source, re.MULTILINE)[0]
    if "## [Unreleased]" in text or "## [{}]".format(version) in text:
        return ""
    return "CHANGELOG.md has neither [Unreleased] nor the version in __init__.py."


def main(argv: List[str]) -> int:
    """Runs every check and reports each in a line."""
    if argv == ["--changelog"]:
        problem = changelog_problem()
        print(problem or "ok")
        return 1 if problem else 0
    try:
        python = str(environments.ensure("tools"))
    except (environments.EnvironmentMissing, environments.BuildFailed) as error:
        print("ERROR: {}".format(error), file=sys.stderr)
        return 1
    failed = []
    for title, command in _CHECKS:
        start = time.time()
        result = subprocess.run(
            [python if word == "python" else word for word in command],
            cwd=str(ROOT),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        verdict = "FAILED" if result.returncode else "ok"
        print("{:22}{:8}{:.1f} s".format(title, verdict, time.time() - start))
        if result.returncode:
            failed.append(title)
            print(result.stdout.decode(errors="replace"))
        sys.stdout.flush()
    if failed:
        print("make check: FAILED: {}".format(", ".join(failed)))
        return 1
    print("make check: all {} checks passed".format(len(_CHECKS)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
