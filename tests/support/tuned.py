"""What a saved module gives in a process with TensorFlow alone.

A program of its own, for modules that another process has trained::

    python tuned.py FOLDER NAME...

FOLDER/NAME is a module, FOLDER/NAME.npz its ``inputs``, and the ``outputs`` and the
values of its ``variables``, by name, that it had when it was saved.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, List

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import replay  # noqa: E402
import runtimes  # noqa: E402
import tensorflow as tf  # noqa: E402


def check(folder: Path, name: str) -> None:
    """Loads a module and compares all that is known of it."""
    with np.load(str(folder / (name + ".npz"))) as found:
        known = dict(found)
    inputs, outputs = known.pop("inputs"), known.pop("outputs")
    with runtimes.Runtime(lambda: replay.plain_load(str(folder / name))(())) as runtime:
        call: Any = runtime.loaded
        given = runtime.run(call(tf.constant(inputs)))
        np.testing.assert_allclose(given, outputs, rtol=1e-5, atol=1e-6)
        variables = list(runtime.loaded.variables)
        values = runtime.read(variables)
        names = [variable.name.split(":")[0] for variable in variables]
        assert sorted(names) == sorted(known), names
        for variable, value in zip(names, values):
            np.testing.assert_array_equal(value, known[variable], err_msg=variable)


def main(folder: str, names: List[str]) -> None:
    """Checks each."""
    if os.environ.get("HUB_COMPAT_TEST_MODE") == "eager":
        tf.compat.v1.enable_v2_behavior()
    for name in names:
        check(Path(folder), name)
    assert not any(m.split(".")[0] == "hub_compat" for m in sys.modules)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
