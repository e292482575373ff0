"""save() onto what was loaded, after the cache or the source is gone, without space."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import expected
import numpy as np
import pytest
import runtimes

import hub_compat as hub
from hub_compat import errors, provenance
from hub_compat.converters.checkpoint import shards, writer

pytestmark = pytest.mark.tensorflow

TAGS = [None, {"train"}]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: Any) -> Path:
    """A cache that may be deleted."""
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def copy(name: str, folder: Path, converted: bool = False) -> Path:
    """A module that may be changed."""
    source = expected.HERE / name / "module"
    if converted:
        hub.convert(source, folder)
    else:
        shutil.copytree(str(source), str(folder))
    return folder


def set_first(runtime: Any, value: float) -> str:
    """Gives the first trainable variable a value; returns its name."""
    (variable, *_) = runtime.loaded.trainable_variables
    shape, dtype = variable.shape.as_list(), variable.dtype.as_numpy_dtype
    runtime.run(variable.assign(np.full(shape, value, dtype)))
    return str(variable.name)


def check_first(path: Path, tags: Any, name: str, value: float) -> None:
    """What a variant has for a variable."""
    with runtimes.Runtime(lambda: hub.load(path, tags)) as runtime:
        found = {v.name: v for v in runtime.loaded.variables}
        assert np.all(runtime.read([found[name]])[0] == value)


@pytest.mark.parametrize("converted", [False, True])
def test_saved_onto_itself(converted: bool, tmp_path: Path) -> None:
    """Again and again, the whole module stays, with all of its variants."""
    path = copy("variants3", tmp_path / "module", converted)
    variants = [variant.tags for variant in hub.detect(path).variants]
    assert converted or len(variants) == 3
    for tags in TAGS:
        with runtimes.Runtime(lambda tags=tags: hub.load(path, tags)) as runtime:
            for value in (1.0, 2.0, 3.0):
                name = set_first(runtime, value)
                hub.save(runtime.loaded, path, overwrite=True, session=runtime.session)
        for other in TAGS:
            check_first(path, other, name, 3.0)
    facts = provenance.read(str(path))
    assert facts is not None
    assert len(facts.variants) == 3
    assert os.listdir(str(path.parent)).count("module") == 1


def test_two_objects_of_one_module(tmp_path: Path) -> None:
    """Both can be saved onto it, one after the other."""
    path = copy("variants3", tmp_path / "module")

    def load_two() -> Any:
        return hub.load(path), hub.load(path, {"train"})

    with runtimes.Runtime(load_two) as runtime:
        both = runtime.loaded
        for value, loaded in ((1.0, both[0]), (2.0, both[1]), (3.0, both[0])):
            runtime.loaded = loaded
            name = set_first(runtime, value)
            hub.save(loaded, path, overwrite=True, session=runtime.session)
    check_first(path, None, name, 3.0)
    check_first(path, {"train"}, name, 3.0)


def test_another_module_in_its_place(tmp_path: Path) -> None:
    """What save() did not write is not taken for the module."""
    path = copy("image_bn", tmp_path / "module", converted=True)
    with runtimes.Runtime(lambda: hub.load(path)) as runtime:
        runtime.read(runtime.loaded.variables)
        hub.convert(expected.HERE / "variants3" / "module", path, overwrite=True)
        with pytest.raises(errors.SaveError, match="Load it again"):
            hub.save(runtime.loaded, path, overwrite=True, session=runtime.session)


def test_after_the_cache_is_deleted(tmp_path: Path, home: Path) -> None:
    """The source is there, so nothing is lost."""
    path = copy("variants3", tmp_path / "module")
    with runtimes.Runtime(lambda: hub.load(path)) as runtime:
        name = set_first(runtime, 1.0)
        shutil.rmtree(str(home))
        hub.save(runtime.loaded, tmp_path / "out", session=runtime.session)
        check_first(tmp_path / "out", {"train"}, name, 1.0)
        if runtime.session is None:
            shutil.rmtree(str(home), ignore_errors=True)
            shutil.rmtree(str(path))
            with pytest.raises(errors.SaveError, match="gone"):
                hub.save(runtime.loaded, tmp_path / "other")


@pytest.mark.filterwarnings("ignore:Only the loaded variants")
def test_without_the_source(tmp_path: Path) -> None:
    """What is saved lists the variants that it has, and no others."""
    path = copy("variants3", tmp_path / "module")
    with runtimes.Runtime(lambda: hub.load(path)) as runtime:
        name = set_first(runtime, 1.0)
        shutil.rmtree(str(path))
        for _ in range(2):
            hub.save(runtime.loaded, path, overwrite=True, session=runtime.session)
    check_first(path, None, name, 1.0)
    with pytest.raises(errors.VariantError, match="no variant"):
        hub.load(path, {"train"})


def test_weights_are_borrowed(tmp_path: Path, monkeypatch: Any) -> None:
    """Where they cannot be linked, saving copies none that it replaces."""

    def link(source: str, target: str) -> None:
        raise OSError(18, "Invalid cross-device link")

    path = copy("image_bn", tmp_path / "module")
    monkeypatch.setattr(os, "link", link)
    with runtimes.Runtime(lambda: hub.load(path)) as runtime:
        runtime.read(runtime.loaded.variables)
        copied = []
        real = shards.bring

        def bring(*arguments: Any) -> bool:
            copied.append(not real(*arguments))
            return not copied[-1]

        monkeypatch.setattr(writer, "bring", bring)
        hub.save(runtime.loaded, tmp_path / "out", session=runtime.session)
    assert copied == [False]
    for file in (tmp_path / "out").rglob("*"):
        assert not file.is_symlink()


_LIMITED = """
import resource, sys, warnings
warnings.simplefilter("ignore")
import tensorflow as tf
if {eager} and tf.__version__.startswith("1."):
    tf.compat.v1.enable_v2_behavior()
