"""Applications of Keras, written and recorded by TensorFlow 2.21, in this runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
import tf221_compare
from conftest import tensorflow_version
from written_once import models

NAMES = ("EfficientNetB0", "MobileNetV2", "ResNet50")
WRITERS = ("tf221_models.py", "tf221_ops.py", "tf221_replay.py")

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
    return models("tf221", testdata / "tf221_models.py", WRITERS, NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_application(name: str, applications: Path) -> None:
    """Outputs, gradients and moving averages are those of TensorFlow 2.21.

    In training, too, but for EfficientNetB0, whose dropout draws other numbers.
    """
    calls = sorted(tf221_compare.recorded(applications / name))
    assert calls == (["call"] if name == "EfficientNetB0" else ["call", "train"])
    tf221_compare.check(applications / name, calls, 2e-5)
