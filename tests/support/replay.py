"""Replays what was recorded under TF 1.15 on a loaded module, in any runtime.

Used by tests in the process, and as a program that has nothing of hub_compat
in it, which is how TensorFlow's own loaders are tried on converted modules::

    python replay.py object|session CONVERTED_DIR NAME... > results.json

With the name of a check of objects in place of ``object``, it makes that one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

# First: it says where the recorded values are.
from runtimes import Runtime, shared, unoptimized  # isort: skip
import expected
import numpy as np
import tensorflow as tf
from tensorflow.python.saved_model import loader_impl

RELATIVE = 1e-5
GRADIENT_RELATIVE = 1e-4
# Signatures that call a Defun with a gradient function of its own.
REFUSED = {
    ("function_library", "inner_own_gradient"),
    ("function_library", "own_gradient"),
}
UNKNOWN_RANK = {("sparse_ragged", "ragged")}
QINT16_OUTPUT = {("all_dtypes", "default")}


def tensor(value: Any) -> Any:
    """A recorded value as a tensor."""
    if isinstance(value, expected.Bits):
        return tf.bitcast(tf.constant(value.array), tf.as_dtype(value.dtype))
    if isinstance(value, expected.Sparse):
        return tf.SparseTensor(value.indices, tensor(value.values), value.dense_shape)
    if isinstance(value, expected.Ragged):
        return tf.RaggedTensor.from_nested_row_splits(
            tensor(value.values), [tf.constant(s) for s in value.row_splits]
        )
    if isinstance(value, np.ndarray) and value.dtype.kind in "OS":
        return tf.constant(value.tolist(), tf.string, shape=value.shape)
    return tf.constant(value)


def flat(name: str, value: Any) -> Dict[str, Any]:
    """An input under the names that a flattened signature has for it."""
    if isinstance(value, expected.Sparse):
        return {
            name + "_indices": tf.constant(value.indices),
            name + "_values": tensor(value.values),
            name + "_dense_shape": tf.constant(value.dense_shape),
        }
    if isinstance(value, expected.Ragged):
        parts = [tensor(value.values)] + [tf.constant(s) for s in value.row_splits]
        return {"{}_component_{}".format(name, i): p for i, p in enumerate(parts)}
    return {name: tensor(value)}


def flat_expected(name: str, value: Any) -> Dict[str, Any]:
    """A recorded output under the names of a flattened signature."""
    if isinstance(value, expected.Sparse):
        return {
            name + "_indices": value.indices,
            name + "_values": value.values,
            name + "_dense_shape": value.dense_shape,
        }
    if isinstance(value, expected.Ragged):
        parts = [value.values] + list(value.row_splits)
        return {"{}_component_{}".format(name, i): p for i, p in enumerate(parts)}
    return {name: value}


def assert_equal(
    found: Any, wanted: Any, what: str, relative: float = RELATIVE, floor: float = 0.0
) -> None:
    """Compares a value with a recorded one.

    Args:
      found: the value.
      wanted: the recorded one.
      what: what it is, for the error.
      relative: how far apart they may be, in parts of the largest element.
      floor: how far apart they may be in any case.
    """
    if isinstance(wanted, expected.AssetFile):
        path = Path(
            found.decode() if isinstance(found, bytes) else found.item().decode()
        )
        assert path.name == wanted.basename, (what, path)
        assert path.read_bytes() == wanted.contents, (what, path)
        return
    if isinstance(wanted, (expected.Sparse, expected.Ragged)):
        for name, part in flat_expected("", wanted).items():
            assert_equal(_part(found, name), part, what + name, relative)
        return
    if isinstance(wanted, expected.Bits):
        found = np.asarray(found)
        wide = np.asarray(found, dtype=found.dtype)
        assert wide.tobytes() == wanted.array.tobytes(), (what, found, wanted)
        return
    found = np.asarray(found)
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape, (what, found.shape, wanted.shape)
    if wanted.dtype.kind not in "fc":
        assert found.astype(wanted.dtype, copy=False).tolist() == wanted.tolist(), (
            what,
            found,
            wanted,
        )
        return
    assert found.dtype == wanted.dtype, (what, found.dtype, wanted.dtype)
    if wanted.dtype == np.float16:
        relative = max(relative, 2e-3)
    scale = np.max(np.abs(wanted[np.isfinite(wanted)]), initial=0)
    np.testing.assert_allclose(
        found,
        wanted,
        rtol=relative,
        atol=max(relative * float(scale), floor),
        err_msg=what,
    )


def _part(found: Any, name: str) -> Any:
    if isinstance(found, (tf.compat.v1.SparseTensorValue, tuple)) and hasattr(
        found, "indices"
    ):
        return getattr(found, name[1:])
    if isinstance(found, expected.Ragged):
        parts = [found.values] + list(found.row_splits)
    else:  # a RaggedTensorValue of a session
        parts = [found.flat_values] + list(found.nested_row_splits)
    return parts[int(name.rsplit("_", 1)[1])]


# ---- what is checked


def callable_of(variant: Any, recorded: Any, case: Any) -> Optional[Any]:
    """What calls a case's signature: the variant itself, or its sub-object."""
    if case.signature == recorded.callable(case.tags):
        return variant
    return getattr(variant, case.signature, None)


