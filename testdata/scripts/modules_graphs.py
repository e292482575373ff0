"""Test modules about graphs: layers, control flow, functions, constraints."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from define import Call, Definition, array, texts
from modules_text import VOCABULARY
from tensorflow.python.framework import function

_TRAIN_OR_NOT = (((), {"is_training": False}), (("train",), {"is_training": True}))


def image_bn(is_training: bool) -> None:
    """A small convolutional net, with the signatures of image modules."""
    regularizer = tf.contrib.layers.l2_regularizer(0.01)
    images = tf.placeholder(tf.float32, [None, 8, 8, 3], name="images")
    endpoints: Dict[str, Any] = {}

    def block(values: tf.Tensor, width: int, strides: int, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            values = tf.layers.conv2d(
                values,
                width,
                3,
                strides=strides,
                padding="same",
                use_bias=False,
                kernel_regularizer=regularizer,
                name="conv",
            )
            endpoints["net/{}/conv".format(name)] = values
            values = tf.layers.batch_normalization(
                values,
                momentum=0.9,
                epsilon=0.001,
                fused=True,
                training=is_training,
                name="batch_norm",
            )
            return tf.nn.relu(values)

    with tf.variable_scope("net"):
        net = block(images, 4, 1, "block1")
        net = block(net, 6, 2, "block2")
        features = tf.reduce_mean(net, axis=[1, 2], name="pooled")
        logits = tf.layers.dense(
            features, 5, kernel_regularizer=regularizer, name="logits"
        )
    hub.add_signature(inputs=images, outputs=features)
    hub.add_signature(
        "image_feature_vector",
        inputs={"images": images},
        outputs=dict(endpoints, default=features),
    )
    hub.add_signature(
        "image_classification",
        inputs={"images": images},
        outputs=dict(endpoints, default=logits, probabilities=tf.nn.softmax(logits)),
    )
    info = hub.ImageModuleInfo()
    info.default_image_size.height = 8
    info.default_image_size.width = 8
    hub.attach_image_module_info(info)


def _image_calls() -> Tuple[Call, ...]:
    calls = []
    for tags in ((), ("train",)):
        for batch in (1, 3):
            images = array((batch, 8, 8, 3), batch)
            calls.append(Call({"default": images}, tags=tags))
        for signature in ("image_feature_vector", "image_classification"):
            calls.append(Call({"images": array((3, 8, 8, 3), 3)}, signature, tags))
    return tuple(calls)


def nested(is_training: bool) -> None:
    """Two other modules, one applied twice, and a layer on top."""
    text = tf.placeholder(tf.string, [None], name="text")
    images = tf.placeholder(tf.float32, [None, 8, 8, 3], name="images")
    embed = hub.Module("modules/text_embedding", trainable=True, name="text_embedding")
    see = hub.Module(
        "modules/image_bn",
        trainable=True,
        name="image_bn",
        tags={"train"} if is_training else None,
    )
    words = embed(text)
    both = tf.concat([words, see(images)], axis=1)
    output = tf.layers.dense(both, 3, name="top")
    hub.add_signature(inputs={"text": text, "images": images}, outputs=output)
    counted = embed({"sentences": text}, signature="with_counts", as_dict=True)
    hub.add_signature(
        "text",
        inputs={"text": text},
        outputs={"default": words + counted["default"], "words": counted["words"]},
    )


def _nested_calls() -> Tuple[Call, ...]:
    sentences = texts("the one", "is it unheard", "of")
    calls = []
    for tags in ((), ("train",)):
        for batch in (1, 3):
            images = array((batch, 8, 8, 3), batch)
            calls.append(Call({"text": sentences[:batch], "images": images}, tags=tags))
        calls.append(Call({"text": sentences}, "text", tags))
    return tuple(calls)


def while_loop() -> None:
    """A recurrent net, a loop with a TensorArray, and no loop at all."""
    sequence = tf.placeholder(tf.float32, [None, None, 2], name="sequence")
    lengths = tf.placeholder(tf.int32, [None], name="lengths")
    cell = tf.nn.rnn_cell.LSTMCell(3, name="cell")
    outputs, state = tf.nn.dynamic_rnn(cell, sequence, lengths, dtype=tf.float32)
    hub.add_signature(
        inputs={"sequence": sequence, "lengths": lengths},
        outputs={"default": state.h, "outputs": outputs, "memory": state.c},
    )

    x = tf.placeholder(tf.float32, [None, 3], name="x")
    steps = tf.placeholder(tf.int32, [], name="steps")
    kernel = tf.get_variable("kernel", [3, 3])
    bias = tf.get_variable("bias", [3])

    def body(step: Any, value: Any, written: Any) -> Any:
        value = tf.tanh(tf.matmul(value, kernel) + bias)
        return step + 1, value, written.write(step, value)

    _, last, written = tf.while_loop(
        lambda step, *_: step < steps,
        body,
        [0, x, tf.TensorArray(tf.float32, steps, element_shape=[None, 3])],
    )
    hub.add_signature(
        "power",
        inputs={"x": x, "steps": steps},
        outputs={"default": last, "all": written.stack()},
    )
    hub.add_signature(
        "plain", inputs=x, outputs=tf.nn.relu(tf.matmul(x, kernel) + bias)
    )


def _sequences(batch: int, length: int) -> Dict[str, np.ndarray]:
    lengths = np.array([length, 1, length - 1], np.int32)[:batch]
    return {"sequence": array((batch, length, 2), batch), "lengths": lengths}


def cond_bn() -> None:
    """Batch norm and a conditional that an input switches."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    is_training = tf.placeholder_with_default(False, [], name="is_training")
    hidden = tf.layers.dense(x, 4, use_bias=False, name="dense")
    hidden = tf.layers.batch_normalization(
        hidden, momentum=0.9, training=is_training, name="norm"
    )
    gain = tf.get_variable("gain", [4])
    other = tf.get_variable("other", [4])
    output = tf.cond(
        is_training,
        lambda: tf.nn.relu(hidden) * gain,
        lambda: tf.tanh(hidden) * other + tf.square(hidden),
    )
    inputs = {"x": x, "is_training": is_training}
    hub.add_signature(inputs=inputs, outputs=output)

    size = tf.reduce_mean(x)
    chosen = tf.cond(
        size > 1.0,
        lambda: x * gain[0],
        lambda: tf.cond(size < -1.0, lambda: tf.exp(x) * gain[1], lambda: x * x),
    )
    hub.add_signature("by_size", inputs=x, outputs=chosen)


