"""Feature columns of modules: TF1's input_layer, Keras 2, Estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from environment import keras_generations

import hub_compat as hub
from hub_compat.errors import FormatError, InputError, OptionsError

pytestmark = pytest.mark.tensorflow

tf = pytest.importorskip("tensorflow")
v1 = tf.compat.v1

WORDS = ["", "hello world", "pair-programming"]
WEIGHTS = [[0.0] * 4, [1.0, 2.0, 3.0, 4.0], [5.0] * 4]
FEATURES = {
    "a": ["hello world", "pair-programming"],
    "b": [["hello world"], ["unknown"]],
}
EMBEDDED = [[1, 2, 3, 4, 1, 2, 3, 4], [5, 5, 5, 5, 0, 0, 0, 0]]
IMAGES = np.arange(12, dtype=np.float32).reshape(2, 1, 2, 3)


def text_module_fn() -> None:
    """Embeds three sentences."""
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(WORDS, np.arange(3, dtype=np.int64)), 0
    )
    weights = v1.get_variable("weights", initializer=tf.constant(WEIGHTS))
    text = v1.placeholder(tf.string, [None])
    hub.add_signature(inputs=text, outputs=tf.gather(weights, table.lookup(text)))


def image_module_fn() -> None:
    """Sums the pixels of each color."""
    images = v1.placeholder(tf.float32, [None, 1, 2, 3])
    weight = v1.get_variable("weight", [1], initializer=v1.ones_initializer())
    summed = tf.reduce_sum(images, [1, 2]) * weight
    hub.add_signature(inputs={"images": images}, outputs=summed)


@pytest.fixture(scope="module")
def spec() -> Any:
    """The spec of the module of texts."""
    return hub.create_module_spec(text_module_fn)


@pytest.fixture(scope="module")
def images() -> Any:
    """The spec of the module of images."""
    return hub.create_module_spec(image_module_fn)


@pytest.fixture(scope="module")
def directory(spec: Any, tmp_path_factory: Any) -> Path:
    """The directory of the module of texts."""
    folder = tmp_path_factory.mktemp("columns")
    path = Path(str(folder)) / "module"
    with tf.Graph().as_default():
        module = hub.Module(spec)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            module.export(str(path), session)
    return path


def run(*tensors: Any) -> List[Any]:
    """The values of tensors, once variables and tables are ready."""
    with v1.train.MonitoredSession() as session:
        return list(session.run(tensors))


def tokens() -> Any:
    """Two tokens, one, and none."""
    return tf.SparseTensor(
        [[0, 0], [0, 1], [1, 0]], ["hello world", "pair-programming"] * 1 + [""], [3, 2]
    )


def dense_features(columns: Any) -> Any:
    """A layer for graphs of TF1."""
    if hasattr(v1, "keras") and keras_generations() == [2]:
        return v1.keras.layers.DenseFeatures(columns)
    keras = pytest.importorskip("tf_keras")
    return keras.layers.DenseFeatures(columns)


@pytest.mark.parametrize("made_of", ["spec", "directory"])
def test_input_layer(made_of: str, request: Any) -> None:
    """One module for each column, under the column's name."""
    module = request.getfixturevalue(made_of)
    with tf.Graph().as_default():
        columns = [hub.text_embedding_column(key, module) for key in "ab"]
        found = v1.feature_column.input_layer(FEATURES, columns)
        names = [variable.op.name for variable in v1.global_variables()]
        assert v1.trainable_variables() == []
        assert run(found)[0].tolist() == EMBEDDED
    assert names == [
        "input_layer/{}_hub_module_embedding/module/weights".format(key) for key in "ab"
    ]


def test_linear_model_trains_it(spec: Any) -> None:
    """The layer's weights and the module's, if it is to be trained."""
    with tf.Graph().as_default():
        columns = [hub.text_embedding_column("a", spec, trainable=True)]
        found = v1.feature_column.linear_model(FEATURES, columns)
        assert len(v1.trainable_variables()) == 3
        step = v1.train.GradientDescentOptimizer(0.1).minimize(
            tf.reduce_sum(tf.square(found - 1.0))
        )
        with v1.train.MonitoredSession() as session:
            first = session.run(found)
            for _ in range(2):
                session.run(step)
            assert not np.allclose(first, session.run(found))


@pytest.mark.keras2
def test_dense_features_share_a_module(spec: Any, images: Any) -> None:
    """All calls of a layer have the variables of one module for each column."""
    with tf.Graph().as_default():
        columns = [
            hub.text_embedding_column("a", spec, trainable=True),
            hub.image_embedding_column("i", images),
        ]
        layer = dense_features(columns)
        features = {"a": FEATURES["a"], "i": IMAGES}
        one, other = layer(features), layer(features)
        trained = [variable.op.name for variable in v1.trainable_variables()]
        assert len(v1.global_variables()) == 2
        found = run(one, other)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0][:, :4], [WEIGHTS[1], WEIGHTS[2]])
    np.testing.assert_array_equal(found[0][:, 4:], IMAGES.sum((1, 2)))
    assert len(trained) == 1
    assert trained[0].endswith("module/weights")


