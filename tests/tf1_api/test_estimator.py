"""Exports of training jobs, with Estimators and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

import hub_compat as hub
from hub_compat.errors import HandleError, SaveError

pytestmark = pytest.mark.tensorflow

tf = pytest.importorskip("tensorflow")
v1 = tf.compat.v1
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)


def text_module_fn() -> None:
    """Embeds text by its length."""
    weights = v1.get_variable("weights", [4, 3], initializer=v1.zeros_initializer())
    text = v1.placeholder(tf.string, [None])
    rows = tf.strings.length(text) % 4
    hub.add_signature(inputs=text, outputs=tf.gather(weights, rows))


def model_fn(features: Any, labels: Any, mode: str, config: Any = None) -> Any:
    """Two modules, each to be exported; training makes their weights greater."""
    spec = hub.create_module_spec(text_module_fn)
    total = tf.constant(0.0)
    for name in ("one", "other"):
        module = hub.Module(spec, trainable=True)
        hub.register_module_for_export(module, name)
        total += tf.reduce_sum(module(features["text"]))
    if not hasattr(v1, "estimator"):
        return None
    step = v1.assign_add(v1.train.get_global_step(), 1)
    updates = [v1.assign_add(v, WEIGHTS) for v in v1.trainable_variables()]
    return v1.estimator.EstimatorSpec(
        mode, predictions=total, loss=total, train_op=tf.group(step, *updates)
    )


def features() -> Dict[str, Any]:
    """What the model takes."""
    return {"text": v1.placeholder(tf.string, [None])}


def embedded(path: Any) -> Any:
    """What an exported module gives for a text of one letter."""
    with hub.eval_function_for_module(path) as f:
        return f(["a"])[0]


@pytest.fixture(scope="module")
def job(tmp_path_factory: Any) -> Path:
    """The directory of a job's checkpoints."""
    folder = Path(str(tmp_path_factory.mktemp("job")))
    with tf.Graph().as_default():
        v1.train.create_global_step()
        for name in ("module", "module_1"):
            v1.get_variable(name + "/weights", initializer=tf.constant(WEIGHTS))
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, str(folder / "model"), global_step=7)
    return folder


@pytest.mark.parametrize("checkpoint", ["", "model-7"])
def test_exports_from_a_checkpoint(checkpoint: str, job: Path, tmp_path: Path) -> None:
    """Of a model_fn, in any TensorFlow: a directory named after the time."""
    exporter = hub.LatestModuleExporter("tf_hub", features)
    assert exporter.name == "tf_hub"
    found = exporter.export(model_fn, str(tmp_path), str(job / checkpoint))
    (folder,) = tmp_path.iterdir()
    assert found == str(folder).encode()
    assert sorted(path.name for path in folder.iterdir()) == ["one", "other"]
    np.testing.assert_array_equal(embedded(folder / "one"), WEIGHTS[1])


def test_exports_specs(job: Path, tmp_path: Path) -> None:
    """Of specs, whose variables have other names in the checkpoint."""
    spec = hub.create_module_spec(text_module_fn)
    exporter = hub.LatestModuleExporter("tf_hub", None)
    with pytest.raises(ValueError, match="weights"):
        exporter.export({"text": spec}, tmp_path, str(job))
    assert [path for path in tmp_path.iterdir() if path.name.isdigit()] == []
    found = exporter.export(
        {"text": (spec, lambda name: "module_1/" + name)}, tmp_path, str(job)
    )
    np.testing.assert_array_equal(embedded(found.decode() + "/text"), WEIGHTS[1])


def test_old_exports_go(job: Path, tmp_path: Path) -> None:
    """Only directories of ten digits count."""
    for name in ("1000000001", "1000000002", "999", "temp-1000000000"):
        (tmp_path / name).mkdir()
    spec = hub.create_module_spec(text_module_fn)
    specs = {"text": (spec, lambda name: "module/" + name)}
    hub.LatestModuleExporter("tf_hub", None, 2).export(specs, tmp_path, str(job))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert "1000000001" not in names
    assert {"1000000002", "999", "temp-1000000000"} < set(names)
    assert len(names) == 4


def test_a_job_of_an_estimator(tmp_path: Path) -> None:
    """Each evaluation exports the modules, with the trained weights."""
    estimators = getattr(v1, "estimator", None)
    if estimators is None:
        pytest.skip("This TensorFlow has no Estimators")

    def input_fn() -> Any:
        data = tf.data.Dataset.from_tensors(({"text": ["a", "bb"]}, [0, 1]))
        return data.repeat()

    def serving_input_fn() -> Any:
        return estimators.export.ServingInputReceiver(features(), features())

    exporter = hub.LatestModuleExporter("tf_hub", serving_input_fn)
    assert isinstance(exporter, estimators.Exporter)
    estimator = estimators.Estimator(model_fn, model_dir=str(tmp_path))
    estimators.train_and_evaluate(
        estimator,
        estimators.TrainSpec(input_fn, max_steps=2),
        estimators.EvalSpec(input_fn, steps=1, exporters=[exporter]),
    )
    (folder,) = (tmp_path / "export" / "tf_hub").iterdir()
    np.testing.assert_array_equal(embedded(folder / "other"), 2 * WEIGHTS[1])


def test_no_modules_no_export(job: Path, tmp_path: Path, caplog: Any) -> None:
    """A warning says so, and nothing is written."""
    exporter = hub.LatestModuleExporter("tf_hub", features)
    place = tmp_path / "exports"
    found = exporter.export(
        lambda features: v1.get_variable("module/weights", [4, 3]), place, str(job)
    )
    assert found is None
    assert not place.exists()
    assert "zero modules" in caplog.text


def test_refuses(job: Path, tmp_path: Path) -> None:
    """The errors are those that programs catch for tensorflow_hub's."""
    for number in (0, -1):
        with pytest.raises(ValueError, match="`exports_to_keep`.*positive"):
            hub.LatestModuleExporter("tf_hub", features, number)
    exporter = hub.LatestModuleExporter("tf_hub", features)
    with pytest.raises(HandleError, match="no checkpoint"):
        exporter.export(model_fn, tmp_path)
    with pytest.raises(HandleError, match="no checkpoint"):
        exporter.export(model_fn, tmp_path, str(tmp_path))
    with pytest.raises(SaveError, match="takes an Estimator.*Received: 3"):
        exporter.export(3, tmp_path, str(job))
    with pytest.raises(SaveError, match="takes an Estimator"):
        exporter.export({"one": 3}, tmp_path, str(job))
    with tf.Graph().as_default():
        hub.register_module_for_export("first", "name")
        with pytest.raises(ValueError, match="already a module.*'name'"):
            hub.register_module_for_export("second", "name")
    if tf.executing_eagerly():
        with pytest.raises(SaveError, match="for a model_fn"):
            hub.register_module_for_export("first", "name")
