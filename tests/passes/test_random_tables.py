"""Tables of every kind and origin against what TF 1.15 found in them.

``testdata/scripts/random_tables.py`` made them, hundreds of signatures in a few models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import expected
import numpy as np
import pytest
import runtimes

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

TABLES = expected.HERE / "random_tables"
MODELS = sorted(path.name for path in TABLES.iterdir() if path.is_dir())


def recorded(model: str) -> Dict[str, Dict[str, np.ndarray]]:
    """By signature, the keys and what was found."""
    found: Dict[str, Dict[str, np.ndarray]] = {}
    with np.load(str(TABLES / "expected.npz")) as arrays:
        for key in arrays.files:
            own, name, part = key.split("/")
            if own == model:
                found.setdefault(name, {})[part] = arrays[key]
    return found


def unpacked(model: str, folder: Path) -> Path:
    """A model, as TensorFlow 1.15 wrote it."""
    return expected.unpack(TABLES / model, folder / model)


def differences(wanted: Dict[str, Dict[str, np.ndarray]], values: Any) -> List[str]:
    """What was found otherwise than in TensorFlow 1.15."""
    wrong = []
    for name, value in values.items():
        known = wanted[name]["y"]
        value = np.asarray(value)
        value = value.astype(known.dtype) if value.dtype == object else value
        if value.dtype != known.dtype or not np.array_equal(value, known):
            wrong.append(
                "{}: {} is {}, not {}".format(name, wanted[name]["keys"], value, known)
            )
    return wrong


def test_there_are_tables() -> None:
    """Hundreds, of all that make and fill them."""
    assert len(MODELS) == 6
    assert sum(len(recorded(model)) for model in MODELS) >= 230


@pytest.mark.parametrize("model", MODELS)
def test_look_ups(model: str, tmp_path: Path) -> None:
    """Each signature finds what the session of the original found."""
    import tensorflow as tf

    wanted = recorded(model)
    path = unpacked(model, tmp_path)
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        assert sorted(run.loaded.signatures) == sorted(wanted)
        results = {
            name: run.loaded.signatures[name](keys=tf.constant(case["keys"]))["y"]
            for name, case in wanted.items()
        }
        found = run.run(results)
    assert not differences(wanted, found)


@pytest.mark.parametrize("model", ["grouped", "loaded_twice"])
def test_look_ups_in_a_session(model: str, tmp_path: Path) -> None:
    """A session that loads what was converted and saved again finds the same."""
    import tensorflow as tf

    wanted = recorded(model)
    report = hub.convert(unpacked(model, tmp_path), tmp_path / "out")
    assert report.warnings == ()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(
            session, ["serve"], str(tmp_path / "out")
        )
        found = {}
        for name, case in wanted.items():
            signature = meta_graph.signature_def[name]
            keys = case["keys"]
            keys = keys.astype(object) if keys.dtype.kind == "S" else keys
            feeds = {signature.inputs["keys"].name: keys}
            found[name] = session.run(signature.outputs["y"].name, feeds)
    assert not differences(wanted, found)