def function_library() -> None:
    """Calls of functions: Defun, also with a gradient of its own, and tf.function."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    kernel = tf.get_variable("kernel", [3, 3])

    @function.Defun(tf.float32, tf.float32, func_name="product_plus_one")
    def product(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        return tf.matmul(left, right) + 1.0

    @function.Defun(tf.float32, tf.float32, func_name="clipped_gradient")
    def clipped(value: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(upstream * tf.cos(value), -0.25, 0.25)

    @function.Defun(tf.float32, func_name="sine", grad_func=clipped)
    def sine(value: tf.Tensor) -> tf.Tensor:
        return tf.sin(value)

    @function.Defun(tf.float32, tf.float32, func_name="outer")
    def outer(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        return product(left, right) * 2.0

    hub.add_signature(inputs=x, outputs=outer(x, kernel))

    @function.Defun(tf.float32, func_name="around_sine")
    def around_sine(value: tf.Tensor) -> tf.Tensor:
        return sine(value) * 3.0

    hub.add_signature("own_gradient", inputs=x, outputs=sine(tf.matmul(x, kernel)))
    hub.add_signature(
        "inner_own_gradient", inputs=x, outputs=around_sine(tf.matmul(x, kernel))
    )

    offset = tf.get_variable("offset", [3])

    @tf.function
    def scaled(value: tf.Tensor) -> tf.Tensor:
        return tf.sin(value) * offset

    hub.add_signature("tf_function", inputs=x, outputs=scaled(x))

    # Once exported, what follows has no gradient in TensorFlow 1.15, or a wrong one.
    @tf.function
    def shifted(value: tf.Tensor) -> tf.Tensor:
        total = value + offset
        if tf.reduce_sum(total) > 0.0:
            total = total * 2.0
        return total

    @tf.contrib.eager.defun
    def twice(value: tf.Tensor) -> tf.Tensor:
        return shifted(shifted(value))

    hub.add_signature("nested_functions", inputs=x, outputs=twice(x))

    @tf.custom_gradient
    def rounded(value: tf.Tensor) -> Any:
        return tf.round(value), lambda upstream: upstream

    hub.add_signature(
        "custom_gradient", inputs=x, outputs=rounded(tf.matmul(x, kernel) * 8.0)
    )
    # The same in TensorFlow 1.15 and, but for names, up to 1.13; the first has no
    # gradient once it is exported.
    hub.add_signature("swish", inputs=x, outputs=tf.nn.swish(tf.matmul(x, kernel)))

    @function.Defun(tf.float32, tf.float32, func_name="swish_gradient")
    def swish_gradient(value: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        gate = tf.sigmoid(value)
        return upstream * gate * (1.0 + value * (1.0 - gate))

    @function.Defun(
        tf.float32, func_name="old_swish", grad_func=swish_gradient, noinline=True
    )
    def old_swish(value: tf.Tensor) -> tf.Tensor:
        return value * tf.sigmoid(value)

    hub.add_signature("old_swish", inputs=x, outputs=old_swish(tf.matmul(x, kernel)))

    with tf.get_default_graph().gradient_override_map({"Floor": "Identity"}):
        steps = tf.floor(tf.matmul(x, kernel) * 8.0)
    hub.add_signature("straight_through", inputs=x, outputs=steps)


def colocation_devices() -> None:
    """Constraints on where ops and resources live."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    ids = tf.placeholder(tf.int64, [None], name="ids")
    with tf.device("/gpu:0"):
        kernel = tf.get_variable("kernel", [3, 4])
        hidden = tf.matmul(x, kernel)
    with tf.container("box"), tf.device("/job:localhost/replica:0/task:0/device:CPU:0"):
        bias = tf.get_variable("bias", [4])
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant([1, 2], tf.int64), tf.constant([0.5, -0.5])
            ),
            3.0,
        )
    with tf.colocate_with(kernel.handle.op):
        slot = tf.get_variable("slot", [4], trainable=False)
        hidden = hidden + bias
    with tf.colocate_with(x.op):
        scale = tf.reduce_max(tf.abs(x), axis=1, keepdims=True)
    with tf.colocate_with(hidden.op), tf.colocate_with(slot.handle.op):
        moved = slot.assign_sub(0.5 * (slot - tf.reduce_mean(hidden, axis=0)))
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moved)
    price = tf.expand_dims(table.lookup(ids), 1)
    output = (hidden - slot) * scale + price
    hub.add_signature(inputs={"x": x, "ids": ids}, outputs=output)


