"""A Keras SavedModel without what only Keras' own loader needs does the same."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import numpy as np
import pytest

import hub_compat
from hub_compat._tf import tf

pytestmark = [pytest.mark.tensorflow, pytest.mark.keras2]


class Saved(NamedTuple):
    """A saved model, and arguments for what was loaded of it."""

    path: str
    inputs: Any


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("HUB_COMPAT_CACHE_DIR", str(folder))
        yield


def _names() -> List[str]:
    from slim_models import LATER, MODELS

    later = [] if tf.__version__.startswith("1.") else list(LATER)
    return sorted(list(MODELS) + later)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: Any) -> Any:
    """Saves a model by its name, once."""
    from slim_models import LATER, MODELS

    from hub_compat._tf.keras import keras2

    made: Dict[str, Saved] = {}

    def save(name: str) -> Saved:
        if name not in made:
            builder = {**MODELS, **LATER}[name]
            model, inputs = builder(keras2())
            path = str(tmp_path_factory.mktemp(name) / "model")
            model.save(path, save_format="tf")
            made[name] = Saved(path, inputs)
        return made[name]

    return save


def _call(loaded: Any, inputs: Any, training: bool) -> Any:
    tensors = tf.nest.map_structure(tf.constant, inputs)
    with tf.GradientTape(persistent=True) as tape:
        outputs = loaded(tensors, training=training)
        flat = tf.nest.flatten(outputs)
        total = tf.add_n([tf.reduce_sum(tf.square(x)) for x in flat])
        losses = [loss() for loss in loaded.regularization_losses]
        total += tf.add_n(losses) if losses else 0.0
    gradients = tape.gradient(total, loaded.trainable_variables)
    values = [variable.numpy() for variable in loaded.variables]
    return flat, losses, [_dense(g) for g in gradients], values


def _dense(gradient: Any) -> Any:
    return None if gradient is None else tf.convert_to_tensor(gradient).numpy()


def _equal(one: Any, other: Any) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.eager
@pytest.mark.parametrize(
    "name",
    ["convolutions", "functional", "own_gradient"] + ["subclassed", "mixed", "text"],
)
def test_a_slim_model_computes_the_same(saved: Any, name: str) -> None:
    """Outputs, losses, gradients and new states are bit for bit those of the whole."""
    if name not in _names():
        pytest.skip("Keras of TensorFlow 1.15 has no such layer")
    model = saved(name)
    whole = hub_compat.load(model.path)
    slim = hub_compat.load(model.path, slim=True)
    assert hasattr(whole, "keras_api")
    with pytest.raises(AttributeError, match="slim=False") as refused:
        slim.keras_api  # noqa: B018
    assert repr(model.path) in str(refused.value)
    assert not hasattr(slim, "anything")
    for attribute in ("variables", "trainable_variables"):
        assert [(v.name, v.shape, v.dtype) for v in getattr(whole, attribute)] == [
            (v.name, v.shape, v.dtype) for v in getattr(slim, attribute)
        ]
    # TF 1.15 takes half a minute for the gradients of such calls.
    for training in (True,) if tf.__version__.startswith("1.") else (True, False):
        for one, other in zip(
            _call(whole, model.inputs, training), _call(slim, model.inputs, training)
        ):
            _equal(one, other)
    given = whole.signatures["serving_default"].structured_input_signature[1]
    flat = dict(zip(sorted(given), tf.nest.flatten(model.inputs)))
    feeds = {name: tf.constant(value) for name, value in flat.items()}
    one = whole.signatures["serving_default"](**feeds)
    other = slim.signatures["serving_default"](**feeds)
    assert sorted(one) == sorted(other)
    _equal([one[key] for key in sorted(one)], [other[key] for key in sorted(one)])


@pytest.mark.eager
def test_what_an_author_hung_on_a_model_stays(saved: Any) -> None:
    """Parts, their calls and functions are there, and not Keras' numbered layers."""
    model = saved("subclassed")
    slim = hub_compat.load(model.path, slim=True)
    whole = hub_compat.load(model.path)
    inputs = tf.constant(model.inputs)
    _equal([slim.embed(inputs)], [whole.embed(inputs)])
    _equal([slim.blocks[1](inputs)], [whole.blocks[1](inputs)])
    _equal([slim.count.numpy()], [whole.count.numpy()])


