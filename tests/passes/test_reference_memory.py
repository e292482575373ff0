"""What a session shows of a reference variable that is written before it is used.

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

START = np.arange(1.0, 65.0, dtype=np.float32).reshape(4, 16)
GIVEN = (3.0, -2.0, 5.0)

Build = Callable[[Any, Any, Any], Any]


def _name(build: Build) -> str:
    """The signature's name, and a scope."""
    return build.__name__.strip("_")


def _after_write(v1: Any, variable: Any, tensor: Any, compute: Any = None) -> Any:
    """What is computed of a tensor once the variable is written."""
    with v1.control_dependencies([tensor]):
        written = v1.assign_add(variable, v1.ones_like(START) * 100)
    with v1.control_dependencies([written]):
        return tensor + 0.5 if compute is None else compute(tensor)


def _conditional(v1: Any, x: Any, variable: Any) -> Any:
    chosen = v1.cond(x > 0, lambda: variable.value(), lambda: variable * 2)
    return _after_write(v1, variable, chosen)


def _other_shape(v1: Any, x: Any, variable: Any) -> Any:
    chosen = v1.cond(x > 0, lambda: variable.value(), lambda: v1.zeros([2, 3, 1]) + x)
    return _after_write(v1, variable, chosen)


def _nested(v1: Any, x: Any, variable: Any) -> Any:
    def inner() -> Any:
        return v1.cond(
            x > 4, lambda: v1.reshape(variable, [2, 32]), lambda: v1.ones([2, 32])
        )

    chosen = v1.cond(x > 0, inner, lambda: v1.reshape(variable, [2, 32]) * x)
    return _after_write(v1, variable, v1.reshape(chosen, [-1, 8]))


def _two_variables(v1: Any, x: Any, variable: Any) -> Any:
    other = v1.get_variable("other", initializer=-START, use_resource=False)
    chosen = v1.cond(x > 0, lambda: variable.value(), lambda: other.value())
    with v1.control_dependencies([chosen]):
        more = v1.assign_sub(other, v1.ones_like(START) * 7)
    with v1.control_dependencies([more]):
        return _after_write(v1, variable, chosen)


def _select(v1: Any, x: Any, variable: Any) -> Any:
    return _after_write(v1, variable, v1.where(x > 0, variable.value(), variable * x))


def _loop(v1: Any, x: Any, variable: Any) -> Any:
    def turn(i: Any, value: Any) -> Any:
        with v1.control_dependencies([value]):
            written = v1.assign_add(variable, v1.ones_like(START))
        with v1.control_dependencies([written]):
            return i + 1, value * 2

    return v1.while_loop(
        lambda i, _: i < 2, turn, [0, variable.value()], parallel_iterations=1
    )[1]


def _loop_left_at_once(v1: Any, x: Any, variable: Any) -> Any:
    value = v1.while_loop(
        lambda i, _: i < x, lambda i, a: (i + 1, a * 2), [0.0, variable.value()]
    )[1]
    return _after_write(v1, variable, value)


def _later_turn(v1: Any, x: Any, variable: Any) -> Any:
    value = v1.while_loop(
        lambda i, _: i < x,
        lambda i, a: (i + 1, v1.cond(i > 3, lambda: variable.value(), lambda: a + 1)),
        [0.0, variable * 3],
    )[1]
    return _after_write(v1, variable, value)


def _row(v1: Any, x: Any, variable: Any) -> Any:
    return _after_write(v1, variable, variable[1], lambda row: row * 1.5)


def _columns(v1: Any, x: Any, variable: Any) -> Any:
    return _after_write(v1, variable, variable[:, 1:])


def _split_vector(v1: Any, x: Any, variable: Any) -> Any:
    """Parts of a vector: TensorFlow 1.15 copies them, 2.6 and later share them."""
    vector = v1.get_variable("vector", initializer=START.ravel(), use_resource=False)
    parts = v1.split(vector, [16, 32, -1])
    with v1.control_dependencies(parts):
        written = v1.assign_add(vector, v1.ones_like(START.ravel()) * 100)
    with v1.control_dependencies([written]):
        return v1.concat(parts, 0) + x


def _split(v1: Any, x: Any, variable: Any) -> Any:
    return _after_write(v1, variable, v1.split(variable, 2)[1])


def _transposed(v1: Any, x: Any, variable: Any) -> Any:
    return _after_write(v1, variable, v1.transpose(v1.expand_dims(variable, 0)))


def _moved_axis(v1: Any, x: Any, variable: Any) -> Any:
    return _after_write(v1, variable, v1.transpose(variable[None], [1, 0, 2]))


