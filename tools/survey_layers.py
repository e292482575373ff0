"""Which layers of TensorFlow 2.21 run in TensorFlow 1.15: ``make survey-layers``.

Saves each layer class of tf_keras and of Keras 3 in a model of its own under
TensorFlow 2.21, loads it in TensorFlow 1.15.5 through hub_compat, compares outputs
and asks for gradients, and writes the table to ``docs/lowering.md``::

    python tools/survey_layers.py                  # all of it
    python tools/survey_layers.py --write DIR      # under TensorFlow 2.21
    python tools/survey_layers.py --run DIR        # under TensorFlow 1.15
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "lowering.md"
NEW, OLD = "tf221", "tf115"
# Not layers to be used by themselves.
ABSTRACT = {
    "AbstractRNNCell", "InputLayer", "InputSpec", "Layer", "RNN", "StackedRNNCells",
    "TFSMLayer", "Wrapper", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "GRUCell",
    "LSTMCell", "SimpleRNNCell", "Pipeline", "MapGraph", "DenseFeatures",
    "SeparableConvolution1D",
}  # fmt: skip
Given = Tuple[List[Any], Dict[str, Any]]


def arguments(np: Any, name: str, keras: Any) -> Given:
    """A layer's inputs, and the arguments of its constructor."""
    layers = keras.layers

    def numbers(*shape: int) -> Any:
        count = int(np.prod(shape))
        values = np.sin(np.arange(1, count + 1) * 1.7) * 0.9
        return values.astype("float32").reshape(shape)

    image, line, cube = numbers(2, 8, 8, 3), numbers(2, 8, 3), numbers(2, 6, 6, 6, 2)
    pixels = np.abs(image) * 255
    words = np.array([["a b"], ["c z a"]])
    options: Dict[str, Any] = {}
    by_name: Dict[str, Given] = {
        "Activation": ([line], dict(activation="gelu")),
        "AdditiveAttention": ([line, line], {}),
        "Attention": ([line, line], {}),
        "BatchNormalization": ([image], {}),
        "Bidirectional": ([line], dict(layer=layers.LSTM(2))),
        "CategoryEncoding": (
            [np.array([[1, 2], [0, 1]])],
            dict(num_tokens=4, output_mode="multi_hot"),
        ),
        "CenterCrop": ([pixels], dict(height=4, width=4)),
        "ConvLSTM1D": ([numbers(2, 3, 8, 3)], dict(filters=2, kernel_size=3)),
        "ConvLSTM2D": ([numbers(2, 3, 8, 8, 3)], dict(filters=2, kernel_size=3)),
        "ConvLSTM3D": ([numbers(1, 2, 6, 6, 6, 2)], dict(filters=2, kernel_size=3)),
        "Dense": ([line], dict(units=2, activation="gelu")),
        "Discretization": ([line], dict(bin_boundaries=[-0.5, 0.0, 0.5])),
        "Dot": ([line, line], dict(axes=2)),
        "EinsumDense": ([line], dict(equation="...ab,bc->...ac", output_shape=(8, 4))),
        "Embedding": ([np.array([[1, 2], [0, 3]])], dict(input_dim=5, output_dim=3)),
        "Flatten": ([line], {}),
        "GroupNormalization": ([numbers(2, 4, 4, 6)], dict(groups=2)),
        "GroupedQueryAttention": (
            [line, line],
            dict(head_dim=4, num_query_heads=4, num_key_value_heads=2),
        ),
        "HashedCrossing": ([np.array([["a"]]), np.array([["b"]])], dict(num_bins=5)),
        "Hashing": ([words], dict(num_bins=5)),
        "IntegerLookup": ([np.array([[1, 7], [9, 1]])], dict(vocabulary=[1, 9])),
        "Lambda": ([line], dict(function=lambda x: x * 2)),
        "Masking": ([line], {}),
        "MelSpectrogram": ([numbers(1, 4000)], {}),
        "MultiHeadAttention": ([line, line], dict(num_heads=2, key_dim=4)),
        "Normalization": ([line], dict(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])),
        "Permute": ([line], dict(dims=(2, 1))),
        "Rescaling": ([pixels], dict(scale=1 / 127.5, offset=-1.0)),
        "RepeatVector": ([numbers(2, 3)], dict(n=2)),
        "Reshape": ([line], dict(target_shape=(4, 6))),
        "Resizing": ([pixels], dict(height=5, width=5)),
        "RMSNormalization": ([line], {}),
        "STFTSpectrogram": ([numbers(1, 4000)], {}),
        "SpectralNormalization": ([line], dict(layer=layers.Dense(2))),
        "StringLookup": ([words], dict(vocabulary=["a b", "c"])),
        "TextVectorization": (
            [words],
            dict(vocabulary=["a", "b", "c"], output_mode="int"),
        ),
        "TimeDistributed": ([line], dict(layer=layers.Dense(2))),
        "UnitNormalization": ([line], {}),
        "ReversibleEmbedding": (
            [np.array([[1, 2], [0, 3]])],
            dict(input_dim=5, output_dim=3),
        ),
        "SimpleRNN": ([line], dict(units=2)),
        "LSTM": ([line], dict(units=2)),
        "GRU": ([line], dict(units=2)),
        "CuDNNLSTM": ([line], dict(units=2)),
        "CuDNNGRU": ([line], dict(units=2)),
        "LocallyConnected1D": ([line], dict(filters=2, kernel_size=3)),
        "LocallyConnected2D": ([image], dict(filters=2, kernel_size=3)),
        "ThresholdedReLU": ([line], {}),
        "MaxNumBoundingBoxes": ([line], dict(max_number=3)),
        "Solarization": ([pixels], {}),
    }
    if name in by_name:
        return by_name[name]
    if name in ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply"):
        return [line, line], {}
    if name == "Subtract":
        return [line, line], {}
    if re.search("Conv.*1D|Convolution1D", name):
        return [line], _filters(name)
    if re.search("Conv.*2D|Convolution2D", name):
        return [image], _filters(name)
    if re.search("Conv.*3D|Convolution3D", name):
        return [cube], _filters(name)
    for digit, value in (("1D", line), ("2D", image), ("3D", cube)):
        if name.endswith(digit):
            options = {}
            if "Dropout" in name:
                options = dict(rate=0.5)
            elif name.startswith("Adaptive"):
                options = dict(output_size=2)
            elif name.startswith(("Average", "Avg", "Max")):
                options = dict(pool_size=2)
            return [value], options
    if name.startswith(("Random", "Aug", "Auto", "Equal", "Mix", "Cut", "Rand")):
        options = {
            "RandomBrightness": dict(factor=0.2),
            "RandomColorJitter": dict(
                value_range=(0, 255), brightness_factor=0.2, contrast_factor=0.2,
                saturation_factor=0.2, hue_factor=0.2,
            ),
            "RandomContrast": dict(factor=0.2),
            "RandomCrop": dict(height=4, width=4),
            "RandomErasing": {},
            "RandomHeight": dict(factor=0.2),
            "RandomHue": dict(factor=0.2, value_range=(0, 255)),
            "RandomRotation": dict(factor=0.2),
            "RandomSaturation": dict(factor=0.2),
            "RandomSharpness": dict(factor=0.2, value_range=(0, 255)),
            "RandomShear": dict(x_factor=0.2),
            "RandomTranslation": dict(height_factor=0.2, width_factor=0.2),
            "RandomWidth": dict(factor=0.2),
            "RandomZoom": dict(height_factor=0.2),
            "RandomColorDegeneration": dict(factor=0.2),
            "RandomPosterization": dict(factor=4),
        }.get(name, {})  # fmt: skip
        return [pixels], options
    if "Dropout" in name:
        return [line], dict(rate=0.5)
    if name == "GaussianNoise":
        return [line], dict(stddev=0.5)
    return [line], {}


