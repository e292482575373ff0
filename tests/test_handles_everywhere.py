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
