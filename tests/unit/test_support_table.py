"""The support table: what it says of tests that were skipped."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from outcomes import both


def test_neither_failures_nor_skips_get_lost() -> None:
    """Of several tests of one check, a failure decides, and a skip is no pass."""
    assert both(None, "passed") == both("passed", "passed") == "passed"
    assert both("passed", "failed") == both("failed", "passed") == "failed"
    assert both("failed", "skipped: why") == both("skipped: why", "failed") == "failed"
    assert both(None, "skipped: why") == "skipped: why"
    assert both("passed", "skipped: why") == both("skipped: why", "passed")
    assert both(both("passed", "skipped: why"), "passed") == "in part: why"


@pytest.fixture
def tool(root: Path, monkeypatch: Any) -> Any:
    """Imports one of the programs in tools/."""
    monkeypatch.syspath_prepend(str(root / "tools"))
    return importlib.import_module


def test_skips_are_no_passes(tool: Any) -> None:
    """A module that was not tried is counted as one of those that should work."""
    table = tool("support_table")
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
    assert "| one |  | 1 of 1 |" in page
    assert "| [two](#two) |  | 0 of 1 |" in page
    assert "| [four](#four) |  | 0 of 1 |" in page
    assert "| outputs of `model(x)`, optional inputs too | skipped: why |" in page
    assert "## one" not in page
    assert "| `model.regularization_losses` | failed |" in page


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("ok", "ok"),
        ("a\x1b[1m{{node b}} c.\x1b[0m d | e", "a c. d / e"),
        (
            "wrong: 6 greater than 2 [Op:MirrorPad] name: \nArguments: x",
            "wrong: 6 greater than 2",
        ),
        ("One sentence. " + "word " * 60, "One sentence."),
        ("word " * 60, " ".join(["word"] * 48) + " ..."),
    ],
)
def test_errors_in_a_cell_are_plain(text: str, wanted: Any, tool: Any) -> None:
    """No codes of a terminal, no nodes, and no half of a sentence."""
    assert tool("survey_layers").plain(text) == wanted


def test_versions_by_their_numbers(tool: Any) -> None:
    """2.10 comes after 2.4; a column that a TensorFlow does not have is empty."""
    table = tool("versions_table")

    def leg(tensorflow: str, keras: Any, **outcomes: Any) -> Any:
        return {
            "tensorflow": tensorflow,
            "python": "3.9",
            "keras": keras,
            "outcomes": outcomes,
        }

    (newer, layer, *_) = [name for name in table._COLUMNS if "mod" not in name[:4]]
    results = {
        "a": leg("2.10.0", ["2.10.0"], one={layer: "passed"}, two={layer: "failed"}),
        "tf2.4.0": leg("2.4.0", ["2.4.0"], one={newer: "passed"}),
    }
    lines = table.render_table(results).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 2.4.0", "| 2.10.0"]
    assert "1 of 2 (2.10.0)" in lines[3]
    assert lines[3].endswith("| - |")
