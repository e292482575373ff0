"""Processes that are killed while they replace a directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


def killed(kind: str, kills: int) -> Any:
    """What tests/programs/killed.py finds."""
    script = PROGRAMS / "killed.py"
    output = subprocess.check_output(
        [sys.executable, str(script), kind, str(kills)],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
    )
    return json.loads(output.decode().splitlines()[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs renameat2")
def test_killed_at_any_line() -> None:
    """The destination is there at every instant, and the next run leaves no litter."""
    found = killed("exchange", 40)
    assert found.pop("killed") > 30
    assert found == {"gone": 0, "not restored": 0, "mixed": 0, "litter": 0}


def test_killed_where_nothing_can_be_exchanged() -> None:
    """Gone between two renames, the destination is restored by whoever asks for it."""
    found = killed("two-steps", 60)
    assert found.pop("killed") > 50
    assert found.pop("gone") > 0
    assert found == {"not restored": 0, "mixed": 0, "litter": 0}
