"""Tables of every kind and origin, made at random and looked up under TF 1.15.

Writes ``random_tables/NAME``, packed SavedModels and a TF1 Hub module with a signature
for each table, and ``random_tables/expected.npz``: keys and results by model and
signature. The results are those of TensorFlow 1.15's session on the exported model.
Needs TensorFlow 1.15 and tensorflow_hub::

    python testdata/scripts/random_tables.py
"""

from __future__ import annotations

import functools
import gzip
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from define import session_config
from tensorflow.python.ops import lookup_ops
from tensorflow.python.training.tracking import tracking

OUT = Path(__file__).resolve().parents[1] / "random_tables"
# What fills the tables of a model, and how many tables it has.
MODELS = {
    "main_op": 44,
    "legacy_init_op": 40,
    "grouped": 40,
    "loaded": 40,
    "loaded_twice": 36,
    "module": 40,
}
WORDS = ["a", "bb", "c c", "", "d|e", "é", "f", "gg"]
_NUMBERS = ["tf.float32", "tf.float64", "tf.int32", "tf.int64", "tf.string"]
# By dtype of keys, the dtypes of values that a HashTable has.
VALUES = {
    "string": _NUMBERS + ["tf.bool"],
    "int64": _NUMBERS,
    "int32": ["tf.float32", "tf.float64", "tf.int32", "tf.string"],
}


