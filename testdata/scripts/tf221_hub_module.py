"""A TF1 Hub module that TensorFlow 2.21 writes, for tensorflow_hub 0.12 in TF 1.15.

Writes ``tf221_hub_module/module`` by ``hub_compat.create_module_spec()``, and
``tf221_hub_module/recorded.json``: what its graph gives in a session of TensorFlow
2.21. ``tests/tf1_api/test_module_fn.py`` builds it in every TensorFlow::

    python testdata/scripts/tf221_hub_module.py
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict

import numpy as np
import tensorflow as tf

import hub_compat as hub

OUT = Path(__file__).resolve().parents[1] / "tf221_hub_module"
IMAGES = (np.arange(2 * 2 * 2 * 3, dtype=np.float32) / 10).reshape(2, 2, 2, 3)
WORDS = ["b", "zz", "a"]
VARIANTS = [(set(), {}), ({"train"}, {"training": True})]

v1 = tf.compat.v1


def start(shape: Any) -> Any:
    """An initializer whose values are not all the same."""
    count = int(np.prod(shape))
    return v1.constant_initializer(np.cos(np.arange(count)).reshape(shape))


def build(vocabulary: str, training: bool = False) -> Dict[str, Any]:
    """Builds the graph; returns the inputs and outputs of its signatures."""
    images = v1.placeholder(tf.float32, [None, 2, 2, 3], name="images")
    with v1.variable_scope("dense", partitioner=v1.fixed_size_partitioner(2)):
        kernel = v1.get_variable(
            "kernel",
            [12, 4],
            # Its parts begin alike.
            initializer=start([6, 4]),
            regularizer=lambda part: 0.1 * tf.reduce_sum(part * part),
        )
    bias = v1.get_variable("bias", [4], initializer=start([4]))
    mean = v1.get_variable("mean", [4], initializer=start([4]), trainable=False)
    count = v1.get_variable(
        "count", [], initializer=start([]), use_resource=False, trainable=False
    )
    hidden = tf.matmul(tf.reshape(images, [-1, 12]), tf.concat(list(kernel), 0))
    if training:
        update = v1.assign(mean, 0.5 * mean + 0.5 * tf.reduce_mean(hidden, 0))
        v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update)
        v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, v1.assign_add(count, 2.0))
    output = tf.nn.softplus(hidden - mean) * tf.cond(
        tf.reduce_sum(images) > 0, lambda: bias + 1.0, lambda: bias
    )
    # As a module in the module has one; no signature needs it.
    v1.train.Saver()
    tf.identity(v1.placeholder(tf.float32), name="of_no_use")
    _, doubled, _ = tf.while_loop(
        lambda i, value, scale: i < 3,
        lambda i, value, scale: (i + 1, tf.sin(value) * scale, scale),
        [0, output, count],
    )
    hub.add_signature(
        inputs={"images": images}, outputs={"default": output, "doubled": doubled}
    )
    words = v1.placeholder(tf.string, [None], name="words")
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            vocabulary,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        1,
    )
    found = table.lookup(words)
    hub.add_signature("lookup", inputs=words, outputs=found)
    sparse = v1.sparse_placeholder(tf.float32, name="sparse")
    twice = tf.SparseTensor(sparse.indices, sparse.values * 2.0, sparse.dense_shape)
    hub.add_signature("sparse", inputs=sparse, outputs=twice)
    ragged = v1.ragged.placeholder(tf.int64, 1, [], name="ragged")
    thrice = ragged.with_values(ragged.values * 3)
    hub.add_signature("ragged", inputs={"rows": ragged}, outputs=thrice)
    size = {"height": 2, "width": 2}
    hub.attach_image_module_info(hub.ImageModuleInfo(default_image_size=size))
    losses = v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)
    return {
        "images": images,
        "words": words,
        "default": output,
        "doubled": doubled,
        "lookup": found,
        "losses": tf.add_n(losses),
        "gradient": tf.gradients(output, bias)[0],
        "kernel": kernel,
        "mean": mean,
        "count": count,
    }


def make_spec(vocabulary: str) -> Any:
    """The spec of the module."""
    return hub.create_module_spec(
        lambda **arguments: build(vocabulary, **arguments) and None, VARIANTS
    )


def record(folder: Path, vocabulary: str) -> Dict[str, Any]:
    """What the graph gives; leaves a checkpoint of its variables in a folder."""
    found: Dict[str, Any] = {}
    with tf.Graph().as_default() as graph:
        with v1.variable_scope("", use_resource=True):
            parts = build(vocabulary, training=True)
        updates = graph.get_collection(v1.GraphKeys.UPDATE_OPS)
        names = ("default", "doubled", "lookup", "losses", "gradient")
        with v1.Session(graph=graph) as session:
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            v1.train.Saver().save(session, str(folder / "model"))
            feed = {parts["images"]: IMAGES, parts["words"]: WORDS}
            found.update(session.run({name: parts[name] for name in names}, feed))
            session.run(updates, feed)
            found.update(session.run({n: parts[n] for n in ("mean", "count")}))
    return {name: np.asarray(value).tolist() for name, value in found.items()}


def main() -> None:
    """Writes both."""
    shutil.rmtree(str(OUT), ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary = str(folder / "words.txt")
        Path(vocabulary).write_text("a\nb\nc\n")
        found = record(folder, vocabulary)
        os.makedirs(str(OUT))
        make_spec(vocabulary).export(
            str(OUT / "module"), checkpoint_path=str(folder / "model")
        )
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    (OUT / "recorded.json").write_text(text)


if __name__ == "__main__":
    main()
