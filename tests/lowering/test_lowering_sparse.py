"""Sums over segments of sparse ids, and counts that are sparse tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowered import lowered_function, numbers, ops_of, parsed

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


@pytest.mark.parametrize(
    "how, lengths",
    [
        ("counts", {}),
        ("weights", {"maxlength": 4}),
        ("binary", {"minlength": 9}),
        ("weights", {}),
    ],
)
def test_sparse_counts(how: str, lengths: Any, tmp_path: Path) -> None:
    """Counts of dense, ragged and sparse tensors have the op's indices and values."""
    import tensorflow as tf

    given = tf.constant([[5, 1, 1], [0, 3, 0]]), tf.constant([[4, 4, 4], [0, 2, -1]])
    weights = how == "weights"

    def counted(values: Any, ids: Any) -> Any:
        more = dict(lengths, binary_output=how == "binary")
        for name in ("minlength", "maxlength"):
            more.setdefault(name, -1)

        def count(kind: str, given: Any, **others: Any) -> Any:
            some = tf.cast(given, tf.float32) * 0.5 + 1.0
            some = some if weights else tf.zeros([0], tf.float32)
            op = getattr(tf.raw_ops, kind + "CountSparseOutput")
            return list(op(values=given, weights=some, **others, **more))

        rows = tf.RaggedTensor.from_tensor(ids, padding=-1)
        sparse = tf.sparse.from_dense(tf.cast(values, tf.int64))
        found = count("Dense", values) + count("Dense", values[0])
        found += count("Ragged", rows.values, splits=rows.row_splits)
        found += count(
            "Sparse",
            sparse.values,
            indices=sparse.indices,
            dense_shape=sparse.dense_shape,
        )
        return found

    spec = [tf.TensorSpec([None, None], tf.int32)] * 2
    function = tf.function(counted, input_signature=spec)
    lowered = lowered_function(function, tmp_path)
    assert not [op for op in ops_of(parsed(tmp_path / "out")) if "CountSparse" in op]
    for values in (given, [tf.zeros([2, 0], tf.int32)] * 2):
        for one, other in zip(lowered(*values), function(*values)):
            np.testing.assert_array_equal(one, other)
