"""Writes opdata/replacements.pb.gz: ops as graphs of ops that are everywhere.

Some are those that TensorFlow 2 has dropped, or whose gradients, others those that TF
1.15 has not yet. Run it under TF 1.15.5: ``make replacements``. Each function below is
traced for the dtypes that its op takes; the file is a SavedModel proto with one
MetaGraphDef for each, tagged with the op and its dtypes, or what else it was traced
for. Its placeholders are ``input_0``, ``input_1``, ...; its results are the outputs of
``output``. The bytes are the same on every run.
"""

import gzip
import os
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

OUT = os.path.join(
    os.path.dirname(__file__), "..", "converters", "opdata", "replacements.pb.gz"
)
_FLOATS = (tf.float16, tf.float32, tf.float64)
_INTS = (tf.int8, tf.int16, tf.int32, tf.int64)
_REAL = _FLOATS + _INTS + (tf.uint8, tf.uint16)
_IMAGES = _FLOATS + (tf.uint8, tf.int32, tf.int64)
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


# ---- the cells of tf.contrib.rnn that are one op, whose gradients were in contrib


def lstm_block_cell(peephole: bool, clipped: bool) -> Any:
    """A step of an LSTM, with the gates in the order i, ci, f, o.

    Args:
      peephole: whether the gates see the cell's state.
      clipped: whether the state is clipped. The op's gradient does not know of it.
    """

    def replacement(
        x: Any,
        state: Any,
        h: Any,
        w: Any,
        wci: Any,
        wcf: Any,
        wco: Any,
        b: Any,
        forget_bias: Any,
        clip: Any,
    ) -> Any:
        gates = tf.nn.bias_add(tf.matmul(tf.concat([x, h], 1), w), b)
        i, ci, f, o = tf.split(gates, 4, 1)
        f += forget_bias
        if peephole:
            i += state * wci
            f += state * wcf
        i, ci, f = tf.sigmoid(i), tf.tanh(ci), tf.sigmoid(f)
        cs = ci * i + state * f
        if clipped:
            cs += tf.stop_gradient(tf.clip_by_value(cs, -clip, clip) - cs)
        o = tf.sigmoid(o + cs * wco if peephole else o)
        co = tf.tanh(cs)
        return i, cs, f, o, ci, co, co * o

    return replacement


def gru_block_cell(x: Any, h: Any, w_ru: Any, w_c: Any, b_ru: Any, b_c: Any) -> Any:
    """A step of a GRU, with the gates in the order r, u."""
    gates = tf.nn.bias_add(tf.matmul(tf.concat([x, h], 1), w_ru), b_ru)
    r, u = tf.split(tf.sigmoid(gates), 2, 1)
    c = tf.tanh(tf.nn.bias_add(tf.matmul(tf.concat([x, h * r], 1), w_c), b_c))
    return r, u, c, (1.0 - u) * c + u * h


# ---- ImageProjectiveTransformV3, in two: where pixels come from, and their values

# Neither a pixel nor next to one.
_NOWHERE = -2.0


def _reflected(place: Any, size: Any) -> Any:
    """Reflected at the borders: dcba|abcd|dcba."""
    low = place + 2.0 * size * tf.floor(-place / (2.0 * size))
    low = tf.where(low < -size, low + 2.0 * size, -low - 1.0)
    high = place - 2.0 * size * tf.floor(place / (2.0 * size))
    high = tf.where(high >= size, 2.0 * size - high - 1.0, high)
    return _brought_inside(place, size, low, high)


def _wrapped(place: Any, size: Any) -> Any:
    """Begun again at the borders: abcd|abcd|abcd."""
    step = tf.maximum(size - 1.0, 1.0)
    low = place + size * (tf.floor(-place / step) + 1.0)
    high = place - size * tf.floor(place / step)
    return _brought_inside(place, size, low, high)


def _brought_inside(place: Any, size: Any, low: Any, high: Any) -> Any:
    """What is below 0 from ``low``, above the last pixel from ``high``."""
    found = tf.where(place < 0.0, low, tf.where(place > size - 1.0, high, place))
    # Also where there is one pixel, and where a half would be rounded up.
    return _clipped(found, size)


def _clipped(place: Any, size: Any) -> Any:
    return tf.clip_by_value(place, 0.0, size - 1.0)


def _as_it_is(place: Any, size: Any) -> Any:
    return place


