"""Where loaded objects are evaluated: eagerly, or in a graph with its session."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "testdata" / "scripts"))

import expected  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf221_replay  # noqa: E402

if tf.__version__.startswith("1."):
    # Where ImageProjectiveTransformV2 is, which TensorFlow 2 has in itself.
    import tensorflow.contrib.image  # noqa: F401


@contextlib.contextmanager
def unoptimized() -> Iterator[None]:
    """Has TensorFlow run graphs and functions as they are, without its optimizer.

    For what runs the same graphs as a test that leaves it on: a third of the time.
    """
    previous = Place.optimized
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    Place.optimized = False
    try:
        yield
    finally:
        Place.optimized = previous
        known = options.get("disable_meta_optimizer", False)
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": known})


class Place:
    """A graph and its session, where variables come up by the global initializer.

    Attributes:
      graph: the graph.
      session: None before anything was run.
      kept: whether tests share it.
      optimized: whether sessions optimise graphs where they are not told.
    """

    optimized = True

    def __init__(self, optimized: bool = True) -> None:
        self.graph = tf.Graph()
        self._config = tf.compat.v1.ConfigProto()
        if not (optimized and Place.optimized):
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
