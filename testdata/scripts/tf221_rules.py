"""Each op of TensorFlow 2.21 that a lowering rule rewrites and no other model has.

Writes ``tf221_rules/module``, a SavedModel with a signature for each op, and
``tf221_rules/recorded.npz``: what it is given, what TensorFlow 2.21 answers, and the
gradients of the loss of ``tf221_replay.py`` with respect to floating inputs::

    python testdata/scripts/tf221_rules.py
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import tensorflow as tf
import tf221_replay
from tf221_ops import numbers

OUT = Path(__file__).resolve().parents[1] / "tf221_rules"
INF = float("inf")
# Of these ops there is no gradient, or none that is a number.
CONSTANT = {
    "bessel_far", "best", "count_dense", "count_ragged", "count_sparse",
    "erfinv_borders", "other_numbers", "scatter", "segments_back",
}  # fmt: skip
_PHILOX, _ANY = 1, 3  # The algorithm; the second is what the device chooses.
# Inputs whose shape is known as a whole.
_STATIC = {"band", "matrix", "seed", "shape", "wide"}
_SPARSE = {
    "indices": np.array([[0, 0], [0, 2], [1, 1], [2, 0], [2, 1]], np.int64),
    "shape": np.array([3, 3], np.int64),
}
# By name: the function and its inputs.
CASES: Dict[str, Tuple[Callable[..., Dict[str, Any]], Dict[str, Any]]] = {}


def signature(**given: Any) -> Callable[[Any], Any]:
    """Makes a function a signature that is recorded with these inputs."""

    def add(function: Any) -> Any:
        CASES[function.__name__.strip("_")] = function, given
        return function

    return add


def _both(**given: Any) -> Dict[str, Any]:
    """Inputs in float32 and, with a 64 behind the name, in float64."""
    both: Dict[str, Any] = {}
    for name, value in given.items():
        both[name] = np.array(value, np.float32)
        both[name + "64"] = np.array(value, np.float64)
    return both


@signature(
    x=np.array([[[1, -2, 3], [4, 5, -128]]] * 2, np.int8),
    y=np.array([[[7, 127, 0], [1, 1, -2]]] * 2, np.int8),
    z=np.array([[[255], [3], [0]]] * 2, np.uint8),
    a=numbers(2, 2, 3),
    b=numbers(1, 3, 4),
)
def batch_matmul(x: Any, y: Any, z: Any, a: Any, b: Any) -> Dict[str, Any]:
    """BatchMatMulV3: of 8-bit integers to int32, and of one floating dtype."""
    multiply = tf.raw_ops.BatchMatMulV3
    return {
        "signed": multiply(x=x, y=y, Tout=tf.int32, adj_y=True),
        "mixed": multiply(x=x, y=z, Tout=tf.int32),
        "floats": multiply(x=a, y=b, Tout=tf.float32),
    }


@signature(**_both(x=[-20.0, -2.5, -0.1, 0.5, 8.0, 30.0]))
def bessel(x: Any, x64: Any) -> Dict[str, Any]:
    """BesselI0 and BesselI1.

    Not at 0, where the gradient of the latter is twice as much as is right.
    """
    return {
        "i0": tf.math.bessel_i0(x / 10.0),
        "i1": tf.math.bessel_i1(x / 10.0),
        "i0_64": tf.math.bessel_i0(x64 / 10.0),
        "i1_64": tf.math.bessel_i1(x64 / 10.0),
    }


@signature(far=np.array([-100.0, 0.0, 60.0, 90.0, 100.0, INF], np.float32))
def bessel_far(far: Any) -> Dict[str, Any]:
    """Where they are infinite, or nearly so; as their logarithms."""
    return {
        "i0": tf.math.log(tf.math.bessel_i0(far)),
        "i1": tf.math.log(tf.abs(tf.math.bessel_i1(far))),
    }


@signature(**_both(x=[[0.0], [2.0], [-1.5]], y=[-0.5, 0.0, 1e-6, 3.0]))
def xlog1py(x: Any, x64: Any, y: Any, y64: Any) -> Dict[str, Any]:
    """Xlog1py of operands that are broadcast, one of them 0."""
    return {"f32": tf.math.xlog1py(x, y), "f64": tf.math.xlog1py(x64, y64)}


@signature(**_both(x=[0.0, 0.0, 0.0], y=[-1.0, -3.0, INF]))
def xlog1py_nowhere(x: Any, x64: Any, y: Any, y64: Any) -> Dict[str, Any]:
    """0 times a logarithm that is not a number, or infinite."""
    return {"f32": tf.math.xlog1py(x, y), "f64": tf.math.xlog1py(x64, y64)}


@signature(**_both(x=[-0.999, -0.5, 0.0, 1e-5, 0.25, 0.9999]))
def erfinv(x: Any, x64: Any) -> Dict[str, Any]:
    """Erfinv between the borders."""
    return {"f32": tf.math.erfinv(x), "f64": tf.math.erfinv(x64)}


@signature(**_both(x=[-1.0, 1.0, 1.5, -2.0]))
def erfinv_borders(x: Any, x64: Any) -> Dict[str, Any]:
    """Erfinv at the borders and beyond."""
    return {"f32": tf.math.erfinv(x), "f64": tf.math.erfinv(x64)}


@signature(
    x=numbers(4, 3),
    at=np.array([[0], [2], [0]], np.int64),
    new=numbers(3, 3)[::-1] * 2,
    i=np.array([5, -7, 9], np.int32),
)
def tensor_scatter(x: Any, at: Any, new: Any, i: Any) -> Dict[str, Any]:
    """TensorScatterMax and Min of rows, and of integers."""
    more = tf.constant([0, 2, -1])
    doubles = [tf.cast(value, tf.float64) for value in (x, new)]
    return {
        "greatest": tf.tensor_scatter_nd_max(x, at, new),
        "least": tf.tensor_scatter_nd_min(x, at, new),
        "greatest_64": tf.tensor_scatter_nd_max(doubles[0], at, doubles[1]),
        "greatest_of_integers": tf.tensor_scatter_nd_max(
            more, tf.cast(at, tf.int32), i
        ),
        "least_of_integers": tf.tensor_scatter_nd_min(more, at, i),
    }


@signature(
    x=numbers(2, 3), band=numbers(2, 2, 3), matrix=numbers(2, 3, 4), fill=numbers(1)
)
def matrices(x: Any, band: Any, matrix: Any, fill: Any) -> Dict[str, Any]:
    """MatrixDiagV3, MatrixDiagPartV3 and MatrixSetDiagV3, of one diagonal and two."""
    left: Dict[str, Any] = {"k": (0, 1), "align": "LEFT_LEFT"}
    return {
        "made": tf.linalg.diag(x),
        "made_above": tf.linalg.diag(x, k=1, num_cols=6, padding_value=fill[0]),
        "made_of_two": tf.linalg.diag(band, **left),
        "part": tf.linalg.diag_part(matrix),
        "part_below": tf.linalg.diag_part(matrix, k=-1),
        "part_of_two": tf.linalg.diag_part(matrix, padding_value=2.0, **left),
        "with": tf.linalg.set_diag(matrix, x),
        "with_two": tf.linalg.set_diag(matrix, band, **left),
        "of_integers": tf.linalg.diag(tf.cast(x * 9.0, tf.int64)),
        "of_complex": tf.math.real(tf.linalg.diag(tf.complex(x, x), k=-1)),
    }


@signature(**_both(x=numbers(2, 3, 2)))
def norms(x: Any, x64: Any) -> Dict[str, Any]:
    """EuclideanNorm along one axis, two, and all."""
    norm = tf.math.reduce_euclidean_norm
    return {
        "rows": norm(x, -1),
        "kept": norm(x, [0, 2], keepdims=True),
        "all": norm(x64),
        "of_integers": norm(tf.cast(x * 9.0, tf.int32), 1),
    }


@signature(x=numbers(3, 2), which=np.array([0, 2, 7, -1], np.int32))
def cases(x: Any, which: Any) -> Dict[str, Any]:
    """StatelessCase of each branch, and of those that are not there."""
    branches = [lambda: x * 2.0, lambda: tf.sin(x), lambda: x @ tf.transpose(x) @ x]
    return {"branch_{}".format(i): tf.switch_case(which[i], branches) for i in range(4)}


@signature(
    ids=np.array([[3, 1, 3, 0], [7, 1, 1, 2]], np.int32),
    flat=np.array([5, 2, 5, 5], np.int64),
    weights=numbers(2, 4),
)
def count_dense(ids: Any, flat: Any, weights: Any) -> Dict[str, Any]:
    """DenseCountSparseOutput of a matrix and a vector."""
    return _parts(
        counts=tf.sparse.bincount(ids, axis=-1),
        below=tf.sparse.bincount(ids, axis=-1, maxlength=3, binary_output=True),
        weighted=tf.sparse.bincount(ids, weights, axis=-1, minlength=9),
        vector=tf.sparse.bincount(flat, axis=-1, minlength=8, maxlength=8),
    )


@signature(
    values=np.array([3, 1, 3, 0, 7], np.int64),
    splits=np.array([0, 3, 3, 4, 5], np.int64),
    weights=numbers(5),
)
def count_ragged(values: Any, splits: Any, weights: Any) -> Dict[str, Any]:
    """RaggedCountSparseOutput, with a row of nothing."""
    rows = tf.RaggedTensor.from_row_splits(values, splits)
    return _parts(
        counts=tf.sparse.bincount(rows, axis=-1),
        weighted=tf.sparse.bincount(
            rows, tf.RaggedTensor.from_row_splits(weights, splits), -1, maxlength=5
        ),
    )


@signature(values=np.array([3, 3, 0, 2, 2], np.int32), weights=numbers(5), **_SPARSE)
def count_sparse(indices: Any, shape: Any, values: Any, weights: Any) -> Dict[str, Any]:
    """SparseCountSparseOutput of a matrix and a vector."""
    rows = tf.SparseTensor(indices, values, shape)
    flat = tf.SparseTensor(indices[1:4, 1:], values[:3], shape[1:])
    return _parts(
        counts=tf.sparse.bincount(rows, axis=-1, minlength=6),
        there=tf.sparse.bincount(rows, axis=-1, binary_output=True),
        weighted=tf.sparse.bincount(rows, rows.with_values(weights), axis=-1),
        vector=tf.sparse.bincount(flat, axis=-1),
    )


@signature(
    words=np.array(list("abcde")),
    numbers=np.array([[3], [4], [-5]], np.int64),
    **_SPARSE,
)
def cross(indices: Any, shape: Any, words: Any, numbers: Any) -> Dict[str, Any]:
    """SparseCrossV2 of sparse strings, dense numbers and sparse numbers."""
    sparse = tf.SparseTensor(indices, words, shape)
    lengths = tf.SparseTensor(
        indices,
        tf.strings.to_number(tf.strings.as_string(indices[:, 1]), tf.int64),
        shape,
    )
    return _parts(
        mixed=tf.sparse.cross([sparse, numbers]),
        sparse=tf.sparse.cross([sparse, lengths]),
        dense=tf.sparse.cross([numbers, tf.strings.as_string(numbers)]),
    )


def _parts(**sparse: Any) -> Dict[str, Any]:
    """The tensors that sparse tensors consist of."""
    return {
        "{}_{}".format(name, part): getattr(value, part)
        for name, value in sparse.items()
        for part in ("indices", "values", "dense_shape")
    }


@signature(
    pixels=((numbers(6, 5, 3) + 1) * 127).astype(np.uint8),
    deep=((numbers(6, 5, 1) + 1) * 30000).astype(np.uint16),
)
def decode_image(pixels: Any, deep: Any) -> Dict[str, Any]:
    """DecodeImage of what it is not told: PNG of 8 and 16 bits, and JPEG."""
    png, png16 = tf.io.encode_png(pixels), tf.io.encode_png(deep)
    jpeg = tf.io.encode_jpeg(pixels, quality=95)

    def decode(data: Any, channels: int = 0, dtype: Any = tf.uint8) -> Any:
        return tf.io.decode_image(data, channels, dtype, expand_animations=False)

    return {
        "png": decode(png),
        "grey": decode(png, 1),
        "alpha": decode(png, 4),
        "deep": decode(png16, 0, tf.uint16),
        "deeper": decode(png, 3, tf.uint16),
        "jpeg": decode(jpeg, 3),
    }


@signature(
    x=numbers(2, 5, 5, 2),
    kernel=numbers(3, 3, 2, 2),
    scale=numbers(2) + 2,
    offset=numbers(2),
)
def images(x: Any, kernel: Any, scale: Any, offset: Any) -> Dict[str, Any]:
    """Paddings and moving averages that are attributes of newer ops."""
    pads = [[0, 0], [1, 0], [2, 1], [0, 0]]
    normal = {
        name: tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=offset, variance=scale,
            exponential_avg_factor=factor, is_training=training,
        )
        for name, factor, training in (("part", 0.25, True), ("whole", 1.0, True))
    }  # fmt: skip
    return {
        "depthwise": tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], pads),
        "pool": tf.nn.max_pool2d(x - 3.0, 3, 2, pads),
        "normal": normal["part"].y,
        "mean": normal["part"].batch_mean,
        "variance": normal["part"].batch_variance,
        "variance_of_batch": normal["whole"].batch_variance,
    }


@signature(x=numbers(4, 3), ids=np.array([0, 0, 2, 2], np.int64))
def segments(x: Any, ids: Any) -> Dict[str, Any]:
    """Sums over segments of int64, without and with a number of them."""
    at = tf.constant([3, 1, 1, 0], tf.int64)
    found = {}
    for name, sum_of in (
        ("mean", tf.sparse.segment_mean),
        ("sqrt_n", tf.sparse.segment_sqrt_n),
        ("sum", tf.sparse.segment_sum),
    ):
        found[name] = sum_of(x, at, ids)
        found[name + "_of_five"] = sum_of(x, at, ids, num_segments=5)
    return found


@signature(x=numbers(3, 3), ids=np.array([0, 0, 2, 2], np.int64))
def segments_back(x: Any, ids: Any) -> Dict[str, Any]:
    """What the gradients of sums over segments consist of."""
    given = dict(grad=x, indices=tf.constant([3, 1, 1, 0], tf.int64), segment_ids=ids)
    return {
        "mean": tf.raw_ops.SparseSegmentMeanGrad(output_dim0=6, **given),
        "sqrt_n": tf.raw_ops.SparseSegmentSqrtNGrad(output_dim0=6, **given),
    }


@signature(x=numbers(2, 5))
def best(x: Any) -> Dict[str, Any]:
    """TopKV2 with indices of int64 and int16."""
    wide = tf.raw_ops.TopKV2(input=x, k=2, index_type=tf.int64)
    narrow = tf.raw_ops.TopKV2(input=x, k=5, index_type=tf.int16)
    return {"values": wide.values, "wide": wide.indices, "narrow": narrow.indices}


@signature(seed=np.array([3, -4], np.int32), wide=np.array([2**40, 7], np.int64))
def stateless(seed: Any, wide: Any) -> Dict[str, Any]:
    """Numbers of a seed that are the same in every TensorFlow."""
    draws = tf.random.stateless_truncated_normal
    key, counter, alg = tf.raw_ops.StatelessRandomGetKeyCounterAlg(seed=wide)
    chosen = tf.raw_ops.StatelessRandomGetAlg()
    given = dict(shape=[6], key=key, counter=counter)
    return {
        "truncated": draws([4, 5], seed, 1.0, 2.0),
        "truncated_64": draws([7], wide, dtype=tf.float64),
        "of_keys": tf.raw_ops.StatelessRandomUniformV2(alg=alg, **given),
        "of_chosen": tf.raw_ops.StatelessRandomNormalV2(alg=chosen, **given),
    }


@signature(seed=np.array([3, -4], np.int32), x=np.arange(60, dtype=np.float32))
def other_numbers(seed: Any, x: Any) -> Dict[str, Any]:
    """Numbers that are others elsewhere; with properties."""
    rates = tf.constant([2.0, 40.0])
    return {
        "poisson": tf.random.stateless_poisson([500, 2], seed, rates, tf.int64),
        "shuffled": tf.random.experimental.stateless_shuffle(x, seed),
        "shuffled_rows": tf.random.experimental.stateless_shuffle(
            tf.reshape(tf.cast(x, tf.int32), [-1, 2]), seed
        ),
    }


class Rules(tf.Module):
    """Signatures with variables, each of its own, so that their order is free."""

    def __init__(self) -> None:
        super().__init__()
        self.states: List[Any] = []
        self.rows = tf.Variable(numbers(4, 3), trainable=False, name="rows")
        self.factor = tf.Variable(numbers(3), name="factor")

    def cases_of_variables(self, x: Any, which: Any) -> Dict[str, Any]:
        """Case, of branches that read a variable, and one that writes it."""

        def write() -> Any:
            return x + self.factor.assign_add(tf.ones([3]))

        branches = [lambda: x * self.factor, lambda: tf.sin(x) - self.factor, write]
        found = [tf.switch_case(which[i], branches) for i in range(3)]
        found.append(self.factor.read_value())
        return {"value_{}".format(i): value for i, value in enumerate(found)}

    def scatter(self, x: Any) -> Dict[str, Any]:
        """ResourceScatterNdSub, of one row twice."""
        self.rows.scatter_nd_sub([[0], [2], [0]], x)
        return {"rows": self.rows.read_value()}

    def generators(self) -> Dict[str, Any]:
        """The functions with ops that change a state."""
        raw, given = tf.raw_ops, dict(shape=[3, 4])
        return {
            "skip": self._draw(None),
            "stateful_normal": self._draw(raw.StatefulStandardNormalV2, **given),
            "stateful_truncated": self._draw(
                raw.StatefulTruncatedNormal, dtype=tf.float32, **given
            ),
            "stateful_uniform": self._draw(
                raw.StatefulUniform, dtype=tf.float32, **given
            ),
            "stateful_full": self._draw(
                raw.StatefulUniformFullInt, dtype=tf.uint64, **given
            ),
            "stateful_integers": self._draw(
                raw.StatefulUniformInt, minval=-5, maxval=100, **given
            ),
            "stateful_binomial": self._draw(
                raw.StatefulRandomBinomial,
                shape=[500, 2],
                counts=[5.0, 20.0],
                probs=[0.5, 0.25],
                dtype=tf.int32,
            ),
        }

    def _draw(self, op: Any, **given: Any) -> Any:
        state = tf.Variable(
            tf.random.Generator.from_seed(len(self.states) + 1, alg="philox").state,
            trainable=False,
            name="state_{}".format(len(self.states)),
        )
        self.states.append(state)
        # Of a binomial distribution, TensorFlow 2.21 has the one algorithm only.
        binomial = op is tf.raw_ops.StatefulRandomBinomial
        number = _PHILOX if binomial else _ANY
        # The first function gets it as an argument, the others have a constant.
        captured = tf.constant(number, tf.int64)

        def draw(delta: Any) -> Dict[str, Any]:
            """Skips some numbers, and draws others."""
            algorithm = captured if op is None else tf.constant(number, tf.int64)
            state_of = dict(resource=state.handle, algorithm=algorithm)
            tf.raw_ops.RngSkip(delta=delta, **state_of)
            found = {} if op is None else {"numbers": op(**state_of, **given)}
            return dict(found, state=state.read_value())

        return draw


def main() -> None:
    """Writes everything."""
    assert tf.__version__.startswith("2.21."), tf.__version__
    rules = Rules()
    for name, function in rules.generators().items():
        CASES[name] = function, {"delta": np.int64(5)}
    x = numbers(3, 3)
    which = np.array([1, 0, 2], np.int32)
    CASES["cases_of_variables"] = rules.cases_of_variables, {"x": x, "which": which}
    CASES["scatter"] = rules.scatter, {"x": x}
    functions = {}
    for name, (function, given) in CASES.items():
        specs = {}
        for key, value in given.items():
            value = np.asarray(value)
            shape = [None, *value.shape[1:]] if value.ndim else []
            if key in _STATIC:
                shape = list(value.shape)
            dtype = tf.string if value.dtype.kind == "U" else value.dtype
            specs[key] = tf.TensorSpec(shape, dtype, key)
        made = tf.function(function, autograph=False)
        functions[name] = made.get_concrete_function(**specs)
    shutil.rmtree(str(OUT), ignore_errors=True)
    tf.saved_model.save(rules, str(OUT / "module"), signatures=functions)
    np.savez_compressed(str(OUT / "recorded.npz"), **record(str(OUT / "module")))


def record(path: str) -> Dict[str, Any]:
    """What each signature gives, by ``signature|part|name``."""
    loaded, arrays = tf.saved_model.load(path), {}
    for name, (_, given) in CASES.items():
        tensors = {key: tf.constant(value) for key, value in given.items()}
        sources = {
            key: tensor
            for key, tensor in tensors.items()
            if tensor.dtype.is_floating and name not in CONSTANT
        }
        with tf.GradientTape() as tape:
            tape.watch(sources)
            found = loaded.signatures[name](**tensors)
            loss = tf221_replay.loss_of(found)
        gradients = tape.gradient(loss, sources) if sources else {}
        for part, values in (("in", tensors), ("out", found), ("grad", gradients)):
            for key, value in values.items():
                if value is not None:
                    array = tf.convert_to_tensor(value).numpy()
                    arrays["|".join((name, part, key))] = tf221_replay._storable(array)
    return arrays


if __name__ == "__main__":
    main()
