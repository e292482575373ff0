"""README.md's table of versions, out of what the tests did: ``make support``.

``tests/conftest.py`` leaves one file per leg in ``build/versions/``: versions, and the
outcome of every test marked ``smoke``, by module and column. They are merged into
``docs/versions.json``, leg by leg, so that a run of some legs keeps the others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "versions.json"
# Where the tests leave what becomes RESULTS, in build/.
FOLDER = "versions"
BEGIN = "<!-- table of versions: written by `make support` -->"
END = "<!-- end of table of versions -->"

# Checks, as tests/support/smoke.py names them, and what README.md calls their columns.
_COLUMNS = {
    "TF1 modules and SavedModels": "TF1 modules",
    "models of TensorFlow 2.21": "models of 2.21",
    "`KerasLayer`, `export_reusable`": "Keras 2",
    "`KerasLayer`, `export_reusable` of Keras 3": "Keras 3",
}
_MODES = {"tf115-graph": ", graph mode", "tf115-eager": ", eager"}

# leg -> "tensorflow", "python", "keras" and "outcomes": module -> check -> outcome.
Results = Dict[str, Dict[str, Any]]


class TableError(Exception):
    """There is nothing to make a table of, or nowhere to put it."""


def read_results() -> Results:
    """Reads docs/versions.json."""
    if not RESULTS.exists():
        return {}
    found: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def merge(old: Results, folder: Path) -> Results:
    """Replaces the legs that ran.

    Args:
      old: the results that docs/ holds.
      folder: where the tests left their results.

    Returns:
      The merged results.

    Raises:
      TableError: the tests left none.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise TableError(
            "{} holds no results; run `make test` or `make test-versions`.".format(
                folder
            )
        )
    merged = dict(old)
    for file in files:
        merged[file.stem] = json.loads(file.read_text(encoding="utf-8"))
    return {leg: merged[leg] for leg in sorted(merged)}


def table_lines(head: List[str], rows: List[List[str]]) -> List[str]:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head)] + rows
    return ["| " + " | ".join(line) + " |" for line in lines]


def put_between(begin: str, table: str, end: str, text: str) -> str:
    """A text with a table put between two lines of it.

    Raises:
      TableError: the lines are not there.
    """
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise TableError("README.md lacks the lines {} and {}".format(begin, end))
    return before + begin + "\n\n" + table + "\n\n" + end + after


def _version(text: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def render_table(results: Results) -> str:
    """A row for each TensorFlow, with the number of modules or models that passed."""
    if not results:
        return "No results yet: run `make test-versions`, then `make support`."
    legs = sorted(results, key=lambda leg: (_version(results[leg]["tensorflow"]), leg))
    rows = []
    for leg in legs:
        found = results[leg]
        keras = {version[0]: version for version in found["keras"]}
        row = [found["tensorflow"] + _MODES.get(leg, ""), found["python"]]
        for check, title in _COLUMNS.items():
            outcomes = [m[check] for m in found["outcomes"].values() if check in m]
            text = "{} of {}".format(outcomes.count("passed"), len(outcomes))
            if title.startswith("Keras") and title[-1] in keras:
                text += " ({})".format(keras[title[-1]])
            row.append(text if outcomes else "-")
        rows.append(row)
    return "\n".join(
        table_lines(["TensorFlow", "Python"] + list(_COLUMNS.values()), rows)
    )


def render_readme(results: Results, text: str) -> str:
    """README.md with the table put between its two markers."""
    return put_between(BEGIN, render_table(results), END, text)
