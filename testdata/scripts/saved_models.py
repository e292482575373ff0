"""TF1 SavedModels: what TensorFlow 1's own exporters write."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np
import tensorflow as tf
from define import Call, Definition, array, session_config, texts
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.ops import gen_boosted_trees_ops


def _library(name: str) -> Any:
    """The ops of one of contrib's libraries."""
    contrib = Path(tf.contrib.__file__).parent
    return tf.load_op_library(str(contrib / name))


_DISTORTIONS = _library("image/python/ops/_distort_image_ops.so")
_CROSSES = _library("layers/python/ops/_sparse_feature_cross_op.so")
_BOOSTED_TREES = _library("boosted_trees/python/ops/_boosted_trees_ops.so")
_SLICES = _library("reduce_slice_ops/python/ops/_reduce_slice_ops.so")
SERVE = (tf.saved_model.SERVING,)
TRAIN = (tf.saved_model.TRAINING,)
EVAL = ("eval",)


def _predict(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    """A signature; TensorFlow's own helper refuses one without inputs."""
    info = tf.saved_model.build_tensor_info
    return tf.saved_model.build_signature_def(
        {name: info(tensor) for name, tensor in inputs.items()},
        {name: info(tensor) for name, tensor in outputs.items()},
        tf.saved_model.PREDICT_METHOD_NAME,
    )


def _weights(name: str, shape: Tuple[int, ...], seed: int, **options: Any) -> Any:
    """A variable whose value nothing else has."""
    return tf.get_variable(
        name, initializer=tf.constant(array(shape, seed) * 0.5), **options
    )


def _export(
    path: Path,
    signatures: Mapping[str, Any],
    tags: Tuple[str, ...] = SERVE,
    text: bool = False,
    **options: Any,
) -> None:
    """Initializes the default graph's variables, and exports it."""
    builder = tf.saved_model.Builder(str(path))
    with tf.Session(config=session_config()) as session:
        session.run([tf.global_variables_initializer(), tf.tables_initializer()])
        builder.add_meta_graph_and_variables(
            session, list(tags), signature_def_map=dict(signatures), **options
        )
    builder.save(as_text=text)


def builder(path: Path) -> None:
    """Reference and resource variables, a table of an asset, several signatures."""
    Path("words.txt").write_text("one\ntwo\nthree\n")
    words = tf.placeholder(tf.string, [None], name="words")
    features = tf.placeholder(tf.float32, [None, 4], name="features")
    tf.add_to_collection(
        tf.GraphKeys.ASSET_FILEPATHS, tf.constant("words.txt", name="asset")
    )
    (asset,) = tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS)
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        2,
    )  # fmt: skip
    rows = _weights("rows", (5, 4), 1, use_resource=False)
    kernel = _weights(
        "kernel",
        (4, 3),
        2,
        use_resource=True,
        regularizer=tf.keras.regularizers.l2(0.1),
    )
    hidden = tf.gather(rows, table.lookup(words)) * features
    logits = tf.matmul(hidden, kernel, name="logits")
    scores = tf.nn.softmax(logits)
    score = {"words": words, "features": features}
    _export(
        path,
        {
            "serving_default": _predict(score, {"scores": scores, "logits": logits}),
            "embed": _predict({"words": words}, {"ids": table.lookup(words)}),
            "weights": _predict({}, {"kernel": kernel.read_value(), "rows": rows}),
        },
        assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS),
        main_op=tf.tables_initializer(),
        strip_default_attrs=True,
    )


def simple_save(path: Path) -> None:
    """tf.saved_model.simple_save, with the init op of old."""
    x = tf.placeholder(tf.int64, [None], name="x")
    keys, values = np.array([3, 5, 8]), np.array([0.5, -1.5, 2.5], np.float32)
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, values), -1.0
    )
    scale = _weights("scale", (1,), 3, use_resource=False)
    with tf.Session(config=session_config()) as session:
        session.run([tf.global_variables_initializer(), tf.tables_initializer()])
        tf.saved_model.simple_save(
            session,
            str(path),
            {"x": x},
            {"y": table.lookup(x) * scale},
            legacy_init_op=tf.tables_initializer(),
        )


