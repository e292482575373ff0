"""A TF2 SavedModel, in the ops of TensorFlow 1.15, to the MetaGraphDefs of TF1."""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from hub_compat._parsing.known_names import ATTACHMENTS
from hub_compat._tf import saved_model_pb2
from hub_compat.errors import ConversionError, CorruptModuleError

from ..ir.flat_graph import FlatGraph
from ..ir.inlining import Inliner
from .collections import write_meta_graph
from .objects import Objects, Trace
from .signatures import Callable as Called
from .signatures import Entry, callables, renamed, signature_traces
from .state import State, Variable, find_variables
from .variants import VariantBuilder

__all__ = ["Module", "build"]

_DEFAULT, _SERVING = "default", "serving_default"
Tags = Tuple[str, ...]


class Module(NamedTuple):
    """The result, ready to be written.

    Attributes:
      saved_model: the SavedModel proto.
      variables: its variables.
      assets: names of the files under ``assets/`` that it needs.
      tables: how many tables it has.
      nodes: how many nodes its graphs have.
      functions: how many functions.
      warnings: what was left out, and what else to know.
    """

    saved_model: Any
    variables: List[Variable]
    assets: Tuple[str, ...]
    tables: int
    nodes: int
    functions: int
    warnings: Tuple[str, ...]


def build(
    meta_graph: Any, keys: Mapping[int, str], op_def: Callable[[str], Any]
) -> Module:
    """Builds the module.

    Args:
      meta_graph: the model, in the ops of the target.
      keys: by variable's object, its key in the checkpoint.
      op_def: from the name of an op to its OpDef.

    Raises:
      ConversionError: the model offers nothing that can be called.
    """
    return _Builder(meta_graph, keys, op_def).build()


