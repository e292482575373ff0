"""Trains modules in TF1 graphs and sessions, with any TensorFlow; prints JSON.

A program of its own: ``disable_v2_behavior``, or the other switch that is named, is
for the whole process::

    python train_in_graph.py IMAGE_BN TEXT_EMBEDDING SCRATCH_DIR WORDS SWITCH
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
import tensorflow  # noqa: E402

import hub_compat as hub  # noqa: E402

tf = tensorflow.compat.v1
STEPS, RATE = 4, 0.1


def batch(step: int) -> np.ndarray:
    """The images that testdata/scripts/record_training.py trained with."""
    return np.random.RandomState(step).rand(4, 8, 8, 3).astype(np.float32)


def values(session: Any, variables: List[Any]) -> Dict[str, List[float]]:
    """Values by name."""
    found = session.run({v.name.split(":")[0]: v.read_value() for v in variables})
    return {name: np.ravel(value).tolist() for name, value in found.items()}


class Job:
    """A graph that trains image_bn as old programs do."""

    def __init__(self, path: str, tags: Any, waits: bool = True) -> None:
        self.images = tf.placeholder(tf.float32, [None, 8, 8, 3])
        self.module = hub.load(path, tags=tags, fill_collections=True)
        # Of the variant for training, a call need not say that it trains.
        training = {} if tags else {"training": True}
        self.loss = tf.reduce_mean(tf.square(self.module(self.images, **training) - 1))
        self.loss += tf.losses.get_regularization_loss()
        self.updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        with tf.control_dependencies(self.updates if waits else []):
            self.step = tf.train.GradientDescentOptimizer(RATE).minimize(
                self.loss, tf.train.get_or_create_global_step()
            )

    def run(self, session: Any, steps: Any) -> List[float]:
        """Takes steps; returns the losses."""
        return [
            float(session.run([self.loss, self.step], {self.images: batch(n)})[0])
            for n in steps
        ]


def train(path: str, tags: Any = None, waits: bool = True) -> Dict[str, Any]:
    """Trains in a plain session, by the global initializer alone."""
    with tf.Graph().as_default():
        job = Job(path, tags, waits)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            losses = job.run(session, range(STEPS))
            return {
                "losses": losses,
                "variables": values(session, job.module.variables),
                "trainable": [v.name for v in tf.trainable_variables()],
                "update_ops": len(job.updates),
                "regularization_losses": len(tf.losses.get_regularization_losses()),
            }


def resume(path: str, directory: str) -> Dict[str, Any]:
    """Trains in two MonitoredTrainingSessions, the second from the first's end."""
    found: Dict[str, Any] = {"losses": []}
    for half in (range(0, STEPS // 2), range(STEPS // 2, STEPS)):
        with tf.Graph().as_default():
            job = Job(path, {"train"})
            with tf.train.MonitoredTrainingSession(
                checkpoint_dir=directory, save_checkpoint_steps=1
            ) as session:
                found["losses"] += job.run(session, half)
                found["variables"] = values_of_finished(session, job)
    return found


def values_of_finished(session: Any, job: Job) -> Dict[str, List[float]]:
    """Values, read by ops that are in the finalized graph already."""
    found = session.run(list(job.module.variables))
    return {
        v.name.split(":")[0]: np.ravel(value).tolist()
        for v, value in zip(job.module.variables, found)
    }


def restore(path: str, directory: str) -> Dict[str, Any]:
    """Saves all variables, and restores them instead of the module's."""
    prefix = os.path.join(directory, "all")
    with tf.Graph().as_default():
        job = Job(path, {"train"})
        saver = tf.train.Saver()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            job.run(session, range(2))
            saver.save(session, prefix)
            trained = values(session, job.module.variables)
    with tf.Graph().as_default():
        module = hub.load(path, tags={"train"})
        saver = tf.train.Saver(module.variables)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            fresh = values(session, module.variables)
            saver.restore(session, prefix)
            return {
                "trained": trained,
                "fresh": fresh,
                "restored": values(session, module.variables),
            }


def share(path: str) -> Dict[str, Any]:
    """Applies one object twice, and another load of it once."""
    with tf.Graph().as_default():
        module, other = hub.load(path), hub.load(path)
        one, two = module(batch(0)), module(batch(0))
        last = other(batch(0))
        kernel = module.trainable_variables[0]
        (once,) = tf.gradients(one, [kernel])
        (twice,) = tf.gradients(one + two, [kernel])
        (none,) = tf.gradients(last, [kernel])
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            first, second = session.run([once, twice])
            session.run(kernel.assign(tf.zeros_like(kernel)))
            a, b, c = session.run([one, two, last])
        return {
            "gradients": [np.ravel(first).tolist(), np.ravel(second).tolist()],
            "outputs": [np.ravel(value).tolist() for value in (a, b, c)],
            "none": none is None,
            "variables": len(tf.global_variables()),
        }


def tables(path: str, directory: str, sentences: List[str]) -> Dict[str, Any]:
    """Embeds in a MonitoredTrainingSession; exports, and moves what it needs."""
    export = os.path.join(directory, "export")
    with tf.Graph().as_default():
        text = tf.placeholder(tf.string, [None])
        embedded = hub.load(path)(text)
        with tf.train.MonitoredTrainingSession() as session:
            found = session.run(embedded, {text: sentences})
        with tf.Session() as session:
            session.run([tf.global_variables_initializer(), tf.tables_initializer()])
            tf.saved_model.simple_save(
                session,
                export,
                {"text": text},
                {"embedded": embedded},
                legacy_init_op=tf.tables_initializer(),
            )
    return {"embedded": found.tolist(), "assets": os.listdir(export + "/assets")}


def conditional(path: str, of_functions: bool) -> int:
    """The update ops of calls in a conditional, which nothing can wait for."""
    if of_functions:
        tf.enable_control_flow_v2()
    with tf.Graph().as_default():
        module = hub.load(path, fill_collections=True)
        decided = tf.placeholder_with_default(True, [])
        tf.cond(
            decided,
            lambda: module(batch(0), training=True),
            lambda: module(batch(0), training=False),
        )
        tf.disable_control_flow_v2()
        return len(tf.get_collection(tf.GraphKeys.UPDATE_OPS))


def placed(path: str) -> List[str]:
    """Where variables are when a parameter server is to hold them."""
    with tf.Graph().as_default():
        with tf.device(tf.train.replica_device_setter(ps_tasks=1)):
            return sorted({v.device for v in hub.load(path).variables})


def main(image: str, text: str, scratch: str) -> None:
    """Runs all of it."""
    plain = os.path.join(scratch, "plain")
    hub.convert(image, plain)
    tf.io.gfile.rmtree(plain + "/assets.extra")
    found = {
        "by_tag": train(image, {"train"}),
        "by_argument": train(image),
        "does_not_wait": train(image, {"train"}, waits=False),
        "tf2_saved_model": train(plain),
        "resume": resume(image, os.path.join(scratch, "resume")),
        "restore": restore(image, scratch),
        "share": share(image),
        "tables": tables(text, scratch, json.loads(sys.argv[4])),
        "conditional": [conditional(image, made) for made in (False, True)],
        "placed": placed(image),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    getattr(tf, sys.argv[5])()
    tf.logging.set_verbosity(tf.logging.ERROR)
    main(*sys.argv[1:4])
