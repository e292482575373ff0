"""Each layer of tf_keras and of Keras 3, as TensorFlow 2.21 saves it.

Writes ``tf221_layers/<library>``: a packed SavedModel with two signatures for each
layer, ``Dense_infer`` and ``Dense_train``, a sub-object ``Dense`` with its variables,
and what TensorFlow's own loader computed with it. Run it under TensorFlow 2.21::

    python testdata/scripts/layers.py [keras3|tf_keras]

``expected.npz`` has arrays by ``layer|mode|part|name``; the parts are ``in``, ``out``,
``grad`` (of what tf221_replay.py makes of the outputs, by variable or input) and
``after``, variables that the call has changed. ``facts.json`` says of each layer and
mode ``"same"``, ``"random"`` for numbers that another TensorFlow draws in another way,
or why there is nothing.
"""

from __future__ import annotations

import gzip
import inspect
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Set

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from layer_arguments import ABSTRACT, VARIANTS, arguments  # noqa: E402

OUT = Path(__file__).resolve().parents[1] / "tf221_layers"
SEVERAL = ("MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention")
# Ops whose numbers are others in TF 1.15, also with the same seed.
RANDOM = {"RngReadAndSkip", "StatelessRandomGammaV3"}


class Entry:
    """A layer in one of its configurations.

    Args:
      library: ``keras`` or ``tf_keras``.
      name: the layer's class, and after a space what is special of it.
    """

    def __init__(self, library: Any, name: str) -> None:
        kind = getattr(library.layers, name.split(" ")[0])
        library.utils.set_random_seed(7)
        values, options = arguments(name, library)
        self.layer = kind(**options)
        self.inputs = [tf.constant(value) for value in values]
        self._several = kind.__name__ in SEVERAL
        self.trains = "training" in inspect.signature(self.layer.call).parameters
        self.call(False, *self.inputs)

    def call(self, training: bool, *values: Any) -> Any:
        """Calls the layer."""
        more = dict(training=training) if self.trains else {}
        if self._several:
            return self.layer(*values, **more)
        return self.layer(list(values) if len(values) > 1 else values[0], **more)

    def function(self, training: bool) -> Any:
        """The layer as a function of inputs of any batch size."""
        specs = [
            tf.TensorSpec([None] + t.shape.as_list()[1:], t.dtype, "x{}".format(i))
            for i, t in enumerate(self.inputs)
        ]
        return tf.function(
            lambda *values: self.call(training, *values), input_signature=specs
        )

    def state(self, functions: List[Any]) -> tf.Module:
        """Its variables and tables, without the functions that Keras would save.

        Args:
          functions: its traces; not all that they use can be found from the layer.
        """
        items = [v for function in functions for v in function.graph.variables]
        for item in tf.train.TrackableView(self.layer).descendants():
            if hasattr(item, "_create_resource"):
                items.append(item)
        found = tf.Module()
        for i, item in enumerate({id(item): item for item in items}.values()):
            setattr(found, "s{:02}".format(i), item)
        return found


def ops_in(function: Any) -> Set[str]:
    """All ops of a traced function, also within others."""
    graph = function.graph.as_graph_def()
    nodes = list(graph.node)
    for one in graph.library.function:
        nodes.extend(one.node_def)
    return {node.op for node in nodes}


def key_of(name: str) -> str:
    """A layer's name as that of an attribute."""
    return re.sub(r"\W", "_", name)


def write(label: str, library: Any, names: List[str], folder: Path) -> None:
    """Saves the layers of a library and records what they compute."""
    facts: Dict[str, str] = {}
    module = tf.Module()
    signatures: Dict[str, Any] = {}
    entries: Dict[str, Entry] = {}
    for name in names:
        try:
            entry = Entry(library, name)
            functions, traces = {}, []
            for mode in ("infer", "train") if entry.trains else ("infer",):
                functions[mode] = entry.function(mode == "train")
                traced = functions[mode].get_concrete_function()
                traces.append(traced)
                random = RANDOM & ops_in(traced)
                facts["{}|{}".format(name, mode)] = "random" if random else "same"
        except Exception as error:  # what the layer itself refuses
            facts[name + "|infer"] = "TensorFlow 2.21: " + " ".join(str(error).split())
            continue
        entries[name] = entry
        setattr(module, key_of(name), entry.state(traces))
        for mode, function in functions.items():
            signatures["{}_{}".format(key_of(name), mode)] = function
    shutil.rmtree(str(folder), ignore_errors=True)
    packed = folder / "packed"
    tf.saved_model.save(module, str(packed), signatures=signatures)
    arrays = record(packed, entries, facts)
    pack(packed)
    np.savez_compressed(str(folder / "expected.npz"), **arrays)
    (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(label, len(entries), "layers", len(arrays), "arrays")


def record(
    path: Path, entries: Dict[str, Entry], facts: Dict[str, str]
) -> Dict[str, Any]:
    """What TensorFlow's own loader computes."""
    sys.path.insert(0, str(OUT.parent))
    import layers_replay

    arrays: Dict[str, Any] = {}
    loaded = tf.saved_model.load(str(path))
    for name, entry in entries.items():
        for mode in ("infer", "train"):
            key = "{}|{}".format(name, mode)
            if key not in facts:
                continue
            inputs = {"x{}".format(i): v.numpy() for i, v in enumerate(entry.inputs)}
            # Nobody trains what is before an augmentation of images.
            trains = not name.startswith(
                ("Aug", "CutMix", "Equal", "MixUp", "Rand", "Solar")
            )
            call = layers_replay.Call(key_of(name), mode, inputs, trains)
            try:
                parts = layers_replay.run(loaded, call)
            except (LookupError, ValueError):  # an op, or a loop, without a gradient
                parts = layers_replay.run(loaded, call._replace(gradients=False))
            for part, values in dict(parts, **{"in": inputs}).items():
                for one, value in values.items():
                    value = np.asarray(value)
                    if value.dtype.kind == "O":
                        value = value.astype("S")
                    arrays["|".join((key, part, one))] = value
    return arrays


def pack(path: Path) -> None:
    """Compresses the graph."""
    graph = path / "saved_model.pb"
    with open(str(path / "saved_model.pb.gz"), "wb") as file:
        with gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
            packed.write(graph.read_bytes())
    graph.unlink()
    (path / "fingerprint.pb").unlink()


def names_of(library: Any) -> List[str]:
    """The classes of layers, each once, and their further configurations."""
    seen: Dict[Any, str] = {}
    for name, value in sorted(vars(library.layers).items()):
        if inspect.isclass(value) and issubclass(value, library.layers.Layer):
            if name not in ABSTRACT:
                seen.setdefault(value, name)
    names = list(seen.values())
    return names + [v for v in VARIANTS if hasattr(library.layers, v.split(" ")[0])]


def main(argv: List[str]) -> None:
    """Writes both libraries."""
    import keras
    import tf_keras

    assert tf.__version__.startswith("2.21."), tf.__version__
    for label, library in (("keras3", keras), ("tf_keras", tf_keras)):
        if label in (argv or label):
            write(label, library, names_of(library), OUT / label)


if __name__ == "__main__":
    main(sys.argv[1:])
