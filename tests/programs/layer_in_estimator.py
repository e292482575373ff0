"""Trains a KerasLayer of image_bn in Estimators; prints JSON.

A program of its own: Estimators build graphs, and leave much behind::

    python layer_in_estimator.py IMAGE_BN SCRATCH_DIR
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any, Dict, List

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from finetune_with_tensorflow_hub import two_cpus  # noqa: E402
from train_in_graph import RATE, STEPS, batch  # noqa: E402

import hub_compat as hub  # noqa: E402

v1 = tf.compat.v1
_DEVICES: List[str] = []


def input_fn() -> Any:
    """The batches of testdata/scripts/record_training.py, and what is wished for."""
    images = np.stack([batch(step) for step in range(STEPS)])
    wishes = np.ones([STEPS, len(images[0]), 6], np.float32)
    return tf.data.Dataset.from_tensor_slices(({"images": images}, wishes))


def model_fn(features: Any, labels: Any, mode: str, params: Any) -> Any:
    """As TensorFlow Hub's guide has it: all comes from the layer, not collections."""
    training = mode == v1.estimator.ModeKeys.TRAIN
    layer = hub.KerasLayer(params["module"], trainable=True)
    outputs = layer(features["images"], training=training)
    if mode == v1.estimator.ModeKeys.PREDICT:
        return v1.estimator.EstimatorSpec(mode, predictions={"outputs": outputs})
    loss = tf.reduce_mean(tf.square(outputs - labels)) + tf.add_n(layer.losses)
    v1.add_to_collection(v1.GraphKeys.LOSSES, loss)
    optimizer = v1.train.GradientDescentOptimizer(RATE)
    step = optimizer.minimize(
        loss, v1.train.get_global_step(), var_list=layer.trainable_weights
    )
    return v1.estimator.EstimatorSpec(
        mode, loss=loss, train_op=tf.group(step, *layer.updates)
    )


def of_model_fn(module: str, directory: str) -> Any:
    """An Estimator with a model_fn."""
    return v1.estimator.Estimator(model_fn, directory, params={"module": module})


def of_model_fn_mirrored(module: str, directory: str) -> Any:
    """The same on two replicas, each of which gets whole batches."""
    # What TensorFlow takes by default waits for ever in a session of TF 2.
    strategy = tf.distribute.MirroredStrategy(
        _DEVICES, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    devices = v1.ConfigProto(device_count={"CPU": 2}, allow_soft_placement=True)
    config = v1.estimator.RunConfig(train_distribute=strategy, session_config=devices)
    return v1.estimator.Estimator(
        model_fn, directory, config, params={"module": module}
    )


def of_model(module: str, directory: str) -> Any:
    """An Estimator made of a Keras model."""
    keras = tf.keras
    inputs = keras.Input(shape=(8, 8, 3), name="images")
    layer = hub.KerasLayer(module, trainable=True)
    model = keras.Model(inputs, layer(inputs))
    # Keras' newer optimizers do not run in Estimators.
    optimizers = getattr(keras.optimizers, "legacy", keras.optimizers)
    model.compile(optimizers.SGD(RATE), "mse")
    return keras.estimator.model_to_estimator(model, model_dir=directory)


class Losses(v1.train.SessionRunHook):
    """Keeps the loss of each step."""

    def __init__(self) -> None:
        self.values: List[float] = []

    def before_run(self, context: Any) -> Any:
        """Asks for it; model_to_estimator names it so, too."""
        (loss,) = v1.get_collection(v1.GraphKeys.LOSSES)[:1]
        return v1.train.SessionRunArgs(loss)

    def after_run(self, context: Any, values: Any) -> None:
        """Keeps it."""
        self.values.append(float(values.results))


def twice_each() -> Any:
    """Each batch for both replicas."""
    return input_fn().flat_map(
        lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(2)
    )


def serving_input() -> Any:
    """What the exported model is fed with."""
    images = v1.placeholder(tf.float32, [None, 8, 8, 3], name="images")
    return v1.estimator.export.ServingInputReceiver(
        {"images": images}, {"images": images}
    )


def serve(directory: str, images: np.ndarray) -> List[float]:
    """What an export gives in a session."""
    with v1.Session(graph=tf.Graph()) as session:
        meta = v1.saved_model.loader.load(session, ["serve"], directory)
        signature = meta.signature_def["serving_default"]
        (output,) = signature.outputs.values()
        return np.ravel(
            session.run(output.name, {signature.inputs["images"].name: images})
        ).tolist()


def run(estimator: Any, batches: Any) -> Dict[str, Any]:
    """Trains, evaluates, predicts and exports, each in a graph of its own."""
    losses = Losses()
    estimator.train(batches, hooks=[losses])
    outputs = list(estimator.predict(input_fn))[: len(batch(0))]
    exported = estimator.export_saved_model(
        os.path.join(estimator.model_dir, "export"), serving_input
    )
    reader = tf.train.load_checkpoint(estimator.model_dir)
    return {
        "losses": losses.values,
        "keys": {
            name: reader.get_tensor(name).tolist()
            for name in reader.get_variable_to_shape_map()
            if "OBJECT_GRAPH" not in name
        },
        "evaluated": float(estimator.evaluate(input_fn)["loss"]),
        "predicted": np.ravel([list(o.values())[0] for o in outputs]).tolist(),
        "served": serve(tf.compat.as_str(exported), batch(0)),
    }


def main(module: str, directory: str) -> None:
    """Trains each."""
    _DEVICES.extend(two_cpus())
    v1.logging.set_verbosity(v1.logging.ERROR)
    found = {}
    for make in (of_model_fn, of_model_fn_mirrored, of_model):
        name = make.__name__
        batches = twice_each if make is of_model_fn_mirrored else input_fn
        found[name] = run(make(module, os.path.join(directory, name)), batches)
    print()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
