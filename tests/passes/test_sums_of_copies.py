"""Sums of a tensor and its copies, which TensorFlow's optimizer gives nothing for.

It makes ``2 * x`` of ``x + x`` in the graph of a loop or conditional, where the 2 may
come from the side that is not run. The session that is the measure runs without it.
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

START = np.arange(1.0, 5.0, dtype=np.float32)
GIVEN = START + np.float32(0.5)

Build = Callable[[Any, Any, Any], Any]
Ways = List[Callable[[Any], Any]]


def _add(v1: Any, tensor: Any, ways: Ways) -> Any:
    """The sum of copies of a tensor, each made after the one before."""
    copies: List[Any] = []
    for way in ways:
        with v1.control_dependencies(copies[-1:]):
            copies.append(way(tensor))
    return copies[0] + copies[1] if len(copies) == 2 else v1.add_n(copies)


def _turns(v1: Any, tensor: Any, x: Any, ways: Ways) -> Any:
    """A loop that adds the copies in each turn."""

    def turn(i: Any, value: Any) -> Any:
        with v1.control_dependencies([v1.identity(i)]):
            added = _add(v1, tensor, ways)
        with v1.control_dependencies([added]):
            return i + 1, added - value

    start = [0, x * 1.0]
    return v1.while_loop(lambda i, _: i < 3, turn, start, parallel_iterations=1)[1]


def _loop(v1: Any, x: Any, v: Any) -> Any:
    return _turns(v1, v, x, [v1.identity] * 2)


def _loop_of_an_input(v1: Any, x: Any, v: Any) -> Any:
    return _turns(v1, x, v, [v1.identity] * 2)


def _many(v1: Any, x: Any, v: Any) -> Any:
    return _turns(v1, v.value(), x, [v1.identity] * 3)


def _loop_variable(v1: Any, x: Any, v: Any) -> Any:
    def turn(i: Any, value: Any) -> Any:
        with v1.control_dependencies([v1.identity(i)]):
            return i + 1, _add(v1, value, [v1.identity] * 2)

    return v1.while_loop(lambda i, _: i < 3, turn, [0, v * 1.0])[1] + x


def _without_edges(v1: Any, x: Any, v: Any) -> Any:
    return v1.while_loop(
        lambda i, _: i < 3,
        lambda i, value: (i + 1, v1.identity(v.value()) + v.value() - value),
        [0, x * 1.0],
    )[1]


def _branch(v1: Any, x: Any, v: Any) -> Any:
    return v1.cond(x[0] > 0, lambda: _add(v1, v, [v1.identity] * 2), lambda: x - 1)


def _branch_of_an_input(v1: Any, x: Any, v: Any) -> Any:
    return v1.cond(x[0] < 0, lambda: x - 1, lambda: _add(v1, x, [v1.identity] * 3))


def _branch_in_a_loop(v1: Any, x: Any, v: Any) -> Any:
    def turn(i: Any, value: Any) -> Any:
        def added() -> Any:
            return _add(v1, v.value(), [v1.identity] * 2) - value

        return i + 1, v1.cond(i < 1, added, lambda: value * 2)

    return v1.while_loop(lambda i, _: i < 3, turn, [0, x * 1.0])[1]


def _loop_in_a_loop(v1: Any, x: Any, v: Any) -> Any:
    def turn(i: Any, value: Any) -> Any:
        return i + 1, _turns(v1, v, value, [v1.identity] * 2)

    return v1.while_loop(lambda i, _: i < 2, turn, [0, x * 1.0])[1]


def _other_ops(v1: Any, x: Any, v: Any) -> Any:
    value = _turns(v1, v, x, [v1.stop_gradient, v1.identity])
    value = _turns(v1, v.value(), value, [lambda t: v1.reshape(t, [4]), v1.identity])
    value = _turns(v1, v.value(), value, [lambda t: t * 1.0, v1.identity])
    value = _turns(v1, v.value(), value, [lambda t: t[:], v1.transpose])
    ways: Ways = [lambda t: v1.tile(t, [1]), lambda t: v1.pad(t, [[0, 0]])]
    ways += [lambda t: v1.squeeze(v1.expand_dims(t, 0), 0), lambda t: t + 0.0]
    return _turns(v1, v.value(), value, ways)


def _no_sums(v1: Any, x: Any, v: Any) -> Any:
    value = x
    for compute in (v1.multiply, v1.subtract, v1.maximum, v1.divide):

        def turn(i: Any, value: Any, compute: Any = compute) -> Any:
            with v1.control_dependencies([v1.identity(i)]):
                one = v1.identity(v.value())
            with v1.control_dependencies([one]):
                return i + 1, compute(one, v1.identity(v.value())) - value

        value = v1.while_loop(lambda i, _: i < 3, turn, [0, value * 1.0])[1]
    return value


BUILDS: List[Build] = [
    _loop,
    _loop_of_an_input,
    _many,
    _loop_variable,
    _without_edges,
    _branch,
    _branch_of_an_input,
    _branch_in_a_loop,
    _loop_in_a_loop,
    _other_ops,
    _no_sums,
]


def _export(path: Path) -> Dict[str, Any]:
    """Writes a model with a signature for each; what they give."""
    import tensorflow as tf

    v1 = tf.compat.v1
    config = v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with old_control_flow(), v1.Graph().as_default():
        with v1.Session(config=config) as session:
            x = v1.placeholder(tf.float32, [4], "x")
            outputs = {}
            for build in BUILDS:
                name = build.__name__.strip("_")
                with v1.variable_scope(name):
                    v = v1.get_variable("v", initializer=START, use_resource=False)
                    outputs[name] = build(v1, x, v)
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.builder.SavedModelBuilder(str(path))
            signatures = {
                name: v1.saved_model.predict_signature_def({"x": x}, {"y": y})
                for name, y in outputs.items()
            }
            builder.add_meta_graph_and_variables(session, ["serve"], signatures)
            builder.save()
            found: Dict[str, Any] = session.run(outputs, {x: GIVEN})
            return found


def test_sums_of_copies_are_not_lost(tmp_path: Path) -> None:
    """Each signature gives what the graph says."""
    import tensorflow as tf

    wanted = _export(tmp_path / "module")
    with runtimes.Runtime(lambda: hub.load(tmp_path / "module")) as run:
        x = tf.constant(GIVEN)
        found = run.run(
            {name: run.loaded.signatures[name](x=x)["y"] for name in wanted}
        )
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