@pytest.mark.parametrize("size", [None, [1, 2], (1, 2)])
def test_images(size: Any, images: Any) -> None:
    """Pixels go in as they are; the column can be hashed."""
    column = hub.image_embedding_column("i", images, size)
    assert column in {column}
    assert column.variable_shape == [3]
    assert hub.get_expected_image_size(column.module_spec) == [1, 2]
    with tf.Graph().as_default():
        found = v1.feature_column.input_layer({"i": IMAGES}, [column])
        np.testing.assert_array_equal(run(found)[0], IMAGES.sum((1, 2)))


@pytest.mark.parametrize(
    "combiner, divided", [("sum", 1.0), ("mean", 2.0), ("sqrtn", np.sqrt(2.0))]
)
def test_tokens_are_combined(combiner: str, divided: float, spec: Any) -> None:
    """Of an example without tokens, the default counts."""
    column = hub.sparse_text_embedding_column("t", spec, combiner, "hello world")
    with tf.Graph().as_default():
        found = run(v1.feature_column.input_layer({"t": tokens()}, [column]))[0]
    first = (np.array(WEIGHTS[1]) + WEIGHTS[2]) / divided
    np.testing.assert_allclose(found, [first, WEIGHTS[0], WEIGHTS[1]], rtol=1e-6)


@pytest.mark.eager
@pytest.mark.keras2
@pytest.mark.tf2
@pytest.mark.parametrize("kind", ["text", "v2"])
def test_eager_dense_features(kind: str, directory: Path) -> None:
    """The model is loaded once, its weights are the layer's, and they are trained."""
    from hub_compat._tf.keras import keras2

    keras = keras2()
    make = hub.text_embedding_column if kind == "text" else hub.text_embedding_column_v2
    columns = [make(key, directory, trainable=True) for key in "ab"]
    layer = keras.layers.DenseFeatures(columns)
    features = {key: tf.constant(value) for key, value in FEATURES.items()}
    np.testing.assert_array_equal(layer(features), EMBEDDED)
    assert len(layer.trainable_weights) == 2

    column = make("t", str(directory), trainable=True)
    inputs = {"t": keras.layers.Input(name="t", shape=[None], dtype=tf.string)}
    hidden = keras.layers.DenseFeatures([column])(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile("sgd", "mse")
    (weights,) = [w for w in model.trainable_weights if w.shape == [3, 4]]
    model.fit({"t": np.array(["hello world", "x"])}, np.array([0.0, 1.0]), verbose=0)
    assert not np.allclose(weights.numpy(), WEIGHTS)
    copy = type(column).from_config(column.get_config())
    assert copy == column


@pytest.mark.eager
@pytest.mark.tf2
def test_a_tf2_model_in_a_graph(tmp_path: Path) -> None:
    """Columns of TF1 take SavedModels of TF2, and train them."""

    class Model(tf.Module):  # type: ignore[misc]
        """Embeds each text by its length."""

        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(WEIGHTS)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, text: Any) -> Any:
            return tf.gather(self.weights, tf.strings.length(text))

    tf.saved_model.save(Model(), str(tmp_path / "model"))
    with tf.Graph().as_default():
        column = hub.text_embedding_column("a", tmp_path / "model", trainable=True)
        found = v1.feature_column.input_layer({"a": ["bb", "a", ""]}, [column])
        assert len(v1.trainable_variables()) == 1
        assert tf.gradients(found, v1.trainable_variables())[0] is not None
        assert run(found)[0].tolist() == WEIGHTS[::-1]


@pytest.mark.eager
@pytest.mark.keras2
@pytest.mark.tf2
def test_eager_tokens(directory: Path) -> None:
    """The same of several tokens."""
    from hub_compat._tf.keras import keras2

    column = hub.sparse_text_embedding_column(
        "t", directory, "sum", "hello world", trainable=True
    )
    layer = keras2().layers.DenseFeatures([column])
    found = layer({"t": tokens()}).numpy()
    np.testing.assert_array_equal(found, [[6, 7, 8, 9], WEIGHTS[0], WEIGHTS[1]])
    assert len(layer.trainable_weights) == 1


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_canned_estimators(kind: str, directory: Path, tmp_path: Path) -> None:
    """A DNNClassifier trains, evaluates and predicts."""
    estimators = getattr(v1, "estimator", None)
    if estimators is None:
        pytest.skip("This TensorFlow has no Estimators")
    if kind == "v2":
        if not tf.executing_eagerly() or tf.__version__.startswith("1."):
            pytest.skip("Columns that keep a layer are of TensorFlow 2.3")
        estimators = tf.estimator
    make = hub.text_embedding_column if kind == "v1" else hub.text_embedding_column_v2
    columns = [make("text", str(directory)), tf.feature_column.numeric_column("votes")]
    estimator = estimators.DNNClassifier(
        hidden_units=[4], feature_columns=columns, model_dir=str(tmp_path)
    )

    def input_fn() -> Any:
        features = {"text": [["quick"], ["spam"]], "votes": [[20.0], [1.0]]}
        return tf.data.Dataset.from_tensors((features, [[1], [0]]))

    estimator.train(input_fn, max_steps=1)
    assert "loss" in estimator.evaluate(input_fn, steps=1)
    assert len(list(estimator.predict(input_fn))) == 2


