"""KerasLayer(embed=True): the file of a model has all of the module in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from environment import executes_eagerly, keras_generations
from keras_kit import IMAGES, TARGETS, Keras, path

import hub_compat as hub
from hub_compat import errors

pytestmark = pytest.mark.tensorflow


def copied(name: str, folder: Path) -> str:
    """A copy of a module that may be deleted."""
    return str(shutil.copytree(path(name), str(folder / name)))


def trained(k: Keras, *layers: Any) -> Any:
    """A model of images that went through a step of training."""
    inputs = k.keras.Input(shape=(8, 8, 3))
    outputs = [layer(inputs) for layer in layers]
    outputs = outputs[0] if len(outputs) == 1 else k.keras.layers.Add()(outputs)
    model = k.keras.Model(inputs, k.keras.layers.Dense(1)(outputs))
    model.compile("sgd", k.keras.losses.MeanSquaredError())
    model.fit(IMAGES, TARGETS, verbose=0)
    return model


def endings(k: Keras) -> List[str]:
    """What a file may be called in which this Keras keeps a model; "" for none."""
    if hasattr(k.keras.layers, "TextVectorization"):
        return [".h5", ".keras"] + [""] * (k.generation == 2)
    return [".h5"]


def test_loads_without_the_directory(k: Keras, tmp_path: Path) -> None:
    """Every kind of file loads when the module is gone, with the trained weights."""
    source = copied("image_bn", tmp_path)
    layer = k.Layer(source, trainable=True, embed=True, name="module")
    model = trained(k, layer)
    wanted, weights = model.predict(IMAGES, verbose=0), layer.get_weights()
    files = [str(tmp_path / ("model" + ending)) for ending in endings(k)]
    for file in files:
        model.save(file)
    shutil.rmtree(source)
    for file in files:
        k.keras.backend.clear_session()
        again = k.load(file)
        found = again.get_layer("module")
        assert type(found) is k.Layer
        for one, other in zip(weights, found.get_weights()):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(again.predict(IMAGES, verbose=0), wanted, rtol=1e-5)
        # And trains on, by the rules of the module.
        assert found.trainable
        assert len(found.trainable_weights) == 8
        again.compile("sgd", k.keras.losses.MeanSquaredError())
        again.fit(IMAGES, TARGETS, verbose=0)
        assert not np.array_equal(weights[0], found.get_weights()[0])


CHILD = """
import inspect, json, os, sys
if os.environ.get("HUB_COMPAT_TEST_MODE") == "eager":
    import tensorflow as tf
    tf.compat.v1.enable_v2_behavior()
import numpy as np
found = {}
for generation, file in json.loads(sys.argv[1]):
    module = __import__("hub_compat.keras" + str(generation), fromlist=["keras"])
    load_model = module.keras.models.load_model
    known = inspect.signature(load_model).parameters
    keywords = {"safe_mode": False} if "safe_mode" in known else {}
    model = load_model(file, **keywords)
    images = np.random.RandomState(0).rand(8, 8, 8, 3).astype(np.float32)
    found[file] = model.predict(images, verbose=0).tolist()
