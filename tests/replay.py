"""Replays what was recorded under TF 1.15 on a loaded module, in any runtime.

Used by tests in the process, and as a program that has nothing of hub_compat
in it, which is how TensorFlow's own loaders are tried on converted modules::

    python replay.py object|session CONVERTED_DIR NAME... > results.json

With the name of a check of objects in place of ``object``, it makes that one.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "testdata"))

import expected  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf221_replay  # noqa: E402

if tf.__version__.startswith("1."):
    # Where ImageProjectiveTransformV2 is, which TensorFlow 2 has in itself.
    import tensorflow.contrib.image  # noqa: F401

RELATIVE = 1e-5
GRADIENT_RELATIVE = 1e-4
# Signatures that call a Defun with a gradient function of its own.
REFUSED = {
    ("function_library", "inner_own_gradient"),
    ("function_library", "own_gradient"),
}
UNKNOWN_RANK = {("sparse_ragged", "ragged")}
QINT16_OUTPUT = {("all_dtypes", "default")}


class Place:
    """A graph and its session, where variables come up by the global initializer.

    Attributes:
      graph: the graph.
      session: None before anything was run.
      kept: whether tests share it.
    """

    # Whether TensorFlow optimises graphs before it runs them.
    optimizes = True

    def __init__(self, optimized: bool = True) -> None:
        self.graph = tf.Graph()
        self._config = tf.compat.v1.ConfigProto()
        if not (self.optimizes and optimized):
            self._config.graph_options.rewrite_options.disable_meta_optimizer = True
        self.session: Any = None
        self.kept = False
        self._initializers: Any = None
        self._reads: Dict[Any, Any] = {}

    def run(self, structure: Any) -> Any:
        """The values of a structure of tensors; variables come up before the first."""
        if self.session is None:
            # Variables are read through the session below, so all the ops of
            # the initializers exist by now.
            self._initializers = [
                tf.compat.v1.global_variables_initializer(),
                tf.compat.v1.tables_initializer(),
            ]
            self.session = tf.compat.v1.Session(graph=self.graph, config=self._config)
            self.reset()
        return self.session.run(structure)

    def read(self, variables: List[Any]) -> Any:
        """The values of variables; a session prepares for the same tensors once."""
        key = tuple(map(id, variables))
        if key not in self._reads:
            # With the variables, so that no other gets the number of one of them.
            reads = [variable.read_value() for variable in variables]
            self._reads[key] = list(variables), reads
        return self.run(self._reads[key][1])

    def reset(self) -> None:
        """Gives variables and tables their first values."""
        if self.session is not None:
            self.session.run(self._initializers)

    def close(self) -> None:
        """Lets go of the session."""
        if self.session is not None:
            self.session.close()


def without_optimizer() -> None:
    """Has this process run graphs and functions as they are.

    As a program does that compares again what another has compared: an optimizer may
    hide what is wrong, or make it so, and takes a quarter of the time.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    Place.optimizes = False


class Runtime:
    """A loaded object, and the way to evaluate tensors in this runtime.

    Eager, or a graph with a session, of its own or that of ``shared``.

    Args:
      load: what loads the object.
      optimized: whether a session optimises the graph before it runs it.
    """

    _innermost: List[Runtime] = []

    def __init__(self, load: Callable[[], Any], optimized: bool = True) -> None:
        self._load, self._optimized = load, optimized
        self._place: Any = None

    def __enter__(self) -> Runtime:
        self._known = _gradients_of_functions()
        self._innermost.append(self)
        if not tf.executing_eagerly():
            self._enter(Place(self._optimized))
        try:
            self.loaded = self._load()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _enter(self, place: Place) -> None:
        self._place = place
        self._context = place.graph.as_default()
        self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._innermost.remove(self)
        if self._place is not None:
            self._context.__exit__(*error)
            if self._place.kept:
                # A function that was called is not registered again.
                _Shared.gradients |= _gradients_of_functions() - self._known
            else:
                self._place.close()
        _forget_gradients(self._known)

    @classmethod
    def place(cls) -> Place:
        """Where the innermost of them is."""
        place: Place = cls._innermost[-1]._place
        return place

    @classmethod
    def move(cls, place: Place) -> None:
        """Has the innermost of them, that has loaded nothing yet, go elsewhere."""
        runtime = cls._innermost[-1]
        runtime._context.__exit__(None, None, None)
        runtime._enter(place)

    @property
    def eager(self) -> bool:
        """Whether operations run when they are called."""
        return self._place is None

    def run(self, structure: Any) -> Any:
        """The values of a structure of tensors, as numpy has them."""
        if self._place is None:
            return tf.nest.map_structure(_numpy, structure)
        return self._place.run(structure)

    @property
    def session(self) -> Any:
        """The session; None in eager execution."""
        return None if self._place is None else self._place.session

    def read(self, variables: List[Any]) -> List[Any]:
        """The values of variables."""
        if self._place is None:
            return self.run([v.read_value() for v in variables])
        return self._place.read(variables)

    def gradients(
        self, function: Callable[[], Any], sources: List[Any]
    ) -> List[Optional[Any]]:
        """Gradients of a scalar; None where there is none."""
        found: List[Optional[Any]] = self.run_all(self.differentiate(function, sources))
        return found

    def run_all(self, tensors: List[Optional[Any]]) -> List[Optional[Any]]:
        """The values of tensors; None of None."""
        values = iter(self.run([t for t in tensors if t is not None]))
        return [None if t is None else next(values) for t in tensors]

    def differentiate(
        self, function: Callable[[], Any], sources: List[Any]
    ) -> List[Optional[Any]]:
        """Gradients of a scalar, as tensors; None where there is none."""
        if self._place is None:
            with tf.GradientTape() as tape:
                for source in sources:
                    tape.watch(source)
                value = function()
            found = tape.gradient(value, sources)
        else:
            found = tf.gradients(function(), sources)
        return [None if g is None else tf.convert_to_tensor(g) for g in found]