def moving_averages(path: Path) -> None:
    """A saver of its own: the checkpoint has the averages under their own keys."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    kernel = _weights("layer/kernel", (3, 2), 4, use_resource=False)
    bias = _weights("layer/bias", (2,), 5, use_resource=True)
    y = tf.nn.relu(tf.matmul(x, kernel) + bias)
    average = tf.train.ExponentialMovingAverage(0.9)
    restored = {average.average_name(variable): variable for variable in (kernel, bias)}
    _export(
        path,
        {"serving_default": _predict({"x": x}, {"y": y})},
        saver=tf.train.Saver(restored),
    )


def partitioned(path: Path) -> None:
    """Variables in parts of unequal size, with an optimizer's slots beside them."""
    ids = tf.placeholder(tf.int64, [None], name="ids")
    with tf.variable_scope("table", partitioner=tf.fixed_size_partitioner(3)):
        rows = tf.get_variable(
            "rows", [7, 2], initializer=tf.random_normal_initializer(seed=6)
        )
    embedded = tf.nn.embedding_lookup(rows, ids, partition_strategy="div")
    head = _weights("head", (2, 2), 7)
    y = tf.matmul(embedded, head)
    optimizer = tf.train.AdamOptimizer(0.1)
    train = optimizer.minimize(
        tf.reduce_sum(y), global_step=tf.train.get_or_create_global_step()
    )
    tf.add_to_collection(tf.GraphKeys.TRAIN_OP, train)
    _export(path, {"serving_default": _predict({"ids": ids}, {"y": y})})


def frozen(path: Path) -> None:
    """No variables, as text; a switch that is no input of the signature."""
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    training = tf.placeholder_with_default(False, [], name="training")
    kernel = tf.constant(array((2, 3), 8))
    y = tf.layers.dropout(tf.matmul(x, kernel), 0.5, training=training)
    _export(path, {"serving_default": _predict({"x": x}, {"y": y})}, text=True)


def two_devices(path: Path) -> None:
    """{serve} and {serve, gpu} of the same variables, pinned to devices."""
    exporter = tf.saved_model.Builder(str(path))
    for tags, device in ((SERVE, "/cpu:0"), (SERVE + ("gpu",), "/device:GPU:0")):
        with tf.Graph().as_default(), tf.device(device):
            x = tf.placeholder(tf.float32, [None, 3], name="x")
            kernel = _weights("kernel", (3, 2), 9)
            y = tf.matmul(x, kernel)
            if "gpu" in tags:
                y = tf.nn.relu(y)
            signatures = {"serving_default": _predict({"x": x}, {"y": y})}
            with tf.Session(config=session_config()) as session:
                session.run(tf.global_variables_initializer())
                if "gpu" in tags:
                    exporter.add_meta_graph(list(tags), signatures)
                else:
                    exporter.add_meta_graph_and_variables(
                        session, list(tags), signatures
                    )
    exporter.save()


def batch_norm(path: Path) -> None:
    """Training or not is an input with a default; update ops for the averages."""
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    training = tf.placeholder_with_default(False, [], name="is_training")
    scaled = tf.layers.batch_normalization(
        x,
        training=training,
        gamma_initializer=tf.constant_initializer([0.5, 1.5, 2.0, -1.0]),
        moving_mean_initializer=tf.constant_initializer([0.1, -0.2, 0.3, 0.4]),
        moving_variance_initializer=tf.constant_initializer([1.5, 0.5, 2.5, 1.0]),
    )
    y = tf.matmul(scaled, _weights("kernel", (4, 2), 10))
    _export(
        path,
        {"serving_default": _predict({"x": x, "is_training": training}, {"y": y})},
    )


