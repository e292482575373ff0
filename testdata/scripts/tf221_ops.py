"""Ops of TensorFlow 2.21 that TF 1.15 lacks; ``tf221_models.py`` writes them."""

from __future__ import annotations

import base64
from typing import Any, Dict, List

import numpy as np
import tensorflow as tf


def numbers(*shape: int) -> np.ndarray:
    """Reproducible numbers between -1 and 1."""
    size = int(np.prod(shape))
    values = np.sin(np.arange(1, size + 1, dtype=np.float64) * 12.9898) * 43758.5453
    return ((values % 2) - 1).astype(np.float32).reshape(shape)


@tf.custom_gradient
def _reversed(x: Any) -> Any:
    """The sine, with a gradient that is not its own."""

    def gradient(upstream: Any) -> Any:
        return -upstream * tf.cos(x) * 3.0

    return tf.sin(x), gradient


def _examples() -> List[bytes]:
    """Two examples in Base64, the second without what is optional."""
    made = []
    for i, ids in enumerate(([3, 4, 5], [])):
        example = tf.train.Example()
        feature = example.features.feature
        feature["numbers"].float_list.value.extend([1.0 + i, 2.0])
        feature["ids"].int64_list.value.extend(ids)
        if ids:
            feature["word"].bytes_list.value.append(b"a")
        made.append(base64.urlsafe_b64encode(example.SerializeToString()).rstrip(b"="))
    return made