def call(
    function: Any, recorded: Any, case: Any, training: bool, given: Any = ()
) -> Any:
    """Calls a reusable object as the recorded case was called.

    Args:
      function: the object.
      recorded: the module.
      case: the case.
      training: passed on.
      given: tensors to pass for some of the inputs.
    """
    inputs = {name: tensor(value) for name, value in case.inputs.items()}
    inputs.update(given)
    if not inputs:
        return function(training=training)
    everything = {
        name
        for other in recorded.cases
        if other.signature == case.signature
        for name in other.inputs
    }
    if len(everything) == 1:
        (inputs,) = inputs.values()
    return function(inputs, training=training)


def assert_outputs(found: Any, case: Any, what: str) -> None:
    """Compares what a reusable object returned."""
    if "default" in case.outputs:
        assert_equal(found, case.outputs["default"], what)
    elif len(case.outputs) == 1:
        (wanted,) = case.outputs.values()
        assert_equal(found, wanted, what)
    else:
        assert sorted(found) == sorted(case.outputs), (what, sorted(found))
        for name, wanted in case.outputs.items():
            assert_equal(found[name], wanted, what + "/" + name)


def complete(recorded: Any, case: Any) -> bool:
    """Whether a case gives all inputs, as ``signatures`` demands."""
    known = max(len(c.inputs) for c in recorded.cases if c.signature == case.signature)
    return len(case.inputs) == known


def variable_values(runtime: Runtime, loaded: Any, recorded: Any) -> Dict[str, Any]:
    """Values of an object's variables, parts put together again, by name."""
    values = runtime.read(loaded.variables)
    found: Dict[str, List[Any]] = {}
    for variable, value in zip(loaded.variables, values):
        name = variable.name.split(":")[0]
        if name not in recorded.variables:
            # In a graph that has the name already, TensorFlow numbers the second.
            plain = re.sub(r"_\d+$", "", name)
            name = plain if plain in recorded.variables else name
        base = re.sub(r"/part_\d+(?=/|$)", "", name)
        whole = base if base in recorded.variables else name
        found.setdefault(whole, []).append(value)
    merged = {}
    for name, parts in found.items():
        shape = np.shape(
            getattr(recorded.variables[name], "array", recorded.variables[name])
        )
        axis = next((i for i, n in enumerate(np.shape(parts[0])) if n != shape[i]), 0)
        merged[name] = parts[0] if len(parts) == 1 else np.concatenate(parts, axis)
    return merged


def check_variables(recorded: Any, load: Callable[..., Any]) -> None:
    """Every variable is there, once, with the checkpoint's value."""
    with Runtime(lambda: load(())) as runtime:
        names = [v.name for v in runtime.loaded.variables]
        assert len(set(names)) == len(names), names
        found = variable_values(runtime, runtime.loaded, recorded)
        assert sorted(found) == sorted(recorded.variables), sorted(
            set(found) ^ set(recorded.variables)
        )
        for name, value in found.items():
            assert_equal(value, recorded.variables[name], name, relative=0)
        trainable = {
            re.sub(r"/part_\d+(?=/|$)", "", v.name.split(":")[0])
            for v in runtime.loaded.trainable_variables
        }
        known = {n for v in recorded.variants.values() for n in v.trainable}
        assert trainable <= known, (trainable, known)
        variant = recorded.variants.get(("train",), recorded.variants[recorded.root])
        assert trainable >= set(variant.trainable), (trainable, variant.trainable)
        assert all(v.trainable for v in runtime.loaded.trainable_variables)