def _snapshot(v1: Any, x: Any, variable: Any) -> Any:
    return _after_write(v1, variable, v1.raw_ops.Snapshot(input=variable))


def _through_functions(v1: Any, x: Any, variable: Any) -> Any:
    """What a function hands on is what it was given; what it computes is its own."""
    from tensorflow.python.framework import function

    @function.Defun(*2 * [variable.dtype.base_dtype])
    def _pair(one: Any, two: Any) -> Any:
        return v1.identity(two), v1.stop_gradient(one), one * 2

    same, also, double = _pair(variable * x, variable)
    for tensor in (same, also, double):
        tensor.set_shape(START.shape)
    return _after_write(v1, variable, same, lambda t: t * 0.5 + also + 100 * double)


def _returned(v1: Any, x: Any, variable: Any) -> Any:
    chosen = v1.cond(x > 0, lambda: variable.value(), lambda: variable * 2)
    with v1.control_dependencies([_after_write(v1, variable, chosen)]):
        return v1.identity(chosen)


def _same_name(v1: Any, x: Any, variable: Any) -> Any:
    """Another node of the variable's name is the variable."""
    again = v1.raw_ops.VariableV2(
        shape=START.shape, dtype="float32", shared_name=variable.op.name, container=""
    )
    with v1.control_dependencies([v1.assign_add(variable, v1.ones_like(START) * x)]):
        return again * 1.5


def _unshaped(v1: Any, name: str = "other") -> Any:
    return v1.get_variable(
        name, initializer=v1.ones([2, 3]), use_resource=False, validate_shape=False
    )


def _longer(v1: Any, x: Any, other: Any) -> Any:
    """Assigns a value that is longer by as much as x, if that is positive."""
    more = v1.zeros([v1.cast(v1.maximum(x, 0.0), "int32")])
    longer = v1.concat([v1.reshape(other + 1.0, [-1]), more], 0)
    return v1.assign(other, longer[:, None], validate_shape=False)


def _resized(v1: Any, x: Any, variable: Any) -> Any:
    """What was read before shows the write if that is of the same size."""
    other = _unshaped(v1)
    before = v1.identity(other)
    with v1.control_dependencies([before]):
        written = _longer(v1, x, other)
    with v1.control_dependencies([written]):
        return v1.reduce_sum(before + 0.5) + 100.0 * v1.reduce_sum(other)


def _resized_after(v1: Any, x: Any, variable: Any) -> Any:
    """There was another write before; a part is used, and what was read returned."""
    other = _unshaped(v1)
    before = v1.identity(other)
    with v1.control_dependencies([before]):
        added = v1.assign_add(other, v1.ones_like(before) * 3)
    with v1.control_dependencies([added]):
        written = _longer(v1, x, other)
    with v1.control_dependencies([written]):
        row = v1.reshape(before, [-1])[1] * 2
    with v1.control_dependencies([row]):
        return v1.identity(before)


BUILDS: List[Build] = [
    _same_name,
    _conditional,
    _other_shape,
    _nested,
    _two_variables,
    _select,
    _loop,
    _loop_left_at_once,
    _later_turn,
    _row,
    _columns,
    _split,
    _split_vector,
    _transposed,
    _moved_axis,
    _snapshot,
    _through_functions,
    _returned,
    _resized,
    _resized_after,
]


def _export(path: Path, builds: List[Build]) -> Dict[str, Any]:
    """Writes a model with a signature for each; what calls in a row give."""
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.raw_ops = tf.raw_ops
    with old_control_flow(), v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [], "x")
        outputs = {}
        for build in builds:
            with v1.variable_scope(_name(build)):
                variable = v1.get_variable("v", initializer=START, use_resource=False)
                outputs[_name(build)] = build(v1, x, variable)
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                name: v1.saved_model.predict_signature_def({"x": x}, {"y": y})
                for name, y in outputs.items()
            },
        )
        builder.save()
        return {
            name: [session.run(y, {x: given}) for given in GIVEN]
            for name, y in outputs.items()
        }


@pytest.fixture(scope="module", name="exported")
def _exported(tmp_path_factory: Any) -> Any:
    path = tmp_path_factory.mktemp("memory") / "module"
    return path, _export(path, BUILDS)


def test_values_are_those_of_a_session(exported: Any) -> None:
    """Of all that may be the memory of a variable, in calls in a row."""
    import tensorflow as tf

    path, wanted = exported
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        given = tf.constant(0.0) if run.eager else tf.compat.v1.placeholder("float", [])
        calls = {name: run.loaded.signatures[name] for name in wanted}
        if run.eager:
            found = {
                name: [run.run(call(x=tf.constant(x))["y"]) for x in GIVEN]
                for name, call in calls.items()
            }
        else:
            outputs = {name: call(x=given)["y"] for name, call in calls.items()}
            run.run(())
            steps = [run.session.run(outputs, {given: x}) for x in GIVEN]
            found = {name: [step[name] for step in steps] for name in outputs}
    for name, values in wanted.items():
        for number, (value, other) in enumerate(zip(values, found[name])):
            np.testing.assert_allclose(other, value, err_msg=(name, number))


