"""Programs that write variables and read them, made at random and run under TF 1.15.

A step follows what the step before did, by control edges: the order of writes and reads
is the program's, and a session leaves no choice. Writes ``writes/packed``, a packed
SavedModel with a signature for each program, and ``writes/expected.npz``: inputs and
outputs of several calls in a row, and what the variables hold after each. Needs
TensorFlow 1.15::

    python testdata/scripts/random_writes.py
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import tensorflow as tf
from define import array, session_config
from random_memory import handed_on, parts
from random_programs import pack
from tensorflow.python.framework import function
from tensorflow.python.training import moving_averages

COUNT = 220
CALLS = 3
SIZE = 4
# A session runs cheap ops in another order once it knows what they cost, after some 32
# runs: races that no first run shows.
RUNS = 20


class Program:
    """Makes one program.

    Args:
      seed: says which.
      x: the input, float32 [SIZE].
    """

    def __init__(self, seed: int, x: tf.Tensor) -> None:
        self._random = random.Random(seed)
        self._x = x
        self._dtype = self._pick([tf.float32] * 6 + [tf.float64, tf.int32, tf.int64])
        self._variables = [self._variable(i) for i in range(self._pick([1, 2, 2, 3]))]
        self._values: List[tf.Tensor] = [tf.cast(x, self._dtype)]
        self._averages: List[Tuple[Any, Any]] = []
        self._steps = [
            self._write,
            self._write,
            self._scatter,
            self._read,
            self._read,
            self._look,
            self._compute,
            self._average,
            self._branch,
            self._loop,
            self._count,
            self._function,
            self._part,
            self._select,
        ]
        self.outputs: Dict[str, tf.Tensor] = {}

    def _pick(self, choices: Any) -> Any:
        return self._random.choice(choices)

    def _variable(self, i: int) -> Any:
        start = np.round(4 * array((SIZE,), self._random.randrange(1000)))
        return tf.get_variable(
            "v{}".format(i),
            initializer=start.astype(self._dtype.as_numpy_dtype),
            # Most are references: what a resource holds is read by ops alone.
            use_resource=self._random.random() < 0.2,
        )

    def build(self) -> None:
        """Adds all steps, and the outputs."""
        done: List[Any] = []
        for _ in range(self._random.randint(2, 7)):
            with tf.control_dependencies(done):
                # Not all that a step gives has run after the one before.
                done = done + self._step(2)
        with tf.control_dependencies(done):
            names = ["one", "two", "three"][: self._random.randint(1, 3)]
            for name in names:
                self.outputs[name] = self._output()
        self.outputs["done"] = self._sum(done)

    def _output(self) -> tf.Tensor:
        """A value as it is, a variable, or something computed."""
        kind = self._random.random()
        if kind < 0.4:
            value = self._pick(self._values)
            return value if isinstance(value, tf.Tensor) else value.value()
        return self._reading(self._pick(self._variables))

    def _sum(self, done: List[Any]) -> tf.Tensor:
        with tf.control_dependencies(done):
            total = self._values[0] * 1
            for value in self._values[1:]:
                total = total * 2 - value
            return total

    def _step(self, depth: int) -> List[Any]:
        """One step; what the next one has to wait for."""
        steps = [
            step
            for step in self._steps
            if depth or step not in (self._branch, self._loop)
        ]
        value = self._pick(steps)(depth)
        if isinstance(value, tf.Operation):
            return [value]
        if self._random.random() < 0.8:
            self._values.append(value)
        return [value]

    def _operand(self) -> tf.Tensor:
        """Something small to write: not of the variables, which a write changes."""
        value = tf.cast(self._x, self._dtype)
        if self._random.random() < 0.4:
            return value + self._constant(self._random.randint(-3, 3))
        return value * self._constant(self._random.randint(1, 3))

    def _constant(self, value: int) -> tf.Tensor:
        return tf.constant(value, self._dtype)

    def _write(self, depth: int) -> Any:
        variable = self._pick(self._variables)
        if self._random.random() < 0.25:
            # Of another's value, or of its own as an earlier step read it.
            operand = self._pick(self._values)
            if _is_resource(variable):
                # A resource would have the memory of a reference from then on.
                operand = operand * self._constant(1)
        else:
            operand = self._operand()
        write = self._pick([tf.assign, tf.assign_add, tf.assign_add, tf.assign_sub])
        written = write(variable, operand)
        return written if self._random.random() < 0.6 else written.op

    def _scatter(self, depth: int) -> Any:
        variable = self._pick(self._variables)
        rows = tf.constant(self._random.sample(range(SIZE), 2))
        updates = self._operand()[:2]
        nd = self._random.random() < 0.3
        if nd:
            scatter = self._pick(
                [tf.scatter_nd_update, tf.scatter_nd_add, tf.scatter_nd_sub]
            )
            return scatter(variable, rows[:, None], updates)
        kinds = [tf.scatter_update, tf.scatter_add, tf.scatter_sub]
        kinds += [tf.scatter_mul, tf.scatter_min, tf.scatter_max]
        return self._pick(kinds)(variable, rows, updates)

    def _reading(self, variable: Any) -> tf.Tensor:
        """A variable's value, in one of the ways to ask for it."""
        ways: List[Callable[[], tf.Tensor]] = [
            lambda: tf.identity(variable),
            lambda: variable.read_value(),
            lambda: variable.value(),
            lambda: variable * self._constant(2),
            lambda: variable + tf.cast(self._x, self._dtype),
            lambda: tf.convert_to_tensor(variable),
            lambda: tf.reshape(variable, [2, -1])[0, :1] + variable[1:2],
            lambda: tf.stop_gradient(variable),
            lambda: tf.gather(variable, [0, 2, 1, 3]),
            lambda: variable[::-1],
            lambda: tf.squeeze(tf.expand_dims(variable, 0), 0),
            lambda: self._handed_on(variable),
        ]
        if not _is_resource(variable) and self._dtype.is_floating:
            ways.append(lambda: tf.check_numerics(variable, "no number"))
            ways.append(lambda: tf.abs(variable._ref()))
        return self._pick(ways)()

    def _handed_on(self, variable: Any) -> tf.Tensor:
        """A variable's memory, or a copy of it, by an op that changes nothing."""
        return self._pick(handed_on(variable))()

    def _part(self, depth: int) -> tf.Tensor:
        """Rows of a variable that are memory of it, or copies, before a write."""
        if depth < 2:
            return self._read(depth)
        rows, width = self._pick([(4, 16), (4, 4), (3, 8), (64, 1), (2, 32)])
        shape = [rows, width] if width > 1 else [rows]
        start = np.round(4 * array(shape, self._random.randrange(1000)))
        name = "part{}".format(self._random.randrange(10**6))
        initial = start.astype(self._dtype.as_numpy_dtype)
        variable = tf.get_variable(name, initializer=initial, use_resource=False)
        part = self._pick(parts(variable, rows, width))()
        with tf.control_dependencies([part]):
            written = tf.assign_add(variable, tf.ones(shape, self._dtype) * 7)
        with tf.control_dependencies([written.op]):
            taken = (
                tf.reshape(part, [-1])[:1]
                if part.shape.num_elements() < SIZE
                else (tf.reshape(part, [-1])[:SIZE])
            )
            return taken + tf.cast(self._x, self._dtype)

    def _select(self, depth: int) -> tf.Tensor:
        """By a scalar, what may be a variable."""
        one, two = self._pick(self._values), self._pick(self._values)
        one, two = [tf.broadcast_to(each, [SIZE]) for each in (one, two)]
        return tf.where(self._predicate(), one, two)

    def _read(self, depth: int) -> tf.Tensor:
        return self._reading(self._pick(self._variables))

    def _look(self, depth: int) -> tf.Tensor:
        variable = self._pick(self._variables)
        asked = tf.is_variable_initialized(variable)
        return tf.cast(asked, self._dtype) * self._constant(3)

    def _compute(self, depth: int) -> tf.Tensor:
        one, two = self._pick(self._values), self._pick(self._values)
        return self._pick([tf.add, tf.subtract, tf.maximum])(one, two)

    def _average(self, depth: int) -> Any:
        floats = [v for v in self._variables if v.dtype.base_dtype.is_floating]
        if not floats:
            return self._write(depth)
        variable = self._pick(floats)
        if self._averages and self._random.random() < 0.5:
            average, of = self._pick(self._averages)
            return self._reading(average.average(of))
        if self._random.random() < 0.5:
            return moving_averages.assign_moving_average(
                variable, self._operand(), 0.75, zero_debias=False
            )
        average = tf.train.ExponentialMovingAverage(0.5)
        if depth < 2:
            return self._read(depth)
        self._averages.append((average, variable))
        return average.apply([variable])

    def _predicate(self) -> tf.Tensor:
        bound = self._random.uniform(-0.5, 0.5)
        return tf.reduce_sum(self._x) > bound

    def _branch(self, depth: int) -> tf.Tensor:
        return tf.cond(
            self._predicate(),
            lambda: self._inner(depth),
            lambda: self._inner(depth),
        )

    def _inner(self, depth: int) -> tf.Tensor:
        """Steps within a branch or a turn; the last value."""
        outer = list(self._values)
        done: List[Any] = []
        for _ in range(self._random.randint(1, 3)):
            with tf.control_dependencies(done):
                done = done + self._step(depth - 1)
        with tf.control_dependencies(done):
            if isinstance(done[-1], tf.Operation) or done[-1].shape != [SIZE]:
                value = self._pick(outer) * self._constant(1)
            elif self._random.random() < 0.2:
                value = done[-1]
            elif self._random.random() < 0.3:
                value = self._reading(self._pick(self._variables))
            elif self._random.random() < 0.3:
                value = self._pick(outer)
            else:
                value = self._reading(self._pick(self._variables)) + done[-1]
        # What is made inside cannot be used outside.
        self._values = outer
        return tf.broadcast_to(value, [SIZE]) if value.shape != [SIZE] else value

    def _loop(self, depth: int) -> tf.Tensor:
        turns = self._random.randint(1, 3)
        start = tf.broadcast_to(self._pick(self._values), [SIZE])
        kind = self._random.random()

        def body(i: Any, value: Any) -> Any:
            outer = list(self._values)
            self._values.append(value)
            following = self._inner(depth)
            self._values = outer
            with tf.control_dependencies([following]):
                if kind < 0.2:
                    return i + 1, tf.identity(value)
                if kind < 0.4:
                    return i + 1, following
                return i + 1, following - value

        # What the loop writes may be what it starts from.
        with tf.control_dependencies([start]):
            return tf.while_loop(
                lambda i, _: i < turns, body, [0, start], parallel_iterations=1
            )[1]

    def _count(self, depth: int) -> tf.Tensor:
        name = "count{}".format(self._random.randrange(10**6))
        if depth < 2:
            return self._read(depth)
        counter = tf.get_variable(name, initializer=0, use_resource=False)
        counted = tf.count_up_to(counter, 100)
        with tf.control_dependencies([counted]):
            return tf.cast(self._pick([counted, counter + 0, counter]), self._dtype)

    def _function(self, depth: int) -> tf.Tensor:
        @function.Defun(self._dtype)
        def doubled(value: Any) -> Any:
            return value * tf.constant(2, value.dtype)

        value = doubled(self._pick(self._variables))
        value.set_shape([SIZE])
        return value


