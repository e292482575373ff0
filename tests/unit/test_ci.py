"""What a public host runs is what developers run."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any


def test_each_leg_has_a_job(root: Path, monkeypatch: Any) -> None:
    """The matrix has all legs of `make test`, each with a Python that it takes."""
    monkeypatch.syspath_prepend(str(root / "tools"))
    run_tests: Any = importlib.import_module("run_tests")
    environments: Any = importlib.import_module("environments")
    text = (root / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    jobs = dict(re.findall(r'- leg: (\S+)\n +python: "([\d.]+)"', text))
    assert sorted(jobs) == sorted(leg.name for leg in run_tests.LEGS)
    for leg in run_tests.LEGS:
        assert jobs[leg.name] in environments.ENVIRONMENTS[leg.environment].pythons
