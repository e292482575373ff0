"""save(): what was loaded, with new values, in every runtime."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict

import expected
import numpy as np
import pytest
import replay
import runtimes
import smoke
import stepped
import tensorflow as tf

import hub_compat as hub
from hub_compat import errors, provenance

MODULES = expected.module_names()

pytestmark = pytest.mark.tensorflow

TRAINED = [
    pytest.param(
        name,
        number,
        id="{}-{}".format(name, number),
        marks=smoke.marks(name, smoke.TF1),
    )
    for name in MODULES
    for number in stepped.cases(expected.load_expected(name))
]


def reloaded(saved: Path, program: Any, *arguments: str) -> Any:
    """What a program says of saved modules, in a process without hub_compat."""
    done = subprocess.run(
        [sys.executable, program.__file__] + list(arguments),
        capture_output=True,
        cwd=str(saved),
        env=dict(os.environ, PYTHONPATH=""),
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def load(path: Path) -> Any:
    """Parameters' way to load a variant."""
    return lambda tags: hub.load(path, tags=tags or None)


def save_again(source: Path, destination: Path, **keywords: Any) -> None:
    """Loads a module and saves it as it is."""
    with runtimes.Runtime(lambda: hub.load(source)) as runtime:
        runtime.read(runtime.loaded.variables)
        hub.save(runtime.loaded, destination, session=runtime.session, **keywords)


def assert_saved_as_converted(name: str, folder: Path) -> None:
    """Saved as it was loaded, a module has files and values of its conversion."""
    source = expected.load_expected(name).path
    saved, converted = folder / "saved", folder / "converted"
    save_again(source, saved)
    hub.convert(source, converted)
    for file in sorted(converted.rglob("*")):
        relative = file.relative_to(converted)
        if file.is_file() and relative.parts[0] != "variables":
            assert (saved / relative).read_bytes() == file.read_bytes(), relative
    if not (converted / "variables").exists():
        return
    readers = [
        tf.train.load_checkpoint(str(path / "variables" / "variables"))
        for path in (saved, converted)
    ]
    keys = [reader.get_variable_to_shape_map() for reader in readers]
    assert keys[0] == keys[1]
    for key in keys[0]:
        one, other = [np.asarray(reader.get_tensor(key)) for reader in readers]
        assert one.tolist() == other.tolist() or one.tobytes() == other.tobytes(), key


@pytest.fixture(scope="session")
def trained(request: Any, tmp_path_factory: Any) -> Dict[str, str]:
    """Each recorded step: taken, saved, and looked at in a new process."""
    folder = tmp_path_factory.mktemp("trained")
    asked = [
        (item.callspec.params["module"], item.callspec.params["number"])
        for item in request.session.items
        if getattr(item, "originalname", "") == "test_trained_and_saved"
    ]
    trained = set()
    for name, number in asked:
        recorded = expected.load_expected(name)
        save = functools.partial(
            hub.save, directory=folder / "{}-{}".format(name, number)
        )
        again = runtimes.shared(recorded.path, load(recorded.path))
        # One step of each variant is taken with gradients of this runtime, the others
        # with the recorded ones: test_modules.py compares all of them.
        variant = name, recorded.cases[number].tags
        with runtimes.unoptimized():
            stepped.take(recorded, number, again, save, variant not in trained)
        trained.add(variant)
    names = sorted({name for name, _ in asked})
    found: Dict[str, str] = reloaded(folder, stepped, str(folder), *names)
    return found


@pytest.mark.support("hub.save")
@pytest.mark.parametrize("module, number", TRAINED)
def test_trained_and_saved(module: str, number: int, trained: Any) -> None:
    """After a step, saved and loaded by TensorFlow alone, it is what TF 1.15 had."""
    assert trained["{}-{}".format(module, number)] == "ok"
    case = expected.load_expected(module).cases[number]
    before = np.asarray(case.outputs[case.gradient_of])
    after = np.asarray(case.stepped[case.gradient_of])
    # A branch that is taken may hold no variable at all.
    trains = any(g is not None and np.any(g) for g in case.gradients.values())
    assert np.allclose(before, after, rtol=1e-4, atol=0) != trains