def _filters(name: str) -> Dict[str, Any]:
    if name.startswith("Depthwise"):
        return dict(kernel_size=3)
    return dict(filters=2, kernel_size=3)


def write(folder: Path) -> None:
    """Saves the models and what they give, under TensorFlow 2.21."""
    import keras
    import numpy as np
    import tensorflow as tf
    import tf_keras

    facts: Dict[str, Any] = {}
    for label, library in (("tf_keras", tf_keras), ("keras3", keras)):
        names = [
            name
            for name, value in sorted(vars(library.layers).items())
            if inspect.isclass(value) and issubclass(value, library.layers.Layer)
        ]
        seen: Dict[Any, str] = {}
        for name in names:
            kind = getattr(library.layers, name)
            if name in ABSTRACT or kind in seen:
                continue
            seen[kind] = name
            for training in (False, True):
                key = "{}/{}/{}".format(label, name, "train" if training else "infer")
                try:
                    facts[key] = _write_one(
                        tf, np, label, library, kind, training, folder / key
                    )
                except Exception as error:  # what the layer itself refuses
                    facts[key] = dict(error=_first_line(error))
    (folder / "facts.json").write_text(json.dumps(facts, indent=1))


def _write_one(
    tf: Any, np: Any, label: str, library: Any, kind: Any, training: bool, path: Path
) -> Dict[str, Any]:
    inputs, options = arguments(np, kind.__name__, library)
    library.utils.set_random_seed(7)
    layer = kind(**options)
    tensors = [tf.constant(value) for value in inputs]
    given = tensors if len(tensors) > 1 else tensors[0]
    as_arguments = kind.__name__ in (
        "MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention",
    )  # fmt: skip
    takes_training = "training" in inspect.signature(layer.call).parameters

    def call(*values: Any) -> Any:
        more = dict(training=training) if takes_training else {}
        if as_arguments:
            return layer(*values, **more)
        return layer(list(values) if len(values) > 1 else values[0], **more)

    if training and not takes_training:
        return dict(error="no training mode")
    call(*tensors)
    del given
    specs = [
        tf.TensorSpec([None] + t.shape.as_list()[1:], t.dtype, name="x{}".format(i))
        for i, t in enumerate(tensors)
    ]
    if label == "keras3":
        archive = library.export.ExportArchive()
        archive.track(layer)
        archive.add_endpoint("serve", call, specs)
        archive.write_out(str(path), verbose=False)
    else:
        module = tf.Module()
        module.layer = layer
        module.serve = tf.function(call, input_signature=specs)
        tf.saved_model.save(module, str(path), signatures={"serve": module.serve})
    loaded = tf.saved_model.load(str(path))
    function = loaded.signatures["serve"]
    with tf.GradientTape() as tape:
        found = function(**{"x{}".format(i): t for i, t in enumerate(tensors)})
        values = [found[k] for k in sorted(found)]
        loss = [tf.reduce_sum(v * v) for v in values if v.dtype.is_floating]
    try:
        grads = [
            g for g in tape.gradient(loss, tape.watched_variables()) if g is not None
        ]
    except ValueError:  # a variable that is read in a loop: TensorFlow's own fault
        grads = []
    arrays = {"in{}".format(i): v for i, v in enumerate(inputs)}
    arrays.update(("out{}".format(i), v.numpy()) for i, v in enumerate(values))
    arrays = {
        k: v if v.dtype.kind not in "O" else v.astype("S") for k, v in arrays.items()
    }
    np.savez(str(path / "values.npz"), **arrays)
    return dict(gradients=len(grads))


