"""TF1 formats that TensorFlow 2 wrote: Estimators and TF1 Hub modules of TF 2.15.

TensorFlow 2.15 is the last with Estimators, tensorflow_hub 0.15 the last with
``hub.Module``. ``make testdata-tf215`` writes them to ``tf215/`` and records them there
as ``make_testdata.py`` does the older ones.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Tuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np  # noqa: E402
import tensorflow as tf2  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402
from define import Call, Definition, array, session_config, texts  # noqa: E402
from make_testdata import make  # noqa: E402

HERE = Path(__file__).resolve().parents[1]
SERVE, TRAIN = ("serve",), ("train",)
WORDS = "one\ntwo\nthree\n"


def _examples() -> np.ndarray:
    """Serialized tf.Examples: numbers and a word, of which one lacks a value."""
    rows = []
    for values, word in (([3.0, -1.0], "one"), ([-3.0, 0.25], "three"), ([1, 1], "")):
        example = tf.train.Example()
        example.features.feature["numbers"].float_list.value.extend(values)
        if word:
            example.features.feature["word"].bytes_list.value.append(word.encode())
        rows.append(example.SerializeToString())
    return np.array(rows, dtype=object)


def _config() -> Any:
    return tf2.estimator.RunConfig(tf_random_seed=1, session_config=session_config())


def canned_estimator(path: Path) -> None:
    """A DNNClassifier of TensorFlow 2, whose layers are Keras'; it parses examples."""
    word = tf.feature_column.categorical_column_with_vocabulary_list(
        "word", ["one", "two", "three"], num_oov_buckets=1
    )
    columns = [
        tf.feature_column.numeric_column("numbers", [2]),
        tf.feature_column.embedding_column(word, 3),
        tf.feature_column.indicator_column(word),
    ]

    def inputs() -> Any:
        values = array((8, 2), 12)
        features = {
            "numbers": tf.constant(values),
            "word": tf.constant(["one", "two", "three", "four"] * 2),
        }
        labels = tf.constant((values[:, 0] > 0).astype(np.int32))
        return tf2.data.Dataset.from_tensors((features, labels)).repeat()

    estimator = tf2.estimator.DNNClassifier(
        [4], columns, model_dir="model", batch_norm=True, config=_config()
    )
    estimator.train(inputs, steps=50)
    spec = tf.feature_column.make_parse_example_spec(columns)
    receiver = tf2.estimator.export.build_parsing_serving_input_receiver_fn(spec)
    exported = estimator.export_saved_model("export", receiver)
    Path(exported.decode("utf-8")).rename(path)


def estimator_modes(path: Path) -> None:
    """All modes of a model_fn, with several heads, a table and what TF 2 made new."""
    export = tf2.estimator.export

    def model(features: Any, labels: Any, mode: str) -> Any:
        training = mode == tf2.estimator.ModeKeys.TRAIN
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["one", "two"], [0, 1]), 2
        )
        rows = tf.get_variable("rows", initializer=tf.constant(array((3, 3), 14)))
        x = features["x"] + tf.gather(rows, table.lookup(features["word"]))
        x = tf.layers.conv2d(x[:, None, :, None], 2, [1, 2], name="conv")
        x = tf.layers.batch_normalization(x, training=training, momentum=0.9)
        x = tf.layers.flatten(tf2.nn.gelu(x))
        x = tf.linalg.matmul(x[:, None], x[:, :, None])[:, 0]
        y = tf.layers.dense(
            tf.concat([x, features["x"]], 1),
            2,
            kernel_regularizer=tf.keras.regularizers.l2(0.1),
            name="head",
        )
        if mode == tf2.estimator.ModeKeys.PREDICT:
            scores = tf.nn.softmax(y)
            outputs = {
                "serving_default": export.PredictOutput({"y": y, "scores": scores}),
                "first": export.PredictOutput({"first": y[:, 0]}),
            }
            return tf2.estimator.EstimatorSpec(
                mode, predictions={"y": y}, export_outputs=outputs
            )
        loss = tf.losses.mean_squared_error(labels, y)
        loss += tf.losses.get_regularization_loss()
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train = tf.train.AdamOptimizer(0.01).minimize(
                loss, tf.train.get_or_create_global_step()
            )
        return tf2.estimator.EstimatorSpec(mode, loss=loss, train_op=train)

    def inputs() -> Any:
        x = array((8, 3), 13)
        features = {"x": x, "word": ["one", "two", "three", "one"] * 2}
        return tf2.data.Dataset.from_tensors((features, x[:, :2])).repeat()

    features = {
        "x": tf.placeholder(tf.float32, [None, 3]),
        "word": tf.placeholder(tf.string, [None]),
    }
    labels = tf.placeholder(tf.float32, [None, 2])
    receiver = tf2.estimator.experimental.build_raw_supervised_input_receiver_fn(
        features, labels
    )
    estimator = tf2.estimator.Estimator(model, model_dir="model", config=_config())
    estimator.train(inputs, steps=3)
    modes = tf2.estimator.ModeKeys
    exported = estimator.experimental_export_all_saved_models(
        "export",
        {
            modes.TRAIN: receiver,
            modes.PREDICT: export.build_raw_serving_input_receiver_fn(features),
        },
    )
    Path(exported.decode("utf-8")).rename(path)