def pixels_from(outside: Any) -> Any:
    """Where each pixel of the result comes from: float32 [2, batch, height, width].

    Args:
      outside: from places along an axis and the number of pixels there, to places.
    """

    def replacement(shape: Any, transforms: Any, output_shape: Any) -> Any:
        batch = shape[0]
        height, width = output_shape[0], output_shape[1]
        y, x = tf.meshgrid(
            tf.cast(tf.range(height), tf.float32),
            tf.cast(tf.range(width), tf.float32),
            indexing="ij",
        )
        # One for all images, or one for each.
        t = tf.transpose(transforms)[:, :, tf.newaxis, tf.newaxis]
        scale = t[6] * x + t[7] * y + 1.0
        nowhere = tf.equal(scale, 0.0)
        scale = tf.where(nowhere, tf.ones_like(scale), scale)
        places = []
        for row, axis in ((3, 1), (0, 2)):
            place = (t[row] * x + t[row + 1] * y + t[row + 2]) / scale
            place = outside(place, tf.cast(shape[axis], tf.float32))
            place = tf.where(nowhere, tf.fill(tf.shape(place), _NOWHERE), place)
            places.append(place + tf.zeros([batch, 1, 1]))
        return tf.stack(places)

    return replacement


def _values_at(images: Any, row: Any, column: Any, fill: Any) -> Any:
    """Pixels at whole places, also outside: [batch, height, width, channels]."""
    batch, height, width, channels = tf.unstack(tf.shape(images))
    there = (row >= 0.0) & (row <= tf.cast(height, tf.float32) - 1.0)
    there &= (column >= 0.0) & (column <= tf.cast(width, tf.float32) - 1.0)
    row = tf.cast(tf.where(there, row, tf.zeros_like(row)), tf.int32)
    column = tf.cast(tf.where(there, column, tf.zeros_like(column)), tf.int32)
    cells = tf.reshape(images, [batch, height * width, channels])
    found = tf.gather(cells, row * width + column, batch_dims=1)
    there = tf.tile(there[..., tf.newaxis], [1, 1, 1, channels])
    return tf.where(there, found, tf.fill(tf.shape(found), fill))


def nearest(images: Any, places: Any, fill: Any) -> Any:
    """The pixel that a place is nearest to; of two, the one farther from 0."""
    whole = tf.floor(tf.abs(places))
    up = tf.cast(tf.abs(places) - whole >= 0.5, tf.float32)
    row, column = tf.unstack(tf.sign(places) * (whole + up))
    return _values_at(images, row, column, tf.cast(fill, images.dtype))


def bilinear(images: Any, places: Any, fill: Any) -> Any:
    """Between the four pixels around a place."""
    dtype = images.dtype
    row, column = tf.unstack(tf.floor(places))
    images = tf.cast(images, tf.float32)
    # The fill value counts as a pixel.
    fill = tf.cast(tf.cast(fill, dtype), tf.float32)
    y, x = tf.unstack(places[..., tf.newaxis])
    top, left = row[..., tf.newaxis], column[..., tf.newaxis]
    rows = []
    for below in (0.0, 1.0):
        one = _values_at(images, row + below, column, fill)
        other = _values_at(images, row + below, column + 1.0, fill)
        rows.append((left + 1.0 - x) * one + (x - left) * other)
    result = (top + 1.0 - y) * rows[0] + (y - top) * rows[1]
    return tf.cast(result, dtype)


def tensor_scatter(segments: Any, combine: Any) -> Any:
    """Slices of a tensor, combined with updates (TF 2.4).

    Args:
      segments: ``tf.math.unsorted_segment_max`` or one of its kin.
      combine: the same for two tensors.
    """

    def replacement(tensor: Any, indices: Any, updates: Any) -> Any:
        shape = tf.shape(tensor)
        depth = tf.shape(indices)[-1]
        steps = tf.cumprod(shape[:depth], exclusive=True, reverse=True)
        places = tf.reduce_sum(tf.reshape(indices, [-1, depth]) * steps, 1)
        rows = tf.reduce_prod(shape[:depth])
        row = tf.concat([[-1], [tf.reduce_prod(shape[depth:])]], 0)
        found = segments(tf.reshape(updates, row), places, rows)
        return tf.reshape(combine(tf.reshape(tensor, row), found), shape)

    return replacement


# In powers of log(1 - x**2), near 0 and beyond (Giles, Approximating the erfinv
# function, 2010).
_NEAR = [
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
]  # fmt: skip
_FAR = [
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
]  # fmt: skip


