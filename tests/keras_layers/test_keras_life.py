"""The life of a KerasLayer: made, called, trained, frozen, saved, loaded, exported.

Of every recorded module, in every Keras, against what TF 1.15 gave. One signature
each: what other signatures give is in test_keras_layer.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

import expected
import numpy as np
import pytest
import replay
import runtimes
import smoke
from environment import executes_eagerly, keras_generations, tensorflow_version
from keras_kit import Keras, path
from steps import assert_stepped, chosen

import hub_compat as hub

MODULES = expected.module_names()

pytestmark = pytest.mark.tensorflow


@pytest.fixture(autouse=True)
def _without_optimizer() -> Any:
    """TensorFlow's optimizer has the same functions in test_modules.py."""
    if executes_eagerly() and tensorflow_version().startswith("1."):
        # Without it, fit() of TensorFlow 1.15 does not find its iterator.
        yield
        return
    with runtimes.unoptimized():
        yield


def in_training(recorded: Any, case: Any) -> Optional[Any]:
    """The recorded call that fit() makes of it; None if it draws random numbers."""
    for other in recorded.cases:
        if other.tags != ("train",) or other.signature != case.signature:
            continue
        if all(same_value(other.inputs[n], v) for n, v in case.inputs.items()):
            return other if other.deterministic else None
    return case if ("train",) not in recorded.variants else None


def same_value(one: Any, other: Any) -> bool:
    """Whether two recorded inputs are equal."""
    return bool(np.array_equal(one, other))


class Life:
    """A model of one layer and a scale, which keeps the recorded gradients."""

    def __init__(self, k: Keras, recorded: Any, case: Any) -> None:
        self.k, self.recorded, self.case = k, recorded, case
        self.output = case.gradient_of or min(case.outputs)
        self.trains = case.gradient_of is not None and bool(recorded.variables)
        plain = case.signature == recorded.callable(recorded.root)
        keywords: Dict[str, Any] = {}
        if not plain or self.output != "default":
            keywords = dict(signature=case.signature, output_key=self.output)
        if recorded.name == "function_library":
            # Its graph does not know the rank.
            keywords["output_shape"] = np.shape(case.outputs[self.output])[1:]
        self.layer = k.Layer(
            path(recorded.name), trainable=self.trains, name="module", **keywords
        )
        self.given = {n: replay.tensor(v) for n, v in case.inputs.items()}
        inputs: Any = {n: self._input(n, v) for n, v in case.inputs.items()}
        if len(inputs) == 1:
            ((inputs,), (self.given,)) = inputs.values(), self.given.values()
        outputs = self.layer(inputs)
        if self.trains:
            self.Scale = scale_of(k)
            outputs = self.Scale(name="scale")(outputs)
        self.model = k.keras.Model(inputs, outputs)

    def _input(self, name: str, value: Any) -> Any:
        keywords: Dict[str, Any] = {}
        if isinstance(value, expected.Sparse):
            shape, value = tuple(value.dense_shape), value.values
            keywords = dict(sparse=True)
        elif isinstance(value, expected.Ragged):
            shape, value = (len(value.row_splits[0]) - 1, None), value.values
            keywords = dict(ragged=True)
        else:
            shape = value.shape
        dtype = "string" if value.dtype.kind == "O" else value.dtype.name
        return self.k.keras.Input(batch_shape=shape, dtype=dtype, name=name, **keywords)

    def fit(self, weights: Any) -> float:
        """One step; the module's losses are there, and taken away again."""
        import tensorflow as tf

        def loss(wanted: Any, found: Any) -> Any:
            # Keras of TF 1.15 makes two dimensions of one.
            wanted = tf.reshape(wanted, tf.shape(found))
            return tf.reduce_sum(wanted * found) - sum(self.layer.losses)

        self.model.compile(self.k.keras.optimizers.SGD(expected.STEP), loss)
        pair = (self.given, tf.constant(weights, tf.float32))
        data = tf.data.Dataset.from_tensors(pair)
        history = self.model.fit(data, steps_per_epoch=1, verbose=0)
        return float(history.history["loss"][0])

    def outputs(self, model: Any) -> Any:
        """What a model gives for the recorded inputs."""
        import tensorflow as tf

        if executes_eagerly():
            return np.asarray(model(self.given))
        session = self.k.keras.backend.get_session()
        session.run(tf.compat.v1.tables_initializer())
        given = self.case.inputs
        feeds = dict(zip(model.inputs, (given[name] for name in sorted(given))))
        return session.run(model.outputs[0], feeds)

    def counts(self) -> range:
        """How many numbers the weights have: all, or of a signature those it uses."""
        every = self.recorded.variables
        used = every
        if self.case.signature != self.recorded.callable(self.recorded.root):
            used = {n: g for n, g in self.case.gradients.items() if g is not None}
        least, most = (sum(np.size(v) for v in vs.values()) for vs in (used, every))
        return range(least, most + 1)

    def values(self) -> Dict[str, Any]:
        """The values of the module's variables, by their recorded names."""
        return replay.variable_values(self, self, self.recorded)

    @property
    def variables(self) -> List[Any]:
        """The module's variables; of a session those that Keras gives values."""
        found: List[Any] = list(self.layer.resolved_object.variables)
        if not executes_eagerly():
            known = {id(weight) for weight in self.layer.weights}
            found = [variable for variable in found if id(variable) in known]
        return found

    def read(self, variables: List[Any]) -> List[Any]:
        """The values of variables, where Keras has them."""
        if executes_eagerly():
            return [variable.numpy() for variable in variables]
        values: List[Any] = self.k.keras.backend.get_session().run(list(variables))
        return values


