"""Which Keras hub_compat.KerasLayer is a layer of, and what the other one is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from choices import ROWS, saved
from environment import keras_generations
from keras_kit import Keras

import hub_compat as hub
from hub_compat import _registration, errors
from hub_compat._tf import keras as _tf_keras

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]

GENERATIONS = keras_generations()

# In one process, as its parts would be in programs of their own.
CHILD = """
import json, os, sys
import hub_compat as hub

def known():
    names = {}
    for name in ("keras", "tf_keras", "tensorflow.keras"):
        library = sys.modules.get(name)
        utils = getattr(library, "utils", None)
        if hasattr(utils, "get_custom_objects"):
            names[name] = sorted(
                key for key in utils.get_custom_objects() if "KerasLayer" in key
            )
    return names

found = {"frameworks": [n for n in ("tensorflow", "keras") if n in sys.modules]}
import tensorflow as tf
if tf.__version__.startswith("1."):
    tf.compat.v1.enable_v2_behavior()
found["tensorflow"] = tf.__version__
found["tf.keras"] = "3." if hasattr(tf.keras, "ops") else "2."
found["before use"] = known()
hub.Format
found["after use"] = known()
found["first"] = hub.KerasLayer.__module__
try:
    import tf_keras
except ImportError:
    pass
found["second"] = hub.KerasLayer.__module__
found["both"] = known()
for value in ("2", "3", "x"):
    os.environ["HUB_COMPAT_KERAS"] = value
    try:
        found[value] = hub.KerasLayer.__module__
    except Exception as error:
        found[value] = type(error).__name__
print(json.dumps(found))
"""


def test_what_the_program_imports_decides() -> None:
    """Keras 2 where tf_keras is imported, else what tf.keras is; a variable wins."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found: Dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    assert found["frameworks"] == []
    own = 3 if found["tf.keras"].startswith("3.") else 2
    assert found["first"] == "hub_compat.keras{}".format(own)
    there = 2 if 2 in GENERATIONS else own
    assert found["second"] == "hub_compat.keras{}".format(there)
    for generation in (2, 3):
        wanted = "hub_compat.keras{}".format(generation)
        if generation not in GENERATIONS:
            wanted = "MissingDependencyError"
        assert found[str(generation)] == wanted
    assert found["x"] == "OptionsError"
    # TensorFlow came after hub_compat: the first use of something registers.
    assert not any(found["before use"].values())
    for when in ("after use", "both"):
        assert found[when]
        for name, names in found[when].items():
            plain = found["tensorflow"].startswith("1.")
            assert names == ["KerasLayer"] + ["hub_compat>KerasLayer"] * (not plain), (
                when,
                name,
            )
    assert ("tf_keras" in found["both"]) is (len(GENERATIONS) == 2)


def test_import_registers(tmp_path: Path) -> None:
    """Where TensorFlow is there already, `import hub_compat` is enough to load."""
    k = Keras(GENERATIONS[-1])
    model = k.keras.Sequential([k.Layer(saved(tmp_path))])
    wanted = np.asarray(model(ROWS))
    file = str(tmp_path / ("model.h5" if hub_is_old() else "model.keras"))
    if hub_is_old():
        model.build((None, 3))
    model.save(file)
    code = (
        "import sys, tensorflow as tf\n"
        "if tf.__version__.startswith('1.'): tf.compat.v1.enable_v2_behavior()\n"
        "import hub_compat, numpy as np\n"
        "trust = {} if tf.__version__.startswith('1.') else {'safe_mode': False}\n"
        "model = tf.keras.models.load_model(sys.argv[1], **trust)\n"
        "print(np.asarray(model(np.ones((2, 3), np.float32))).tolist())\n"
    )
    output = subprocess.check_output([sys.executable, "-c", code, file])
    assert json.loads(output.decode().splitlines()[-1]) == wanted.tolist()


def hub_is_old() -> bool:
    """Whether Keras is that of TF 1.15, which has no .keras files."""
    import tensorflow as tf

    return bool(tf.__version__.startswith("1."))


def test_nothing_is_registered_before_tensorflow(monkeypatch: Any) -> None:
    """It imports nothing that the program has not imported."""
    monkeypatch.delitem(sys.modules, "tensorflow")
    monkeypatch.setattr(_registration, "_done", set())
    _registration.register()
    assert not _registration._done


def test_both_classes_are_attributes() -> None:
    """hub_compat.keras2 and keras3 need no import statement of their own."""
    for generation in (2, 3):
        name = "keras{}".format(generation)
        assert name in dir(hub)
        if generation in GENERATIONS:
            assert getattr(hub, name).KerasLayer._generation == generation
        else:
            with pytest.raises(errors.MissingDependencyError, match="Keras 3"):
                getattr(hub, name)


