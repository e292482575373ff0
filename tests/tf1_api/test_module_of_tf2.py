"""Module over models of TensorFlow 2.21: outputs, gradients and updates as there.

In TensorFlow 1.15 they are lowered; a TF2 SavedModel becomes a TF1 Hub module first.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import tf221_compare

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.modeless]

FOLDER = Path(__file__).resolve().parents[2] / "testdata" / "tf221"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_calls(name: str) -> None:
    """A module of the directory computes what the model computed."""
    import tf1_module
    from tensorflow.python.ops import cond_v2, while_v2  # noqa: F401

    wanted = tf221_compare.recorded(FOLDER / name)
    path = FOLDER / name / "module"
    order = tf1_module.variables_in_order(path)
    calls = tf1_module.calls_of(name, wanted)
    serving = {"serve"} if name.startswith("tf1") else set()
    for tags in (serving, {"train"}):
        those = [(c, v) for c, v in calls if (c == "train") == (tags == {"train"})]
        applied = [v for _, v in those]
        found = tf1_module.run(hub.Module, str(path), applied, tags)
        for (call, _), one in zip(those, found):
            what = "{} {}".format(name, call)
            tf1_module.compare(one, wanted[call], order, what)