def erfinv(x: Any) -> Any:
    """The inverse of the error function (TF 2.3), with the gradient that it has."""
    inside = tf.abs(x) < 1.0
    given = tf.where(inside, x, tf.zeros_like(x))
    w = -(tf.math.log1p(-given) + tf.math.log1p(given))
    near = tf.math.polyval([tf.constant(c, x.dtype) for c in _NEAR], w - 2.5)
    far = tf.math.polyval([tf.constant(c, x.dtype) for c in _FAR], tf.sqrt(w) - 3.0)
    y = tf.where(w < 5.0, near, far) * given
    if x.dtype == tf.float64:
        for _ in range(2):
            # Of a large one, 1 - abs(x) has all its digits; of a small one, x.
            size, wanted = tf.abs(y), tf.abs(given)
            error = tf.where(
                wanted < 0.5,
                wanted - tf.math.erf(size),
                wanted - 1.0 + tf.math.erfc(size),
            )
            y += tf.sign(y) * error * _slope(y)
    y = tf.stop_gradient(y) + (given - tf.stop_gradient(given)) * _slope(
        tf.stop_gradient(y)
    )
    outside = tf.where(
        tf.equal(tf.abs(x), 1.0),
        x * tf.constant(float("inf"), x.dtype),
        tf.fill(tf.shape(x), tf.constant(float("nan"), x.dtype)),
    )
    return tf.where(inside, y, tf.stop_gradient(outside))


def _slope(y: Any) -> Any:
    return 0.8862269254527580 * tf.exp(y * y)


def _scattered(dtype: Any) -> Any:
    return [
        tf.TensorSpec(None, dtype),
        tf.TensorSpec(None, tf.int32),
        tf.TensorSpec(None, dtype),
    ]


def _sliced(dtype: Any) -> Any:
    number = tf.TensorSpec([], tf.int64)
    return [tf.TensorSpec(None, dtype), tf.TensorSpec(None, tf.int64), number]


def _any(dtype: Any) -> Any:
    return [tf.TensorSpec(None, dtype)]


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


def _lstm_step(dtype: Any) -> Any:
    rows, vector = tf.TensorSpec([None, None], dtype), tf.TensorSpec([None], dtype)
    number = tf.TensorSpec([], dtype)
    return [rows] * 4 + [vector] * 4 + [number] * 2


def _gru_step(dtype: Any) -> Any:
    rows, vector = tf.TensorSpec([None, None], dtype), tf.TensorSpec([None], dtype)
    return [rows] * 4 + [vector] * 2


def _transformed() -> Any:
    return [
        tf.TensorSpec([4], tf.int32),
        tf.TensorSpec([None, 8], tf.float32),
        tf.TensorSpec([2], tf.int32),
    ]


def _placed(dtype: Any) -> Any:
    return [
        tf.TensorSpec([None] * 4, dtype),
        tf.TensorSpec([2, None, None, None], tf.float32),
        tf.TensorSpec([], tf.float32),
    ]


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
    "ImageProjectiveTransformV3/BILINEAR": (bilinear, _placed, _each(*_IMAGES)),
    "ImageProjectiveTransformV3/NEAREST": (nearest, _placed, _each(*_IMAGES)),
    "Erfinv": (erfinv, _any, _each(tf.float32, tf.float64)),
    "GRUBlockCell": (gru_block_cell, _gru_step, _each(tf.float32)),
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
    "TensorScatterMax": (
        tensor_scatter(tf.math.unsorted_segment_max, tf.maximum),
        _scattered,
        _each(*(_FLOATS + (tf.int32, tf.int64))),
    ),
    "TensorScatterMin": (
        tensor_scatter(tf.math.unsorted_segment_min, tf.minimum),
        _scattered,
        _each(*(_FLOATS + (tf.int32, tf.int64))),
    ),
}
for _mode, _outside in (
    ("CONSTANT", _as_it_is),
    ("NEAREST", _clipped),
    ("REFLECT", _reflected),
    ("WRAP", _wrapped),
):
    REPLACEMENTS["ImageProjectiveTransformV3/from " + _mode] = (
        pixels_from(_outside),
        _transformed,
        [()],
    )


for _peephole in (False, True):
    for _clipped_state in (False, True):
        REPLACEMENTS[
            "LSTMBlockCell"
            + ("/peephole" if _peephole else "")
            + ("/clipped" if _clipped_state else "")
        ] = (
            lstm_block_cell(_peephole, _clipped_state),
            _lstm_step,
            _each(tf.float16, tf.float32),
        )


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
                found = function(*inputs)
                one = not isinstance(found, tuple)
                (tf.identity if one else tf.identity_n)(found, "output")
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
