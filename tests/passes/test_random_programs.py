"""Programs of nested loops and conditionals against what TF 1.15 computed.

``testdata/scripts/random_programs.py`` made them, some hundreds of signatures in one
module.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Dict, List

import expected
import numpy as np
import pytest
import runtimes
from environment import tensorflow_version

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
    folder = Path(tmp_path_factory.mktemp("programs"))
    return expected.unpack(PROGRAMS / "packed", folder / "module")


def test_there_are_programs() -> None:
    """Hundreds, and most of them with gradients of everything."""
    programs = recorded()
    assert len(programs) >= 200
    assert sum("d_kernel" in p and "d_gain" in p for p in programs.values()) > 100


@pytest.mark.parametrize("group", range(GROUPS))
def test_values_and_gradients(group: int, module: Path) -> None:
    """Outputs, and gradients with respect to the input and both variables."""
    # The optimizer takes a third of the time: a fifth of all programs has it, and in
    # the other TensorFlows each.
    with runtimes.unoptimized() if ALL and group % 5 else contextlib.nullcontext():
        compare(group, module)


def compare(group: int, module: Path) -> None:
    """Compares a group of the programs with what was recorded."""
    programs = recorded()
    names = sorted(programs)[:: 1 if ALL else 8]
    wrong: List[str] = []
    load = runtimes.shared(module, lambda tags: hub.load(module))
    with runtimes.Runtime(lambda: load(())) as run:
        variables = {v.name.split(":")[0]: v for v in run.loaded.variables}
        tensors: List[Any] = []
        for name in names[group::GROUPS]:
            tensors += _tensors(run, name, programs[name]["x"], variables)
        # All in one step: each step of a session looks at all of the graph.
        values = iter(run.run_all(tensors))
    for name in names[group::GROUPS]:
        wrong += _compare(name, programs[name], dict(zip(WANTED, values)))
    assert not wrong, "\n".join(wrong)


# The output, and what there are gradients of.
WANTED = ("default", "x", "kernel", "gain")


def _tensors(run: Any, name: str, given: np.ndarray, variables: Any) -> List[Any]:
    """Those of WANTED for a program; None where there is no gradient."""
    import tensorflow as tf

    x = tf.constant(given)

    def loss() -> Any:
        output = run.loaded.signatures[name](x=x)["default"]
        return tf.reduce_sum(tf.sin(output))

    gradients = run.differentiate(loss, [x, variables["kernel"], variables["gain"]])
    return [run.loaded.signatures[name](x=x)["default"]] + list(gradients)


def _compare(
    name: str, program: Dict[str, np.ndarray], found: Dict[str, Any]
) -> List[str]:
    """What is wrong with the output and the gradients of a program."""
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
