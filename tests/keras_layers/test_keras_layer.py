"""KerasLayer: every format in every Keras, trainable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator

import expected
import numpy as np
import pytest
import replay
import runtimes
import stepped
from environment import executes_eagerly, keras_generations
from keras_kit import IMAGES, TARGETS, Keras, path
from steps import assert_stepped, chosen, is_dense, same

import hub_compat as hub
from hub_compat import errors

MODULES = expected.module_names()

pytestmark = pytest.mark.tensorflow

GENERATIONS = keras_generations()


def as_layer(k: Keras, source: str, **keywords: Any) -> Any:
    """A way to load a module as a layer, for replay.py."""

    def load(tags: Any) -> Any:
        return k.Layer(source, tags=list(tags) or None, **keywords)

    return load


@pytest.mark.support("KerasLayer")
@pytest.mark.parametrize("k", GENERATIONS[-1:], ids="keras{}".format, indirect=True)
@pytest.mark.parametrize("module", MODULES)
def test_call_gives_the_recorded_outputs(module: str, k: Keras) -> None:
    """Every variant, called as a layer, gives what TF 1.15 gave."""
    recorded = expected.load_expected(module)
    for tags in recorded.variants:
        name = recorded.callable(tags)
        if name is None:
            continue
        with runtimes.Runtime(lambda tags=tags: as_layer(k, path(module))(tags)) as r:
            for case in recorded.cases:
                if case.tags != tags or case.signature != name or not case.inputs:
                    continue
                inputs = {n: replay.tensor(v) for n, v in case.inputs.items()}
                everything = [c for c in recorded.cases if c.signature == name]
                if len({n for c in everything for n in c.inputs}) == 1:
                    (inputs,) = inputs.values()
                found = r.run(r.loaded(inputs))
                if case.deterministic:
                    replay.assert_outputs(found, case, case.id)


@pytest.mark.parametrize("module", ["image_bn", "tf1_estimator_modes", "variants3"])
def test_training_runs_the_graph_for_training(module: str, k: Keras) -> None:
    """trainable=True and training=True run the train variant and its updates."""
    recorded = expected.load_expected(module)
    name = recorded.callable(recorded.root)
    for case in recorded.cases:
        if case.tags != ("train",) or case.signature != name:
            continue
        layer_of = as_layer(k, path(module), trainable=True)
        with runtimes.Runtime(lambda layer_of=layer_of: layer_of(())) as runtime:
            (value,) = case.inputs.values()
            found = runtime.run(runtime.loaded(replay.tensor(value), training=True))
            replay.assert_outputs(found, case, case.id)
            loaded = runtime.loaded.resolved_object
            for key, value in replay.variable_values(runtime, loaded, recorded).items():
                after = case.updated.get(key, recorded.variables[key])
                replay.assert_equal(value, after, "{} after {}".format(key, case.id))


def trained() -> Iterator[Any]:
    """A step by each signature but that of the life, in the newest Keras.

    In a graph they take longer: there, those of sparse and ragged inputs, which the
    life has eagerly only.
    """
    generation = GENERATIONS[-1] if GENERATIONS else 0
    for name in MODULES:
        recorded = expected.load_expected(name)
        life = chosen(recorded)
        seen = {(life.tags, life.signature, life.gradient_of)}
        for number in stepped.cases(recorded):
            case = recorded.cases[number]
            what = (case.tags, case.signature, case.gradient_of)
            wanted = executes_eagerly() or not is_dense(case)
            if case.inputs and wanted and what not in seen:
                seen.add(what)
                label = "keras{}-{}-{}".format(generation, name, number)
                yield pytest.param(generation, name, number, id=label)


@pytest.fixture
def unoptimized() -> Iterator[None]:
    """The functions are those of test_modules.py, which has them optimised."""
    with runtimes.unoptimized():
        yield


@pytest.mark.usefixtures("unoptimized")
@pytest.mark.support("KerasLayer")
@pytest.mark.parametrize("k, module, number", trained(), indirect=["k"])
def test_step_of_a_signature(module: str, number: int, k: Keras) -> None:
    """A step with the layer's trainable weights is the recorded step, by signature."""
    import tensorflow as tf

    recorded = expected.load_expected(module)
    case = recorded.cases[number]
    load = runtimes.shared(
        path(module), lambda tags: hub.load(path(module), tags=tags or None)
    )

    def layer_of_object() -> Any:
        return k.Layer(
            load(case.tags),
            trainable=True,
            signature=case.signature,
            output_key=case.gradient_of,
        )

    with runtimes.Runtime(layer_of_object) as runtime:
        layer = runtime.loaded
        inputs = {name: replay.tensor(value) for name, value in case.inputs.items()}
        weights = expected.weights_like(np.asarray(case.outputs[case.gradient_of]))

        # In a graph, one call is run before and after the step.
        called = None if runtime.eager else layer(inputs)

        def objective() -> Any:
            output = layer(inputs) if called is None else called
            return tf.reduce_sum(output * tf.cast(tf.constant(weights), output.dtype))

        # Of Keras 3, what is inside of its own.
        variables = [
            v if isinstance(v, tf.Variable) else v.value
            for v in layer.trainable_weights
        ]
        gradients = runtime.gradients(objective, variables)
        steps = [
            variable.assign_sub(expected.STEP * gradient)
            for variable, gradient in zip(variables, gradients)
            if gradient is not None
        ]
        runtime.run(steps)
        found = runtime.run(layer(inputs) if called is None else called)
        wanted = case.stepped[case.gradient_of]
        replay.assert_equal(found, wanted, case.id, relative=1e-4)
        # And so are the weights, but for rounding where a gradient is zero.
        assert_stepped(
            replay.variable_values(runtime, layer.resolved_object, recorded),
            recorded,
            case,
            updated={},
        )


