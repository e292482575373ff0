"""Puts the nodes of functions in the place of their calls, however deep.

::

    before:  x -> PartitionedCall(f) -> y
    after:   x -> (the nodes of f) -> y

A call's nodes with state wait for what the call waits for. Who waits for the call
waits for all its nodes with state. A node without state computes the same whatever
ran before, so it waits for checks alone: of the other nodes that it would wait for,
``Inlined.touched`` tells, and whoever writes a graph sees to it that they run.

An Identity that waits for nothing goes, too.

Left alone: functions that nodes such as While and If name; a call of a function
within itself; and functions that the caller of ``Inliner`` wants to keep.
"""

from __future__ import annotations

import enum
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from hub_compat._tf import node_def_pb2
from hub_compat.errors import CorruptModuleError

from .attributes import arg_types
from .calls import PARTITIONED_CALLS, call, called_by
from .effects import is_random, is_write
from .flat_graph import FlatGraph
from .graph import node_of
from .same_functions import SameFunctions
from .tensor_names import spell_out

__all__ = ["Inlined", "Inliner", "Kind"]

# Nodes with state that change nothing.
_READS = (
    "LookupTableFind",
    "LookupTableSize",
    "ReadVariableOp",
    "ResourceGather",
    "VarHandleOp",
    "VarIsInitializedOp",
    "VariableShape",
)
_NEW = ("HashTable", "MutableDenseHashTable", "MutableHashTable")
# What its writer inferred, and ties to places of another graph.
_DROPPED = (
    "_class",
    "_has_manual_control_dependencies",
    "_output_shapes",
    "_XlaMustCompile",
    "_xla_inferred_shapes",
)


class Kind(enum.Enum):
    """What a node does beside its outputs."""

    NOTHING = "computes its outputs from its inputs"
    READ = "reads a variable or a table, or draws a number"
    WRITE = "changes a variable or a table"
    CHECK = "does something else: checks, prints"


class Inlined(NamedTuple):
    """What became of a call.

    Attributes:
      results: the tensors that it returns.
      touched: the nodes with state that it has become, in order.
    """

    results: List[str]
    touched: Tuple[str, ...]


class _Step(NamedTuple):
    """A node of a function, as it is copied again and again.

    Attributes:
      node: the NodeDef, without inputs.
      called: the function in whose place its nodes go; None for another node.
      inputs: tensors of the function.
      controls: nodes of the function that it waits for.
      outputs: what other nodes of the function call its outputs.
      key: equal for nodes with the same op and attributes.
      kind: what it does.
      is_copy: whether its output is its input.
    """

    node: Any
    called: Optional[str]
    inputs: Tuple[str, ...]
    controls: Tuple[str, ...]
    outputs: Tuple[str, ...]
    key: bytes
    kind: Kind
    is_copy: bool


