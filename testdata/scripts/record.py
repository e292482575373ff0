"""Records what a TF1 Hub module or SavedModel does under its original runtime.

A program of its own, because functions and gradients that were registered when a
module was built would be at hand in that process, and nowhere else::

    python record.py DEFINITIONS DIRECTORY NAME...

It runs ``DIRECTORY/NAME/module`` in a ``tf.Session``, as ``hub.Module`` or loaded by
tags, and writes ``expected.json`` and ``expected.npz`` next to it. ``DEFINITIONS`` is
the Python module that defines them. Needs the TensorFlow that wrote them, 1.15 or
2.15, and a tensorflow_hub that has ``hub.Module``.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any, Dict, List, Mapping

import numpy as np
import tensorflow.compat.v1 as tf
import tensorflow_hub as hub
from apply import (
    Applied,
    apply_with_hub,
    apply_with_loader,
    apply_with_session,
    runnable_updates,
    trainable_parts,
)
from define import Call, Definition, session_config, variable_parts
from expected import STEP
from summary import check_case, describe_case
from tensorflow.python.ops import while_v2  # noqa: F401, the gradient of While
from tensorflow.python.saved_model import loader_impl
from tensorflow_hub import saved_model_lib


class Archive:
    """The arrays that go into ``expected.npz``."""

    def __init__(self) -> None:
        self.arrays: Dict[str, np.ndarray] = {}

    def encode(self, key: str, value: Any) -> Any:
        """The JSON form of what a session returned or takes.

        Args:
          key: the name of the array in the archive.
          value: a NumPy array or scalar, bytes, or the value of a composite.

        Returns:
          What README.md calls a value.
        """
        if isinstance(value, tf.SparseTensorValue):
            return {
                "sparse": {
                    part: self.encode("{}/{}".format(key, part), getattr(value, part))
                    for part in ("indices", "values", "dense_shape")
                }
            }
        if isinstance(value, tf.ragged.RaggedTensorValue):
            splits = value.nested_row_splits
            return {
                "ragged": {
                    "values": self.encode(key + "/values", value.flat_values),
                    "row_splits": [
                        self.encode("{}/row_splits/{}".format(key, index), split)
                        for index, split in enumerate(splits)
                    ],
                }
            }
        array = np.asarray(value)
        dtype = "string" if array.dtype.kind in "OS" else tf.as_dtype(array.dtype).name
        if dtype == "string":
            rows = [bytes(row) for row in array.ravel()] if array.ndim else [value]
            if any(row.endswith(b"\0") for row in rows):
                raise ValueError("NumPy strips trailing zeros of {}".format(key))
            array = np.array(rows, dtype="S").reshape(array.shape)
        elif dtype == "bfloat16":
            array = array.view(np.uint16)
        elif array.dtype.names:
            # Quantized types: NumPy has them as structures of one field.
            array = array.view(array.dtype[0])
        if key in self.arrays:
            raise ValueError("Two values are called {}".format(key))
        self.arrays[key] = array
        return {"npz": key, "dtype": dtype}


def _whole(parts: List[Any]) -> Any:
    """The parts of a variable, put together again.

    tensorflow_hub only knows variables that are partitioned by rows.
    """
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=0)


def _read(applied: Applied, session: tf.Session) -> Dict[str, np.ndarray]:
    values = {
        name: [part.read_value() for part in parts]
        for name, parts in variable_parts(applied.variables)
    }
    if not values:
        return {}
    return {name: _whole(parts) for name, parts in session.run(values).items()}


def _gradients(applied: Applied, call: Call, output: Any, shape: Any) -> Any:
    """Tensors of the gradients, in parts: by variable, and by input."""
    size = int(np.prod(shape, dtype=np.int64))
    weights = np.cos(np.arange(size, dtype=np.float64)).reshape(shape)
    weighted = tf.reduce_sum(output * tf.constant(weights, output.dtype))
    inputs = {
        name: feed
        for name, feed in applied.feeds.items()
        if name in call.inputs
        and isinstance(feed, tf.Tensor)
        and feed.dtype.is_floating
    }
    sources = {name: list(parts) for name, parts in applied.trainable.items()}
    flat = [part for name in sorted(sources) for part in sources[name]]
    flat += [inputs[name] for name in sorted(inputs)]
    found = iter(tf.gradients(weighted, flat) if flat else [])
    dense = [None if g is None else tf.convert_to_tensor(g) for g in found]
    left = iter(dense)
    by_variable = {
        name: [next(left) for _ in sources[name]] for name in sorted(sources)
    }
    return by_variable, {name: [next(left)] for name in sorted(inputs)}


def _step(applied: Applied, gradients: Mapping[str, List[Any]]) -> Any:
    """An op that takes one step of gradient descent with all trainable variables."""
    pairs = [
        (gradient, part)
        for name, parts in applied.trainable.items()
        for gradient, part in zip(gradients[name], parts)
        if gradient is not None
    ]
    # Without it, some references would be read after others have been assigned.
    ready = tf.tuple([gradient for gradient, _ in pairs])
    pairs = [(gradient, part) for gradient, (_, part) in zip(ready, pairs)]
    return tf.train.GradientDescentOptimizer(STEP).apply_gradients(pairs)


def _run_gradients(
    session: tf.Session, tensors: Dict[str, List[Any]], feed: Any
) -> Dict[str, List[Any]]:
    """Runs what there is of gradients; the rest stays None."""
    left = [part for parts in tensors.values() for part in parts if part is not None]
    values = iter(session.run(left, feed))
    return {
        name: [None if part is None else next(values) for part in parts]
        for name, parts in tensors.items()
    }


def _whole_gradient(parts: List[Any], of: List[Any]) -> Any:
    """One variable's gradient; None where there is none."""
    if all(part is None for part in parts):
        return None
    zeros = [np.zeros(v.shape.as_list(), v.dtype.as_numpy_dtype) for v in of]
    return _whole([zero if p is None else p for p, zero in zip(parts, zeros)])


