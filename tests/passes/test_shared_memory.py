"""Resource variables that are assigned reference variables, whose memory they become.

The values are those of a session on the original, in the running TensorFlow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
import runtimes
from tf1_loops import old_control_flow

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

START = np.arange(1.0, 9.0, dtype=np.float32).reshape(4, 2)
OWN = -10 * START
GIVEN = (1.0, -2.0, 3.0)

Ops = Dict[str, Any]
# With a reference and a resource variable: signatures, and calls of them in a row.
Build = Callable[[Any, Any, Any, Any], Ops]


def _then(v1: Any, first: Any, make: Callable[[], Any]) -> Any:
    with v1.control_dependencies([first]):
        return make()


def _copy(v1: Any, v: Any, r: Any) -> Any:
    return _then(v1, r.assign(v.value()).op, lambda: v1.constant(1.0))


def _step(v1: Any, x: Any, v: Any) -> Any:
    return _then(v1, v1.assign_add(v, x * START).op, lambda: x + 0)


def _one_call(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    def later() -> Any:
        read = r.read_value()
        written = _then(v1, read, lambda: v1.assign_add(v, x * START).op)
        return _then(v1, written, lambda: read * 2 + 100 * r.read_value())

    return {"copy": _then(v1, r.assign(v.value()).op, later)}


def _two_calls(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    return {"copy": _copy(v1, v, r), "step": _step(v1, x, v)}


def _own_again(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    added = _then(v1, r.assign_add(x * START).op, lambda: x + 0)
    return {"copy": _copy(v1, v, r), "step": _step(v1, x, v), "own": added}


def _assigned_again(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    given = _then(v1, r.assign(v + x).op, lambda: x + 0)
    return {"copy": _copy(v1, v, r), "step": _step(v1, x, v), "own": given}


def _gathered(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    rows = v1.gather(r, [0])
    return {"copy": _copy(v1, v, r), "step": _step(v1, x, v), "own": rows}


def _scattered(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    def scatter() -> Any:
        return v1.scatter_update(v, [1], v1.ones([1, 2]) * x).op

    written = _then(v1, scatter(), lambda: x + 0)
    return {"copy": _copy(v1, v, r), "step": written}


def _reshaped(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    turned = v1.get_variable("flat", initializer=OWN.ravel(), use_resource=True)
    copied = turned.assign(v1.reshape(v, [8])).op
    read = _then(v1, copied, lambda: turned.read_value())
    return {"copy": read, "step": _step(v1, x, v), "own": turned.read_value()}


def _through_another(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    other = v1.get_variable("other", initializer=OWN, use_resource=True)
    on = _then(v1, other.assign(r.read_value()).op, lambda: x + 0)
    return {
        "copy": _copy(v1, v, r),
        "own": on,
        "step": _step(v1, x, v),
        "read": other.read_value(),
    }


def _chosen(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    value = v1.cond(x > 0, lambda: v.value(), lambda: v * 3)
    copied = _then(v1, r.assign(value).op, lambda: x + 0)
    return {"copy": copied, "step": _step(v1, x, v), "read": r.read_value()}


def _in_a_branch(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    def copy() -> Any:
        return _then(v1, r.assign(v.value()).op, lambda: x + 1)

    def step() -> Any:
        return _then(v1, v1.assign_add(v, START * 7).op, lambda: x + 2)

    return {
        "copy": v1.cond(x > 0, copy, lambda: x - 1),
        "step": v1.cond(x > 0, step, lambda: x - 2),
        "read": r.read_value(),
    }


def _in_a_loop(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    def turn(i: Any, total: Any) -> Any:
        written = v1.assign_add(v, START).op
        read = _then(v1, written, lambda: v1.reduce_sum(r.read_value()))
        return _then(v1, read, lambda: (i + 1, total + read))

    looped = v1.while_loop(
        lambda i, _: i < 3, turn, [0, x * 1.0], parallel_iterations=1
    )[1]
    return {"copy": _copy(v1, v, r), "step": looped}


def _assigned_in_turns(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    """What is assigned was written since it was read."""

    def turn(i: Any, total: Any) -> Any:
        written = _then(v1, r.assign(v.value()).op, lambda: v1.assign_add(v, START).op)
        return _then(v1, written, lambda: (i + 1, total + r.read_value()))

    looped = v1.while_loop(
        lambda i, _: i < 3, turn, [0, x * START], parallel_iterations=1
    )[1]
    return {"copy": looped, "step": _step(v1, x, v)}


def _two_of_one(v1: Any, x: Any, v: Any, r: Any) -> Ops:
    other = v1.get_variable("other", initializer=OWN, use_resource=True)
    both = _then(v1, r.assign(v.value()).op, lambda: other.assign(v.value()).op)
    return {"copy": _then(v1, both, lambda: x + 0), "step": _step(v1, x, v)}


BUILDS: List[Build] = [
    _one_call,
    _two_calls,
    _own_again,
    _assigned_again,
    _gathered,
    _scattered,
    _reshaped,
    _through_another,
    _chosen,
    _in_a_branch,
    _in_a_loop,
    _assigned_in_turns,
    _two_of_one,
]
ORDER = ["copy", "step", "read", "own", "step", "copy", "step", "own", "read", "step"]


def _record(path: Path) -> Dict[str, Any]:
    """Writes a model of all; what the calls give, and the variables after each."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with old_control_flow(), v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [], "x")
        made: Dict[str, Ops] = {}
        for build in BUILDS:
            name = build.__name__.strip("_")
            with v1.variable_scope(name):
                v = v1.get_variable("v", initializer=START, use_resource=False)
                r = v1.get_variable("r", initializer=OWN, use_resource=True)
                made[name] = build(v1, x, v, r)
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        signatures = {
            "{}_{}".format(name, key): v1.saved_model.predict_signature_def(
                {"x": x}, {"y": y}
            )
            for name, ops in made.items()
            for key, y in ops.items()
        }
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
        held = {v.op.name: v for v in v1.global_variables()}
        found: Dict[str, Any] = {}
        for name, ops in made.items():
            own = {k: v for k, v in held.items() if k.startswith(name + "/")}
            for number, key in enumerate(k for k in ORDER if k in ops):
                y = session.run(ops[key], {x: GIVEN[number % 3]})
                found["{} {} {}".format(name, number, key)] = (y, session.run(own))
        return found


