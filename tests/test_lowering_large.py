"""Applications of Keras, written and recorded by TensorFlow 2.21, in this runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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

    A process of TensorFlow 2.21 that loads what another one has saved gets gradients of
    ResNet50 of which some elements differ from the recorded ones by 3e-3 of the largest
    (the norm of one by 2e-3), with nothing lowered and equal outputs: a unit more or
    less is above zero. In training, the statistics of two small images make the rest of
    it too sensitive: TensorFlow 2.21 with and without oneDNN differs by 5e-5 in outputs
    and by the gradients themselves.
    """
    recorded = tf221_compare.recorded(applications / name)
    assert np.ptp(recorded["call"]["out"]["output"]) > 0
    for call in sorted(recorded):
        tf221_compare.check(
            applications / name, call, 2e-5, call == "train", gradients_by_norm=True
        )
