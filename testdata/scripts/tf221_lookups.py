"""Tables of TensorFlow 2.21 that count the lines of a file from more than 0.

Writes ``tf221_lookups/module``, a SavedModel, and ``tf221_lookups/recorded.json``: what
it is asked and what TensorFlow 2.21 answers. Needs tf_keras::

    python testdata/scripts/tf221_lookups.py
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict

import tensorflow as tf
import tf_keras

OUT = Path(__file__).resolve().parents[1] / "tf221_lookups"
WORDS = ["a", "bb", "c c", "x", "y", "k1", "k2", "[M]", "zz", "", "d\te"]
NUMBERS = [0, 1, 2, 3, 10, 20, 5, 6, 7, -1, 4]


class Lookups(tf.Module):
    """Layers and tables, each of a file of its own.

    Args:
      files: where these are.
    """

    def __init__(self, files: Path) -> None:
        super().__init__()

        def file(name: str, text: str) -> str:
            (files / name).write_text(text)
            return str(files / name)

        words = file("words.txt", "a\nbb\nc c\nd\te")
        ended = file("ended.txt", "x\r\ny\r\n")
        numbers = file("numbers.txt", "10\n20\n")
        columns = file("columns.txt", "k1|1.5|7\nk2|2.5|8\n")
        layers, fill = tf_keras.layers, tf.lookup.TextFileInitializer
        self.layers = [
            layers.StringLookup(vocabulary=words, num_oov_indices=2, mask_token="[M]"),
            layers.StringLookup(vocabulary=ended, output_mode="one_hot"),
            layers.StringLookup(vocabulary=ended, invert=True),
            layers.IntegerLookup(vocabulary=numbers),
        ]
        line, number = tf.lookup.TextFileIndex.WHOLE_LINE, -1
        offset: Dict[str, Any] = {"value_index_offset": 5}
        self.tables = [
            tf.lookup.StaticHashTable(each, -9)
            for each in (
                fill(columns, tf.string, 0, tf.int64, number, None, "|", **offset),
                fill(columns, tf.int64, number, tf.float32, 1, None, "|", **offset),
                fill(ended, tf.string, line, tf.int64, number, 1, **offset),
                fill(columns, tf.int64, 2, tf.int64, number, 2, "|", **offset),
            )
        ]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "words"),
            tf.TensorSpec([None], tf.int64, "numbers"),
        ]
    )
    def __call__(self, words: Any, numbers: Any) -> Dict[str, Any]:
        """What each layer and table finds."""
        given = {tf.string: words, tf.int64: numbers}
        found = {}
        for i, layer in enumerate(self.layers):
            found["layer_{}".format(i)] = layer(words if i < 2 else numbers)
        for i, table in enumerate(self.tables):
            found["table_{}".format(i)] = table.lookup(given[table.key_dtype])
        return found


def main() -> None:
    """Writes everything."""
    shutil.rmtree(str(OUT), ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        lookups = Lookups(Path(folder))
        found = lookups(tf.constant(WORDS), tf.constant(NUMBERS, tf.int64))
        path = str(OUT / "module")
        tf.saved_model.save(lookups, path, signatures=lookups.__call__)
    expected: Dict[str, Any] = {"words": WORDS, "numbers": NUMBERS, "found": {}}
    for name, value in found.items():
        items = value.numpy().tolist()
        strings = value.dtype == tf.string
        expected["found"][name] = [i.decode() for i in items] if strings else items
    (OUT / "recorded.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
