"""Graph mode: TF 1.15, and TF 2.x with its v2 behaviour switched off."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from typing import Any, Callable

import expected
import numpy as np
import pytest
import replay
import runtimes
from environment import tensorflow_version

import hub_compat as hub
from hub_compat import errors

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"

pytestmark = pytest.mark.tensorflow

PROGRAM = PROGRAMS / "train_in_graph.py"


def module(name: str) -> str:
    """The directory of a recorded module."""
    return str(expected.load_expected(name).path)


def text_case() -> Any:
    """The first recorded call of the text module."""
    return expected.load_expected("text_embedding").cases[0]


@pytest.fixture(scope="module")
def found(tmp_path_factory: Any) -> Any:
    """What train_in_graph.py found, in graph mode whatever the leg."""
    (sentences,) = text_case().inputs.values()
    words = [s.decode() if isinstance(s, bytes) else s for s in sentences.tolist()]
    done = subprocess.run(
        [
            sys.executable,
            str(PROGRAM),
            module("image_bn"),
            module("text_embedding"),
            str(tmp_path_factory.mktemp("graph")),
            json.dumps(words),
            # Of TensorFlow 2 to 1, the whole way and a part of it.
            "disable_eager_execution"
            if tensorflow_version().startswith("2.15")
            else "disable_v2_behavior",
        ],
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout[done.stdout.index("{") :])


@pytest.fixture(scope="module")
def recorded(testdata: Path) -> Any:
    """What the same training gave with hub.Module under TF 1.15."""
    return json.loads((testdata / "training.json").read_text())


def assert_trained_as(found: Any, recorded: Any) -> None:
    """Losses and variables after training are those of hub.Module."""
    np.testing.assert_allclose(found["losses"], recorded["losses"], rtol=1e-4)
    assert set(found["variables"]) == set(recorded["variables"])
    for name, value in recorded["variables"].items():
        np.testing.assert_allclose(
            found["variables"][name], value, rtol=1e-4, atol=1e-6, err_msg=name
        )


@pytest.mark.modeless
@pytest.mark.parametrize("how", ["by_tag", "by_argument", "tf2_saved_model"])
def test_old_training_loop_trains_as_with_hub_module(
    how: str, found: Any, recorded: Any
) -> None:
    """A loop over collections gives losses, weights, statistics of hub.Module."""
    assert_trained_as(found[how], recorded["waits"])


@pytest.mark.modeless
def test_updates_run_once_without_update_ops_too(found: Any, recorded: Any) -> None:
    """A loop that ignores UPDATE_OPS updates; hub.Module would not."""
    assert_trained_as(found["does_not_wait"], recorded["waits"])
    statistics = "net/block1/batch_norm/moving_mean"
    kept = recorded["does_not_wait"]["variables"][statistics]
    start = expected.load_expected("image_bn").variables[statistics]
    np.testing.assert_array_equal(np.float32(kept), start)


@pytest.mark.modeless
def test_collections_are_filled(found: Any) -> None:
    """The collections that training loops read hold what hub.Module adds."""
    recorded = expected.load_expected("image_bn")
    trainable = set(recorded.variants[("train",)].trainable)
    case = next(c for c in recorded.cases if c.tags == ("train",))
    for how in ("by_tag", "by_argument", "tf2_saved_model"):
        names = [name.split(":")[0] for name in found[how]["trainable"]]
        assert sorted(names) == sorted(trainable)
        losses = found[how]["regularization_losses"]
        assert losses == len(case.regularization_losses)
        assert found[how]["update_ops"] == 1


@pytest.mark.modeless
def test_training_resumes_in_a_monitored_session(found: Any, recorded: Any) -> None:
    """Two sessions, the second from the checkpoint of the first, train as one."""
    assert_trained_as(found["resume"], recorded["waits"])


@pytest.mark.modeless
def test_own_checkpoint_wins_over_the_weights_of_the_module(found: Any) -> None:
    """A Saver restores trained values; the initializers give the module's."""
    values = found["restore"]
    assert values["restored"] == values["trained"]
    recorded = expected.load_expected("image_bn")
    for name, value in values["fresh"].items():
        np.testing.assert_array_equal(
            np.float32(value), np.ravel(recorded.variables[name])
        )
    kernel = "net/block1/conv/kernel"
    assert values["fresh"][kernel] != values["trained"][kernel]


@pytest.mark.modeless
def test_applications_share_weights_and_loads_do_not(found: Any) -> None:
    """Both calls of one object follow its weights; another load of it keeps its own."""
    shared = found["share"]
    once, twice = (np.array(value) for value in shared["gradients"])
    assert np.any(once)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
    one, two, other = shared["outputs"]
    assert one == two
    assert one != other
    assert shared["none"]
    count = len(expected.load_expected("image_bn").variables)
    assert shared["variables"] == 2 * count


