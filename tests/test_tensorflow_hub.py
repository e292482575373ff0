"""Converted modules in the unmodified tensorflow_hub.KerasLayer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import expected
import pytest

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

PROGRAM = Path(__file__).with_name("finetune_with_tensorflow_hub.py")


@pytest.mark.parametrize(
    "mode",
    [
        "plain",
        # TF 1.15 distributes a Keras model in eager execution only.
        pytest.param("mirrored", marks=pytest.mark.eager),
    ],
)
def test_converted_module_is_fine_tuned(mode: str, tmp_path: Path) -> None:
    """Weights and batch-norm statistics change, losses are there, the loss falls."""
    pytest.importorskip("tensorflow_hub")
    recorded = expected.load_expected("image_bn")
    hub.convert(recorded.path, tmp_path / "out")
    (images,) = recorded.cases[0].inputs.values()
    done = subprocess.run(
        [
            sys.executable,
            str(PROGRAM),
            mode,
            str(tmp_path / "out"),
            str(images.shape[1]),
        ],
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=""),
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: Any = json.loads(done.stdout[done.stdout.index("{") :])
    assert found["loss"][-1] < found["loss"][0]
    train = recorded.variants[("train",)]
    trainable = {name.split(":")[0] for name in found["trainable"]}
    assert trainable == set(train.trainable)
    moving = [name for name in found["changed"] if "moving_" in name]
    assert moving
    assert all(found["changed"][name] for name in moving)
    assert any(found["changed"][name] for name in found["trainable"])
    wanted = next(c for c in recorded.cases if c.tags == ("train",))
    assert found["losses"] == len(wanted.regularization_losses)
    if mode == "mirrored":
        assert "Mirrored" in found["variable"]