def check_signatures(recorded: Any, load: Callable[..., Any]) -> None:
    """``signatures[name]`` of every variant gives the recorded outputs."""
    for tags in recorded.variants:
        with Runtime(functools.partial(load, tags)) as runtime:
            cases = [c for c in recorded.cases if c.tags == tags]
            cases = [c for c in cases if complete(recorded, c)]
            signatures = runtime.loaded.signatures
            # All in one step: each step of a session looks at all of the graph.
            found = runtime.run(
                [signatures[case.signature](**flat_inputs(case)) for case in cases]
            )
        for case, outputs in zip(cases, found):
            wanted = case.outputs
            assert sorted(outputs) == sorted(wanted), (case.id, sorted(outputs))
            if case.deterministic:
                for name, value in wanted.items():
                    assert_equal(outputs[name], value, case.id + "/" + name)


def check_calls(recorded: Any, load: Callable[..., Any]) -> None:
    """The objects and sub-objects give the recorded outputs."""
    for tags in recorded.variants:
        with Runtime(functools.partial(load, tags)) as runtime:
            calls = []
            for case in recorded.cases:
                function = callable_of(runtime.loaded, recorded, case)
                if case.tags == tags and function is not None:
                    calls.append((case, call(function, recorded, case, False)))
            found = runtime.run([outputs for _, outputs in calls])
        for (case, _), outputs in zip(calls, found):
            if case.deterministic:
                assert_outputs(outputs, case, case.id)


def check_training_calls(recorded: Any, load: Callable[..., Any]) -> None:
    """``training=True`` of the module runs the graph of the variant {"train"}."""
    root = recorded.root
    wanted = ("train",) if ("train",) in recorded.variants else root
    defaults = {case.signature for case in recorded.cases if case.tags == root}
    for case in recorded.cases:
        if case.tags != wanted or case.signature not in defaults:
            continue
        # Loaded for each: the updates change the variables.
        with Runtime(lambda: load(())) as runtime:
            function = callable_of(runtime.loaded, recorded, case)
            if function is None:
                continue
            found = runtime.run(call(function, recorded, case, True))
            if case.deterministic:
                assert_outputs(found, case, case.id)
            values = variable_values(runtime, runtime.loaded, recorded)
            for name, value in values.items():
                after = case.updated.get(name, recorded.variables[name])
                assert_equal(value, after, "{} after {}".format(name, case.id))


def check_losses(recorded: Any, load: Callable[..., Any]) -> None:
    """``regularization_losses`` of every variant are the recorded ones."""
    for tags in recorded.variants:
        # The module itself is trained as its variant for training.
        own = tags
        if tags == recorded.root and ("train",) in recorded.variants:
            own = ("train",)
        cases = [case for case in recorded.cases if case.tags == own]
        with Runtime(functools.partial(load, tags)) as runtime:
            found = runtime.run(
                [loss() for loss in runtime.loaded.regularization_losses]
            )
            for case in cases:
                wanted = [np.asarray(w, np.float32) for w in case.regularization_losses]
                assert len(found) == len(wanted), (case.id, found, wanted)
                for one, other in zip(found, wanted):
                    assert_equal(np.asarray(one, np.float32), other, case.id)


def check_gradients(recorded: Any, load: Callable[..., Any]) -> None:
    """Gradients of every variable and input are the recorded ones."""
    for tags in recorded.variants:
        cases = [
            case
            for case in recorded.cases
            if case.tags == tags and case.gradient_of and case.deterministic
        ]
        cases = [case for case in cases if complete(recorded, case)]
        with Runtime(functools.partial(load, tags)) as runtime:
            built = [
                (case, _gradients_or_why(runtime, recorded, case)) for case in cases
            ]
            built = [(case, tensors) for case, tensors in built if tensors is not None]
            tensors = [tensor for _, tensors in built for tensor in tensors]
            values = iter(runtime.run_all(tensors))
            variables = list(runtime.loaded.trainable_variables)
        for case, tensors in built:
            _assert_gradients(
                recorded, case, variables, [next(values) for _ in tensors]
            )