def train_ops(is_training: bool) -> None:
    """Ops with side effects, and update ops that wait for each other."""
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    steps = tf.get_variable(
        "steps", [], tf.int64, tf.constant_initializer(3), trainable=False
    )
    average = tf.get_variable("average", [3], trainable=False)
    hidden = tf.layers.dense(
        x, 3, kernel_regularizer=tf.contrib.layers.l1_regularizer(0.1), name="dense"
    )
    tf.summary.histogram("hidden", hidden)
    check = tf.Assert(tf.reduce_all(tf.is_finite(x)), [x], name="finite")
    with tf.control_dependencies([check]):
        hidden = tf.identity(hidden)
    hidden = tf.Print(hidden, [tf.shape(hidden)], "shape of hidden: ")
    hidden = hidden - average
    output = hidden
    if is_training:
        noise = tf.random.uniform(tf.shape(hidden), 0.9, 1.1, seed=7)
        output = tf.nn.dropout(hidden * noise, rate=0.25, seed=8)
        first = steps.assign_add(1, read_value=False)
        with tf.control_dependencies([first]):
            # Only right after the other: 1 / steps is a part of it.
            rate = 1.0 / tf.cast(steps.read_value(), tf.float32)
            step = rate * (average - tf.reduce_mean(x) * tf.ones([3]))
            second = average.assign_sub(step, read_value=False)
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, tf.group(second))
    hub.add_signature(inputs=x, outputs=output)
    hub.add_signature("certain", inputs=x, outputs={"default": hidden})