class Case:
    """Makes one table, and looks something up in it.

    Args:
      seed: says which.
      files: where vocabularies go.
    """

    def __init__(self, seed: int, files: Path) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self._files = files
        self.more: List[Any] = []
        self.asked: List[Any] = []

    def keys(self, dtype: str, count: int) -> List[Any]:
        """Different keys."""
        if dtype == "string":
            return self.random.sample(WORDS, count)
        return self.random.sample(range(-5, 20), count)

    def value(self, dtype: str) -> Any:
        """A value."""
        kind = dtype.split(".")[1]
        if kind == "string":
            return self.random.choice(["x", "yy", "", "zz|z"])
        if kind == "bool":
            return self.random.random() < 0.5
        if kind.startswith("float"):
            return self.random.choice([0.5, -1.25, 3.0, 7.5, 1e20])
        return self.random.randint(-100, 100)

    def file(self, lines: List[str]) -> str:
        """Writes a file; its path."""
        path = self._files / "words_{}.txt".format(self.seed)
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def asset(self, lines: List[str]) -> Any:
        """What names a file to the graph."""
        return self.file(lines)

    def pairs(self) -> Tuple[str, str, List[Any], List[Any]]:
        """Dtypes, keys and values; asks for them, and for others."""
        key = self.random.choice(list(VALUES))
        value = self.random.choice(VALUES[key])
        keys = self.keys(key, self.random.randint(1, 5))
        self.asked = keys + self.keys(key, 3)
        return key, value, keys, [self.value(value) for _ in keys]

    # ---- kinds

    def key_values(self) -> Any:
        """A table of constants."""
        key, value, keys, values = self.pairs()
        initializer = lookup_ops.KeyValueTensorInitializer(
            keys, values, getattr(tf, key), getattr(tf, value[3:])
        )
        return lookup_ops.StaticHashTable(initializer, self.value(value))

    def text_file(self) -> Any:
        """A table of a file's lines or columns."""
        index = lookup_ops.TextFileIndex
        form = self.random.randint(0, 3)
        words = [w or "w" for w in self.keys("string", 4)]
        if form == 0:
            initializer = lookup_ops.TextFileInitializer(
                self.asset(words), tf.string, index.WHOLE_LINE, tf.int64,
                index.LINE_NUMBER, vocab_size=self.random.choice([None, 4]),
            )  # fmt: skip
            default: Any = self.random.randint(-3, 9)
        elif form == 1:
            initializer = lookup_ops.TextFileInitializer(
                self.asset(words), tf.int64, index.LINE_NUMBER, tf.string,
                index.WHOLE_LINE,
            )  # fmt: skip
            self.asked = [0, 3, 4, -1]
            return lookup_ops.StaticHashTable(initializer, "none")
        else:
            value = self.random.choice([tf.float32, tf.int64, tf.string])
            lines = ["{}\t{}\t{}".format(w, i * 3, i) for i, w in enumerate(words)]
            initializer = lookup_ops.TextFileInitializer(
                self.asset(lines), tf.string, 0, value, form - 1, delimiter="\t"
            )
            default = "?" if value is tf.string else -1
        self.asked = words + ["f", "nowhere"]
        return lookup_ops.StaticHashTable(initializer, default)

    def vocabulary(self) -> Any:
        """A table with buckets for words that it does not know."""
        words = [w or "w" for w in self.keys("string", 4)]
        index = lookup_ops.TextFileIndex
        # TensorFlow 1.15 does not track the file of one in a TF2 module.
        if self.random.random() < 0.5 and isinstance(self, Asset):
            initializer = lookup_ops.TextFileInitializer(
                self.asset(words), tf.string, index.WHOLE_LINE, tf.int64,
                index.LINE_NUMBER,
            )  # fmt: skip
        else:
            initializer = lookup_ops.KeyValueTensorInitializer(
                words, list(range(4)), tf.string, tf.int64
            )
        self.asked = words + ["f", "nowhere", "elsewhere"]
        return lookup_ops.StaticVocabularyTable(initializer, self.random.randint(1, 9))

    def index_table(self) -> Any:
        """What ``tf.contrib.lookup`` had, and ``tf.lookup`` keeps."""
        oov = self.random.choice([0, 0, 3])
        options: Dict[str, Any] = {"num_oov_buckets": oov, "default_value": -1}
        if oov:
            strong = lookup_ops.StrongHashSpec([3, 5])
            options["hasher_spec"] = self.random.choice(
                [lookup_ops.FastHashSpec, strong]
            )
        words = [w or "w" for w in self.keys("string", 4)]
        self.asked = words + ["f", "nowhere", "elsewhere"]
        if self.random.random() < 0.5:
            return lookup_ops.index_table_from_file(self.asset(words), **options)
        return lookup_ops.index_table_from_tensor(words, **options)

    def strings(self) -> Any:
        """The other way round."""
        words = [w or "w" for w in self.keys("string", 4)]
        self.asked = [0, 3, 9, -1]
        if self.random.random() < 0.5:
            return lookup_ops.index_to_string_table_from_file(
                self.asset(words), default_value="?"
            )
        return lookup_ops.index_to_string_table_from_tensor(words, default_value="?")

    def mutable(self) -> Any:
        """A table that a program fills; dense, or of vectors."""
        key, value, keys, values = self.pairs()
        key = "string" if key == "int32" else key
        if value in ("tf.string", "tf.int32", "tf.bool"):
            value = "tf.int64"
        keys = self.keys(key, len(keys))
        values = [self.value(value) for _ in keys]
        self.asked = keys + self.keys(key, 3)
        default = self.value(value)
        wide = self.random.random() < 0.4 and value in ("tf.int64", "tf.float32")
        if wide:
            values, default = [[v, v, default] for v in values], [default, 1, 2]
        key_type, value_type = getattr(tf, key), getattr(tf, value[3:])
        default = tf.constant(default, value_type)
        if self.random.random() < 0.5:
            empty, deleted = ("#", "##") if key == "string" else (-100, -200)
            table = lookup_ops.DenseHashTable(
                key_type, value_type, default, empty, deleted, initial_num_buckets=16
            )
        else:
            table = lookup_ops.MutableHashTable(key_type, value_type, default)
        self.more.append(
            table.insert(tf.constant(keys, key_type), tf.constant(values, value_type))
        )
        return table

    # ---- look-ups

    def look_up(self, table: Any, keys: Any) -> Any:
        """One of the ways to look something up."""
        form = self.random.choice(
            ["plain", "plain", "plain", "rows", "cond", "map", "function", "size"]
        )
        # A dense table takes a vector.
        if form == "rows" and not self.more:
            return table.lookup(tf.expand_dims(keys, 0))
        if form == "cond":
            return tf.cond(
                tf.size(keys) > 1, lambda: table.lookup(keys),
                lambda: table.lookup(keys[:1]),
            )  # fmt: skip
        if form == "map":
            # What a table says of a scalar has the shape of its values.
            return tf.map_fn(
                lambda key: table.lookup(tf.expand_dims(key, 0))[0], keys,
                table.value_dtype if hasattr(table, "value_dtype") else tf.int64,
            )  # fmt: skip
        if form == "function":
            return tf.function(table.lookup)(keys)
        if form == "size":
            with tf.control_dependencies([table.lookup(keys)]):
                return tf.identity(table.size())
        return table.lookup(keys)


