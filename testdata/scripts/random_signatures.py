"""Signatures with names of every sort, made at random and run under TF 1.15.

Writes ``signatures/NUMBER/module``, SavedModels with a hundred signatures each, and
``signatures/NUMBER/cases.json``: for each signature its inputs and what a session
returned. Needs TensorFlow 1.15::

    python testdata/scripts/random_signatures.py
"""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List

import tensorflow as tf
from define import session_config
from tensorflow.core.protobuf import saved_model_pb2

MODULES = 3
SIGNATURES = 100
BIAS = 0.5
WEIGHTS = [2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0, 23.0, 29.0, 31.0, 37.0]

# Names by what is odd about them; those of one group are likely to be together.
GROUPS = [
    ["x", "y", "image", "Image", "IMAGE", "imageArea", "image_area", "b1", "b10"],
    ["image/height", "image_area", "image/a", "image-height", "image.height"],
    ["a/b", "a_b", "a.b", "a-b", "a b", "a:b", "A/B", "A_b"],
    ["1", "10", "2", "007", "1a", "a", "_1", "arg_1", "arg_10", "arg__1"],
    ["_", "__", "-", "/", ".", "a", "a.", "a_", ".a", "_a", "$", "%", "^x", "x^", "^"],
    ["ids-1", "ids.0", "ids_1", "ids_0", "ids", "ids:0", "x:0", "x[0]", "x,y", "#"],
    ["média", "media", "ñ", "Ω", "日本", "é", "e\u0301", "ß", "ss", "İ", "i", "I"],
    ["²", "x²", "x2", "１", "1", "٣", "𝒳", "x", "X", "ª", "ﬁ", "fi", "🙂"],
    ["class", "def", "None", "lambda", "from", "for", "async", "print", "match"],
    ["self", "args", "kwargs", "training", "inputs", "name", "cls", "dtype", "feeds"],
    ["cancellation_manager", "captured_inputs", "keywords", "function", "instance"],
    ["", " ", "  ", "\n", "\t", "'", '"', "\\", "{}", "{0}", "%s", "None ", "a\x00b"],
    ["x", "x_indices", "x_values", "x_dense_shape", "x_component_0", "x_component_1"],
    ["x_indices_1", "x_indices", "x", "x_1", "x_2", "X_indices", "x-indices"],
]
SIGNATURE_NAMES = [
    "default", "serving_default", "class", "a/b", "a_b", "1", "", "é", "日本", "_x",
    "__call__", "prune", "graph", "variables", "as_dict", "signatures", "training",
    "_variables", "initializer", "asset_paths", "a.b", "A/B", " ", "x:0", "self",
    "tensorflow_version", "graph_variants", "regularization_losses", "None", "²",
]  # fmt: skip
DTYPES = (
    ["float32"] * 8 + ["int32", "int64", "string", "bool", "float64", "uint8"]
) + ["complex64", "int8", "float16"]


