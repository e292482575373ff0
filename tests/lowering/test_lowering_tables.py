"""Tables of TensorFlow 2.21 that are filled from a file, in any TensorFlow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

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


def _found(path: Path) -> Any:
    import tensorflow as tf

    known = json.loads((FOLDER / "recorded.json").read_text(encoding="utf-8"))
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        return run.run(
            run.loaded.signatures["serving_default"](
                words=tf.constant(known["words"]),
                numbers=tf.constant([0, 1, 2, 3, 4], tf.int64),
            )
        )


def _with(path: Path, name: str, content: bytes) -> Path:
    """The recorded module with another vocabulary, written for TF 1.15."""
    shutil.copytree(str(FOLDER / "module"), str(path / "module"))
    (path / "module" / "assets" / name).write_bytes(content)
    hub.convert(path / "module", path / "out", target="tf1.15")
    return path / "out"


def test_ends_of_lines(tmp_path: Path) -> None:
    """TensorFlow's reader drops one carriage return before the end, and no other."""
    out = _with(tmp_path, "ended.txt", b"a\rx\r\nbb\r\r\n\rc\r")
    found = _found(out)["layer_2"]
    assert list(found) == [b"[UNK]", b"a\rx", b"bb\r", b"\rc", b"[UNK]"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ended.txt", b""),
        ("ended.txt", b"\r"),
        ("ended.txt", b"x\n\ny\n"),
        ("ended.txt", b"x\ny\n\n"),
        ("words.txt", b"a\nb\na\n"),
        ("columns.txt", b"k1|1.5|7\nk2|2.5\n"),
        ("columns.txt", b"k1\nk2\n"),
        ("columns.txt", b"k1|1.5|7\n"),
        ("numbers.txt", b"10\ntwenty\n"),
    ],
)
def test_a_vocabulary_that_tensorflow_refuses(
    name: str, content: bytes, tmp_path: Path
) -> None:
    """No lines, empty or equal ones, too few lines or columns, or no number."""
    import tensorflow as tf

    out = _with(tmp_path, name, content)
    with pytest.raises((hub.errors.HubCompatError, tf.errors.OpError)):
        _found(out)
