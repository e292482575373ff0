"""Applications of Keras, written and recorded by TensorFlow 2.21, in this runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tf221_compare
from environment import tensorflow_version
from written_once import models

NAMES = ("EfficientNetB0", "MobileNetV2", "ResNet50")
WRITERS = ("tf221_models.py", "tf221_ops.py", "tf221_replay.py")

_COMPARE = """
import pathlib, sys
import tf221_compare
tf221_compare.check(pathlib.Path(sys.argv[1]), sys.argv[2:], 2e-5)
"""

# Nothing is lowered for the TensorFlow that writes them.
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.skipif(
        tensorflow_version().startswith("2.21"), reason="needs an older TensorFlow"
    ),
]


@pytest.fixture(scope="module")
def applications(testdata: Path) -> Path:
    """The directory of the models and what was recorded of them."""
    return models("tf221", testdata / "scripts" / "tf221_models.py", WRITERS, NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_application(name: str, applications: Path) -> None:
    """Outputs, gradients and moving averages are those of TensorFlow 2.21.

    In training, too, but for EfficientNetB0, whose dropout draws other numbers.
    """
    calls = sorted(tf221_compare.recorded(applications / name))
    assert calls == (["call"] if name == "EfficientNetB0" else ["call", "train"])
    if tensorflow_version().startswith("1."):
        tf221_compare.check(applications / name, calls, 2e-5)
        return
    # Recorded without oneDNN, whose kernels differ by the processor. Of a network with
    # random weights the seventh digit decides which way a ReLU goes, and so gradients.
    compared = subprocess.run(
        [sys.executable, "-c", _COMPARE, str(applications / name)] + calls,
        env=dict(
            os.environ,
            TF_ENABLE_ONEDNN_OPTS="0",
            PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )
    assert compared.returncode == 0, compared.stdout.decode(errors="replace")