# Given: the objects of a TF2 SavedModel
#     __call__(x, training=False | True),  signatures["serving_default"](x)
# Result: a TF1 Hub module of two variants
#     {}         default, serving_default:  the traces with training=False, inlined
#     {"train"}  the same names:            those with training=True; updates
#
# Functions are inlined, as a TF1 Hub module is a graph: programs fetch its tensors.
class _Builder:
    def __init__(
        self, meta_graph: Any, keys: Mapping[int, str], op_def: Callable[[str], Any]
    ) -> None:
        self._meta_graph = meta_graph
        self._op_def = op_def
        self._functions = {
            f.signature.name: f for f in meta_graph.graph_def.library.function
        }
        self._objects = Objects(meta_graph)
        self._signatures = signature_traces(self._objects, meta_graph)
        self._called = callables(self._objects, list(self._signatures))
        self._losses = [
            self._objects.function(number)
            for number in self._objects.items(0, "regularization_losses") or []
        ]
        self._variables = find_variables(self._objects, self._captured(), keys)
        self._plain: Dict[str, Entry] = {}
        self._warnings: List[str] = []

    def build(self) -> Module:
        """Builds all variants."""
        entries = self._entries()
        if not entries:
            raise ConversionError(
                "The model has neither signatures nor functions that can be called. "
                "Received: {}".format(sorted(self._objects.children(0)))
            )
        saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
        plain = self._variant(entries, training=False)
        variants: List[Tuple[Tags, VariantBuilder]] = [((), plain)]
        trained = self._trained(plain, entries)
        if trained:
            variants.append((("train",), self._variant(trained, training=True)))
        nodes = 0
        for tags, variant in variants:
            nodes += write_meta_graph(
                saved_model.meta_graphs.add(),
                tags,
                self._meta_graph,
                variant,
                self._attachments(tags),
                self._definition,
            )
            self._warnings += [w for w in variant.warnings if w not in self._warnings]
        self._warn_of_loops(saved_model)
        written = saved_model.meta_graphs[0]
        return Module(
            saved_model,
            self._variables,
            tuple(dict.fromkeys(plain.state.asset_nodes.values())),
            len(plain.state.table_initializers),
            nodes,
            len(written.graph_def.library.function),
            tuple(self._warnings),
        )

    def _captured(self) -> List[int]:
        traces = list(self._signatures.values())
        traces += [trace for called in self._called for trace in called.traces]
        found = [number for trace in traces for number in trace.bound]
        for function in self._losses:
            found += self._objects.bound(function)
        return list(dict.fromkeys(found))

    def _definition(self, op: str) -> Any:
        found = self._op_def(op)
        if found is None:
            raise CorruptModuleError(
                "The model has an op that neither it nor the target defines. "
                "Received: {!r}".format(op)
            )
        return found

    # ---- what there is to call

    def _entries(self) -> List[Entry]:
        """The signatures without training, the default one first."""
        found: Dict[str, Entry] = {}
        for called in self._called:
            trace = called.trace(training=False)
            if trace is None:
                self._warnings.append(
                    "{!r} is called with arguments that are no tensors and have no "
                    "defaults; it is skipped".format(called.name)
                )
            else:
                found[called.name] = Entry.of(called.name, self._with_names(trace))
        for name, trace in self._signatures.items():
            found[name] = Entry.of(name, trace)
        if _DEFAULT not in found:
            chosen = found.get(_SERVING)
            if chosen is None and len(found) == 1:
                (chosen,) = found.values()
            if chosen is not None:
                found[_DEFAULT] = chosen._replace(name=_DEFAULT)
        entries = [_with_default(_plain_name(entry)) for entry in found.values()]
        return sorted(entries, key=lambda e: (e.name != _DEFAULT, e.name))

    def _with_names(self, trace: Trace) -> Trace:
        """A trace whose inputs have the names that the serving signature gives them."""
        serving = self._signatures.get(_SERVING)
        if serving is None:
            return trace
        by_key = {leaf.key: leaf.name for leaf in serving.inputs}
        own = [leaf.key for leaf in trace.inputs]
        if len(by_key) < len(serving.inputs) or sorted(by_key) != sorted(own):
            return trace
        return renamed(trace, [by_key[key] for key in own])

    def _trained(self, plain: VariantBuilder, entries: Sequence[Entry]) -> List[Entry]:
        """The signatures as training has them; none where nothing can be called."""
        modes = []
        for called in self._called:
            one, other = called.trace(False), called.trace(True)
            if one is not None and other is not None:
                modes.append((called, one, other))
        if not modes:
            return []
        found = []
        self._plain = {entry.name: entry for entry in entries}
        for entry in entries:
            made = None
            for called, one, other in modes:
                made = made or self._counterpart(plain, entry, called, one, other)
            if made is None:
                self._warnings.append(
                    "signature {!r} is the same in training: no function of the "
                    "model that can be called with training=True gives its "
                    "outputs".format(entry.name)
                )
            found.append(made or entry)
        return found

    # The outputs of a signature need not be those of __call__. They are matched by
    # where they come from: the node of the untrained graph that gives both.
    def _counterpart(
        self,
        plain: VariantBuilder,
        entry: Entry,
        called: Called,
        one: Trace,
        other: Trace,
    ) -> Optional[Entry]:
        """A signature of a function's outputs, as training has them."""
        if len(one.outputs) != len(other.outputs):
            return None
        if len(one.inputs) != len(other.inputs):
            return None
        if [x.key for x in entry.trace.inputs] == [x.key for x in other.inputs]:
            trace = renamed(other, [leaf.name for leaf in entry.trace.inputs])
        else:
            names = {leaf.key: leaf.name for leaf in entry.trace.inputs}
            if not all(leaf.key in names for leaf in other.inputs):
                return None
            trace = renamed(other, [names[leaf.key] for leaf in other.inputs])
        if entry.trace.function == one.function:
            return entry._replace(trace=trace)
        known = plain.signatures.get(called.name)
        if known is None:
            return None
        places: Dict[Tuple[str, ...], int] = {}
        for (_, place), origin in zip(self._plain[called.name].outputs, known.origins):
            places.setdefault(origin, place)
        own = plain.signatures[entry.name]
        if not all(origin in places for origin in own.origins):
            return None
        outputs = tuple(
            (leaf.name, places[origin])
            for (leaf, _), origin in zip(own.outputs, own.origins)
        )
        return Entry(entry.name, trace, outputs)

    # ---- graphs

    def _variant(self, entries: Sequence[Entry], training: bool) -> VariantBuilder:
        graph = FlatGraph()
        inliner = Inliner(self._functions, self._definition)
        state = State(graph, self._meta_graph, self._objects, inliner, self._variables)
        variant = VariantBuilder(graph, state, self._objects, inliner, training)
        for entry in entries:
            variant.add(entry)
        variant.add_losses(self._losses)
        return variant

    def _attachments(self, tags: Tags) -> List[bytes]:
        collections = self._meta_graph.collection_def
        keys = [ATTACHMENTS]
        if tags:
            keys.insert(0, "{}/{}".format(ATTACHMENTS, ",".join(tags)))
        for key in keys:
            if key in collections:
                return list(collections[key].bytes_list.value)
        return []

    def _warn_of_loops(self, saved_model: Any) -> None:
        ops = {
            node.op
            for meta_graph in saved_model.meta_graphs
            for node in meta_graph.graph_def.node
        }
        if ops & {"While", "StatelessWhile", "If", "StatelessIf"}:
            self._warnings.append(
                "the model has loops or conditionals. They run in any program; for "
                "their gradients, a program in TensorFlow 1.15 says once: from "
                "tensorflow.python.ops import cond_v2, while_v2"
            )


def _plain_name(entry: Entry) -> Entry:
    """The default signature of one image takes ``images``, as hub programs give it."""
    leaves = entry.trace.inputs
    if entry.name != _DEFAULT or len(leaves) != 1 or len(leaves[0].parts) != 1:
        return entry
    (part,) = leaves[0].parts
    sizes = [] if part.shape.unknown_rank else [dim.size for dim in part.shape.dim]
    if part.dtype != 1 or len(sizes) != 4 or sizes[3] not in (1, 3, 4):
        return entry
    return entry._replace(trace=renamed(entry.trace, ["images"]))


def _with_default(entry: Entry) -> Entry:
    """An output under the name ``default``, where there is only one."""
    if len(entry.outputs) != 1 or entry.outputs[0][0] == _DEFAULT:
        return entry
    outputs = entry.outputs + ((_DEFAULT, entry.outputs[0][1]),)
    return entry._replace(outputs=outputs)
