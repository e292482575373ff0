"""Programs of nested loops and conditionals against what TF 1.15 computed.

``testdata/random_programs.py`` made them, some hundreds of signatures in one module.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any, Dict, List

import expected
import numpy as np
import pytest
import replay
from conftest import tensorflow_version

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

PROGRAMS = expected.HERE / "programs"
# All of them in one TensorFlow: building gradients takes minutes.
ALL = tensorflow_version().startswith("2.21")
GROUPS = 10 if ALL else 2


def recorded() -> Dict[str, Dict[str, np.ndarray]]:
    """By signature, what was recorded of it."""
    found: Dict[str, Dict[str, np.ndarray]] = {}
    with np.load(str(PROGRAMS / "expected.npz")) as arrays:
        for key in arrays.files:
            name, _, part = key.partition("/")
            found.setdefault(name, {})[part] = arrays[key]
    return found


@pytest.fixture(scope="session")
def module(tmp_path_factory: Any) -> Path:
    """The module, unpacked."""
    path = Path(tmp_path_factory.mktemp("programs")) / "module"
    shutil.copytree(str(PROGRAMS / "packed"), str(path))
    packed = path / "saved_model.pb.gz"
    (path / "saved_model.pb").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    return path


def test_there_are_programs() -> None:
    """Hundreds, and most of them with gradients of everything."""
    programs = recorded()
    assert len(programs) >= 200
    assert sum("d_kernel" in p and "d_gain" in p for p in programs.values()) > 100


@pytest.mark.parametrize("group", range(GROUPS))
def test_values_and_gradients(group: int, module: Path) -> None:
    """Outputs, and gradients with respect to the input and both variables."""
    programs = recorded()
    names = sorted(programs)[:: 1 if ALL else 8]
    wrong: List[str] = []
    load = replay.shared(module, lambda tags: hub.load(module))
    with replay.Runtime(lambda: load(())) as run:
        variables = {v.name.split(":")[0]: v for v in run.loaded.variables}
        for name in names[group::GROUPS]:
            wrong += _compare(run, name, programs[name], variables)
    assert not wrong, "\n".join(wrong)


def _compare(
    run: Any, name: str, program: Dict[str, np.ndarray], variables: Dict[str, Any]
) -> List[str]:
    import tensorflow as tf

    x = tf.constant(program["x"])

    def loss() -> Any:
        output = run.loaded.signatures[name](x=x)["default"]
        return tf.reduce_sum(tf.sin(output))

    wanted = {"x": x, "kernel": variables["kernel"], "gain": variables["gain"]}
    found = dict(zip(wanted, run.gradients(loss, list(wanted.values()))))
    found["default"] = run.run(run.loaded.signatures[name](x=x)["default"])
    wrong = []
    for key, value in found.items():
        known = program.get("default" if key == "default" else "d_" + key)
        bound = 1e-5 if key == "default" else 1e-4
        if known is None or value is None:
            # What no branch of a program takes has no gradient, or one of zero.
            if known is not None and np.any(known):
                wrong.append("{}: no gradient of {}".format(name, key))
            elif value is not None and np.any(value):
                wrong.append("{}: a gradient of {}".format(name, key))
        # Next to nothing is what a chain of saturated functions left of a gradient,
        # and of that each order of the same sums leaves something else.
        elif not np.allclose(
            value, known, rtol=bound, atol=bound * max(np.abs(known).max(), 1e-2)
        ):
            wrong.append("{}: {} is {}, not {}".format(name, key, value, known))
    return wrong