DEFINITIONS: Tuple[Definition, ...] = (
    Definition(
        name="image_bn",
        why=(
            "Fused batch norm with update ops and L2 losses, a variant for training, "
            "image signatures, endpoints with slashes, and an attached message"
        ),
        build=image_bn,
        variants=_TRAIN_OR_NOT,
        calls=_image_calls(),
    ),
    Definition(
        name="nested",
        why=(
            "Made of two other modules: their variables, table, asset, losses and "
            "updates, and the graphs they leave behind"
        ),
        build=nested,
        variants=_TRAIN_OR_NOT,
        files={"vocabulary/words.txt": VOCABULARY},
        modules=("text_embedding", "image_bn"),
        calls=_nested_calls(),
    ),
    Definition(
        name="while_loop",
        why=(
            "TensorFlow 1 control flow: dynamic_rnn, and while_loop with a "
            "TensorArray; one signature without any"
        ),
        build=while_loop,
        calls=(
            Call(_sequences(1, 4)),
            Call(_sequences(3, 5)),
            Call(_sequences(3, 5), gradient_of="outputs"),
            Call({"x": array((1, 3), 1), "steps": np.int32(4)}, "power"),
            Call(
                {"x": array((3, 3), 3), "steps": np.int32(2)},
                "power",
                gradient_of="all",
            ),
            Call({"default": array((3, 3), 3)}, "plain"),
        ),
    ),
    Definition(
        name="cond_bn",
        why=(
            "tf.cond, also nested, and batch norm, switched by an optional input; "
            "calls without it were recorded by a session on the same graph"
        ),
        build=cond_bn,
        calls=(
            Call({"x": array((1, 3), 1), "is_training": np.bool_(False)}),
            Call({"x": array((3, 3), 3), "is_training": np.bool_(True)}),
            Call({"x": array((3, 3), 3)}),
            Call({"default": array((1, 3), 1)}, "by_size"),
            Call({"default": array((3, 3), 3) + 3}, "by_size"),
            Call({"default": array((3, 3), 3) - 3}, "by_size"),
        ),
    ),
    Definition(
        name="function_library",
        why=(
            "Calls of Defuns, nested and with a gradient of their own, of tf.function, "
            "of functions with a branch in functions, custom gradients and swish; "
            "the last three have no right gradient in TensorFlow 1.15 once they are "
            "exported"
        ),
        build=function_library,
        calls=(
            Call({"default": array((1, 3), 1)}),
            Call({"default": array((3, 3), 3)}),
            Call({"default": array((3, 3), 3)}, "own_gradient"),
            Call({"default": array((3, 3), 3)}, "inner_own_gradient"),
            Call({"default": array((3, 3), 3)}, "tf_function"),
            Call({"default": array((3, 3), 3)}, "nested_functions", gradient_of=None),
            Call(
                {"default": array((3, 3), 3) - 2}, "nested_functions", gradient_of=None
            ),
            Call({"default": array((3, 3), 3)}, "custom_gradient", gradient_of=None),
            Call({"default": array((3, 3), 3)}, "swish", gradient_of=None),
            Call({"default": array((3, 3), 3)}, "old_swish"),
            Call({"default": array((3, 3), 3)}, "straight_through"),
        ),
    ),
    Definition(
        name="colocation_devices",
        why="Devices, a container, and colocation with variables, inputs and ops",
        build=colocation_devices,
        calls=(
            Call({"x": array((1, 3), 1), "ids": np.array([2], np.int64)}),
            Call({"x": array((3, 3), 3), "ids": np.array([1, 9, 2], np.int64)}),
        ),
    ),
    Definition(
        name="train_ops",
        why=(
            "Update ops ordered by control edges, assertions, printing, summaries, and "
            "random ops in the variant for training"
        ),
        build=train_ops,
        variants=_TRAIN_OR_NOT,
        drop_collections=(tf.GraphKeys.SUMMARIES,),
        calls=(
            Call({"default": array((1, 4), 1)}),
            Call({"default": array((3, 4), 3)}),
            Call({"default": array((3, 4), 3)}, "certain"),
            Call({"default": array((1, 4), 1)}, tags=("train",), deterministic=False),
            Call({"default": array((3, 4), 3)}, tags=("train",), deterministic=False),
            Call({"default": array((3, 4), 3)}, "certain", tags=("train",)),
        ),
    ),
)