STATIC = ("key_values", "text_file", "vocabulary", "index_table", "strings")


class Asset(Case):
    """A case whose files are assets of the graph."""

    def asset(self, lines: List[str]) -> Any:
        """A constant that the export takes along."""
        path = tf.constant(self.file(lines))
        tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, path)
        return path


class Words(tf.Module):
    """A TF2 module of some tables, with another within."""

    def __init__(self, seeds: List[int], files: Path) -> None:
        super().__init__()
        self.scale = tf.Variable(2.0)
        if len(seeds) > 3:
            self.inner = Words(seeds[2:], files)
            seeds = seeds[:2]
        self.functions = []
        for i, seed in enumerate(seeds):
            case = Case(seed, files)
            kind = case.random.choice(("key_values", "text_file", "vocabulary"))
            table = getattr(case, kind)()
            setattr(self, "table_{}".format(i), table)
            dtype = tf.as_dtype(table.key_dtype)
            signature = [tf.TensorSpec([None], dtype)]
            function = tf.function(table.lookup, input_signature=signature)
            setattr(self, "call_{}".format(i), function)
            case.asked = list(case.asked)
            self.functions.append("call_{}".format(i))


def make_words(path: str, first: str, count: str, files: str) -> None:
    """Writes a TF2 SavedModel; in a process of its own, for eager execution."""
    tf.compat.v1.enable_v2_behavior()
    seeds = list(range(int(first), int(first) + int(count)))
    tf.saved_model.save(Words(seeds, Path(files)), path)


def functions_of(loaded: Any, seeds: List[int], files: Path) -> List[Tuple[Any, Any]]:
    """The functions of a loaded ``Words``, and keys to ask for."""
    found = []
    own = seeds
    if len(seeds) > 3:
        own = seeds[:2]
    for i, seed in enumerate(own):
        case = Case(seed, files)
        kind = case.random.choice(("key_values", "text_file", "vocabulary"))
        with tf.Graph().as_default():
            table = getattr(case, kind)()
            dtype = tf.as_dtype(table.key_dtype)
        keys = np.array(case.asked, object if dtype == tf.string else dtype.name)
        found.append((getattr(loaded, "call_{}".format(i)), (dtype, keys)))
    if len(seeds) > 3:
        found += functions_of(loaded.inner, seeds[2:], files)
    return found


def build(
    name: str, count: int, first: int, files: Path
) -> Dict[str, Tuple[Any, Any, Any]]:
    """Adds a model's tables to the graph; input, keys and output by signature."""
    found: Dict[str, Tuple[Any, Any, Any]] = {}

    def add(seed: int, dtype: Any, keys: Any, call: Callable[[Any], Any]) -> None:
        given = tf.placeholder(dtype, [None], name="keys_{}".format(seed))
        result = call(given)
        found["t{}".format(seed)] = (given, keys, result)

    if name.startswith("loaded"):
        path = str(files / "words")
        count = count // 2 if name.endswith("twice") else count
        command = [sys.executable, __file__, path, str(first), str(count), str(files)]
        subprocess.run(command, check=True)
        seeds = list(range(first, first + count))
        places = [tf.saved_model.load_v2(path)]
        if name.endswith("twice"):
            places.append(hub.load(path))
        for i, loaded in enumerate(places):
            _add_assets(loaded)
            for seed, (call, (dtype, keys)) in zip(
                seeds, functions_of(loaded, seeds, files)
            ):
                add(seed + i * count, dtype, keys, call)
        return found
    for seed in range(first, first + count):
        case = (Case if name == "module" else Asset)(seed, files)
        kinds = STATIC if name == "module" else STATIC + ("mutable", "mutable")
        kind = case.random.choice(kinds)
        table = getattr(case, kind)()
        dtype = tf.as_dtype(table.key_dtype)
        keys = np.array(case.asked, object if dtype == tf.string else dtype.name)
        add(seed, dtype, keys, functools.partial(case.look_up, table))
        if case.more:
            # Some by the saver, others by the init op.
            kind = "inserted" if case.random.random() < 0.5 else "initial"
            tf.add_to_collection(kind, case.more[0])
    return found