class Case:
    """Makes one signature.

    Args:
      seed: says which.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.feeds: Dict[Any, Any] = {}
        self.inputs: Dict[str, Any] = {}
        self.record: List[Dict[str, Any]] = []
        self._features: List[tf.Tensor] = []

    def names(self, most: int) -> List[str]:
        """Some different names."""
        first, second = self._random.choice(GROUPS), self._random.choice(GROUPS)
        pool = sorted(set(first)) * 3 + sorted(set(second))
        wanted = self._random.randint(1, most)
        found: List[str] = []
        while len(found) < min(wanted, len(set(pool))):
            name = self._random.choice(pool)
            if name not in found:
                found.append(name)
        return found

    def build(self, bias: tf.Tensor) -> Dict[str, Any]:
        """Inputs and outputs, each of which depends on all inputs in its own way."""
        for name in self.names(5):
            if self._features and self._random.random() < 0.06:
                self._alias(name)
            else:
                self._input(name)
        outputs: Dict[str, Any] = {}
        for name in self.names(3):
            weights = self._random.sample(WEIGHTS, len(self._features))
            total = tf.add_n([w * f for w, f in zip(weights, self._features)]) + bias
            kind = self._random.random()
            if kind < 0.1:
                outputs[name] = self.inputs[self._random.choice(sorted(self.inputs))]
            elif kind < 0.2:
                outputs[name] = tf.SparseTensor([[0], [2]], [total, -total], [4])
            else:
                outputs[name] = tf.stack([total, total * total])
        return outputs

    def _alias(self, name: str) -> None:
        """Another name of an input that is there already."""
        known = self._random.choice(sorted(self.inputs))
        self.inputs[name] = self.inputs[known]
        (entry,) = [e for e in self.record if e["name"] == known]
        self.record.append(dict(entry, name=name))

    def _input(self, name: str) -> None:
        kind = self._random.random()
        if kind < 0.1:
            self._sparse(name)
        elif kind < 0.17:
            self._ragged(name)
        else:
            self._dense(name)

    def _numbers(self, dtype: str, count: int) -> List[Any]:
        if dtype == "bool":
            return [self._random.random() < 0.5 for _ in range(count)]
        numbers = [self._random.randint(1, 9) for _ in range(count)]
        return [str(n) for n in numbers] if dtype == "string" else numbers

    def _dense(self, name: str) -> None:
        dtype = self._random.choice(DTYPES)
        shape, known = self._random.choice(
            [([], []), ([2], [None]), ([2], [2]), ([1, 2], [None, 2]), ([3], None)]
        )
        count = 1
        for size in shape:
            count *= size
        value: Any = self._numbers(dtype, count)
        for size in reversed(shape):
            value = [value[i : i + size] for i in range(0, len(value), size)]
        (value,) = value
        placeholder = tf.placeholder(dtype, known)
        self._add(name, placeholder, value, "dense", dtype, _number(placeholder))

    def _sparse(self, name: str) -> None:
        placeholder = tf.sparse_placeholder(tf.float32, [None, 3])
        row, column = sorted(self._random.sample(range(3), 2))
        indices = [[0, row], [1, column]]
        values = self._numbers("float32", 2)
        feature = _number(placeholder.values) + 7.0 * _number(placeholder.indices)
        value = [indices, values, [2, 3]]
        self._add(name, placeholder, value, "sparse", "float32", feature)

    def _ragged(self, name: str) -> None:
        placeholder = tf.compat.v1.ragged.placeholder(tf.int64, 1, [])
        splits = [0, self._random.randint(1, 2), 3]
        values = self._numbers("int64", 3)
        feature = _number(placeholder.values) + 7.0 * _number(placeholder.row_splits)
        self._add(name, placeholder, [values, splits], "ragged", "int64", feature)

    def _add(
        self, name: str, tensor: Any, value: Any, kind: str, dtype: str, feature: Any
    ) -> None:
        self.inputs[name] = tensor
        self._features.append(feature)
        self.record.append({"name": name, "kind": kind, "dtype": dtype, "value": value})
        if kind == "sparse":
            self.feeds[tensor] = tf.compat.v1.SparseTensorValue(*value)
        elif kind == "ragged":
            self.feeds[tensor.values], self.feeds[tensor.row_splits] = value
        else:
            self.feeds[tensor] = value


def _number(tensor: tf.Tensor) -> tf.Tensor:
    """All of a tensor as one number."""
    if tensor.dtype == tf.string:
        tensor = tf.strings.to_number(tensor)
    if tensor.dtype.is_complex:
        tensor = tf.math.real(tensor)
    return tf.reduce_sum(tf.cast(tensor, tf.float64))


def signature_names(number: int) -> List[str]:
    """A name for each signature of a module."""
    chosen = random.Random(number)
    names = list(SIGNATURE_NAMES[number % 2 :])
    while len(names) < SIGNATURES:
        name = chosen.choice(["s/", "s", "S", "é"]) + str(len(names))
        names.append(name)
    return names


def _plain(value: Any) -> Any:
    """What JSON can hold of a value."""
    if isinstance(value, tf.compat.v1.SparseTensorValue):
        return {"sparse": [part.tolist() for part in value]}
    if isinstance(value, tf.compat.v1.ragged.RaggedTensorValue):
        return {"ragged": [value.values.tolist(), value.row_splits.tolist()]}
    found = value.tolist()
    if value.dtype.kind == "c":
        return {"complex": [[v.real, v.imag] for v in value.reshape(-1).tolist()]}
    if value.dtype == object:
        return {"text": [tf.compat.as_text(v) for v in value.reshape(-1).tolist()]}
    return found


def write(number: int, folder: Path) -> None:
    """Writes and runs one module."""
    cases: Dict[str, Case] = {}
    signatures, outputs = {}, {}
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        bias = tf.get_variable(
            "bias", [], tf.float64, tf.constant_initializer(BIAS), use_resource=False
        )
        for i, name in enumerate(signature_names(number)):
            cases[name] = Case(1000 * number + i)
            outputs[name] = cases[name].build(bias)
            signatures[name] = tf.saved_model.predict_signature_def(
                cases[name].inputs, outputs[name]
            )
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.builder.SavedModelBuilder(str(folder / "module"))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
        record = {}
        for name, case in cases.items():
            # A dict, as a session has it, cannot be keyed by everything.
            found = session.run(list(outputs[name].values()), case.feeds)
            values = {key: _plain(value) for key, value in zip(outputs[name], found)}
            record[name] = {"inputs": case.record, "outputs": values}
    _pack(folder / "module" / "saved_model.pb")
    text = json.dumps(record, indent=None, sort_keys=True, ensure_ascii=True)
    (folder / "cases.json").write_text(text.replace('}}, "', '}},\n"') + "\n")


def _pack(graph: Path) -> None:
    # Maps in order, and no random name for files, so that the bytes are the same.
    model = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    content = model.SerializeToString(deterministic=True)
    content = re.sub(b"_temp_[0-9a-f]{32}/", b"_temp_" + b"0" * 32 + b"/", content)
    with open(str(graph) + ".gz", "wb") as file:
        with gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
            packed.write(content)
    graph.unlink()


def main() -> int:
    """Writes and records the modules."""
    root = Path(__file__).resolve().parents[1] / "signatures"
    shutil.rmtree(str(root), ignore_errors=True)
    for number in range(MODULES):
        write(number, root / str(number))
    return 0


if __name__ == "__main__":
    sys.exit(main())
