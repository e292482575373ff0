"""Rewrites Enter, Merge, Switch, NextIteration and Exit as While.

::

    before:  x -> Enter -> Merge -> Switch -> Exit
                             |<- NextIteration <- body
    after:   x -> While(cond, body) -> Identity (under the name of the Exit)

A loop variable is an Enter, a Merge and their Switch, NextIteration and Exit. Exits
that need different placeholders get a While each, over the loop variables that they are
computed from. A loop with an effect that would then run twice is left alone, as is one
whose nodes do not have this form; the reason is that of ``NotUnderstood``.
"""

from __future__ import annotations

import itertools
from typing import (
    Any,
    Collection,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Union,
)

from hub_compat._tf import node_def_pb2

from ...ir.constants import add_constant, int32_tensor, shape_of, shapes_attr
from ...ir.dtypes import DT_BOOL, DT_INT32, DT_RESOURCE, DT_STRING, DT_VARIANT
from ...ir.effects import Determinism, is_random, is_write
from ...ir.functions import set_attr
from ...ir.graph import (
    Graph,
    attr_or_default,
    data_inputs,
    node_of,
    normal,
    resource_behind,
)
from ...ir.signatures import make_shape
from ...opdata.op_defs import builtin_ops
from .outlining import (
    CONDITION,
    Outside,
    Part,
    Result,
    collect,
    function_name,
    functional_node,
    outer_tensors,
    write_function,
)
from .regions import Frame, NotUnderstood, Regions, is_invariant
from .trip_counts import most_iterations

__all__ = ["make_whiles"]

# Stateful, but it does not matter how often they run.
_UNSEEN = (
    "Assert",
    "HashTableV2",
    "If",
    "ReadVariableOp",
    "ResourceGather",
    "StatefulPartitionedCall",
    "VarHandleOp",
    "While",
)


class _LoopVariable(NamedTuple):
    """One variable of a loop.

    Attributes:
      merge: the node that has its value at the start of each iteration.
      initial: the tensor that it begins with.
      following: the tensor that it has in the next iteration.
      dtype: its dtype.
      shape: its shape, or None.
    """

    merge: str
    initial: str
    following: str
    dtype: int
    shape: Any


class _Loop:
    """The nodes of a frame by what they are for."""

    def __init__(self, graph: Graph, names: List[str], regions: Regions) -> None:
        self.graph = graph
        self.waits: Set[str] = set()
        # variables: by Merge. switches: Switch -> the Merge whose value it passes on.
        # steps: Merge -> its NextIteration. The Merge stands for the loop variable.
        self.variables: Dict[str, _LoopVariable] = {}
        self.switches: Dict[str, str] = {}
        self.steps: Dict[str, str] = {}
        conditions = []
        for name in sorted(names, key=regions.order.__getitem__):
            op = graph.nodes[name].op
            if op == "LoopCond":
                conditions.append(name)
            elif op == "Merge":
                self._add_variable(name)
            elif op == "Switch" and not regions.is_branching(name):
                self.switches[name] = graph.inputs(name)[0].node
        if len(conditions) != 1:
            raise NotUnderstood(
                min(names), "is in a loop of {} conditions".format(len(conditions))
            )
        self.condition = conditions[0]
        for switch, merge in self.switches.items():
            if merge not in self.variables:
                raise NotUnderstood(
                    switch,
                    "is a Switch of a tensor that is not a loop-carried variable",
                )

    def _add_variable(self, merge: str) -> None:
        graph = self.graph
        edges = data_inputs(graph, merge)
        steps = [e.node for e in edges if graph.nodes[e.node].op == "NextIteration"]
        enters = [e.node for e in edges if graph.nodes[e.node].op == "Enter"]
        if len(edges) != 2 or len(steps) != 1 or len(enters) != 1:
            raise NotUnderstood(merge, "is not a loop-carried variable of a known form")
        self.variables[merge] = _LoopVariable(
            merge,
            graph.inputs(enters[0])[0].tensor,
            graph.inputs(steps[0])[0].tensor,
            graph.output(merge + ":0").dtype,
            shape_of(graph, merge),
        )
        self.steps[merge] = steps[0]

    def texts(self) -> Set[str]:
        """The variables that are lists of strings."""
        found = set()
        for merge, variable in self.variables.items():
            origin = resource_behind(self.graph, node_of(variable.initial))
            attrs = self.graph.node(origin).attr
            if variable.dtype == DT_VARIANT and "element_dtype" in attrs:
                if attrs["element_dtype"].type == DT_STRING:
                    found.add(merge)
        return found

    # Edges to       lead outside to           or are refused, because
    #     Switch:1   its Merge (an argument)   Switch:0 is the value that leaves
    #     Merge:0    itself (an argument)      Merge:1 says which input came
    #     Enter      what enters, if constant  others are no loop-carried variable
    # A control edge to any of these says that there is an iteration: it is dropped.
    def boundary(self, tensor: str, node: str) -> Optional[Outside]:
        """The tensor outside of an iteration that an edge leads to; None if inside."""
        control = tensor.startswith("^")
        op = self.graph.nodes[node].op
        if node in self.switches:
            merge = self.switches[node]
            if not control and tensor.endswith(":0"):
                raise NotUnderstood(node, "is read inside of the loop that it leaves")
            return Outside("" if control else merge + ":0")
        if node in self.variables:
            if tensor.endswith(":1"):
                raise NotUnderstood(
                    node, "tells the first iteration of a loop from the others"
                )
            return Outside("" if control else tensor)
        if op == "Enter":
            if control:
                return Outside("")
            if not is_invariant(self.graph, node):
                raise NotUnderstood(
                    node,
                    "enters a loop without being a loop-carried variable or a constant",
                )
            return Outside(self.graph.inputs(node)[0].tensor)
        if op == "LoopCond":
            return Outside("") if control else None
        if op in ("Merge", "Switch"):
            raise NotUnderstood(node, "is in a conditional that no Merge ends")
        return None


