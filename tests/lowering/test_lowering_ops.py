"""Rules of the lowering, each against the op that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from lowered import gradient, lowered_function, numbers, ops_of, parsed

import hub_compat as hub
from hub_compat import errors

pytestmark = [pytest.mark.tensorflow, pytest.mark.tf2]


# By a name: the function, its argument, and the op that has to go.
CASES: Dict[str, Any] = {
    "bessel_i0": (lambda tf, x: tf.math.bessel_i0(x), "BesselI0"),
    "bessel_i1": (lambda tf, x: tf.math.bessel_i1(x * 3.0), "BesselI1"),
    "xlog1py": (lambda tf, x: tf.math.xlog1py(tf.nn.relu(x), x), "Xlog1py"),
    "euclidean_norm": (
        lambda tf, x: tf.math.reduce_euclidean_norm(x, -1, keepdims=True) * x,
        "EuclideanNorm",
    ),
    "case": (
        lambda tf, x: tf.switch_case(
            tf.cast(tf.size(x), tf.int32) - 5,
            [lambda: x, lambda: x * 2.0, lambda: tf.sin(x), lambda: x],
        ),
        "StatelessCase",
    ),
    "case beyond": (
        lambda tf, x: tf.switch_case(
            tf.cast(tf.size(x), tf.int32), [lambda: x, lambda: x * x]
        ),
        "StatelessCase",
    ),
    "top_k": (
        lambda tf, x: tf.cast(
            tf.raw_ops.TopKV2(input=x, k=2, index_type=tf.int64).indices, tf.float32
        ),
        None,
    ),
    "decode_image": (
        lambda tf, x: tf.cast(
            tf.io.decode_image(
                tf.io.encode_png(tf.cast(x, tf.uint8)), expand_animations=False
            ),
            tf.float32,
        ),
        "DecodeImage",
    ),
    "groups": (
        lambda tf, x: tf.nn.conv2d(
            x, tf.constant(numbers(3, 3, 2, 6)), 1, "VALID", dilations=2
        ),
        None,
    ),
    "depthwise": (
        lambda tf, x: tf.nn.depthwise_conv2d(
            x,
            tf.constant(numbers(3, 3, 4, 2)),
            [1, 1, 1, 1],
            [[0, 0], [1, 0], [2, 1], [0, 0]],
        ),
        None,
    ),
    "max_pool": (
        lambda tf, x: tf.nn.max_pool2d(x - 3.0, 3, 2, [[0, 0], [1, 0], [0, 2], [0, 0]]),
        None,
    ),
    "depth": (
        lambda tf, x: tf.nn.conv2d(x, tf.constant(numbers(3, 3, 1, 8)), 2, "SAME"),
        None,
    ),
}
SHAPES = {
    "decode_image": (4, 4, 3),
    "depth": (2, 7, 7, 4),
    "depthwise": (2, 7, 7, 4),
    "groups": (2, 7, 7, 4),
    "max_pool": (2, 7, 7, 4),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_values_and_gradients(name: str, tmp_path: Path) -> None:
    """The op is gone, and what stands for it gives the same values and gradients."""
    import tensorflow as tf

    body, op = CASES[name]
    shape = SHAPES.get(name, (7,))
    spec = [tf.TensorSpec((None,) + shape[1:])]
    compiled = name in ("groups", "depth")
    function = tf.function(
        lambda x: body(tf, x), input_signature=spec, jit_compile=compiled
    )
    lowered = lowered_function(function, tmp_path)
    assert op is None or op in ops_of(parsed(tmp_path / "source"))
    assert op not in ops_of(parsed(tmp_path / "out"))
    x = tf.constant(numbers(*shape))
    np.testing.assert_allclose(lowered(x), function(x), rtol=1e-5, atol=1e-6)
    wanted = gradient(function, x)
    if wanted is not None:
        np.testing.assert_allclose(
            gradient(lowered, x), wanted, rtol=1e-4, atol=1e-6, equal_nan=False
        )


@pytest.mark.parametrize("separator", ["_X_", "-"])
def test_sparse_cross(separator: str, tmp_path: Path) -> None:
    """Crosses of strings with the old separator; another is refused."""
    import tensorflow as tf

    def cross(words: Any) -> Any:
        both = [words[:, tf.newaxis], tf.strings.lower(words)[:, tf.newaxis]]
        return tf.sparse.to_dense(tf.sparse.cross(both, separator=separator), "")

    function = tf.function(cross, input_signature=[tf.TensorSpec([None], tf.string)])
    if separator == "-":
        with pytest.raises(errors.UnknownOpError, match="separator"):
            lowered_function(function, tmp_path)
        return
    lowered = lowered_function(function, tmp_path)
    words = tf.constant(["A", "Bc"])
    np.testing.assert_array_equal(lowered(words), function(words))


def test_poisson_numbers_are_distributed_alike(tmp_path: Path) -> None:
    """Means and variances are the rates."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([2], tf.int32)])
    def function(seed: Any) -> Any:
        return tf.random.stateless_poisson([20000, 2], seed, [0.5, 3.0], tf.int32)

    found = lowered_function(function, tmp_path)(tf.constant([1, 2])).numpy()
    np.testing.assert_allclose(found.mean(axis=0), [0.5, 3.0], rtol=0.06)
    np.testing.assert_allclose(found.var(axis=0), [0.5, 3.0], rtol=0.1)