def _is_resource(variable: Any) -> bool:
    return not variable.dtype._is_ref_dtype


def name_of(seed: int) -> str:
    """The signature of a program."""
    return "p{:04}".format(seed)


def program(seed: int, x: tf.Tensor) -> Dict[str, tf.Tensor]:
    """The outputs of a program."""
    with tf.variable_scope(name_of(seed)):
        made = Program(seed, x)
        made.build()
    return made.outputs


def write(folder: Path, seeds: List[int]) -> None:
    """Writes the SavedModel."""
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        x = tf.placeholder(tf.float32, [SIZE], name="x")
        signatures = {
            name_of(seed): tf.saved_model.predict_signature_def(
                {"x": x}, program(seed, x)
            )
            for seed in seeds
        }
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.builder.SavedModelBuilder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    pack(folder)


def inputs(seed: int) -> np.ndarray:
    """What the calls of a program are given, float32 [CALLS, SIZE]."""
    return np.round(3 * array((CALLS, SIZE), 100 + seed))


def record(seed: int) -> Optional[Dict[str, np.ndarray]]:
    """What the calls of a program give; None if it is none, or races decide."""
    found: List[Dict[str, np.ndarray]] = []
    for threads in (1, 4, 4):
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float32, [SIZE], name="x")
            try:
                outputs = program(seed, x)
            except (ValueError, TypeError, AttributeError) as error:
                print(seed, type(error).__name__, str(error)[:150])
                return None
            config = session_config()
            config.inter_op_parallelism_threads = threads
            with tf.Session(config=config) as session:
                try:
                    for _ in range(RUNS):
                        found.append(_run(seed, session, x, outputs))
                except tf.errors.InvalidArgumentError as error:
                    print(seed, error.message[:150])
                    return None
    first = found[0]
    for other in found[1:]:
        for key, value in first.items():
            if not np.array_equal(value, other[key]):
                print(seed, "race", key)
                return None
    if not all(np.all(np.isfinite(value)) for value in first.values()):
        return None
    return dict(first, x=inputs(seed))