def scale_of(k: Keras) -> Any:
    """A layer with one weight, which is one: the outputs are as they were."""
    import tensorflow as tf

    class Scale(k.keras.layers.Layer):  # type: ignore[misc, name-defined]
        def build(self, input_shape: Any) -> None:
            self.scale = self.add_weight(
                name="scale", shape=(), dtype="float32", initializer="ones"
            )
            self.built = True

        def call(self, x: Any) -> Any:
            return tf.cast(x, tf.float32) * tf.convert_to_tensor(self.scale)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    return Scale


@pytest.mark.support("life of a KerasLayer")
@pytest.mark.parametrize("module", smoke.parameters(MODULES, smoke.KERAS))
def test_life_of_a_layer(module: str, k: Keras, tmp_path: Path) -> None:
    """Called, counted, trained, frozen, saved, loaded and exported as recorded."""
    recorded = expected.load_expected(module)
    life = Life(k, recorded, chosen(recorded))
    layer, model, case = life.layer, life.model, life.case
    if case.deterministic:
        wanted = case.outputs[life.output]
        if life.trains:
            wanted = wanted.astype(np.float32)
        replay.assert_equal(life.outputs(model), wanted, case.id)
    count = layer.count_params()
    assert count in life.counts()
    lines: List[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    assert str(count + life.trains) in "\n".join(lines).replace(",", "")
    if life.trains:
        trains_and_freezes(life)
    comes_back(life, tmp_path)


def trains_and_freezes(life: Life) -> None:
    """A step of fit() is the recorded one; of the frozen layer, not a bit changes."""
    recorded, case, layer = life.recorded, life.case, life.layer
    weights = expected.weights_like(np.asarray(case.outputs[life.output]))
    loss = life.fit(weights)
    train = in_training(recorded, case)
    if train is not None:
        wanted = float(np.sum(weights * train.outputs[life.output]))
        np.testing.assert_allclose(loss, wanted, rtol=1e-4, atol=1e-5)
        assert_stepped(life.values(), recorded, train, train.updated)
    trained = layer.get_weights()
    layer.trainable = False
    life.fit(weights)
    assert all(
        one.tobytes() == other.tobytes()
        for one, other in zip(trained, layer.get_weights())
    )
    layer.trainable = True


def ways(k: Keras) -> Dict[str, Dict[str, Any]]:
    """Keywords for each way that this Keras saves a model, by the end of the name."""
    import tensorflow as tf

    if tf.__version__.startswith("1."):
        return {".h5": {}}
    if k.generation == 3:
        # From an .h5 file Keras 3.0 compiles the model whatever load_model() is told.
        old = k.keras.__version__.startswith("3.0.")
        h5: Dict[str, Any] = dict(include_optimizer=False) if old else {}
        return {".h5": h5, ".keras": {}}
    # With traces, which take seconds, it is in test_keras_layer.py.
    saved_model: Dict[str, Dict[str, Any]] = {"": dict(save_traces=False)}
    if len(keras_generations()) > 1:
        # The files of Keras 2 are where it is the only one.
        return saved_model
    return dict(saved_model, **{".h5": {}, ".keras": {}})


def comes_back(life: Life, folder: Path) -> None:
    """The trained weights are in every file, and in the module that is saved."""
    k, model, layer = life.k, life.model, life.layer
    eager = executes_eagerly()
    trained, values = life.values(), layer.get_weights()
    session = None if eager else k.keras.backend.get_session()
    hub.save(layer.resolved_object, folder / "saved", session=session)
    with runtimes.Runtime(lambda: hub.load(folder / "saved")) as runtime:
        found = replay.variable_values(runtime, runtime.loaded, life.recorded)
    assert sorted(found) == sorted(life.recorded.variables)
    for name, value in found.items():
        # Of a session, those that Keras knows nothing of.
        wanted = trained.get(name, life.recorded.variables[name])
        replay.assert_equal(value, wanted, name, relative=0)
    # A session would take long.
    outputs = life.outputs(model) if eager else None
    objects = {"Scale": life.Scale} if life.trains else {}
    for ending, keywords in ways(k).items():
        file = str(folder / ("model" + ending))
        model.save(file, **keywords)
        if not eager:
            k.keras.backend.clear_session()
        # Keras 3.0 does not hand custom_objects on to the layers of an .h5 file.
        with k.keras.utils.custom_object_scope(objects):
            again = k.load(file, compile=False)
        weights = again.get_layer("module").get_weights()
        assert len(weights) == len(values)
        for one, other in zip(weights, values):
            np.testing.assert_array_equal(one, other)
        if eager:
            np.testing.assert_array_equal(life.outputs(again), outputs)
