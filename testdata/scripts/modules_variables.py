"""Test modules about variables: kinds, dtypes, who uses them."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from define import Call, Definition, array


def _update(op: Any) -> None:
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, op)


def ref_variables() -> None:
    """Reference variables: read, gathered from, assigned and scattered to."""
    with tf.variable_scope("", use_resource=False):
        x = tf.placeholder(tf.float32, [None, 4], name="x")
        ids = tf.placeholder(tf.int32, [None], name="ids")
        kernel = tf.get_variable("dense/kernel", [4, 3])
        bias = tf.Variable(tf.zeros([3]), use_resource=False, name="dense/bias")
        rows = tf.get_variable("rows", [5, 3])
        mean = tf.get_variable("moving_mean", [3], trainable=False)
        steps = tf.get_variable(
            "steps", [], tf.int64, tf.constant_initializer(7), trainable=False
        )
        counts = tf.get_variable(
            "counts", [5], tf.int32, tf.constant_initializer(2), trainable=False
        )
        last = tf.get_variable(
            "last_batch", [], tf.int32, tf.constant_initializer(-1), trainable=False
        )
    product = tf.matmul(x, kernel)
    output = product + bias - mean + tf.gather(rows, ids)
    _update(tf.assign_sub(mean, 0.1 * (mean - tf.reduce_mean(product, axis=0))))
    _update(tf.assign_add(steps, 1))
    _update(tf.scatter_add(counts, ids, tf.ones_like(ids)))
    _update(tf.assign(last, tf.shape(x)[0]))
    hub.add_signature(inputs={"x": x, "ids": ids}, outputs=output)
    hub.add_signature(
        "statistics",
        inputs={"x": x, "ids": ids},
        outputs={
            "steps": tf.identity(steps),
            "counts": tf.gather(counts, ids),
            "distance": tf.reduce_sum(tf.square(product - mean), axis=1),
        },
    )


def _ref_inputs(batch: int) -> Dict[str, np.ndarray]:
    ids = np.array([3, 0, 3], np.int32)[:batch]
    return {"x": array((batch, 4), batch), "ids": ids}


def ref_partitioned() -> None:
    """Reference variables in parts of unequal size."""
    with tf.variable_scope("", use_resource=False):
        x = tf.placeholder(tf.float32, [None, 5], name="x")
        ids = tf.placeholder(tf.int64, [None], name="ids")
        with tf.variable_scope("dense", partitioner=tf.fixed_size_partitioner(2)):
            kernel = tf.get_variable("kernel", [5, 3])
        rows = tf.get_variable("rows", [7, 3], partitioner=tf.fixed_size_partitioner(3))
        bias = tf.get_variable("bias", [3])
        alone = tf.get_variable(
            "alone", [2, 3], partitioner=tf.fixed_size_partitioner(1)
        )
    looked_up = tf.nn.embedding_lookup(rows, ids, partition_strategy="div")
    output = tf.matmul(x, tf.convert_to_tensor(kernel)) + bias + looked_up
    output += tf.reduce_sum(tf.convert_to_tensor(alone), axis=0)
    hub.add_signature(inputs={"x": x, "ids": ids}, outputs=output)


def _partitioned_inputs(batch: int) -> Dict[str, np.ndarray]:
    ids = np.array([6, 0, 3], np.int64)[:batch]
    return {"x": array((batch, 5), batch), "ids": ids}


def no_variables() -> None:
    """Pure functions of their inputs."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    hub.add_signature(inputs=x, outputs=tf.sqrt(tf.abs(x)) + tf.sin(x))
    first = tf.placeholder(tf.string, [None], name="first")
    second = tf.placeholder(tf.string, [None], name="second")
    joined = tf.strings.join([first, second], separator=" ")
    hub.add_signature(
        "join",
        inputs={"first": first, "second": second},
        outputs={"default": joined, "length": tf.strings.length(joined)},
    )


def _dtype_values() -> Dict[str, Any]:
    """One value for each dtype, and for some more shapes."""
    values: Dict[str, Any] = {}
    for dtype in (tf.float16, tf.float32, tf.float64, tf.bfloat16):
        # Representable in all of them.
        values[dtype.name] = np.array([[1.5, -0.25], [3.0, 0.0625]])
    for dtype in (tf.int8, tf.int16, tf.int32, tf.int64):
        limits = np.iinfo(dtype.as_numpy_dtype)
        values[dtype.name] = np.array([limits.min, -1, limits.max])
    for dtype in (tf.uint8, tf.uint16, tf.uint32, tf.uint64):
        limits = np.iinfo(dtype.as_numpy_dtype)
        values[dtype.name] = np.array([0, 3, limits.max], dtype.as_numpy_dtype)
    for dtype in (tf.complex64, tf.complex128):
        values[dtype.name] = np.array([1 - 2j, -0.5j])
    for dtype in (tf.qint8, tf.quint8, tf.qint16, tf.quint16, tf.qint32):
        values[dtype.name] = np.array([1, 2, 77])
    values["bool"] = np.array([True, False, True])
    values["string"] = np.array(
        [b"", b"plain", "gr\u00f6\u00dfe".encode(), b"\x00\xff\xfe", b"x" * 300], object
    )
    values["scalar"] = np.float32(-2.5)
    values["string_scalar"] = np.array(b"one", object)
    values["rank4"] = array((2, 1, 3, 2), 4)
    values["empty"] = np.zeros([0, 3], np.float32)
    values["empty_string"] = np.zeros([2, 0], object)
    return values