def _run(seed: int, session: Any, x: Any, outputs: Any) -> Dict[str, np.ndarray]:
    found: Dict[str, np.ndarray] = {}
    held = {v.op.name: v for v in tf.global_variables()}
    session.run(tf.global_variables_initializer())
    for call, given in enumerate(inputs(seed)):
        for key, value in session.run(outputs, {x: given}).items():
            found["{}/{}".format(call, key)] = value
        for key, value in session.run(held).items():
            found["{}/={}".format(call, key.split("/", 1)[1])] = value
    return found


def save(root: Path, expected: Dict[str, Dict[str, np.ndarray]]) -> None:
    """Writes what was recorded: a file of many small arrays would be large."""
    layout = {
        name: {key: list(value.shape) for key, value in sorted(found.items())}
        for name, found in expected.items()
    }
    numbers = [
        expected[name][key].astype(np.float64).ravel()
        for name, found in layout.items()
        for key in found
    ]
    np.savez_compressed(
        str(root / "expected.npz"),
        layout=np.array(json.dumps(layout)),
        numbers=np.concatenate(numbers),
    )


def main() -> int:
    """Writes and records the programs."""
    root = Path(__file__).resolve().parents[1] / "writes"
    numbers = itertools.count()
    shutil.rmtree(str(root), ignore_errors=True)
    expected: Dict[str, Dict[str, np.ndarray]] = {}
    seeds: List[int] = []
    for seed in numbers:
        found = record(seed)
        if found is not None:
            seeds.append(seed)
            expected[name_of(seed)] = found
        if len(seeds) == COUNT:
            break
    write(root / "packed", seeds)
    save(root, expected)
    return 0


if __name__ == "__main__":
    sys.exit(main())
