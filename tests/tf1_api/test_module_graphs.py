"""Module in graphs: collections, names, functions, loops, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

import hub_compat as hub
from hub_compat import errors

pytestmark = pytest.mark.tensorflow


def _collections(module_class: Any, path: Path) -> Dict[str, List[str]]:
    """The names in all collections after one program, and those of the variables."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        with tf.compat.v1.variable_scope("outer"):
            one = module_class(str(path), trainable=True, tags={"train"})
        two = module_class(str(path), name="other")
        module_class(str(path), name="other")
        images = tf.zeros([2, 8, 8, 3])
        one(images)
        one(images)
        two(images)
        found = {
            str(key): [
                str(getattr(item, "name", item)) for item in graph.get_collection(key)
            ]
            for key in graph.get_all_collection_keys()
            if isinstance(key, str) and not key.startswith("__")
        }
        found["map"] = sorted(one.variable_map) + [v.name for v in one.variables]
        return found


@pytest.mark.tf1
def test_collections_are_those_of_tensorflow_hub(testdata: Path) -> None:
    """The same names in the same order, in each collection."""
    import tensorflow_hub

    path = testdata / "image_bn" / "module"
    wanted = _collections(tensorflow_hub.Module, path)
    found = _collections(hub.Module, path)
    assert found == wanted
    assert found["update_ops"]


def _values(build: Any) -> Any:
    """What a graph gives in a session, after its initializers have run."""
    import tensorflow as tf

    with tf.Graph().as_default():
        fetches = build()
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            session.run(tf.compat.v1.tables_initializer())
            return session.run(fetches)


def _places() -> Dict[str, Any]:
    import tensorflow as tf

    def in_dataset(module: Any, rows: Any) -> Any:
        data = tf.data.Dataset.from_tensor_slices(rows[:, None])
        data = data.map(lambda row: module(row))
        iterator = tf.compat.v1.data.make_initializable_iterator(data)
        tf.compat.v1.add_to_collection("table_initializer", iterator.initializer)
        return tf.concat([iterator.get_next()], 0)

    return {
        "map_fn": lambda m, x: tf.map_fn(lambda row: m(row[None])[0], x),
        "while_loop": lambda m, x: tf.while_loop(
            lambda i, y: i < 1, lambda i, y: (i + 1, m(x)), [0, m(x) * 0]
        )[1],
        "cond": lambda m, x: tf.cond(
            tf.reduce_sum(x) > -1e9, lambda: m(x), lambda: m(x) * 0
        ),
        "wrap_function": lambda m, x: tf.compat.v1.wrap_function(
            lambda y: m(y), [tf.TensorSpec(x.shape, x.dtype)]
        )(x),
        "dataset": in_dataset,
    }


PLACES = ["map_fn", "while_loop", "cond", "wrap_function", "dataset"]


@pytest.mark.parametrize("place", PLACES)
def test_a_module_is_applied_in_functions_and_loops(place: str, testdata: Path) -> None:
    """There it gives what it gives outside, and so do its gradients."""
    import tensorflow as tf

    path = testdata / "image_bn" / "module"
    images = np.linspace(0, 1, 2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)

    def build(inside: bool) -> Any:
        module = hub.Module(path, trainable=True)
        rows = tf.constant(images)
        if not inside:
            outputs = module(rows)
        else:
            outputs = _places()[place](module, rows)
        if place == "dataset":
            return [outputs[:1] if not inside else outputs]
        (kernel, *_) = [v for v in module.variables if "kernel" in v.name]
        return [outputs, tf.convert_to_tensor(tf.gradients(outputs, kernel)[0])]

    for found, wanted in zip(
        _values(lambda: build(True)), _values(lambda: build(False))
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_job_goes_on_from_its_checkpoint(testdata: Path, tmp_path: Path) -> None:
    """The keys are those of hub.Module, and an export has the trained values."""
    import tensorflow as tf

    path = testdata / "image_bn" / "module"
    prefix = str(tmp_path / "job")
    after = None
    for again in (False, True):
        with tf.Graph().as_default():
            module = hub.Module(path, trainable=True, tags={"train"})
            loss = tf.reduce_sum(module(tf.ones([2, 8, 8, 3])) ** 2)
            step = tf.compat.v1.train.GradientDescentOptimizer(0.01).minimize(loss)
            saver = tf.compat.v1.train.Saver()
            with tf.compat.v1.Session() as session:
                session.run(tf.compat.v1.global_variables_initializer())
                if again:
                    saver.restore(session, prefix)
                    np.testing.assert_allclose(session.run(loss), after, rtol=1e-5)
                    module.export(tmp_path / "out", session)
                else:
                    session.run(step)
                    after = session.run(loss)
                    saver.save(session, prefix)
    keys = {name for name, _ in tf.train.list_variables(prefix)}
    assert keys == {"module/" + name for name in module.variable_map}
    reader = tf.train.load_checkpoint(prefix)
    written = tf.train.load_checkpoint(
        hub.load_module_spec(tmp_path / "out").checkpoint
    )
    for name in module.variable_map:
        np.testing.assert_array_equal(
            reader.get_tensor("module/" + name), written.get_tensor(name)
        )


def test_what_is_refused(testdata: Path) -> None:
    """With the errors that programs catch for tensorflow_hub's."""
    import tensorflow as tf

    path = testdata / "image_bn" / "module"
    with pytest.raises(ValueError, match="Unknown module spec"):
        hub.Module(3)
    with tf.Graph().as_default():
        module = hub.Module(path)
        with pytest.raises(ValueError, match="No such graph variant"):
            hub.Module(path, tags={"no"})
        with pytest.raises(ValueError, match="missing from meta graph"):
            module(tf.zeros([1, 8, 8, 3]), signature="no")
        with pytest.raises(TypeError, match="missing"):
            module()
        with pytest.raises(ValueError, match="Can't convert"):
            module("text")
        with tf.name_scope("taken"):
            pass
        with pytest.raises(RuntimeError, match="name_scope was already taken"):
            hub.Module(path, name="taken")
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="graph it was"):
        module(tf.zeros([1, 8, 8, 3]))
    assert issubclass(errors.GraphError, RuntimeError)


def test_eval_function(testdata: Path) -> None:
    """Arrays in, arrays out, in a session of its own."""
    with hub.eval_function_for_module(testdata / "image_bn" / "module") as evaluate:
        found = evaluate(np.zeros([2, 8, 8, 3], np.float32))
        assert found.shape[0] == 2
        assert "default" in evaluate(np.zeros([2, 8, 8, 3], np.float32), as_dict=True)