def odd_signatures(path: Path) -> None:
    """Beside a good signature some that no loader of TensorFlow 2 accepts."""
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    other = tf.placeholder(tf.float32, [None, 2], name="other")
    kernel = _weights("kernel", (2, 2), 11, use_resource=False)
    counter = tf.get_variable(
        "counter",
        initializer=tf.constant(1.0),
        trainable=False,
        collections=[tf.GraphKeys.LOCAL_VARIABLES],
    )
    y = tf.matmul(x, kernel)
    signatures = {
        "serving_default": _predict({"x": x}, {"y": y}),
        "reference": _predict({"x": x}, {"kernel": kernel._ref(), "y": y}),
        "same_tensor": _predict({"a": x, "b": x}, {"y": y}),
        "unfed": _predict({"x": x}, {"y": y + other}),
        "no_value": _predict({"x": x}, {"y": y * counter}),
        "no_name": _predict({"x": x}, {"y": y}),
        "not_there": _predict({"x": x}, {"y": y}),
    }
    signatures["no_name"].outputs["y"].name = ""
    _export(path, signatures)
    # The builder refuses what is not in the graph.
    file = path / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    outputs = proto.meta_graphs[0].signature_def["not_there"].outputs
    outputs["y"].name = "absent:0"
    file.write_bytes(proto.SerializeToString(deterministic=True))
    (path / "variables" / ".stray").write_text("left by a copy")


def dropped_ops(path: Path) -> None:
    """Ops of contrib, and kernels, that TensorFlow 2 no longer has."""
    images = tf.placeholder(tf.float32, [None, 5, 4, 2], name="images")
    kernel = _weights("kernel", (2, 3), 14)
    turned = tf.contrib.image.rotate(
        tf.tensordot(images, kernel, 1), [0.3, -0.7], interpolation="BILINEAR"
    )
    values = tf.placeholder(tf.float32, [None, 2], name="values")
    whole = tf.placeholder(tf.int64, [None], name="whole")
    limits = tf.constant([-1.0, 0.5, 2.0])
    bucketize = _BOOSTED_TREES.bucketize_with_input_boundaries
    boosted = gen_boosted_trees_ops.boosted_trees_bucketize(
        [values[:, 0], values[:, 1]], [limits, tf.constant([0.25, 4.0])]
    )
    warp = tf.placeholder(tf.float32, [None, None, 2], name="warp")
    sampled = tf.contrib.resampler.resampler(tf.tensordot(images, kernel, 1), warp)
    steps = tf.placeholder(tf.int32, [None, None, None], name="steps")
    parents = tf.placeholder(tf.int32, [None, None, None], name="parents")
    lengths = tf.placeholder(tf.int32, [None], name="lengths")
    beams = tf.contrib.seq2seq.gather_tree(steps, parents, lengths, end_token=9)
    packed = tf.raw_ops.CompareAndBitpack(input=tf.tile(values, [1, 8]), threshold=0.5)
    truths = tf.raw_ops.CompareAndBitpack(
        input=tf.tile(values > 0, [1, 4]), threshold=False
    )
    pixels = tf.placeholder(tf.float32, [None, None, 3], name="pixels")
    adjusted = _DISTORTIONS.adjust_hsv_in_yiq(pixels, 0.7, 1.3, 0.8)
    rows = tf.placeholder(tf.float32, [None, 3], name="rows")
    ranges = tf.placeholder(tf.int32, [None, 2], name="ranges")
    # Where one ends the next one starts.
    borders = tf.placeholder(tf.int64, [None], name="borders")
    integers = tf.cast(rows * 10, tf.int32)
    words = tf.sparse_placeholder(tf.string, name="words")
    strings = _CROSSES.sparse_feature_cross(
        indices=[words.indices],
        values=[words.values],
        shapes=[words.dense_shape],
        dense=[tf.as_string(whole)[:, None]],
        hashed_output=False,
        num_buckets=0,
        out_type=tf.string,
        internal_type=tf.string,
    )
    crossed = _CROSSES.sparse_feature_cross_v2(
        indices=[words.indices],
        values=[words.values],
        shapes=[words.dense_shape],
        dense=[tf.as_string(whole)[:, None]],
        hashed_output=True,
        num_buckets=1000,
        hash_key=956888297470,
        out_type=tf.int64,
        internal_type=tf.string,
    )
    _export(
        path,
        {
            "serving_default": _predict({"images": images}, {"turned": turned}),
            "buckets": _predict(
                {"values": values, "whole": whole},
                {
                    "float": bucketize(values, limits),
                    "double": bucketize(tf.cast(values, tf.float64), limits),
                    "whole": bucketize(whole, limits),
                },
            ),
            "boosted": _predict(
                {"values": values}, {"first": boosted[0], "second": boosted[1]}
            ),
            "beams": _predict(
                {"steps": steps, "parents": parents, "lengths": lengths},
                {"beams": beams},
            ),
            "sliced": _predict(
                {"rows": rows, "ranges": ranges, "borders": borders},
                {
                    "sum": _SLICES.reduce_slice_sum(rows, ranges, 0),
                    "product": _SLICES.reduce_slice_prod(rows, borders, 0),
                    # Slices of nothing are infinite.
                    "max": tf.exp(_SLICES.reduce_slice_max(rows, ranges, 1)),
                    "min": tf.exp(-_SLICES.reduce_slice_min(rows, ranges, 0)),
                    "integers": _SLICES.reduce_slice_max(integers, ranges, 0),
                },
            ),
            "adjusted": _predict({"pixels": pixels}, {"adjusted": adjusted}),
            "packed": _predict(
                {"values": values}, {"packed": packed, "truths": truths}
            ),
            "sampled": _predict({"images": images, "warp": warp}, {"sampled": sampled}),
            "strings": _predict(
                {"words": words, "whole": whole},
                {"indices": strings.output_indices, "values": strings.output_values},
            ),
            "crossed": _predict(
                {"words": words, "whole": whole},
                {
                    "indices": crossed.output_indices,
                    "values": crossed.output_values,
                    "shape": crossed.output_shape,
                },
            ),
        },
    )