def run(folder: Path) -> None:
    """Loads and runs the models, under TensorFlow 1.15."""
    import numpy as np
    import tensorflow as tf

    import hub_compat as hub

    tf.compat.v1.enable_v2_behavior()
    facts = json.loads((folder / "facts.json").read_text())
    for key, fact in facts.items():
        if "error" in fact:
            continue
        try:
            fact["result"] = _run_one(tf, np, hub, folder / key, fact)
        except Exception as error:
            fact["result"] = "FAILS: " + _first_line(error)
    (folder / "facts.json").write_text(json.dumps(facts, indent=1))


def _run_one(tf: Any, np: Any, hub: Any, path: Path, fact: Dict[str, Any]) -> str:
    with np.load(str(path / "values.npz")) as arrays:
        values = dict(arrays)
    loaded = hub.load(path)
    function = loaded.signatures["serve"]
    given = {}
    for key, value in values.items():
        if key.startswith("in"):
            if value.dtype.kind in "US":
                value = tf.constant(value.astype("S").tolist())
            given["x" + key[2:]] = tf.constant(value)
    with tf.GradientTape() as tape:
        found = function(**given)
        outputs = [found[k] for k in sorted(found)]
        loss = [tf.reduce_sum(v * v) for v in outputs if v.dtype.is_floating]
    differs = ""
    for i, output in enumerate(outputs):
        wanted = values["out{}".format(i)]
        one = output.numpy()
        if wanted.dtype.kind in "SU":
            if not np.array_equal(np.asarray(one).astype("S"), wanted):
                differs = "other values"
        elif one.shape != wanted.shape:
            return "FAILS: shape {} for {}".format(one.shape, wanted.shape)
        elif not np.allclose(one, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max()):
            differs = "other values"
    try:
        variables = tape.watched_variables()
        grads = [g for g in tape.gradient(loss, variables) if g is not None]
    except (LookupError, ValueError) as error:
        if not fact["gradients"]:
            return differs or "ok"
        return "no gradient: " + _first_line(error)
    if len(grads) < fact["gradients"]:
        return "gradients {} of {}".format(len(grads), fact["gradients"])
    return differs or "ok"


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:300]