# Given:
#     a = Merge(Enter(x), a/next),  b = Merge(Enter(z), b/next)
#     exit_a = Exit(Switch(a)),     exit_b = Exit(Switch(b))
#     i = Merge(Enter(0), i/next), which the condition compares with a limit
#     x and z are different placeholders; a and b do not need each other
# Result:
#     loop/While = While(turn, most_turns, 0, x)      exit_a = Identity(loop/While:3)
#     loop/While_1 = While(turn, most_turns, 0, z)    exit_b = Identity(loop/While_1:3)
#
# Afterwards, no Exit of the frame is left. Each While computes only what its Exits
# need, and a session that fetches one of them need not feed the others' inputs.
def make_whiles(
    graph: Graph,
    names: List[str],
    frame: Frame,
    regions: Regions,
    fixed: Collection[str],
    sources: Mapping[str, int],
) -> List[str]:
    """Rewrites a loop.

    Args:
      graph: the graph.
      names: the nodes of the frame; inner loops are While nodes by now, and
        conditionals If nodes.
      frame: the frame.
      regions: where the nodes are.
      fixed: constants that are not copied.
      sources: the placeholders behind nodes, as bits.

    Returns:
      The While node; several where what leaves the loop needs different inputs of
      the graph, as a session that wants one of them is not fed the others. So do
      lists of strings, where the loop may run twice: the gradient code of TensorFlow
      asks for zeros like each list that a While returns.
    """
    loop = _Loop(graph, names, regions)
    iteration = _Iteration(graph, names, loop)
    texts = loop.texts()
    # (placeholders behind it as bits, whether it is a list of strings) -> (the Merges
    # of its loop variables, its Exits). One While per key.
    groups: Dict[Tuple[int, bool], Tuple[Set[str], List[str]]] = {}
    for exit_name in regions.left[frame]:
        variable = loop.switches[graph.inputs(exit_name)[0].node]
        needed = iteration.needed(variable)
        key = (iteration.sources(needed, sources), variable in texts)
        variables, exits = groups.setdefault(key, (set(), []))
        variables.update(needed)
        exits.append(exit_name)
    _check_apart(
        graph, [(key[1], iteration.names(group)) for key, (group, _) in groups.items()]
    )
    for (_, of_texts), (variables, _) in groups.items():
        for merge in sorted(texts & variables if not of_texts else ()):
            raise NotUnderstood(
                merge, "is an array of strings that its loop writes and reads"
            )
    waits: Set[str] = set()
    for enter in regions.entered[frame]:
        waits.update(e.node for e in graph.inputs(enter) if e.tensor[0] == "^")
    made = []
    for variables, exits in groups.values():
        chosen = [v for merge, v in loop.variables.items() if merge in variables]
        made.append(
            _write_while(
                graph, regions, loop, iteration, chosen, exits, frame, waits, fixed
            )
        )
    return made