def test_shuffle_is_a_permutation(tmp_path: Path) -> None:
    """All elements are there once, in an order that the seed decides."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([2], tf.int32)])
    def function(seed: Any) -> Any:
        return tf.random.experimental.stateless_shuffle(tf.range(50), seed)

    lowered = lowered_function(function, tmp_path)
    orders = [lowered(tf.constant([1, n])).numpy().tolist() for n in (2, 2, 3)]
    assert sorted(orders[0]) == list(range(50))
    assert orders[0] == orders[1] != orders[2]


def needs(function: Callable[[Any], Any], dtype: Any, folder: Path, to: str) -> bool:
    """Whether a function without variables is lowered for a target."""
    import tensorflow as tf

    from hub_compat.converters import lowering

    module = tf.Module()
    module.run = tf.function(function, input_signature=[tf.TensorSpec([3, 3], dtype)])
    tf.saved_model.save(module, str(folder))
    return lowering.needs_lowering(parsed(folder), lowering.of_target(to))


def test_gradients_and_dtypes_are_reasons_to_lower(tmp_path: Path) -> None:
    """An op that TF 1.15 has is not enough where it lacks its gradient or a dtype."""
    import tensorflow as tf

    def product(x: Any) -> Any:
        return tf.einsum("ab,bc->ac", x, x)

    assert needs(product, tf.float32, tmp_path / "1", "tf1.15")
    assert not needs(product, tf.float32, tmp_path / "2", "tf2.15")
    assert needs(lambda x: x + x, tf.uint32, tmp_path / "3", "tf1.15")


def test_small_integers(tmp_path: Path) -> None:
    """TensorFlow 1.15 has no such ops of 8 and 16 bits; results wrap as they did."""
    import tensorflow as tf

    def body(x: Any) -> Any:
        found = {}
        for dtype in (tf.uint8, tf.int8, tf.int16, tf.uint16):
            y = tf.cast(x, dtype)
            other = tf.constant(3, dtype)
            results = [tf.maximum(y, other), tf.minimum(y, other), y % other, y + y]
            results += [tf.square(y)]
            if dtype in (tf.int8, tf.int16):
                results += [-y, tf.sign(y), tf.pow(y, other)]
            found[dtype.name] = [tf.cast(each, tf.int32) for each in results]
            found["text of " + dtype.name] = tf.strings.as_string(y, width=6)
        return found

    function = tf.function(body, input_signature=[tf.TensorSpec([None], tf.int32)])
    lowered = lowered_function(function, tmp_path)
    x = tf.constant([-70000, -129, -128, -7, -1, 0, 2, 127, 200, 40000])
    wanted, found = function(x), lowered(x)
    for name in wanted:
        np.testing.assert_array_equal(
            np.array(found[name]), np.array(wanted[name]), name
        )


def test_map_over_ragged_rows(tmp_path: Path) -> None:
    """A function of each row, one of them empty; rows of vectors and of strings."""
    import tensorflow as tf

    def body(x: Any) -> Any:
        lengths = tf.constant([2, 0, 3])
        rows = tf.RaggedTensor.from_row_lengths(x, lengths)
        words = tf.RaggedTensor.from_row_lengths(tf.strings.as_string(x[:, 0]), lengths)
        return (
            tf.map_fn(tf.size, rows, fn_output_signature=tf.int32),
            tf.map_fn(
                lambda row: tf.reduce_sum(row, 0), rows, fn_output_signature=x.dtype
            ),
            tf.map_fn(tf.strings.reduce_join, words, fn_output_signature=tf.string),
        )

    function = tf.function(body, input_signature=[tf.TensorSpec([5, 2])])
    lowered = lowered_function(function, tmp_path)
    x = tf.constant(numbers(5, 2))
    for found, wanted in zip(lowered(x), function(x)):
        np.testing.assert_array_equal(np.array(found), np.array(wanted))


def test_dtype_is_refused_by_name(tmp_path: Path) -> None:
    """What no rule casts says which op, attribute and dtype."""
    import tensorflow as tf

    function = tf.function(
        lambda x: x + x, input_signature=[tf.TensorSpec([3], tf.uint32)]
    )
    with pytest.raises(errors.UnknownOpError, match="AddV2, for T=type: DT_UINT32"):
        lowered_function(function, tmp_path)


def test_two_models_keep_their_own_gradients(tmp_path: Path) -> None:
    """Gradients are registered for the process, and no two models share a name."""
    import tensorflow as tf

    def times(factor: float) -> Any:
        @tf.custom_gradient
        def own(x: Any) -> Any:
            return tf.identity(x), lambda upstream: upstream * factor

        return tf.function(
            lambda x: own(x) * 1.0, input_signature=[tf.TensorSpec([None])]
        )

    found = []
    for factor in (2.0, 5.0):
        folder = tmp_path / str(factor)
        lowered_function(times(factor), folder)
        found.append(hub.load(folder / "out"))
    x = tf.constant([1.0])
    assert [float(gradient(one.run, x)[0]) for one in found] == [2.0, 5.0]


@pytest.mark.parametrize(
    "version, named",
    [
        ((2, 6), ["RngReadAndSkip", "StatelessRandomUniformV2"]),
        ((2, 10), ["RngReadAndSkip"]),
        ((2, 12), []),
    ],
)
def test_algorithm_is_named_where_none_is_chosen(
    version: Any, named: Any, tmp_path: Path
) -> None:
    """An older TensorFlow is told Philox, which a newer one chooses on a CPU."""
    import tensorflow as tf

    from hub_compat.converters import lowering

    module = tf.Module()
    module.generator = tf.Variable([1, 2, 3], dtype=tf.int64)

    @tf.function(input_signature=[])
    def draw() -> Any:
        state = tf.raw_ops.RngReadAndSkip(
            resource=module.generator.handle, alg=3, delta=tf.constant(5, tf.uint64)
        )
        key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=[1, 2])
        drawn = tf.raw_ops.StatelessRandomUniformV2(
            shape=[2], key=key, counter=counter, alg=3
        )
        return {"state": state, "drawn": drawn}

    module.draw = draw
    tf.saved_model.save(module, str(tmp_path / "source"), signatures=module.draw)
    proto = parsed(tmp_path / "source")
    now = lowering.of_runtime()
    then = lowering.Registry("an older one", version, now.graph_def_version)
    if named:
        assert lowering.needs_lowering(proto, then)
    done = lowering.lower(proto, then, str(tmp_path / "source")).done
    assert [
        op for op in sorted(ops_of(proto)) if op + " names its algorithm" in done
    ] == named
    (tmp_path / "source" / "saved_model.pb").write_bytes(proto.SerializeToString())
    found = tf.saved_model.load(str(tmp_path / "source")).signatures[
        "serving_default"
    ]()
    np.testing.assert_array_equal(found["state"], [1, 2, 3])
    np.testing.assert_allclose(found["drawn"], [0.8440604, 0.19204533], rtol=1e-6)
