"""load(): variants, state, lifetimes, file systems, strategies."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import expected
import numpy as np
import pytest
import replay
import runtimes
from fakes import upload

import hub_compat as hub
from hub_compat import errors

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"

pytestmark = pytest.mark.tensorflow


def module(name: str) -> Path:
    """The directory of a recorded module."""
    return expected.load_expected(name).path


def first_case(name: str, tags: Any = ()) -> Any:
    """The first recorded call of the default signature."""
    recorded = expected.load_expected(name)
    for case in recorded.cases:
        if case.tags == tuple(tags) and case.signature == "default":
            return case
    raise AssertionError(name)


def call(loaded: Any, name: str, **keywords: Any) -> Any:
    """Calls a module as it was first called when it was recorded."""
    case = first_case(name)
    (value,) = case.inputs.values()
    return loaded(replay.tensor(value), **keywords)


@pytest.mark.parametrize("tags", [["nope"], {"train", "nope"}, "nope"])
@pytest.mark.parametrize("converted", [False, True])
def test_unknown_variant_lists_the_known(
    tags: Any, converted: bool, tmp_path: Path
) -> None:
    """Tags that no variant has raise an error that lists those there are."""
    source = module("image_bn")
    if converted:
        hub.convert(source, tmp_path / "out")
        source = tmp_path / "out"
    with pytest.raises(errors.VariantError, match=r"it has \[\], \['train'\]"):
        hub.load(source, tags=tags)


def test_empty_tags_are_the_default_variant() -> None:
    """tags=[] is what TensorFlow Hub passes for a TF1 module."""
    with runtimes.Runtime(lambda: hub.load(module("image_bn"), tags=[])) as runtime:
        found = runtime.run(call(runtime.loaded, "image_bn"))
    replay.assert_equal(found, first_case("image_bn").outputs["default"], "default")


def test_variant_has_its_own_variables(tmp_path: Path) -> None:
    """Loaded by its tags, a variant shows what its graph has, converted or not."""
    recorded = expected.load_expected("variants3")
    hub.convert(recorded.path, tmp_path / "out")
    for tags, variant in recorded.variants.items():
        if not tags:
            continue
        for source in (recorded.path, tmp_path / "out"):
            with runtimes.Runtime(functools.partial(hub.load, source, tags)) as runtime:
                found = {v.name.split(":")[0] for v in runtime.loaded.variables}
            assert found == set(variant.variables)


def test_no_variant_is_the_default(tmp_path: Path) -> None:
    """Where all variants have tags, load() does not guess; of one, it need not."""
    from hub_compat._tf import saved_model_pb2

    shutil.copytree(str(module("image_bn")), str(tmp_path / "m"))
    file = tmp_path / "m" / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (plain,) = [m for m in saved_model.meta_graphs if not m.meta_info_def.tags]
    plain.meta_info_def.tags.append("serving")
    file.write_bytes(saved_model.SerializeToString())
    with pytest.raises(errors.VariantError, match=r"neither a variant without tags"):
        hub.load(tmp_path / "m")
    hub.load(tmp_path / "m", tags={"serving"})
    alone = saved_model_pb2.SavedModel(meta_graphs=[plain])
    file.write_bytes(alone.SerializeToString())
    with runtimes.Runtime(lambda: hub.load(tmp_path / "m")) as runtime:
        found = runtime.run(call(runtime.loaded, "image_bn"))
    replay.assert_equal(found, first_case("image_bn").outputs["default"], "default")


def test_handle_must_be_a_path() -> None:
    """Anything else is refused with the words that TensorFlow Hub uses."""
    with pytest.raises(errors.FormatError, match="Expected a string"):
        hub.load(17)


def test_attribute_of_tensorflow_hub() -> None:
    """_is_hub_module_v1 tells where the object came from, as hub.load's does."""
    with runtimes.Runtime(lambda: hub.load(module("no_variables"))) as runtime:
        assert runtime.loaded._is_hub_module_v1 is True


def test_tf2_saved_model_is_loaded_as_it_is(tmp_path: Path) -> None:
    """A TF2 SavedModel needs neither conversion nor cache."""
    hub.convert(module("image_bn"), tmp_path / "out")
    shutil.rmtree(str(tmp_path / "out" / "assets.extra"))
    with runtimes.Runtime(lambda: hub.load(tmp_path / "out")) as runtime:
        assert runtime.loaded._is_hub_module_v1 is False
        found = runtime.run(call(runtime.loaded, "image_bn"))
    replay.assert_equal(found, first_case("image_bn").outputs["default"], "default")
    with pytest.raises(errors.VariantError, match=r"\['serve'\]"):
        hub.load(tmp_path / "out", tags=["train"])