def test_nothing_but_values_changes(tmp_path: Path) -> None:
    """Saved as it was loaded, a module is the conversion of its source."""
    for name in ("nested", "text_embedding", "tf1_estimator_modes", "tf1_frozen"):
        assert_saved_as_converted(name, tmp_path / name)


@pytest.fixture(scope="module")
def saved_again(tmp_path_factory: Any) -> Callable[[str], Path]:
    """By module, what was saved, loaded, saved, loaded and saved onto itself."""
    folder = Path(tmp_path_factory.mktemp("again"))

    @functools.lru_cache(maxsize=None)
    def saved(module: str) -> Path:
        one, two = folder / module / "one", folder / module / "two"
        save_again(expected.load_expected(module).path, one)
        save_again(one, two)
        save_again(two, two, overwrite=True)
        return two

    return saved


@pytest.mark.parametrize("check", ["variables", "signatures", "training"])
@pytest.mark.parametrize("module", ["all_dtypes", "ref_partitioned", "variants3"])
def test_saved_again_and_again(module: str, check: str, saved_again: Any) -> None:
    """What was saved is loaded and saved as any TF2 SavedModel."""
    recorded = expected.load_expected(module)
    path = saved_again(module)
    # The functions are those of test_modules.py, which has them optimised.
    with runtimes.unoptimized():
        replay.OBJECT_CHECKS[check](recorded, runtimes.shared(path, load(path)))


def test_control_flow_trains_when_it_was_saved(tmp_path: Path) -> None:
    """Loops and branches, saved and loaded by another process, train on.

    As they do converted, see test_modules.py: the bytes are the same.
    """
    save_again(expected.load_expected("branches").path, tmp_path / "branches")
    found = reloaded(tmp_path, replay, "gradients", str(tmp_path), "branches")
    assert found == {"branches": {"gradients": "ok"}}
    for name in ("branches", "cells", "decoding", "language", "recurrent"):
        assert_saved_as_converted(name, tmp_path / "of" / name)


def test_variant_saves_the_module(tmp_path: Path) -> None:
    """Values of a variant's variables are those of all variants that share them."""
    recorded = expected.load_expected("variants3")
    hub.convert(recorded.path, tmp_path / "converted")
    out = tmp_path / "out"
    for source in (recorded.path, tmp_path / "converted"):
        variant = functools.partial(hub.load, source, tags={"train"})
        with runtimes.Runtime(variant) as runtime:
            (variable, *_) = runtime.loaded.trainable_variables
            name = variable.name
            zeros = variable.assign(np.zeros(variable.shape.as_list(), np.float32))
            runtime.run(zeros)
            hub.save(runtime.loaded, out, session=runtime.session, overwrite=True)
        for tags in (None, {"train"}):
            with runtimes.Runtime(functools.partial(hub.load, out, tags)) as runtime:
                found = {v.name: v for v in runtime.loaded.variables}
                assert not np.any(runtime.read([found[name]])[0])
                others = [v for n, v in found.items() if n != name]
                assert all(np.any(value) for value in runtime.read(others))


def test_messages_and_origin_are_kept(tmp_path: Path) -> None:
    """Attached messages and the record of the source survive two savings."""
    source = expected.load_expected("image_bn").path
    save_again(source, tmp_path / "one")
    save_again(tmp_path / "one", tmp_path / "two")
    hub.convert(source, tmp_path / "converted")
    assert provenance.read(str(tmp_path / "two")) == provenance.read(
        str(tmp_path / "converted")
    )
    wanted = hub.get_attached_message(source, "image_module_info", hub.ImageModuleInfo)
    found = hub.get_attached_message(
        tmp_path / "two", "image_module_info", hub.ImageModuleInfo
    )
    assert found == wanted
    with runtimes.Runtime(lambda: hub.load(source)) as runtime:
        found = hub.get_attached_message(
            runtime.loaded, "image_module_info", hub.ImageModuleInfo
        )
        assert found == wanted


