"""examples/demo.py, which ``make demo`` runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.tf2]

ROOT = Path(__file__).resolve().parents[2]


def test_demo_says_that_all_is_equal() -> None:
    """Every output is what TF 1.15 gave, and a fine-tuned model learns."""
    # As in this process: the installed package, or that of the checkout.
    here = str(Path(hub.__file__).resolve().parent.parent)
    found = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        env=dict(os.environ, PYTHONPATH=here),
        capture_output=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr.decode()
    last = found.stdout.decode().splitlines()[-1]
    assert "Every output is what TensorFlow 1.15 gave" in last
