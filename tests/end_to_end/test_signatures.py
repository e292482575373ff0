"""How signatures of loaded modules are called, and what they say otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from placeholders import placeholder, tf

import hub_compat as hub
from hub_compat import errors

runtimes = pytest.importorskip("runtimes")

pytestmark = pytest.mark.tensorflow

Build = Callable[[], Any]


def save(path: Path, build: Build) -> Path:
    """Writes a TF1 SavedModel; ``build`` returns inputs and outputs by signature."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = {
            name: v1.saved_model.build_signature_def(
                *(
                    {n: v1.saved_model.build_tensor_info(t) for n, t in one.items()}
                    for one in both
                )
            )
            for name, both in build().items()
        }
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    return path


@pytest.fixture
def typed(tmp_path: Path) -> Path:
    """A signature that returns its input, for each dtype; and one with two inputs."""

    def build() -> Dict[str, Any]:
        signatures = {}
        for name in DTYPES:
            x = placeholder(name, None)
            signatures[name] = ({"x": x}, {"y": tf.identity(x)})
        a, b = placeholder(tf.float32), placeholder(tf.float32)
        signatures["two"] = ({"b/1": b, "a": a}, {"y": a * 10.0 + b})
        signatures["none"] = ({}, {"y": tf.constant([7.0])})
        return signatures

    return save(tmp_path / "typed", build)


DTYPES = ["float32", "float64", "int32", "int64", "uint8", "bool", "string"]
DTYPES += ["complex64", "float16"]


def accepted() -> Any:
    """By dtype, what is taken and what it becomes."""
    strings = ["a", "é"], [b"a", "é".encode()]
    return {
        "float32": [
            (np.array([1.5, 2]), [1.5, 2]),
            (np.array([1, 2]), [1, 2]),
            ([1.5, 2.0], [1.5, 2]),
            ([1, 2], [1, 2]),
            ((1, 2.5), [1, 2.5]),
            (3, 3),
            (2.5, 2.5),
            (np.float64(2.5), 2.5),
            ([[1.0], [2.0]], [[1], [2]]),
            ([], []),
            (np.zeros((0, 2)), np.zeros((0, 2))),
            ([np.float32(1), 2], [1, 2]),
        ],
        "float64": [(np.array([1.5], np.float32), [1.5]), (0.1, 0.1)],
        "float16": [(np.array([1.5]), [1.5]), ([1, 2], [1, 2])],
        "int32": [
            ([1, 2], [1, 2]),
            (np.array([1, 2]), [1, 2]),
            (5, 5),
            (np.array([1.0, 2.0]), [1, 2]),
            (np.float64(3.0), 3),
            (np.array([1, 2], object), [1, 2]),
        ],
        "int64": [([1, 2**40], [1, 2**40]), (np.array([1], np.int8), [1])],
        "uint8": [([1, 255], [1, 255]), (np.array([1, 2]), [1, 2])],
        "bool": [([True, False], [True, False]), (np.array(True), True)],
        "string": [
            strings,
            (np.array(strings[0]), strings[1]),
            (np.array(strings[0], object), strings[1]),
            (np.array([b"a\0b", b"c"]), [b"a\0b", b"c"]),
            ([b"a\0"], [b"a\0"]),
            ("one", b"one"),
            ([["a", "b"], ["c", "d"]], [[b"a", b"b"], [b"c", b"d"]]),
            ([], []),
        ],
        "complex64": [([1, 2j], [1, 2j]), (np.array([1.5]), [1.5])],
    }


# What would change if it were taken.
REFUSED = {
    "float32": [["a"], np.array([1j]), [[1.0], [1.0, 2.0]], None, {"a": 1}, object()],
    "int32": [
        [1.5],
        [1.0],
        np.array([1.5]),
        np.array([np.nan]),
        [2**40],
        np.array([2**40]),
        ["1"],
    ],
    "uint8": [[-1], [256], np.array([300])],
    "bool": [[1], np.array([0.0])],
    "string": [[1], np.array([1.0]), [None], [b"a", 2]],
    "int64": [[0.5], "1"],
}


