"""What keeps a reference variable's memory for later: arrays, queues and the like.

The values are those of a session on the original, in the running TensorFlow. A model
that would give others has no such signature.
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

START = np.arange(1.0, 65.0, dtype=np.float32).reshape(4, 16)
CALLS = 2

Build = Callable[[Any, Any], Any]


def _then(first: Any, make: Callable[[], Any]) -> Any:
    import tensorflow as tf

    with tf.compat.v1.control_dependencies([first]):
        return make()


def _written(v1: Any, v: Any, first: Any) -> Any:
    return _then(first, lambda: v1.assign_add(v, v1.ones_like(START) * 100))


def _array(v1: Any) -> Any:
    return v1.TensorArray(v1.float32, 1)


def _array_read(v1: Any, v: Any) -> Any:
    array = _array(v1).write(0, v.value())
    return _then(_written(v1, v, array.flow), lambda: array.read(0) + 0)


def _array_stacked(v1: Any, v: Any) -> Any:
    array = _array(v1).write(0, v.value())
    return _then(_written(v1, v, array.flow), lambda: array.stack()[0])


def _array_read_before(v1: Any, v: Any) -> Any:
    read = _array(v1).write(0, v.value()).read(0)
    return _then(_written(v1, v, read), lambda: read + 0.5)


def _array_returned(v1: Any, v: Any) -> Any:
    """What a signature returns is fetched when all has run."""
    read = _array(v1).write(0, v.value()).read(0)
    with v1.control_dependencies([_written(v1, v, read)]):
        done = v1.no_op()
    with v1.control_dependencies([done]):
        return v1.identity(read)


def _stack(v1: Any, v: Any) -> Any:
    raw = v1.raw_ops
    stack = raw.StackV2(max_size=5, elem_type=v1.float32, stack_name="s")
    push = raw.StackPushV2(handle=stack, elem=v.value())
    return _then(
        _written(v1, v, push),
        lambda: raw.StackPopV2(handle=stack, elem_type=v1.float32) + 0,
    )


def _list(v1: Any, v: Any) -> Any:
    kind = dict(element_shape=[4, 16], element_dtype=v1.float32)
    lists = v1.raw_ops.EmptyTensorList(max_num_elements=5, **kind)
    lists = v1.raw_ops.TensorListPushBack(input_handle=lists, tensor=v.value())
    return _then(
        _written(v1, v, lists),
        lambda: v1.raw_ops.TensorListGetItem(input_handle=lists, index=0, **kind) + 0,
    )


def _queue(v1: Any, v: Any) -> Any:
    queue = v1.FIFOQueue(9, [v1.float32], [START.shape])
    return _then(_written(v1, v, queue.enqueue([v.value()])), lambda: queue.dequeue())


def _stage(v1: Any, v: Any) -> Any:
    raw, name = v1.raw_ops, v.op.name
    staged = raw.Stage(values=[v.value()], shared_name=name)
    return _then(
        _written(v1, v, staged),
        lambda: raw.Unstage(dtypes=[v1.float32], shared_name=name)[0] + 0,
    )


def _dataset(v1: Any, v: Any) -> Any:
    value = v.value()
    dataset = v1.data.Dataset.range(3).map(lambda i: v1.cast(i, v1.float32) + value)
    iterator = v1.data.make_initializable_iterator(dataset)
    return _then(_written(v1, v, iterator.initializer), lambda: iterator.get_next() + 0)


REFUSED: List[Build] = [
    _array_read,
    _array_read_before,
    _array_returned,
    _array_stacked,
    _dataset,
    _list,
    _queue,
    _stack,
    _stage,
]


def _pushed(v1: Any, v: Any) -> Any:
    """A push gives what it is given."""
    raw = v1.raw_ops
    stack = raw.StackV2(max_size=5, elem_type=v1.float32, stack_name="s")
    push = raw.StackPushV2(handle=stack, elem=v.value())
    return _then(_written(v1, v, push), lambda: push + 0.5)


def _stacked_before(v1: Any, v: Any) -> Any:
    stacked = _array(v1).write(0, v.value()).stack()
    return _then(_written(v1, v, stacked), lambda: stacked + 0.5)


def _unstacked(v1: Any, v: Any) -> Any:
    array = v1.TensorArray(v1.float32, 1).unstack(v1.reshape(v, [1, 4, 16]))
    return _then(_written(v1, v, array.flow), lambda: array.read(0) + 0)


def _several_queued(v1: Any, v: Any) -> Any:
    queue = v1.FIFOQueue(9, [v1.float32], [[16]])
    filled = queue.enqueue_many([v.value()])
    return _then(_written(v1, v, filled), lambda: queue.dequeue_many(4) + 0)


def _temporary(v1: Any, v: Any) -> Any:
    """A variable for one step has memory of its own."""
    raw, name = v1.raw_ops, v.op.name + "_kept"
    made = raw.TemporaryVariable(shape=[4, 16], dtype=v1.float32, var_name=name)
    given = raw.Assign(ref=made, value=v.value())
    return _then(
        _written(v1, v, given.op),
        lambda: raw.DestroyTemporaryVariable(ref=given, var_name=name) + 0,
    )


def _not_written(v1: Any, v: Any) -> Any:
    return _array(v1).write(0, v.value()).read(0) + 0.5


EQUAL: List[Build] = [
    _not_written,
    _pushed,
    _several_queued,
    _stacked_before,
    _temporary,
    _unstacked,
]


def _name(build: Build) -> str:
    return build.__name__.strip("_")


def _export(path: Path) -> Dict[str, Any]:
    """Writes a model with a signature for each; what calls in a row give."""
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.raw_ops = tf.raw_ops
    with old_control_flow(), v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [], "x")
        outputs = {}
        for build in REFUSED + EQUAL:
            with v1.variable_scope(_name(build)):
                v = v1.get_variable("v", initializer=START, use_resource=False)
                outputs[_name(build)] = build(v1, v) * x
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        signatures = {
            name: v1.saved_model.predict_signature_def({"x": x}, {"y": y})
            for name, y in outputs.items()
        }
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
        return {
            name: [session.run(y, {x: 1.0}) for _ in range(CALLS)]
            for name, y in outputs.items()
        }


@pytest.fixture(scope="module", name="exported")
def _exported(tmp_path_factory: Any) -> Any:
    path = tmp_path_factory.mktemp("kept") / "module"
    return path, _export(path)


def test_what_is_kept_is_what_a_session_gives_or_refused(exported: Any) -> None:
    """Memory that is kept is refused, with a way out; copies have their values."""
    import tensorflow as tf

    path, wanted = exported
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        for build in REFUSED:
            name = _name(build)
            with pytest.raises(hub.errors.SignatureError) as error:
                run.loaded.signatures[name]
            assert "keeps the memory of the variable '{}/v'".format(name) in str(
                error.value
            )
            assert "variable + 0" in str(error.value)
        calls: Dict[str, Any] = {
            _name(build): run.loaded.signatures[_name(build)] for build in EQUAL
        }
        if run.eager:
            found = {
                name: [run.run(call(x=tf.constant(1.0))["y"]) for _ in range(CALLS)]
                for name, call in calls.items()
            }
        else:
            outputs = {k: call(x=tf.constant(1.0))["y"] for k, call in calls.items()}
            run.run(())
            steps = [run.session.run(outputs) for _ in range(CALLS)]
            found = {name: [step[name] for step in steps] for name in outputs}
    for name, values in found.items():
        for value, other in zip(values, wanted[name]):
            np.testing.assert_allclose(value, other, err_msg=name)


def _filled_by_init_op(path: Path) -> Tuple[float, float]:
    """Writes a model whose init op keeps a variable; what two reads give."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [], "x")
        v = v1.get_variable("v", initializer=START, use_resource=False)
        queue = v1.FIFOQueue(9, [tf.float32], [START.shape], shared_name="kept")
        fill = queue.enqueue([v.value()])
        read = tf.reduce_sum(queue.dequeue()) * x
        step = _then(v1.assign_add(v, tf.ones_like(START) * x), lambda: x + 0)
        session.run(v1.global_variables_initializer())
        signatures = {
            name: v1.saved_model.predict_signature_def({"x": x}, {"y": y})
            for name, y in {"read": read, "step": step}.items()
        }
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(
            session, ["serve"], signatures, main_op=fill
        )
        builder.save()
        session.run(fill)
        session.run(step, {x: 1.0})
        return float(session.run(read, {x: 1.0})), float(START.sum())


