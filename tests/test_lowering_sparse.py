"""Sums over segments of sparse ids, as embedding_lookup_sparse of TF 2 makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_lowering import lowered_function, numbers

pytestmark = [pytest.mark.tensorflow, pytest.mark.tf2]


@pytest.mark.parametrize("combiner", ["Mean", "SqrtN", "Sum"])
@pytest.mark.parametrize("counted", [False, True])
def test_segment_ids_of_int64(combiner: str, counted: bool, tmp_path: Path) -> None:
    """int64 ids become int32 ones, with the same sums and gradients."""
    import tensorflow as tf

    rows = tf.constant(numbers(5, 3))
    ids = tf.constant([4, 0, 1, 1], tf.int64)
    segments = tf.constant([0, 0, 1, 3], tf.int64)
    name = "SparseSegment{}{}".format(combiner, "WithNumSegments" if counted else "")
    more = {"num_segments": tf.constant(5)} if counted else {}

    def function(rows: tf.Tensor, ids: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
        op = getattr(tf.raw_ops, name)
        return op(data=rows, indices=ids, segment_ids=segments, **more)

    traced = tf.function(
        function,
        input_signature=[
            tf.TensorSpec([None, 3]),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None], tf.int64),
        ],
    )
    lowered = lowered_function(traced, tmp_path)
    found = []
    for one in (function, lowered):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            result = one(rows, ids, segments)
            loss = tf.reduce_sum(tf.sin(result))
        found.append([result, tf.convert_to_tensor(tape.gradient(loss, rows))])
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
