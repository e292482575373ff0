"""Compares a model of testdata/tf221, in this runtime, with what it gave in TF 2.21."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import replay
import tf221_replay

import hub_compat as hub


def recorded(folder: Path) -> Dict[str, Dict[str, Dict[str, Any]]]:
    """What was recorded, by call, part and name."""
    calls: Dict[str, Dict[str, Dict[str, Any]]] = {}
    with np.load(str(folder / "expected.npz")) as arrays:
        for key in arrays.files:
            call, part, entry = key.split("|")
            parts = calls.setdefault(
                call, {p: {} for p in ("in", "out", "grad", "after")}
            )
            parts[part][entry] = arrays[key]
    return calls


def assert_all_close(found: Any, wanted: Any, relative: float, what: str) -> None:
    """Compares arrays by name; all that are wanted must be there."""
    assert sorted(found) == sorted(wanted), what
    for name, value in wanted.items():
        label = "{} {}".format(what, name)
        if value.dtype.kind in "US":
            assert found[name].tolist() == value.tolist(), label
            continue
        scale = max(float(np.max(np.abs(value))) if value.size else 0.0, 1e-3)
        np.testing.assert_allclose(
            found[name], value, rtol=0, atol=relative * scale, err_msg=label
        )


def check(
    folder: Path,
    call: str,
    relative: float = 1e-5,
    state_only: bool = False,
    gradients_by_norm: bool = False,
) -> None:
    """Loads a model, makes a recorded call, and compares all that came of it.

    Args:
      folder: the model's, with ``module`` and ``expected.npz``.
      call: as ``tf221_models.py`` has it.
      relative: how far apart outputs and variables may be, in parts of the largest.
      state_only: compare only the variables after the call, and which gradients
        there are.
      gradients_by_norm: allow each a difference whose norm is 5e-3 of its own, rather
        than elements that differ by 1e-4 of the largest.
    """
    wanted = recorded(folder)[call]
    with replay.Runtime(lambda: hub.load(folder / "module")) as runtime:
        found = tf221_replay.run(
            runtime.loaded,
            call,
            tf221_replay.unflatten(wanted["in"]),
            None if runtime.eager else runtime.run,
        )
    assert_all_close(found["after"], wanted["after"], relative, "variable")
    if state_only:
        assert sorted(found["grad"]) == sorted(wanted["grad"])
        return
    assert_all_close(found["out"], wanted["out"], relative, "output")
    if not gradients_by_norm:
        assert_all_close(found["grad"], wanted["grad"], 1e-4, "gradient")
        return
    assert sorted(found["grad"]) == sorted(wanted["grad"])
    for name, value in wanted["grad"].items():
        distance = np.linalg.norm((found["grad"][name] - value).ravel())
        assert distance <= 5e-3 * np.linalg.norm(value.ravel()) + 1e-6, name