def _check_apart(graph: Graph, groups: List[Tuple[bool, Set[str]]]) -> None:
    """Refuses a loop that cannot be several, as what matters would run twice.

    Args:
      graph: the graph.
      groups: for each While that it may be, whether it writes arrays of strings, and
        its nodes. It runs beside one that does not; one that needs other inputs of
        the graph runs in its place.
    """
    determinism = Determinism(graph)
    for (text, names), (other, others) in itertools.combinations(groups, 2):
        for name in sorted(names & others):
            for op in determinism.ops([name]):
                if is_write(op) or is_random(op) or (text != other and _is_effect(op)):
                    raise NotUnderstood(
                        name,
                        "has a side effect in a loop that would have to run "
                        "twice, because its results need different inputs",
                    )


def _is_effect(op: str) -> bool:
    """Whether it matters how often an op runs."""
    op_def = builtin_ops().get(op)
    if op_def is None or op in _UNSEEN or op.startswith("LookupTable"):
        return is_write(op)
    return bool(op_def.is_stateful)


# Given: a loop of i and a, whose condition is i < 3
# Result:
#     condition     {more}, takes i
#     bodies[i]     {i/add, one}, takes i
#     bodies[a]     {a/square}, takes a
#     needed(a)     {a, i}: the condition is part of each
#
# Condition and body may share nodes. Each gets a copy of its own, so none of them may
# have a side effect (_check_shared).
class _Iteration:
    """The computation of one iteration of a loop.

    Attributes:
      continues: the tensor that says whether there is another iteration.
      condition: the part that computes it.
      bodies: by loop variable, the part that computes its next value.
      controls: by loop variable, nodes that must run before that.
    """

    def __init__(self, graph: Graph, names: List[str], loop: _Loop) -> None:
        inside = set(names)

        def boundary(tensor: str, node: str) -> Optional[Outside]:
            if node in inside:
                return loop.boundary(tensor, node)
            return Outside("^" + node if tensor.startswith("^") else tensor)

        self._loop = loop
        self.continues = graph.inputs(loop.condition)[0].tensor
        self.condition = collect(graph, [self.continues], boundary)
        self.bodies: Dict[str, Part] = {}
        self.controls: Dict[str, List[str]] = {}
        for merge, variable in loop.variables.items():
            waits = [
                edge.tensor
                for edge in graph.inputs(loop.steps[merge])
                if edge.tensor.startswith("^")
            ]
            part = collect(graph, [variable.following] + waits, boundary)
            self.bodies[merge] = part
            self.controls[merge] = [w[1:] for w in waits if w[1:] in part.names]

    def needed(self, merge: str) -> Set[str]:
        """The loop variables that one of them is computed from."""
        found: Set[str] = set()
        stack = [merge] + self._variables(self.condition)
        while stack:
            other = stack.pop()
            if other not in found:
                found.add(other)
                stack += self._variables(self.bodies[other])
        return found

    def names(self, variables: Set[str]) -> Set[str]:
        """The nodes that a While of some loop variables has."""
        found = set(self.condition.names)
        for merge in variables:
            found |= self.bodies[merge].names
        return found

    def _variables(self, part: Part) -> List[str]:
        found = (node_of(tensor) for tensor in part.taken.values())
        return [node for node in found if node in self._loop.variables]

    def sources(self, variables: Set[str], sources: Mapping[str, int]) -> int:
        """The placeholders behind what enters the loop for some variables."""
        found = 0
        for part in [self.condition] + [self.bodies[merge] for merge in variables]:
            for tensor in part.taken.values():
                if node_of(tensor) not in self._loop.variables:
                    found |= sources.get(node_of(tensor), 0)
            for wait in part.waits:
                found |= sources.get(wait, 0)
        for merge in variables:
            initial = self._loop.variables[merge].initial
            found |= sources.get(node_of(initial), 0)
        return found