def _gradients_or_why(runtime: Runtime, recorded: Any, case: Any) -> Optional[Any]:
    """The gradients of a case as tensors; None where it is known why there are none."""
    what = recorded.name, case.signature
    try:
        found = _gradients_of_case(runtime, recorded, case)
    except TypeError:
        # TF 1.15 has no gradient of UnsortedSegmentSum for an input whose rank it
        # does not know.
        assert tf.__version__.startswith("1.")
        assert what in UNKNOWN_RANK
    except SystemError:
        # Eagerly, TF 1.15 fills an output's gradient with zeros, and has no kernel
        # to do so for qint16.
        assert tf.__version__.startswith("1.")
        assert what in QINT16_OUTPUT
    except LookupError as error:
        # A gradient that TensorFlow 2 would get wrong.
        assert what in REFUSED, error
        assert "hub_compat: node" in str(error)
    else:
        assert what not in REFUSED
        return found
    return None


def differentiated(
    loaded: Any, recorded: Any, case: Any, inputs: Dict[str, Any]
) -> Any:
    """The output of which the gradient was recorded."""
    dense = {name: inputs[name] for name in case.inputs if name in inputs}
    function = callable_of(loaded, recorded, case)
    if case.gradient_of == "default" and function is not None:
        return call(function, recorded, case, False, dense)
    return loaded.signatures[case.signature](**inputs)[case.gradient_of]


def weighted(
    loaded: Any, recorded: Any, case: Any, inputs: Dict[str, Any]
) -> Callable[[], Any]:
    """The scalar of which the gradients were recorded."""
    weights = expected.weights_like(np.asarray(case.outputs[case.gradient_of]))

    def value() -> Any:
        output = differentiated(loaded, recorded, case, inputs)
        return tf.reduce_sum(output * tf.cast(tf.constant(weights), output.dtype))

    return value


def flat_inputs(case: Any) -> Dict[str, Any]:
    """A case's inputs as tensors, by flattened names."""
    inputs: Dict[str, Any] = {}
    for name, value in case.inputs.items():
        inputs.update(flat(name, value))
    return inputs


def check_gradients_of_case(runtime: Runtime, recorded: Any, case: Any) -> None:
    """Gradients of a call are the recorded ones."""
    found = runtime.run_all(_gradients_of_case(runtime, recorded, case))
    variables = list(runtime.loaded.trainable_variables)
    _assert_gradients(recorded, case, variables, found)


def _gradients_of_case(runtime: Runtime, recorded: Any, case: Any) -> List[Any]:
    """Gradients of the variables and then of the inputs, as tensors."""
    inputs = flat_inputs(case)
    sources = list(runtime.loaded.trainable_variables)
    sources += [inputs[name] for name in _dense_inputs(case)]
    return runtime.differentiate(
        weighted(runtime.loaded, recorded, case, inputs), sources
    )


def _dense_inputs(case: Any) -> List[str]:
    """Inputs with a recorded gradient that are one tensor."""
    return [n for n in case.input_gradients if n in flat(n, case.inputs[n])]


def _assert_gradients(
    recorded: Any, case: Any, variables: List[Any], found: List[Any]
) -> None:
    # What is zero but for rounding (a bias before a batch norm) comes out as
    # other noise of the same size in every runtime.
    largest = [
        np.max(np.abs(g), initial=0)
        for g in list(case.gradients.values()) + list(case.input_gradients.values())
        if g is not None
    ]
    floor = 1e-6 * float(max(largest, default=0))
    for name, value in zip(_dense_inputs(case), found[len(variables) :]):
        _assert_gradient(value, case.input_gradients[name], case.id + "/" + name, floor)
    parts: Dict[str, List[Any]] = {}
    for variable, value in zip(variables, found):
        name = variable.name.split(":")[0]
        base = re.sub(r"/part_\d+(?=/|$)", "", name)
        name = base if base in recorded.variables else name
        parts.setdefault(name, []).append((variable, value))
    for name, wanted in case.gradients.items():
        pieces = parts[name]
        if all(value is None for _, value in pieces):
            _assert_gradient(None, wanted, case.id + "/" + name, floor)
            continue
        filled = [
            np.zeros(variable.shape.as_list(), variable.dtype.base_dtype.as_numpy_dtype)
            if value is None
            else value
            for variable, value in pieces
        ]
        shape = np.shape(recorded.variables[name])
        axis = next((i for i, n in enumerate(filled[0].shape) if n != shape[i]), 0)
        whole = filled[0] if len(filled) == 1 else np.concatenate(filled, axis)
        _assert_gradient(whole, wanted, case.id + "/" + name, floor)


