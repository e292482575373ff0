"""Writing FunctionDefs: arguments, captures, nodes, results."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from hub_compat._tf import function_pb2, node_def_pb2

from .attributes import set_attr
from .dtypes import DT_RESOURCE
from .graph import CONTROL_FLOW_OPS, Graph, node_of, normal
from .names import Names, argument_name
from .sums import keep_sums

__all__ = ["Argument", "Body", "Capture", "FunctionWriter", "emit", "set_attr"]

# Attributes that tie a node to the machine or the graph it came from. A
# function has neither.
_DROPPED_ATTRS = ("_class",)
# Elements of a constant that is worth comparing with the others.
_SMALL = 64


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument or result of a function.

    Attributes:
      name: as the FunctionDef has it.
      dtype: a ``DataType``.
      shape: a TensorShapeProto, or None where it is unknown.
    """

    name: str
    dtype: int
    shape: Any = None


class Capture(NamedTuple):
    """A resource or asset that a function takes from the object graph.

    Attributes:
      key: the object's key, see ``model.py``.
      dtype: DT_RESOURCE, or DT_STRING for the path of an asset.
    """

    key: str
    dtype: int


@dataclasses.dataclass
class Body:
    """A FunctionDef together with what its callers must pass to it.

    Attributes:
      name: the function's name in the library.
      arguments: what the caller gives, in order.
      captures: what follows the arguments, in order.
      results: what the function returns, in order.
      stateful: whether it must be called by StatefulPartitionedCall.
    """

    name: str
    arguments: List[Argument]
    captures: List[Capture]
    results: List[Argument]
    stateful: bool


def set_output_shapes(node: node_def_pb2.NodeDef, shapes: Sequence[Any]) -> None:
    """Says what a node's outputs look like to whoever imports the function.

    A loader infers shapes while the captured handles and the called functions
    are unknown to it. Without this, TF 1.15 has no static shapes under a
    distribution strategy, and a Dense layer on top cannot be built.

    Args:
      node: the node.
      shapes: a TensorShapeProto for each output; None where it is unknown.
    """
    if all(shape is None or shape.unknown_rank for shape in shapes):
        return
    attr = node.attr["_output_shapes"].list
    del attr.shape[:]
    for shape in shapes:
        if shape is None:
            attr.shape.add().unknown_rank = True
        else:
            attr.shape.add().CopyFrom(shape)


