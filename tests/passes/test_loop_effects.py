"""What loops and branches do beside their results: assignments, look-ups, asserts.

Each program is written as a TF1 SavedModel and run twice by a session of the running
TensorFlow, where its nodes are as they were; the converted form must do the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import runtimes
from tf1_loops import X, write

import hub_compat as hub

pytestmark = pytest.mark.tensorflow


def assign_in_branch(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """A branch that is taken counts; the other does not."""

    def counted() -> Any:
        with v1.control_dependencies([steps.assign_add(1.0)]):
            return v1.matmul(x, weights)

    return v1.cond(v1.reduce_sum(x) > 0.0, counted, lambda: x * 2.0)


def assign_in_other_branch(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """The branch that counts is not taken."""

    def counted() -> Any:
        with v1.control_dependencies([steps.assign_add(1.0)]):
            return v1.identity(x)

    return v1.cond(v1.reduce_sum(x) < 0.0, counted, lambda: v1.matmul(x, weights) * 2.0)


def assign_in_loop(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """Each turn counts, and reads what the one before has written."""

    def body(i: Any, value: Any) -> Any:
        with v1.control_dependencies([steps.assign_add(2.0)]):
            return i + 1, v1.tanh(v1.matmul(value, weights)) + steps.read_value()

    return v1.while_loop(lambda i, _: i < 3, body, [0, x], parallel_iterations=1)[1]


def assign_in_branch_of_loop(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """Every second turn counts."""

    def body(i: Any, value: Any) -> Any:
        def counted() -> Any:
            with v1.control_dependencies([steps.assign_add(1.0)]):
                return value * 0.5

        following = v1.cond(v1.equal(i % 2, 0), counted, lambda: v1.sin(value))
        return i + 1, v1.matmul(following, weights)

    return v1.while_loop(lambda i, _: i < 3, body, [0, x], parallel_iterations=1)[1]


def numbers() -> Any:
    """A table from digits to numbers."""
    import tensorflow as tf

    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(["0", "1", "2"]), tf.constant([2.0, 3.0, 5.0])
        ),
        -1.0,
    )


def table_in_branch(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """A look-up of what a branch, and a branch of a loop, compute."""
    table = numbers()

    def looked_up(value: Any) -> Any:
        return v1.matmul(value, weights) * table.lookup(v1.as_string(v1.size(value)))

    def body(i: Any, value: Any) -> Any:
        return i + 1, v1.cond(i > 0, lambda: looked_up(value), lambda: value * 0.5)

    value = v1.cond(v1.reduce_sum(x) > 0.0, lambda: looked_up(x), lambda: x)
    return v1.while_loop(lambda i, _: i < 2, body, [0, value])[1]


def table_in_loop(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """A look-up of what the loop computes."""
    table = numbers()

    def body(i: Any, value: Any) -> Any:
        return i + 1, v1.matmul(value, weights) + table.lookup(v1.as_string(i))

    return v1.while_loop(lambda i, _: i < 4, body, [0, x])[1]


def strings_in_loop(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """A loop that reads strings and writes some, beside what trains and has effects."""
    import tensorflow as tf

    def row(given: Any) -> Any:
        text, value = given
        whole = v1.foldl(lambda a, b: v1.strings.join([a, b]), text, "")
        shorter = v1.strings.substr(text, 0, 2)
        size = v1.cast(v1.strings.length(whole), tf.float32)
        check = v1.debugging.Assert(v1.reduce_all(value > -99.0), [value])
        printed = v1.print("row", size, output_stream="file:///dev/null")
        with v1.control_dependencies([check, printed]):
            size *= v1.random_uniform([], 1.0, 1.0)
        return v1.reshape(v1.matmul(value[None], weights), [3]) * size, shorter

    given = (v1.as_string(x), x)
    values, texts = v1.map_fn(row, given, dtype=(tf.float32, tf.string))
    return values + v1.cast(v1.strings.length(texts), tf.float32)


def loop_in_condition(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """A loop that decides whether another goes on, and begins with constants."""

    def goes_on(i: Any, _: Any) -> Any:
        found = v1.while_loop(
            lambda j, _: j < i, lambda j, s: (j + 1, s + 1.0), [0, 0.0]
        )
        return found[1] < 3.0

    def body(i: Any, value: Any) -> Any:
        return i + 1, v1.tanh(v1.matmul(value, weights))

    return v1.cond(
        v1.reduce_sum(x) > 0.0,
        lambda: v1.while_loop(goes_on, body, [0, x])[1],
        lambda: x,
    )


def value_of_a_branch(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """What a branch computes, and not what the conditional gives."""
    kept = []

    def taken() -> Any:
        kept.append(v1.matmul(x, weights))
        return v1.cond(kept[0][0, 0] > 99.0, lambda: x, lambda: -x)

    v1.cond(v1.reduce_sum(x) > 0.0, taken, lambda: x)
    return kept[0]


def assert_in_branch(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """An assert that holds, in a branch."""

    def checked() -> Any:
        check = v1.debugging.Assert(v1.reduce_all(x > -9.0), [x])
        with v1.control_dependencies([check]):
            return v1.matmul(x, weights)

    return v1.cond(v1.reduce_sum(x) > 0.0, checked, lambda: x)


def summaries(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """Summaries, which a branch and a loop wait for."""

    def noted(value: Any) -> Any:
        with v1.control_dependencies([v1.summary.histogram("value", value)]):
            return v1.matmul(value, weights)

    value = v1.cond(v1.reduce_sum(x) > 0.0, lambda: noted(x), lambda: x)
    return v1.while_loop(
        lambda i, _: i < 2, lambda i, v: (i + 1, v1.tanh(noted(v))), [0, value]
    )[1]


def deep(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """More nodes one behind the other than Python calls functions in functions."""

    def chain(value: Any) -> Any:
        # Of this TensorFlow builds gradients in no time.
        for _ in range(1200):
            value = v1.negative(value)
        return value

    branch = v1.cond(v1.reduce_sum(x) > 0.0, lambda: chain(x), lambda: x)
    value = v1.matmul(branch, weights)
    return v1.while_loop(
        lambda i, _: i < 2, lambda i, v: (i + 1, chain(v)), [0, value]
    )[1]


def many_in_turn(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """Conditionals and loops, one behind the other."""
    value = v1.matmul(x, weights)
    for _ in range(20):
        value = v1.cond(v1.reduce_sum(value) > 0.0, lambda: value * 0.5, lambda: -value)  # noqa: B023
        _, value = v1.while_loop(
            lambda i, _: i < 2, lambda i, v: (i + 1, v1.sin(v)), [0, value]
        )
    return value


def array_that_grows(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """An array of dynamic size, of which a loop reads what was written before."""
    import tensorflow as tf

    array = tf.TensorArray(
        tf.float32, 1, dynamic_size=True, clear_after_read=False, element_shape=[3]
    )

    def body(i: Any, array: Any) -> Any:
        before = v1.reshape(v1.matmul(array.read(i - 1)[None], weights), [3])
        return i + 1, array.write(i, before + array.read(0))

    _, array = v1.while_loop(lambda i, _: i < 3, body, [1, array.write(0, x[0])])
    return array.gather(v1.range(1, array.size()))


def in_function(v1: Any, x: Any, weights: Any, steps: Any, defun: Any = None) -> Any:
    """A function with a loop and a conditional, in a branch and in a loop."""
    import tensorflow as tf
    from tensorflow.python.framework import function

    def turned(value: Any, kernel: Any) -> Any:
        half = v1.cond(v1.reduce_sum(value) > 0.0, lambda: value * 0.5, lambda: value)
        found = v1.while_loop(
            lambda i, _: i < 2,
            lambda i, v: (i + 1, v1.tanh(v1.matmul(v, kernel))),
            [0, half],
        )[1]
        return v1.reshape(found, [2, 3])

    if defun is None:
        defun = function.Defun(tf.float32, tf.float32)
    turned = defun(turned)
    value = v1.cond(v1.reduce_sum(x) > 0.0, lambda: turned(x, weights), lambda: x)
    _, value = v1.while_loop(
        lambda i, _: i < 2,
        lambda i, v: (i + 1, v1.reshape(turned(v, weights), [2, 3]) + 0.5),
        [0, v1.reshape(value, [2, 3])],
    )
    return value


def in_functions(v1: Any, x: Any, weights: Any, steps: Any, defun: Any = None) -> Any:
    """Functions that call functions, beside a conditional and within a branch."""
    import tensorflow as tf
    from tensorflow.python.framework import function

    defun = defun or function.Defun(tf.float32, tf.float32)

    @defun
    def product(value: Any, kernel: Any) -> Any:
        return v1.matmul(v1.reshape(value, [2, 3]), kernel)

    @defun
    def branched(value: Any, kernel: Any) -> Any:
        return v1.cond(
            v1.reduce_sum(value) > 0.0,
            lambda: v1.tanh(product(value, kernel)),
            lambda: v1.reshape(value, [2, 3]) * 2.0,
        )

    @defun
    def outer(value: Any, kernel: Any) -> Any:
        return branched(product(value, kernel), kernel) + 1.0

    value = v1.cond(v1.reduce_sum(x) > 0.0, lambda: outer(x, weights), lambda: x)
    return v1.reshape(outer(v1.reshape(value, [2, 3]), weights), [2, 3])


def effects_in_function(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """A function that asserts and counts, in its loop, in a branch, beside both."""
    import tensorflow as tf
    from tensorflow.python.framework import function

    @function.Defun(tf.float32, tf.float32)
    def checked(value: Any, kernel: Any) -> Any:
        counted = steps.assign_add(2.0)

        def body(i: Any, v: Any) -> Any:
            # Nothing takes or waits for it, and it runs in each turn.
            steps.assign_add(0.5)
            check = v1.debugging.Assert(v1.reduce_all(v > -99.0), [v])
            with v1.control_dependencies([check]):
                return i + 1, v1.matmul(v, kernel)

        def halved() -> Any:
            v1.debugging.Assert(v1.reduce_all(value > -99.0), [value])
            return value * 0.5

        with v1.control_dependencies([counted]):
            start = v1.cond(v1.reduce_sum(value) > 0.0, halved, lambda: value * 1.0)
        return v1.while_loop(
            lambda i, _: i < 2, body, [0, start], parallel_iterations=1
        )[1]

    found = checked(
        v1.cond(v1.reduce_sum(x) > 0.0, lambda: x * 2.0, lambda: x), weights
    )
    return v1.reshape(found, [2, 3])


PROGRAMS = (
    array_that_grows,
    deep,
    effects_in_function,
    in_function,
    in_functions,
    many_in_turn,
    assign_in_branch,
    assign_in_other_branch,
    assign_in_loop,
    assign_in_branch_of_loop,
    table_in_branch,
    table_in_loop,
    strings_in_loop,
    loop_in_condition,
    value_of_a_branch,
    assert_in_branch,
    summaries,
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_effects_and_gradient(program: Callable[..., Any], tmp_path: Path) -> None:
    """The same values in two runs, the same variable after them, and a gradient.

    Of the input and of the variable that trains.
    """
    import tensorflow as tf

    known = write(program, tmp_path / "model")
    with runtimes.Runtime(lambda: hub.load(tmp_path / "model")) as run:
        variables = {v.name.split(":")[0]: v for v in run.loaded.variables}
        x = tf.constant(X)

        def output() -> Any:
            return run.loaded.signatures["go"](x=x)["y"]

        if run.eager:
            found = [run.run(output()), run.run(output())]
        else:
            y = output()
            found = [run.run(y), run.run(y)]
        np.testing.assert_allclose(found, known["runs"], rtol=1e-5)
        (steps,) = run.read([variables["steps"]])
        np.testing.assert_allclose(steps, known["steps"])
        in_x, in_weights = run.gradients(
            lambda: tf.reduce_sum(output()), [x, variables["weights"]]
        )
    assert in_x is not None
    assert np.all(np.isfinite(in_x))
    assert np.any(in_weights)


def test_branch_that_is_not_taken(tmp_path: Path) -> None:
    """A value of it is an error, as in a session of the original, and says why."""
    import tensorflow as tf

    write(value_of_a_branch, tmp_path / "model")
    with runtimes.Runtime(lambda: hub.load(tmp_path / "model")) as run:
        with pytest.raises(tf.errors.InvalidArgumentError, match="is not taken"):
            run.run(run.loaded.signatures["go"](x=tf.constant(-X))["y"])


@pytest.mark.parametrize("called", [in_function, in_functions])
def test_gradient_through_a_function(
    called: Callable[..., Any], tmp_path: Path
) -> None:
    """It is that of the same program without a function; TF1's own was zero."""
    import tensorflow as tf

    def inlined(*arguments: Any) -> Any:
        return called(*arguments, defun=lambda function: function)

    found = []
    for name, program in (("defun", called), ("inlined", inlined)):
        write(program, tmp_path / name)
        with runtimes.Runtime(lambda name=name: hub.load(tmp_path / name)) as run:
            variables = {v.name.split(":")[0]: v for v in run.loaded.variables}
            x = tf.constant(X)

            def loss(run: Any = run, x: Any = x) -> Any:
                return tf.reduce_sum(run.loaded.signatures["go"](x=x)["y"])

            found.append(run.gradients(loss, [x, variables["weights"]]))
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)


