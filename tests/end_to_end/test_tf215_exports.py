"""TF1 formats that TensorFlow 2.15 wrote, against what they gave there.

``testdata/scripts/tf215_models.py`` wrote them; this file loads them in whatever
runtime the tests run, in TensorFlow 1.15 through the lowering.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import expected
import pytest
import replay
import runtimes
import smoke

import hub_compat as hub

FOLDER = Path(__file__).resolve().parents[2] / "testdata" / "tf215"
# By module, what there is to check of it.
BARE = ("variables", "signatures", "calls", "gradients")
CHECKS = {
    "canned_estimator": BARE,
    "estimator_modes": tuple(replay.OBJECT_CHECKS),
    "image_module": tuple(replay.OBJECT_CHECKS),
    "text_module": BARE,
}

pytestmark = pytest.mark.tensorflow


# The module first: its checks share what they load.
@pytest.mark.smoke(smoke.TF1)
@pytest.mark.parametrize(
    "name, check", [(name, check) for name in sorted(CHECKS) for check in CHECKS[name]]
)
def test_export(name: str, check: str) -> None:
    """Values, gradients, losses and updates are those of the session that wrote it."""
    recorded = expected.load_expected(name, FOLDER)

    def load(tags: Any) -> Any:
        return hub.load(recorded.path, tags=tags or None)

    replay.OBJECT_CHECKS[check](recorded, runtimes.shared(recorded.path, load))
