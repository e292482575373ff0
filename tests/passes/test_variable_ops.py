"""Ops that read and write variables, each against a session of the same TensorFlow.

A TF1 SavedModel is written for each kind of variable, with a signature for each
program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
import runtimes
from tf1_loops import old_control_flow

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

X = np.arange(12.0, dtype=np.float32).reshape(3, 4) / 5
INDICES = np.array([[0, 1], [2, 3]], np.int32)
CALLS = 2
Variable = Callable[..., Any]
Program = Callable[[Any, Any, Any, Variable], Dict[str, Any]]
PROGRAMS: Dict[str, Program] = {}


def program(made: Program) -> Program:
    """Adds a program: from the inputs and what makes variables to outputs."""
    PROGRAMS[made.__name__] = made
    return made


@program
def gather_nd(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """Both are asked for the shape of what they take: rows, and elements."""
    w = variable()
    return {"y": v1.gather_nd(w, i), "rows": v1.gather_nd(w, i[:, :1])}


@program
def count(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """What it was, and what it is then."""
    counter = variable(np.int32(0))
    counted = v1.count_up_to(counter, 5)
    with v1.control_dependencies([counted]):
        return {"old": counted, "new": counter + 1}


@program
def slices(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """An assignment of a part."""
    w = variable()
    written = w[1:2, :2].assign(v1.ones([1, 2]) * v1.reduce_sum(x))
    with v1.control_dependencies([written]):
        return {"y": w.read_value(), "twice": w * 2.0}


@program
def updates_of_elements(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """One after the other, with what each left."""
    w = variable()
    found = {}
    done: List[Any] = []
    scatters = (v1.scatter_nd_update, v1.scatter_nd_add, v1.scatter_nd_sub)
    for number, scatter in enumerate(scatters):
        with v1.control_dependencies(done):
            done = [scatter(w, i, v1.reduce_sum(x) * v1.ones([2]))]
        with v1.control_dependencies(done):
            found["sum{}".format(number)] = v1.reduce_sum(w * w)
            done = [found["sum{}".format(number)]]
    return found


@program
def idioms(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """The ways to read what was just written."""
    found: Dict[str, Any] = {}
    for name, write in (
        ("assign", lambda w: v1.assign(w, x)),
        ("assign_add", lambda w: v1.assign_add(w, x)),
        ("assign_sub", lambda w: v1.assign_sub(w, x)),
        ("scatter_add", lambda w: v1.scatter_add(w, [0, 2], x[:2])),
        ("scatter_div", lambda w: v1.scatter_div(w, [0, 2], x[:2] + 1.0)),
    ):
        w = variable()
        with v1.control_dependencies([write(w)]):
            found[name + "_mul"] = w * 2.0
            found[name + "_identity"] = v1.identity(w)
            found[name + "_value"] = w.read_value() + 1.0
            found[name + "_gather"] = v1.gather(w, [2, 0])
    return found


@program
def average(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """The value of a moving average after its update."""
    w = variable()
    moving = v1.train.ExponentialMovingAverage(0.5)
    with v1.control_dependencies([v1.assign_add(w, x)]):
        applied = moving.apply([w])
    with v1.control_dependencies([applied]):
        return {"y": v1.identity(moving.average(w)), "z": moving.average(w) * 3.0}


@program
def before_and_after(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """One value for several users, at different times."""
    w = variable()
    before = w * 1.0
    with v1.control_dependencies([before]):
        one = v1.assign_add(w, x)
    with v1.control_dependencies([one]):
        between = w * 1.0
    with v1.control_dependencies([between]):
        two = v1.assign(w, x * 7.0)
    with v1.control_dependencies([two]):
        return {"before": before, "between": between, "after": w * 1.0, "two": two}


@program
def in_branches(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """Writes in both branches, what they give, and a read after them."""
    w = variable()
    written = v1.cond(
        v1.reduce_sum(x) > 0.0,
        lambda: v1.assign_add(w, x) * 1.0,
        lambda: v1.assign(w, -x) * 1.0,
    )
    with v1.control_dependencies([written]):
        after = v1.cond(x[0, 0] > 5.0, lambda: w + 1.0, lambda: w - 1.0)
        return {"written": written, "after": after, "twice": w * 2.0}


@program
def in_a_loop(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """Each turn adds, and reads by the value that came in before the loop."""
    w = variable()

    def body(turn: Any, total: Any) -> Any:
        with v1.control_dependencies([v1.assign_add(w, x)]):
            return turn + 1, total + w * 2.0

    _, total = v1.while_loop(
        lambda turn, _: turn < 3, body, [0, x], parallel_iterations=1
    )
    with v1.control_dependencies([total]):
        return {"total": total, "after": w * 1.0}


@program
def in_functions(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """A function's call reads when it is called, and what waits for it comes later."""
    import tensorflow as tf
    from tensorflow.python.framework import function

    w = variable()

    @function.Defun(tf.float32)
    def doubled(value: Any) -> Any:
        return value * 2.0

    with v1.control_dependencies([v1.assign_add(w, x)]):
        first = doubled(w)
    with v1.control_dependencies([first]):
        second = v1.assign_sub(w, x * 3.0)
    with v1.control_dependencies([second]):
        return {"first": first, "second": doubled(w)}