def test_how_features_are_parsed(spec: Any, images: Any) -> None:
    """What make_parse_example_spec gives, and who the column is made of."""
    columns = [
        hub.text_embedding_column("text", spec),
        hub.image_embedding_column("image", images),
        hub.sparse_text_embedding_column("tokens", spec, "sum", ""),
    ]
    found = v1.feature_column.make_parse_example_spec(columns)
    assert found == {
        "text": tf.io.FixedLenFeature([1], tf.string),
        "image": tf.io.FixedLenFeature([1, 2, 3], tf.float32),
        "tokens": tf.io.VarLenFeature(tf.string),
    }
    assert [column.parents for column in columns] == [["text"], ["image"], ["tokens"]]
    assert columns[0].name == "text_hub_module_embedding"
    assert [column.variable_shape for column in columns] == [[4], [3], [4]]


def test_a_config_needs_a_directory(spec: Any, directory: Path) -> None:
    """Of a spec there is none; of a path it is one of strings."""
    with pytest.raises(NotImplementedError, match="directory or a handle"):
        hub.text_embedding_column("text", spec).get_config()
    column = hub.sparse_text_embedding_column("text", directory, "sum", "")
    config: Dict[str, Any] = column.get_config()
    assert config["module_spec_path"] == str(directory)
    assert type(column).from_config(config).variable_shape == [4]


def two_inputs() -> None:
    """Takes two texts."""
    texts = {key: v1.placeholder(tf.string, [None]) for key in "ab"}
    hub.add_signature(inputs=texts, outputs=tf.zeros([10, 3]))


def fixed_batch() -> None:
    """Takes ten texts."""
    hub.add_signature(inputs=v1.placeholder(tf.string, [10]), outputs=tf.zeros([10, 3]))


def no_default() -> None:
    """Returns nothing that is called default."""
    text = v1.placeholder(tf.string, [None])
    hub.add_signature(inputs=text, outputs={"other": tf.zeros([10, 3])})


def unknown_width() -> None:
    """Returns embeddings of unknown width."""
    text = v1.placeholder(tf.string, [None])
    hub.add_signature(inputs=text, outputs=v1.placeholder(tf.float32, [None, None]))


@pytest.mark.parametrize(
    "module_fn, said",
    [
        (two_inputs, "only one input"),
        (fixed_batch, "only one input.*output of shape"),
        (no_default, "must have a 'default' output"),
        (unknown_width, r"output of shape \[None, K\]"),
        (image_module_fn, "text embedding.*only one input"),
    ],
)
def test_modules_of_another_kind(module_fn: Any, said: str) -> None:
    """The error says what the module must have, and has."""
    spec = hub.create_module_spec(module_fn)
    with pytest.raises(FormatError, match="(?s)" + said):
        hub.text_embedding_column("text", spec)
    with pytest.raises(FormatError, match="(?s)" + said):
        hub.sparse_text_embedding_column("text", spec, "sum", "")


def test_other_modules_and_combiners(spec: Any) -> None:
    """A module of texts is none of images."""
    with pytest.raises(FormatError, match="'images' of dtype float32"):
        hub.image_embedding_column("image", spec)
    with pytest.raises(InputError, match="'mean', 'sqrtn' or 'sum'.*'max'"):
        hub.sparse_text_embedding_column("text", spec, "max", "")


def test_where_text_embedding_column_v2_is_not(
    directory: Path, monkeypatch: Any
) -> None:
    """Keras 3 has no such columns, nor has TF 1.15; the error says what there is."""
    if tf.__version__.startswith("1."):
        with pytest.raises(NotImplementedError, match="text_embedding_column()"):
            hub.text_embedding_column_v2("text", directory)
    if 3 in keras_generations():
        monkeypatch.setenv("HUB_COMPAT_KERAS", "3")
        with pytest.raises(OptionsError, match="hub_compat.KerasLayer"):
            hub.text_embedding_column_v2("text", directory)
