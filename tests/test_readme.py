"""README.md: what it shows runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hub_compat as hub

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.tensorflow
@pytest.mark.tf2
def test_the_first_example_runs(tmp_path: Path) -> None:
    """README's first example runs as it stands, in a clone of the repository."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert example is not None
    # As in this process: the installed package, or that of the checkout.
    here = str(Path(hub.__file__).resolve().parent.parent)
    (tmp_path / "testdata").symlink_to(ROOT / "testdata")
    found = subprocess.run(
        [sys.executable, "-c", example.group(1)],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=here),
        capture_output=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr.decode()
    assert found.stdout.decode().strip().endswith("TF1_HUB_MODULE")
    assert (tmp_path / "saved_model_dir" / "saved_model.pb").is_file()