def _output(archive: Archive, key: str, value: Any, path: Path) -> Any:
    """An output's value; a path below the module's assets is recorded as a file."""
    assets = str(path / "assets") + "/"
    if isinstance(value, bytes) and value.startswith(assets.encode("utf-8")):
        contents = Path(value.decode("utf-8")).read_bytes()
        return {
            "asset": value.decode("utf-8")[len(assets) :],
            "contents": base64.b64encode(contents).decode("ascii"),
        }
    return archive.encode(key, value)


def record_call(archive: Archive, key: str, path: Path, call: Call) -> Dict[str, Any]:
    """Runs one call.

    Outputs, gradients and updates are each run in a new session, so that all of
    them start from the values of the checkpoint.

    Args:
      archive: takes the arrays.
      key: begins the names of the arrays.
      path: the module.
      call: what to run.

    Returns:
      The case, as it goes into ``expected.json``.
    """
    with tf.Graph().as_default():
        with_hub = is_hub_module(path)
        if with_hub:
            spec = hub.load_module_spec(str(path))
            declared = spec.get_input_info_dict(call.signature, set(call.tags))
            with_hub = set(declared) == set(call.inputs)
            applied = (apply_with_hub if with_hub else apply_with_session)(path, call)
        else:
            applied = apply_with_loader(path, call)
        feed = {applied.feeds[name]: value for name, value in call.inputs.items()}

        with tf.Session(config=session_config()) as session:
            applied.start(session)
            losses = session.run(applied.losses)
            outputs = session.run(applied.outputs, feed)

        gradients: Dict[str, Any] = {}
        input_gradients: Dict[str, Any] = {}
        if call.gradient_of:
            shape = np.shape(outputs[call.gradient_of])
            output = applied.outputs[call.gradient_of]
            variables, inputs = _gradients(applied, call, output, shape)
            with tf.Session(config=session_config()) as session:
                applied.start(session)
                for name, parts in _run_gradients(session, variables, feed).items():
                    gradients[name] = _whole_gradient(parts, applied.trainable[name])
                for name, parts in _run_gradients(session, inputs, feed).items():
                    (input_gradients[name],) = parts

        stepped: Dict[str, Any] = {}
        if any(g is not None for g in gradients.values()):
            step = _step(applied, variables)
            with tf.Session(config=session_config()) as session:
                applied.start(session)
                session.run(step, feed)
                stepped[call.gradient_of] = session.run(output, feed)

        updated: Dict[str, Any] = {}
        updates = runnable_updates(applied, call.inputs)
        if updates:
            with tf.Session(config=session_config()) as session:
                applied.start(session)
                before = _read(applied, session)
                session.run(updates, feed)
                after = _read(applied, session)
            for name, value in after.items():
                if value.tobytes() != before[name].tobytes():
                    updated[name] = value

    def encode(kind: str, values: Mapping[str, Any]) -> Dict[str, Any]:
        return {
            name: None
            if value is None
            else archive.encode("/".join([key, kind, name]), value)
            for name, value in sorted(values.items())
        }

    case = {
        "tags": sorted(call.tags),
        "signature": call.signature,
        "inputs": encode("inputs", call.inputs),
        "outputs": {
            name: _output(archive, "{}/outputs/{}".format(key, name), value, path)
            for name, value in sorted(outputs.items())
        },
        "gradient_of": call.gradient_of,
        "gradients": encode("gradients", gradients),
        "input_gradients": encode("input_gradients", input_gradients),
        "regularization_losses": [float(loss) for loss in losses],
        "stepped": encode("stepped", stepped),
        "updated": encode("updated", updated),
        "deterministic": call.deterministic,
        "recorded_with": "hub.Module" if with_hub else "tf.Session",
    }
    check_case(key, case, outputs, gradients, input_gradients)
    return case


