"""Fine-tunes a module in a TensorFlow 1.15 Estimator, as a training job does.

The ``model_fn`` is that of a program for ``hub.Module``; only the line that loads the
module has changed, and takes any format::

    python examples/tf1_estimator_finetune.py MODULE JOB_DIR [--steps 40]

MODULE is a TF1 Hub module, a TF1 SavedModel or a TF2 SavedModel that maps images
to features. Started again with the same JOB_DIR, a job that was killed goes on from its
last checkpoint, and its weights win over the module's. At the end the model is
exported to JOB_DIR/export, for TensorFlow Serving and session-based loaders.

With a TF_CONFIG in the environment the same program is one task of a cluster of
parameter servers and workers. Estimators are in TensorFlow 1.15 to 2.15.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from typing import Any, Dict, Tuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import tensorflow  # noqa: E402

import hub_compat as hub  # noqa: E402

tf = tensorflow.compat.v1

CLASSES = 2


def model_fn(features: Any, labels: Any, mode: str, params: Dict[str, Any]) -> Any:
    """A classifier on top of the module, which is trained with it."""
    training = mode == tf.estimator.ModeKeys.TRAIN
    # Was: hub.Module(path, trainable=True, tags={"train"} if training else None)
    module = hub.load(params["module"], fill_collections=training)
    hidden = module(features["images"], training=training)
    with tf.variable_scope("head"):
        kernel = tf.get_variable("kernel", [hidden.shape[-1], CLASSES])
        bias = tf.get_variable("bias", [CLASSES], initializer=tf.zeros_initializer())
    logits = tf.matmul(hidden, kernel) + bias
    probabilities = tf.nn.softmax(logits, name="probabilities")
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(
            mode, {"features": hidden, "probabilities": probabilities}
        )

    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    loss += tf.losses.get_regularization_loss()
    if mode == tf.estimator.ModeKeys.EVAL:
        right = tf.metrics.accuracy(labels, tf.argmax(logits, axis=1))
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, eval_metric_ops={"accuracy": right}
        )
    optimizer = tf.train.GradientDescentOptimizer(params["rate"])
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        step = optimizer.minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=step)


def make_data(size: int, seed: int) -> Tuple[np.ndarray, np.ndarray]:
    """Images, float32 [64, size, size, 3]; whether the left half is brighter."""
    rng = np.random.RandomState(seed)
    images = rng.rand(64, size, size, 3).astype(np.float32) * 0.5
    labels = rng.randint(0, CLASSES, 64)
    images[labels == 1, :, : size // 2] += 0.5
    images[labels == 0, :, size // 2 :] += 0.5
    return images, labels.astype(np.int32)


def input_fn(size: int, seed: int, repeat: bool) -> Any:
    """Batches of 16, in an order that the seed decides."""
    images, labels = make_data(size, seed)
    data = tf.data.Dataset.from_tensor_slices(({"images": images}, labels))
    if repeat:
        data = data.shuffle(64, seed=seed).repeat()
    return data.batch(16)


def serving_input(size: int) -> Any:
    """What the exported model is fed with."""
    images = tf.placeholder(tf.float32, [None, size, size, 3], name="images")
    return tf.estimator.export.ServingInputReceiver(
        {"images": images}, {"images": images}
    )


class Progress(tf.train.SessionRunHook):
    """Prints the loss, and where a job starts from."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._taken = 0

    def begin(self) -> None:
        """Finds the tensors to print."""
        self._step = tf.train.get_global_step()
        (self._loss,) = tf.get_collection(tf.GraphKeys.LOSSES)[:1]

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Says whether there was a checkpoint."""
        step = session.run(self._step)
        print(
            "Resuming after step {}.".format(step)
            if step
            else "Starting with the weights of the module.",
            flush=True,
        )

    def before_run(self, context: Any) -> Any:
        """Asks for the loss of each step."""
        return tf.train.SessionRunArgs([self._step, self._loss])

    def after_run(self, context: Any, values: Any) -> None:
        """Prints the loss of every tenth step of this process."""
        step, loss = values.results
        self._taken += 1
        if self._taken % 10 == 0:
            print("step {:4d}  loss {:.4f}".format(int(step), loss), flush=True)
        time.sleep(self._pause)


def session_config() -> Any:
    """Sessions for a cluster: functions run on the devices of other processes.

    A loaded module is made of functions whose variables are on a parameter server;
    without share_cluster_devices_in_session a worker does not find them.
    """
    config = tf.ConfigProto(
        allow_soft_placement=True,
        experimental=tf.ConfigProto.Experimental(share_cluster_devices_in_session=True),
    )
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task")
    if task and task["type"] != "ps":
        # A worker needs no other worker, and does not wait for one that went.
        config.device_filters[:] = [
            "/job:ps",
            "/job:{type}/task:{index}".format(**task),
        ]
    return config


def main() -> None:
    """Trains, evaluates and exports."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("module", help="directory of the module")
    parser.add_argument("job_dir", help="checkpoints and the export")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--size", type=int, default=8, help="of the images, pixels")
    parser.add_argument(
        "--pause", type=float, default=0.0, help="between two steps, seconds"
    )
    arguments = parser.parse_args()
    tf.logging.set_verbosity(tf.logging.ERROR)
    if tf.executing_eagerly():
        tf.disable_v2_behavior()

    config = tf.estimator.RunConfig(
        model_dir=arguments.job_dir,
        session_config=session_config(),
        save_checkpoints_steps=10,
        tf_random_seed=1,
    )
    estimator = tf.estimator.Estimator(
        model_fn,
        config=config,
        params={"module": arguments.module, "rate": arguments.rate},
    )
    train = tf.estimator.TrainSpec(
        lambda: input_fn(arguments.size, 1, True),
        max_steps=arguments.steps,
        hooks=[Progress(arguments.pause)] if config.task_type != "ps" else [],
    )
    if "TF_CONFIG" in os.environ:
        evaluation = tf.estimator.EvalSpec(
            lambda: input_fn(arguments.size, 2, False), start_delay_secs=0
        )
        tf.estimator.train_and_evaluate(estimator, train, evaluation)
        if not config.is_chief:
            return
    else:
        estimator.train(train.input_fn, hooks=train.hooks, max_steps=train.max_steps)
    scores = estimator.evaluate(lambda: input_fn(arguments.size, 2, False))
    print("accuracy {accuracy:.3f} after step {global_step}".format(**scores))
    exported = estimator.export_saved_model(
        arguments.job_dir + "/export", lambda: serving_input(arguments.size)
    )
    print("exported", tensorflow.compat.as_str_any(exported))


if __name__ == "__main__":
    main()
