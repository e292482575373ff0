"""KerasLayer: what goes in and comes out, of every kind and dtype."""

from __future__ import annotations

from typing import Any, Callable, Dict

import numpy as np
import pytest
from keras_kit import Keras

from hub_compat import errors

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


def specs() -> Dict[str, Any]:
    """What each module takes."""
    import tensorflow as tf

    numbers = tf.TensorSpec([None, 3], tf.float32)
    found: Dict[str, Any] = {
        "one": [numbers],
        "dict": [{"a": numbers, "b": tf.TensorSpec([None], tf.int32)}],
        "list": [[numbers, tf.TensorSpec([None], tf.string)]],
        "tuple": [(numbers, numbers)],
        "scalar": [tf.TensorSpec([], tf.float32)],
        "nothing": [],
        "sparse": [tf.SparseTensorSpec([None, 4], tf.float32)],
        "float64": [tf.TensorSpec([None, 3], tf.float64)],
        "uint8": [tf.TensorSpec([None, 3], tf.uint8)],
        "int64": [tf.TensorSpec([None, 3], tf.int64)],
        "text": [tf.TensorSpec([None], tf.string)],
    }
    if not tf.__version__.startswith("1."):
        # TF 1.15 traces no function of a ragged tensor.
        found["ragged"] = [tf.RaggedTensorSpec([None, None], tf.float32)]
    return found


def compute(name: str, v: Any, x: Any = None) -> Any:
    """What a module makes of it: twice as much, of what are numbers."""
    import tensorflow as tf

    if name == "nothing":
        return {"y": 3.0 * v}
    if name == "dict":
        return {"sum": x["a"] * v + tf.cast(x["b"], tf.float32)[:, None], "b": x["b"]}
    if name == "list":
        return [x[0] * v, x[1]]
    if name == "tuple":
        return x[0] * v + x[1]
    if name == "sparse":
        return tf.sparse.to_dense(x) * v
    if name == "text":
        return tf.strings.split(x)
    if name == "one":
        return {"y": tf.reshape(x * v, [-1, 3, 1]), "s": tf.strings.as_string(x)}
    return (x if name == "ragged" else tf.cast(x, tf.float32)) * v


@pytest.fixture(scope="module")
def module(tmp_path_factory: Any) -> Callable[[str], str]:
    """Writes a module, and returns its directory."""
    import tensorflow as tf

    made: Dict[str, str] = {}

    def make(name: str) -> str:
        if name not in made:
            root = tf.train.Checkpoint()
            root.v = tf.Variable(2.0)
            root.variables = root.trainable_variables = [root.v]
            root.__call__ = tf.function(
                lambda *x: compute(name, root.v, *x), input_signature=specs()[name]
            )
            made[name] = str(tmp_path_factory.mktemp(name))
            traced = root.__call__.get_concrete_function()
            signatures = {"nothing": traced} if name == "nothing" else None
            tf.saved_model.save(root, made[name], signatures=signatures)
        return made[name]

    return make


def shapes(outputs: Any) -> Any:
    """The static shapes behind the batch, in the structure of the outputs."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda t: tuple(t.shape)[1:], outputs)


def plain(value: Any) -> Any:
    """As Python has it."""
    return value.to_list() if hasattr(value, "to_list") else np.asarray(value).tolist()


ONES = np.ones((2, 3), np.float32)


@pytest.mark.parametrize("name", ["dict", "list", "tuple"])
def test_structures(name: str, k: Keras, module: Any) -> None:
    """Dicts, lists and tuples; a list for a tuple and the other way round."""
    a, b = k.keras.Input((3,)), k.keras.Input((), dtype="int32")
    text = k.keras.Input((), dtype="string")
    numbers = np.array([1, 2], np.int32)
    words = np.array([b"x", b"y"], object)
    layer = k.Layer(module(name))
    if name == "dict":
        assert shapes(layer({"a": a, "b": b})) == {"sum": (3,), "b": ()}
        found = layer({"a": ONES, "b": numbers})
        assert plain(found["sum"]) == [[3.0] * 3, [4.0] * 3]
        assert plain(found["b"]) == [1, 2]
        return
    for kind in (list, tuple):
        if name == "list":
            assert shapes(list(layer(kind([a, text])))) == [(3,), ()]
            one, other = layer(kind([ONES, words]))
            assert plain(one) == [[2.0] * 3] * 2
            assert plain(other) == [b"x", b"y"]
        else:
            assert shapes(layer(kind([a, a]))) == (3,)
            assert plain(layer(kind([ONES, ONES]))) == [[3.0] * 3] * 2


def test_scalars_and_nothing(k: Keras, module: Any) -> None:
    """A number, and no input at all, by the object and by its signature."""
    assert float(k.Layer(module("scalar"))(3.0)) == 6.0
    layer = k.Layer(module("nothing"))
    by_name = k.Layer(module("nothing"), signature="nothing", output_key="y")
    for inputs in ((), ([],), ({},), (None,)):
        assert float(layer(*inputs)["y"]) == 6.0
        assert float(by_name(*inputs)) == 6.0


def test_static_shapes(k: Keras, module: Any) -> None:
    """They are known without output_shape, to Keras' symbolic tensors too."""
    layer = k.Layer(module("one"))
    outputs = layer(k.keras.Input((3,)))
    assert shapes(outputs) == {"y": (3, 1), "s": (3,)}
    assert "string" in str(outputs["s"].dtype)
    found = layer.compute_output_shape((None, 3))
    assert {name: tuple(shape)[1:] for name, shape in found.items()} == shapes(outputs)
    found = k.Layer(module("dict")).compute_output_shape({"a": (None, 3), "b": (None,)})
    assert {n: tuple(shape)[1:] for n, shape in found.items()} == {
        "sum": (3,),
        "b": (),
    }


