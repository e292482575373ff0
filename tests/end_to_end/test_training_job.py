"""examples/tf1_estimator_finetune.py: killed, resumed, exported, and on a cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

import expected
import numpy as np
import pytest
from ports import free_ports

# The jobs are processes, which have no other mode.
pytestmark = [pytest.mark.tensorflow, pytest.mark.modeless]

# Seconds; a run takes a tenth.
PATIENCE = 300


class Source(NamedTuple):
    """A module that maps images, float32 [batch, 8, 8, 3], to features.

    Attributes:
      path: its directory.
      variables: values by name, of what is compared with the first checkpoint.
      decayed: a variable that only its regularization loss reaches, 0.005 times the
        sum of squares; None for none.
    """

    path: Path
    variables: Dict[str, Any]
    decayed: Optional[str] = None


def image_bn() -> Source:
    """A TF1 Hub module; the classifier's kernel is not part of the features."""
    recorded = expected.load_expected("image_bn")
    return Source(recorded.path, recorded.variables, "net/logits/kernel")


def keras2_images() -> Source:
    """A SavedModel of TensorFlow 2.21."""
    return Source(expected.HERE / "tf221" / "keras2_images" / "module", {})


MODULES = {
    "tf1_hub_module": image_bn,
    "tf2_21_saved_model": keras2_images,
}


@pytest.fixture(autouse=True)
def _estimators() -> None:
    """TensorFlow 2.16 and later have none."""
    tf = pytest.importorskip("tensorflow")
    if not hasattr(tf.compat.v1, "estimator"):
        pytest.skip("This TensorFlow has no Estimators")


@pytest.fixture(params=sorted(MODULES))
def source(request: Any, tmp_path: Path) -> Source:
    """A copy of a module; the test may delete it."""
    made = MODULES[request.param]()
    shutil.copytree(str(made.path), str(tmp_path / "module"))
    return made._replace(path=tmp_path / "module")


def start(
    root: Path, source: Source, job: Path, *options: str, task: Optional[Any] = None
) -> Any:
    """Starts the example as a process; its output goes into a file."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    environment["HUB_COMPAT_CACHE_DIR"] = str(source.path.parent / "cache")
    environment.pop("TF_CONFIG", None)
    if task is not None:
        environment["TF_CONFIG"] = json.dumps(task)
    kind = "_".join(str(v) for v in (task or {}).get("task", {"": "job"}).values())
    output = job.parent / (kind + ".txt")
    program = root / "examples" / "tf1_estimator_finetune.py"
    with output.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, str(program), str(source.path), str(job)] + list(options),
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    process.output = output  # type: ignore[attr-defined]
    return process


def wait(process: Any) -> str:
    """Waits for the end of a process; returns what it printed."""
    try:
        code = process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
    text = process.output.read_text()
    assert code == 0, text[-4000:]
    return text


def wait_for(process: Any, pattern: str) -> None:
    """Waits until a process prints something."""
    end = time.time() + PATIENCE
    while not re.search(pattern, process.output.read_text()):
        text = process.output.read_text()
        assert process.poll() is None, text[-4000:]
        assert time.time() < end, text[-4000:]
        time.sleep(0.1)


def checkpoint(job: Path) -> Dict[str, Any]:
    """The variables in the newest checkpoint."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(job))
    return {
        name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
    }