def test_legacy_keras_without_its_package(monkeypatch: Any) -> None:
    """The error names the variable, and the package that it needs."""
    from hub_compat._tf import keras as _tf_keras

    class Lazy:
        __version__ = "2.21.0"

        @property
        def keras(self) -> Any:
            raise ImportError("no tf_keras")

    monkeypatch.setattr(_tf_keras, "tf", Lazy())
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.delenv("HUB_COMPAT_KERAS", raising=False)
    monkeypatch.delitem(sys.modules, "tf_keras", raising=False)
    with pytest.raises(errors.MissingDependencyError, match="tf-keras~=2.21.0"):
        _tf_keras.keras_generation()


def sequential(k: Keras, layer: Any) -> Any:
    """A Sequential of the layer."""
    return k.keras.Sequential([layer, k.keras.layers.Dense(1)])


def functional(k: Keras, layer: Any) -> Any:
    """A functional model with the layer in it."""
    inputs = k.keras.Input(shape=(3,))
    return k.keras.Model(inputs, k.keras.layers.Dense(1)(layer(inputs)))


def subclassed(k: Keras, layer: Any) -> Any:
    """A model that has the layer as an attribute."""

    class Own(k.keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = layer
            self.dense = k.keras.layers.Dense(1)

        def call(self, inputs: Any) -> Any:
            return self.dense(self.inner(inputs))

    return Own()


def in_lambda(k: Keras, layer: Any) -> Any:
    """A model that calls the layer where Keras does not look."""
    call = k.keras.layers.Lambda(lambda x: layer(x), output_shape=(2,))
    return k.keras.Sequential([call, k.keras.layers.Dense(1)])


def fitted(k: Keras, build: Any, layer: Any) -> None:
    """Trains a model of a layer."""
    model = build(k, layer)
    model.compile("sgd", "mse")
    model.fit(ROWS, np.ones((2, 1)), verbose=0)


@pytest.mark.skipif(len(GENERATIONS) < 2, reason="one Keras is installed")
@pytest.mark.parametrize("trainable", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("build", [sequential, functional, subclassed, in_lambda])
def test_the_wrong_keras_names_the_right_one(
    build: Any, trainable: bool, k: Keras, tmp_path: Path
) -> None:
    """A layer of the other Keras is refused at once, in a model of any kind."""
    directory = saved(tmp_path)
    right = r"hub_compat\.keras{}\.KerasLayer".format(k.generation)
    other = Keras(5 - k.generation).Layer(directory, trainable=trainable)
    with pytest.raises((TypeError, ValueError), match=right):
        fitted(k, build, other)
    if build is not in_lambda:
        fitted(k, build, k.Layer(directory, trainable=trainable))


@pytest.mark.skipif(len(GENERATIONS) < 2, reason="one Keras is installed")
def test_a_layer_around_one_of_the_other_keras(k: Keras, tmp_path: Path) -> None:
    """What the handle is made of is nobody's mistake."""
    other = Keras(5 - k.generation).Layer(saved(tmp_path))
    fitted(k, sequential, k.Layer(other))


def test_private_names_of_tensorflow_hub(k: Keras, tmp_path: Path) -> None:
    """Sub-classes that read them work."""
    directory = saved(tmp_path)
    layer = k.Layer(
        directory, signature="serving_default", output_key="output_0", arguments={}
    )
    assert layer._handle == directory
    assert layer._signature == "serving_default"
    assert layer._output_key == "output_0"
    assert layer._arguments == {}
    assert layer._signature_outputs_as_dict is None
    assert layer._load_options is None
    assert layer._is_hub_module_v1 is False
    assert layer._has_training_argument is False
    assert callable(layer._callable)
    assert layer._func is layer.resolved_object


@pytest.mark.skipif(3 not in GENERATIONS, reason="of Keras 3")
def test_weight_that_is_a_copy_is_refused(monkeypatch: Any) -> None:
    """Training would change the copy only, so the Keras that makes it is named."""
    import tensorflow as tf

    library = _tf_keras.keras3()

    class Copy:
        """A weight that keeps its value to itself."""

        __slots__ = ("value",)

        def __init__(self, initializer: Any, **ignored: Any) -> None:
            self.value = tf.Variable(initializer)

    variable = tf.Variable([1.0, 2.0])
    assert _tf_keras.weight_of(variable, True).value is variable
    monkeypatch.setattr(library, "Variable", Copy)
    with pytest.raises(errors.LayerError, match=library.__version__):
        _tf_keras.weight_of(variable, True)
