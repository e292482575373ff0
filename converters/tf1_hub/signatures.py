"""What a TF2 SavedModel offers for calling, as signatures of a TF1 graph."""

from __future__ import annotations

from types import MappingProxyType
from typing import (
    Any,
    Dict,
    FrozenSet,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from ..ir.calls import called_by
from .defaults import Default
from .objects import Objects, Trace
from .structures import Leaf, Part

__all__ = ["Callable", "Entry", "callables", "choose", "renamed", "signature_traces"]

_CALL = "__call__"
# as_dict returns all outputs, where __call__ returns one of several.
_CALLS = ("as_dict", _CALL)
_KERAS = "_tf_keras"
_LISTS = ("variables", "trainable_variables", "regularization_losses", "signatures")


class Entry(NamedTuple):
    """A signature of one variant.

    Attributes:
      name: its name.
      trace: the function behind it, with the inputs' names.
      outputs: the names of the outputs, each with its place among the trace's.
      defaults: by input that may be left out, what it is then.
    """

    name: str
    trace: Trace
    outputs: Tuple[Tuple[str, int], ...]
    defaults: Mapping[str, Default] = MappingProxyType({})

    @property
    def left(self) -> FrozenSet[str]:
        """Inputs that the signature leaves out, as hub.Module asks for all it has.

        Those whose defaults are numbers of the program that saved the model, unless
        there are no others.
        """
        numbers = [k for k, v in self.defaults.items() if v.trace is None]
        return frozenset(numbers if len(numbers) < len(self.trace.inputs) else ())

    @classmethod
    def of(cls, name: str, trace: Trace) -> Entry:
        """All outputs of a trace."""
        outputs = tuple((leaf.name, i) for i, leaf in enumerate(trace.outputs))
        return cls(name, trace, outputs)


class Callable(NamedTuple):
    """An object that can be called, and its traces.

    Attributes:
      name: the attribute that it is of the root, or what the root itself is called.
      traces: the traces.
    """

    name: str
    traces: List[Trace]

    def trace(self, training: bool) -> Optional[Trace]:
        """The trace for a mode; None where there is none."""
        return choose(self.traces, training)


# A TF1 signature has one form only: the trace that takes most can serve for the others.
def choose(traces: Sequence[Trace], training: bool) -> Optional[Trace]:
    """Of several traces the one that takes most.

    That is the one with most inputs, and of these the one whose inputs have most
    dimensions of any size. Traces with arguments that are not at their defaults are no
    candidates.
    """
    fit = [t for t in traces if not t.flags and t.training in (None, training)]
    if not fit:
        return None
    return max(fit, key=lambda t: (len(t.inputs), t.unknowns(), -traces.index(t)))


def callables(
    objects: Objects, signatures: Sequence[str], number: int, own: str
) -> List[Callable]:
    """An object, if it can be called, and what hangs on it and can.

    Of a Keras model's attributes, which are its layers, only those that are the names
    of signatures.

    Args:
      objects: the object graph.
      signatures: the names of the object's signatures.
      number: the object.
      own: what it is called itself.
    """
    root = objects.children(number)
    found = []
    if _CALL in root:
        found.append(Callable(own, _traces(objects, number, root)))
    is_keras = _is_keras(objects, number)
    for name, child in sorted(root.items()):
        if name.startswith("_") or name in _LISTS or name in _CALLS:
            continue
        if name not in signatures and (is_keras or _is_keras(objects, child)):
            continue
        kind = objects.kind(child)
        traces: List[Trace] = []
        if kind == "function":
            traces = objects.traces(child)
        elif kind == "user_object":
            traces = _traces(objects, child, objects.children(child))
        if any(trace.inputs for trace in traces):
            found.append(Callable(name, traces))
    return found


def _traces(objects: Objects, number: int, own: Dict[str, int]) -> List[Trace]:
    for name in _CALLS:
        if name in own and objects.kind(own[name]) == "function":
            return objects.traces(own[name])
    return []


def _is_keras(objects: Objects, number: int) -> bool:
    node = objects.proto.nodes[number]
    return bool(node.user_object.identifier.startswith(_KERAS))


def signature_traces(
    objects: Objects, meta_graph: Any, number: int
) -> Dict[str, Trace]:
    """The functions behind the ``signatures`` of an object, by name."""
    holder = objects.children(number).get("signatures")
    if holder is None:
        return {}
    calls = _calls(meta_graph)
    found = {}
    for name, child in sorted(objects.children(holder).items()):
        function = objects.function(child)
        if function not in objects.proto.concrete_functions:
            continue
        made = objects.concrete(function)
        order = _order(meta_graph, name, calls.get(function))
        if order is None:
            bare = objects.proto.nodes[child].bare_concrete_function
            order = list(bare.argument_keywords)
        by_name = {leaf.name: leaf for leaf in made.inputs}
        if name in meta_graph.signature_def:
            infos = meta_graph.signature_def[name].inputs
            for key in infos:
                part = Part(infos[key].dtype, infos[key].tensor_shape)
                by_name.setdefault(key, Leaf(key, (part,)))
        inputs = tuple(by_name[key] for key in order)
        found[name] = made._replace(inputs=inputs)
    return found


def _calls(meta_graph: Any) -> Dict[str, Any]:
    """The first call of each function in the graph for sessions."""
    found: Dict[str, Any] = {}
    for node in meta_graph.graph_def.node:
        for name in called_by(node):
            found.setdefault(name, node)
    return found


# Given: in the graph for sessions
#     call = StatefulPartitionedCall(serving_b, serving_a),  inputs {a: serving_a, ...}
# Result:
#     ["b", "a"]
def _order(meta_graph: Any, name: str, call: Any) -> Optional[List[str]]:
    """The names of a signature's inputs in the order of its function's arguments.

    The graph for sessions says so. Keywords do only up to a TensorFlow that has names
    of its own (2.12 and newer).
    """
    if call is None or name not in meta_graph.signature_def:
        return None
    places = {}
    for key, info in meta_graph.signature_def[name].inputs.items():
        tensor = info.name[:-2] if info.name.endswith(":0") else info.name
        for i, given in enumerate(call.input):
            if given in (tensor, info.name):
                places[i] = key
    if len(places) < len(meta_graph.signature_def[name].inputs):
        return None
    if sorted(places) != list(range(len(places))):
        return None
    return [places[i] for i in sorted(places)]


def renamed(trace: Trace, names: Sequence[str]) -> Trace:
    """A trace whose inputs have other names."""
    inputs = tuple(leaf._replace(name=name) for leaf, name in zip(trace.inputs, names))
    return trace._replace(inputs=inputs)