def in_environment(environment: str, *arguments: str) -> None:
    """Runs this file in one of the project's environments."""
    command = [sys.executable, str(ROOT / "tools" / "environments.py"), "run"]
    environ = dict(
        os.environ,
        PYTHONPATH=str(ROOT),
        TF_CPP_MIN_LOG_LEVEL="3",
        TF_ENABLE_ONEDNN_OPTS="0",
        HUB_COMPAT_CACHE_DIR=str(Path(arguments[-1]) / "cache"),
    )
    subprocess.check_call(
        command + [environment, str(Path(__file__).resolve())] + list(arguments),
        env=environ,
        stderr=subprocess.DEVNULL,
    )


def page(facts: Dict[str, Any]) -> str:
    """The Markdown page."""
    rows: Dict[Tuple[str, str], Dict[str, str]] = {}
    for key, fact in facts.items():
        library, name, mode = key.split("/")
        said = fact.get("result") or "-"
        if fact.get("error") and fact["error"] != "no training mode":
            said = "not saved by TensorFlow 2.21: " + fact["error"][:80]
        rows.setdefault((library, name), {})[mode] = said.replace("|", "/")
    counts = {
        mode: (
            sum(row.get(mode, "-").split(" (")[0] == "ok" for row in rows.values()),
            sum(
                row.get(mode, "-") != "-" and not row[mode].startswith("not saved")
                for row in rows.values()
            ),
        )
        for mode in ("infer", "train")
    }
    lines = [
        "# Layers of TensorFlow 2.21 in TensorFlow 1.15",
        "",
        "Written by `make survey-layers`: each layer class of tf_keras and Keras 3, "
        "saved alone under TensorFlow 2.21, loaded in 1.15.5. `ok`: equal outputs, and "
        "as many "
        "gradients. `other values` in training are random numbers from a generator.",
        "",
        "{} of {} work in inference, {} of {} in training.".format(
            *(counts["infer"] + counts["train"])
        ),
        "",
        "| library | layer | inference | training |",
        "| --- | --- | --- | --- |",
    ]
    for (library, name), row in sorted(rows.items()):
        lines.append(
            "| {} | {} | {} | {} |".format(
                library, name, row.get("infer", "-"), row.get("train", "-")
            )
        )
    return "\n".join(lines) + "\n"


def main(argv: List[str]) -> None:
    """The command line."""
    modes: Dict[str, Callable[[Path], None]] = {"--write": write, "--run": run}
    if argv and argv[0] in modes:
        modes[argv[0]](Path(argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        in_environment(NEW, "--write", folder)
        in_environment(OLD, "--run", folder)
        facts = json.loads((Path(folder) / "facts.json").read_text())
    PAGE.write_text(page(facts))
    print(PAGE.read_text().splitlines()[4])


if __name__ == "__main__":
    main(sys.argv[1:])
