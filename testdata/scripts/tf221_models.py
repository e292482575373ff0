"""Models that only a new TensorFlow writes, and what they give there.

``make testdata-tf2`` runs this under TensorFlow 2.21 and writes each model to
``tf221/<name>/module`` and to ``tf221/<name>/expected.npz`` what TensorFlow's own
loader computes with it: for every call its inputs, outputs, the gradients of all
trainable variables it reads, and all variables after it. Keys of the archive are
``call|in|name``, ``call|out|name``, ``call|grad|variable``, ``call|after|variable``.
A call is ``signature:<name>`` or ``call`` or ``train``, the root object without and
with ``training=True``.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tf221_ops import module_defaults, module_ops, numbers, tf1_saved_model  # noqa: E402

HERE = Path(__file__).resolve().parents[1] / "tf221"


def set_weights(variables: List[Any]) -> None:
    """Gives variables values that differ, and that variances may have."""
    for i, variable in enumerate(variables):
        if getattr(variable, "dtype", None) == "float32":
            shape = tuple(variable.shape)
            value = 0.5 * numbers(*(shape + (i + 1,)))[..., -1] if shape else 0.5
            variable.assign(
                np.abs(value) + 0.1 if "variance" in variable.name else value
            )


def keras2_functional(path: str) -> Dict[str, Any]:
    """Convolution, batch normalization, two inputs, an optimizer with slots."""
    import tf_keras as k

    image, extra = k.Input((8, 8, 3), name="image"), k.Input((4,), name="extra")
    x = k.layers.Conv2D(4, 3, name="conv")(image)
    x = k.layers.BatchNormalization(momentum=0.9, name="bn")(x)
    x = k.layers.GlobalAveragePooling2D()(k.layers.ReLU()(x))
    x = k.layers.Dense(3, activation="gelu", name="dense")(
        k.layers.Concatenate()([x, extra])
    )
    x = k.layers.Dense(2, activation="swish", name="head")(x)
    model = k.Model([image, extra], x)
    model.compile("adam", "mse")
    model.fit(
        [numbers(4, 8, 8, 3), numbers(4, 4)], numbers(4, 2), verbose=0, shuffle=False
    )
    set_weights(model.weights)
    model.save(path, save_format="tf")
    given = [numbers(4, 8, 8, 3), numbers(4, 4)]
    return {
        "signature:serving_default": dict(zip(("image", "extra"), given)),
        "call": given,
        "train": given,
    }


def keras2_old_optimizer(path: str) -> Dict[str, Any]:
    """An optimizer of Keras before TF 2.11, whose slots are no children of it."""
    import tf_keras as k

    model = k.Sequential([k.layers.Input((4,)), k.layers.Dense(3), k.layers.Dense(2)])
    model.compile(k.optimizers.legacy.Adam(), "mse")
    model.fit(numbers(6, 4), numbers(6, 2), verbose=0, shuffle=False)
    set_weights(model.weights)
    model.save(path, save_format="tf")
    given = numbers(3, 4)
    return {"call": given, "train": given}


def keras2_train_step(path: str) -> Dict[str, Any]:
    """A step of an optimizer of Keras before TF 2.11, and one of a plain one."""
    import tf_keras as k

    class Job(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = k.Sequential([k.layers.Dense(2, name="dense")])
            self.optimizer = k.optimizers.legacy.Adam(0.1)
            self.table = tf.Variable(numbers(3, 2), name="table")

        @tf.function(input_signature=[tf.TensorSpec([3, 4]), tf.TensorSpec([3, 2])])
        def fit(self, x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.model(x) - y) ** 2)
            weights = self.model.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
            return {"loss": loss, "kernel": weights[0].read_value()}

        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.int32)])
        def rows(self, index: Any) -> Any:
            handle = self.table.handle
            taken = tf.raw_ops.ResourceGatherNd(
                resource=handle, indices=index, dtype=tf.float32
            )
            step = tf.ones_like(self.table)
            tf.raw_ops.ResourceApplyGradientDescent(var=handle, alpha=0.5, delta=step)
            return {"taken": taken, "after": self.table.read_value()}

    job = Job()
    job.model(numbers(3, 4))
    job.fit(numbers(3, 4), numbers(3, 2))
    set_weights(job.model.weights)
    tf.saved_model.save(job, path, signatures={"fit": job.fit, "rows": job.rows})
    return {
        "signature:fit": {"x": numbers(3, 4), "y": numbers(3, 2)},
        "signature:rows": {"index": np.array([[0], [2]], np.int32)},
    }


def keras2_images(path: str) -> Dict[str, Any]:
    """Features of images, with statistics and a loss, for a training job."""
    import tf_keras as k

    model = k.Sequential(
        [
            k.layers.Input((8, 8, 3)),
            k.layers.Conv2D(
                4, 3, padding="same", kernel_regularizer=k.regularizers.L2(0.01)
            ),
            k.layers.BatchNormalization(),
            k.layers.ReLU(),
            k.layers.AveragePooling2D(4),
            k.layers.Flatten(),
        ]
    )
    set_weights(model.weights)
    model.save(path, save_format="tf")
    given = numbers(3, 8, 8, 3)
    return {"call": given, "train": given}


def keras2_text(path: str) -> Dict[str, Any]:
    """A subclassed model with TextVectorization."""
    import tf_keras as k

    class Model(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.vectorize = k.layers.TextVectorization(output_sequence_length=4)
            self.vectorize.adapt(["a b c", "c d", "d d"])
            self.embed = k.layers.Embedding(8, 3, name="embed")

        def call(self, inputs: Any, training: bool = False) -> Any:
            return tf.reduce_mean(self.embed(self.vectorize(inputs)), 1)

    model = Model()
    model(tf.constant(["a b", "z"]))
    set_weights(model.weights)
    tf.saved_model.save(model, path)
    given = np.array(["a c d d", "Z!, a", ""])
    return {"signature:serving_default": {"input_1": given}, "call": given}


def keras2_dropout(path: str) -> Dict[str, Any]:
    """Layers in sequence; the dropout is nothing but in training."""
    import tf_keras as k

    model = k.Sequential(
        [
            k.layers.Input((6,)),
            k.layers.Dense(5, activation="relu", name="one"),
            k.layers.Dropout(0.5),
            k.layers.Dense(2, name="two"),
        ]
    )
    set_weights(model.weights)
    tf.saved_model.save(model, path)
    return {"call": numbers(3, 6)}


def keras2_recurrent(path: str) -> Dict[str, Any]:
    """LSTM and GRU: loops and TensorLists, with gradients."""
    import tf_keras as k

    inputs = k.Input((5, 3))
    x = k.layers.LSTM(4, return_sequences=True, name="lstm")(inputs)
    x = k.layers.GRU(2, name="gru")(x)
    model = k.Model(inputs, x)
    set_weights(model.weights)
    model.save(path, save_format="tf")
    return {"call": numbers(2, 5, 3)}


def keras3_export(path: str) -> Dict[str, Any]:
    """What model.export() of Keras 3 writes: batch normalization, dropout, GELU."""
    import keras as k

    model = k.Sequential(
        [
            k.layers.Input((6, 6, 2)),
            k.layers.Conv2D(3, 3, name="conv"),
            k.layers.BatchNormalization(name="bn"),
            k.layers.Activation("gelu"),
            k.layers.Dropout(0.3),
            k.layers.Flatten(),
            k.layers.Dense(2, activation="softmax", name="dense"),
        ]
    )
    set_weights(model.weights)
    model.export(path, verbose=False)
    return {"signature:serving_default": {"keras_tensor": numbers(3, 6, 6, 2)}}


def _reusable(k: Any, path: str, dropout: float) -> Dict[str, Any]:
    """What hub_compat.export_reusable() writes of a model with two named inputs."""
    import hub_compat

    l2 = k.regularizers.L2(0.1)
    image = k.Input((6, 6, 2), name="image")
    ids = k.Input((3,), dtype="int32", name="ids")
    x = k.layers.Conv2D(3, 3, kernel_regularizer=l2, name="conv")(image)
    x = k.layers.BatchNormalization(momentum=0.9, name="bn")(x)
    x = k.layers.GlobalAveragePooling2D()(k.layers.Activation("gelu")(x))
    y = k.layers.Embedding(5, 4, name="embedding")(ids)
    y = k.layers.Dropout(dropout, seed=3)(k.layers.LSTM(3, name="lstm")(y))
    x = k.layers.Concatenate()([x, y])
    head = k.layers.Dense(2, kernel_regularizer=l2, name="head")(x)
    model = k.Model({"image": image, "ids": ids}, {"head": head, "features": x})
    set_weights(model.weights)
    hub_compat.export_reusable(model, path)
    loaded = tf.saved_model.load(path)
    given = {
        "image": numbers(2, 6, 6, 2),
        "ids": np.array([[1, 4, 2], [0, 3, 3]], np.int32),
    }
    # That it is the model is for the model to say.
    for name, value in model(given).items():
        np.testing.assert_allclose(loaded(given)[name], value, rtol=1e-6)
    return {"call": given, "train": given, "signature:serving_default": given}


def keras2_reusable(path: str) -> Dict[str, Any]:
    """Of Keras 2."""
    import tf_keras

    return _reusable(tf_keras, path, 0.0)


def keras3_reusable(path: str) -> Dict[str, Any]:
    """Of Keras 3, whose dropout gives the same random numbers everywhere."""
    import keras

    return _reusable(keras, path, 0.3)


def keras3_transformer(path: str) -> Dict[str, Any]:
    """Embeddings, attention and LayerNormalization, in two endpoints."""
    import keras as k

    ids = k.Input((6,), dtype="int32", name="ids")
    x = k.layers.Embedding(11, 8, name="words")(ids)
    for i in range(2):
        attended = k.layers.MultiHeadAttention(2, 4, name="attend{}".format(i))(x, x)
        x = k.layers.LayerNormalization(name="norm{}".format(i))(x + attended)
        x = x + k.layers.Dense(8, activation="gelu", name="dense{}".format(i))(x)
    model = k.Model(ids, x)
    set_weights(model.weights)
    archive = k.export.ExportArchive()
    archive.track(model)
    spec = [tf.TensorSpec((None, 6), tf.int32, name="ids")]
    archive.add_endpoint("tokens", lambda ids: model(ids, training=False), spec)
    archive.add_endpoint(
        "pooled", lambda ids: tf.reduce_mean(model(ids, training=False), 1), spec
    )
    archive.write_out(path, verbose=False)
    given = {"ids": np.arange(12, dtype=np.int32).reshape(2, 6) % 11}
    return {"signature:tokens": given, "signature:pooled": given}


class _Structures(tf.Module):
    """Dicts, ragged tensors and tables."""

    def __init__(self) -> None:
        super().__init__()
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                ["a", "b"], tf.constant([1, 2], tf.int64)
            ),
            0,
        )
        # Its contents are in the checkpoint.
        self.counts = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
        self.counts.insert(["a", "b"], tf.constant([7, 5], tf.int64))
        self.weights = tf.Variable(numbers(3, 2), name="weights")
        self.tail = tf.Variable(numbers(2, 2), name="tail")

    @tf.function
    def __call__(self, inputs: Any, training: bool = False) -> Any:
        ids = tf.ragged.map_flat_values(self.table.lookup, inputs["words"])
        found = tf.ragged.map_flat_values(lambda i: tf.gather(self.weights, i), ids)
        return {
            "sum": tf.reduce_sum(found, 1) @ self.tail * inputs["scale"],
            "padded": found.to_tensor(),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def lookup(self, words: Any) -> Any:
        """A table alone."""
        return {
            "ids": self.table.lookup(words),
            "counts": self.counts.lookup(words),
        }


def module_structures(path: str) -> Dict[str, Any]:
    """A tf.Module with dicts, ragged inputs and a table of strings."""
    module = _Structures()
    module.__call__.get_concrete_function(
        {
            "words": tf.RaggedTensorSpec([None, None], tf.string),
            "scale": tf.TensorSpec([], tf.float32),
        }
    )
    tf.saved_model.save(module, path, signatures={"lookup": module.lookup})
    return {
        "call": {
            "words": tf.ragged.constant([["a", "x"], ["b"], []]),
            "scale": np.float32(2.0),
        },
        "signature:lookup": {"words": np.array(["b", "?", "a"])},
    }


class _ControlFlow(tf.Module):
    """Loops, conditionals, TensorArrays."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = tf.Variable(numbers(3, 3), name="matrix")

    @tf.function(
        input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([], tf.int32)]
    )
    def __call__(self, x: Any, steps: Any) -> Any:
        states = tf.TensorArray(tf.float32, size=steps)
        for i in tf.range(steps):
            x = tf.tanh(x @ self.matrix)
            states = states.write(i, tf.reduce_sum(x))
        if tf.reduce_sum(x) > 0.0:
            x = x * 2.0
        else:
            x = x @ self.matrix
        return {"last": x, "states": states.stack()}


