"""A job over hub.Module stops in one TensorFlow, and goes on in another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.modeless]

FOLDER = Path(__file__).resolve().parents[2] / "testdata" / "module_jobs"


@pytest.mark.parametrize("name", ["stock", "tf221"])
def test_goes_on(name: str) -> None:
    """With the same losses, from the checkpoint of either TensorFlow."""
    _goes_on(hub.Module, name)


@pytest.mark.tf1
def test_tensorflow_hub_goes_on() -> None:
    """Unmodified tensorflow_hub goes on with a job of TensorFlow 2.21."""
    _goes_on(pytest.importorskip("tensorflow_hub").Module, "tf221")


def _goes_on(module_class: Any, name: str) -> None:
    import record_module_jobs
    import tensorflow as tf

    wanted = json.loads((FOLDER / name / "losses.json").read_text())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        job = record_module_jobs.Job(module_class)
        job.saver.restore(session, str(FOLDER / name / "model.ckpt"))
        found = job.losses(session)
    assert wanted[0] > wanted[-1]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
