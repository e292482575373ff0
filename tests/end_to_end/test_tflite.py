"""TensorFlow Lite's converter takes converted models as it takes any SavedModel."""

from __future__ import annotations

from pathlib import Path

import expected
import numpy as np
import pytest
import replay

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.tf2]


@pytest.mark.parametrize("name", ["image_bn", "tf1_moving_averages", "tf1_two_devices"])
def test_tflite(name: str, tmp_path: Path) -> None:
    """The model in TFLite gives what the original gave under TF 1.15."""
    import tensorflow as tf

    recorded = expected.load_expected(name)
    hub.convert(recorded.path, tmp_path / "out")
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "out"))
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    run = interpreter.get_signature_runner("serving_default")
    (case, *_) = [
        case
        for case in recorded.cases
        if case.tags == recorded.root
        and case.signature == recorded.callable(recorded.root)
    ]
    outputs = run(**{key: np.asarray(value) for key, value in case.inputs.items()})
    assert sorted(outputs) == sorted(case.outputs)
    for key, wanted in case.outputs.items():
        replay.assert_equal(outputs[key], wanted, key)
