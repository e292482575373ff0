"""Writes converters/replacements.pb.gz: dropped ops as graphs of ops that are there.

Run it under TF 1.15.5: ``make replacements``. Each function below is traced for the
dtypes that its op takes; the file is a SavedModel proto with one MetaGraphDef for each,
tagged with the op and its dtypes. Its placeholders are ``input_0``, ``input_1``, ...;
its result is ``output``. The bytes are the same on every run.
"""

import gzip
import os
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

OUT = os.path.join(os.path.dirname(__file__), "..", "converters", "replacements.pb.gz")
_FLOATS = (tf.float16, tf.float32, tf.float64)
_INTS = (tf.int8, tf.int16, tf.int32, tf.int64)
_REAL = _FLOATS + _INTS + (tf.uint8, tf.uint16)
_NUMBERS = _REAL + (tf.complex64, tf.complex128)


def gather_tree(step_ids: Any, parent_ids: Any, lengths: Any, end_token: Any) -> Any:
    """Full beams from the ids of each step and their parents (tf.contrib.seq2seq)."""
    max_time, batch, width = tf.unstack(tf.shape(step_ids))
    own = tf.tile(tf.range(width)[tf.newaxis], [batch, 1])

    def up(state: Any, level: Any) -> Any:
        beam, _ = state
        time, ids, parents = level
        there = tf.tile((time < lengths)[:, tf.newaxis], [1, width])
        token = tf.where(
            there,
            tf.gather(ids, beam, batch_dims=1),
            tf.fill([batch, width], end_token),
        )
        return tf.where(there, tf.gather(parents, beam, batch_dims=1), beam), token

    levels = (tf.range(max_time), step_ids, parent_ids)
    _, tokens = tf.scan(up, levels, (own, tf.zeros_like(own)), reverse=True)
    ends = tf.cast(tf.equal(tokens, end_token), tf.int32)
    ended = tf.cumsum(ends, axis=0, exclusive=True) > 0
    return tf.where(ended, tf.fill(tf.shape(tokens), end_token), tokens)


def resampler(data: Any, warp: Any) -> Any:
    """Bilinear samples at places (x, y), zero outside (tf.contrib.resampler)."""
    batch, height, width, channels = tf.unstack(tf.shape(data))
    places = tf.reshape(warp, [batch, -1, 2])
    x, y = places[..., 0], places[..., 1]
    left, top = tf.floor(x), tf.floor(y)
    inside = (x > -1) & (y > -1)
    inside &= (x < tf.cast(width, x.dtype)) & (y < tf.cast(height, y.dtype))
    total = 0.0
    for right in (0, 1):
        for below in (0, 1):
            column = tf.cast(left, tf.int32) + right
            row = tf.cast(top, tf.int32) + below
            share = (x - left if right else left + 1 - x) * (
                y - top if below else top + 1 - y
            )
            there = inside & (column >= 0) & (column < width)
            there &= (row >= 0) & (row < height)
            cell = tf.clip_by_value(row, 0, height - 1) * width
            cell += tf.clip_by_value(column, 0, width - 1)
            # What is not there counts nothing, even if it is no number.
            cell = tf.where(there, cell, tf.zeros_like(cell))
            share = tf.where(there, share, tf.zeros_like(share))
            cells = tf.reshape(data, [batch, height * width, channels])
            total += tf.gather(cells, cell, batch_dims=1) * share[..., tf.newaxis]
    return tf.reshape(total, tf.concat([tf.shape(warp)[:-1], [channels]], 0))


