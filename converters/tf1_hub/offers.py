"""What one object of a model offers: its signatures, without and with training."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from .defaults import constant, optional_inputs
from .objects import Objects, Trace
from .signatures import Callable, Entry, callables, renamed, signature_traces
from .structures import Leaf
from .variants import VariantBuilder

__all__ = ["Offer"]

_DEFAULT, _SERVING = "default", "serving_default"
_IMAGE_CHANNELS = (1, 3, 4)
_SUFFIXES = ("_indices", "_values", "_dense_shape", "_component_0")


class Offer:
    """An object with ``__call__`` and ``signatures``: the root, or another variant.

    Attributes:
      number: the object.
      losses: functions that compute its regularization losses.
      warnings: what is left out.
      has_calls: whether something else than signatures can be called.
    """

    def __init__(
        self,
        objects: Objects,
        meta_graph: Any,
        functions: Dict[str, Any],
        number: int = 0,
        called: Optional[str] = None,
        served: bool = False,
        converted: bool = False,
    ) -> None:
        self.number = number
        self.warnings: List[str] = []
        self._objects = objects
        self._functions = functions
        self._served = served
        # Then its signatures have the names that a TF1 program knows.
        self._converted = converted
        self._signatures = signature_traces(objects, meta_graph, number)
        self._called = callables(
            objects, list(self._signatures), number, called or _DEFAULT
        )
        self.losses = [
            objects.function(each)
            for each in objects.items(number, "regularization_losses") or []
        ]
        self.entries = self._entries()
        self._by_name = {entry.name: entry for entry in self.entries}

    @property
    def has_calls(self) -> bool:
        """Whether something else than signatures can be called."""
        return any(c.trace(False) and c.trace(True) for c in self._called)

    def captured(self) -> List[int]:
        """The objects that its functions use."""
        traces = list(self._signatures.values())
        traces += [trace for called in self._called for trace in called.traces]
        found = [number for trace in traces for number in trace.bound]
        for function in self.losses:
            found += self._objects.bound(function)
        return list(dict.fromkeys(found))

    # ---- without training

    def _entries(self) -> List[Entry]:
        """The signatures without training, the default one first."""
        found: Dict[str, Entry] = {}
        for called in self._called:
            trace = called.trace(training=False)
            if trace is not None:
                named = self._with_names(called, trace)
                found[called.name] = Entry.of(called.name, named)
            elif called.traces:
                self.warnings.append(
                    "the function {!r} is skipped: its arguments that are no tensors "
                    "are not at their defaults".format(called.name)
                )
        for name, trace in self._signatures.items():
            if name not in found or not _is_structured(found[name].trace, trace):
                found[name] = Entry.of(name, trace)
            elif len(trace.outputs) == len(found[name].outputs):
                outputs = tuple((x.name, i) for i, x in enumerate(trace.outputs))
                found[name] = found[name]._replace(outputs=outputs)
        for name, entry in list(found.items()):
            found[name] = self._with_optional(entry)
        if self._served and _DEFAULT in found:
            found.setdefault(_SERVING, found[_DEFAULT]._replace(name=_SERVING))
        if _DEFAULT not in found:
            chosen = found.get(_SERVING)
            if chosen is None and len(found) == 1:
                (chosen,) = found.values()
            if chosen is not None:
                found[_DEFAULT] = chosen._replace(name=_DEFAULT)
        entries = list(found.values())
        if not self._converted:
            entries = [_with_default(_of_image(entry)) for entry in entries]
        return sorted(entries, key=lambda e: (e.name != _DEFAULT, e.name))

    def _with_names(self, called: Callable, trace: Trace) -> Trace:
        """A trace whose inputs have the names that its signature gives them."""
        signature = self._signatures.get(called.name)
        if signature is None and called.name == _DEFAULT:
            signature = self._signatures.get(_SERVING)
        if signature is None:
            return trace
        if len(trace.inputs) == 1 and trace.inputs[0].spec is not None:
            return renamed(trace, [_whole(signature, trace.inputs[0].name)])
        by_key = {leaf.key: leaf.name for leaf in signature.inputs}
        own = [leaf.key for leaf in trace.inputs]
        if len(by_key) < len(signature.inputs) or sorted(by_key) != sorted(own):
            return trace
        return renamed(trace, [by_key[key] for key in own])

    def _with_optional(self, entry: Entry) -> Entry:
        """A signature that knows which of its inputs have defaults."""
        for called in self._called:
            trace = called.trace(False)
            if called.name == entry.name and trace is not None:
                found = optional_inputs(self._functions, called.traces, trace)
                if not found:
                    continue
                # By place in the call, as its names may be others.
                named = self._with_names(called, trace).inputs
                other = {a.name: b.name for a, b in zip(trace.inputs, named)}
                defaults = {
                    named[i].name: default.renamed(other)
                    for i, default in found.items()
                    # What cannot be written as a constant has to be given.
                    if default.trace or constant(default.value, named[i]) is not None
                }
                own = [leaf.name for leaf in entry.trace.inputs]
                return entry._replace(
                    defaults={k: v for k, v in defaults.items() if k in own}
                )
        return entry

    # ---- in training

    def trained(self, plain: VariantBuilder) -> List[Entry]:
        """The signatures as training has them.

        Args:
          plain: a graph that has the others.
        """
        modes = []
        for called in self._called:
            one, other = called.trace(False), called.trace(True)
            if one is not None and other is not None:
                modes.append((called, one, other))
        found = []
        for entry in self.entries:
            made = None
            for called, one, other in modes:
                made = made or self._counterpart(plain, entry, called, one, other)
            if made is None:
                self.warnings.append(
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
        called: Callable,
        one: Trace,
        other: Trace,
    ) -> Optional[Entry]:
        """A signature of a function's outputs, as training has them."""
        trace = _for_training(entry, one, other)
        if trace is None:
            return None
        if entry.trace.function == one.function:
            return entry._replace(trace=trace)
        known = plain.signatures.get(called.name)
        if known is None or self._by_name[called.name].trace.function != one.function:
            known = plain.probe(one._replace(inputs=trace.inputs), entry.defaults)
        places: Dict[Tuple[str, ...], int] = {}
        for i, origin in enumerate(known.origins):
            places.setdefault(origin, i)
        own = plain.signatures[entry.name]
        if not all(origin in places for origin in own.origins):
            return None
        outputs = tuple(
            (leaf.name, min(places[origin], len(other.outputs) - 1))
            for (leaf, _), origin in zip(own.outputs, own.origins)
        )
        return entry._replace(trace=trace, outputs=outputs)


