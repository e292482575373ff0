"""A tour of hub_compat on the modules in testdata/: ``make demo``.

For every module: what it is, how long its conversion and loading take, and
whether the loaded module gives what TensorFlow 1.15.5 gave when the module was
made. Then one of them is fine-tuned, which TensorFlow Hub refuses to do.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

# Before TensorFlow is loaded: neither its announcements, nor the user's cache.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "testdata" / "scripts"), str(ROOT / "tests" / "support")]

import expected  # noqa: E402
import numpy as np  # noqa: E402
import replay  # noqa: E402
import tensorflow as tf  # noqa: E402

import hub_compat as hub  # noqa: E402

TOLERANCE = 1e-5
STEPS = 20


class Row(NamedTuple):
    """What the table says of a module.

    Attributes:
      name: its directory in testdata/.
      variants, variables: how many.
      convert_ms, load_ms: milliseconds.
      calls: how many recorded calls were repeated.
      difference: the largest difference from what was recorded, relative to the
        largest value; infinity where it must be equal and is not.
      why: what the module is there to show.
    """

    name: str
    variants: int
    variables: int
    convert_ms: float
    load_ms: float
    calls: int
    difference: float
    why: str


def difference(got: Any, want: Any) -> float:
    """How far a result is from the recorded one; infinity for "not equal"."""
    if isinstance(want, expected.AssetFile):
        path = Path(np.asarray(got).item().decode())
        return 0.0 if path.read_bytes() == want.contents else float("inf")
    if isinstance(want, expected.Bits):
        equal = got.numpy().tobytes() == want.array.tobytes()
        return 0.0 if equal else float("inf")
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return float("inf")
    if not np.issubdtype(want.dtype, np.inexact):
        return 0.0 if np.array_equal(got, want) else float("inf")
    scale = float(np.max(np.abs(want), initial=0)) or 1.0
    return float(np.max(np.abs(got - want), initial=0)) / scale


def examine(name: str, scratch: Path) -> Row:
    """Detects, converts, loads and calls one module."""
    recorded = expected.load_expected(name)
    detection = hub.detect(recorded.path)
    report = hub.convert(recorded.path, scratch / name)
    calls, worst, seconds = 0, 0.0, 0.0
    for tags in recorded.variants:
        start = time.perf_counter()
        model = hub.load(recorded.path, tags=set(tags))
        seconds += time.perf_counter() - start
        for case in recorded.cases:
            if case.tags != tags or not replay.complete(recorded, case):
                continue
            calls += 1
            inputs: Dict[str, Any] = {}
            for key, value in case.inputs.items():
                inputs.update(replay.flat(key, value))
            outputs = model.signatures[case.signature](**inputs)
            for key, value in case.outputs.items() if case.deterministic else ():
                parts = tf.nest.flatten(outputs[key], expand_composites=True)
                # Named in the order in which tf.nest has them.
                for got, want in zip(parts, replay.flat_expected(key, value).values()):
                    worst = max(worst, difference(got, want))
    return Row(
        name,
        len(detection.variants),
        report.variables,
        report.seconds * 1e3,
        seconds * 1e3 / len(recorded.variants),
        calls,
        worst,
        recorded.why,
    )


def print_table(rows: List[Row]) -> None:
    """Prints the rows for a person."""
    line = "{:<22}{:>9}{:>10}{:>12}{:>9}{:>7}  {}"
    print(line.format("module", "variants", "variables", "convert ms", "load ms",
                      "calls", "outputs against TF 1.15"))  # fmt: skip
    for row in rows:
        if row.difference > TOLERANCE:
            verdict = "DIFFERENT"
        elif row.difference == 0:
            verdict = "equal"
        else:
            verdict = "within {:.0e}".format(row.difference)
        print(line.format(row.name, row.variants, row.variables,
                          round(row.convert_ms), round(row.load_ms),
                          row.calls, verdict))  # fmt: skip


def trainable_example(name: str) -> Optional[Tuple[Any, Any]]:
    """The model and a dense input, if the module can be fine-tuned on it."""
    recorded = expected.load_expected(name)
    for case in recorded.cases:
        if case.signature == "default" and case.gradients and len(case.inputs) == 1:
            (value,) = case.inputs.values()
            model = hub.load(recorded.path)
            if isinstance(value, np.ndarray) and model.trainable_variables:
                return model, tf.constant(value)
    return None


def fine_tune(name: str, model: Any, inputs: Any) -> bool:
    """Trains a module towards arbitrary targets; returns whether the loss fell."""
    shape = model(inputs).shape
    targets = tf.constant(
        np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32)
    )
    # Keras 3's optimizers are for Keras's own variables; Adam takes five lines.
    slots = [(tf.zeros(v.shape), tf.zeros(v.shape)) for v in model.trainable_variables]
    before = [v.numpy() for v in model.variables]
    losses = []
    for step in range(1, STEPS + 1):
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = tf.reduce_mean(tf.square(outputs - targets))
            loss += sum(term() for term in model.regularization_losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        losses.append(float(loss))
        for index, (variable, gradient) in enumerate(
            zip(model.trainable_variables, gradients)
        ):
            if gradient is None:
                continue
            gradient = tf.convert_to_tensor(gradient)
            mean, square = slots[index]
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.99 * square + 0.01 * tf.square(gradient)
            slots[index] = mean, square
            rate = 0.02 * (1 - 0.99**step) ** 0.5 / (1 - 0.9**step)
            variable.assign_sub(rate * mean / (tf.sqrt(square) + 1e-7))
    changed = sum(
        not np.array_equal(old, v.numpy()) for old, v in zip(before, model.variables)
    )
    terms = len(model.regularization_losses)
    print('Fine-tuning "{}" with a gradient tape,'.format(name), end=" ")
    print("{} regularization losses included:".format(terms))
    shown = [losses[i] for i in range(0, STEPS, STEPS // 5)] + losses[-1:]
    print("  loss  " + "  ".join("{:.4f}".format(loss) for loss in shown))
    print(
        "  {} of {} variables changed, {} of them trainable".format(
            changed, len(before), len(slots)
        )
    )
    return losses[-1] < losses[0]


def main() -> int:
    """Runs the tour; the exit code says whether all of it went well."""
    start = time.perf_counter()
    names = expected.module_names()
    # TensorFlow warns of each odd name in a module, and there are some on purpose.
    logging.getLogger("absl").setLevel(logging.ERROR)
    print(
        "hub_compat {} in TensorFlow {}, on {} TF1 models written by TensorFlow "
        '1.15.5\n(one of them prints "shape of hidden" when it runs)\n'.format(
            hub.__version__, tf.__version__, len(names)
        )
    )
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HUB_COMPAT_CACHE_DIR"] = os.path.join(scratch, "cache")
        rows = [examine(name, Path(scratch)) for name in names]
        print_table(rows)
        print()
        for row in rows:
            text = "{}: {}".format(row.name, row.why)
            print(textwrap.fill(text, 88, subsequent_indent="    "))
        print()
        examples = ((name, trainable_example(name)) for name in
                    sorted(names, key=lambda n: "image" not in n))  # fmt: skip
        name, example = next((n, e) for n, e in examples if e is not None)
        trained = fine_tune(name, *example)
    bad = [row.name for row in rows if row.difference > TOLERANCE]
    print("\n{:.0f} s in all.".format(time.perf_counter() - start), end=" ")
    if bad or not trained:
        print("NOT AS EXPECTED: " + ", ".join(bad + [name] * (not trained)))
        return 1
    print("Every output is what TensorFlow 1.15 gave, and the loss fell.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