#     _steps: function -> its nodes, ordered and prepared for many copies
#     _ops:   function -> all ops in it and in what it calls
#     _stack: functions on the way; a call of one of them stays a call
#     kinds:  node of the flat graph -> what it does, for nodes with state alone
class Inliner:
    """The functions of a library, ready to be inlined.

    Attributes:
      functions: the FunctionDefs by name.
      kinds: of each node that was copied, by its name in the flat graph.
      homes: of each node with state, the functions that it was in.
      kept: functions that stay functions.

    Args:
      functions: the library.
      op_def: from the name of an op to its OpDef.
      kept: functions that stay functions.
    """

    def __init__(
        self,
        functions: Dict[str, Any],
        op_def: Callable[[str], Any],
        kept: Collection[str] = (),
    ) -> None:
        self.functions = functions
        self.kinds: Dict[str, Kind] = {}
        self.homes: Dict[str, Tuple[str, ...]] = {}
        self.kept = frozenset(kept)
        self._op_def = op_def
        self._steps: Dict[str, List[_Step]] = {}
        self._ops: Dict[str, Set[str]] = {}
        self._same = SameFunctions(functions)
        self._stack: List[str] = []

    def op_def(self, op: str) -> Any:
        """The definition of an op, or the signature of a function."""
        if op in self.functions:
            return self.functions[op].signature
        return self._op_def(op)

    def inline(
        self,
        graph: FlatGraph,
        name: str,
        arguments: Sequence[str],
        controls: Sequence[str] = (),
    ) -> Inlined:
        """Adds the nodes of a function to a graph.

        Args:
          graph: the graph.
          name: the function.
          arguments: the tensors of the graph that it is called with.
          controls: the nodes of the graph that the call waits for.

        Raises:
          CorruptModuleError: the function takes another number of arguments.
        """
        function = self.functions[name]
        if name in self.kept:
            return self._call(graph, function, arguments, controls)
        args = [arg.name for arg in function.signature.input_arg]
        if len(args) != len(arguments):
            raise CorruptModuleError(
                "The function {!r} takes {} arguments. Received: {}".format(
                    name, len(args), len(arguments)
                )
            )
        self._stack.append(name)
        copy = _Copy(self, graph, dict(zip(args, arguments)), controls)
        for step in self._steps_of(name):
            copy.add(step, step.called if step.called not in self._stack else None)
        self._stack.pop()
        results = [
            copy.tensors[function.ret[arg.name]]
            for arg in function.signature.output_arg
        ]
        return Inlined(results, tuple(dict.fromkeys(copy.touched)))

    def _call(
        self,
        graph: FlatGraph,
        function: Any,
        arguments: Sequence[str],
        controls: Sequence[str],
    ) -> Inlined:
        """Calls a function that stays one."""
        node = node_def_pb2.NodeDef(name="call")
        call(node, function)
        kind = self.kind(node)
        key = b"call " + function.signature.name.encode()
        has_state = kind is not Kind.NOTHING
        added = graph.copy(node, key, has_state, arguments, controls)
        count = len(function.signature.output_arg)
        results = ["{}:{}".format(added, i) for i in range(count)]
        if not has_state:
            return Inlined(results, ())
        self.kinds[added] = kind
        self.note_home(added)
        return Inlined(results, (added,))

    def note_home(self, name: str) -> None:
        """Notes in which functions a node of a flat graph was."""
        self.homes.setdefault(name, tuple(self._stack))

    # The strongest of the kinds in a called function stands for the call: an If with a
    # write in one branch is a write.
    def kind(self, node: Any) -> Kind:
        """What a node does, with the functions that it names."""
        ops: Set[str] = set()
        for called in called_by(node):
            if called in self.functions:
                ops |= self._ops_of(called)
            elif called == node.op:
                ops.add(called)
        kinds = set(map(self._kind_of, ops))
        for kind in (Kind.WRITE, Kind.CHECK, Kind.READ):
            if kind in kinds:
                return kind
        return Kind.NOTHING

    def _kind_of(self, op: str) -> Kind:
        if is_write(op) or op.startswith("InitializeTable"):
            return Kind.WRITE
        if op in ("If", "While", "Case", "NoOp") or op in PARTITIONED_CALLS:
            return Kind.NOTHING
        if not self._op_def(op).is_stateful:
            return Kind.NOTHING
        if op.startswith(_READS + _NEW) or is_random(op):
            return Kind.READ
        return Kind.CHECK

    def _ops_of(self, name: str) -> Set[str]:
        """The ops of a function and of those that it calls."""
        if name not in self._ops:
            self._ops[name] = set()  # for a function that calls itself
            found: Set[str] = set()
            for node in self.functions[name].node_def:
                for called in called_by(node):
                    if called in self.functions:
                        found |= self._ops_of(called)
                    elif called == node.op:
                        found.add(called)
            self._ops[name] = found
        return self._ops[name]

    def _steps_of(self, name: str) -> List[_Step]:
        if name not in self._steps:
            function = self.functions[name]
            spell_out(function, self.op_def, arg_types)
            steps = {node.name: self._step(node) for node in function.node_def}
            self._steps[name] = [steps[each] for each in _ordered(steps)]
        return self._steps[name]

    def _step(self, node: Any) -> _Step:
        called = self.called(node)
        op = self.op_def(node.op)
        outputs = [
            "{}:{}:{}".format(node.name, arg.name, i)
            for arg in op.output_arg
            for i in range(len(arg_types(node, op, arg)))
        ]
        bare = type(node)(name=node.name, op=node.op)
        for key, value in node.attr.items():
            if key not in _DROPPED:
                bare.attr[key].CopyFrom(value)
        attrs = [
            key.encode() + b"=" + self._same.attribute(bare.attr[key])
            for key in sorted(bare.attr)
        ]
        return _Step(
            bare,
            called[0] if called else None,
            tuple(name for name in node.input if not name.startswith("^")),
            tuple(name[1:] for name in node.input if name.startswith("^")),
            tuple(outputs),
            b"\0".join([node.op.encode()] + attrs),
            self.kind(node),
            node.op == "Identity" and set(bare.attr) <= {"T"},
        )

    def called(self, node: Any) -> Tuple[str, ...]:
        """The function in whose place its nodes go, if a node calls one."""
        name = str(
            node.attr["f"].func.name if node.op in PARTITIONED_CALLS else node.op
        )
        return (name,) if name in self.functions and name not in self.kept else ()