def all_dtypes() -> None:
    """Variables of every dtype, and a signature that returns them."""
    outputs = {}
    for name, value in _dtype_values().items():
        kinds = {"string_scalar": "string", "empty_string": "string"}
        kind = kinds.get(name, name)
        dtype = (
            tf.float32 if kind in ("scalar", "rank4", "empty") else tf.as_dtype(kind)
        )
        variable = tf.Variable(
            tf.constant(value.astype(dtype.as_numpy_dtype), dtype, np.shape(value))
            if dtype != tf.string
            else tf.constant(value.tolist(), dtype, np.shape(value)),
            trainable=dtype in (tf.float32, tf.float64, tf.float16),
            name="of/" + name,
        )
        outputs[name] = variable.read_value()
    hub.add_signature(outputs=outputs)
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    hub.add_signature("product", inputs=x, outputs=tf.matmul(x, outputs["float64"]))


def passthrough() -> None:
    """Outputs that no op computes."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    kernel = tf.get_variable("kernel", [3, 2])
    tf.get_variable("dead", [2, 2])
    tf.get_variable("dead_parts", [4, 2], partitioner=tf.fixed_size_partitioner(2))
    product = tf.matmul(x, kernel)
    hub.add_signature(
        inputs={"x": x},
        outputs={
            "default": product,
            "product": product,
            "x": x,
            "x_again": x,
            "kernel": kernel.read_value(),
            "constant": tf.constant([1.5, -2.5]),
        },
    )
    hub.add_signature("identity", inputs=x, outputs=x)
    hub.add_signature("kernel", outputs=kernel.value())


def loss_graph() -> None:
    """Regularization losses of several kinds."""
    layers = tf.contrib.layers
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    hidden = layers.fully_connected(
        x,
        5,
        weights_regularizer=layers.l2_regularizer(0.1),
        biases_regularizer=layers.l1_regularizer(0.2),
        scope="first",
    )
    kernel = tf.get_variable(
        "second/weights",
        [5, 3],
        partitioner=tf.fixed_size_partitioner(2),
        regularizer=layers.l2_regularizer(0.3),
    )
    output = tf.matmul(hidden, tf.convert_to_tensor(kernel))
    gain = tf.get_variable("gain", [3])
    unused = tf.get_variable("used_by_a_loss_only", [2])
    with tf.name_scope("penalty"):
        whole = tf.convert_to_tensor(kernel)
        gram = tf.matmul(whole, whole, transpose_a=True)
        penalty = tf.reduce_mean(tf.square(gram - tf.eye(3))) + tf.norm(gain)
    tf.losses.add_loss(penalty, tf.GraphKeys.REGULARIZATION_LOSSES)
    tf.losses.add_loss(tf.abs(unused[0]), tf.GraphKeys.REGULARIZATION_LOSSES)
    tf.losses.add_loss(tf.constant(0.125), tf.GraphKeys.REGULARIZATION_LOSSES)
    hub.add_signature(inputs=x, outputs=output * gain)


DEFINITIONS: Tuple[Definition, ...] = (
    Definition(
        name="ref_variables",
        why=(
            "Reference variables, as TensorFlow 1 had them by default: matmul, gather, "
            "assign, assign_add, assign_sub and scatter_add"
        ),
        build=ref_variables,
        calls=(
            Call(_ref_inputs(1)),
            Call(_ref_inputs(3)),
            Call(_ref_inputs(3), "statistics", gradient_of="distance"),
        ),
    ),
    Definition(
        name="ref_partitioned",
        why=(
            "Reference variables that are partitioned, also into parts of unequal size "
            "and into one; tensorflow_hub 0.12 accepts partitions by rows only"
        ),
        build=ref_partitioned,
        calls=(Call(_partitioned_inputs(1)), Call(_partitioned_inputs(3))),
    ),
    Definition(
        name="no_variables",
        why="No variables, and so no checkpoint; two signatures",
        build=no_variables,
        calls=(
            Call({"default": array((1, 3), 1)}),
            Call({"default": array((3, 3), 3)}),
            Call(
                {
                    "first": np.array([b"a", b"", b"c"], object),
                    "second": np.array([b"1", b"22", b"\xff"], object),
                },
                "join",
                gradient_of=None,
            ),
        ),
    ),
    Definition(
        name="all_dtypes",
        why=(
            "A variable of each dtype that a checkpoint of TensorFlow 1.15 holds; "
            "scalars, empty shapes, rank 4, any bytes in strings"
        ),
        build=all_dtypes,
        keep_values=True,
        calls=(
            Call({}, gradient_of="float32"),
            Call({}, gradient_of="rank4"),
            Call({"default": array((1, 2), 1, np.float64)}, "product"),
            Call({"default": array((3, 2), 3, np.float64)}, "product"),
        ),
    ),
    Definition(
        name="passthrough",
        why=(
            "Outputs that are an input, one tensor under two names, a variable or a "
            "constant; variables that nothing uses"
        ),
        build=passthrough,
        calls=(
            Call({"x": array((1, 3), 1)}),
            Call({"x": array((3, 3), 3)}),
            Call({"x": array((3, 3), 3)}, gradient_of="x_again"),
            Call({"default": array((2, 3), 2)}, "identity"),
            Call({}, "kernel"),
        ),
    ),
    Definition(
        name="loss_graph",
        why=(
            "Regularization losses by tf.contrib.layers, of each part of a partitioned "
            "variable, of several ops, of a variable used nowhere else, and constant"
        ),
        build=loss_graph,
        calls=(
            Call({"default": array((1, 4), 1)}),
            Call({"default": array((3, 4), 3)}),
        ),
    ),
)