print(json.dumps(found))
"""


def test_loads_in_a_new_process(tmp_path: Path) -> None:
    """A program that never saw the directory loads every kind of file."""
    wanted: Dict[str, Any] = {}
    files = []
    for generation in keras_generations():
        k = Keras(generation)
        k.keras.backend.clear_session()
        source = copied("image_bn", tmp_path)
        model = trained(k, k.Layer(source, trainable=True, embed=True))
        for ending in endings(k):
            file = str(tmp_path / ("model{}{}".format(generation, ending)))
            model.save(file)
            files.append((generation, file))
            wanted[file] = model.predict(IMAGES, verbose=0)
        shutil.rmtree(source)
        k.keras.backend.clear_session()
    output = subprocess.check_output(
        [sys.executable, "-c", CHILD, json.dumps(files)],
        env=dict(os.environ, HUB_COMPAT_CACHE_DIR=str(tmp_path / "empty")),
    )
    found = json.loads(output.decode().splitlines()[-1])
    assert set(found) == set(wanted)
    for file, value in wanted.items():
        # Sums of another order, near zero.
        np.testing.assert_allclose(
            found[file], value, rtol=1e-5, atol=1e-6, err_msg=file
        )


def test_within_other_layers(k: Keras, tmp_path: Path) -> None:
    """Two layers of one module, in a model in a model; each keeps its own weights."""
    if endings(k) == [".h5"]:
        pytest.skip("Keras of TF 1.15 trains no model in a model twice")
    source = copied("image_bn", tmp_path)
    one = k.Layer(source, trainable=True, embed=True, name="one")
    two = k.Layer(
        source,
        trainable=True,
        embed=True,
        # A TF1 Hub module has an output for who names none.
        signature="image_feature_vector",
        name="two",
    )
    inner = trained(k, one, two)
    inputs = k.keras.Input(shape=(8, 8, 3))
    model = k.keras.Model(inputs, inner(inputs))
    wanted = model.predict(IMAGES, verbose=0)
    file = str(tmp_path / "model.keras")
    model.save(file)
    shutil.rmtree(source)
    again = k.load(file)
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), wanted, rtol=1e-5)


def test_missing_directory_without_it(k: Keras, tmp_path: Path) -> None:
    """The error says what would have kept the module; a SavedModel loads anyway."""
    source = copied("image_bn", tmp_path)
    model = trained(k, k.Layer(source, trainable=True))
    wanted = model.predict(IMAGES, verbose=0)
    files = {ending: str(tmp_path / ("model" + ending)) for ending in endings(k)}
    for file in files.values():
        model.save(file)
    shutil.rmtree(source)
    for ending, file in files.items():
        k.keras.backend.clear_session()
        if ending:
            with pytest.raises(errors.MissingModuleError, match="embed=True") as caught:
                k.load(file)
            assert isinstance(caught.value, OSError)
            assert str(caught.value).endswith("Received: {!r}".format(source))
        else:
            # Its functions are in there anyway.
            again = k.load(file)
            found = again.predict(IMAGES, verbose=0)
            np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_config_has_the_module(k: Keras, tmp_path: Path) -> None:
    """from_config() takes the directory, or what was embedded of it."""
    source = copied("image_bn", tmp_path)
    name = "image_feature_vector"
    keywords = dict(signature=name, output_key="net/block1/conv", tags={"train"})
    layer = k.Layer(source, embed=True, **keywords)
    config = json.loads(json.dumps(layer.get_config()))
    assert set(config["embed"]) == {"data", "fingerprint", "hub_module"}
    # The same module is the same text.
    assert (
        k.Layer(source, embed=True, **keywords).get_config()["embed"]
        == (config["embed"])
    )
    weights = layer.get_weights()
    for again in (k.Layer.from_config(config), k.Layer.from_config(config)):
        assert again.get_config() == dict(config, name=again.name)
        for one, other in zip(weights, again.get_weights()):
            np.testing.assert_array_equal(one, other)
    # Another module in the same place is not the one that was embedded.
    shutil.rmtree(source)
    shutil.copytree(path("no_variables"), source)
    again = k.Layer.from_config(config)
    # Without a file of weights there are none, and nobody takes them for some.
    assert all(np.isnan(value).all() for value in again.get_weights())
    lost = k.Layer.from_config(config)
    given = k.keras.Input(shape=(8, 8, 3))
    model = k.keras.Model(given, lost(given))
    with pytest.raises(Exception, match="were never loaded"):
        model.predict(IMAGES, verbose=0)
    if executes_eagerly():
        with pytest.raises(ValueError, match="were never loaded"):
            lost(IMAGES)
    again.set_weights(weights)
    inputs = k.keras.Input(shape=(8, 8, 3))
    one, other = (
        k.keras.Model(inputs, each(inputs)).predict(IMAGES, verbose=0)
        for each in (layer, again)
    )
    assert one.shape == (8, 8, 8, 4)
    np.testing.assert_array_equal(one, other)
    config["embed"]["data"] = config["embed"]["data"][: 1 << 9]
    with pytest.raises(Exception, match="file of the model was edited"):
        k.Layer.from_config(config)


def test_tables_and_large_files(k: Keras, tmp_path: Path) -> None:
    """Vocabularies come along, of more than an attribute of HDF5 holds inline."""
    import tensorflow as tf

    source = str(tmp_path / "source")
    hub.convert(path("text_embedding"), source)
    noise = np.random.RandomState(0).bytes(1 << 17)
    (tmp_path / "source" / "assets" / "noise").write_bytes(noise)
    layer = k.Layer(source, trainable=True, embed=True)
    assert len(layer.get_config()["embed"]["data"]) > 1 << 17
    inputs = k.keras.Input(shape=(), dtype="string")
    model = k.keras.Model(inputs, k.keras.layers.Dense(1)(layer(inputs)))
    texts = np.array(["a cat", "dog", "the cat"], dtype=object)

    def predictions(model: Any) -> Any:
        if tf.executing_eagerly():
            return model.predict(tf.constant(texts), verbose=0)
        session = k.keras.backend.get_session()
        session.run(tf.compat.v1.tables_initializer())
        return model.predict(texts, verbose=0)

    wanted = predictions(model)
    files = [str(tmp_path / ("model" + ending)) for ending in endings(k) if ending]
    for file in files:
        model.save(file)
    shutil.rmtree(source)
    for file in files:
        k.keras.backend.clear_session()
        found = predictions(k.load(file))
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_objects_are_not_embedded(k: Keras) -> None:
    """The error says what to give in place of an object."""
    with pytest.raises(errors.LayerError, match="Pass the path of its directory"):
        k.Layer(lambda x: x, embed=True)
