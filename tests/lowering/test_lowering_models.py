"""Models that TensorFlow 2.21 wrote, against what they gave there.

``testdata/scripts/tf221_models.py`` wrote and ran them; this file loads them in
whatever runtime the tests run, in TensorFlow 1.15 through the lowering.
"""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import pytest
import smoke
import tf221_compare

FOLDER = Path(__file__).resolve().parents[2] / "testdata" / "tf221"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())

pytestmark = pytest.mark.tensorflow


def each_call() -> List[Tuple[str, str]]:
    """All calls of all models."""
    return [
        (name, call)
        for name in NAMES
        for call in sorted(tf221_compare.recorded(FOLDER / name))
    ]


def test_there_are_models() -> None:
    """A missing testdata/tf221 must not pass for success."""
    assert len(NAMES) >= 8


@pytest.mark.smoke(smoke.NEWER)
@pytest.mark.parametrize("name, call", each_call())
def test_call(name: str, call: str) -> None:
    """Outputs, gradients and what training leaves behind are those of TF 2.21."""
    tf221_compare.check(FOLDER / name, [call])