def test_two_loads_share_no_state() -> None:
    """Training one object leaves another of the same module alone."""

    def load_two() -> Any:
        return hub.load(module("image_bn")), hub.load(module("image_bn"))

    recorded = expected.load_expected("image_bn")
    with runtimes.Runtime(load_two) as runtime:
        one, two = runtime.loaded
        runtime.run(call(one, "image_bn", training=True))
        changed = replay.variable_values(runtime, one, recorded)
        kept = replay.variable_values(runtime, two, recorded)
    assert any(
        np.any(changed[name] != value) for name, value in recorded.variables.items()
    )
    for name, value in recorded.variables.items():
        replay.assert_equal(kept[name], value, name, relative=0)


@pytest.mark.eager
def test_two_loads_share_no_tables() -> None:
    """Dropping one object leaves the tables of another alone."""
    one, two = hub.load(module("tables")), hub.load(module("tables"))
    recorded = expected.load_expected("tables")
    del one
    for case in recorded.cases:
        function = replay.callable_of(two, recorded, case)
        found = runtimes.Runtime(lambda: None).run(
            replay.call(function, recorded, case, False)
        )
        replay.assert_outputs(found, case, case.id)


@pytest.mark.eager
@pytest.mark.parametrize("name", ["image_bn", "text_embedding", "bert_like", "tables"])
def test_source_may_go_after_loading(name: str, tmp_path: Path) -> None:
    """A loaded object needs its source no more."""
    source = tmp_path / "source"
    recorded = expected.load_expected(name)
    shutil.copytree(str(recorded.path), str(source))
    loaded = hub.load(source)
    shutil.rmtree(str(source))
    runtime = runtimes.Runtime(lambda: None)
    for case in recorded.cases:
        function = replay.callable_of(loaded, recorded, case)
        if case.tags == () and function is not None and case.deterministic:
            found = runtime.run(replay.call(function, recorded, case, False))
            replay.assert_outputs(found, case, case.id)


@pytest.mark.eager
def test_path_that_tensorflow_takes_for_a_pattern(tmp_path: Path) -> None:
    """TensorFlow finds no weights there; a link by another name is the way out."""
    hub.convert(module("image_bn"), tmp_path / "v[1]")
    with pytest.raises(errors.HandleError, match="as wildcards"):
        hub.load(tmp_path / "v[1]")
    (tmp_path / "link").symlink_to(tmp_path / "v[1]")
    assert hub.load(tmp_path / "link").variables


@pytest.mark.eager
def test_changed_source_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    """A module exported anew to the same place is loaded anew."""
    source = tmp_path / "source"
    shutil.copytree(str(module("image_bn")), str(source))
    first = hub.load(source)
    shutil.rmtree(str(source))
    shutil.copytree(str(module("text_embedding")), str(source))
    second = hub.load(source)
    assert len(first.variables) != len(second.variables)


