"""Fits layers of modules on one device and under a strategy; prints JSON.

A program of its own: devices and servers must be set up before TensorFlow starts::

    python fit_under_strategy.py mirrored|workers|servers KERAS FOLDER MODULE...

``workers`` is one of two processes; TF_CONFIG says which. FOLDER gets the modules that
``hub.save`` writes after the training under the strategy; ``mirrored`` also exports the
whole model of one.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any, List, Tuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
warnings.simplefilter("ignore")

import expected  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from finetune_with_tensorflow_hub import two_cpus  # noqa: E402
from keras_kit import Keras  # noqa: E402

import hub_compat as hub  # noqa: E402

STEPS = 3
# A batch for each module; its halves go to the two replicas. Those of images are the
# same: a replica's half has the mean and the variance of the whole batch, which is
# what batch normalization takes.
IMAGES = np.tile(np.random.RandomState(0).rand(4, 8, 8, 3), [2, 1, 1, 1])
ROWS = np.random.RandomState(1).normal(size=[8, 4])
# Words of all three parts of the embedding in each half: TensorFlow 2 crashes where
# neither replica uses a row of a variable.
TEXTS = ["the he this", "with or zebra", "and", "by the", "of was have", "at by", "or"]
BATCHES = {
    "image_bn": IMAGES.astype(np.float32),
    "tf221/keras2_images": IMAGES.astype(np.float32),
    "loss_graph": ROWS.astype(np.float32),
    "text_embedding": np.array(TEXTS + ["zebra"], dtype="S"),
}
TARGETS = np.tile(np.linspace(0, 1, 4), 2).reshape(8, 1).astype(np.float32)


def mirrored() -> Any:
    """Two replicas in this process."""
    return tf.distribute.MirroredStrategy(two_cpus())


def workers() -> Any:
    """A replica in each of two processes."""
    found = getattr(tf.distribute, "MultiWorkerMirroredStrategy", None)
    return (found or tf.distribute.experimental.MultiWorkerMirroredStrategy)()


def servers() -> Any:
    """Variables on a server, and one worker, which takes the steps in order."""
    from ports import free_ports

    hosts = ["127.0.0.1:{}".format(port) for port in free_ports(2)]
    spec = tf.train.ClusterSpec({"worker": hosts[:1], "ps": hosts[1:]})
    _RUNNING.extend(
        tf.distribute.Server(spec, job_name=job, protocol="grpc") for job in spec.jobs
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, rpc_layer="grpc"
    )
    return tf.distribute.experimental.ParameterServerStrategy(resolver)


_RUNNING: List[Any] = []


def fit(k: Keras, strategy: Any, module: str, of_object: bool) -> Tuple[Any, ...]:
    """Takes some steps of gradient descent; returns losses, the layer, the model."""
    x, y = BATCHES[module], TARGETS
    with strategy.scope():
        path = str(expected.HERE / module / "module")
        handle = hub.load(path) if of_object else path
        layer = k.Layer(handle, trainable=True)
        dtype = "string" if x.dtype.kind == "S" else "float32"
        inputs = k.keras.Input(shape=x.shape[1:], dtype=dtype)
        dense = k.keras.layers.Dense(1, kernel_initializer="ones")
        model = k.keras.Model(inputs, dense(layer(inputs)))
        model.compile(k.keras.optimizers.SGD(0.05), "mse")
    if k.generation == 3 and "TF_CONFIG" in os.environ and of_object:
        return loop(strategy, model, x, y), layer, model
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).repeat()
    history = model.fit(batches, epochs=STEPS, steps_per_epoch=1, verbose=0)
    return history.history["loss"], layer, model


def loop(strategy: Any, model: Any, x: Any, y: Any) -> List[Any]:
    """The same by hand: Keras 3 cannot fit() with several processes."""
    half = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    own = slice(4 * half, 4 * half + 4)

    @tf.function
    def step() -> Any:
        def on_replica() -> Any:
            with tf.GradientTape() as tape:
                errors = tf.square(model(x[own], training=True) - y[own])
                loss = (tf.reduce_mean(errors) + sum(model.losses)) / 2
            variables = [v.value for v in model.trainable_variables]
            model.optimizer.apply(tape.gradient(loss, variables))
            return loss

        losses = strategy.run(on_replica)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    return [step() for _ in range(STEPS)]


def main(kind: str, generation: int, folder: str, modules: Any) -> None:
    """Fits each module as an object under the strategy, and as a path without."""
    strategy = {f.__name__: f for f in (mirrored, workers, servers)}[kind]()
    alone = tf.distribute.get_strategy()
    k = Keras(generation)
    found = {}
    for module in modules:
        results = {}
        for name, used in (("many", strategy), ("one", alone)):
            losses, layer, model = fit(k, used, module, of_object=name == "many")
            loaded = layer.resolved_object
            results[name] = {
                "losses": [float(loss) for loss in losses],
                "weights": [weight.tolist() for weight in layer.get_weights()],
                "names": [weight.name.split(":")[0] for weight in layer.weights],
                "kinds": sorted({type(v).__name__ for v in loaded.variables}),
            }
            if name == "many":
                hub.save(loaded, os.path.join(folder, module))
            if (kind, name, module) == ("mirrored", "many", "loss_graph"):
                hub.export_reusable(model, os.path.join(folder, "exported"))
        found[module] = results
    print()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    if tf.__version__.startswith("1."):
        tf.compat.v1.enable_v2_behavior()
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
