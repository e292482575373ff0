"""The support table: what it says of tests that were skipped."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from conftest import both


def test_neither_failures_nor_skips_get_lost() -> None:
    """Of several tests of one check, a failure decides, and a skip is no pass."""
    assert both(None, "passed") == both("passed", "passed") == "passed"
    assert both("passed", "failed") == both("failed", "passed") == "failed"
    assert both("failed", "skipped: why") == both("skipped: why", "failed") == "failed"
    assert both(None, "skipped: why") == "skipped: why"
    assert both("passed", "skipped: why") == both("skipped: why", "passed")
    assert both(both("passed", "skipped: why"), "passed") == "in part: why"


def test_skips_are_no_passes(root: Path) -> None:
    """A module that was not tried is counted as one of those that should work."""
    file = root / "tools" / "support_table.py"
    spec = importlib.util.spec_from_file_location("support_table", str(file))
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    results = {
        "tf221": {
            "one": {"calls": "passed"},
            "two": {"calls": "in part: why"},
            "three": {"calls": "skipped: why"},
            "four": {"losses": "failed"},
        }
    }
    readme = table.render_table(results)
    assert "| 1 of 3 |" in readme
    assert "| 0 of 1 |" in readme
    page = table.render_details(results)
    assert "[one](#one) | yes |" in page
    assert "[two](#two) | not tried: calls |" in page
    assert "[four](#four) | no: losses |" in page
    assert "| skipped: why |" in page
