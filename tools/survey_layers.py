"""Which layers of TensorFlow 2.21 run in TensorFlow 1.15: ``make survey-layers``.

Loads what ``testdata/scripts/layers.py`` recorded in TensorFlow 1.15.5, in graph mode
and eagerly, compares, and writes the table to ``docs/lowering.md``. The same
comparison is a test, tests/lowering/test_lowering_layers.py::

    python tools/survey_layers.py                 # the page, from what is recorded
    python tools/survey_layers.py --write         # records first; minutes
    python tools/survey_layers.py --run MODE OUT  # under TensorFlow 1.15
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "lowering.md"
NEW, OLD = "tf221", "tf115"
MODES = ("graph", "eager")
# Of a cell, in characters.
_LONGEST = 240


def run(mode: str, out: Path) -> None:
    """Loads and runs the layers, under TensorFlow 1.15; writes what came of each."""
    import tensorflow as tf

    sys.path.insert(0, str(ROOT / "tests" / "support"))
    if mode == "eager":
        tf.compat.v1.enable_v2_behavior()
    import layers_compare
    import runtimes

    import hub_compat as hub

    results: Dict[str, Dict[str, Dict[str, str]]] = {}
    for library in layers_compare.LIBRARIES:
        found = results[library] = {}
        for key, fact in layers_compare.facts(library).items():
            if fact not in ("same", "random"):
                found[key.split("|")[0]] = {"infer": "not saved, " + fact}
        with tempfile.TemporaryDirectory() as folder:
            path = layers_compare.unpacked(library, Path(folder))
            with runtimes.Runtime(lambda path=path: hub.load(path)) as runtime:
                names = layers_compare.names(library)
                for group in range(layers_compare.GROUPS):
                    those = names[group :: layers_compare.GROUPS]
                    found.update(layers_compare.compare(runtime, library, those))
    out.write_text(json.dumps(results))


def in_environment(environment: str, program: Path, *arguments: str) -> None:
    """Runs a program in one of the project's environments."""
    command = [sys.executable, str(ROOT / "tools" / "environments.py"), "run"]
    with tempfile.TemporaryDirectory() as cache:
        environ = dict(
            os.environ,
            PYTHONPATH=str(ROOT),
            TF_CPP_MIN_LOG_LEVEL="3",
            HUB_COMPAT_CACHE_DIR=cache,
        )
        subprocess.check_call(
            command + [environment, str(program)] + list(arguments),
            env=environ,
            stderr=subprocess.DEVNULL,
        )


def page(results: Dict[str, Dict[str, Any]]) -> str:
    """The Markdown page, of what came out in each mode."""
    rows: Dict[Tuple[str, str], Tuple[str, str]] = {}
    for library, layers in results[MODES[0]].items():
        for name in layers:
            rows[(library, name)] = tuple(  # type: ignore[assignment]
                _said([results[mode][library][name].get(part) for mode in MODES])
                for part in ("infer", "train")
            )
    counts = []
    for i in range(2):
        column = [row[i] for row in rows.values() if row[i] != "-"]
        there = [said for said in column if not said.startswith("not saved")]
        counts.append((sum(said.startswith("ok") for said in there), len(there)))
    lines = [
        "# Layers of TensorFlow 2.21 in TensorFlow 1.15",
        "",
        "Written by `make survey-layers`: each layer class of tf_keras and Keras 3,",
        "and some of them in further configurations, saved under TensorFlow 2.21 and",
        "loaded in 1.15.5, in graph mode and eagerly. `ok`: the outputs, the gradients",
        "of all variables and inputs, and what training changes are those of",
        "TensorFlow 2.21, within 1e-5, gradients within 1e-4 of the largest element.",
        "`other random numbers`: as random, from a generator or a distribution that",
        "TensorFlow 1.15 draws from in another way; shapes, dtypes and which gradients",
        "there are have been compared. Augmentations of images are compared without",
        "gradients. `-`: the layer does not differ in training. The same comparison is",
        "tests/lowering/test_lowering_layers.py.",
        "",
        "{} of {} work in inference, {} of {} in training.".format(
            *(counts[0] + counts[1])
        ),
        "",
        "| library | layer | inference | training |",
        "| --- | --- | --- | --- |",
    ]
    for (library, name), row in sorted(rows.items()):
        lines.append("| {} | {} | {} | {} |".format(library, name, *row))
    return "\n".join(lines) + "\n"


def _said(results: List[Any]) -> str:
    said = [result or "-" for result in results]
    if len(set(said)) == 1:
        text = said[0]
    else:
        text = "; ".join("{}: {}".format(m, s) for m, s in zip(MODES, said))
    return plain(text)


def plain(text: str) -> str:
    """The text of an error for a cell: whole sentences, and no codes for a terminal."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    # Where TensorFlow ran it, and what Keras gave it, says nothing to a reader.
    text = re.sub(r"\{\{.*?\}\}", "", text)
    text = re.sub(r"\s*\[Op:.*", "", text, flags=re.DOTALL)
    text = " ".join(text.split()).replace("|", "/")
    if len(text) <= _LONGEST:
        return text
    ends = [match.end() for match in re.finditer(r"[.;](?= )", text[: _LONGEST + 1])]
    return text[: ends[-1]] if ends else text[:_LONGEST].rpartition(" ")[0] + " ..."


def main(argv: List[str]) -> None:
    """The command line."""
    if argv[:1] == ["--run"]:
        run(argv[1], Path(argv[2]))
        return
    if argv == ["--write"]:
        in_environment(NEW, ROOT / "testdata" / "scripts" / "layers.py")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in MODES:
            out = Path(folder) / mode
            in_environment(OLD, Path(__file__).resolve(), "--run", mode, str(out))
            results[mode] = json.loads(out.read_text())
    PAGE.write_text(page(results))
    print(next(line for line in page(results).splitlines() if " work in " in line))


if __name__ == "__main__":
    main(sys.argv[1:])