def _write_while(
    graph: Graph,
    regions: Regions,
    loop: _Loop,
    iteration: _Iteration,
    variables: List[_LoopVariable],
    exits: List[str],
    frame: Frame,
    waits: Set[str],
    fixed: Collection[str],
) -> str:
    """Writes the functions and the While for some of a loop's variables."""
    body = Part(set(), {}, set())
    controls: Dict[str, None] = {}
    for variable in variables:
        body.add(iteration.bodies[variable.merge])
        controls.update(dict.fromkeys(iteration.controls[variable.merge]))
    _check_shared(graph, iteration.condition, body)
    own = {variable.merge + ":0" for variable in variables}
    taken, constants = outer_tensors(graph, (iteration.condition, body), fixed, own)
    # Both functions take the same arguments, in this order: two counters, the loop
    # variables, what is taken from outside. The body returns one value for each.
    arguments = [(v.merge + ":0", v.dtype, v.shape) for v in variables] + taken
    scope = loop.condition.rpartition("/")[0] or frame[-1]
    name = graph.unique_name(scope + "/While")
    functions = {
        attr: function_name(graph, "{}_{}".format(name, attr))
        for attr in ("cond", "body")
    }
    goes_on = [Result(CONDITION, _inner(iteration.continues, loop), DT_BOOL)]
    results = []
    for variable in variables:
        tensor = _inner(variable.following, loop)
        same = tensor == variable.merge + ":0" or variable.dtype == DT_RESOURCE
        results.append(Result("next", tensor, variable.dtype, same))
    # What stays the same is returned as it came: TF 1.15 knows a resource by it.
    results += [Result("same", tensor, dtype, True) for tensor, dtype, _ in taken]
    both = {"cond": (iteration.condition, goes_on), "body": (body, results)}
    for attr, (part, returned) in both.items():
        write_function(
            graph,
            regions,
            functions[attr],
            part,
            arguments,
            returned,
            constants,
            controls if part is body else (),
            counted=True,
        )
    limit = most_iterations(graph, iteration.continues, loop.variables, loop.boundary)
    _replace(
        graph, regions, loop, name, functions, frame, variables, taken, exits, limit
    )
    waits = waits | iteration.condition.waits | body.waits
    graph.wait_for(name, sorted(waits))
    regions.order[name] = min(regions.order[each] for each in regions.entered[frame])
    return name


def _inner(tensor: str, loop: _Loop) -> str:
    """A tensor that leaves an iteration, as ``Part.taken`` has it at its entry."""
    tensor = normal(tensor)
    node = tensor.rpartition(":")[0]
    outside = loop.boundary(tensor, node)
    return tensor if outside is None else outside.tensor


def _check_shared(graph: Graph, condition: Part, body: Part) -> None:
    """Refuses side effects that would run twice in an iteration."""
    for name in condition.names & body.names:
        op = graph.nodes[name].op
        if graph.op_def(op).is_stateful and op != "ReadVariableOp":
            raise NotUnderstood(
                name,
                "has a side effect, and is in both the "
                "condition of a loop and its body",
            )


def _replace(
    graph: Graph,
    regions: Regions,
    loop: _Loop,
    name: str,
    functions: Dict[str, str],
    frame: Frame,
    variables: List[_LoopVariable],
    taken: List[Tuple[str, int, Any]],
    exits: List[str],
    limit: Union[int, str],
) -> None:
    """Puts a While in the place of a loop, and Identities in that of its Exits."""
    node = functional_node(name, "While")
    for suffix, value in (("turn", 0), ("most_turns", limit)):
        # The gradient code of TensorFlow counts iterations by the first, and takes
        # the second for the size of the lists that it keeps values in.
        if not isinstance(value, str):
            full = "{}/{}".format(name, suffix)
            value = add_constant(graph, full, int32_tensor(value))
        node.input.append(value)
    node.input.extend(variable.initial for variable in variables)
    node.input.extend(tensor for tensor, _, _ in taken)
    types: List[int] = [DT_INT32, DT_INT32]
    types += [v.dtype for v in variables] + [dtype for _, dtype, _ in taken]
    shapes = [make_shape([]), make_shape([])]
    shapes += [v.shape for v in variables] + [shape for _, _, shape in taken]
    set_attr(node, "T", ("types", types))
    set_attr(node, "output_shapes", shapes_attr(shapes))
    for attr, function in functions.items():
        set_attr(node, attr, ("func", function))
    enter = graph.nodes[regions.entered[frame][0]]
    parallel = attr_or_default(enter, graph.op_def("Enter"), "parallel_iterations").i
    set_attr(node, "parallel_iterations", int(parallel))
    graph.replace(node)
    places = {variable.merge: i + 2 for i, variable in enumerate(variables)}
    regions.frames[name] = frame[:-1]
    for exit_name in exits:
        old = graph.nodes[exit_name]
        i = places[loop.switches[graph.inputs(exit_name)[0].node]]
        op = "StopGradient" if exit_name in graph.stopped else "Identity"
        result = node_def_pb2.NodeDef(name=exit_name, op=op)
        result.input.append("{}:{}".format(name, i))
        result.input.extend(t for t in old.input if t.startswith("^"))
        set_attr(result, "T", ("type", types[i]))
        if shapes[i] is not None:
            set_attr(result, "_output_shapes", shapes_attr([shapes[i]]))
        graph.replace(result)
        regions.guards[name] = regions.guards[exit_name]
