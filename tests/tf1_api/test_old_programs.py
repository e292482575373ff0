"""Programs for tensorflow_hub, of which the import line alone has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
from environment import executes_eagerly, has_module, tensorflow_version

import hub_compat

pytestmark = pytest.mark.tensorflow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "hub_module"
# Each with its module, and whether it needs Estimators.
PROGRAMS = {
    "bert_finetuning": ("bert_like", True),
    "image_retraining": ("image_bn", False),
    "text_classifier": ("text_embedding", True),
}
IMPORT = "import hub_compat as hub  # was: import tensorflow_hub as hub"


def run(program: Path, arguments: List[str]) -> List[str]:
    """What a program prints."""
    # As in this process: the installed package, or that of the checkout.
    here = str(Path(hub_compat.__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program)] + arguments,
        env=dict(os.environ, PYTHONPATH=here),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_runs_as_ever(name: str, testdata: Path, tmp_path: Path) -> None:
    """It trains and exports; in TF 1.15 it prints what it does with tensorflow_hub."""
    module, needs_estimators = PROGRAMS[name]
    tf: Any = pytest.importorskip("tensorflow")
    if needs_estimators and not hasattr(tf.compat.v1, "estimator"):
        pytest.skip("This TensorFlow has no Estimators")
    if tensorflow_version().startswith("1.") and executes_eagerly():
        pytest.skip("The programs choose their mode; the leg of graphs has them")
    arguments = [str(testdata / module / "module")]
    if name == "bert_finetuning":
        arguments.append(str(tmp_path / "job"))
    program = EXAMPLES / (name + ".py")
    found = run(program, arguments)
    text = program.read_text(encoding="utf-8")
    assert text.count(IMPORT) == text.count("hub_compat") == 1
    if name == "text_classifier":
        # Where its own layers begin depends on how many ops the graph has.
        assert [line.split(",")[0][-14:] for line in found] == ["accuracy 1.000"] * 2
        return
    if not (tensorflow_version().startswith("1.") and has_module("tensorflow_hub")):
        return
    stock = tmp_path / (name + ".py")
    stock.write_text(text.replace(IMPORT, "import tensorflow_hub as hub"))
    if name == "bert_finetuning":
        arguments[1] = str(tmp_path / "stock")
    expected = run(stock, arguments)
    assert found == expected
