"""Test modules about signatures: kinds of inputs and outputs, names, variants."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from define import Call, Definition, array, texts


def sparse_ragged() -> None:
    """Composite inputs and outputs, and names that no identifier can be."""
    kernel = tf.get_variable("kernel", [4, 3])
    sparse = tf.sparse_placeholder(tf.float32, name="sparse")
    hub.add_signature(
        inputs={"features": sparse},
        outputs={
            "default": tf.sparse.matmul(sparse, kernel),
            "doubled": tf.SparseTensor(
                sparse.indices, sparse.values * 2.0, sparse.dense_shape
            ),
        },
    )

    rows = tf.get_variable("rows", [6, 3])
    ids = tf.sparse_placeholder(tf.int64, [None, None], name="ids")
    hub.add_signature(
        "sparse_ids",
        inputs=ids,
        outputs=tf.nn.embedding_lookup_sparse(rows, ids, None, combiner="sum"),
    )
    words = tf.sparse_placeholder(tf.string, name="words")
    hub.add_signature(
        "sparse_strings",
        inputs={"words": words},
        outputs={
            "upper": tf.SparseTensor(
                words.indices,
                tf.strings.regex_replace(words.values, "a", "A"),
                words.dense_shape,
            )
        },
    )

    scale = tf.get_variable("scale", [2])
    ragged = tf.ragged.placeholder(tf.float32, 1, name="ragged")
    hub.add_signature(
        "ragged",
        inputs=ragged,
        outputs={
            "default": tf.reduce_sum(ragged, axis=1) * scale[0],
            "shifted": ragged.with_flat_values(tf.sin(ragged.flat_values) + scale[1]),
        },
    )
    deep = tf.ragged.placeholder(tf.float32, 2, [2], name="deep")
    hub.add_signature(
        "ragged_deep",
        inputs={"rows": deep},
        outputs=deep.with_flat_values(deep.flat_values * scale),
    )

    one = tf.placeholder(tf.float32, [None], name="one")
    two = tf.placeholder(tf.float32, [None], name="two")
    three = tf.placeholder(tf.float32, [None], name="three")
    hub.add_signature(
        "weird-name",
        inputs={"weird-name/1": one, "class": two, "0start": three},
        outputs={
            "weird-name/1": one * scale[0] + two,
            "class": tf.concat([two, three], 0),
            "0 a.b": three - one,
        },
    )
    hub.add_signature("class", inputs={"lambda": one}, outputs={"def": tf.exp(one)})
    hub.add_signature("with:colon", inputs={"x": two}, outputs=tf.sin(two) * scale)


def _sparse(rows: Any, shape: Tuple[int, int], dtype: Any) -> tf.SparseTensorValue:
    indices = np.array([row[:2] for row in rows], np.int64)
    values = np.array([row[2] for row in rows], dtype)
    return tf.SparseTensorValue(indices, values, np.array(shape, np.int64))


def _weird_inputs(batch: int) -> Dict[str, np.ndarray]:
    return {
        name: array((batch,), batch + index)
        for index, name in enumerate(["weird-name/1", "class", "0start"])
    }


def optional_inputs() -> None:
    """Inputs with a default: a scalar, a vector, and a variable's row."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    kernel = tf.get_variable("kernel", [3, 3])
    scale = tf.placeholder_with_default(tf.constant(1.5), [], name="scale")
    bias = tf.placeholder_with_default(
        tf.constant([0.5, -1.0, 2.0]), [None], name="bias"
    )
    hub.add_signature(
        inputs={"x": x, "scale": scale, "bias": bias},
        outputs=tf.matmul(x, kernel) * scale + bias,
    )
    start = tf.placeholder_with_default(
        tf.expand_dims(kernel[0], 0), [None, 3], name="start"
    )
    hub.add_signature(
        "generate", inputs={"start": start}, outputs=tf.tanh(tf.matmul(start, kernel))
    )


