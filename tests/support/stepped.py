"""A recorded step of gradient descent: taken here, and looked for in what was saved.

Used by tests in the process, and as a program that has nothing of hub_compat in it,
for a module that was trained and saved in another process::

    python stepped.py SAVED_DIR NAME...

SAVED_DIR/NAME-3 is the module NAME after the step of its case 3.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from typing import Any, Callable, Dict, List

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
) -> None:
    """Loads a module, takes the step, and saves it.

    Args:
      recorded: the module.
      number: of the case.
      load: from tags.
      save: takes the object and, as ``session``, the session of graph mode.
    """
    case = recorded.cases[number]
    with runtimes.Runtime(functools.partial(load, case.tags)) as runtime:
        loaded = runtime.loaded
        inputs = replay.flat_inputs(case)
        objective = replay.weighted(loaded, recorded, case, inputs)
        variables = list(loaded.trainable_variables)
        found = runtime.gradients(objective, variables)
        steps = [
            variable.assign_sub(expected.STEP * gradient)
            for variable, gradient in zip(variables, found)
            if gradient is not None
        ]
        if runtime.session is not None:
            runtime.session.run(steps)
        save(loaded, session=runtime.session)


def check(recorded: Any, number: int, load: Callable[[Any], Any]) -> None:
    """A saved module gives what TF 1.15 gave after the step."""
    case = recorded.cases[number]
    with runtimes.Runtime(functools.partial(load, case.tags)) as runtime:
        inputs = replay.flat_inputs(case)
        found = replay.differentiated(runtime.loaded, recorded, case, inputs)
        what = "{} after a step".format(case.id)
        wanted = case.stepped[case.gradient_of]
        replay.assert_equal(runtime.run(found), wanted, what, relative=1e-4)


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
        for number in cases(recorded):
            key = "{}-{}".format(name, number)
            try:
                check(recorded, number, replay.plain_load(os.path.join(saved, key)))
                results[key] = "ok"
            except Exception:
                results[key] = traceback.format_exc()
    return results


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
