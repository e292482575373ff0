"""Programs of nested loops and conditionals, made at random and run under TF 1.15.

Writes ``programs/packed``, a packed SavedModel with a signature for each program, and
``programs/expected.npz``: inputs, outputs and gradients by signature. Needs TensorFlow
1.15::

    python testdata/scripts/random_programs.py
"""

from __future__ import annotations

import gzip
import itertools
import random
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import tensorflow as tf
from define import array, session_config

COUNT = 200
ROWS, COLUMNS = 2, 3
UNKNOWN = tf.TensorShape([None, COLUMNS])


class Program:
    """Makes one program.

    Args:
      seed: says which.
      x: the input.
      weights: the variables.
    """

    def __init__(self, seed: int, x: tf.Tensor, weights: Dict[str, tf.Tensor]) -> None:
        self._random = random.Random(seed)
        self._x = x
        self._weights = weights
        self._forms: List[Callable[[tf.Tensor, int], tf.Tensor]] = [
            self._branch,
            self._loop,
            self._cases,
            self._rows,
            self._collected,
        ]

    def value(self, value: tf.Tensor, depth: int) -> tf.Tensor:
        """Some operations on a value, with control flow down to a depth."""
        for _ in range(self._random.randint(1, 2)):
            value = self._plain(value)
            if depth and self._random.random() < 0.75:
                value = self._random.choice(self._forms)(value, depth - 1)
        return value

    def _plain(self, value: tf.Tensor) -> tf.Tensor:
        kernel, gain = self._weights["kernel"], self._weights["gain"]
        operations = [
            lambda: tf.tanh(tf.matmul(value, kernel)),
            lambda: value * gain,
            lambda: tf.sin(value) + tf.reduce_mean(self._x, 0, keepdims=True),
            lambda: tf.sigmoid(value - gain),
            lambda: value + 0.5 * tf.reduce_mean(value, 0, keepdims=True),
        ]
        return self._random.choice(operations)()

    def _predicate(self, value: tf.Tensor) -> tf.Tensor:
        # Random numbers lie far from any bound that rounding could cross.
        bound = self._random.uniform(-0.5, 0.5)
        return tf.reduce_mean(value) > bound

    def _branch(self, value: tf.Tensor, depth: int) -> tf.Tensor:
        predicate = self._predicate(value)
        if self._random.random() < 0.3:
            first, second = tf.cond(
                predicate,
                lambda: (self.value(value, depth), value),
                lambda: (value, self.value(value, depth)),
            )
            return first - 0.5 * second
        return tf.cond(
            predicate,
            lambda: self.value(value, depth),
            lambda: self._random.choice([tf.identity, self._plain])(value),
        )

    def _cases(self, value: tf.Tensor, depth: int) -> tf.Tensor:
        return tf.case(
            [
                (self._predicate(value), lambda: self.value(value, depth)),
                (self._predicate(value), lambda: self._plain(value)),
            ],
            default=lambda: self.value(value, depth),
        )

    def _loop(self, value: tf.Tensor, depth: int) -> tf.Tensor:
        turns = self._random.randint(0, 3)
        other = self._plain(value)

        def body(i: Any, one: Any, two: Any) -> Any:
            following = self.value(one, depth)
            if self._random.random() < 0.4:
                return i + 1, two, following
            return i + 1, following, 0.5 * two + one

        def goes_on(i: Any, one: Any, two: Any) -> Any:
            return tf.logical_and(i < turns, tf.reduce_mean(tf.abs(two)) < 50.0)

        _, one, two = tf.while_loop(
            goes_on,
            body,
            [0, value, other],
            [tf.TensorShape([]), UNKNOWN, UNKNOWN],
            parallel_iterations=self._random.choice([1, 10]),
        )
        return one + 0.1 * two

    def _rows(self, value: tf.Tensor, depth: int) -> tf.Tensor:
        def one(row: tf.Tensor) -> tf.Tensor:
            return tf.reshape(self.value(row[None], depth), [COLUMNS])

        if self._random.random() < 0.5:
            return tf.reshape(tf.map_fn(one, value), [-1, COLUMNS])
        return tf.scan(lambda before, row: one(row) + 0.5 * before, value)

    def _collected(self, value: tf.Tensor, depth: int) -> tf.Tensor:
        turns = self._random.randint(1, 3)

        def body(i: Any, one: Any, written: Any) -> Any:
            one = self.value(one, depth)
            return i + 1, one, written.write(i, one)

        empty = tf.TensorArray(tf.float32, turns, element_shape=[None, COLUMNS])
        _, _, written = tf.while_loop(
            lambda i, *_: i < turns,
            body,
            [0, value, empty],
            [tf.TensorShape([]), UNKNOWN, tf.TensorShape([])],
        )
        if self._random.random() < 0.5:
            return tf.reduce_sum(written.stack(), 0)
        return written.read(turns - 1)