def variants3(kind: str) -> None:
    """Three graphs, on different subsets of the variables.

    Args:
      kind: ``"default"``, which defines all of them, ``"plain"`` or ``"norm"``.
    """
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    training = kind != "default"
    regularizer = tf.contrib.layers.l2_regularizer(0.05) if training else None
    hidden = tf.layers.dense(x, 3, kernel_regularizer=regularizer, name="dense")
    normal = None
    if kind != "plain":
        normal = tf.layers.batch_normalization(
            hidden, momentum=0.8, training=kind == "norm", name="norm"
        )
    output = tf.tanh(hidden if normal is None else normal)
    hub.add_signature(inputs={"x": x}, outputs={"default": output, "hidden": hidden})
    if kind != "norm":
        auxiliary = tf.layers.dense(output, 2, name="auxiliary")
        hub.add_signature("auxiliary", inputs={"x": x}, outputs=auxiliary)
    if kind == "norm":
        moments = tf.nn.moments(hidden, axes=[0])
        hub.add_signature(
            "moments", inputs={"x": x}, outputs=dict(zip(("mean", "variance"), moments))
        )
    if kind == "default":
        offset = tf.get_variable("offset", [3])
        hub.add_signature("served", inputs=x, outputs=output + offset)


def _variants3_calls() -> Tuple[Call, ...]:
    train, norm = ("train",), ("batch_norm", "train")
    one, three = {"x": array((1, 4), 1)}, {"x": array((3, 4), 3)}
    return (
        Call(one),
        Call(three),
        Call(three, "auxiliary"),
        Call({"default": array((2, 4), 2)}, "served"),
        Call(one, tags=train),
        Call(three, tags=train),
        Call(three, "auxiliary", tags=train),
        Call({"x": array((2, 4), 2)}, tags=norm),
        Call(three, tags=norm),
        Call(three, "moments", tags=norm, gradient_of="variance"),
    )


def multi_input() -> None:
    """Many inputs of different dtypes and no default output."""
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    image = tf.placeholder(tf.uint8, [None, 2], name="image")
    half = tf.placeholder(tf.float16, [None], name="half")
    ids = tf.placeholder(tf.int64, [None], name="ids")
    flags = tf.placeholder(tf.bool, [None], name="flags")
    text = tf.placeholder(tf.string, [None], name="text")
    count = tf.placeholder(tf.int32, [], name="count")
    weight = tf.placeholder(tf.float64, [], name="weight")
    phase = tf.placeholder(tf.complex64, [None], name="phase")
    kernel = tf.get_variable("kernel", [2, 2])
    mixed = tf.matmul(x + tf.cast(image, tf.float32) / 255.0, kernel)
    mixed *= tf.cast(weight, tf.float32)
    mixed += tf.expand_dims(tf.cast(half, tf.float32), 1)
    hub.add_signature(
        inputs={
            "x": x,
            "image": image,
            "half": half,
            "ids": ids,
            "flags": flags,
            "text": text,
            "count": count,
            "weight": weight,
            "phase": phase,
        },
        outputs={
            "mixed": mixed,
            "chosen": tf.where(flags, ids, ids * tf.cast(count, tf.int64)),
            "labelled": tf.strings.join([text, tf.as_string(ids)], ":"),
            "weight": weight * 2.0,
            "turned": phase * 1j,
            "none": tf.logical_not(flags),
        },
    )
    hub.add_signature(
        "single", inputs={"x": x}, outputs={"score": tf.matmul(x, kernel)}
    )
    hub.add_signature(
        "scalars",
        inputs={"count": count, "weight": weight},
        outputs={"repeated": tf.fill([count], weight), "total": tf.exp(weight)},
    )


def _multi_inputs(batch: int) -> Dict[str, Any]:
    return {
        "x": array((batch, 2), batch),
        "image": np.array([[0, 255], [3, 128], [77, 1]], np.uint8)[:batch],
        "half": np.array([0.5, -1.25, 2.0], np.float16)[:batch],
        "ids": np.array([2**40, -1, 7], np.int64)[:batch],
        "flags": np.array([True, False, True])[:batch],
        "text": texts("one", "", "gr\u00f6\u00dfe")[:batch],
        "count": np.int32(batch + 2),
        "weight": np.float64(0.75),
        "phase": np.array([1 + 2j, -1j, 0.5], np.complex64)[:batch],
    }