@pytest.fixture(scope="module", name="recorded")
def _recorded(tmp_path_factory: Any) -> Any:
    path = tmp_path_factory.mktemp("shared") / "module"
    return path, _record(path)


def test_values_are_those_of_a_session(recorded: Any) -> None:
    """What calls in a row give, and what the variables hold after each."""
    import tensorflow as tf

    path, wanted = recorded
    wrong = []
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        held = {v.name.split(":")[0]: v for v in run.loaded.variables}
        fed = None if run.eager else tf.compat.v1.placeholder("float", [])
        calls: Dict[str, Any] = {}
        for step in wanted:
            name, _, key = step.split()
            name = "{}_{}".format(name, key)
            if not run.eager and name not in calls:
                calls[name] = run.loaded.signatures[name](x=fed)["y"]
        if not run.eager:
            run.run(())
        for step, (value, after) in wanted.items():
            name, number, key = step.split()
            name, given = "{}_{}".format(name, key), GIVEN[int(number) % 3]
            if run.eager:
                call = run.loaded.signatures[name]
                found = run.run(call(x=tf.constant(given))["y"])
            else:
                found = run.session.run(calls[name], {fed: given})
            if not np.allclose(found, value):
                wrong.append((step, found, value))
            for key, one in after.items():
                found = run.read([held[key]])[0]
                if not np.allclose(found, one):
                    wrong.append((step, key, found.ravel()[:2], one.ravel()[:2]))
    assert not wrong, "\n".join(map(str, wrong))


def test_nothing_of_that_is_in_doubt(recorded: Any, tmp_path: Path) -> None:
    """There is no warning, and no variable more."""
    path, _ = recorded
    report = hub.convert(path, tmp_path / "out")
    assert not [line for line in report.warnings if "memory" in line]