def _assert_gradient(
    found: Optional[Any], wanted: Optional[Any], what: str, floor: float
) -> None:
    """Compares gradients; no gradient is a gradient of zero."""
    if wanted is None:
        assert found is None or not np.any(found), (what, found)
    elif found is None:
        assert not np.any(wanted), (what, wanted)
    else:
        assert_equal(found, wanted, what, GRADIENT_RELATIVE, floor)


OBJECT_CHECKS = {
    "variables": check_variables,
    "signatures": check_signatures,
    "calls": check_calls,
    "training": check_training_calls,
    "losses": check_losses,
    "gradients": check_gradients,
}


def check_session(recorded: Any, directory: str) -> None:
    """The v1 session loader gives the recorded outputs of the root variant."""
    loader = loader_impl.SavedModelLoader(directory)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        # As tf.compat.v1.saved_model.load() does, but with the graph made once.
        saver, _ = loader.load_graph(graph, ["serve"])
        meta_graph = loader.get_meta_graph_def_from_tags(["serve"])
        for case in recorded.cases:
            if case.tags != recorded.root or not complete(recorded, case):
                continue
            loader.restore_variables(session, saver)
            loader.run_init_ops(session, ["serve"])
            signature = meta_graph.signature_def[case.signature]
            feeds = {}
            for name, value in case.inputs.items():
                for key, part in flat_feed(name, value).items():
                    feeds[signature.inputs[key].name] = part
            wanted = {}
            for name, value in case.outputs.items():
                wanted.update(flat_expected(name, value))
            assert sorted(signature.outputs) == sorted(wanted)
            found = session.run(
                {key: signature.outputs[key].name for key in wanted}, feeds
            )
            if case.deterministic:
                for key, value in wanted.items():
                    assert_equal(found[key], value, case.id + "/" + key)


def flat_feed(name: str, value: Any) -> Dict[str, Any]:
    """An input as numpy arrays under the names of a flattened signature."""
    return flat_expected(name, value)


def plain_load(directory: str) -> Callable[..., Any]:
    """TensorFlow's own loader, and variants by their attribute."""

    def load(tags: Any) -> Any:
        root = tf.compat.v1.saved_model.load_v2(directory)
        variants = getattr(root, "graph_variants", {})
        if ",".join(tags) not in variants:
            return root
        variant = variants[",".join(tags)]
        object.__setattr__(variant, "kept", root)
        return variant

    return load


def main(mode: str, converted: str, names: List[str]) -> None:
    """Checks converted modules in this process; prints JSON results."""
    if mode != "session" and os.environ.get("HUB_COMPAT_TEST_MODE") == "eager":
        tf.compat.v1.enable_v2_behavior()
    if tf.__version__.startswith("1."):
        # TF 1.15 has the gradients of While and If only once these are imported.
        # hub_compat does, which is not in this process.
        from tensorflow.python.ops import cond_v2, while_v2  # noqa: F401
    results: Dict[str, Dict[str, str]] = {}
    for name in names:
        recorded = expected.load_expected(name)
        directory = os.path.join(converted, name)
        checks: Dict[str, Callable[[], None]] = {}
        if mode == "session":
            checks["session"] = functools.partial(check_session, recorded, directory)
        else:
            for key, check in OBJECT_CHECKS.items():
                if mode not in ("object", key):
                    continue
                load = shared(directory, plain_load(directory))
                checks[key] = functools.partial(check, recorded, load)
        for key, run in checks.items():
            try:
                # What test_modules.py loads is the same, and optimised.
                with contextlib.nullcontext() if mode == "session" else unoptimized():
                    run()
                results.setdefault(name, {})[key] = "ok"
            except Exception:
                results.setdefault(name, {})[key] = traceback.format_exc()
    assert not any(m.split(".")[0] == "hub_compat" for m in sys.modules)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
