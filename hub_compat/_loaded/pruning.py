"""Parts of a TF1 module's graph, which callers name by its own tensors.

``prune`` and ``graph`` are what tensorflow_hub's loaded modules have; there the graph
is what runs, here it is looked at, and each part is converted when it is asked for.
"""

from __future__ import annotations

import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from hub_compat._io import files
from hub_compat._loaded.missing_gradients import train_other_outputs
from hub_compat._loaded.signatures import Inputs, as_tensors, maps_of
from hub_compat._tf import meta_graph_pb2, tf
from hub_compat._tf.functions import call_by_tensors, lazy_attribute, own_call
from hub_compat._tf.loading import load_saved_model
from hub_compat._tf.variables import watch_accessed
from hub_compat.errors import ConversionError, HandleError, SignatureError
from hub_compat.formats import Detection

__all__ = ["Pruner", "offer"]

_LISTS = ("variables", "_local_variables", "_tables", "_assets")


def offer(
    loaded: Any, root: Any, detection: Detection, tags: Optional[Tuple[str, ...]]
) -> None:
    """Gives an object what tensorflow_hub gives it: ``prune``, ``graph`` and the like.

    Args:
      loaded: what ``load()`` returns.
      root: the object of all that was converted, with every variable.
      detection: the TF1 module.
      tags: the variant; None for the default one.
    """
    state = {name: list(getattr(root, name, ())) for name in _LISTS}
    pruner = Pruner(detection, tags, state)
    # Not tracked: nothing more is saved.
    for name, value in (
        ("prune", pruner.prune),
        ("asset_paths", state["_assets"]),
        ("initializer", _Initializer(state["_tables"])),
    ):
        object.__setattr__(loaded, name, value)
    lazy_attribute(loaded, "graph", pruner.look)
    for signatures in maps_of(loaded):
        for function in signatures.values():
            function.prune = pruner.prune


class _Initializer:
    """Fills the tables of a module again; in a graph it returns the op for that."""

    def __init__(self, tables: Sequence[Any]) -> None:
        self._tables = tables

    def __call__(self) -> Any:
        return tf.group(*[table._initialize() for table in self._tables])

    _initialize = __call__