@pytest.mark.modeless
def test_tables_and_assets(found: Any) -> None:
    """A MonitoredTrainingSession fills tables; exports take their files along."""
    np.testing.assert_allclose(
        found["tables"]["embedded"], text_case().outputs["default"], rtol=1e-5
    )
    assert len(found["tables"]["assets"]) == 1


@pytest.mark.modeless
def test_call_in_a_conditional_is_no_update_op(found: Any) -> None:
    """Nothing could wait for an op that may not run, in a branch or its function."""
    assert found["conditional"] == [0, 0]


@pytest.mark.eager
def test_graph_in_an_eager_program(recorded: Any) -> None:
    """A graph and session train in a program that has TensorFlow 2's behaviour."""
    with warnings.catch_warnings():
        import train_in_graph

        found = train_in_graph.train(module("image_bn"), {"train"})
    assert_trained_as(found, recorded["waits"])


@pytest.mark.modeless
def test_variables_are_put_on_parameter_servers(found: Any) -> None:
    """A replica_device_setter places the module's variables as it does others."""
    (device,) = found["placed"]
    assert device.startswith("/job:ps/task:0")


@pytest.mark.eager
def test_collections_need_a_graph() -> None:
    """Eager execution has no collections; the error says what to use."""
    with pytest.raises(errors.OptionsError, match="trainable_variables"):
        hub.load(module("image_bn"), fill_collections=True)


@pytest.mark.parametrize(
    "take",
    [
        lambda loaded: loaded.__call__,
        lambda loaded: loaded.signatures["default"],
        lambda loaded: loaded.signatures["serving_default"],
    ],
)
@pytest.mark.parametrize("converted", [False, True])
def test_function_kept_alone_keeps_its_state(
    take: Callable[[Any], Any], converted: bool, tmp_path: Path
) -> None:
    """__call__ or a signature works when the object it is from was dropped."""
    path = module("text_embedding")
    if converted:
        hub.convert(path, tmp_path / "out")
        path = str(tmp_path / "out")
        shutil.rmtree(path + "/assets.extra")
    case = text_case()
    (value,) = case.inputs.values()
    with runtimes.Runtime(lambda: take(hub.load(path))) as runtime:
        gc.collect()
        outputs = runtime.run(runtime.loaded(replay.tensor(value)))
    if isinstance(outputs, dict):
        outputs = outputs["default"]
    replay.assert_equal(outputs, case.outputs["default"], "default")


def test_nothing_is_said_when_tables_go(capfd: Any) -> None:
    """The garbage collector takes a module with tables, and no function is called."""
    case = text_case()
    (value,) = case.inputs.values()
    with runtimes.Runtime(lambda: hub.load(module("text_embedding"))) as runtime:
        runtime.run(runtime.loaded(replay.tensor(value)))
    del runtime
    gc.collect()
    assert "Exception ignored" not in capfd.readouterr().err


@pytest.mark.eager
def test_object_goes_with_its_last_user() -> None:
    """Without the garbage collector: there is no cycle."""
    gc.collect()
    gc.disable()
    try:
        loaded = hub.load(module("image_bn"))
        alive = weakref.ref(loaded), weakref.ref(loaded.variables[0])
        function = loaded.signatures["default"]
        del loaded
        assert alive[0]() is None
        assert alive[1]() is not None
        del function
        assert alive[1]() is None
    finally:
        gc.enable()


def test_checkpoint_with_partitioned_variables(tmp_path: Path) -> None:
    """A Saver takes the parts for one variable, as it does those of hub.Module."""
    import tensorflow as tf

    v1 = tf.compat.v1
    prefix = str(tmp_path / "job")
    shapes = {"dense/kernel": ([5, 3], 2), "rows": ([7, 3], 3), "alone": ([2, 3], 1)}
    with tf.Graph().as_default(), v1.Session() as session:
        with v1.variable_scope("module"):
            v1.get_variable("bias", [3])
            for name, (shape, parts) in shapes.items():
                partitioner = v1.fixed_size_partitioner(parts)
                v1.get_variable(name, shape, partitioner=partitioner)
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, prefix)
    old = tf.train.load_checkpoint(prefix)
    path = str(expected.load_expected("ref_partitioned").path)
    with tf.Graph().as_default(), v1.Session() as session:
        hub.load(path, name="module")
        saver = v1.train.Saver()
        saver.restore(session, prefix)
        saver.save(session, prefix + "-2")
    # Programs find the variables in the MetaGraphDef, too.
    with tf.Graph().as_default(), v1.Session() as session:
        saver = v1.train.import_meta_graph(prefix + "-2.meta")
        assert len(v1.global_variables()) == 7
        saver.restore(session, prefix + "-2")
        saver.save(session, prefix + "-3")
    for name in ("-2", "-3"):
        new = tf.train.load_checkpoint(prefix + name)
        assert new.get_variable_to_shape_map() == old.get_variable_to_shape_map()
        for key in old.get_variable_to_shape_map():
            np.testing.assert_array_equal(new.get_tensor(key), old.get_tensor(key))
