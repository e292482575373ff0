"""Collections, names and variable_map are those of tensorflow_hub's own Module."""

from __future__ import annotations

import gzip
import json
from typing import Any, Dict

import pytest
import record_collections

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.modeless]
MODULES = {path.parent.name: path for path in record_collections.modules()}


@pytest.fixture(scope="module")
def recorded() -> Dict[str, Any]:
    """What tensorflow_hub 0.12 did in TensorFlow 1.15."""
    with gzip.open(str(record_collections.PATH)) as file:
        found: Dict[str, Any] = json.loads(file.read().decode())
    return found


def test_all_modules_are_recorded(recorded: Dict[str, Any]) -> None:
    """So that the test below compares each."""
    assert sorted(recorded) == sorted(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_as_in_tensorflow_hub(name: str, recorded: Dict[str, Any]) -> None:
    """The same names, in the same order, in every TensorFlow."""
    found = json.loads(json.dumps(record_collections.look(hub, MODULES[name])))
    for variant, wanted in recorded[name].items():
        for part, names in wanted.items():
            assert found[variant][part] == names, (variant, part)
    assert sorted(found) == sorted(recorded[name])
