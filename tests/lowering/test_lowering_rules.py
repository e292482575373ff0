"""Signatures of testdata/tf221_rules: each op that a lowering rule rewrites."""

from __future__ import annotations

from typing import Any, Dict, Iterator

import expected
import numpy as np
import pytest
import runtimes
import tf221_replay

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

FOLDER = expected.HERE / "tf221_rules"
RELATIVE, GRADIENT_RELATIVE = 1e-5, 1e-4


def recorded() -> Dict[str, Dict[str, Dict[str, Any]]]:
    """By signature: what goes ``in``, what comes ``out``, and the gradients."""
    found: Dict[str, Any] = {}
    with np.load(str(FOLDER / "recorded.npz")) as arrays:
        for key, value in arrays.items():
            name, part, of = key.split("|")
            known = found.setdefault(name, {"in": {}, "out": {}, "grad": {}})
            known[part][of] = value
    return found


RECORDED = recorded()
# Their numbers are others elsewhere.
OTHERS = {"other_numbers", "stateful_binomial"}


@pytest.fixture(scope="module")
def run() -> Iterator[Any]:
    """The loaded model, with no optimizer: rules are what is tried."""
    with runtimes.Runtime(lambda: hub.load(FOLDER / "module"), optimized=False) as run:
        yield run


def call(run: Any, name: str) -> Dict[str, Dict[str, Any]]:
    """What a signature gives here, and the gradients that were recorded."""
    known, found = RECORDED[name], {}
    given = tf221_replay.unflatten(known["in"])

    def loss() -> Any:
        found.update(run.loaded.signatures[name](**given))
        return tf221_replay.loss_of(found)

    sources = [given[of] for of in sorted(known["grad"])]
    gradients = run.differentiate(loss, sources)
    assert not [g for g in gradients if g is None], "no gradient"
    values = run.run(
        {"out": found, "grad": dict(zip(sorted(known["grad"]), gradients))}
    )
    values["out"] = {k: tf221_replay._storable(v) for k, v in values["out"].items()}
    return dict(values)


def check(found: Any, wanted: Any, relative: float, what: str) -> None:
    """Compares two arrays, integers exactly."""
    assert found.dtype.kind == wanted.dtype.kind, what
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted, what)
        return
    assert found.dtype == wanted.dtype, what
    largest = np.max(np.abs(wanted[np.isfinite(wanted)]), initial=0.0)
    np.testing.assert_allclose(
        found, wanted, rtol=relative, atol=relative * largest, err_msg=what
    )


@pytest.mark.parametrize("name", sorted(set(RECORDED) - OTHERS))
def test_values_and_gradients(run: Any, name: str) -> None:
    """They are those of TensorFlow 2.21."""
    found = call(run, name)
    for part, relative in (("out", RELATIVE), ("grad", GRADIENT_RELATIVE)):
        assert sorted(found[part]) == sorted(RECORDED[name][part])
        for of, wanted in RECORDED[name][part].items():
            check(found[part][of], wanted, relative, "{} {}".format(part, of))


def test_numbers_that_are_others(run: Any) -> None:
    """Poisson's have their mean and variance; an order has all rows in it."""
    found, wanted = call(run, "other_numbers")["out"], RECORDED["other_numbers"]["out"]
    for of, value in wanted.items():
        assert (found[of].shape, found[of].dtype) == (value.shape, value.dtype), of
    # Six times the standard error of a mean of 500.
    for column, rate in enumerate((2.0, 40.0)):
        drawn = found["poisson"][:, column]
        assert abs(drawn.mean() - rate) < 6 * np.sqrt(rate / 500)
        assert 0.6 * rate < drawn.var() < 1.6 * rate
    assert sorted(found["shuffled"]) == list(range(60))
    assert list(found["shuffled"]) != list(range(60))
    rows = found["shuffled_rows"]
    assert sorted(map(tuple, rows)) == [(i, i + 1) for i in range(0, 60, 2)]
    again = call(run, "other_numbers")["out"]
    np.testing.assert_array_equal(again["shuffled"], found["shuffled"])


def test_numbers_of_a_binomial_distribution(run: Any) -> None:
    """Each column has its own count and probability; the state moves on."""
    found = call(run, "stateful_binomial")["out"]
    wanted = RECORDED["stateful_binomial"]["out"]["numbers"]
    numbers = found["numbers"]
    assert (numbers.shape, numbers.dtype) == (wanted.shape, wanted.dtype)
    for column, (count, chance) in enumerate(((5, 0.5), (20, 0.25))):
        drawn, variance = numbers[:, column], count * chance * (1 - chance)
        assert set(drawn.tolist()) <= set(range(count + 1))
        assert abs(drawn.mean() - count * chance) < 6 * np.sqrt(variance / 500)
        assert 0.6 * variance < drawn.var() < 1.6 * variance
    assert (call(run, "stateful_binomial")["out"]["numbers"] != numbers).any()