def _examples() -> np.ndarray:
    """Serialized tf.Examples: numbers and a word, of which one lacks a value."""
    rows = []
    for numbers, word in (
        ([3.0, -1.0], "one"),
        ([-3.0, 0.25], "three"),
        ([1.0, 1.0], ""),
    ):
        example = tf.train.Example()
        example.features.feature["numbers"].float_list.value.extend(numbers)
        if word:
            example.features.feature["word"].bytes_list.value.append(word.encode())
        rows.append(example.SerializeToString())
    return np.array(rows, dtype=object)


def _export_estimator(
    estimator: tf.estimator.Estimator, path: Path, receivers: Optional[Dict[str, Any]]
) -> None:
    exported = (
        estimator.experimental_export_all_saved_models("export", receivers)
        if isinstance(receivers, dict)
        else estimator.export_saved_model("export", receivers)
    )
    Path(exported.decode("utf-8")).rename(path)


def canned_estimator(path: Path) -> None:
    """A DNNClassifier that parses tf.Examples: classify, regress and predict."""
    word = tf.feature_column.categorical_column_with_vocabulary_list(
        "word", ["one", "two", "three"], num_oov_buckets=1
    )
    columns = [
        tf.feature_column.numeric_column("numbers", [2]),
        tf.feature_column.embedding_column(word, 3),
    ]

    def inputs() -> Any:
        numbers = array((8, 2), 12)
        features = {
            "numbers": tf.constant(numbers),
            "word": tf.constant(["one", "two", "three", "four"] * 2),
        }
        labels = tf.constant((numbers[:, 0] > 0).astype(np.int32))
        return tf.data.Dataset.from_tensors((features, labels)).repeat()

    estimator = tf.estimator.DNNClassifier(
        [4],
        columns,
        model_dir="model",
        config=tf.estimator.RunConfig(
            tf_random_seed=1, session_config=session_config()
        ),
    )
    estimator.train(inputs, steps=100)
    spec = tf.feature_column.make_parse_example_spec(columns)
    _export_estimator(
        estimator,
        path,
        tf.estimator.export.build_parsing_serving_input_receiver_fn(spec),
    )