def module_control_flow(path: str) -> Dict[str, Any]:
    """while_loop, cond and TensorArray."""
    module = _ControlFlow()
    tf.saved_model.save(module, path, signatures=module.__call__)
    return {
        "signature:serving_default": {"x": numbers(2, 3), "steps": np.int32(3)},
    }


MODELS: Dict[str, Callable[[str], Dict[str, Any]]] = {
    function.__name__: function
    for function in (
        keras2_dropout,
        keras2_functional,
        keras2_old_optimizer,
        keras2_images,
        keras2_train_step,
        keras2_recurrent,
        keras2_reusable,
        keras2_text,
        keras3_export,
        keras3_reusable,
        keras3_transformer,
        module_control_flow,
        module_defaults,
        module_ops,
        module_structures,
        tf1_saved_model,
    )
}


def _photographs() -> np.ndarray:
    """Two images that differ as a whole, and not only from pixel to pixel."""
    sizes = (2, 96, 96, 3)
    n, y, x, c = np.meshgrid(*[np.arange(size) for size in sizes], indexing="ij")
    waves = np.sin(x * (0.05 + 0.11 * n) + y * 0.04 * (n + 1) + c * 0.7)
    light = np.cos(n * 2.1 + c)
    values = 120 + 60 * light + 50 * waves + 20 * numbers(*sizes)
    return values.astype(np.float32)