def _for_training(entry: Entry, one: Trace, other: Trace) -> Optional[Trace]:
    """A trace of training with the inputs of a signature; None if it has others."""
    if len(one.outputs) != len(other.outputs) or len(one.inputs) != len(other.inputs):
        return None
    own = entry.trace.inputs
    if [leaf.key for leaf in own] == [leaf.key for leaf in other.inputs]:
        if {leaf.name for leaf in own} != {leaf.name for leaf in other.inputs} or [
            leaf.name for leaf in own
        ] == [leaf.name for leaf in other.inputs]:
            return renamed(other, [leaf.name for leaf in own])
    by_name = {leaf.name: leaf for leaf in own}
    if all(by_name.get(x.name, x._replace(name="")).key == x.key
           for x in other.inputs if x.name in by_name) and all(
               x.name in by_name for x in other.inputs):  # fmt: skip
        return other
    names = {leaf.key: leaf.name for leaf in own}
    if len(names) < len(own) or not all(leaf.key in names for leaf in other.inputs):
        return None
    return renamed(other, [names[leaf.key] for leaf in other.inputs])


def _is_structured(trace: Trace, signature: Trace) -> bool:
    """Whether a call takes or returns as one what a signature has in parts."""
    sides = ((trace.inputs, signature.inputs), (trace.outputs, signature.outputs))
    for own, flat in sides:
        if sum(len(x.parts) for x in own) != sum(len(x.parts) for x in flat):
            return False
    return any(leaf.spec is not None for leaf in trace.inputs + trace.outputs)


def _whole(signature: Trace, otherwise: str) -> str:
    """The name of the only input of a signature, of which it names the parts."""
    for leaf in signature.inputs:
        for suffix in _SUFFIXES:
            if leaf.name.endswith(suffix):
                return leaf.name[: -len(suffix)]
    return otherwise


def _of_image(entry: Entry) -> Entry:
    """The default signature of one image takes ``images``, as hub programs give it."""
    leaves: Sequence[Leaf] = entry.trace.inputs
    if entry.name != _DEFAULT or len(leaves) != 1 or len(leaves[0].parts) != 1:
        return entry
    (part,) = leaves[0].parts
    sizes = [] if part.shape.unknown_rank else [dim.size for dim in part.shape.dim]
    if part.dtype != 1 or len(sizes) != 4 or sizes[3] not in _IMAGE_CHANNELS:
        return entry
    if leaves[0].name in entry.defaults:
        return entry
    return entry._replace(trace=renamed(entry.trace, ["images"]))


def _with_default(entry: Entry) -> Entry:
    """An output under the name ``default``, where there is only one."""
    if len(entry.outputs) != 1 or entry.outputs[0][0] == _DEFAULT:
        return entry
    outputs = entry.outputs + ((_DEFAULT, entry.outputs[0][1]),)
    return entry._replace(outputs=outputs)