@pytest.mark.eager
def test_a_slim_object_is_saved_whole(saved: Any, tmp_path: Path) -> None:
    """With its new values, the optimizer's slots, and all that Keras needs."""
    from hub_compat._tf.keras import keras2

    model = saved("functional")
    for name in ("whole", "slim"):
        loaded = hub_compat.load(model.path, slim=name == "slim")
        for variable in loaded.variables:
            variable.assign(variable + 1.0)
        hub_compat.save(loaded, tmp_path / name)
    one, other = (
        tf.train.load_checkpoint(str(tmp_path / name / "variables" / "variables"))
        for name in ("whole", "slim")
    )
    keys = sorted(one.get_variable_to_shape_map())
    assert keys == sorted(other.get_variable_to_shape_map())
    assert any("optimizer" in key for key in keys)
    for key in keys:
        assert np.array_equal(one.get_tensor(key), other.get_tensor(key)), key
    for name in ("saved_model.pb", "keras_metadata.pb"):
        if (tmp_path / "whole" / name).exists():
            both = [(tmp_path / n / name).read_bytes() for n in ("whole", "slim")]
            assert both[0] == both[1]
    again = keras2().models.load_model(str(tmp_path / "slim"), compile=False)
    assert len(again.layers) > 3


@pytest.mark.eager
def test_a_layer_trains_the_slim_form_as_the_whole(saved: Any, tmp_path: Path) -> None:
    """Steps of fit(), frozen or not, and the weights that they end with."""
    from hub_compat._tf.keras import keras2
    from hub_compat.keras2 import KerasLayer

    keras = keras2()
    model = saved("convolutions")
    for trainable in (False, True):
        ends = []
        for handle in (hub_compat.load(model.path), model.path):
            layer = KerasLayer(handle, trainable=trainable)
            slim = not hasattr(layer.resolved_object, "keras_api")
            assert slim == isinstance(handle, str)
            inputs = keras.Input(shape=(8, 8, 3))
            outputs = keras.layers.Dense(1, kernel_initializer="ones")(layer(inputs))
            net = keras.Model(inputs, outputs)
            net.compile(keras.optimizers.SGD(0.1), "mse")
            net.fit(model.inputs, np.ones((4, 1)), epochs=2, verbose=0, shuffle=False)
            ends.append(net.get_weights() + [net.predict(model.inputs)])
        _equal(*ends)
    path = str(tmp_path / "net")
    net.save(path, save_format="tf")
    loaded = hub_compat.load(path)
    _equal([loaded(tf.constant(model.inputs))], ends[1][-1:])


@pytest.mark.eager
def test_a_model_with_few_layers_is_loaded_as_it_is(tmp_path: Path) -> None:
    """Nothing is parsed, or put into the cache."""
    from hub_compat import cache
    from hub_compat._tf.keras import keras2

    keras = keras2()
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    path = str(tmp_path / "small")
    model.save(path, save_format="tf")
    known = len(cache.converted())
    assert hasattr(hub_compat.load(path, slim="auto"), "keras_api")
    assert len(cache.converted()) == known
    assert not hasattr(hub_compat.load(path, slim=True), "keras_api")
    assert len(cache.converted()) == known + 1
    with pytest.raises(hub_compat.errors.OptionsError, match="slim says"):
        hub_compat.load(path, slim="thin")