@program
def temporary(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
    """A variable for one step, as sums of many tensors were once made."""
    from tensorflow.python.ops import gen_state_ops

    w = variable()
    made = gen_state_ops.temporary_variable(
        shape=[3, 4], dtype=x.dtype, var_name="temporary"
    )
    first = v1.assign(made, x * 2.0)
    with v1.control_dependencies([first]):
        added = [v1.assign_add(made, w * w), v1.assign_sub(made, x)]
    with v1.control_dependencies(added):
        total = gen_state_ops.destroy_temporary_variable(made, var_name="temporary")
    return {"y": total}


def _optimizer(name: str, make: Callable[[Any], Any], sparse: bool) -> None:
    def step(v1: Any, x: Any, i: Any, variable: Variable) -> Dict[str, Any]:
        w = variable()
        taken = v1.gather(w, i[:, 0] % 3) if sparse else w * x
        loss = v1.reduce_sum(v1.square(taken - 1.0))
        step = make(v1).minimize(loss, var_list=[w])
        with v1.control_dependencies([step]):
            return {"loss": loss, "w": w.read_value()}

    PROGRAMS["{}_{}".format(name, "sparse" if sparse else "dense")] = step


for _name, _make in {
    "adadelta": lambda v1: v1.train.AdadeltaOptimizer(0.1),
    "adagrad": lambda v1: v1.train.AdagradOptimizer(0.1),
    "adam": lambda v1: v1.train.AdamOptimizer(0.1),
    "descent": lambda v1: v1.train.GradientDescentOptimizer(0.1),
    "ftrl": lambda v1: v1.train.FtrlOptimizer(0.1),
    "momentum": lambda v1: v1.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
    "proximal": lambda v1: v1.train.ProximalAdagradOptimizer(0.1),
    "rms": lambda v1: v1.train.RMSPropOptimizer(0.1, centered=True),
}.items():
    _optimizer(_name, _make, False)
    _optimizer(_name, _make, True)


def write(path: Path, resource: bool) -> Dict[str, np.ndarray]:
    """Writes all programs; returns what calls in a row give of each."""
    import tensorflow as tf

    v1 = tf.compat.v1
    expected: Dict[str, np.ndarray] = {}
    with old_control_flow(), tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [3, 4], name="x")
        i = v1.placeholder(tf.int32, [2, 2], name="i")
        signatures = {}
        for name, made in PROGRAMS.items():
            with v1.variable_scope(name):
                outputs = {
                    # A write to a resource gives no tensor.
                    key: y if isinstance(y, tf.Tensor) else v1.convert_to_tensor(y)
                    for key, y in made(v1, x, i, _variables(v1, resource)).items()
                }
            signatures[name] = v1.saved_model.predict_signature_def(
                {"x": x, "i": i}, outputs
            )
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
        for name, signature in signatures.items():
            fetches = {key: info.name for key, info in signature.outputs.items()}
            for call in range(CALLS):
                found = session.run(fetches, {x: X + call, i: INDICES})
                for key, value in found.items():
                    expected["{}/{}/{}".format(name, call, key)] = value
    return expected