def test_arrays_lists_and_numbers(typed: Path) -> None:
    """They are taken as tensorflow_hub takes them, with a name or alone."""
    with runtimes.Runtime(lambda: hub.load(typed)) as run:
        for name, pairs in accepted().items():
            signature = run.loaded.signatures[name]
            for given, wanted in pairs:
                for found in (signature(x=given), signature(given)):
                    value = np.asarray(run.run(found["y"]))
                    wanted_list = np.array(wanted, object if name == "string" else None)
                    assert value.tolist() == wanted_list.tolist(), (name, given)


def test_what_would_change_is_refused(typed: Path) -> None:
    """With an error of ours that is the TypeError that callers may expect."""
    with runtimes.Runtime(lambda: hub.load(typed)) as run:
        for name, values in REFUSED.items():
            for given in values:
                with pytest.raises(errors.InputError, match="'x' of this signature"):
                    run.loaded.signatures[name](x=given)
        with pytest.raises(TypeError, match="takes float32 .* Received: int32"):
            run.loaded.signatures["float32"](tf.constant([1]))


def test_variables_as_inputs(typed: Path) -> None:
    """A variable's value is taken, and differentiated with respect to it."""
    with runtimes.Runtime(lambda: hub.load(typed)) as run:
        variable = tf.compat.v1.get_variable(
            "given", initializer=[3.0, 4.0], use_resource=True
        )
        signature = run.loaded.signatures["two"]

        def total() -> Any:
            call = signature(**{"a": variable, "b/1": [1.0, 1.0]})
            return tf.reduce_sum(call["y"])

        (found,) = run.gradients(total, [variable])
        assert np.asarray(found).tolist() == [10.0, 10.0]


def test_several_inputs(typed: Path) -> None:
    """By name, or without in the order of the names; all of them, and each once."""
    with runtimes.Runtime(lambda: hub.load(typed)) as run:
        two, none = run.loaded.signatures["two"], run.loaded.signatures["none"]
        for found in (
            two(**{"a": [3.0], "b/1": [2.0]}),
            two(**{"a": [3.0], "b_1": [2.0]}),
            two([3.0], [2.0]),
            two([3.0], **{"b/1": [2.0]}),
        ):
            assert np.asarray(run.run(found["y"])).tolist() == [32.0]
        assert np.asarray(run.run(none()["y"])).tolist() == [7.0]
        for args, keywords in (
            ((), {"a": [1.0]}),
            (([1.0],), {}),
            (([1.0],), {"a": [1.0]}),
            (([1.0], [1.0], [1.0]), {}),
            ((), {"a": [1.0], "b/1": [1.0], "c": [1.0]}),
        ):
            with pytest.raises(errors.InputError, match="takes {'a': float32"):
                two(*args, **keywords)
        with pytest.raises(errors.InputError, match="takes no inputs"):
            none([1.0])


def test_composite_inputs_by_their_own_names(tmp_path: Path) -> None:
    """A sparse tensor comes in its parts or as it is."""

    def build() -> Dict[str, Any]:
        x = tf.compat.v1.sparse_placeholder(tf.float32, [None, 3])
        return {"total": ({"x": x}, {"y": tf.sparse.reduce_sum(x)})}

    path = save(tmp_path / "sparse", build)
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        total = run.loaded.signatures["total"]
        indices, values, shape = [[0, 1], [1, 2]], [3.0, 4.0], [2, 3]
        whole = tf.SparseTensor(indices, values, shape)
        parts = total(x_indices=indices, x_values=values, x_dense_shape=shape)
        for found in (parts, total(x=whole)):
            assert float(run.run(found["y"])) == 7.0