def test_fit_trains_as_hub_module(k: Keras, testdata: Path) -> None:
    """fit() takes the steps that a loop over hub.Module took under TF 1.15."""
    from train_in_graph import RATE, STEPS, batch

    recorded = json.loads((testdata / "training.json").read_text())["waits"]
    layer = k.Layer(path("image_bn"), trainable=True)
    inputs = k.keras.Input(shape=(8, 8, 3))
    model = k.keras.Model(inputs, layer(inputs))
    model.compile(k.keras.optimizers.SGD(RATE), k.keras.losses.MeanSquaredError())
    losses = [
        model.fit(batch(n), np.ones([4, 6], np.float32), verbose=0).history["loss"][0]
        for n in range(STEPS)
    ]
    np.testing.assert_allclose(losses, recorded["losses"], rtol=1e-5)
    # Of Keras 3, the variables' names are those of its own.
    names = [v.name.split(":")[0] for v in layer.resolved_object.variables]
    order = {
        w.name.split(":")[0].replace(".", "/"): n for n, w in enumerate(layer.weights)
    }
    values = layer.get_weights()
    for name in names:
        wanted, found = recorded["variables"][name], np.ravel(values[order[name]])
        np.testing.assert_allclose(found, wanted, 1e-5, 1e-6, err_msg=name)
    assert len(names) == len(values) == len(recorded["variables"])


@pytest.mark.eager
def test_toggling_trainable(k: Keras) -> None:
    """trainable can be changed later, both ways; frozen, not a bit changes."""
    layer = k.Layer(path("image_bn"))
    model = k.model(layer)
    assert len(model.trainable_weights) == 2
    loaded = layer.get_weights()
    model.fit(IMAGES, TARGETS, verbose=0)
    assert same(loaded, layer.get_weights())
    layer.trainable = True
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    assert len(layer.trainable_weights) == 8
    model.fit(IMAGES, TARGETS, verbose=0)
    trained = layer.get_weights()
    assert not same(loaded, trained)
    layer.trainable = False
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    assert not layer.trainable_weights
    model.fit(IMAGES, TARGETS, verbose=0)
    assert same(trained, layer.get_weights())


def test_regularization_losses_are_in_the_model(k: Keras) -> None:
    """model.losses has those of a trainable layer, with the recorded values."""
    recorded = expected.load_expected("image_bn")
    (case, *_) = [c for c in recorded.cases if c.tags == ("train",)]
    model = k.model(k.Layer(path("image_bn"), trainable=True))
    if executes_eagerly():
        model(IMAGES)
        found = sorted(float(loss) for loss in model.losses)
        wanted = sorted(float(loss) for loss in case.regularization_losses)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    else:
        assert len(model.losses) == len(case.regularization_losses)


def test_outputs_of_a_signature(k: Keras) -> None:
    """All outputs as a dict, or one of them, of any signature."""
    name = "image_feature_vector"
    everything = k.Layer(
        path("image_bn"), signature=name, signature_outputs_as_dict=True
    )
    inputs = k.keras.Input(shape=(8, 8, 3))
    outputs = everything(inputs)
    assert sorted(outputs) == ["default", "net/block1/conv", "net/block2/conv"]
    assert tuple(outputs["net/block1/conv"].shape)[1:] == (8, 8, 4)
    one = k.Layer(path("image_bn"), signature=name, output_key="net/block2/conv")
    assert tuple(one(inputs).shape)[1:] == (4, 4, 6)
    assert tuple(k.Layer(path("image_bn"), signature=name)(inputs).shape)[1:] == (6,)


