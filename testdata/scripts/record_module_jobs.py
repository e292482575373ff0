"""Training jobs over hub.Module that stop, and what they would have gone on with.

``stock`` is a job of tensorflow_hub's own Module in TensorFlow 1.15; ``tf221`` is one
of hub_compat's in TensorFlow 2.21. Each leaves the checkpoint of a ``tf.train.Saver``
after three steps in ``module_jobs/``, and the losses of the three steps after::

    PYTHONPATH=. python testdata/scripts/record_module_jobs.py stock
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, List

import numpy as np
import tensorflow as tf

TESTDATA = Path(__file__).resolve().parents[1]
FOLDER = TESTDATA / "module_jobs"
STEPS = 3


class Job:
    """A job in the default graph.

    Args:
      module_class: ``tensorflow_hub.Module``, or one like it.
    """

    def __init__(self, module_class: Any) -> None:
        v1 = tf.compat.v1
        images = np.random.RandomState(0).rand(4, 8, 8, 3).astype(np.float32)
        path = str(TESTDATA / "image_bn" / "module")
        module = module_class(path, trainable=True, tags={"train"}, name="features")
        outputs = module(v1.constant(images))
        loss = tf.reduce_mean(tf.square(outputs - 1.0))
        loss += v1.losses.get_regularization_loss()
        optimizer = v1.train.MomentumOptimizer(0.02, 0.9)
        counter = v1.train.get_or_create_global_step()
        with v1.control_dependencies(v1.get_collection("update_ops")):
            step = optimizer.minimize(loss, global_step=counter)
        self._fetches = (loss, step)
        self.saver = v1.train.Saver()

    def losses(self, session: Any) -> List[float]:
        """Goes on for some steps."""
        return [float(session.run(self._fetches)[0]) for _ in range(STEPS)]


def main() -> None:
    """Runs one of the jobs."""
    (name,) = sys.argv[1:]
    if name == "stock":
        import tensorflow_hub as hub
    else:
        import hub_compat as hub
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        job = Job(hub.Module)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        job.losses(session)
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        prefix = str(FOLDER / name / "model.ckpt")
        job.saver.save(session, prefix, write_meta_graph=False, write_state=False)
        text = json.dumps(job.losses(session)) + "\n"
        (FOLDER / name / "losses.json").write_text(text)


if __name__ == "__main__":
    main()