def image_module(is_training: bool) -> None:
    """Features of images and a head, with variants, statistics and losses."""
    images = tf.placeholder(tf.float32, [None, 8, 8, 3], name="images")
    l2 = tf.keras.regularizers.l2(0.1)
    x = tf.layers.conv2d(images, 4, 3, kernel_regularizer=l2, name="conv")
    x = tf.layers.batch_normalization(x, momentum=0.9, training=is_training, name="bn")
    x = tf.layers.separable_conv2d(tf.nn.relu6(x), 5, 3, strides=2, name="separable")
    x = tf.layers.batch_normalization(x, training=is_training, name="bn2")
    features = tf.reduce_mean(tf.nn.elu(x), [1, 2])
    logits = tf.layers.dense(features, 2, kernel_regularizer=l2, name="head")
    hub.add_signature(inputs=images, outputs=features)
    hub.add_signature("classify", {"images": images}, {"default": logits})


def text_module() -> None:
    """A vocabulary in a file, counts, and attention over what is embedded."""
    sentences = tf.placeholder(tf.string, [None], name="sentences")
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            "words.txt", tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        2,
    )  # fmt: skip
    words = tf2.strings.split(sentences)
    ids = tf.ragged.map_flat_values(table.lookup, words).to_tensor(4)
    rows = tf.get_variable("rows", [5, 4])
    x = tf.gather(rows, ids)
    query = tf.layers.dense(x, 4, name="query", use_bias=False)
    scores = tf.nn.softmax(tf.einsum("bqd,bkd->bqk", query, x))
    attended = tf.reduce_mean(tf.einsum("bqk,bkd->bqd", scores, x), 1)
    counts = tf.cast(tf2.math.bincount(ids, minlength=5, axis=-1), tf.float32)
    hub.add_signature(inputs=sentences, outputs={"default": attended, "counts": counts})


_IMAGES = array((3, 8, 8, 3), 1)
_TEXTS = texts("two one", "none", "three three two one")
_FEATURES = {"x": array((3, 3), 5), "word": texts("two", "three", "one")}
_LABELLED = dict(_FEATURES, label=array((3, 2), 6))

# Estimators first: TensorFlow 2 has them with its own behaviour, hub.Module without.
ESTIMATORS: Tuple[Definition, ...] = (
    Definition(
        name="canned_estimator",
        why=canned_estimator.__doc__ or "",
        write=canned_estimator,
        calls=tuple(
            Call({key: _examples()}, name, SERVE, output)
            for name, key, output in (
                ("serving_default", "inputs", "scores"),
                ("classification", "inputs", "scores"),
                ("predict", "examples", "logits"),
                ("regression", "inputs", "outputs"),
            )
        ),
    ),
    Definition(
        name="estimator_modes",
        why=estimator_modes.__doc__ or "",
        write=estimator_modes,
        calls=(
            Call(_FEATURES, "serving_default", SERVE, "y"),
            Call(_FEATURES, "first", SERVE, "first"),
            Call(_LABELLED, "train", TRAIN, "loss"),
        ),
    ),
)
MODULES: Tuple[Definition, ...] = (
    Definition(
        name="image_module",
        why=image_module.__doc__ or "",
        build=image_module,
        variants=(((), {"is_training": False}), (TRAIN, {"is_training": True})),
        calls=tuple(
            call
            for tags in ((), TRAIN)
            for call in (
                Call({"default": _IMAGES}, tags=tags),
                Call({"images": _IMAGES}, "classify", tags),
            )
        ),
    ),
    Definition(
        name="text_module",
        why=text_module.__doc__ or "",
        build=text_module,
        files={"words.txt": WORDS},
        calls=(Call({"default": _TEXTS}),),
    ),
)
DEFINITIONS = ESTIMATORS + MODULES


def main() -> None:
    """Writes and records all, or those that are named."""
    assert tf.__version__.startswith("2.15."), tf.__version__
    for definitions in (ESTIMATORS, MODULES):
        names = [d.name for d in definitions if d.name in (sys.argv[1:] or [d.name])]
        if names:
            make(names, HERE / "tf215", "tf215_models")
        tf.disable_v2_behavior()


if __name__ == "__main__":
    main()