import hub_compat as hub
from hub_compat import errors
loaded = hub.load(sys.argv[1])
session = None
if not tf.executing_eagerly():
    session = tf.compat.v1.Session()
    session.run(tf.compat.v1.global_variables_initializer())
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in (0, 100, 3000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        hub.save(loaded, sys.argv[2], overwrite=True, session=session)
    except errors.DestinationError as error:
        print("refused")
    try:
        hub.convert(sys.argv[1], sys.argv[2], overwrite=True, link="copy")
    except errors.DestinationError as error:
        print("refused")
"""


@pytest.mark.skipif(os.name != "posix", reason="there are no limits")
def test_no_space(tmp_path: Path) -> None:
    """Files that may not grow end in a DestinationError, and change nothing."""
    path = copy("image_bn", tmp_path / "module")
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    with runtimes.Runtime(lambda: None) as runtime:
        eager = runtime.session is None
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED.format(eager=eager), str(path), str(out)],
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
    )
    assert done.stdout.split() == [b"refused"] * 6, done.stderr[-3000:]
    assert [p.name for p in out.iterdir()] == ["old"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "module", "out"]


def test_an_export_that_is_exchanged(tmp_path: Path, monkeypatch: Any) -> None:
    """Whatever is read before and what after it, one export is converted."""
    first = copy("image_bn", tmp_path / "first")
    second = copy("variants3", tmp_path / "second")
    expected_files = {}
    for one in (first, second):
        hub.convert(one, tmp_path / "alone" / one.name)
        expected_files[one.name] = contents(tmp_path / "alone" / one.name)
    place = tmp_path / "place"
    module = sys.modules["hub_compat.converters.tf1_model"]
    for name in (
        "read_saved_model",
        "read_source_index",
        "_copy_assets",
        "fingerprint",
    ):
        real = getattr(module, name)
        for when in ("before", "after"):
            shutil.copytree(str(first), str(place))
            done = []

            def exchange(*arguments: Any) -> Any:
                result = real(*arguments) if when == "after" else None  # noqa: B023
                if not done:  # noqa: B023
                    done.append(place.rename(tmp_path / "old"))  # noqa: B023
                    shutil.copytree(str(second), str(place))
                return real(*arguments) if when == "before" else result  # noqa: B023

            with monkeypatch.context() as patch:
                patch.setattr(module, name, exchange)
                hub.convert(place, tmp_path / "out", overwrite=True)
            assert done
            assert contents(tmp_path / "out") == expected_files["second"], (name, when)
            shutil.rmtree(str(place))
            shutil.rmtree(str(tmp_path / "old"))


def contents(folder: Path) -> Any:
    """Names and bytes of all files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
