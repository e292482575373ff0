"""KerasLayer in Estimators: trained as hub.Module was, evaluated, exported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import expected
import numpy as np
import pytest
from environment import executes_eagerly, tensorflow_version

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"

PROGRAM = PROGRAMS / "layer_in_estimator.py"

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def found(tmp_path_factory: Any) -> Any:
    """What layer_in_estimator.py found, in the graphs that Estimators make."""
    tf = pytest.importorskip("tensorflow")
    if not hasattr(tf.compat.v1, "estimator"):
        pytest.skip("This TensorFlow has no Estimators")
    if tensorflow_version().startswith("1.") and executes_eagerly():
        pytest.skip("Estimators build graphs; the leg of graphs has them")
    module = expected.load_expected("image_bn").path
    folder = tmp_path_factory.mktemp("estimators")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(module), str(folder)],
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def variable_of(key: str) -> str:
    """The variable of a checkpoint's key, which may be one of Keras' objects."""
    objects = re.match(r"layer_with_weights-0/(.*)/\.ATTRIBUTES/VARIABLE_VALUE$", key)
    return objects.group(1).replace(".S", "/") if objects else key


@pytest.mark.parametrize("how", ["of_model_fn", "of_model_fn_mirrored", "of_model"])
def test_trains_as_hub_module(how: str, found: Any, testdata: Path) -> None:
    """Losses, weights and statistics are those of hub.Module under TF 1.15."""
    recorded = json.loads((testdata / "training.json").read_text())["waits"]
    np.testing.assert_allclose(found[how]["losses"], recorded["losses"], rtol=1e-5)
    trained = {variable_of(k): np.ravel(v) for k, v in found[how]["keys"].items()}
    for name, value in recorded["variables"].items():
        np.testing.assert_allclose(trained[name], value, 1e-5, 1e-6, err_msg=name)


@pytest.mark.parametrize("how", ["of_model_fn", "of_model_fn_mirrored", "of_model"])
def test_evaluates_predicts_and_exports(how: str, found: Any) -> None:
    """New graphs, and the export in a session, have the trained weights."""
    own, other = found[how], found["of_model_fn"]
    assert len(own["predicted"]) == 4 * 6
    np.testing.assert_allclose(own["served"], own["predicted"], rtol=1e-5)
    np.testing.assert_allclose(own["predicted"], other["predicted"], rtol=1e-4)
    np.testing.assert_allclose(own["evaluated"], other["evaluated"], rtol=1e-5)