def test_several_inputs_by_name(k: Keras) -> None:
    """A dict of inputs trains, with static shapes on the way out."""
    names = ("input_ids", "input_mask", "segment_ids")
    inputs = {n: k.keras.Input(shape=(6,), dtype="int32", name=n) for n in names}
    layer = k.Layer(
        path("bert_like"),
        trainable=True,
        signature="tokens",
        signature_outputs_as_dict=True,
    )
    outputs = layer(inputs)
    assert tuple(outputs["pooled_output"].shape)[1:] == (8,)
    model = k.keras.Model(inputs, outputs["pooled_output"])
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    before = layer.get_weights()
    ones = {n: np.ones((2, 6), np.int32) for n in names}
    model.fit(ones, np.ones((2, 8), np.float32), verbose=0)
    assert not same(before, layer.get_weights())


@pytest.mark.eager
def test_strings(k: Keras) -> None:
    """A text module takes strings, in fit() and predict()."""
    import tensorflow as tf

    inputs = k.keras.Input(shape=(), dtype="string")
    layer = k.Layer(path("text_embedding"), trainable=True)
    model = k.keras.Model(inputs, k.keras.layers.Dense(1)(layer(inputs)))
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    before = layer.get_weights()
    texts = tf.constant(["a cat", "dog"])
    model.fit(texts, np.ones((2, 1), np.float32), verbose=0)
    assert not same(before, layer.get_weights())
    assert model.predict(texts, verbose=0).shape == (2, 1)


def test_shared_and_wrapped(k: Keras) -> None:
    """Called twice, or for each step of a sequence, a layer has its weights once."""
    keras = k.keras
    layer = k.Layer(path("image_bn"), trainable=True)
    inputs = keras.Input(shape=(8, 8, 3))
    both = keras.layers.Add()([layer(inputs), layer(inputs)])
    assert len(keras.Model(inputs, both).trainable_weights) == 8
    frames = keras.Input(shape=(4, 8, 8, 3))
    outputs = keras.layers.TimeDistributed(layer)(frames)
    assert tuple(outputs.shape)[1:] == (4, 6)
    assert len(keras.Model(frames, outputs).trainable_weights) == 8


@pytest.mark.tf2
@pytest.mark.eager
def test_mixed_precision(k: Keras) -> None:
    """Under mixed_float16, inputs are cast to what the module takes, outputs back."""
    import tensorflow as tf

    layer = k.Layer(path("image_bn"), dtype="mixed_float16", trainable=True)
    output = layer(tf.cast(IMAGES, tf.float16))
    assert output.dtype == tf.float16
    plain = k.Layer(path("image_bn"))(tf.constant(IMAGES))
    np.testing.assert_allclose(output.numpy(), plain.numpy(), rtol=0.02, atol=0.02)


@pytest.mark.eager
def test_saved_and_loaded_with_a_model(k: Keras, tmp_path: Path) -> None:
    """A file, a SavedModel with its functions, and weights alone: it trains on."""
    keras = k.keras
    layer = k.Layer(path("image_bn"), trainable=True, name="module")
    model = k.model(layer)
    model.fit(IMAGES, TARGETS, verbose=0)
    wanted = model.predict(IMAGES, verbose=0)
    file = str(tmp_path / ("model" + (".keras" if k.generation == 3 else "")))
    model.save(file)
    model.save_weights(str(tmp_path / "model.weights.h5"))
    clone = keras.models.clone_model(model)
    clone.load_weights(str(tmp_path / "model.weights.h5"))
    loaded = k.load(file)
    for again in (clone, loaded):
        found = again.predict(IMAGES, verbose=0)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        module = again.get_layer("module")
        assert len(module.trainable_weights) == 8
        assert module.get_config()["handle"] == path("image_bn")
    before = loaded.get_layer("module").get_weights()
    loaded.fit(IMAGES, TARGETS, verbose=0)
    assert not same(before, loaded.get_layer("module").get_weights())