# The arguments of a function: first what callers give, then what it captures.
#
#     f(x, training, w: resource, vocab: string) -> y
#       arguments    captures
#
# A caller that has not got a capture captures it in turn (call), up to the traces whose
# captures the object graph binds. finish() writes the signature, once all are known.
class FunctionWriter:
    """Builds one FunctionDef.

    A tensor is a string in the form that a FunctionDef's nodes use: an
    argument's name, or ``node:output_arg:index``.
    """

    def __init__(self, name: str, reserved: Iterable[str] = ()) -> None:
        self.fdef = function_pb2.FunctionDef()
        self.fdef.signature.name = name
        self.arguments: List[Argument] = []
        self.captures: List[Capture] = []
        self.results: List[Argument] = []
        self._captured: Dict[Capture, str] = {}
        self._names = Names(reserved)
        self._result_names = Names()
        self.stateful = False

    def argument(self, name: str, dtype: int, shape: Any = None) -> str:
        """Adds an argument; returns the tensor."""
        name = self._names.take(argument_name(name))
        self.arguments.append(Argument(name, dtype, shape))
        return name

    def capture(self, capture: Capture) -> str:
        """Adds a captured argument, once for each; returns the tensor."""
        if capture not in self._captured:
            name = self._names.take(argument_name(capture.key))
            self._captured[capture] = name
            self.captures.append(capture)
            self.stateful = self.stateful or capture.dtype == DT_RESOURCE
        return self._captured[capture]

    def node(
        self,
        op: str,
        name: str,
        inputs: Sequence[str] = (),
        control: Sequence[str] = (),
        **attrs: Any,
    ) -> str:
        """Adds a node; returns its name."""
        node = self.fdef.node_def.add()
        node.name = self._names.take(name)
        node.op = op
        node.input.extend(inputs)
        node.input.extend("^" + c for c in control)
        for key, value in attrs.items():
            set_attr(node, key, value)
        return node.name

    def copy(
        self, node: node_def_pb2.NodeDef, inputs: Sequence[str]
    ) -> node_def_pb2.NodeDef:
        """Adds a copy of a graph's node with other inputs; returns it."""
        copy = self.fdef.node_def.add()
        copy.CopyFrom(node)
        copy.ClearField("device")
        for attr in _DROPPED_ATTRS:
            if attr in copy.attr:
                del copy.attr[attr]
        if not copy.op.endswith("PartitionedCall"):
            # What its writer inferred; a newer TensorFlow that infers another shape
            # refuses the whole graph. Of a call it may be all that is known.
            copy.attr.pop("_output_shapes", None)
        del copy.input[:]
        copy.input.extend(inputs)
        return copy

    def result(self, name: str, dtype: int, tensor: str, shape: Any = None) -> None:
        """Adds a result."""
        name = self._result_names.take(argument_name(name))
        self.results.append(Argument(name, dtype, shape))
        self.fdef.ret[name] = tensor

    def control_result(self, node: str) -> None:
        """Makes a node run whenever the function is called."""
        name = "control_{}".format(len(self.fdef.signature.control_output))
        self.fdef.signature.control_output.append(name)
        self.fdef.control_ret[name] = node

    def call(
        self,
        body: Body,
        inputs: Sequence[str],
        number: int,
        control: Sequence[str] = (),
    ) -> str:
        """Calls another function, passing its captures on; returns the node."""
        captures = [self.capture(c) for c in body.captures]
        types_in = [a.dtype for a in body.arguments] + [c.dtype for c in body.captures]
        op = "StatefulPartitionedCall" if body.stateful else "PartitionedCall"
        self.stateful = self.stateful or body.stateful
        name = self.node(
            op,
            "call",
            list(inputs) + captures,
            control,
            Tin=("types", types_in),
            Tout=("types", [r.dtype for r in body.results]),
            f=("func", body.name),
            config=b"",
            config_proto=b"",
            executor_type=b"",
            # As GRADIENT_OF_CALL, but for the number.
            _gradient_op_type=b"PartitionedCall-%d" % number,
        )
        set_output_shapes(self.fdef.node_def[-1], [r.shape for r in body.results])
        return name

    def finish(self) -> Body:
        """Completes the FunctionDef, which ``fdef`` then holds."""
        keep_sums(self.fdef)
        signature = self.fdef.signature
        shapes = self.fdef.attr["_input_shapes"].list
        shapes.SetInParent()
        for arg in self.arguments:
            signature.input_arg.add(name=arg.name, type=arg.dtype)
            shape = shapes.shape.add()
            if arg.shape is not None:
                shape.CopyFrom(arg.shape)
            else:
                shape.unknown_rank = True
        for capture in self.captures:
            name = self._captured[capture]
            signature.input_arg.add(name=name, type=capture.dtype)
            # An asset's path is a scalar. So is a handle, but ops that ask it for
            # its variable's shape would take that for the answer.
            shapes.shape.add(unknown_rank=capture.dtype == DT_RESOURCE)
        for result in self.results:
            signature.output_arg.add(name=result.name, type=result.dtype)
        signature.is_stateful = self.stateful
        return Body(
            signature.name, self.arguments, self.captures, self.results, self.stateful
        )


