"""Compares the layers of testdata/tf221_layers with what they gave in TF 2.21.

For tests/lowering/test_lowering_layers.py and tools/survey_layers.py.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

TESTDATA = Path(__file__).resolve().parents[2] / "testdata"
sys.path.insert(0, str(TESTDATA / "scripts"))

import expected  # noqa: E402
import layers_replay  # noqa: E402

LIBRARIES = ("keras3", "tf_keras")
GROUPS = 2
SAME, RANDOM = "ok", "ok, other random numbers"
GOOD = (SAME, RANDOM)


def facts(library: str) -> Dict[str, str]:
    """By ``layer|mode``: what is to be expected, or why there is nothing."""
    path = TESTDATA / "tf221_layers" / library / "facts.json"
    return dict(json.loads(path.read_text()))


@functools.lru_cache(maxsize=None)
def recorded(library: str) -> Dict[str, Any]:
    """All recorded arrays, by ``layer|mode|part|name``."""
    path = TESTDATA / "tf221_layers" / library / "expected.npz"
    with np.load(str(path)) as arrays:
        return dict(arrays)


def names(library: str) -> List[str]:
    """The layers that could be saved."""
    found = {
        key.split("|")[0]
        for key, fact in facts(library).items()
        if fact in ("same", "random")
    }
    return sorted(found)


def unpacked(library: str, folder: Path) -> Path:
    """The module, where TensorFlow can load it."""
    packed = TESTDATA / "tf221_layers" / library / "packed"
    return expected.unpack(packed, folder / library)


def compare(
    runtime: Any, library: str, those: Sequence[str]
) -> Dict[str, Dict[str, str]]:
    """By layer and mode: one of GOOD, or what differs or fails."""
    results: Dict[str, Dict[str, str]] = {name: {} for name in those}
    for mode in ("infer", "train"):
        there = [n for n in those if "{}|{}".format(n, mode) in facts(library)]
        calls = {name: _call(library, name, mode) for name in there}
        found = _run(runtime, calls)
        for name in there:
            results[name][mode] = (
                found[name]
                if isinstance(found[name], str)
                else (_differences(library, name, mode, found[name]))
            )
    return results


def _run(runtime: Any, calls: Dict[str, Any]) -> Dict[str, Any]:
    """What came of each call, or the text of an error."""
    if not runtime.eager and len(calls) > 1:
        try:
            found = layers_replay.run_in_graph(
                runtime.loaded, list(calls.values()), runtime.run
            )
            return dict(zip(calls, found))
        except Exception:  # one by one, to say which
            return {k: _run(runtime, {k: call})[k] for k, call in calls.items()}
    results: Dict[str, Any] = {}
    for name, call in calls.items():
        try:
            if runtime.eager:
                results[name] = layers_replay.run(runtime.loaded, call)
            else:
                (results[name],) = layers_replay.run_in_graph(
                    runtime.loaded, [call], runtime.run
                )
        except Exception as error:
            results[name] = "fails: " + " ".join(str(error).split())[:300]
    return results


def _wanted(library: str, name: str, mode: str) -> Dict[str, Dict[str, Any]]:
    wanted: Dict[str, Dict[str, Any]] = {"in": {}, "out": {}, "grad": {}, "after": {}}
    start = "{}|{}|".format(name, mode)
    for key, value in recorded(library).items():
        if key.startswith(start):
            _, _, part, one = key.split("|")
            wanted[part][one] = value
    # Through nothing but steps, TF 1.15 does not differentiate a function.
    if not any(np.any(v) for v in wanted["grad"].values()):
        wanted["grad"] = {}
    return wanted


def _call(library: str, name: str, mode: str) -> Any:
    wanted = _wanted(library, name, mode)
    key = re.sub(r"\W", "_", name)
    return layers_replay.Call(key, mode, wanted["in"], bool(wanted["grad"]))


def _differences(library: str, name: str, mode: str, found: Any) -> str:
    wanted = _wanted(library, name, mode)
    fact = facts(library)["{}|{}".format(name, mode)]
    # What is zero but for rounding is other noise in each runtime.
    largest = [np.max(np.abs(v), initial=0) for v in wanted["grad"].values()]
    noise = 1e-6 * float(max(largest, default=0.0))
    half = 50 if "float16" in name else 1
    for part, relative in (("out", 1e-5), ("grad", 1e-4), ("after", 1e-5)):
        if sorted(found[part]) != sorted(wanted[part]):
            missing = set(wanted[part]) - set(found[part])
            if missing or any(np.any(v) for v in found[part].values()):
                return "{}: {} instead of {}".format(
                    part, sorted(found[part]), sorted(wanted[part])
                )
        for one, value in wanted[part].items():
            said = _difference(
                found[part][one],
                value,
                relative * half,
                noise if part == "grad" else 0.0,
                fact == "random",
            )
            if said:
                return "{} {}: {}".format(part, one, said)
    return RANDOM if fact == "random" else SAME


def _difference(
    found: Any, wanted: Any, relative: float, noise: float, random: bool
) -> str:
    found = np.asarray(found)
    if found.shape != wanted.shape:
        return "shape {}, not {}".format(found.shape, wanted.shape)
    if wanted.dtype.kind == "S":
        return "" if np.array_equal(found.astype("S"), wanted) else "other strings"
    if found.dtype != wanted.dtype:
        return "dtype {}, not {}".format(found.dtype, wanted.dtype)
    if random:
        return "" if np.all(np.isfinite(found)) else "not finite"
    scale = float(np.max(np.abs(wanted))) if wanted.size else 0.0
    largest = np.max(np.abs(found.astype(np.float64) - wanted), initial=0.0)
    if largest > relative * max(scale, 1e-3) + noise:
        return "differs by {:.1e} of {:.1e}".format(largest, scale)
    return ""
