"""Models that are too large for the repository, written once on a machine.

Beside the environments, which are shared by clones and runs in the same way.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Sequence

import pytest

ROOT = Path(__file__).resolve().parents[2]

__all__ = ["models"]


def models(
    environment: str, script: Path, sources: Sequence[str], names: Sequence[str]
) -> Path:
    """The directory of some models and what was recorded of them.

    Args:
      environment: where they are written, a key of ``environments.ENVIRONMENTS``.
      script: what writes ``names`` to where ``--out`` says.
      sources: files beside it that decide about the result, itself among them.
      names: the models.
    """
    tool = ROOT / "tools" / "environments.py"
    digest = hashlib.sha256(" ".join(names).encode())
    # Which TensorFlow it is, is in the tool.
    for path in [tool] + [script.with_name(name) for name in sources]:
        digest.update(path.read_bytes())
    folder = _shared() / "models-{}-{}".format(environment, digest.hexdigest()[:10])
    folder.mkdir(parents=True, exist_ok=True)
    complete = folder / "complete"
    # Another leg may have come here first.
    with open(str(folder / "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            command = [sys.executable, str(tool), "run", environment, str(script)]
            _run(command + ["--out", str(folder)] + list(names))
            complete.touch()
    return folder


def _shared() -> Path:
    """As tools/environments.py has it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = os.environ.get("HUB_COMPAT_ENVS")
    return Path(chosen or os.path.join(cache, "hub_compat-envs")).expanduser()


def _run(command: Sequence[str]) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode and not os.environ.get("CI"):
        pytest.skip("cannot write the models: " + done.stdout[-300:])
    assert done.returncode == 0, done.stdout[-3000:]
