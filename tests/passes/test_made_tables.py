"""Exports of graphs that other models were loaded into: functions make their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import expected
import numpy as np
import pytest
import runtimes

import hub_compat as hub

pytestmark = pytest.mark.tensorflow

FOLDER = expected.HERE / "tf221_lookups"


def export_again(source: Path, path: Path) -> Path:
    """What TFX does: loads a model into a graph, and exports that."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        loaded = tf.compat.v2.saved_model.load(str(source))
        inputs = {
            "words": v1.placeholder(tf.string, [None]),
            "numbers": v1.placeholder(tf.int64, [None]),
        }
        outputs = loaded.signatures["serving_default"](**inputs)
        weight = v1.get_variable("weight", initializer=[2.0])
        outputs["weighed"] = v1.cast(outputs["table_0"], tf.float32) * weight
        initializers = [v1.global_variables_initializer(), v1.tables_initializer()]
        session.run(initializers)
        signature = v1.saved_model.predict_signature_def(inputs, outputs)
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            main_op=v1.tables_initializer(),
        )
        builder.save()
    return path


@pytest.fixture(scope="module")
def exports(tmp_path_factory: Any) -> Dict[str, Path]:
    """A model of TensorFlow 2, loaded and exported, and that once more."""
    folder = Path(tmp_path_factory.mktemp("exports"))
    hub.convert(FOLDER / "module", folder / "lowered", target="tf1.15")
    once = export_again(folder / "lowered", folder / "once")
    return {"once": once, "twice": export_again(once, folder / "twice")}


@pytest.mark.parametrize("name", ["once", "twice"])
def test_tables_and_variables_of_functions(name: str, exports: Dict[str, Path]) -> None:
    """Each table is filled, and each variable has its value, in whatever loads it."""
    import tensorflow as tf

    known = json.loads((FOLDER / "recorded.json").read_text(encoding="utf-8"))
    with runtimes.Runtime(lambda: hub.load(exports[name])) as run:
        found = run.run(
            run.loaded.signatures["serving_default"](
                words=tf.constant(known["words"]),
                numbers=tf.constant(known["numbers"], tf.int64),
            )
        )
        names = {variable.name.split(":")[0] for variable in run.loaded.variables}
    for key, value in known["found"].items():
        if value and isinstance(value[0], str):
            value = [item.encode() for item in value]
        np.testing.assert_array_equal(found[key], np.array(value), key)
    weighed = np.array(known["found"]["table_0"], np.float32) * 2.0
    np.testing.assert_array_equal(found["weighed"], weighed)
    assert "weight" in names
    assert len(names) == (1 if name == "once" else 2)
    report = hub.convert(exports[name], exports[name].parent / (name + "_out"))
    assert not any("skipped" in warning for warning in report.warnings)
