"""What takes a directory takes a handle."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runtimes
from keras_kit import Keras
from loopback import Answer, serving

import hub_compat as hub
from hub_compat import cli

requests = pytest.importorskip("requests")

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="session")
def packed(testdata: Path, tmp_path_factory: Any) -> bytes:
    """A module with a message, as a server has it."""
    path = Path(tmp_path_factory.mktemp("packed")) / "module.tar.gz"
    with tarfile.open(str(path), "w:gz") as archive:
        archive.add(str(testdata / "image_bn" / "module"), ".")
    return path.read_bytes()


@pytest.fixture
def address(packed: bytes, tmp_path: Path, monkeypatch: Any) -> Any:
    """Where the module is."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "downloads"))
    with serving() as server:
        yield server.on("/google/image/1", Answer(packed))
        # Fetched once, whatever was done with it.
        assert len(server.asked) == 1


def test_functions(address: str, testdata: Path, tmp_path: Path, capsys: Any) -> None:
    """The results are those of the directory."""
    source = testdata / "image_bn" / "module"
    assert hub.detect(address).format is hub.detect(source).format
    hub.convert(address, tmp_path / "out")
    assert hub.detect(tmp_path / "out").format.is_tf2
    kept = [
        hub.get_attached_message(handle, "image_module_info", hub.ImageModuleInfo)
        for handle in (address, source)
    ]
    assert kept[0] == kept[1] is not None
    assert cli.main(["hub-compat", "resolve", address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {address: hub.resolve(address)}
    assert cli.main(["hub-compat", "detect", address]) == 0
    with runtimes.Runtime(lambda: hub.load(source)) as run:
        wanted = run.read(run.loaded.variables)
    with runtimes.Runtime(lambda: hub.load(address)) as run:
        found = run.read(run.loaded.variables)
        assert [v.name for v in run.loaded.variables]
    for one, other in zip(found, wanted):
        np.testing.assert_array_equal(one, other)


@pytest.mark.eager
def test_layer(address: str, k: Keras) -> None:
    """Its configuration keeps the handle, and a file of it finds the module again."""
    layer = k.Layer(address)
    assert layer.get_config()["handle"] == address
    assert len(k.Layer.from_config(layer.get_config()).weights) == len(layer.weights)


@pytest.mark.eager
def test_layer_of_another_machine(k: Keras, testdata: Path, monkeypatch: Any) -> None:
    """The directory that its configuration names is another one here."""
    config = k.Layer(str(testdata / "image_bn" / "module")).get_config()
    config["handle"] = "/of/another/image_bn/module"
    with pytest.raises(hub.errors.HandleError):
        k.Layer.from_config(config)
    monkeypatch.setenv("HUB_COMPAT_PATH_MAP", "/x=/y,/of/another={}".format(testdata))
    layer = k.Layer.from_config(config)
    assert layer.weights
    assert layer.get_config()["handle"] == "/of/another/image_bn/module"


@pytest.mark.tf2
def test_remote_cache(packed: bytes, tmp_path: Path, monkeypatch: Any) -> None:
    """A cache, and an archive, on a file system that only TensorFlow reads."""
    import tensorflow as tf

    root = "ram://{}".format(tmp_path.name)
    monkeypatch.setenv("TFHUB_CACHE_DIR", root)
    with serving() as server:
        address = server.on("/google/image/1", Answer(packed))
        found = hub.resolve(address)
        assert found.startswith(root + "/")
        assert hub.resolve(address) == found
        assert hub.detect(found).format is hub.Format.TF1_HUB_MODULE
        assert hub.get_attached_message(found, "image_module_info", hub.ImageModuleInfo)
        assert len(server.asked) == 1
        # Its files are moved there one by one: what is there by half is noticed.
        tf.io.gfile.remove(found + "/saved_model.pb")
        assert hub.resolve(address) == found
        assert tf.io.gfile.exists(found + "/saved_model.pb")
        assert len(server.asked) == 2
    names = tf.io.gfile.listdir(root)
    assert not [name for name in names if "tmp" in name or "old" in name]
    for name in ("module.tar.gz", "module.tgz"):
        handle = root + "/" + name
        with tf.io.gfile.GFile(handle, "wb") as file:
            file.write(packed)
        place = hub.resolve(handle)
        assert place.startswith(root + "/")
        assert hub.detect(place).format is hub.Format.TF1_HUB_MODULE
    monkeypatch.setenv("HUB_COMPAT_OFFLINE", "1")
    assert hub.resolve(address) == found
    assert cli.main(["hub-compat", "cache", "list"]) == 1
