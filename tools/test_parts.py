"""Divides a leg of the suite into processes of about the same time.

What each file of tests took is known from the last run, in ``build/seconds.json``;
before the first one, the table below says how heavy the heaviest are.
"""

from __future__ import annotations

import collections
import json
import xml.etree.ElementTree
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

# File -> seconds, in a leg of a quiet machine.
HEAVY = {
    "test_keras_life": 120.0,
    "test_modules": 80.0,
    "test_save": 70.0,
    "test_random_programs": 60.0,
    "test_distribution": 60.0,
    "test_training_job": 60.0,
    "test_verify": 60.0,
    "test_keras_layer": 50.0,
    "test_lowering_layers": 50.0,
    "test_lowering_large": 40.0,
    "test_handles_processes": 40.0,
    "test_large": 40.0,
    "test_signature_names": 30.0,
    "test_random_writes": 30.0,
    "test_random_tables": 30.0,
    "test_damaged_files": 30.0,
    "test_missing_gradients": 30.0,
    "test_loop_effects": 30.0,
    "test_loop_turns": 30.0,
}
# Of each other file.
LIGHT = 6.0

# Seconds, of one test, and its name.
Timed = Tuple[float, str]


def timed(junit: Path) -> List[Timed]:
    """What each test of a report took, with its fixtures, by ``file::name``."""
    found = []
    for case in xml.etree.ElementTree.parse(str(junit)).iter("testcase"):
        names = (case.get("classname") or "").split(".")[-1:] + [case.get("name") or ""]
        found.append((float(case.get("time") or 0), "::".join(names)))
    return found


def remember(path: Path, leg: str, tests: Iterable[Timed]) -> None:
    """Notes what the files of a leg took, for the next run."""
    files: Dict[str, float] = collections.defaultdict(float)
    for seconds, name in tests:
        files[name.split("::")[0]] += seconds
    known = _read(path)
    known[leg] = {name: round(seconds, 1) for name, seconds in sorted(files.items())}
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def _read(path: Path) -> Dict[str, Dict[str, float]]:
    try:
        found: Dict[str, Dict[str, float]] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def seconds_of(path: Path, leg: str, name: str) -> float:
    """What a file of tests is expected to take in a leg."""
    return _read(path).get(leg, {}).get(name, HEAVY.get(name, LIGHT))


def divide(weights: Dict[str, float], parts: int) -> List[Tuple[float, List[str]]]:
    """Divides names into parts of about the same weight.

    Args:
      weights: by name.
      parts: how many there may be.

    Returns:
      Weight and names of each part that has any; of a part in the order of names.
    """
    found: List[Tuple[float, List[str]]] = [(0.0, []) for _ in range(parts)]
    for name in sorted(weights, key=lambda name: (-weights[name], name)):
        # Into the lightest.
        weight, names = min(found, key=lambda part: part[0])
        found.remove((weight, names))
        found.append((weight + weights[name], names + [name]))
    return [(weight, sorted(names)) for weight, names in found if names]