def test_nothing_of_that_is_in_doubt(exported: Any, tmp_path: Path) -> None:
    """The graph says of each what it is: there is no warning."""
    path, _ = exported
    warnings = hub.convert(path, tmp_path / "out").warnings
    assert not [line for line in warnings if "memory" in line]


def _row_of_input(v1: Any, x: Any, variable: Any) -> Any:
    return _after_write(v1, variable, variable[v1.cast(x, "int32") :])


def _given_to_resource(v1: Any, x: Any, variable: Any) -> Any:
    other = v1.get_variable("other", initializer=START, use_resource=True)
    rows = v1.slice(variable, [0 * v1.cast(x, "int32"), 0], [4, 16])
    with v1.control_dependencies([other.assign(rows).op]):
        return _after_write(v1, variable, x + 0)


def _resized_twice(v1: Any, x: Any, variable: Any) -> Any:
    other = _unshaped(v1)
    before = v1.identity(other)
    with v1.control_dependencies([before]):
        written = _longer(v1, x, other)
    with v1.control_dependencies([written]):
        written = _longer(v1, 3 - x, other)
    with v1.control_dependencies([written]):
        return v1.reduce_sum(before + 0.5)


def _resized_in_a_branch(v1: Any, x: Any, variable: Any) -> Any:
    other = _unshaped(v1)
    before = v1.identity(other)
    with v1.control_dependencies([before]):
        done = v1.cond(
            x > 0, lambda: v1.shape(_longer(v1, x, other)), lambda: v1.shape(other)
        )
    with v1.control_dependencies([done]):
        return v1.reduce_sum(before + 0.5)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (_row_of_input, "passes on the memory of the variable 'row_of_input/v'"),
        (_given_to_resource, "'given_to_resource/v' to the resource variable"),
        (_resized_twice, "memory of the variable 'resized_twice/other'"),
        (_resized_in_a_branch, "memory of the variable 'resized_in_a_branch/other'"),
    ],
)
def test_what_only_a_run_knows_is_refused(
    build: Build, words: str, tmp_path: Path
) -> None:
    """The error names node and variable; other signatures have their values."""
    import tensorflow as tf

    wanted = _export(tmp_path / "module", [build, _row])
    report = hub.convert(tmp_path / "module", tmp_path / "out")
    assert [line for line in report.warnings if words in line], report.warnings
    with runtimes.Runtime(lambda: hub.load(tmp_path / "module")) as run:
        with pytest.raises(hub.errors.SignatureError) as error:
            run.loaded.signatures[_name(build)]
        assert words in str(error.value)
        assert "use_resource=True" in str(error.value)
        value = run.run(run.loaded.signatures["row"](x=tf.constant(GIVEN[0]))["y"])
    np.testing.assert_allclose(value, wanted["row"][0])


def _same_size(v1: Any, x: Any, variable: Any) -> Any:
    """Without validate_shape, but of one size: the memory stays the variable's."""
    with v1.control_dependencies([variable.value()]):
        turned = v1.reshape(variable * x, [8, 8])
        written = v1.assign(variable, turned, validate_shape=False)
    with v1.control_dependencies([written]):
        return v1.reduce_sum(variable.value()) + x


def test_a_write_of_the_same_size_is_no_doubt(tmp_path: Path) -> None:
    """The graph states the number of elements of all that is assigned."""
    import tensorflow as tf

    wanted = _export(tmp_path / "module", [_same_size])["same_size"]
    with runtimes.Runtime(lambda: hub.load(tmp_path / "module")) as run:
        call = run.loaded.signatures["same_size"]
        found = run.run(call(x=tf.constant(GIVEN[0]))["y"])
    np.testing.assert_allclose(found, wanted[0])


def test_a_sum_of_one_behind_a_control_edge(tmp_path: Path) -> None:
    """A session's optimizer gives its users a copy, and who fetches it the memory."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with old_control_flow(), tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [], name="x")
        variable = v1.get_variable("v", initializer=START, use_resource=False)
        with v1.control_dependencies([x]):
            alone = tf.raw_ops.AddN(inputs=[variable.value()])
        y = _after_write(v1, variable, alone) * x
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, {"y": y})
    # It has no other signature.
    with pytest.raises(hub.errors.ConversionError, match="only a run decides"):
        hub.load(tmp_path / "m")