def _add_assets(loaded: Any) -> None:
    """What TFX does; TensorFlow 1.15's loader leaves it out."""
    known, waiting = set(), [loaded]
    while waiting:
        found = waiting.pop()
        if isinstance(found, tracking.base.Trackable) and id(found) not in known:
            known.add(id(found))
            waiting += [value for _, value in sorted(vars(found).items())]
            if isinstance(found, tracking.TrackableAsset):
                tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, found.asset_path)


def export(
    name: str, count: int, first: int, path: Path, files: Path
) -> Dict[str, Any]:
    """Writes a model, and says what its signatures are asked."""
    if name == "module":
        asked: Dict[str, Any] = {}

        def module_fn() -> None:
            for key, (given, keys, result) in build(name, count, first, files).items():
                asked[key] = keys
                hub.add_signature(key, {"keys": given}, {"y": result})

        spec = hub.create_module_spec(module_fn)
        with tf.Graph().as_default():
            module = hub.Module(spec)
            with tf.Session(config=session_config()) as session:
                session.run(
                    [tf.global_variables_initializer(), tf.tables_initializer()]
                )
                module.export(str(path), session)
        return asked
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        signatures = build(name, count, first, files)
        tf.get_variable("scale", initializer=[1.0])
        session.run([tf.global_variables_initializer(), tf.tables_initializer()])
        session.run(tf.get_collection("inserted"))
        initial = tf.get_collection("initial")
        init_op = tf.tables_initializer()
        if initial or name == "grouped":
            with tf.control_dependencies([init_op]):
                init_op = tf.group(*initial, tf.local_variables_initializer())
        option = "legacy_init_op" if name == "legacy_init_op" else "main_op"
        builder = tf.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            {
                key: tf.saved_model.predict_signature_def(
                    {"keys": given}, {"y": result}
                )
                for key, (given, _, result) in signatures.items()
            },
            assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS),
            strip_default_attrs=True,
            **{option: init_op},
        )
        builder.save()
    return {key: keys for key, (_, keys, _) in signatures.items()}


def record(name: str, path: Path, asked: Dict[str, Any]) -> Dict[str, Any]:
    """What TensorFlow 1.15 says of a model."""
    found: Dict[str, Any] = {}
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        if name == "module":
            module = hub.Module(str(path))
            results = {}
            for key, keys in asked.items():
                given = list(keys) if keys.dtype == object else keys
                results[key] = module(tf.constant(given), signature=key, as_dict=True)[
                    "y"
                ]
            session.run([tf.global_variables_initializer(), tf.tables_initializer()])
            return dict(session.run(results))
        meta_graph = tf.saved_model.load(session, [tf.saved_model.SERVING], str(path))
        for key, keys in asked.items():
            signature = meta_graph.signature_def[key]
            feeds = {signature.inputs["keys"].name: keys}
            found[key] = session.run(signature.outputs["y"].name, feeds)
    return found


def pack(path: Path, target: Path) -> None:
    """Copies a model, its graph compressed."""
    shutil.copytree(str(path), str(target))
    graph = target / "saved_model.pb"
    with gzip.GzipFile(str(graph) + ".gz", "wb", mtime=0) as file:
        file.write(graph.read_bytes())
    graph.unlink()


def main() -> None:
    """Writes everything."""
    shutil.rmtree(str(OUT), ignore_errors=True)
    OUT.mkdir()
    arrays: Dict[str, np.ndarray] = {}
    first = 0
    for name, count in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            files, path = Path(folder) / "files", Path(folder) / name
            files.mkdir()
            asked = export(name, count, first, path, files)
            shutil.rmtree(str(files))
            results = record(name, path, asked)
            pack(path, OUT / name)
        first += count
        for key, keys in asked.items():
            for part, value in (("keys", keys), ("y", results[key])):
                value = np.asarray(value)
                if value.dtype == object:
                    value = np.array([_bytes(v) for v in value.flat]).reshape(
                        value.shape
                    )
                arrays["/".join((name, key, part))] = value
    np.savez_compressed(str(OUT / "expected.npz"), **arrays)


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if len(sys.argv) > 1:
        make_words(*sys.argv[1:])
    else:
        main()