def _condition(model: Any, given: np.ndarray) -> None:
    """Gives a model with random weights batch norms that behave as trained ones do.

    With those of a new model, the last bit of a float32 is the third digit of a
    gradient, in one TensorFlow as in two: activations grow or vanish from layer to
    layer, and some are so near to the kink of a ReLU that rounding decides. Here most
    of them are some deviations away from it, on either side. The statistics are those
    of what the layers get, but not quite: around its own mean, what the gradient of a
    scale sums up cancels out.
    """
    import tf_keras as k

    norms = [n for n in model.layers if isinstance(n, k.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for i, norm in enumerate(norms):
        size = int(norm.gamma.shape[0])
        signs = np.where(numbers(size, i % 3 + 2)[:, -1] > -0.5, 1, -1)
        if any(isinstance(n.layer, k.layers.Add) for n in norm.outbound_nodes):
            # Two of them, one up and one down, would meet at the kink.
            signs[:] = 1
        norm.gamma.assign(0.5 + 0.25 * numbers(size, i % 5 + 1)[:, -1])
        norm.beta.assign(signs * (1 + 0.3 * numbers(size, i % 4 + 1)[:, -1]))
        norm.momentum = 0.0
    model(given, training=True)
    for i, (norm, momentum) in enumerate(zip(norms, momenta)):
        norm.momentum = momentum
        deviations = 0.25 + 0.5 * numbers(int(norm.gamma.shape[0]), i % 5 + 1)[:, -1]
        norm.moving_mean.assign_add(deviations * np.sqrt(norm.moving_variance))


def _application(name: str, path: str) -> Dict[str, Any]:
    """One of Keras' applications, with reproducible weights."""
    import tf_keras as k

    k.utils.set_random_seed(5)
    # A softmax would make relative errors of what is absolute in its input.
    model = getattr(k.applications, name)(
        weights=None, input_shape=(96, 96, 3), classifier_activation=None
    )
    given = _photographs()
    _condition(model, given)
    model.save(path, save_format="tf")
    # Dropout has other random numbers elsewhere.
    return {"call": given, **({} if name == "EfficientNetB0" else {"train": given})}


# Too large to keep; test_lowering_large.py has them written where it can.
LARGE: Dict[str, Callable[[str], Dict[str, Any]]] = {
    name: functools.partial(_application, name)
    for name in ("EfficientNetB0", "MobileNetV2", "ResNet50")
}


def main() -> None:
    """Writes and records every model, or those that are named."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import tf221_replay

    assert tf.__version__.startswith("2.21."), tf.__version__
    out, names = HERE, sys.argv[1:]
    if names[:1] == ["--out"]:
        out, names = Path(names[1]), names[2:]
    for name in names or list(MODELS):
        folder = out / name
        shutil.rmtree(str(folder), ignore_errors=True)
        calls = {**MODELS, **LARGE}[name](str(folder / "module"))
        tf.keras.backend.clear_session()
        arrays: Dict[str, Any] = {}
        for call, given in calls.items():
            flat = tf221_replay.flatten(given)
            arrays.update(("{}|in|{}".format(call, k), v) for k, v in flat.items())
            loaded = tf.saved_model.load(str(folder / "module"))
            found = tf221_replay.run(loaded, call, given)
            for part, values in found.items():
                arrays.update(
                    ("{}|{}|{}".format(call, part, k), v) for k, v in values.items()
                )
        np.savez_compressed(str(folder / "expected.npz"), **arrays)
        print(name, len(arrays), "arrays")


if __name__ == "__main__":
    main()