def weights() -> Dict[str, tf.Tensor]:
    """The variables that all programs share."""
    return {
        "kernel": tf.get_variable(
            "kernel", initializer=array((COLUMNS, COLUMNS), 1), use_resource=False
        ),
        "gain": tf.get_variable(
            "gain", initializer=array((COLUMNS,), 2), use_resource=False
        ),
    }


def program(seed: int, x: tf.Tensor, shared: Dict[str, tf.Tensor]) -> tf.Tensor:
    """The output of a program."""
    with tf.name_scope(name_of(seed)):
        return Program(seed, x, shared).value(x, 2 + (seed % 4 == 0))


def name_of(seed: int) -> str:
    """The signature of a program."""
    return "p{:03}".format(seed)


def write(folder: Path, seeds: List[int]) -> None:
    """Writes the SavedModel, before any gradient changes the loops that it is of."""
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        x = tf.placeholder(tf.float32, [None, COLUMNS], name="x")
        shared = weights()
        signatures = {}
        for seed in seeds:
            signatures[name_of(seed)] = tf.saved_model.predict_signature_def(
                {"x": x}, {"default": program(seed, x, shared)}
            )
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.builder.SavedModelBuilder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    pack(folder)


def pack(folder: Path) -> None:
    """Compresses the graph of a SavedModel, to the same bytes every time."""
    graph = folder / "saved_model.pb"
    with open(str(graph) + ".gz", "wb") as file:
        with gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
            packed.write(graph.read_bytes())
    graph.unlink()


def record(seed: int) -> Optional[Dict[str, np.ndarray]]:
    """A program's input, output and gradients; None if rounding decides about them."""
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        x = tf.placeholder(tf.float32, [None, COLUMNS], name="x")
        shared = weights()
        output = program(seed, x, shared)
        session.run(tf.global_variables_initializer())
        wanted = [x] + list(shared.values())
        gradients = tf.gradients(tf.reduce_sum(tf.sin(output)), wanted)
        fetches = {"default": output}
        for key, gradient in zip(["x"] + list(shared), gradients):
            if gradient is not None:
                fetches["d_" + key] = gradient
        given = array((ROWS, COLUMNS), 100 + seed)
        found = session.run(fetches, {x: given})
        moved = session.run(fetches, {x: given * 1.00001})
    for key, value in found.items():
        if not np.all(np.isfinite(value)):
            return None
        if np.abs(value - moved[key]).max() > 1e-3 * np.abs(value).max():
            return None
    return dict(found, x=given)


def main() -> int:
    """Writes and records the programs."""
    root = Path(__file__).resolve().parents[1] / "programs"
    shutil.rmtree(str(root), ignore_errors=True)
    expected: Dict[str, np.ndarray] = {}
    seeds: List[int] = []
    for seed in itertools.count():
        found = record(seed)
        if found is not None:
            seeds.append(seed)
            for key, value in found.items():
                expected["{}/{}".format(name_of(seed), key)] = value
        if len(seeds) == COUNT:
            break
    write(root / "packed", seeds)
    np.savez_compressed(str(root / "expected.npz"), **expected)
    return 0


if __name__ == "__main__":
    sys.exit(main())
