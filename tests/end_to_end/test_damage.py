"""Modules whose weights are damaged, and whole copies of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import expected
import pytest

import hub_compat as hub
from hub_compat import errors

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]

SOURCES = {
    "converted": "image_bn",
    "tf1": "image_bn",
    "tf2": "tf221/keras2_old_optimizer",
}


def source(kind: str, path: Path) -> None:
    """A module at a path where there may be another."""
    shutil.rmtree(str(path), ignore_errors=True)
    module = expected.HERE / SOURCES[kind] / "module"
    if kind == "converted":
        hub.convert(module, path, link="copy")
    else:
        shutil.copytree(str(module), str(path))


def damage(path: Path) -> None:
    """Changes bytes in the middle of the weights."""
    shards = sorted(path.glob("variables/variables.data-*"))
    shard = max(shards, key=lambda each: each.stat().st_size)
    data = bytearray(shard.read_bytes())
    half = len(data) // 2
    data[half : half + 4] = bytes(byte ^ 0xFF for byte in data[half : half + 4])
    shard.unlink()
    shard.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_whole_copy_after_a_damaged_one(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage is an error that says so, and no later load is the worse for it."""
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", str(tmp_path / "cache"))
    damaged, whole = tmp_path / "damaged", tmp_path / "whole"
    source(kind, damaged)
    damage(damaged)
    for _ in range(2):
        with pytest.raises(errors.CorruptModuleError, match="damaged"):
            hub.load(damaged)
    source(kind, whole)
    assert hub.load(whole).variables
    source(kind, damaged)
    assert hub.load(damaged).variables