def estimator_modes(path: Path) -> None:
    """All three modes of an Estimator; the metrics of one are local variables."""

    def model(features: Any, labels: Any, mode: str) -> tf.estimator.EstimatorSpec:
        training = mode == tf.estimator.ModeKeys.TRAIN
        x = tf.layers.batch_normalization(features["x"], training=training)
        y = tf.layers.dense(x, 1)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions={"y": y})
        loss = tf.losses.mean_squared_error(labels, y)
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        with tf.control_dependencies(updates):
            train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(
                loss, tf.train.get_or_create_global_step()
            )
        metrics = {}
        if mode == tf.estimator.ModeKeys.EVAL:
            metrics["error"] = tf.metrics.mean_absolute_error(labels, y)
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, train_op=train, eval_metric_ops=metrics
        )

    def inputs() -> Any:
        x = array((8, 3), 13)
        pair = ({"x": x}, x.sum(axis=1, keepdims=True))
        return tf.data.Dataset.from_tensors(pair).repeat()

    export = tf.estimator.export
    features = {"x": tf.placeholder(tf.float32, [None, 3])}
    supervised = tf.estimator.experimental.build_raw_supervised_input_receiver_fn(
        features, tf.placeholder(tf.float32, [None, 1])
    )
    estimator = tf.estimator.Estimator(
        model,
        model_dir="model",
        config=tf.estimator.RunConfig(
            tf_random_seed=1, session_config=session_config()
        ),
    )
    estimator.train(inputs, steps=5)
    modes = tf.estimator.ModeKeys
    _export_estimator(
        estimator,
        path,
        {
            modes.PREDICT: export.build_raw_serving_input_receiver_fn(features),
            modes.TRAIN: supervised,
            modes.EVAL: supervised,
        },
    )


def _call(signature: str = "serving_default", **more: Any) -> Call:
    more.setdefault("tags", SERVE)
    return Call(signature=signature, **more)


_SCORE = {
    "words": texts("two", "none", "three"),
    "features": array((3, 4), 20),
}
_BUCKETED = {
    # On a boundary, between two, and beyond all.
    "values": np.array([[0.5, 0.25], [3.0, 0.5], [-2.0, -1.0], [2.0, 9.0]], np.float32),
    "whole": np.array([-1, 0, 2, 7]),
}
# Between pixels, on one, at the edges, and outside of the image.
_WARP = np.array(
    [
        [[0.3, 1.6], [2.0, 3.0], [-0.5, 4.5], [3.7, -0.2], [-1.0, 1.0]],
        [[3.9, 4.9], [1.5, 0.0], [7.0, 2.0], [0.0, 5.0], [2.25, 2.75]],
    ],
    np.float32,
)
# 9 ends a sequence; the second is shorter than the steps, the last empty.
_BEAMS = {
    "steps": np.random.RandomState(31).randint(0, 10, (5, 3, 3)).astype(np.int32),
    "parents": np.random.RandomState(32).randint(0, 3, (5, 3, 3)).astype(np.int32),
    "lengths": np.array([5, 3, 0], np.int32),
}
_LABELLED = {"x": array((5, 3), 26), "label": array((5, 1), 27)}