_SPARSE_ONE = _sparse([(0, 1, 0.5), (0, 3, -1.0)], (1, 4), np.float32)
_SPARSE_THREE = _sparse([(0, 0, 2.0), (2, 1, 0.25), (2, 2, -3.0)], (3, 4), np.float32)
_IDS_ONE = _sparse([(0, 0, 5), (0, 1, 2)], (1, 2), np.int64)
_IDS_THREE = _sparse([(0, 0, 1), (1, 0, 0), (2, 0, 4), (2, 1, 4)], (3, 2), np.int64)
_WORDS = _sparse([(0, 1, b"banana"), (2, 0, b"\xffa")], (3, 2), object)

DEFINITIONS: Tuple[Definition, ...] = (
    Definition(
        name="sparse_ragged",
        why=(
            "Sparse and ragged inputs and outputs; names of inputs, outputs and "
            "signatures that are not identifiers"
        ),
        build=sparse_ragged,
        calls=(
            Call({"features": _SPARSE_ONE}),
            Call({"features": _SPARSE_THREE}),
            Call({"default": _IDS_ONE}, "sparse_ids"),
            Call({"default": _IDS_THREE}, "sparse_ids"),
            Call({"words": _WORDS}, "sparse_strings", gradient_of=None),
            Call(
                {"default": tf.ragged.constant_value([[1.0, 2.0]], dtype=np.float32)},
                "ragged",
            ),
            Call(
                {
                    "default": tf.ragged.constant_value(
                        [[1.0, 2.0, -0.5], [], [4.0]], dtype=np.float32
                    )
                },
                "ragged",
            ),
            Call(
                {
                    "rows": tf.ragged.constant_value(
                        [[[[1, 2], [3, 4]], []], [[[5, 6]]], []],
                        dtype=np.float32,
                        inner_shape=(2,),
                    )
                },
                "ragged_deep",
                gradient_of=None,
            ),
            Call(_weird_inputs(1), "weird-name", gradient_of="weird-name/1"),
            Call(_weird_inputs(3), "weird-name", gradient_of="weird-name/1"),
            Call({"lambda": array((2,), 2)}, "class", gradient_of="def"),
            Call({"x": array((2,), 3)}, "with:colon"),
        ),
    ),
    Definition(
        name="optional_inputs",
        why=(
            "Inputs with a default value, left out in some calls; hub.Module demands "
            "all inputs, so those calls were recorded by a session on the same graph"
        ),
        build=optional_inputs,
        calls=(
            Call(
                {
                    "x": array((1, 3), 1),
                    "scale": np.float32(0.5),
                    "bias": array((3,), 5),
                }
            ),
            Call(
                {
                    "x": array((3, 3), 3),
                    "scale": np.float32(-2.0),
                    "bias": array((1,), 6),
                }
            ),
            Call({"x": array((3, 3), 3)}),
            Call({"x": array((1, 3), 1), "scale": np.float32(4.0)}),
            Call({"start": array((2, 3), 2)}, "generate"),
            Call({}, "generate"),
        ),
    ),
    Definition(
        name="variants3",
        why=(
            "Three variants that use different variables, and signatures that only one "
            "or two of them have"
        ),
        build=variants3,
        variants=(
            ((), {"kind": "default"}),
            (("train",), {"kind": "plain"}),
            (("train", "batch_norm"), {"kind": "norm"}),
        ),
        calls=_variants3_calls(),
    ),
    Definition(
        name="multi_input",
        why=(
            "Nine inputs of nine dtypes, some of them scalars; signatures without an "
            "output named default"
        ),
        build=multi_input,
        calls=(
            Call(_multi_inputs(1), gradient_of="mixed"),
            Call(_multi_inputs(3), gradient_of="mixed"),
            Call({"x": array((3, 2), 3)}, "single", gradient_of="score"),
            Call(
                {"count": np.int32(3), "weight": np.float64(0.5)},
                "scalars",
                gradient_of="total",
            ),
        ),
    ),
)
