"""TF1 control flow as While and If; what has no gradient, and its clear refusal."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import expected
import numpy as np
import pytest
import replay
import runtimes

import hub_compat as hub
from hub_compat.converters.ir.graph import CONTROL_FLOW_OPS

pytestmark = pytest.mark.tensorflow


def gradient(loaded: Any, case: Any) -> Any:
    """Asks for the gradient of a signature with respect to all variables."""
    inputs = {}
    for name, value in case.inputs.items():
        inputs.update(replay.flat(name, value))

    def output() -> Any:
        import tensorflow as tf

        results = loaded.signatures[case.signature](**inputs)
        return tf.reduce_sum(results[case.gradient_of])

    return output


def test_gradient_of_what_holds_a_gradient_raises_our_error() -> None:
    """Not TensorFlow's 'outer_context', nor None, but what is the matter."""
    recorded = expected.load_expected("own_gradient")
    with runtimes.Runtime(lambda: hub.load(recorded.path)) as run:
        variables = list(run.loaded.trainable_variables)
        case = dataclasses.replace(recorded.cases[0], gradient_of="default")
        with pytest.raises(LookupError, match="hub_compat: node.*tf.gradients"):
            run.gradients(gradient(run.loaded, case), variables)


def test_other_loops_of_that_graph_keep_their_gradient() -> None:
    """One loop that is left as it is does not cost the others their gradient."""
    recorded = expected.load_expected("own_gradient")
    (case, *_) = [c for c in recorded.cases if c.signature == "apart"]
    assert any(g is not None and np.any(g) for g in case.gradients.values())
    with runtimes.Runtime(lambda: hub.load(recorded.path)) as run:
        replay.check_gradients_of_case(run, recorded, case)


def test_swish_has_the_gradient_of_what_it_computes() -> None:
    """Exported, tf.nn.swish of TF 1.15 has none; as a Defun, of 1.13, it had."""
    recorded = expected.load_expected("function_library")
    (case,) = [c for c in recorded.cases if c.signature == "old_swish"]
    assert any(g is not None and np.any(g) for g in case.gradients.values())
    with runtimes.Runtime(lambda: hub.load(recorded.path)) as run:
        replay.check_gradients_of_case(
            run, recorded, dataclasses.replace(case, signature="swish")
        )


def test_lost_gradient_raises_our_error() -> None:
    """A tf.custom_gradient is not in the module, and nothing takes its place."""
    recorded = expected.load_expected("function_library")
    (case,) = [c for c in recorded.cases if c.signature == "custom_gradient"]
    with runtimes.Runtime(lambda: hub.load(recorded.path)) as run:
        variables = list(run.loaded.trainable_variables)
        with pytest.raises(LookupError, match="hub_compat: node.*tf.custom_gradient"):
            run.gradients(
                gradient(run.loaded, dataclasses.replace(case, gradient_of="default")),
                variables,
            )


def test_report_names_what_runs_forward_only(tmp_path: Any) -> None:
    """The report says which nodes stop gradients."""
    report = hub.convert(expected.load_expected("own_gradient").path, tmp_path / "out")
    assert any("forward only" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    "name",
    ["arrays", "branches", "cells", "decoding", "language", "loops", "recurrent"],
)
def test_nothing_of_TF1_is_left(name: str, tmp_path: Any) -> None:
    """A converted module has no node of TF1's control flow."""
    from hub_compat._tf import saved_model_pb2

    report = hub.convert(expected.load_expected(name).path, tmp_path / "out")
    assert not any("forward only" in warning for warning in report.warnings)
    saved = saved_model_pb2.SavedModel.FromString(
        (tmp_path / "out" / "saved_model.pb").read_bytes()
    )
    ops = {
        node.op
        for meta_graph in saved.meta_graphs
        for function in meta_graph.graph_def.library.function
        for node in function.node_def
    }
    assert ops.isdisjoint(CONTROL_FLOW_OPS)
    assert not any(op.startswith("TensorArray") for op in ops)
    assert ops.intersection(["If", "While"])