@pytest.mark.parametrize("dtype", ["float32", "string", "bool", "int64", "uint32"])
def test_one_tensor_under_two_names(dtype: str, tmp_path: Path) -> None:
    """Both are fed alike; where they differ, the call fails and says so."""
    one, other = {
        "string": (["a", "b"], ["a", "c"]),
        "bool": ([True, True], [True, False]),
    }.get(dtype, ([1, 2], [1, 3]))

    def build() -> Dict[str, Any]:
        x, z = placeholder(dtype), placeholder(tf.float32)
        return {"serving_default": ({"q": x, "p": x, "z": z}, {"y": x, "z": z + 1.0})}

    path = save(tmp_path / "source", build)
    hub.convert(path, tmp_path / "out", verify=dtype != "uint32")
    for load in (
        lambda: hub.load(path),
        lambda: tf.compat.v1.saved_model.load_v2(str(tmp_path / "out")),
    ):
        with runtimes.Runtime(load) as run:
            x, z = tf.constant(one, dtype), tf.constant([1.0])
            changed, longer = tf.constant(other, dtype), tf.constant(one + one, dtype)
            signature = run.loaded.signatures["serving_default"]
            assert run.run(signature(p=x, q=x, z=z)["z"]).tolist() == [2.0]
            found = run.run(signature(p=x, q=x, z=z)["y"]).tolist()
            assert found == run.run(x).tolist()
            assert run.run(run.loaded({"p": x, "q": x, "z": z})["z"]).tolist() == [2.0]
            for wrong in (changed, longer):
                with pytest.raises(tf.errors.InvalidArgumentError, match="both the sa"):
                    run.run(signature(p=x, q=wrong, z=z)["y"])
                with pytest.raises(tf.errors.InvalidArgumentError, match="both the sa"):
                    run.run(run.loaded({"p": wrong, "q": x, "z": z})["y"])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(
            session, ["serve"], str(tmp_path / "out")
        )
        inputs = loaded.signature_def["serving_default"].inputs
        # One placeholder, as in the original.
        assert inputs["p"].name == inputs["q"].name != inputs["z"].name


def test_names_that_collide_are_verified(tmp_path: Path) -> None:
    """Though TensorFlow's own loader cannot be called by such names."""
    names = ["a/b", "a_b", "self", "class", ""]

    def build() -> Dict[str, Any]:
        inputs = {name: placeholder(tf.float32) for name in names}
        total = tf.add_n([inputs[n] * 5.0**i for i, n in enumerate(names)])
        return {"serving_default": (inputs, {"y": total})}

    path = save(tmp_path / "source", build)
    report = hub.convert(path, tmp_path / "out", verify=True)
    assert report.verification.signatures[0].outputs == ("y",)
    assert not report.verification.not_compared


def test_signature_that_is_not_there(typed: Path) -> None:
    """A KeyError of ours that lists those that are, of every format."""
    with runtimes.Runtime(lambda: hub.load(typed)) as run:
        signatures = run.loaded.signatures
        with pytest.raises(errors.SignatureError, match="it has 'bool', .*'float32'"):
            signatures["nope"]
        with pytest.raises(KeyError, match="Did you mean 'string'"):
            signatures["strings"]
        with pytest.raises(KeyError, match="Received: 3"):
            signatures[3]
        assert signatures.get("nope") is None
        assert "nope" not in signatures
        assert len(signatures) == len(DTYPES) + 2
        for name in DTYPES:
            assert signatures[name] is not None


@pytest.mark.eager
def test_signatures_of_a_tf2_model(tmp_path: Path) -> None:
    """They take arrays too, names that TensorFlow changed, and say what is missing."""
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    specs = [tf.TensorSpec([None], tf.float32, name) for name in ("first", "second")]

    @tf.function(input_signature=specs)
    def call(first: Any, second: Any) -> Any:
        return {"y": first * module.weight + second}

    tf.saved_model.save(module, str(tmp_path), signatures={"s": call})
    signature = hub.load(tmp_path).signatures["s"]
    found = signature(first=[3.0], second=np.array([1.0]))
    assert found["y"].numpy().tolist() == [7.0]
    with pytest.raises(errors.InputError, match="by name"):
        signature([3.0], [1.0])
    with pytest.raises(errors.SignatureError, match="it has 's'"):
        hub.load(tmp_path).signatures["nope"]


@pytest.mark.eager
def test_signatures_saved_by_tensorflow(tmp_path: Path) -> None:
    """Given to tf.saved_model.save, they are as they were, under TensorFlow's names."""

    def build() -> Dict[str, Any]:
        a, b = placeholder(tf.float32), placeholder(tf.float32, (None, 1))
        inputs = {"image/height": a, "image_area": b}
        return {"serving_default": (inputs, {"y": a * 10.0 + b})}

    loaded = hub.load(save(tmp_path / "source", build))
    new = str(tmp_path / "new")
    tf.saved_model.save(loaded, new, signatures=dict(loaded.signatures))
    signature = hub.load(new).signatures["serving_default"]
    found = signature(**{"image/height": [3.0], "image_area": [[2.0]]})
    assert found["y"].numpy().tolist() == [[32.0]]
    names = sorted(loaded.signatures["serving_default"].structured_input_signature[1])
    assert set(names) == {"image/height", "image_area"}