def emit(
    graph: Graph,
    writer: FunctionWriter,
    names: Sequence[str],
    bound: Mapping[str, str],
    captures: Mapping[str, Capture],
    stand_ins: Mapping[str, str] = MappingProxyType({}),
    late: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Callable[[str], str]:
    """Copies nodes of a graph into a function.

    Equal small constants, and what is computed from them alone, are copied once:
    a layer's own epsilon, decay or axis is a node for every layer, and a loader
    takes as long for it as for a convolution.

    Args:
      graph: where the nodes are.
      writer: the function; its reserved names must hold ``names``.
      names: the nodes, in order.
      bound: tensors that the function has already, by the graph's name.
      captures: nodes that become captured arguments.
      stand_ins: nodes of the function to wait for instead of nodes of the graph.
      late: by node, the nodes that it waits for where they are in the function.

    Returns:
      From a tensor's name in the graph to the function's tensor.
    """
    emitter = _Emitter(graph, writer, bound, captures, late)
    emitter.runs.update((name, name) for name in names if name not in captures)
    emitter.runs.update(stand_ins)
    for name in names:
        if name not in captures:
            emitter.add(name)
    return emitter.resolve


#     _known:     the graph's tensor -> the function's
#     _constants: tensors of the function that are computed from constants alone
#     _equal:     what a constant computes -> the first node that computes it
#     _awaited:   nodes that another one waits for under their own names
class _Emitter:
    """A function that gets nodes of a graph; the arguments are those of ``emit``.

    Attributes:
      runs: nodes of the graph that the function has, and what to wait for.
    """

    def __init__(
        self,
        graph: Graph,
        writer: FunctionWriter,
        bound: Mapping[str, str],
        captures: Mapping[str, Capture],
        late: Mapping[str, Sequence[str]],
    ) -> None:
        self.runs: Dict[str, str] = {}
        self._graph = graph
        self._writer = writer
        self._captures = captures
        self._late = late
        self._known = dict(bound)
        self._constants: Set[str] = set()
        self._equal: Dict[Tuple[Any, ...], str] = {}
        self._awaited: Set[str] = set()

    def resolve(self, tensor: str) -> str:
        """The function's tensor for one of the graph's."""
        full = normal(tensor)
        found = self._known.get(full)
        if found is None:
            node = node_of(full)
            if node in self._captures:
                found = self._writer.capture(self._captures[node])
            else:
                found = self._graph.reference(full)
            self._known[full] = found
        return found

    def add(self, name: str) -> None:
        """Copies a node, unless it is a constant that the function has."""
        graph, writer = self._graph, self._writer
        node = graph.nodes[name]
        inputs, controls = self._inputs(name)
        if not controls and self._constants.issuperset(inputs):
            key = _constant_key(graph, node, inputs)
            if key is not None and self._is_there(name, key):
                return
        copy = writer.copy(node, inputs + controls)
        if copy.op == "PlaceholderWithDefault":
            # Nothing can be fed inside a function, and it has no gradient.
            dtype = copy.attr["dtype"].type
            copy.op = "Identity"
            copy.attr.clear()
            set_attr(copy, "T", ("type", dtype))
        elif copy.op == "ReadVariableOp" and node_of(node.input[0]) in self._captures:
            handle = graph.nodes[node_of(node.input[0])]
            set_output_shapes(copy, [handle.attr["shape"].shape])
        writer.stateful = writer.stateful or graph.op_def(node.op).is_stateful

    def _inputs(self, name: str) -> Tuple[List[str], List[str]]:
        """What a node takes and waits for, in the function."""
        inputs: List[str] = []
        controls: List[str] = []
        for tensor, producer in self._graph.inputs(name):
            if not tensor.startswith("^"):
                inputs.append(self._known.get(tensor) or self.resolve(tensor))
            elif producer in self.runs:
                # What is elsewhere has run before the function is called.
                wait = "^" + self.runs[producer]
                if wait not in controls:
                    controls.append(wait)
                self._awaited.add(producer)
        for producer in self._late.get(name, ()):
            if producer in self.runs and "^" + self.runs[producer] not in controls:
                controls.append("^" + self.runs[producer])
                self._awaited.add(producer)
        return inputs, controls

    def _is_there(self, name: str, key: Tuple[Any, ...]) -> bool:
        """Whether an equal constant stands for this one from now on."""
        first = self._equal.setdefault(key, name)
        self._constants.add(self._graph.reference(first + ":0"))
        # A file need not be in topological order: what refers to this node already
        # needs it under its own name.
        if first == name or name + ":0" in self._known or name in self._awaited:
            return False
        self._known[name + ":0"] = self._graph.reference(first + ":0")
        self.runs[name] = first
        return True


def _constant_key(
    graph: Graph, node: node_def_pb2.NodeDef, inputs: Sequence[str]
) -> Optional[Tuple[Any, ...]]:
    """Equal for nodes that compute the same from constants; None for others."""
    if node.op == "Const":
        value = node.attr["value"]
        size = 1
        for dim in value.tensor.tensor_shape.dim:
            size *= dim.size
        if size > _SMALL:
            return None
        return (value.SerializeToString(),)
    if not inputs or node.op in CONTROL_FLOW_OPS or graph.op_def(node.op).is_stateful:
        return None
    if len(graph.outputs(node.name)) != 1:
        return None
    attrs = sorted(
        (name, value.SerializeToString(deterministic=True))
        for name, value in node.attr.items()
        if name not in _DROPPED_ATTRS
    )
    return (node.op, tuple(inputs), tuple(attrs))
