"""Converted modules against what the originals did under TF 1.15.5.

Each module of testdata/ was written and run there by tensorflow_hub 0.12; this
file compares its converted form, loaded by ``hub_compat.load``, by plain
TensorFlow and by a session, in whatever runtime the tests run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import expected
import pytest
import replay
import runtimes
import smoke

import hub_compat as hub

MODULES = expected.module_names()

pytestmark = pytest.mark.tensorflow


def supports(module: str, check: str) -> List[Any]:
    """The mark for the support table, which counts what could have failed."""
    could = expected.could_fail(module, check)
    return [pytest.mark.support(check)] if could else []


def each_check() -> Any:
    """Parameters: every check on every module that it applies to."""
    return pytest.mark.parametrize(
        "module, check",
        [
            pytest.param(
                module,
                check,
                id="{}-{}".format(module, check),
                marks=supports(module, check) + smoke.marks(module, smoke.TF1),
            )
            for module in MODULES
            for check in replay.OBJECT_CHECKS
        ],
    )


def test_there_are_modules() -> None:
    """A missing testdata/ must not pass for success."""
    assert len(MODULES) >= 20


@pytest.fixture(scope="session")
def names(request: Any) -> List[str]:
    """The modules of which some test was selected."""
    parameters = [getattr(i, "callspec", None) for i in request.session.items]
    asked = {p.params.get("module") for p in parameters if p is not None}
    return [name for name in MODULES if name in asked]


@pytest.fixture(scope="session")
def converted(names: List[str], tmp_path_factory: Any) -> Path:
    """They, converted."""
    folder = tmp_path_factory.mktemp("converted")
    for name in names:
        hub.convert(expected.load_expected(name).path, folder / name)
    return Path(folder)


@each_check()
def test_load(module: str, check: str) -> None:
    """hub_compat.load gives the recorded values in this runtime."""
    recorded = expected.load_expected(module)

    def load(tags: Any) -> Any:
        # No tags ask for what is loaded by default.
        return hub.load(recorded.path, tags=tags or None)

    replay.OBJECT_CHECKS[check](recorded, runtimes.shared(recorded.path, load))


@pytest.fixture(scope="session")
def in_a_process(
    names: List[str], converted: Path
) -> Callable[[str], Dict[str, Dict[str, str]]]:
    """Results of replay.py in a process without hub_compat, by mode."""
    results: Dict[str, Any] = {}

    def run(mode: str) -> Any:
        if mode not in results:
            done = subprocess.run(
                [sys.executable, replay.__file__, mode, str(converted)] + names,
                capture_output=True,
                cwd=str(converted),
                env=dict(os.environ, PYTHONPATH=""),
                text=True,
            )
            assert done.returncode == 0, done.stderr[-4000:]
            results[mode] = json.loads(done.stdout)
        return results[mode]

    return run


@each_check()
def test_plain_tensorflow(module: str, check: str, in_a_process: Any) -> None:
    """tf.saved_model.load alone gives the recorded values of a converted module."""
    assert in_a_process("object")[module][check] == "ok"


@pytest.mark.support("session")
@pytest.mark.parametrize("module", smoke.parameters(MODULES, smoke.TF1))
def test_session(module: str, in_a_process: Any) -> None:
    """The v1 session loader gives the recorded outputs of a converted module."""
    assert in_a_process("session")[module]["session"] == "ok"