@pytest.mark.parametrize("dtype", ["float64", "uint8", "int64"])
def test_dtypes(dtype: str, k: Keras, module: Any) -> None:
    """Each dtype as it is; Python's numbers become what the module takes."""
    layer = k.Layer(module(dtype))
    wanted = [[2.0, 4.0, 6.0]]
    assert shapes(layer(k.keras.Input((3,), dtype=dtype))) == (3,)
    assert plain(layer(np.array([[1, 2, 3]], dtype))) == wanted
    assert plain(layer([[1, 2, 3]])) == wanted
    model = k.keras.Sequential([layer])
    assert plain(model.predict(np.array([[1, 2, 3]], dtype), verbose=0)) == wanted


def test_sparse(k: Keras, module: Any) -> None:
    """Sparse tensors, at once and in a model."""
    import tensorflow as tf

    layer = k.Layer(module("sparse"))
    value = tf.sparse.from_dense([[0.0, 0.0, 1.0, 0.0]])
    assert plain(layer(value)) == [[0.0, 0.0, 2.0, 0.0]]
    inputs = k.keras.Input((4,), sparse=True)
    model = k.keras.Model(inputs, layer(inputs))
    assert plain(model(value)) == [[0.0, 0.0, 2.0, 0.0]]


@pytest.mark.tf2
def test_ragged(k: Keras, module: Any) -> None:
    """Ragged tensors, in and out, at once and from one layer to the next."""
    import tensorflow as tf

    layer = k.Layer(module("ragged"))
    value = tf.ragged.constant([[1.0], [2.0, 3.0]])
    assert plain(layer(value)) == [[2.0], [4.0, 6.0]]
    inputs = k.keras.Input((None,), ragged=True)
    assert plain(k.keras.Model(inputs, layer(inputs))(value)) == [[2.0], [4.0, 6.0]]
    split = k.Layer(module("text"))
    count = k.Layer(lambda words: words.row_lengths())
    inputs = k.keras.Input((), dtype="string")
    model = k.keras.Model(inputs, count(split(inputs)))
    assert plain(model(tf.constant(["a b", "c"]))) == [2, 1]


@pytest.mark.tf2
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_policies(policy: str, k: Keras, module: Any) -> None:
    """Floats are cast to what the module takes, and outputs to the policy."""
    import tensorflow as tf

    half = tf.as_dtype(policy[len("mixed_") :])
    layer = k.Layer(module("dict"), dtype=policy)
    numbers = tf.constant([1, 1 << 24 | 1], tf.int32)
    for dtype in (half, tf.float32):
        found = layer({"a": tf.ones((2, 3), dtype), "b": numbers})
        assert found["sum"].dtype == half
        # Integers are as they were, where floats of the policy could not hold them.
        assert plain(found["b"]) == [1, (1 << 24) + 1]
    assert layer.weights[0].dtype in (tf.float32, "float32")
    layer = k.Layer(module("list"), dtype=policy)
    one, other = layer([tf.ones((2, 3), half), tf.constant(["x", "y"])])
    assert one.dtype == half
    assert other.dtype == tf.string
    names = k.Layer(module("text"), dtype=policy)(tf.constant(["a b"]))
    assert plain(names) == [[b"a", b"b"]]


@pytest.mark.parametrize(
    "name, inputs, text",
    [
        ("one", [[1.0]], r"float32 \(.*3\): call it as layer\(inputs\).*\(1, 1\)"),
        ("text", np.ones((2,), np.float32), r"takes string \(.*\).*float32 \(2,\)"),
        ("int64", np.ones((1, 3), np.int32), r"takes int64 \(.*3\).*int32 \(1, 3\)"),
        ("dict", {"a": ONES}, r"layer\(\{'a': \.\.\., 'b': \.\.\.\}\).*\{'a': float32"),
        ("dict", ONES, r"takes \{'a': float32 \(.*3\), 'b': int32 \(.*\)\}"),
        ("tuple", [ONES], r"layer\(\[\.\.\., \.\.\.\]\)"),
        ("tuple", [ONES, np.ones((2, 4), np.float32)], r"Received: .*\(2, 4\)"),
        ("nothing", ONES, r"no inputs: call it as layer\(\{\}\). Received: float32"),
    ],
)
def test_wrong_inputs(name: str, inputs: Any, text: str, k: Keras, module: Any) -> None:
    """The error says what the module takes, how to call it, and what it was given."""
    layer = k.Layer(module(name))
    with pytest.raises(errors.LayerError, match="does not take these inputs.*" + text):
        layer(inputs)


@pytest.mark.keras3
@pytest.mark.tf2
def test_unknown_rank(k: Keras) -> None:
    """Keras 3 has no tensors of unknown rank; output_shape is what helps."""
    import tensorflow as tf

    def function(x: Any) -> Any:
        return tf.numpy_function(lambda y: y, [x], tf.float32)

    inputs = k.keras.Input((3,))
    if k.generation == 3:
        with pytest.raises(errors.LayerError, match="output_shape="):
            k.Layer(function)(inputs)
    assert shapes(k.Layer(function, output_shape=[3])(inputs)) == (3,)