def serve(export: Path, images: np.ndarray) -> Dict[str, np.ndarray]:
    """What the session-based loader gives."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        meta = v1.saved_model.loader.load(session, ["serve"], str(export))
        signature = meta.signature_def["serving_default"]
        fetches = {name: info.name for name, info in signature.outputs.items()}
        return session.run(fetches, {signature.inputs["images"].name: images})


def make_data() -> Any:
    """Images that the job was not trained with, and their labels."""
    rng = np.random.RandomState(7)
    images = rng.rand(32, 8, 8, 3).astype(np.float32) * 0.5
    labels = rng.randint(0, 2, 32)
    images[labels == 1, :, :4] += 0.5
    images[labels == 0, :, 4:] += 0.5
    return images, labels


def test_job_is_killed_and_resumed_and_exports(
    source: Source, root: Path, tmp_path: Path
) -> None:
    """A killed job goes on from its checkpoint; its export needs nothing else."""
    job = tmp_path / "job"
    first = start(root, source, job, "--steps", "100000", "--pause", "0.02")
    try:
        wait_for(first, r"step +30 ")
    finally:
        first.kill()
    assert first.wait(PATIENCE) != 0
    killed = checkpoint(job)
    assert killed["global_step"] >= 10

    second = start(root, source, job, "--steps", str(killed["global_step"] + 40))
    text = wait(second)
    assert text.count("Starting with the weights of the module.") == 1
    assert "Resuming after step {}.".format(killed["global_step"]) in text
    resumed = checkpoint(job)
    assert resumed["global_step"] == killed["global_step"] + 40

    assert_trained(source, source.variables, killed)
    assert_trained(source, killed, resumed)

    shutil.rmtree(str(source.path))
    # A model that this TensorFlow takes as it is was not put there.
    shutil.rmtree(str(tmp_path / "cache"), ignore_errors=True)
    (export,) = (job / "export").iterdir()
    images, labels = make_data()
    served = serve(export, images)
    np.testing.assert_allclose(served["probabilities"].sum(axis=1), 1, rtol=1e-5)
    logits = served["features"] @ resumed["head/kernel"] + resumed["head/bias"]
    assert np.mean(np.argmax(logits, axis=1) == labels) > 0.9
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(served["probabilities"], softmax, rtol=1e-3, atol=1e-5)


def assert_trained(
    source: Source, before: Dict[str, Any], after: Dict[str, Any]
) -> None:
    """Weights and statistics moved, and what is only regularized decayed as it must."""
    names = [name for name in before if not name.startswith(("head/", "global_step"))]
    changed = {name for name in names if np.any(before[name] != after[name])}
    statistics = {name for name in names if "moving_" in name}
    assert changed.issuperset(statistics)
    assert changed.difference(statistics, [source.decayed]) or not names
    if source.decayed:
        # The gradient is 0.01 times the variable; the job's rate is 0.2.
        steps = int(after["global_step"]) - int(before.get("global_step", 0))
        np.testing.assert_allclose(
            after[source.decayed],
            before[source.decayed] * (1 - 0.2 * 0.01) ** steps,
            rtol=1e-4,
        )


def test_parameter_server_and_two_workers(
    source: Source, root: Path, tmp_path: Path
) -> None:
    """Two workers train the variables on one parameter server; the chief exports."""
    job = tmp_path / "job"
    hosts = ["127.0.0.1:{}".format(port) for port in free_ports(3)]
    cluster = {"ps": hosts[:1], "chief": hosts[1:2], "worker": hosts[2:]}
    options = ("--steps", "300", "--pause", "0.1", "--rate", "0.05")
    processes = {}
    try:
        for kind in ("ps", "chief", "worker"):
            task = {"cluster": cluster, "task": {"type": kind, "index": 0}}
            processes[kind] = start(root, source, job, *options, task=task)
        chief, worker = wait(processes["chief"]), wait(processes["worker"])
        assert processes["ps"].poll() is None
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE)
    assert "Starting with the weights of the module." in chief
    # The worker joins a training that the chief has begun.
    for text in (chief, worker):
        assert len(re.findall(r"step +\d+ +loss", text)) >= 3, text[-3000:]
    trained = checkpoint(job)
    assert trained["global_step"] >= 300
    for name in source.variables:
        if "moving_" in name:
            assert np.any(trained[name] != source.variables[name]), name
    (export,) = (job / "export").iterdir()
    images, labels = make_data()
    found = np.argmax(serve(export, images)["probabilities"], axis=1)
    assert np.mean(found == labels) > 0.9