@pytest.mark.keras3
@pytest.mark.tf2
def test_exported_by_keras3(tmp_path: Path) -> None:
    """model.export() writes the trained weights, for plain TensorFlow."""
    import tensorflow as tf

    k = Keras(3)
    model = k.model(k.Layer(path("image_bn"), trainable=True))
    model.fit(IMAGES, TARGETS, verbose=0)
    model.export(str(tmp_path / "out"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    found = loaded.serve(IMAGES)
    wanted = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert len(loaded.trainable_variables) == 10
    # An export is a module like any other, and trains on.
    layer = k.Layer(str(tmp_path / "out"), trainable=True)
    assert len(layer.trainable_weights) == 10
    np.testing.assert_allclose(layer(IMAGES), wanted, rtol=1e-5, atol=1e-6)


def test_config_has_all_arguments(k: Keras) -> None:
    """from_config(get_config()) makes the same layer, tags included."""
    layer = k.Layer(
        path("image_bn"),
        trainable=True,
        tags={"train"},
        signature="image_feature_vector",
        output_key="net/block1/conv",
        output_shape=(8, 8, 4),
        name="module",
    )
    config = layer.get_config()
    again = k.Layer.from_config(config)
    assert again.get_config() == config
    assert config["tags"] == ["train"]
    assert again.trainable
    assert again.name == "module"
    assert tuple(again(k.keras.Input(shape=(8, 8, 3))).shape)[1:] == (8, 8, 4)


def test_object_has_no_config(k: Keras) -> None:
    """A layer of an object in memory cannot be made again, and says why."""
    layer = k.Layer(hub.load(path("image_bn")))
    with pytest.raises(NotImplementedError, match="from the path of its module"):
        layer.get_config()


def test_arguments_must_be_serializable(k: Keras) -> None:
    """The error names the argument."""
    layer = k.Layer(path("image_bn"), arguments={"training": object()})
    with pytest.raises(ValueError, match="'training' is not serializable"):
        layer.get_config()


@pytest.mark.parametrize(
    "keywords, error, text",
    [
        (
            dict(signature="nope"),
            errors.SignatureError,
            r"'default', from \{.*float32 \(.*8, 8, 3\)\} to \{.*; 'image_feature_vec.*"
            r"signature='default', output_key='default'\). Received: 'nope'",
        ),
        (
            dict(signature="image_feature_vector", output_key="nope"),
            errors.LayerError,
            r"it has \{'default': float32 \(.*6\), .*; try output_key='default'",
        ),
        (dict(tags={"nope"}), errors.VariantError, r"\['train'\]"),
        (
            dict(
                signature="image_feature_vector",
                output_key="default",
                signature_outputs_as_dict=True,
            ),
            errors.LayerError,
            r"either output_key.* KerasLayer\(\.\.\., signature='image_feature_vector'",
        ),
    ],
    ids=["signature", "output_key", "tags", "both"],
)
def test_bad_arguments(keywords: Any, error: Any, text: str, k: Keras) -> None:
    """What there is stands in the error."""
    with pytest.raises(error, match=text):
        k.Layer(path("image_bn"), **keywords)


def test_bad_handles(k: Keras, tmp_path: Path) -> None:
    """Neither a path nor something to call; tags for what is loaded already."""
    with pytest.raises(ValueError, match="Expected a string"):
        k.Layer(17)
    with pytest.raises(OSError):
        k.Layer(str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="tags choose what to load"):
        k.Layer(lambda x: x, tags=["train"])


def test_bad_calls(k: Keras) -> None:
    """Arguments that are none, and shapes that are not those of the outputs."""
    inputs = k.keras.Input(shape=(8, 8, 3))
    with pytest.raises(ValueError, match=r"\['nope'\]; it takes .*'training'.*'nope'"):
        k.Layer(path("image_bn"), arguments={"nope": 1})(inputs)
    with pytest.raises(ValueError, match=r"outputs are float32 \(.*6\).*output_shape"):
        k.Layer(path("image_bn"), output_shape=[7])(inputs)


def test_any_callable(k: Keras) -> None:
    """A plain function is a layer without weights."""
    layer = k.Layer(lambda x: x * 2.0)
    outputs = layer(k.keras.Input(shape=(3,)))
    assert tuple(outputs.shape)[1:] == (3,)
    assert not layer.weights


def test_nothing_to_train_is_said(k: Keras, caplog: Any) -> None:
    """trainable=True on a module without variables is an error in the log."""
    layer = k.Layer(path("no_variables"), trainable=True)
    layer(k.keras.Input(shape=(3,)))
    assert "zero trainable weights" in caplog.text
