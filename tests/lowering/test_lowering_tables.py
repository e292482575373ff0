"""Tables of TensorFlow 2.21 that are filled from a file, in any TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path

import expected
import numpy as np
import pytest
import runtimes

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

FOLDER = expected.HERE / "tf221_lookups"


@pytest.mark.parametrize("lowered", [False, True])
def test_lines_that_count_from_more_than_0(lowered: bool, tmp_path: Path) -> None:
    """Lines, numbers and columns, with an end of the last line and without one."""
    import tensorflow as tf

    known = json.loads((FOLDER / "recorded.json").read_text(encoding="utf-8"))
    path = FOLDER / "module"
    if lowered:
        path = tmp_path / "out"
        report = hub.convert(FOLDER / "module", path, target="tf1.15")
        assert any("offset is written out" in line for line in report.lowered)
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        found = run.run(
            run.loaded.signatures["serving_default"](
                words=tf.constant(known["words"]),
                numbers=tf.constant(known["numbers"], tf.int64),
            )
        )
    assert sorted(found) == sorted(known["found"])
    for name, value in known["found"].items():
        if value and isinstance(value[0], str):
            value = [item.encode() for item in value]
        np.testing.assert_array_equal(found[name], np.array(value), name)
