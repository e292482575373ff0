"""One variant of the result: its signatures as nodes of one graph."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..ir.flat_graph import FlatGraph
from ..ir.graph import node_of, split_tensor
from ..ir.inlining import Inliner
from ..ir.names import node_name
from .defaults import Default, constant
from .objects import Objects, Trace
from .served import Served
from .signatures import Entry
from .state import State
from .structures import Leaf
from .updates import UpdateOps, split

__all__ = ["Built", "VariantBuilder"]


class Built(NamedTuple):
    """A signature in the graph.

    Attributes:
      inputs: each input with its tensors.
      outputs: each output with its tensors.
      origins: for each output, the tensors that it is a copy of.
    """

    inputs: Tuple[Tuple[Leaf, Tuple[str, ...]], ...]
    outputs: Tuple[Tuple[Leaf, Tuple[str, ...]], ...]
    origins: Tuple[Tuple[str, ...], ...]


class VariantBuilder:
    """A graph that gets signatures.

    Attributes:
      graph: the graph.
      state: its variables, tables and assets.
      signatures: those that it has, by name.
      updates: its update ops.
      inliner: the functions of the model.
      losses: tensors of the regularization losses.
      served: the nodes that a session loader runs; None of a TF1 Hub module.
      warnings: what else to know.
    """

    def __init__(
        self,
        graph: FlatGraph,
        state: State,
        objects: Objects,
        inliner: Inliner,
        training: bool,
    ) -> None:
        self.graph = graph
        self.state = state
        self.signatures: Dict[str, Built] = {}
        self.updates = UpdateOps(graph)
        self.losses: List[str] = []
        self.served: Optional[Served] = None
        self.warnings: List[str] = []
        self._objects = objects
        self.inliner = inliner
        self._training = training
        self._placeholders: Dict[Tuple[Any, ...], Tuple[str, ...]] = {}
        self._forms: Dict[Tuple[Any, ...], Tuple[Tuple[str, ...], ...]] = {}

    def add(self, entry: Entry) -> Built:
        """Adds a signature."""
        graph, trace = self.graph, entry.trace
        inputs = self._inputs(trace.inputs, entry.defaults)
        fed = [tensor for tensors in inputs for tensor in tensors]
        captured = self.state.tensors(trace.function)
        graph.begin()
        inlined = self.inliner.inline(graph, trace.function, fed + captured)
        found = self._outputs(entry, inlined.results)
        effects = split(
            graph,
            self.inliner,
            inlined.touched,
            [tensor for _, tensors in found for tensor in tensors],
            [node_of(tensor) for tensor in fed],
            self._training,
        )
        for name in effects.read:
            self._warn(
                "signature {!r}: an output reads a variable after it is updated "
                "({}), so the update runs with the output".format(entry.name, name)
            )
        tied = effects.tied + self.updates.add(effects.updates)
        origins = tuple(tuple(map(self._origin, tensors)) for _, tensors in found)
        if tied:
            found = [
                (leaf, tuple(self._after(tensor, part.dtype, tied)
                 for tensor, part in zip(tensors, leaf.parts)))
                for leaf, tensors in found
            ]  # fmt: skip
        given = [
            pair for pair in zip(trace.inputs, inputs) if pair[0].name not in entry.left
        ]
        built = Built(tuple(given), tuple(found), origins)
        self.signatures[entry.name] = built
        return built

    def probe(self, trace: Trace, defaults: Mapping[str, Default]) -> Built:
        """Adds the nodes of a trace, to see what its outputs are; no signature."""
        inputs = self._inputs(trace.inputs, defaults)
        fed = [tensor for tensors in inputs for tensor in tensors]
        self.graph.begin()
        inlined = self.inliner.inline(
            self.graph, trace.function, fed + self.state.tensors(trace.function)
        )
        found = self._outputs(Entry.of("", trace), inlined.results)
        origins = tuple(tuple(map(self._origin, tensors)) for _, tensors in found)
        return Built(tuple(zip(trace.inputs, inputs)), tuple(found), origins)

    def add_losses(self, functions: Sequence[str]) -> None:
        """Adds regularization losses, functions without arguments."""
        for function in functions:
            self.graph.begin()
            inlined = self.inliner.inline(
                self.graph, function, self.state.tensors(function)
            )
            self.losses.append(inlined.results[0])

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _after(self, tensor: str, dtype: int, controls: Sequence[str]) -> str:
        return self.graph.identity(tensor, dtype, controls)

    def _outputs(
        self, entry: Entry, results: Sequence[str]
    ) -> List[Tuple[Leaf, Tuple[str, ...]]]:
        groups, start = [], 0
        for leaf in entry.trace.outputs:
            groups.append(tuple(results[start : start + len(leaf.parts)]))
            start += len(leaf.parts)
        return [
            (entry.trace.outputs[place]._replace(name=name), groups[place])
            for name, place in entry.outputs
        ]

    def _origin(self, tensor: str) -> str:
        """The tensor that another is a copy of."""
        node = self.graph.nodes[node_of(tensor)]
        while node.op == "Identity":
            name, index = split_tensor(node.input[0])
            tensor = "{}:{}".format(name, index)
            node = self.graph.nodes[name]
        return tensor

    # ---- inputs

    def _inputs(
        self, leaves: Sequence[Leaf], defaults: Mapping[str, Default]
    ) -> List[Tuple[str, ...]]:
        """Placeholders: those of a signature with the same inputs, else by name."""
        required = [leaf for leaf in leaves if leaf.name not in defaults]
        by_name = dict(zip([r.name for r in required], self._required(required)))
        for leaf in leaves:
            if leaf.name in defaults:
                given = defaults[leaf.name]
                by_name[leaf.name] = self._optional(leaf, given, by_name)
        return [by_name[leaf.name] for leaf in leaves]

    def _optional(
        self, leaf: Leaf, default: Default, given: Mapping[str, Tuple[str, ...]]
    ) -> Tuple[str, ...]:
        """A placeholder that need not be fed."""
        value: Optional[str] = None
        if default.trace is None:
            attr = constant(default.value, leaf)
            if attr is not None:
                node = self.graph.node(
                    "Const",
                    node_name(leaf.name + "/default"),
                    dtype=("type", leaf.parts[0].dtype),
                    value=attr,
                )
                value = node + ":0"
        else:
            fed = [t for each in default.trace.inputs for t in given.get(each.name, ())]
            captured = self.state.tensors_of(default.trace.bound)
            self.graph.begin()
            inlined = self.inliner.inline(
                self.graph, default.trace.function, fed + captured
            )
            (value,) = inlined.results
        if value is None:
            return self._placeholder(leaf)
        key = (leaf.name, leaf.key, value if default.trace else "")
        if key not in self._placeholders:
            node = self.graph.node(
                "PlaceholderWithDefault",
                node_name(leaf.name),
                [value],
                dtype=("type", leaf.parts[0].dtype),
                shape=("shape", leaf.parts[0].shape),
            )
            self._placeholders[key] = (node + ":0",)
        return self._placeholders[key]

    def _required(self, leaves: Sequence[Leaf]) -> List[Tuple[str, ...]]:
        form = _form(leaves)
        shared = None if form is None else self._forms.get(form)
        if shared is not None:
            order = sorted(range(len(leaves)), key=lambda i: leaves[i].key)
            places = {place: shared[i] for i, place in enumerate(order)}
            return [places[i] for i in range(len(leaves))]
        found = [self._placeholder(leaf) for leaf in leaves]
        if form is not None:
            order = sorted(range(len(leaves)), key=lambda i: leaves[i].key)
            self._forms[form] = tuple(found[i] for i in order)
        return found

    def _placeholder(self, leaf: Leaf) -> Tuple[str, ...]:
        key = (leaf.name, leaf.key)
        if key not in self._placeholders:
            suffixes = [""]
            if leaf.spec is not None:
                suffixes = ["_{}".format(i) for i in range(len(leaf.parts))]
                if leaf.spec.type_spec_class == leaf.spec.SPARSE_TENSOR_SPEC:
                    suffixes = ["_indices", "_values", "_dense_shape"]
            self._placeholders[key] = tuple(
                self.graph.node(
                    "Placeholder",
                    node_name(leaf.name + suffix),
                    dtype=("type", part.dtype),
                    shape=("shape", part.shape),
                )
                + ":0"
                for suffix, part in zip(suffixes, leaf.parts)
            )
        return self._placeholders[key]


def _form(leaves: Sequence[Leaf]) -> Optional[Tuple[Any, ...]]:
    """What signatures have in common whose inputs can only be the same.

    None where two inputs are of one kind: then names alone tell them apart.
    """
    keys = sorted(leaf.key for leaf in leaves)
    return tuple(keys) if len(set(keys)) == len(keys) and keys else None
