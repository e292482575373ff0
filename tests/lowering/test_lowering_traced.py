"""Lowered ops that graphs stand for, or other random numbers: against the op itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowered import lowered_function, numbers, ops_of, parsed

pytestmark = [pytest.mark.tensorflow, pytest.mark.tf2]

OP = "ImageProjectiveTransformV3"


def transforms(count: int) -> np.ndarray:
    """Turned, moved, scaled and tilted by amounts that leave the image all around."""
    random = np.random.RandomState(count)
    near = np.array([1, 0, 0, 0, 1, 0, 0, 0], np.float32)
    spread = np.array([1.5, 1.5, 9, 1.5, 1.5, 9, 0.05, 0.05], np.float32)
    return (near + spread * random.uniform(-1, 1, (count, 8))).astype(np.float32)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("interpolation", ["NEAREST", "BILINEAR"])
@pytest.mark.parametrize("fill_mode", ["CONSTANT", "NEAREST", "REFLECT", "WRAP"])
def test_projected_images(
    fill_mode: str, interpolation: str, dtype: str, tmp_path: Path
) -> None:
    """Each pixel has the value that the op gives it."""
    import tensorflow as tf

    def function(images: Any, by: Any, size: Any) -> Any:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=by,
            output_shape=size,
            fill_value=3.0,
            interpolation=interpolation,
            fill_mode=fill_mode,
        )

    spec = [
        tf.TensorSpec([None] * 4, dtype),
        tf.TensorSpec([None, 8], tf.float32),
        tf.TensorSpec([2], tf.int32),
    ]
    lowered = lowered_function(tf.function(function, input_signature=spec), tmp_path)
    assert OP not in ops_of(parsed(tmp_path / "out"))
    random = np.random.RandomState(7)
    for shape, count, size in (
        ((30, 5, 7, 3), 30, (5, 7)),
        ((4, 6, 3, 1), 1, (9, 4)),
        ((2, 1, 1, 2), 2, (3, 3)),
    ):
        images = tf.constant(random.randint(0, 200, shape).astype(dtype))
        by, size = tf.constant(transforms(count)), tf.constant(size)
        wanted = function(images, by, size).numpy().astype(np.float64)
        found = lowered(images, by, size).numpy().astype(np.float64)
        assert found.shape == wanted.shape
        # A place that rounding moves across the middle between two pixels.
        far = np.abs(found - wanted) > 1e-2 * (1 + np.abs(wanted))
        assert far.mean() < 2e-3, (far.mean(), shape)


@pytest.mark.parametrize("dtype, relative", [("float32", 2e-6), ("float64", 1e-14)])
def test_erfinv(dtype: str, relative: float, tmp_path: Path) -> None:
    """Values near 0, near -1, at 1 and beyond; gradients inside.

    The op itself loses digits near 1 and next to 0; what replaces it does not, and is
    odd.
    """
    import tensorflow as tf

    function = tf.function(
        tf.math.erfinv, input_signature=[tf.TensorSpec([None], dtype)]
    )
    lowered = lowered_function(function, tmp_path)
    assert "Erfinv" not in ops_of(parsed(tmp_path / "out"))
    near = 1 - np.geomspace(1e-6, 0.9, 9)
    inside = np.concatenate([-near, [0.0, 0.3, 0.7]])
    mirrored = lowered(tf.constant(-inside.astype(dtype)))
    np.testing.assert_array_equal(mirrored, -lowered(tf.constant(inside.astype(dtype))))
    x = tf.constant(np.concatenate([inside, [1.0, -1.0, 1.5]]).astype(dtype))
    np.testing.assert_allclose(lowered(x), tf.math.erfinv(x), rtol=relative)
    x = tf.constant(inside.astype(dtype))
    found = []
    for one in (tf.math.erfinv, lowered):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = one(x)
        found.append(tape.gradient(value, x))
    np.testing.assert_allclose(found[1], found[0], rtol=20 * relative)


@pytest.mark.parametrize("which", ["max", "min"])
def test_tensor_scatter(which: str, tmp_path: Path) -> None:
    """The extremes of elements and updates, of rows and of elements; gradients, too."""
    import tensorflow as tf

    scatter = getattr(tf, "tensor_scatter_nd_" + which)

    def function(x: Any, updates: Any) -> Any:
        places = tf.constant([[2], [0], [2]], tf.int64)
        rows = scatter(x, places, tf.concat([updates, updates[:1] * 2.0], 0))
        return rows, scatter(x, [[[1, 1], [0, 2]]], updates[:1, :2])

    spec = [tf.TensorSpec([None, None])] * 2
    traced = tf.function(function, input_signature=spec)
    lowered = lowered_function(traced, tmp_path)
    # TensorFlow 1.15 has TensorScatterAdd, and its gradient.
    written = ops_of(parsed(tmp_path / "out"))
    assert not {"TensorScatterMax", "TensorScatterMin"} & set(written)
    x, updates = tf.constant(numbers(4, 3)), tf.constant(numbers(3, 3)[::-1][:2] * 0.7)
    found = []
    for one in (function, lowered):
        with tf.GradientTape() as tape:
            tape.watch([x, updates])
            results = one(x, updates)
            loss = sum(tf.reduce_sum(tf.sin(result)) for result in results)
        found.append(list(results) + tape.gradient(loss, [x, updates]))
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_gamma_numbers_are_distributed_alike(tmp_path: Path) -> None:
    """Means and variances are those of each element's shape parameter."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([2], tf.int32)])
    def function(seed: Any) -> Any:
        return tf.random.stateless_gamma([20000, 2], seed, alpha=[0.5, 3.0])

    lowered = lowered_function(function, tmp_path)
    assert "StatelessRandomGammaV3" not in ops_of(parsed(tmp_path / "out"))
    found = lowered(tf.constant([1, 2])).numpy()
    assert found.shape == (20000, 2)
    np.testing.assert_allclose(found.mean(axis=0), [0.5, 3.0], rtol=0.05)
    np.testing.assert_allclose(found.var(axis=0), [0.5, 3.0], rtol=0.1)