def test_source_that_is_gone(tmp_path: Path) -> None:
    """Without its source, what was loaded of a TF1 module is saved, with a warning."""
    recorded = expected.load_expected("variants3")
    shutil.copytree(str(recorded.path), str(tmp_path / "source"))
    with runtimes.Runtime(lambda: hub.load(tmp_path / "source")) as runtime:
        runtime.read(runtime.loaded.variables)
        shutil.rmtree(str(tmp_path / "source"))
        with pytest.warns(UserWarning, match="no longer there"):
            hub.save(runtime.loaded, tmp_path / "out", session=runtime.session)
    replay.OBJECT_CHECKS["training"](recorded, load(tmp_path / "out"))


def test_directory_that_was_replaced(tmp_path: Path) -> None:
    """Another model where the loaded one was is not mixed with its values."""
    for name, folder in (("image_bn", "one"), ("text_embedding", "other")):
        hub.convert(expected.load_expected(name).path, tmp_path / folder)
    with runtimes.Runtime(lambda: hub.load(tmp_path / "one")) as runtime:
        runtime.read(runtime.loaded.variables)
        shutil.rmtree(str(tmp_path / "one"))
        for _ in range(2):
            with pytest.raises(errors.SaveError, match="gone or changed"):
                hub.save(runtime.loaded, tmp_path / "out", session=runtime.session)
            if not (tmp_path / "one").exists():
                shutil.copytree(str(tmp_path / "other"), str(tmp_path / "one"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "other"]


def test_only_what_load_returned() -> None:
    """Another object is refused, with what to use instead."""
    with pytest.raises(errors.SaveError, match=r"tf\.saved_model\.save"):
        hub.save(object(), "out")


def test_destination_that_exists(tmp_path: Path) -> None:
    """Nothing is overwritten unasked, and nothing is lost."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(errors.DestinationError, match="overwrite"):
        save_again(expected.load_expected("image_bn").path, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "mine"


@pytest.mark.graph
def test_graph_mode_needs_a_session(tmp_path: Path) -> None:
    """Values are in a session: the current one, the one that is given, or an error."""
    with tf.Graph().as_default():
        loaded = hub.load(expected.load_expected("image_bn").path)
        with pytest.raises(errors.SaveError, match="Give save"):
            hub.save(loaded, tmp_path / "out")
        initialize = tf.compat.v1.global_variables_initializer()
        tf.compat.v1.get_default_graph().finalize()
        with tf.compat.v1.Session() as session:
            with pytest.raises(errors.SaveError, match="global_variables_initializer"):
                hub.save(loaded, tmp_path / "out")
            session.run(initialize)
            hub.save(loaded, tmp_path / "out")
    recorded = expected.load_expected("image_bn")
    replay.OBJECT_CHECKS["variables"](recorded, load(tmp_path / "out"))


# TF 1.15 has no ram://.
@pytest.mark.tf2
@pytest.mark.eager
def test_remote(remote: str, tmp_path: Path) -> None:
    """From and to a remote file system, where nothing can be linked."""
    from fakes import upload

    recorded = expected.load_expected("text_embedding")
    upload(recorded.path, remote)
    loaded = hub.load(remote)
    hub.save(loaded, remote + "-saved")
    hub.save(hub.load(remote + "-saved"), remote + "-saved", overwrite=True)
    replay.OBJECT_CHECKS["calls"](recorded, lambda tags: hub.load(remote + "-saved"))


@pytest.mark.eager
@pytest.mark.parametrize("module", MODULES)
def test_tensorflow_saves_it(module: str, tmp_path: Path) -> None:
    """tf.saved_model.save of a loaded module gives the recorded outputs."""
    recorded = expected.load_expected(module)
    # load() alone would leave out variants that it was not asked for.
    hub.convert(recorded.path, tmp_path / "converted")
    tf.saved_model.save(hub.load(tmp_path / "converted"), str(tmp_path / "out"))
    again = runtimes.shared(tmp_path, replay.plain_load(str(tmp_path / "out")))
    # The functions are those of test_modules.py, which has them optimised.
    with runtimes.unoptimized():
        for check in ("variables", "calls", "training", "losses"):
            replay.OBJECT_CHECKS[check](recorded, again)
