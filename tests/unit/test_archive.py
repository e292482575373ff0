"""Embedded modules as archives: whatever is in one, it ends well or in our errors."""

from __future__ import annotations

import io
import os
import random
import zipfile
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from hub_compat._keras import archive as _archive
from hub_compat._keras.embedded import Embedded
from hub_compat.converters.checkpoint import relabel
from hub_compat.errors import CacheError, CorruptModuleError

# What writes checkpoints imports TensorFlow.
pytestmark = [pytest.mark.tensorflow, pytest.mark.modeless]

SHARD = "variables/variables.data-00000-of-00001"
# So many zeros are a thousandth of it.
BOMB = 80 << 20


def model(folder: Path, values: int = 3 << 20) -> Path:
    """What stands for a model, with weights that are all alike."""
    for name in ("variables", "assets"):
        (folder / name).mkdir(parents=True)
    (folder / "saved_model.pb").write_text("graph")
    (folder / "assets" / "words.txt").write_text("one two")
    weights = {"w": np.full([values], np.nan, np.float32)}
    relabel.relabel(None, str(folder / "variables" / "variables"), {}, weights)
    return folder


def contents(folder: Path) -> Dict[str, bytes]:
    """Names and bytes of all files."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def archive(**members: Any) -> bytes:
    """An archive of a model with other members, by names with __ for a slash."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in members.items():
            writer.writestr(name.replace("__", "/"), content)
    return data.getvalue()


def test_there_and_back(tmp_path: Path) -> None:
    """Weights may be a thousand times as large as the archive; the text is the same."""
    source = model(tmp_path / "model")
    data = _archive.pack(str(source))
    assert len(data) < sum(map(len, contents(source).values())) / 500
    assert data == _archive.pack(str(source))
    (tmp_path / "out").mkdir()
    _archive.unpack(data, str(tmp_path / "out"))
    assert contents(tmp_path / "out") == contents(source)


@pytest.mark.parametrize("name", ["assets/zeros", "saved_model.pb", SHARD, "assets/x"])
def test_more_than_there_can_be(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    """A file that unpacks to far more than a model has is not unpacked."""
    monkeypatch.setattr("hub_compat._handles.target._FREE", 16 << 20)
    source = model(tmp_path / "model")
    path = source / name
    if path.exists():
        path.unlink()
    if name == "assets/x":
        # No single one is large.
        for number in range(9):
            (source / "assets" / str(number)).write_bytes(bytes(BOMB // 9))
    else:
        path.write_bytes(bytes(BOMB))
    data = _archive.pack(str(source))
    (tmp_path / "out").mkdir()
    with pytest.raises(CorruptModuleError, match="MAX_RATIO|needs|index"):
        _archive.unpack(data, str(tmp_path / "out"))
    assert sum(map(len, contents(tmp_path / "out").values())) <= 48 << 20


@pytest.mark.parametrize("name", ["FILES", "BYTES"])
def test_limits_of_any_archive(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Those of what is downloaded are those of what is embedded."""
    data = _archive.pack(str(model(tmp_path / "model")))
    (tmp_path / "out").mkdir()
    variable = "HUB_COMPAT_ARCHIVE_MAX_" + name
    monkeypatch.setenv(variable, "2")
    with pytest.raises(CorruptModuleError, match=variable):
        _archive.unpack(data, str(tmp_path / "out"))


@pytest.mark.parametrize(
    "name",
    ["..__x", "assets__..__..__..__x", "c:x", "assets__\\x"],
)
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    """They are refused, not mended."""
    (tmp_path / "a" / "out").mkdir(parents=True)
    with pytest.raises(CorruptModuleError, match="has the name"):
        _archive.unpack(archive(**{name: "x"}), str(tmp_path / "a" / "out"))
    assert contents(tmp_path) == {}


def test_what_is_no_part_of_a_model_stays(tmp_path: Path) -> None:
    """Only a model is unpacked."""
    (tmp_path / "out").mkdir()
    _archive.unpack(
        archive(**{"saved_model.pb": "graph", "run.sh": "x", "bin__run": "x"}),
        str(tmp_path / "out"),
    )
    assert contents(tmp_path / "out") == {"saved_model.pb": b"graph"}


def encrypted(data: bytearray) -> None:
    """The flag of an encrypted file, in both headers."""
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + offset] |= 1


def unknown_method(data: bytearray) -> None:
    """A method of compression that there is not."""
    for magic, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(magic) + offset] = 77


def broken_stream(data: bytearray) -> None:
    """Bytes that do not unpack."""
    data[60:70] = b"\xff" * 10


def cut_off(data: bytearray) -> None:
    """Half of it."""
    del data[len(data) // 2 :]


@pytest.mark.parametrize("damage", [encrypted, unknown_method, broken_stream, cut_off])
def test_damage(damage: Any, tmp_path: Path) -> None:
    """It ends in a CorruptModuleError."""
    data = bytearray(archive(**{"saved_model.pb": "graph " * 1000}))
    damage(data)
    (tmp_path / "out").mkdir()
    with pytest.raises(CorruptModuleError, match="in the layer's configuration"):
        _archive.unpack(bytes(data), str(tmp_path / "out"))


def test_random_damage(tmp_path: Path) -> None:
    """Of whatever kind, it ends in one of our errors."""
    good = _archive.pack(str(model(tmp_path / "model", 1000)))
    generator = random.Random(0)
    caught = 0
    for number in range(300):
        data = bytearray(good)
        for _ in range(generator.randint(1, 3)):
            data[generator.randrange(len(data))] ^= generator.randint(1, 255)
        out = tmp_path / str(number)
        out.mkdir()
        try:
            _archive.unpack(bytes(data), str(out))
        except CorruptModuleError:
            caught += 1
    assert caught > 100


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"data": 7, "fingerprint": "x", "hub_module": True},
        {"data": "\ud800", "fingerprint": "x", "hub_module": True},
        {"data": "no base64", "fingerprint": "x", "hub_module": True},
        {"data": "UEsDBA==", "fingerprint": "x", "hub_module": True},
        [],
        "text",
    ],
    ids=range(7),
)
def test_configurations(config: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """What is no embedded module is said to be none; nothing is left of it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(CorruptModuleError, match="in the layer's configuration"):
        Embedded.from_config(config).directory(str(tmp_path / "gone"))
    assert os.listdir(str(tmp_path)) == []


def test_no_space(tmp_path: Path, monkeypatch: Any) -> None:
    """The error says what needs it, before anything is written."""
    data = _archive.pack(str(model(tmp_path / "model")))
    (tmp_path / "out").mkdir()
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(_archive.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CacheError, match="TMPDIR"):
        _archive.unpack(data, str(tmp_path / "out"))
    assert SHARD not in contents(tmp_path / "out")