def compare_and_bitpack(values: Any, threshold: Any) -> Any:
    """Which of eight values are above a threshold, as the bits of a byte."""
    if values.dtype == tf.bool:
        above = values & ~threshold
    else:
        above = values > threshold
    shape = tf.shape(values)
    eights = tf.concat([shape[:-1], [shape[-1] // 8, 8]], 0)
    bits = tf.reshape(tf.cast(above, tf.int32), eights)
    return tf.cast(tf.reduce_sum(bits * [128, 64, 32, 16, 8, 4, 2, 1], -1), tf.uint8)


# What the op gives for unit images (tf.contrib.image): it is linear in these three.
_VALUE = [[0.299, 0.299, 0.299], [0.587, 0.587, 0.587], [0.114, 0.114, 0.114]]
_SATURATION = [
    [0.701, -0.299, -0.299],
    [-0.587, 0.413, -0.587],
    [-0.114, -0.114, 0.886],
]
_HUE = [
    [0.16862175, -0.3279634, 1.2464614],
    [0.32980478, 0.03461063, -1.0432287],
    [-0.49842653, 0.29335272, -0.20323253],
]


def adjust_hsv_in_yiq(images: Any, delta_h: Any, scale_s: Any, scale_v: Any) -> Any:
    """Images with another hue, saturation and value (tf.contrib.image)."""
    turned = tf.cos(delta_h) * _SATURATION + tf.sin(delta_h) * _HUE
    matrix = scale_v * (tf.constant(_VALUE) + scale_s * turned)
    pixels = tf.reshape(images, [-1, 3])
    return tf.reshape(tf.matmul(pixels, matrix), tf.shape(images))


def reduce_slice(combine: Any, empty: str) -> Any:
    """Reductions of slices of an axis (tf.contrib.reduce_slice_ops).

    Args:
      combine: ``tf.math.unsorted_segment_sum`` or one of its kin.
      empty: what a slice of nothing has: ``"identity"`` of the reduction, or
        ``"least"`` or ``"greatest"`` of the dtype, infinity where it has one.
    """

    def replacement(data: Any, indices: Any, axis: Any) -> Any:
        # Pairs of a start and an end, or a vector of where one ends and one starts.
        flat = tf.reshape(indices, [-1])
        size = tf.shape(data, out_type=tf.int64)[axis]
        starts = tf.clip_by_value(flat[: -1 : tf.rank(indices)], 0, size)
        ends = tf.clip_by_value(flat[1 :: tf.rank(indices)], starts, size)
        slices = tf.ragged.range(starts, ends)
        before, after = (
            tf.range(axis),
            tf.range(axis + 1, tf.cast(tf.rank(data), tf.int64)),
        )
        order = tf.concat([[axis], before, after], 0)
        rows = tf.gather(tf.transpose(data, order), slices.values)
        reduced = combine(rows, slices.value_rowids(), tf.size(starts))
        if empty != "identity":
            values = tf.fill(tf.shape(reduced), _extreme(data.dtype, empty))
            reduced = tf.compat.v1.where(ends > starts, reduced, values)
        return tf.transpose(reduced, tf.math.invert_permutation(order))

    return replacement


def _extreme(dtype: Any, which: str) -> Any:
    if dtype.is_floating:
        return tf.constant(float("-inf" if which == "least" else "inf"), dtype)
    return tf.constant(dtype.min if which == "least" else dtype.max, dtype)


def _sliced(dtype: Any) -> Any:
    number = tf.TensorSpec([], tf.int64)
    return [tf.TensorSpec(None, dtype), tf.TensorSpec(None, tf.int64), number]


def _images(dtype: Any) -> Any:
    return [tf.TensorSpec([None] * 4, dtype), tf.TensorSpec(None, dtype)]


def _pixels(dtype: Any) -> Any:
    number = tf.TensorSpec([], tf.float32)
    return [tf.TensorSpec(None, dtype), number, number, number]


def _compared(dtype: Any) -> Any:
    return [tf.TensorSpec(None, dtype), tf.TensorSpec([], dtype)]


def _beams(dtype: Any) -> Any:
    cube = tf.TensorSpec([None] * 3, dtype)
    return [cube, cube, tf.TensorSpec([None], dtype), tf.TensorSpec([], dtype)]


def _each(*dtypes: Any) -> Any:
    return [(dtype,) for dtype in dtypes]


# What replaces an op, and what it takes for the dtypes of its attributes.
REPLACEMENTS = {
    "AdjustHsvInYiq": (adjust_hsv_in_yiq, _pixels, _each(tf.float32)),
    "CompareAndBitpack": (
        compare_and_bitpack,
        _compared,
        _each(tf.bool, *(_FLOATS + _INTS)),
    ),
    "GatherTree": (gather_tree, _beams, _each(tf.int32)),
    "ReduceSliceMax": (
        reduce_slice(tf.math.unsorted_segment_max, "least"),
        _sliced,
        _each(*_REAL),
    ),
    "ReduceSliceMin": (
        reduce_slice(tf.math.unsorted_segment_min, "greatest"),
        _sliced,
        _each(*_REAL),
    ),
    "ReduceSliceProd": (
        reduce_slice(tf.math.unsorted_segment_prod, "identity"),
        _sliced,
        _each(*_NUMBERS),
    ),
    "ReduceSliceSum": (
        reduce_slice(tf.math.unsorted_segment_sum, "identity"),
        _sliced,
        _each(*_NUMBERS),
    ),
    "Resampler": (resampler, _images, _each(*_FLOATS)),
}


def main() -> None:
    """Writes the file and prints what is in it."""
    assert tf.__version__ == "1.15.5", tf.__version__
    # Loops become While, which TensorFlow 2 differentiates, should it have to.
    tf.compat.v1.enable_control_flow_v2()
    written = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    for op, (function, specs, choices) in sorted(REPLACEMENTS.items()):
        for dtypes in choices:
            with tf.Graph().as_default() as graph:
                inputs = [
                    tf.compat.v1.placeholder(
                        spec.dtype, spec.shape, "input_{}".format(i)
                    )
                    for i, spec in enumerate(specs(*dtypes))
                ]
                tf.identity(function(*inputs), "output")
            meta_graph = written.meta_graphs.add()
            meta_graph.meta_info_def.tags.extend([op] + [t.name for t in dtypes])
            meta_graph.graph_def.CopyFrom(graph.as_graph_def())
        print(op, len(choices), "graphs of", len(meta_graph.graph_def.node), "nodes")
    with open(OUT, "wb") as file:
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as zipped:
            zipped.write(written.SerializeToString(deterministic=True))
    print(os.path.getsize(OUT), "bytes")


if __name__ == "__main__":
    main()
