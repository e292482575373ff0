"""Compares a model of testdata/tf221, in this runtime, with what it gave in TF 2.21."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Sequence

import numpy as np
import runtimes
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


def assert_gradients_close(found: Any, wanted: Any) -> None:
    """Compares gradients by variable; all that are wanted must be there.

    Each within 1e-4 of its own largest element. One that is below 1e-5 of the largest
    of all is nothing but rounding, such as that of a bias before a batch norm; it must
    be below that here, too.
    """
    assert sorted(found) == sorted(wanted)
    largest = {name: float(np.max(np.abs(value))) for name, value in wanted.items()}
    nothing = 1e-5 * max(largest.values(), default=0.0)
    for name, value in wanted.items():
        there = largest[name] > nothing
        np.testing.assert_allclose(
            found[name],
            value if there else 0 * value,
            rtol=0,
            atol=1e-4 * largest[name] if there else nothing,
            err_msg="gradient " + name,
        )


def check(folder: Path, calls: Sequence[str], relative: float = 1e-5) -> None:
    """Loads a model, makes recorded calls, and compares all that came of them.

    Args:
      folder: the model's, with ``module`` and ``expected.npz``.
      calls: as ``tf221_models.py`` has them. What changes variables comes last.
      relative: how far apart outputs and variables may be, in parts of the largest.
    """
    wanted = recorded(folder)
    load = runtimes.shared(folder, lambda tags: hub.load(folder / "module"))
    with runtimes.Runtime(lambda: load(None)) as runtime:
        for listed in ("variables", "trainable_variables"):
            there = getattr(runtime.loaded, listed, ())
            assert not any(variable is None for variable in there)
        for call in calls:
            found = tf221_replay.run(
                runtime.loaded,
                call,
                tf221_replay.unflatten(wanted[call]["in"]),
                None if runtime.eager else runtime.run,
                not all(name.isdigit() for name in wanted[call]["after"]),
            )
            assert_all_close(found["after"], wanted[call]["after"], relative, call)
            assert_all_close(found["out"], wanted[call]["out"], relative, call)
            assert_gradients_close(found["grad"], wanted[call]["grad"])