def conditionals_in_a_loop(count: int) -> Any:
    """A graph of one loop, whose body has conditionals one after the other."""
    from hub_compat._tf import meta_graph_pb2
    from hub_compat.converters.ir.functions import set_attr
    from hub_compat.converters.ir.graph import Graph

    meta_graph = meta_graph_pb2.MetaGraphDef()

    def node(op: str, name: str, *inputs: str, **attrs: Any) -> str:
        added = meta_graph.graph_def.node.add(op=op, name=name, input=inputs)
        for key, value in attrs.items():
            set_attr(added, key, value)
        return name

    real = {"T": ("type", 1)}
    node("Placeholder", "x", dtype=("type", 1))
    node("Enter", "enter", "x", frame_name=b"loop", **real)
    node("Merge", "start", "enter", "next", N=2, **real)
    node("IsFinite", "goes", "start", **real)
    node("LoopCond", "cond", "goes")
    node("Switch", "turn", "start", "cond", **real)
    value = node("Identity", "inside", "turn:1", **real)
    for i in range(count):
        scope = "cond_{}/".format(i)
        predicate = node("IsFinite", scope + "predicate", value, **real)
        switch = node("Switch", scope + "switch", value, predicate, **real)
        other = node("Neg", scope + "other", switch, **real)
        one = node("Sin", scope + "one", switch + ":1", **real)
        for name in ("merge", "second"):
            value = node("Merge", scope + name, other, one, N=2, **real)
    node("NextIteration", "next", value, **real)
    node("Exit", "exit", "turn", **real)
    return Graph(meta_graph)


def test_conditionals_of_a_loop_take_linear_time() -> None:
    """Four times as many of them need about four times as many steps of Python."""
    from hub_compat.converters.passes import control_flow

    def steps(count: int) -> int:
        graph = conditionals_in_a_loop(count)
        taken = [0]

        def counted(*_: Any) -> None:
            taken[0] += 1

        sys.setprofile(counted)
        try:
            assert control_flow.make_functional(graph, [], ["exit:0"]) == {}
        finally:
            sys.setprofile(None)
        assert sum("While" in node.op for node in graph.nodes.values()) == 1
        assert len(graph.library) == 2 * count + 2
        return taken[0]

    steps(2)
    assert steps(200) < 4.5 * steps(50)


@pytest.mark.eager
@pytest.mark.parametrize(
    "module, signature",
    [
        ("while_loop", "power"),
        ("loops", "default"),
        ("loops", "cond_inside"),
        ("branches", "loop_inside"),
        ("branches", "nested"),
        ("arrays", "nested"),
        ("arrays", "scan"),
        ("recurrent", "stacked"),
    ],
)
def test_second_derivative(module: str, signature: str) -> None:
    """In TensorFlow 2.21; it agrees with differences of the first.

    Of loops in loops too, where TensorFlow's own code would not end.
    """
    import tensorflow as tf

    if tuple(map(int, tf.__version__.split(".")[:2])) < (2, 21):
        pytest.skip("second derivatives are promised for TensorFlow 2.21")
    recorded = expected.load_expected(module)
    function = hub.load(recorded.path).signatures[signature]
    case = next(c for c in recorded.cases if c.signature == signature)
    inputs = {name: tf.constant(value) for name, value in case.inputs.items()}
    x = inputs.pop("x")

    def slope(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(tf.sin(function(x=x, **inputs)["default"]))
        return tape.gradient(value, x)

    with tf.GradientTape() as tape:
        tape.watch(x)
        first = tf.reduce_sum(slope(x))
    second = tape.gradient(first, x).numpy()
    assert np.any(second)
    step = 1e-2
    size = np.abs(second).max()
    for place in (0, second.size - 1):
        move = np.zeros(second.size, np.float32)
        move[place] = step
        move = move.reshape(second.shape)
        change = tf.reduce_sum(slope(x + move) - slope(x - move)).numpy() / (2 * step)
        found = second.flat[place]
        np.testing.assert_allclose(found, change, rtol=2e-2, atol=1e-2 * size)


@pytest.mark.eager
def test_frozen_inside_a_trained_model() -> None:
    """What is before a frozen module with loops trains, through it."""
    import tensorflow as tf

    loaded = hub.load(expected.load_expected("loops").path)
    before = tf.keras.layers.Dense(3)
    x = tf.constant(np.random.RandomState(0).normal(size=(2, 3)).astype(np.float32))
    kept = [v.numpy() for v in loaded.variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loaded(before(x)))
    gradients = tape.gradient(loss, before.trainable_variables)
    assert all(g is not None and np.any(g) for g in gradients)
    for variable, value in zip(loaded.variables, kept):
        np.testing.assert_array_equal(variable.numpy(), value)
