"""Converters to other formats take converted models as they take any SavedModel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import expected
import numpy as np
import pytest
import replay

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.exporters]

MODULES = ["ref_variables", "tf1_moving_averages", "tf1_two_devices", "variants3"]


def first_call(name: str) -> Any:
    """The first recorded call of what the module calls."""
    recorded = expected.load_expected(name)
    signature = recorded.callable(recorded.root)
    (case, *_) = [
        case
        for case in recorded.cases
        if case.tags == recorded.root and case.signature == signature
    ]
    return case


# tf2onnx cannot tell an input from an output of the same name, in any SavedModel, so
# none of these has such.
@pytest.mark.parametrize("name", MODULES)
def test_onnx(name: str, tmp_path: Path) -> None:
    """The model in ONNX Runtime gives what the original gave under TF 1.15."""
    import onnxruntime

    hub.convert(expected.load_expected(name).path, tmp_path / "out")
    file = tmp_path / "model.onnx"
    command = [sys.executable, "-m", "tf2onnx.convert", "--opset", "15"]
    command += ["--saved-model", str(tmp_path / "out"), "--output", str(file)]
    command += ["--tag", "serve", "--signature_def", "serving_default"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    case = first_call(name)
    session = onnxruntime.InferenceSession(str(file))
    feeds = {key: np.asarray(value) for key, value in case.inputs.items()}
    outputs = [output.name for output in session.get_outputs()]
    assert sorted(outputs) == sorted(case.outputs)
    for key, value in zip(outputs, session.run(None, feeds)):
        replay.assert_equal(value, case.outputs[key], key)


@pytest.mark.parametrize("name", ["image_bn", "tf1_moving_averages", "tf1_two_devices"])
def test_tensorflow_js(name: str, tmp_path: Path) -> None:
    """TensorFlow.js's converter makes a graph model with the signature's tensors."""
    hub.convert(expected.load_expected(name).path, tmp_path / "out")
    command = [sys.executable, "-m", "tensorflowjs.converters.converter"]
    command += ["--input_format=tf_saved_model", "--output_format=tfjs_graph_model"]
    command += ["--signature_name=serving_default"]
    command += [str(tmp_path / "out"), str(tmp_path / "js")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    model = json.loads((tmp_path / "js" / "model.json").read_text())
    case = first_call(name)
    assert sorted(model["signature"]["inputs"]) == sorted(case.inputs)
    assert sorted(model["signature"]["outputs"]) == sorted(case.outputs)
    weights = [w for group in model["weightsManifest"] for w in group["weights"]]
    assert any(weight["dtype"] == "float32" for weight in weights)