def test_memory_that_an_init_op_kept_is_refused(tmp_path: Path) -> None:
    """The signature that reads the queue is; the one that writes is not."""
    import tensorflow as tf

    shown, first = _filled_by_init_op(tmp_path / "module")
    assert shown == first + START.size
    with runtimes.Runtime(lambda: hub.load(tmp_path / "module")) as run:
        with pytest.raises(hub.errors.SignatureError, match="keeps the memory"):
            run.loaded.signatures["read"]
        value = run.loaded.signatures["step"](x=tf.constant(2.0))["y"]
        if not run.eager:
            # The queue's filler reads the variable.
            with tf.compat.v1.Session() as session:
                session.run(tf.compat.v1.global_variables_initializer())
                session.run(tf.compat.v1.tables_initializer())
                assert session.run(value) == 2.0
        else:
            assert run.run(value) == 2.0


def _counted(path: Path) -> List[Any]:
    """Writes a counter whose memory a resource variable gets; what steps give."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.int64, [], "x")
        v = v1.get_variable("v", initializer=np.int64(0), use_resource=False)
        r = v1.get_variable("r", initializer=np.int64(50), use_resource=True)
        outputs = {
            "copy": _then(r.assign(v.value()).op, lambda: x + 0),
            "count": v1.count_up_to(v, 99) + x,
            "read": r.read_value() + x,
        }
        session.run(v1.global_variables_initializer())
        signatures = {
            name: v1.saved_model.predict_signature_def({"x": x}, {"y": y})
            for name, y in outputs.items()
        }
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
        return [session.run(outputs[name], {x: 1000}) for name in STEPS]


STEPS = ["count", "read", "copy", "count", "read", "count", "read"]


def test_a_shared_counter_counts_for_both(tmp_path: Path) -> None:
    """``count_up_to`` is followed by the resource that was given the variable."""
    import tensorflow as tf

    wanted = _counted(tmp_path / "module")
    report = hub.convert(tmp_path / "module", tmp_path / "out")
    assert not [line for line in report.warnings if "memory" in line]
    with runtimes.Runtime(lambda: hub.load(tmp_path / "module")) as run:
        x = tf.constant(1000, tf.int64)
        if run.eager:
            found = [run.run(run.loaded.signatures[n](x=x)["y"]) for n in STEPS]
        else:
            calls = {n: run.loaded.signatures[n](x=x)["y"] for n in set(STEPS)}
            run.run(())
            found = [run.session.run(calls[name]) for name in STEPS]
    assert found == wanted