def update_in_branch(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """What training has to run is within a branch."""

    def counted() -> Any:
        update = steps.assign_add(1.0)
        v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, getattr(update, "op", update))
        return v1.matmul(x, weights)

    return v1.cond(v1.reduce_sum(x) > 0.0, counted, lambda: x * 2.0)


def test_update_op_of_a_branch(tmp_path: Path) -> None:
    """It runs where its branch is taken, in training; TF1 itself would stop there."""
    import tensorflow as tf

    write(update_in_branch, tmp_path / "module", name="default", tags=())
    (tmp_path / "module" / "tfhub_module.pb").write_bytes(b"\x08\x03")
    for x, training, counted in ((X, True, 2.0), (-X, True, 1.0), (X, False, 1.0)):
        with runtimes.Runtime(lambda: hub.load(tmp_path / "module")) as run:
            variables = {v.name.split(":")[0]: v for v in run.loaded.variables}
            (before, weights) = run.read([variables["steps"], variables["weights"]])
            assert before == 1.0
            found = run.run(run.loaded(tf.constant(x), training=training))
            wanted = x @ weights if x is X else x * 2.0
            np.testing.assert_allclose(found, wanted, rtol=1e-5)
            assert run.read([variables["steps"]])[0] == counted


def update_in_loop(v1: Any, x: Any, weights: Any, steps: Any) -> Any:
    """What training has to run is within a loop."""

    def body(i: Any, value: Any) -> Any:
        update = steps.assign_add(1.0)
        v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, getattr(update, "op", update))
        return i + 1, v1.matmul(value, weights)

    return v1.while_loop(lambda i, _: i < 2, body, [0, x])[1]


def test_update_op_of_a_loop(tmp_path: Path) -> None:
    """It does not run, as TF1 cannot run it either; the report says so."""
    import tensorflow as tf

    write(update_in_loop, tmp_path / "module", name="default", tags=())
    (tmp_path / "module" / "tfhub_module.pb").write_bytes(b"\x08\x03")
    report = hub.convert(tmp_path / "module", tmp_path / "out")
    assert any("1 of 1 update ops are inside of loops" in w for w in report.warnings)
    with runtimes.Runtime(lambda: hub.load(tmp_path / "out")) as run:
        variables = {v.name.split(":")[0]: v for v in run.loaded.variables}
        (weights,) = run.read([variables["weights"]])
        found = run.run(run.loaded(tf.constant(X), training=True))
        np.testing.assert_allclose(found, X @ weights @ weights, rtol=1e-5)
        assert run.read([variables["steps"]]) == [1.0]
