"""KerasLayer under tf.distribute: what one device learns, in every format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import expected
import numpy as np
import pytest
from keras_kit import Keras
from ports import free_ports

import hub_compat as hub

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"

PROGRAM = PROGRAMS / "fit_under_strategy.py"
# Seconds.
PATIENCE = 300

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


def start(folder: Path, *arguments: str, task: Any = None) -> Any:
    """Starts the program as a process."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    environment.pop("TF_CONFIG", None)
    if task is not None:
        environment["TF_CONFIG"] = json.dumps(task)
    kind, generation, *modules = arguments
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), kind, generation, str(folder)] + modules,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def result(process: Any) -> Dict[str, Any]:
    """What the process printed."""
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors.decode()[-4000:]
    found: Dict[str, Any] = json.loads(output.decode().splitlines()[-1])
    return found


def check(found: Dict[str, Any], kinds: List[str], k: Keras, folder: Path) -> None:
    """The losses and weights of one device; variables of the strategy; saved.

    Args:
      found: what the program printed.
      kinds: the classes of variables that the strategy makes.
      k: the Keras that the layers were of.
      folder: what the program saved.
    """
    assert found
    for module, results in found.items():
        one, many = results["one"], results["many"]
        assert not set(one["kinds"]) & set(kinds)
        assert many["kinds"]
        assert set(many["kinds"]) <= set(kinds), module
        assert one["losses"][-1] < 0.9 * one["losses"][0]
        np.testing.assert_allclose(many["losses"], one["losses"], rtol=1e-5)
        saved = k.Layer(str(folder / module)).get_weights()
        for name, alone, shared, again in zip(
            one["names"], one["weights"], many["weights"], saved
        ):
            # Estimated by replicas of half a batch, n in place of n - 1 weighs more.
            relative = 0.02 if "moving_variance" in name else 1e-5
            what = "{} of {}".format(name, module)
            np.testing.assert_allclose(shared, alone, relative, 1e-6, err_msg=what)
            np.testing.assert_array_equal(np.float32(shared), again, err_msg=what)
        assert len(saved) == len(many["weights"]) == len(one["weights"])


def test_averages_are_each_replicas_own() -> None:
    """What update ops average is read as the mean of all replicas; a counter is not."""
    import tensorflow as tf

    # Its VariableDefs say nothing of it, as all before TensorFlow 1.13.
    loaded = hub.load(expected.load_expected("train_ops").path)
    found = {
        v.name.split(":")[0]: (v.synchronization, v.aggregation)
        for v in loaded.variables
    }
    on_read = tf.VariableSynchronization.ON_READ
    assert found.pop("average") == (on_read, tf.VariableAggregation.MEAN)
    assert found
    assert on_read not in {synchronization for synchronization, _ in found.values()}


def test_mirrored(k: Keras, tmp_path: Path) -> None:
    """Two replicas of one process fit TF1 and TF2 modules as one device does."""
    modules = ["image_bn", "loss_graph", "tf221/keras2_images"]
    if k.generation == 2:
        # Keras 3 sums up a batch of strings, to build a model under a strategy.
        modules.append("text_embedding")
    found = result(start(tmp_path, "mirrored", str(k.generation), *modules))
    assert list(found) == modules
    check(found, ["MirroredVariable", "SyncOnReadVariable"], k, tmp_path)
    # As the model was exported, each variable is there once, and as it was trained.
    exported = hub.load(tmp_path / "exported")
    trained = found["loss_graph"]["many"]
    assert len(exported.variables) == len(trained["weights"]) + 2
    values = {v.name.split(":")[0]: v.numpy() for v in exported.trainable_variables}
    assert len(values) == len(exported.trainable_variables) > 2
    for name, value in zip(trained["names"], trained["weights"]):
        whole = name.replace(".", "/")
        if whole in values:
            np.testing.assert_array_equal(values.pop(whole), np.float32(value))
    assert len(values) == 2


def test_two_workers(k: Keras, tmp_path: Path) -> None:
    """Two processes fit the same model together, and end with the same."""
    hosts = ["127.0.0.1:{}".format(port) for port in free_ports(2)]
    processes = []
    try:
        for index in range(2):
            task = {
                "cluster": {"worker": hosts},
                "task": {"type": "worker", "index": index},
            }
            arguments = ("workers", str(k.generation), "image_bn")
            if k.generation == 2:
                arguments += ("tf221/keras2_images",)
            folder = tmp_path / str(index)
            processes.append(start(folder, *arguments, task=task))
        found = [result(process) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE)
    for index in range(2):
        kinds = ["MirroredVariable", "SyncOnReadVariable"]
        check(found[index], kinds, k, tmp_path / str(index))
    for module, results in found[0].items():
        assert results["many"] == found[1][module]["many"]


@pytest.mark.tf2
@pytest.mark.keras2
def test_parameter_server(tmp_path: Path) -> None:
    """Variables on a server are trained by a worker; Keras 3 has no fit() for it."""
    modules = ["text_embedding", "tf221/keras2_images"]
    found = result(start(tmp_path, "servers", "2", *modules))
    assert list(found) == modules
    check(found, ["CachingVariable"], Keras(2), tmp_path)