def _variables(v1: Any, resource: bool) -> Variable:
    made: List[str] = []

    def variable(value: Any = None) -> Any:
        made.append("v{}".format(len(made)))
        if value is None:
            value = np.arange(12.0, dtype=np.float32).reshape(3, 4)
        return v1.get_variable(made[-1], initializer=value, use_resource=resource)

    return variable


@pytest.fixture(scope="module", params=["reference", "resource"], name="case")
def _case(request: Any, tmp_path_factory: Any) -> Tuple[Path, Dict[str, np.ndarray]]:
    """A module, and what a session says."""
    path = Path(tmp_path_factory.mktemp("variables")) / request.param
    return path, write(path, request.param == "resource")


def test_calls_in_a_row(case: Any) -> None:
    """Each program gives what a session gives, in each of several calls."""
    import tensorflow as tf

    path, expected = case
    wrong: List[str] = []
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        assert sorted(run.loaded.signatures) == sorted(PROGRAMS)
        calls: Dict[str, Any] = {}
        for call in range(CALLS):
            for name in PROGRAMS:
                if run.eager or name not in calls:
                    given = {"x": tf.constant(X + call), "i": tf.constant(INDICES)}
                    if not run.eager:
                        fed = tf.compat.v1.placeholder(tf.float32, X.shape)
                        given["x"] = fed
                        calls[name] = (run.loaded.signatures[name](**given), fed)
                    else:
                        calls[name] = (run.loaded.signatures[name](**given), None)
                outputs, fed = calls[name]
                if fed is None:
                    found = run.run(dict(outputs))
                else:
                    run.run(())
                    found = run.session.run(dict(outputs), {fed: X + call})
                for key, value in found.items():
                    known = expected["{}/{}/{}".format(name, call, key)]
                    if not np.allclose(value, known, rtol=1e-5, atol=1e-5):
                        place = "{}: call {}: {}".format(name, call, key)
                        wrong.append("{} is {}, not {}".format(place, value, known))
    assert not wrong, "\n".join(wrong)


def test_gradient_of_a_temporary(case: Any) -> None:
    """Of ``x + w * w``, also where two calls are in one step."""
    import tensorflow as tf

    path, expected = case
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        call = run.loaded.signatures["temporary"]
        given = {"i": tf.constant(INDICES)}
        (w,) = [v for v in run.loaded.variables if v.name.startswith("temporary/")]

        def twice() -> Any:
            one = call(x=tf.constant(X), **given)["y"]
            return tf.reduce_sum(one + call(x=tf.constant(X), **given)["y"])

        (gradient,) = run.gradients(twice, [w])
        np.testing.assert_allclose(gradient, 4.0 * run.read([w])[0], rtol=1e-6)
        np.testing.assert_allclose(
            run.run(tf.function(twice)() if run.eager else twice()),
            2.0 * expected["temporary/0/y"].sum(),
            rtol=1e-5,
        )


def test_one_part(tmp_path: Path) -> None:
    """A variable of one part has the name of the whole, as in the checkpoint."""
    import tensorflow as tf

    v1 = tf.compat.v1
    path = tmp_path / "model"
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.int32, [None], name="x")
        found = []
        for name, parts in (("one", 1), ("two", 2)):
            table = v1.get_variable(
                name,
                initializer=v1.zeros([4, 2]),
                partitioner=v1.fixed_size_partitioner(parts),
            )
            found.append(v1.gather(v1.convert_to_tensor(table), x))
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), {"x": x}, {"y": sum(found)})
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        names = sorted(v.name.split(":")[0] for v in run.loaded.variables)
        assert names == ["one", "two/part_0", "two/part_1"]