def is_hub_module(path: Path) -> bool:
    """Whether a directory holds a TF1 Hub module."""
    return (path / "tfhub_module.pb").exists()


def record_saved_model(
    archive: Archive, definition: Definition, path: Path
) -> Dict[str, Any]:
    """Variants and variables of a TF1 SavedModel, as its loader restores them."""
    variants: Dict[str, Any] = {}
    values: Dict[str, Any] = {}
    for tags in sorted({call.tags for call in definition.calls}):
        (call,) = [c for c in definition.calls if c.tags == tags][:1]
        with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
            applied = apply_with_loader(path, call)
            applied.start(session)
            values.update(_read(applied, session))
            variants[",".join(sorted(tags))] = {
                "trainable": sorted(applied.trainable),
                "variables": sorted(applied.variables),
                "attached": {},
            }
    encoded = {n: archive.encode("variables/" + n, values[n]) for n in sorted(values)}
    return {"variables": encoded, "variants": variants}


def record_variant(path: Path, tags: Any) -> Dict[str, Any]:
    """The names of a variant's variables, and its attached messages."""
    with tf.Graph().as_default():
        module = hub.Module(str(path), trainable=True, tags=set(tags))
        variables = sorted(module.variable_map)
        trainable = sorted(trainable_parts(module.variable_map))
    meta_graph = saved_model_lib.load(str(path)).get_meta_graph(set(tags))
    attached = saved_model_lib.get_attached_bytes_map(meta_graph)
    return {
        "trainable": trainable,
        "variables": variables,
        "attached": {
            key: base64.b64encode(value).decode("ascii")
            for key, value in sorted(attached.items())
        },
    }


def record_variables(archive: Archive, path: Path) -> Dict[str, Any]:
    """Everything that the checkpoint holds, partitioned variables in one piece."""
    prefix = saved_model_lib.get_variables_path(str(path)).decode("utf-8")
    if not Path(prefix + ".index").exists():
        return {}
    reader = tf.train.load_checkpoint(prefix)
    return {
        name: archive.encode("variables/" + name, reader.get_tensor(name))
        for name in sorted(reader.get_variable_to_shape_map())
    }


def record_module(definition: Definition, root: Path) -> List[str]:
    """Writes ``expected.json`` and ``expected.npz`` of one module.

    Args:
      definition: the module, which is on disk by now.
      root: the directory of all test modules.

    Returns:
      Lines for the summary, one per case.
    """
    folder = root / definition.name
    path = folder / "module"
    archive = Archive()
    document: Dict[str, Any] = {
        "module": definition.name,
        "producer": {"tensorflow": tf.__version__, "tensorflow_hub": hub.__version__},
        "why": definition.why,
    }
    if is_hub_module(path):
        spec = hub.load_module_spec(str(path))
        tag_sets = sorted(sorted(tags) for tags in spec.get_tags())
        document["variables"] = record_variables(archive, path)
        document["variants"] = {
            ",".join(tags): record_variant(path, tags) for tags in tag_sets
        }
    else:
        document.update(record_saved_model(archive, definition, path))
    cases = [
        record_call(archive, "cases/{}".format(index), path, call)
        for index, call in enumerate(definition.calls)
    ]
    document["cases"] = cases
    _check_covered(definition, path)
    text = json.dumps(document, indent=1, sort_keys=True)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")
    np.savez_compressed(str(folder / "expected.npz"), **archive.arrays)
    return [describe_case(definition.name, case, archive.arrays) for case in cases]


def _check_covered(definition: Definition, path: Path) -> None:
    called = {(tuple(sorted(call.tags)), call.signature) for call in definition.calls}
    there = {
        (tuple(sorted(meta_graph.meta_info_def.tags)), name)
        for meta_graph in loader_impl.parse_saved_model(str(path)).meta_graphs
        for name in meta_graph.signature_def
        if not name.startswith("__saved_model_") and name not in definition.left_out
    }
    if called != there:
        raise ValueError(
            "{}: not called, or not there: {}".format(definition.name, called ^ there)
        )


def main(argv: List[str]) -> int:
    """Records the modules that are named."""
    tf.logging.set_verbosity(tf.logging.ERROR)
    # Gradients of lookups are made dense, which TensorFlow warns of.
    warnings.simplefilter("ignore")
    tf.disable_v2_behavior()
    module = importlib.import_module(argv[0])
    root = Path(argv[1]).resolve()
    for definition in module.DEFINITIONS + getattr(module, "LARGE", ()):
        if definition.name in argv[2:]:
            print("\n".join(record_module(definition, root)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
