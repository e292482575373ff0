"""Steps of layers, against those that were recorded."""

from __future__ import annotations

from typing import Any, List

import expected
import numpy as np
import replay
import stepped
from environment import executes_eagerly

MODULES = expected.module_names()


def chosen(recorded: Any) -> Any:
    """The call that the life is about, of the default variant.

    One that was differentiated, rather of the module itself, and of a larger batch.
    """

    def rank(number: int) -> Any:
        case = recorded.cases[number]
        return (
            bool(case.stepped)
            and (recorded.name, case.signature) not in stepped.WITHOUT,
            case.signature == recorded.callable(recorded.root),
            number,
        )

    numbers = [
        number
        for number, case in enumerate(recorded.cases)
        if case.tags == recorded.root
        and case.inputs
        and _has_batches(recorded, case)
        and (executes_eagerly() or is_dense(case))
    ]
    return recorded.cases[max(numbers, key=rank)]


def _has_batches(recorded: Any, case: Any) -> bool:
    """Whether the inputs are all there, and go into an Input each.

    Keras of TF 1.15 has no Input for a scalar, and Keras 3 trains with none before
    others. Only the module itself has optional inputs, its signatures have not.
    """
    plain = case.signature == recorded.callable(recorded.root)
    dense = [v for v in case.inputs.values() if isinstance(v, np.ndarray)]
    return all(map(np.ndim, dense)) and (plain or replay.complete(recorded, case))


def is_dense(case: Any) -> bool:
    """Whether all inputs are arrays; in a graph, others are in test_keras_layer.py."""
    return all(isinstance(value, np.ndarray) for value in case.inputs.values())


def assert_stepped(values: Any, recorded: Any, case: Any, updated: Any) -> None:
    """Variables are what they were, less the recorded gradients' step, and updated."""
    steps = {n: expected.STEP * g for n, g in case.gradients.items() if g is not None}
    # But for rounding, where a gradient is zero.
    floor = 1e-6 * max((float(np.max(np.abs(s))) for s in steps.values()), default=0)
    assert steps
    for name, value in values.items():
        wanted = updated.get(name, recorded.variables[name])
        if name in steps:
            wanted = (wanted - steps[name]).astype(wanted.dtype)
        what = "{} after {}".format(name, case.id)
        replay.assert_equal(value, wanted, what, relative=1e-5, floor=floor)


def same(one: List[Any], other: List[Any]) -> bool:
    """Whether two lists of arrays are equal to the last bit."""
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other))