# A pruned function, from names to a call:
#
#     names of tensors -> write_pruned: a small SavedModel, with the functions alone
#                      -> load_saved_model -> part.call(inputs, handles)
#
# Handles are those of the object that was loaded first, so both share all state. They
# are matched by place: the lists of the object, and the keys of the conversion.
class Pruner:
    """Makes functions of parts of one variant's graph."""

    def __init__(
        self,
        detection: Detection,
        tags: Optional[Tuple[str, ...]],
        state: Dict[str, List[Any]],
    ) -> None:
        self._detection = detection
        self._tags = tags
        self._state = state
        self._graph: Any = None

    def look(self) -> Any:
        """The variant's graph as the module has it, to find tensors in.

        Raises:
          HandleError: the module is not there any more.
          ConversionError: this TensorFlow cannot import the graph.
        """
        if self._graph is None:
            self._graph = self._import()
        return self._graph

    def _import(self) -> Any:
        from hub_compat._parsing.full_proto import read_saved_model
        from hub_compat.converters.ir.model import root_tags
        from hub_compat.converters.verification.sessions import runnable

        path = self._detection.path
        if not files.exists(files.join(path, self._detection.file)):
            raise HandleError(
                "prune() and graph read the module, which is not there any more. "
                "Put it back, or keep it while they are used. Received: {!r}".format(
                    path
                )
            )
        meta_graphs: Dict[Tuple[str, ...], Any] = {}
        for meta_graph in read_saved_model(self._detection).meta_graphs:
            own = tuple(sorted(meta_graph.meta_info_def.tags))
            meta_graphs.setdefault(own, meta_graph)
        wanted = self._tags if self._tags is not None else root_tags(meta_graphs)
        known, _ = runnable(meta_graphs[wanted])
        graph = tf.Graph()
        try:
            with graph.as_default():
                tf.import_graph_def(known.graph_def, name="")
        except (ValueError, tf.errors.OpError) as error:
            raise ConversionError(
                "TensorFlow {} cannot import the graph of this module. "
                "Received: {!r}".format(tf.__version__, path)
            ) from error
        return graph

    # Fed tensors are taken once each: a nest may name one tensor twice.
    def prune(
        self, feeds: Any, fetches: Any, name: Any = None, input_signature: Any = None
    ) -> Any:
        """A function of any tensors of the graph.

        It runs with the variables and tables of the loaded object, and trains them.

        Args:
          feeds: a nest of tensors of ``graph``, or of their names, ``"x:0"``: the
            inputs.
          fetches: a nest of tensors, operations, names or TensorInfos: what it
            returns; None for an operation, which runs.
          name: as tensorflow_hub takes it; without effect.
          input_signature: likewise.

        Returns:
          A ConcreteFunction. It takes the inputs in the order of ``feeds``, or by the
          names of their operations.

        Raises:
          SignatureError: the graph has no such tensor.
          ConversionError: what is fetched needs an input that is not fed, or cannot
            be a function.
        """
        del name, input_signature
        from hub_compat.converters.pruned import write_pruned

        flat = tf.nest.flatten(feeds, expand_composites=True)
        fed = list({t.name: t for t in (self._tensor(f) for f in flat)}.values())
        wanted = tf.nest.flatten(fetches, expand_composites=True)
        names = [self._fetch(fetch) for fetch in wanted]
        with tempfile.TemporaryDirectory() as directory:
            infos = [_info(tensor) for tensor in fed]
            pruned = write_pruned(self._detection, self._tags, infos, names, directory)
            part = load_saved_model(directory)
        train_other_outputs(part)
        function = part.call
        objects = self._objects(pruned.keys)
        facts = _Part(
            Inputs(
                [t.op.name for t in fed],
                [tf.TensorSpec(t.shape, t.dtype.base_dtype, t.op.name) for t in fed],
                [t.op.name for t in fed],
            ),
            [objects[key] for key in pruned.captures],
            [None if n.startswith("^") else i for n, i in zip(names, pruned.results)],
            fetches,
        )
        own_call(function, _call)
        function._hub_compat_part = facts
        function.prune = self.prune
        return function

    def _tensor(self, found: Any) -> Any:
        """A tensor of the graph, from what names it."""
        element = self._element(found)
        if isinstance(element, tf.Operation):
            if len(element.outputs) != 1:
                raise _unknown(found, "an operation with several outputs or none")
            return element.outputs[0]
        return element

    def _fetch(self, found: Any) -> str:
        element = self._element(found)
        if isinstance(element, tf.Operation):
            return "^" + str(element.name)
        return str(element.name)

    def _element(self, found: Any) -> Any:
        graph = self.look()
        if isinstance(found, meta_graph_pb2.TensorInfo):
            found = found.name
        try:
            return graph.as_graph_element(found)
        except (KeyError, TypeError, ValueError) as error:
            raise _unknown(found, "no tensor or operation of this graph") from error

    def _objects(self, keys: Dict[str, List[str]]) -> Dict[str, Any]:
        found: Dict[str, Any] = {}
        for name in _LISTS:
            if len(keys[name]) != len(self._state[name]):
                raise ConversionError(
                    "The module is not the one that was loaded, or was loaded without "
                    "some of its signatures: load it again. Received: {!r}".format(
                        self._detection.path
                    )
                )
            found.update(zip(keys[name], self._state[name]))
        return found


class _Part(NamedTuple):
    """What a pruned function is called with, and what it returns.

    Attributes:
      inputs: what it takes.
      objects: the variables, tables and assets whose handles follow.
      results: the number of the result for each leaf of ``structure``; None for an
        operation.
      structure: the nest of what was fetched.
    """

    inputs: Inputs
    objects: Sequence[Any]
    results: Sequence[Optional[int]]
    structure: Any


def _call(function: Any, args: Sequence[Any], keywords: Any) -> Any:
    part: _Part = function._hub_compat_part
    tensors = as_tensors(part.inputs, args, keywords)
    tensors += [_handle(found) for found in part.objects]
    watch_accessed([found for found in part.objects if hasattr(found, "read_value")])
    results = call_by_tensors(function, tensors)
    values = [None if i is None else results[i] for i in part.results]
    return tf.nest.pack_sequence_as(part.structure, values, expand_composites=True)


def _handle(found: Any) -> Any:
    for name in ("handle", "resource_handle", "asset_path"):
        handle = getattr(found, name, None)
        if handle is not None:
            return handle
    raise AssertionError(found)


def _info(tensor: Any) -> Any:
    info = meta_graph_pb2.TensorInfo(name=tensor.name)
    info.dtype = tensor.dtype.base_dtype.as_datatype_enum
    info.tensor_shape.CopyFrom(tensor.shape.as_proto())
    return info


def _unknown(found: Any, what: str) -> SignatureError:
    return SignatureError(
        'Name parts of a graph by its tensors, as "x:0" or '
        'graph.get_tensor_by_name("x:0"). This is {}. [op.name for op in '
        "graph.get_operations()] lists all names. Received: {!r}".format(what, found)
    )