class _Ops(tf.Module):
    """Ops that TF 1.15 lacks, or does not differentiate, each in a signature."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = tf.Variable(numbers(3, 3), name="matrix")
        self.rows = tf.Variable(numbers(4, 3), trainable=False, name="rows")
        self.kernel = tf.Variable(numbers(3, 3, 2, 4), name="kernel")
        self.dense = tf.lookup.experimental.DenseHashTable(
            tf.string, tf.int64, -1, "", "$", initial_num_buckets=8
        )
        self.dense.insert(["q", "r"], tf.constant([1, 2], tf.int64))
        self.vectors = tf.lookup.experimental.MutableHashTable(
            tf.string, tf.float32, [0.0, 0.5]
        )
        self.vectors.insert(["q"], [[3.0, 4.0]])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "serialized")])
    def parse(self, serialized: Any) -> Any:
        """ParseExampleV2, of a batch and of one; with ragged features."""
        features = {
            "ids": tf.io.RaggedFeature(tf.int64),
            "numbers": tf.io.FixedLenFeature([2], tf.float32),
            "word": tf.io.FixedLenFeature([], tf.string, "none"),
        }
        serialized = tf.io.decode_base64(serialized)
        found = tf.io.parse_example(serialized, features)
        features["ids"] = tf.io.VarLenFeature(tf.int64)
        one = tf.io.parse_single_example(serialized[0], features)
        return {
            "ids": found["ids"].to_tensor(),
            "splits": found["ids"].row_splits,
            "numbers": found["numbers"],
            "word": found["word"],
            "one": one["numbers"],
            "one_ids": one["ids"].values,
            "one_shape": one["ids"].dense_shape,
        }

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def own_gradient(self, x: Any) -> Any:
        """A gradient that is not that of what is computed; two of them."""
        once = _reversed(tf.matmul(x, self.matrix))
        return {"once": once, "twice": _reversed(tf.matmul(once, self.matrix))}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def grow(self, x: Any) -> Any:
        """An array that grows as it is written."""
        array = tf.TensorArray(tf.float32, 0, dynamic_size=True)
        for i in tf.range(3):
            array = array.write(i, tf.matmul(x, self.matrix) * tf.cast(i, tf.float32))
        return {"output": array.stack()}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def embed(self, x: Any) -> Any:
        """Segments of int64, with a sparse gradient."""
        ids = tf.SparseTensor([[0, 0], [0, 1], [2, 0]], tf.constant([0, 2, 1]), [3, 2])
        found = {
            combiner: tf.nn.safe_embedding_lookup_sparse(
                self.matrix, ids, combiner=combiner
            )
            for combiner in ("mean", "sqrtn", "sum")
        }
        return dict(found, product=tf.matmul(x, found["mean"]))

    @tf.function(input_signature=[tf.TensorSpec([2, 3], tf.float32, "x")])
    def scatter(self, x: Any) -> Any:
        """Slices of a variable that are written."""
        self.rows.scatter_nd_update([[0], [2]], x)
        self.rows.scatter_nd_add([[3], [3]], x)
        return {"output": tf.reduce_sum(self.rows, 0)}

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 6, 4], tf.float32, "x")])
    def groups(self, x: Any) -> Any:
        """A convolution in groups, which XLA compiles."""
        convolve = tf.function(
            lambda x, kernel: tf.nn.conv2d(x, kernel, 2, "SAME"), jit_compile=True
        )
        return {"output": convolve(x, self.kernel)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "words")])
    def tables(self, words: Any) -> Any:
        """A table with free places, and one of vectors."""
        return {
            "dense": self.dense.lookup(words),
            "vectors": self.vectors.lookup(words),
        }

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, "ids")])
    def count(self, ids: Any) -> Any:
        """Counts in ragged and sparse rows."""
        rows = tf.RaggedTensor.from_tensor(ids, padding=0)
        sparse = tf.sparse.from_dense(ids)
        weights = tf.sparse.map_values(tf.cast, sparse, tf.float32)
        size = dict(minlength=5, maxlength=5, axis=-1)
        return {
            "ragged": tf.math.bincount(rows, **size),
            "sparse": tf.math.bincount(sparse, weights=weights, **size),
            "there": tf.math.bincount(rows, binary_output=True, **size),
        }

    @tf.function(input_signature=[tf.TensorSpec([2], tf.int32, "seed")])
    def draw(self, seed: Any) -> Any:
        """Seeds from a seed, and numbers from these."""
        seeds = tf.random.split(seed, 3)
        return {
            "seeds": seeds,
            "folded": tf.random.fold_in(seed, 5),
            "numbers": tf.random.stateless_normal([5], seeds[2]),
        }


def module_ops(path: str) -> Dict[str, Any]:
    """A tf.Module with a signature for each of some ops."""
    module = _Ops()
    names = (
        "count", "draw", "embed", "groups", "grow", "own_gradient", "parse", "scatter",
        "tables",
    )  # fmt: skip
    signatures = {name: getattr(module, name) for name in names}
    tf.saved_model.save(module, path, signatures=signatures)
    given: Dict[str, Any] = {
        "count": {"ids": np.array([[1, 4, 0], [1, 1, 9]], np.int32)},
        "draw": {"seed": np.array([3, -4], np.int32)},
        "groups": {"x": numbers(2, 6, 6, 4)},
        "parse": {"serialized": np.array([e.decode() for e in _examples()])},
        "tables": {"words": np.array(["q", "x", "r"])},
    }
    return {
        "signature:" + name: given.get(name, {"x": numbers(2, 3)}) for name in names
    }


class _Defaults(tf.Module):
    """Functions with default values of every sort."""

    @tf.function
    def __call__(
        self,
        x: Any,
        scale: Any = tf.constant([[1.0, 2.0, 0.5]]),  # noqa: B008
        shift: Any = np.array([1, -2, 3], np.int64),  # noqa: B008
        half: Any = np.array(0.5, np.float16),  # noqa: B008
        flag: Any = tf.constant(True),  # noqa: B008
        name: Any = tf.constant(["a", "b", "c"]),  # noqa: B008
        steps: int = 2,
    ) -> Any:
        x = x * scale + tf.cast(shift, tf.float32) * tf.cast(half, tf.float32)
        x = x + tf.cast(tf.strings.length(name), tf.float32)
        return tf.where(flag, x, -x) * float(steps)

    @tf.function
    def alone(self, x: Any = tf.constant(3.0), *, by: Any = np.arange(2.0)) -> Any:  # noqa: B008
        return x * tf.cast(by, tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None]), tf.TensorSpec([])])
    def signed(self, x: Any, scale: Any = tf.constant(2.0)) -> Any:  # noqa: B008
        return x * scale


def module_defaults(path: str) -> Dict[str, Any]:
    """Arguments whose default values are tensors and arrays."""
    module = _Defaults()
    x = numbers(2, 3)
    module(tf.constant(x))
    module.alone()
    module.signed(tf.constant([1.0]))
    tf.saved_model.save(module, path, signatures=module.signed)
    return {
        "call": x,
        "signature:serving_default": {
            "x": np.array([1.0, 2.0], np.float32),
            "scale": np.float32(4.0),
        },
    }


def tf1_saved_model(path: str) -> Dict[str, Any]:
    """A TF1 SavedModel, with ops that TF 1.15 does not have, and a table."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2, 3], name="x")
        words = v1.placeholder(tf.string, [None], name="words")
        kernel = v1.get_variable("a_kernel", initializer=numbers(3, 2))
        scale = v1.get_variable("b_scale", initializer=numbers(2))
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["a", "b"], [1.0, -2.0]), 0.5
        )
        product = tf.linalg.matmul(x, tf.tile(kernel[None], [tf.shape(x)[0], 1, 1]))
        product = tf.nn.gelu(product) * scale
        factor = table.lookup(words)[:, None, None]
        there = tf.cast(tf.equal(words, "a"), tf.int32)
        counts = tf.math.bincount(there[None], axis=-1)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.saved_model.simple_save(
            session,
            path,
            {"x": x, "words": words},
            {"product": product * factor, "counts": counts},
            legacy_init_op=v1.tables_initializer(),
        )
    given = {"x": numbers(3, 2, 3), "words": np.array(["a", "?", "b"])}
    return {"signature:serving_default": given}
