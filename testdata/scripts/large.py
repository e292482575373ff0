"""Writes TF1 Hub modules that are too large to keep in the repository.

For benchmarks, by TensorFlow 1.15 and tensorflow_hub 0.12; ``DEFINITIONS`` are
those of the tests, which ``make_testdata.py`` writes and records::

    python testdata/scripts/large.py resnet50 OUT [--width 64]
    python testdata/scripts/large.py embedding OUT [--megabytes 300]
    python testdata/scripts/large.py deep OUT [--nodes 10000]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple, Union

# Before TensorFlow is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402
from define import Call, Definition, array, texts  # noqa: E402

STAGES = (3, 4, 6, 3)
EMBEDDING_WIDTH = 128


def _resnet50(is_training: bool, width: int, dtype: tf.DType = tf.float32) -> None:
    """ResNet-50 with its stride in the 3x3 convolutions.

    Args:
      is_training: whether batch norm uses the batch's statistics.
      width: channels of the first convolution; 64 in the real one.
      dtype: of everything.
    """
    regularizer = tf.contrib.layers.l2_regularizer(1e-4)
    images = tf.placeholder(dtype, [None, 224, 224, 3], name="images")

    def convolve(
        values: tf.Tensor, channels: int, size: int, strides: int, name: str
    ) -> tf.Tensor:
        with tf.variable_scope(name):
            values = tf.layers.conv2d(
                values,
                channels,
                size,
                strides=strides,
                padding="same",
                use_bias=False,
                kernel_initializer=tf.variance_scaling_initializer(2.0),
                kernel_regularizer=regularizer,
                name="conv",
            )
            return tf.layers.batch_normalization(
                values,
                momentum=0.9,
                epsilon=1e-5,
                fused=dtype == tf.float32,  # it has no other
                training=is_training,
                name="batch_norm",
            )

    def bottleneck(values: tf.Tensor, channels: int, strides: int, first: bool) -> Any:
        shortcut = values
        if first:
            shortcut = convolve(values, 4 * channels, 1, strides, "shortcut")
        values = tf.nn.relu(convolve(values, channels, 1, 1, "conv1"))
        values = tf.nn.relu(convolve(values, channels, 3, strides, "conv2"))
        return tf.nn.relu(convolve(values, 4 * channels, 1, 1, "conv3") + shortcut)

    with tf.variable_scope("resnet50"):
        net = tf.nn.relu(convolve(images, width, 7, 2, "stem"))
        net = tf.layers.max_pooling2d(net, 3, 2, padding="same")
        for stage, units in enumerate(STAGES):
            for unit in range(units):
                with tf.variable_scope("block{}/unit{}".format(stage + 1, unit + 1)):
                    strides = 2 if stage and not unit else 1
                    net = bottleneck(net, width << stage, strides, not unit)
        features = tf.reduce_mean(net, axis=[1, 2], name="pooled")
        logits = tf.layers.dense(
            features, 1001, kernel_regularizer=regularizer, name="logits"
        )
    hub.add_signature(inputs=images, outputs=features)
    hub.add_signature("image_classification", inputs={"images": images}, outputs=logits)
    info = hub.ImageModuleInfo()
    info.default_image_size.height = info.default_image_size.width = 224
    hub.attach_image_module_info(info)


def _embedding(megabytes: int) -> None:
    """Sentences to the mean of their words' rows of one big variable, in four parts.

    Args:
      megabytes: the size of the variable, in units of 2**20 bytes.
    """
    rows = max(4, megabytes * 2**20 // (4 * EMBEDDING_WIDTH))
    sentences = tf.placeholder(tf.string, [None], name="sentences")
    embeddings = tf.get_variable(
        "embeddings",
        [rows, EMBEDDING_WIDTH],
        initializer=tf.random_uniform_initializer(-0.1, 0.1),
        partitioner=tf.fixed_size_partitioner(4),
    )
    words = tf.string_split(sentences)
    ids = tf.SparseTensor(
        words.indices,
        tf.string_to_hash_bucket_fast(words.values, rows),
        words.dense_shape,
    )
    output = tf.nn.embedding_lookup_sparse(
        embeddings, ids, None, partition_strategy="div", combiner="mean"
    )
    hub.add_signature(inputs=sentences, outputs=output)


def _deep(nodes: int) -> None:
    """A chain of ops.

    Args:
      nodes: how many nodes the graph has.
    """
    values = tf.placeholder(tf.float32, [None, 4], name="x")
    scale = tf.get_variable("scale", [4], initializer=tf.ones_initializer())
    first = values
    factor = scale.read_value()
    # Counting the graph's operations in each step would be quadratic.
    left = nodes - len(tf.get_default_graph().get_operations())
    for step in range(left):
        kind = step % 3
        if kind == 0:
            values = tf.multiply(values, factor)
        elif kind == 1:
            values = tf.tanh(values)
        else:
            values = tf.subtract(first, values)
    hub.add_signature(inputs=first, outputs=values)


def make_large(
    kind: str,
    directory: Union[str, Path],
    megabytes: int = 300,
    nodes: int = 10000,
    width: int = 64,
) -> None:
    """Writes a module.

    Args:
      kind: ``"resnet50"``, ``"embedding"`` or ``"deep"``.
      directory: where; created.
      megabytes: the size of the embedding.
      nodes: the number of nodes of the deep graph.
      width: channels of the first convolution of ResNet-50; 64 gives about 100 MB.

    Raises:
      ValueError: there is no such kind.
    """
    builders: Dict[str, Callable[..., None]] = {
        "resnet50": lambda is_training: _resnet50(is_training, width),
        "embedding": lambda: _embedding(megabytes),
        "deep": lambda: _deep(nodes),
    }
    if kind not in builders:
        raise ValueError(
            "The kinds of large modules are {}. Received: {}".format(
                ", ".join(sorted(builders)), kind
            )
        )
    variants: Optional[list] = None
    if kind == "resnet50":
        variants = [(set(), {"is_training": False}), ({"train"}, {"is_training": True})]

    def build(**arguments: bool) -> None:
        tf.set_random_seed(20190401)
        builders[kind](**arguments)

    spec = hub.create_module_spec(build, tags_and_args=variants)
    with tf.Graph().as_default(), tf.Session() as session:
        module = hub.Module(spec)
        session.run(tf.global_variables_initializer())
        module.export(str(directory), session)


_IMAGES = array((2, 224, 224, 3), dtype=np.float64)
_SENTENCES = texts("the quick brown fox", "", "jumps over the lazy dog")

# Their size is that of a real graph, and of real weights.
DEFINITIONS: Tuple[Definition, ...] = (
    Definition(
        name="resnet50",
        why="a graph of the size that users have: ResNet-50, with narrow layers",
        # Fifty layers of batch statistics and ReLUs turn the last bit of a float32,
        # in which any two TensorFlows differ, into the third digit of a gradient.
        build=lambda is_training: _resnet50(is_training, 16, tf.float64),
        variants=(((), {"is_training": False}), (("train",), {"is_training": True})),
        calls=tuple(
            call
            for tags in ((), ("train",))
            for call in (
                Call({"default": _IMAGES}, tags=tags),
                Call({"images": _IMAGES}, "image_classification", tags, None),
            )
        ),
        keep_values=True,
    ),
    Definition(
        name="embedding",
        why="weights of the size that users have: 300 MB, in four parts",
        build=lambda: _embedding(megabytes=300),
        calls=(Call({"default": _SENTENCES}),),
        keep_values=True,
    ),
)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["resnet50", "embedding", "deep"])
    parser.add_argument("out", help="the directory to write")
    parser.add_argument("--megabytes", type=int, default=300, help="of embedding")
    parser.add_argument("--nodes", type=int, default=10000, help="of deep")
    parser.add_argument("--width", type=int, default=64, help="of resnet50")
    arguments = parser.parse_args()
    tf.logging.set_verbosity(tf.logging.ERROR)
    make_large(
        arguments.kind,
        arguments.out,
        arguments.megabytes,
        arguments.nodes,
        arguments.width,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