# Who waits for what, after f(x) = {w = Assign(v, x); y = Mul(x, 2)} came in the place
# of
# a call that waits for b, and that c waits for:
#
#     w = Assign(v, x, ^b)      state: waits for what the call waited for
#     y = Mul(x, 2)             no state: computes the same at any time
#     c = ...(^w)               waits for the nodes with state (_waits of the call)
#
#     tensors: the function's tensor -> the graph's
#     _waits:  node of the function -> nodes of the graph in its place
class _Copy:
    """One function on its way into a graph.

    Attributes:
      tensors: from tensors of the function to those of the graph.
      touched: the nodes with state, of functions within, too.
    """

    def __init__(
        self,
        inliner: Inliner,
        graph: FlatGraph,
        tensors: Dict[str, str],
        controls: Sequence[str],
    ) -> None:
        self.tensors = tensors
        self.touched: List[str] = []
        self._inliner = inliner
        self._graph = graph
        self._outer = list(controls)
        # By node of the function, what stands for it where a node waits for it.
        self._waits: Dict[str, Tuple[str, ...]] = {}

    def add(self, step: _Step, called: Optional[str]) -> None:
        """Copies a node, or the function that it calls."""
        inputs = [self.tensors[tensor] for tensor in step.inputs]
        controls = [each for name in step.controls for each in self._waits[name]]
        name = step.node.name
        if called is not None:
            controls = list(dict.fromkeys(self._outer + controls))
            inlined = self._inliner.inline(self._graph, called, inputs, controls)
            self.tensors.update(zip(step.outputs, inlined.results))
            self.touched.extend(inlined.touched)
            self._waits[name] = inlined.touched or tuple(controls)
            return
        if step.node.op == "NoOp":
            self._waits[name] = tuple(dict.fromkeys(controls))
            return
        has_state = step.kind is not Kind.NOTHING
        kinds = self._inliner.kinds
        if step.is_copy and not any(kinds.get(c) is Kind.CHECK for c in controls):
            (source,) = inputs
            self.tensors[step.outputs[0]] = source
            producer = node_of(source)
            own = (producer,) if producer in self._graph.nodes else ()
            self._waits[name] = own + tuple(controls)
            return
        if has_state:
            waits = self._outer + controls
        else:
            waits = [each for each in controls if kinds.get(each) is Kind.CHECK]
        added = self._graph.copy(step.node, step.key, has_state, inputs, waits)
        if has_state:
            kinds[added] = step.kind
            self._inliner.note_home(added)
            self.touched.append(added)
            self._waits[name] = (added,)
        else:
            self._waits[name] = (added,) + tuple(controls)
        for i, tensor in enumerate(step.outputs):
            self.tensors[tensor] = "{}:{}".format(added, i)


def _ordered(steps: Mapping[str, _Step]) -> List[str]:
    """The nodes of a function, each after those that it takes or waits for."""
    done: Dict[str, None] = {}
    entered: Set[str] = set()
    for start in steps:
        stack = [start]
        while stack:
            name = stack.pop()
            if name in done:
                continue
            step = steps[name]
            needed = [node_of(node_of(tensor)) for tensor in step.inputs]
            waiting = [
                other
                for other in needed + list(step.controls)
                if other in steps and other not in done
            ]
            if not waiting:
                done[name] = None
                continue
            if name in entered:
                raise CorruptModuleError(
                    "A function of the model needs its own results, as no function "
                    "can. Received: the node {!r}".format(name)
                )
            entered.add(name)
            stack.append(name)
            stack.extend(waiting)
    return list(done)