def _gradient_registry() -> Dict[str, Any]:
    from tensorflow.python.framework import ops

    registry = getattr(ops, "gradient_registry", None) or ops._gradient_registry
    return registry._registry


def _gradients_of_functions() -> Set[str]:
    return {n for n in _gradient_registry() if n.startswith("PartitionedCall-")}


def _forget_gradients(known: Set[str]) -> None:
    """Lets go of functions that were loaded since, but for those that tests share.

    TensorFlow registers a gradient for each, and nothing takes it away again: a
    process that runs the whole suite under 1.15 would need more than 10 GB.
    """
    for name in _gradients_of_functions() - known - _Shared.gradients:
        del _gradient_registry()[name]


class _Shared:
    """The objects of the module that tests are about, each loaded once.

    Attributes:
      of: what they are of.
      objects: by tags, the object, its variables and their values; or, of a graph,
        the object and its place.
      gradients: of their functions.
    """

    of: Any = None
    objects: Dict[Any, Any] = {}
    gradients: Set[str] = set()

    @classmethod
    def change(cls, of: Any) -> None:
        """Lets go of the objects of another thing."""
        if of == cls.of:
            return
        for _, place in cls.objects.values() if not tf.executing_eagerly() else ():
            place.close()
        cls.of, cls.objects, cls.gradients = of, {}, set()


def shared(of: Any, load: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A way to load that gives an object a second time, with its first values.

    In a graph it comes with that graph and its session. For a ``Runtime``.

    Args:
      of: what is loaded; objects of another thing are let go of.
      load: from tags.
    """

    def in_graph(tags: Any) -> Any:
        _Shared.change(of)
        key = tuple(tags or ())
        if key in _Shared.objects:
            loaded, place = _Shared.objects[key]
            Runtime.move(place)
            place.reset()
            return loaded
        place = Runtime.place()
        loaded = load(tags)
        place.kept = True
        _Shared.objects[key] = loaded, place
        return loaded

    def again(tags: Any) -> Any:
        _Shared.change(of)
        key = tuple(tags or ())
        if key not in _Shared.objects:
            known = _gradients_of_functions()
            loaded = load(tags)
            variables = list(getattr(loaded, "_local_variables", ()))
            variables += tf221_replay.variables_of(loaded).values()
            values = [v.read_value() for v in variables]
            _Shared.objects[key] = loaded, variables, values
            _Shared.gradients |= _gradients_of_functions() - known
        loaded, variables, values = _Shared.objects[key]
        for variable, value in zip(variables, values):
            variable.assign(value)
        return loaded

    return again if tf.executing_eagerly() else in_graph


def _numpy(value: Any) -> Any:
    if isinstance(value, (tf.Tensor, tf.Variable)):
        return value.numpy()
    if isinstance(value, tf.SparseTensor):
        return tf.compat.v1.SparseTensorValue(
            value.indices.numpy(), value.values.numpy(), value.dense_shape.numpy()
        )
    if isinstance(value, tf.RaggedTensor):
        splits = [s.numpy() for s in value.nested_row_splits]
        return expected.Ragged(value.flat_values.numpy(), tuple(splits))
    return value


# ---- recorded values as tensors, and back


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
        if value is None and len(parts.get(name, [])) == 0:
            value = None
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
    for case in recorded.cases:
        if case.tags != recorded.root or not complete(recorded, case):
            continue
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], directory)
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
    if mode != "session":
        without_optimizer()
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
                run()
                results.setdefault(name, {})[key] = "ok"
            except Exception:
                results.setdefault(name, {})[key] = traceback.format_exc()
    assert not any(m.split(".")[0] == "hub_compat" for m in sys.modules)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