@pytest.mark.eager
@pytest.mark.parametrize("damage", ["kind", "function", "links"])
def test_what_is_not_understood_is_loaded_whole(
    saved: Any, tmp_path: Path, damage: str, monkeypatch: Any, caplog: Any
) -> None:
    """A line at debug level says why, and it is not tried again."""
    from hub_compat.converters.slim import directories, slimming

    def refuse(*args: Any) -> Any:
        raise directories.NotUnderstood("of a test")

    def fail(*args: Any, **keywords: Any) -> Any:
        raise hub_compat.errors.DestinationError("no links here")

    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", str(tmp_path / damage))
    place, name = {
        "kind": (slimming, "select"),
        "function": (slimming, "rebuild"),
        "links": (directories.relabel, "relabel"),
    }[damage]
    model = saved("convolutions")
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail if damage == "links" else refuse)
        with caplog.at_level(logging.DEBUG, logger="hub_compat"):
            loaded = hub_compat.load(model.path, slim=True)
    assert hasattr(loaded, "keras_api")
    said = [r for r in caplog.records if "is loaded whole" in r.getMessage()]
    assert [record.levelno for record in said] == [logging.DEBUG]
    assert hasattr(hub_compat.load(model.path, slim=True), "keras_api")


@pytest.mark.parametrize(
    "name",
    ["keras2_functional", "keras2_recurrent", "keras2_text", "keras2_train_step"],
)
def test_a_model_of_a_newer_keras(testdata: Path, name: str, caplog: Any) -> None:
    """Of TensorFlow 2.21, as it is or lowered, in graphs as well."""
    path = str(testdata / "tf221" / name / "module")
    results: List[Any] = []
    for slim in (False, True):
        with tf.Graph().as_default() if not tf.executing_eagerly() else _nothing():
            loaded = hub_compat.load(path, slim=slim)
            assert hasattr(getattr(loaded, "model", loaded), "keras_api") != slim
            called = [
                _called(loaded.signatures[key]) for key in sorted(loaded.signatures)
            ]
            if tf.executing_eagerly():
                tensors = [x for each in called for x in each]
                values = [v.numpy() for v in loaded.variables]
            else:
                with tf.compat.v1.Session() as session:
                    session.run(tf.compat.v1.global_variables_initializer())
                    session.run(tf.compat.v1.tables_initializer())
                    tensors = [x for each in called for x in session.run(each)]
                    values = session.run(loaded.variables)
            results.append(tensors + values)
        del loaded
        gc.collect()
    _equal(*results)
    # What nobody restores, TensorFlow warns of.
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "restored" in text or "resolved" in text] == []


def _called(function: Any) -> List[Any]:
    given = function.structured_input_signature[1]
    outputs = function(**{name: _sample(spec) for name, spec in given.items()})
    return [outputs[key] for key in sorted(outputs)]


class _nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *args: Any) -> None:
        pass


def _sample(spec: Any) -> Any:
    shape = [2 if size is None else size for size in spec.shape.as_list()]
    if spec.dtype == tf.string:
        return tf.constant(np.full(shape, "the cat").tolist())
    values = np.random.RandomState(1).rand(*shape)
    return tf.constant(values.astype(spec.dtype.as_numpy_dtype))


@pytest.mark.eager
def test_convert_writes_the_slim_form_for_others(saved: Any, tmp_path: Path) -> None:
    """With the graph for sessions; a loader and a session compute the same."""
    model = saved("functional")
    out = str(tmp_path / "out")
    report = hub_compat.convert(model.path, out, slim=True)
    assert any("only Keras needs is skipped" in line for line in report.lowered)
    load = tf.compat.v1.saved_model.load_v2
    whole, slim = load(model.path), load(out)
    assert not hasattr(slim, "keras_api")
    for one, other in zip(
        _call(whole, model.inputs, True), _call(slim, model.inputs, True)
    ):
        _equal(one, other)
    results = []
    for path in (model.path, out):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
            signature = meta_graph.signature_def["serving_default"]
            feeds = {
                signature.inputs[key].name: value
                for key, value in zip(sorted(signature.inputs), model.inputs)
            }
            fetches = [signature.outputs[k].name for k in sorted(signature.outputs)]
            results.append(session.run(fetches, feeds))
    _equal(*results)


def test_convert_refuses_slim_of_tf1_modules(testdata: Path, tmp_path: Path) -> None:
    """They have nothing of the kind, and neither has a result of TF1."""
    for source, target in (("image_bn", None), ("tf221/keras2_text", "tf1-hub")):
        path = str(testdata / source / "module")
        with pytest.raises(hub_compat.errors.FormatError, match="slim=True"):
            hub_compat.convert(path, str(tmp_path / "out"), slim=True, target=target)
