"""Programs that write variables and read them, against what TF 1.15 computed.

``testdata/scripts/random_writes.py`` made them, some hundreds of signatures in one
module.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import expected
import numpy as np
import pytest
import runtimes

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

WRITES = expected.HERE / "writes"
CALLS = 3
GROUPS = 3


def recorded() -> Dict[str, Dict[str, np.ndarray]]:
    """By signature, what was recorded of it."""
    with np.load(str(WRITES / "expected.npz")) as arrays:
        layout, numbers = json.loads(str(arrays["layout"])), arrays["numbers"]
    found: Dict[str, Dict[str, np.ndarray]] = {}
    start = 0
    for name, keys in layout.items():
        found[name] = {}
        for key, shape in keys.items():
            size = int(np.prod(shape))
            found[name][key] = numbers[start : start + size].reshape(shape)
            start += size
    return found


@pytest.fixture(scope="session")
def module(tmp_path_factory: Any) -> Path:
    """The module, unpacked."""
    folder = Path(tmp_path_factory.mktemp("writes"))
    return expected.unpack(WRITES / "packed", folder / "module")


def test_there_are_programs() -> None:
    """Hundreds, most of which come to other values in another call."""
    programs = recorded()
    assert len(programs) >= 200
    differ = [
        name
        for name, program in programs.items()
        if any(
            not np.array_equal(value, program["1" + key[1:]])
            for key, value in program.items()
            if key.startswith("0/=")
        )
    ]
    assert len(differ) > 150


@pytest.mark.parametrize("group", range(GROUPS))
def test_values_of_calls_in_a_row(group: int, module: Path) -> None:
    """What each call gives, and what the variables hold after it."""
    programs = recorded()
    names = sorted(programs)[group::GROUPS]
    wrong: List[str] = []
    load = runtimes.shared(module, lambda tags: hub.load(module))
    with runtimes.Runtime(lambda: load(())) as run:
        variables: Dict[str, List[Any]] = {}
        for variable in run.loaded.variables:
            program, _, _ = variable.name.partition("/")
            variables.setdefault(program, []).append(variable)
        held = [v for name in names for v in variables[name]]
        call = _caller(run, names, programs)
        for number in range(CALLS):
            found = call(number)
            values = iter(run.read(held))
            for name in names:
                for variable in variables[name]:
                    key = "=" + variable.name.split("/", 1)[1].split(":")[0]
                    found[name][key] = next(values)
            for name in names:
                wrong += _compare(name, number, programs[name], found[name])
    assert not wrong, "{} of {}\n{}".format(
        len({line[:5] for line in wrong}), len(names), "\n".join(wrong)
    )


def _caller(run: Any, names: List[str], programs: Any) -> Any:
    """What calls all programs once: of a session one step, for time's sake."""
    import tensorflow as tf

    def signatures(given: Any) -> Dict[str, Any]:
        return {
            name: dict(run.loaded.signatures[name](x=value))
            for name, value in zip(names, given)
        }

    given = [
        np.stack([programs[name]["x"][i] for name in names]).astype(np.float32)
        for i in range(CALLS)
    ]
    if run.eager:
        return lambda number: run.run(
            signatures([tf.constant(x) for x in given[number]])
        )
    fed = tf.compat.v1.placeholder(tf.float32, given[0].shape)
    outputs = signatures(tf.unstack(fed))
    # Variables come up before the first step.
    run.run(())
    return lambda number: run.session.run(outputs, {fed: given[number]})


def _compare(
    name: str, number: int, program: Dict[str, np.ndarray], found: Dict[str, Any]
) -> List[str]:
    """What is wrong with a call."""
    return [
        "{}: call {}: {} is {}, not {}".format(
            name, number, key, value, program["{}/{}".format(number, key)]
        )
        for key, value in found.items()
        if not np.allclose(
            value, program["{}/{}".format(number, key)], rtol=1e-5, atol=1e-5
        )
    ]