DEFINITIONS: Tuple[Definition, ...] = (
    Definition(
        name="tf1_builder",
        why=builder.__doc__,
        write=builder,
        calls=(
            _call(inputs=_SCORE, gradient_of="scores"),
            _call("embed", inputs={"words": _SCORE["words"]}, gradient_of=None),
            _call("weights", gradient_of="kernel"),
        ),
    ),
    Definition(
        name="tf1_simple_save",
        why=simple_save.__doc__,
        write=simple_save,
        calls=(_call(inputs={"x": np.array([5, 7, 3])}, gradient_of="y"),),
    ),
    Definition(
        name="tf1_moving_averages",
        why=moving_averages.__doc__,
        write=moving_averages,
        calls=(_call(inputs={"x": array((4, 3), 21)}, gradient_of="y"),),
    ),
    Definition(
        name="tf1_partitioned",
        why=partitioned.__doc__,
        write=partitioned,
        calls=(_call(inputs={"ids": np.array([6, 0, 3])}, gradient_of="y"),),
    ),
    Definition(
        name="tf1_frozen",
        why=frozen.__doc__,
        write=frozen,
        calls=(_call(inputs={"x": array((2, 2), 22)}, gradient_of="y"),),
    ),
    Definition(
        name="tf1_two_devices",
        why=two_devices.__doc__,
        write=two_devices,
        calls=(
            _call(inputs={"x": array((2, 3), 23)}, gradient_of="y"),
            _call(
                inputs={"x": array((2, 3), 23)}, gradient_of="y", tags=SERVE + ("gpu",)
            ),
        ),
    ),
    Definition(
        name="tf1_batch_norm",
        why=batch_norm.__doc__,
        write=batch_norm,
        calls=(
            _call(inputs={"x": array((6, 4), 24)}, gradient_of="y"),
            _call(
                inputs={"x": array((6, 4), 24), "is_training": np.array(True)},
                gradient_of="y",
            ),
        ),
    ),
    Definition(
        name="tf1_odd_signatures",
        why=odd_signatures.__doc__,
        write=odd_signatures,
        calls=(
            _call(inputs={"x": array((2, 2), 25)}, gradient_of="y"),
            _call("reference", inputs={"x": array((2, 2), 25)}, gradient_of="y"),
        ),
        left_out=("same_tensor", "unfed", "no_value", "no_name", "not_there"),
    ),
    Definition(
        name="tf1_dropped_ops",
        why=dropped_ops.__doc__,
        write=dropped_ops,
        calls=(
            _call(inputs={"images": array((2, 5, 4, 2), 28)}, gradient_of="turned"),
            _call("buckets", inputs=_BUCKETED, gradient_of=None),
            _call("boosted", inputs={"values": _BUCKETED["values"]}, gradient_of=None),
            _call(
                "crossed",
                inputs={
                    "words": tf.SparseTensorValue(
                        [[0, 0], [0, 1], [2, 0]], texts("a", "b", "a"), [3, 2]
                    ),
                    "whole": np.array([5, 7, 5]),
                },
                gradient_of=None,
            ),
            _call(
                "strings",
                inputs={
                    "words": tf.SparseTensorValue(
                        [[0, 0], [0, 1], [2, 0]], texts("a", "b", "a"), [3, 2]
                    ),
                    "whole": np.array([5, 7, 5]),
                },
                gradient_of=None,
            ),
            _call("packed", inputs={"values": _BUCKETED["values"]}, gradient_of=None),
            _call(
                "adjusted", inputs={"pixels": array((2, 4, 3), 33)}, gradient_of=None
            ),
            _call("beams", inputs=_BEAMS, gradient_of=None),
            _call(
                "sliced",
                inputs={
                    "rows": array((4, 3), 34),
                    "ranges": np.array([[0, 2], [1, 1], [2, 9], [3, 1]], np.int32),
                    "borders": np.array([0, 1, 1, 3, 7]),
                },
                gradient_of=None,
            ),
            _call(
                "sampled",
                inputs={"images": array((2, 5, 4, 2), 29), "warp": _WARP},
                gradient_of="sampled",
            ),
        ),
    ),
    Definition(
        name="tf1_canned_estimator",
        why=canned_estimator.__doc__,
        write=canned_estimator,
        calls=tuple(
            _call(name, inputs={key: _examples()}, gradient_of=output)
            for name, key, output in (
                ("serving_default", "inputs", "scores"),
                ("classification", "inputs", "scores"),
                ("predict", "examples", "logits"),
                ("regression", "inputs", "outputs"),
            )
        ),
    ),
    Definition(
        name="tf1_estimator_modes",
        why=estimator_modes.__doc__,
        write=estimator_modes,
        calls=(
            _call(inputs={"x": _LABELLED["x"]}, gradient_of="y"),
            # A metric's value is read before or after its update.
            _call(
                "eval",
                inputs=_LABELLED,
                gradient_of=None,
                tags=EVAL,
                deterministic=False,
            ),
            _call("train", inputs=_LABELLED, gradient_of="loss", tags=TRAIN),
        ),
    ),
)
