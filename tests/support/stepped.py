"""A recorded step of gradient descent: taken here, and looked for in what was saved.

Used by tests in the process, and as a program that has nothing of hub_compat in it,
for a module that was trained and saved in another process::

    python stepped.py SAVED_DIR NAME...

SAVED_DIR/NAME-3 is the module NAME after the step of its case 3. The directories of a
module differ in values alone, which is looked at. So TensorFlow loads one of them for
each variant, and reads the values of the others.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import replay
import runtimes
import tensorflow as tf
from replay import expected

# Gradients that are refused, or that TF 1.15 has not.
WITHOUT = replay.REFUSED | replay.UNKNOWN_RANK | replay.QINT16_OUTPUT


def cases(recorded: Any) -> List[int]:
    """Which calls of a module the step was recorded of."""
    return [
        number
        for number, case in enumerate(recorded.cases)
        if case.stepped
        and case.deterministic
        and replay.complete(recorded, case)
        and (recorded.name, case.signature) not in WITHOUT
    ]


def take(
    recorded: Any,
    number: int,
    load: Callable[[Any], Any],
    save: Callable[..., None],
    differentiate: bool = True,
) -> None:
    """Loads a module, takes the step, and saves it.

    Args:
      recorded: the module.
      number: of the case.
      load: from tags.
      save: takes the object and, as ``session``, the session of graph mode.
      differentiate: compute the gradients; if not, the step is that of those that
        were recorded, where each variable has one of its own.
    """
    case = recorded.cases[number]
    with runtimes.Runtime(functools.partial(load, case.tags)) as runtime:
        loaded = runtime.loaded
        variables = list(loaded.trainable_variables)
        found = None if differentiate else _recorded_gradients(case, variables)
        if found is None:
            inputs = replay.flat_inputs(case)
            objective = replay.weighted(loaded, recorded, case, inputs)
            found = runtime.gradients(objective, variables)
        steps = [
            variable.assign_sub(expected.STEP * gradient)
            for variable, gradient in zip(variables, found)
            if gradient is not None
        ]
        if not runtime.eager:
            runtime.run(steps)
        save(loaded, session=runtime.session)


def _recorded_gradients(case: Any, variables: List[Any]) -> Optional[List[Any]]:
    """What TF 1.15 gave; None if variables are known by other names there."""
    names = [variable.name.split(":")[0] for variable in variables]
    if not set(names) <= set(case.gradients):
        return None
    return [case.gradients[name] for name in names]


def check(
    recorded: Any, numbers: List[int], folders: Dict[int, Path]
) -> Dict[int, str]:
    """Saved variants give what TF 1.15 gave after the step.

    Args:
      recorded: the module.
      numbers: of cases with the same tags.
      folders: of the saved modules, by case.

    Returns:
      By case ``"ok"``, or what is wrong.
    """
    tags = recorded.cases[numbers[0]].tags
    one = folders[numbers[0]]
    found = {}
    load = functools.partial(replay.plain_load(str(one)), tags)
    with runtimes.Runtime(load) as runtime:
        sibling = Sibling(runtime, one)
        for number in numbers:
            try:
                if number != numbers[0]:
                    sibling.give_values(folders[number])
                _check_case(runtime, recorded, recorded.cases[number])
                found[number] = "ok"
            except Exception:
                found[number] = traceback.format_exc()
    return found


def _check_case(runtime: runtimes.Runtime, recorded: Any, case: Any) -> None:
    """A saved module gives what TF 1.15 gave after the step."""
    inputs = replay.flat_inputs(case)
    found = replay.differentiated(runtime.loaded, recorded, case, inputs)
    what = "{} after a step".format(case.id)
    wanted = case.stepped[case.gradient_of]
    replay.assert_equal(runtime.run(found), wanted, what, relative=1e-4)


class Sibling:
    """What was loaded of one directory, to be given the values of another.

    Args:
      runtime: where it was loaded.
      directory: of what.
    """

    def __init__(self, runtime: runtimes.Runtime, directory: Path) -> None:
        self._runtime, self._directory = runtime, directory
        self._reader = _reader(directory)
        root = getattr(runtime.loaded, "kept", runtime.loaded)
        self._variables = {
            "variables/{}/.ATTRIBUTES/VARIABLE_VALUE".format(number): variable
            for number, variable in enumerate(root.variables)
        }
        self._assignments: Dict[str, Any] = {}

    def give_values(self, other: Path) -> None:
        """All but the values is the same: TensorFlow would load the same of it."""
        assert _files(self._directory) == _files(other)
        for name in _files(other):
            one = (self._directory / name).read_bytes()
            assert one == (other / name).read_bytes(), name
        reader = _reader(other)
        shapes = reader.get_variable_to_shape_map()
        assert shapes == self._reader.get_variable_to_shape_map()
        assert set(shapes) - {"_CHECKPOINTABLE_OBJECT_GRAPH"} == set(self._variables)
        if not self._runtime.eager:
            # There is a session from here on.
            self._runtime.run([])
        for key, variable in self._variables.items():
            value = np.asarray(reader.get_tensor(key))
            # Of other dtypes, not all can be assigned; no step changes them.
            same = value.tobytes() == np.asarray(self._reader.get_tensor(key)).tobytes()
            if variable.dtype.is_floating or not same:
                self._assign(key, variable, value)

    def _assign(self, key: str, variable: Any, value: np.ndarray) -> None:
        if self._runtime.eager:
            variable.assign(value)
            return
        if key not in self._assignments:
            given = tf.compat.v1.placeholder(variable.dtype.base_dtype, value.shape)
            self._assignments[key] = given, variable.assign(given).op
        given, assignment = self._assignments[key]
        self._runtime.session.run(assignment, {given: value})


def _reader(directory: Path) -> Any:
    return tf.train.load_checkpoint(str(directory / "variables" / "variables"))


def _files(directory: Path) -> List[str]:
    """The files of a saved module, but for its values."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    names = [str(path.relative_to(directory)) for path in paths]
    return sorted(name for name in names if not name.startswith("variables"))


def main(saved: str, names: List[str]) -> None:
    """Checks saved modules in this process; prints JSON results."""
    if os.environ.get("HUB_COMPAT_TEST_MODE") == "eager":
        tf.compat.v1.enable_v2_behavior()
    # With other values, the graphs are those that replay.py has optimised.
    with runtimes.unoptimized():
        results = _results(saved, names)
    assert not any(m.split(".")[0] == "hub_compat" for m in sys.modules)
    json.dump(results, sys.stdout)


def _results(saved: str, names: List[str]) -> Dict[str, str]:
    results = {}
    for name in names:
        recorded = expected.load_expected(name)
        folders = {
            number: Path(saved, "{}-{}".format(name, number))
            for number in cases(recorded)
        }
        variants: Dict[Any, List[int]] = {}
        for number in folders:
            variants.setdefault(recorded.cases[number].tags, []).append(number)
        for numbers in variants.values():
            there = [number for number in numbers if folders[number].exists()]
            for number, result in check(recorded, there, folders).items():
                results["{}-{}".format(name, number)] = result
    return results


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
