"""Writes the support table out of what the tests did: ``make support``.

    python tools/support_table.py           # build/support/ -> docs/, README.md
    python tools/support_table.py --check   # is README.md what docs/ say?

``tests/conftest.py`` leaves one file per leg in ``build/support/``: the outcome
of every test marked ``support``, by module and check. They are merged into
``docs/support.json``, leg by leg, so that a run of some legs keeps the others.
tools/versions_table.py does the same for README.md's table of versions.
README.md gets a row per check and a column per leg, with the number of modules that
have what the check compares; ``docs/support.md`` has a line per module, and the checks
that did not pass.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Dict, List

import versions_table
from versions_table import TableError, merge, put_between, table_lines

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "support.json"
README = ROOT / "README.md"
DETAILS = ROOT / "docs" / "support.md"
# Where the tests leave what becomes RESULTS, in build/.
FOLDER = "support"
BEGIN = "<!-- support table: written by `make support` -->"
END = "<!-- end of support table -->"

# Columns, and what a reader calls them.
_LEGS = {
    "tf115-graph": "TF 1.15 graph",
    "tf115-eager": "TF 1.15 eager",
    "tf215": "TF 2.15",
    "tf221": "TF 2.21",
}

# What a check compares, for a reader; others go by their own name.
_CHECKS = {
    "variables": "every variable, once, with its value",
    "signatures": "outputs of all signatures and variants",
    "calls": "outputs of `model(x)`, optional inputs too",
    "training": "the updates of `model(x, training=True)`",
    "losses": "`model.regularization_losses`",
    "gradients": "gradients of variables and inputs",
    "hub.save": "a step of gradient descent, saved and loaded again",
    "KerasLayer": "`KerasLayer` of Keras 2, and its steps by all signatures",
    "KerasLayer of Keras 3": "the same of Keras 3",
    "life of a KerasLayer": "its `fit`, frozen, saved, loaded, exported: Keras 2",
    "life of a KerasLayer of Keras 3": "the same in Keras 3",
    "session": "converted, in the session loader of TF1 and TF Serving",
}

# leg -> module -> check -> "passed", "failed", or "skipped: why"; "in part: why" where
# other tests of the check passed.
Results = Dict[str, Dict[str, Dict[str, str]]]


def read_results() -> Results:
    """Reads docs/support.json."""
    if not RESULTS.exists():
        return {}
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def _describe(module: str) -> str:
    """What the module is there for, from its recorded expectations."""
    file = ROOT / "testdata" / module / "expected.json"
    if not file.exists():
        return ""
    why = json.loads(file.read_text(encoding="utf-8")).get("why", "")
    return why.strip().rstrip(".").replace("|", "/").replace("\n", " ")


def _cell(checks: Dict[str, str]) -> str:
    passed = list(checks.values()).count("passed")
    return "{} of {}".format(passed, len(checks)) if checks else "-"


def _legs(results: Results) -> List[str]:
    return [leg for leg in _LEGS if leg in results]


def _modules(results: Results) -> List[str]:
    return sorted({module for modules in results.values() for module in modules})


def _checks(results: Results, modules: List[str]) -> List[str]:
    found = {
        check
        for by_module in results.values()
        for module in modules
        for check in by_module.get(module, {})
    }
    return sorted(found, key=lambda c: (list(_CHECKS) + [c]).index(c))


def render_table(results: Results) -> str:
    """The table in README.md: checks down, legs across, numbers of modules."""
    legs, modules = _legs(results), _modules(results)
    if not modules:
        return "No results yet: run `make test`, then `make support`."
    rows = []
    for check in _checks(results, modules):
        row = [_CHECKS.get(check, check)]
        for leg in legs:
            outcomes = [m[check] for m in results[leg].values() if check in m]
            text = "{} of {}".format(outcomes.count("passed"), len(outcomes))
            row.append(text if outcomes else "-")
        rows.append(row)
    head = ["of {} TF1 models".format(len(modules))]
    return "\n".join(table_lines(head + [_LEGS[leg] for leg in legs], rows))


def render_details(results: Results) -> str:
    """The page docs/support.md: a line per module, then what has not passed."""
    lines = [
        "# What was tested, module by module",
        "",
        "Written by `make support` from the results of `make test`; every module is",
        "in `testdata/`, with what it did under TensorFlow 1.15.5. A cell says how",
        "many checks passed, of how many; [support.json](support.json) has each.",
    ]
    legs, modules = _legs(results), _modules(results)
    titles = [_LEGS[leg] for leg in legs]
    rows, sections = [], []
    for module in modules:
        found = {leg: results[leg].get(module, {}) for leg in legs}
        open_checks = [
            check
            for check in _checks(results, [module])
            if {f.get(check, "passed") for f in found.values()} != {"passed"}
        ]
        name = "[{0}](#{0})".format(module) if open_checks else module
        rows.append([name, _describe(module)] + [_cell(found[leg]) for leg in legs])
        if open_checks:
            details = [
                [_CHECKS.get(check, check)]
                + [found[leg].get(check, "-") for leg in legs]
                for check in open_checks
            ]
            sections += ["", "## " + module, ""]
            sections += table_lines(["check"] + titles, details)
    if rows:
        lines += [""] + table_lines(["module", "what it has"] + titles, rows)
    return "\n".join(lines + (sections or ["", "All passed."])) + "\n"


def render_readme(results: Results, text: str) -> str:
    """README.md with the table put between its two markers."""
    return put_between(BEGIN, render_table(results), END, text)


def main(argv: List[str]) -> int:
    """Runs the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Writes or checks the support table.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", default=str(ROOT / "build"))
    options = parser.parse_args(argv)
    try:
        results, versions = read_results(), versions_table.read_results()
        folder = Path(options.results)
        if not options.check:
            if (folder / FOLDER).is_dir():
                results = merge(results, folder / FOLDER)
                text = json.dumps(results, indent=1, sort_keys=True) + "\n"
                RESULTS.write_text(text, encoding="utf-8")
            versions = versions_table.merge(versions, folder / versions_table.FOLDER)
            text = json.dumps(versions, indent=1, sort_keys=True) + "\n"
            versions_table.RESULTS.write_text(text, encoding="utf-8")
        readme = render_readme(results, README.read_text(encoding="utf-8"))
        wanted = {
            README: versions_table.render_readme(versions, readme),
            DETAILS: render_details(results),
        }
    except TableError as error:
        print(error, file=sys.stderr)
        return 1
    stale = [
        file
        for file, text in wanted.items()
        if not file.exists() or file.read_text(encoding="utf-8") != text
    ]
    if options.check:
        for file in stale:
            print("{}: not what docs/support.json says; `make support`".format(file))
        return 1 if stale else 0
    for file in stale:
        file.write_text(wanted[file], encoding="utf-8")
        print("wrote {}".format(file.relative_to(ROOT)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