# TF 1.15 has no ram://.
@pytest.mark.tf2
@pytest.mark.parametrize(
    "name",
    ["all_dtypes", "image_bn", "text_embedding", "ref_variables", "ref_partitioned"],
)
def test_remote_source_is_loaded_without_copying_weights(
    name: str, remote: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """A module on ram:// gives the recorded values; its shards are not copied."""
    import tensorflow as tf

    cache = tmp_path / "cache"
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", str(cache))
    recorded = expected.load_expected(name)
    upload(recorded.path, remote)
    for check in ("variables", "calls", "training"):
        replay.OBJECT_CHECKS[check](
            recorded, lambda tags: hub.load(remote, tags=tags or None)
        )
    kept = [str(path.with_suffix("")) for path in cache.rglob("*.index")]
    assert kept
    for prefix in kept:
        assert list(tf.train.load_checkpoint(prefix).get_variable_to_shape_map()) == [
            "_CHECKPOINTABLE_OBJECT_GRAPH"
        ]
    tf.io.gfile.rmtree(remote)


# TF 1.15 has no ram://.
@pytest.mark.tf2
@pytest.mark.parametrize("name", ["all_dtypes", "image_bn", "text_embedding"])
def test_converted_from_and_to_a_remote_file_system(name: str, remote: str) -> None:
    """ram:// to ram:// gives what TensorFlow alone loads from there."""
    recorded = expected.load_expected(name)
    upload(recorded.path, remote)
    # Beside it, at the top of the file system.
    converted = remote.replace("hub_compat_", "converted_")
    hub.convert(remote, converted)
    for check in ("variables", "calls"):
        replay.OBJECT_CHECKS[check](recorded, replay.plain_load(converted))
    hub.convert(remote, converted, overwrite=True)
    replay.OBJECT_CHECKS["calls"](recorded, replay.plain_load(converted))


@pytest.mark.tf1
def test_load_options_need_a_newer_tensorflow() -> None:
    """TensorFlow 1.15 has no LoadOptions, and the error says so."""
    with pytest.raises(errors.OptionsError, match="LoadOptions"):
        hub.load(module("no_variables"), options=object())


@pytest.mark.tf2
def test_load_options_reach_tensorflow() -> None:
    """LoadOptions are those of tf.saved_model."""
    import tensorflow as tf

    options = tf.saved_model.LoadOptions(experimental_io_device="/job:localhost")
    loaded = hub.load(module("image_bn"), options=options)
    found = call(loaded, "image_bn").numpy()
    replay.assert_equal(found, first_case("image_bn").outputs["default"], "default")


@pytest.mark.eager
def test_load_under_a_strategy(root: Path) -> None:
    """Two replicas share the variables and learn as one device does."""
    program = PROGRAMS / "finetune_under_strategy.py"
    (images,) = first_case("image_bn").inputs.values()
    done = subprocess.run(
        [
            sys.executable,
            str(program),
            str(module("image_bn")),
            str(images.shape[1]),
        ],
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout[done.stdout.index("{") :])
    (losses, weights, _), (mirrored_losses, mirrored_weights, kinds) = (
        found["one"],
        found["two"],
    )
    assert losses[2] < losses[0]
    np.testing.assert_allclose(mirrored_losses, losses, rtol=1e-5)
    assert sorted(mirrored_weights) == sorted(weights)
    for name, value in weights.items():
        np.testing.assert_allclose(mirrored_weights[name], value, rtol=1e-5)
    assert "MirroredVariable" in kinds


def test_nothing_is_said_when_a_module_goes(root: Path) -> None:
    """TF 1.15 warns of what it found no use for in a checkpoint, at the end."""
    code = (
        "import gc, os, sys\n"
        "import hub_compat as hub\n"
        "from hub_compat._tf import tf\n"
        "if os.environ.get('HUB_COMPAT_TEST_MODE') == 'eager':\n"
        "    tf.compat.v1.enable_v2_behavior()\n"
        "loaded = hub.load(sys.argv[1])\n"
        "del loaded\n"
        "gc.collect()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(module("image_bn"))],
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "heckpoint" not in done.stderr


def test_cache_that_cannot_be_written_is_replaced(tmp_path: Path, root: Path) -> None:
    """Without a place for the cache a temporary one serves, and goes at exit."""
    (tmp_path / "file").write_text("not a directory")
    code = (
        "import sys, tempfile\n"
        "import hub_compat as hub\n"
        "loaded = hub.load(sys.argv[1])\n"
        "print(len(loaded.variables))\n"
    )
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(module("image_bn"))],
        capture_output=True,
        env=dict(
            os.environ,
            HUB_COMPAT_CACHE_DIR=str(tmp_path / "file" / "below"),
            TMPDIR=str(temporary),
            PYTHONPATH=os.pathsep.join(sys.path),
        ),
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = len(expected.load_expected("image_bn").variables)
    assert done.stdout.split()[-1] == str(wanted)
    assert not list(temporary.glob("*hub_compat*"))


def test_attached_messages_of_a_loaded_object(tmp_path: Path) -> None:
    """They are those of the variant that was loaded, also when its source is gone."""
    recorded = expected.load_expected("image_bn")
    shutil.copytree(str(recorded.path), str(tmp_path / "source"))
    for tags in (None, {"train"}):
        with runtimes.Runtime(
            lambda tags=tags: hub.load(tmp_path / "source", tags)
        ) as r:
            (key, value), *_ = recorded.variants[tuple(tags or ())].attached.items()
            assert key == "image_module_info"
            (tmp_path / "source").rename(tmp_path / "away")
            for _ in range(2):
                found = hub.get_attached_message(r.loaded, key, hub.ImageModuleInfo)
                assert found.SerializeToString() == value
                if not (tmp_path / "source").exists():
                    (tmp_path / "away").rename(tmp_path / "source")
    with pytest.raises(errors.HandleError, match="the result of load"):
        hub.get_attached_message(object(), "image_module_info", hub.ImageModuleInfo)
