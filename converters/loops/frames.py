"""Enter, Merge, Switch, NextIteration and Exit as While."""

from __future__ import annotations

from typing import Any, Collection, Dict, List, NamedTuple, Optional, Set, Tuple

from hub_compat._tf import node_def_pb2

from ..functions import set_attr
from ..graph import DT_INT32, DT_RESOURCE, Graph, attr_or_default, normal
from ..model import make_shape
from .parts import (
    CONDITION,
    Outside,
    Part,
    Result,
    collect,
    constant_behind,
    function_name,
    int32_tensor,
    shape_of,
    shapes_attr,
    write_function,
)
from .regions import Frame, NotUnderstood, Regions, data_inputs, is_invariant

__all__ = ["make_while"]

DT_BOOL = 10


class _LoopVariable(NamedTuple):
    """One variable of a loop.

    Attributes:
      merge: the node that has its value at the start of each turn.
      initial: the tensor that it begins with.
      following: the tensor that it has in the next turn.
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
                raise NotUnderstood(switch, "decides about what is no loop variable")

    def _add_variable(self, merge: str) -> None:
        graph = self.graph
        edges = data_inputs(graph, merge)
        steps = [e.node for e in edges if graph.nodes[e.node].op == "NextIteration"]
        enters = [e.node for e in edges if graph.nodes[e.node].op == "Enter"]
        if len(edges) != 2 or len(steps) != 1 or len(enters) != 1:
            raise NotUnderstood(merge, "is no loop variable of a known form")
        self.variables[merge] = _LoopVariable(
            merge,
            graph.inputs(enters[0])[0].tensor,
            graph.inputs(steps[0])[0].tensor,
            graph.output(merge + ":0").dtype,
            shape_of(graph, merge),
        )
        self.steps[merge] = steps[0]

    def boundary(self, tensor: str, node: str) -> Optional[Outside]:
        """What an edge leads to outside of a turn of the loop."""
        control = tensor.startswith("^")
        op = self.graph.nodes[node].op
        if node in self.switches:
            merge = self.switches[node]
            if not control and tensor.endswith(":0"):
                raise NotUnderstood(node, "is read inside of the loop that it leaves")
            return Outside("" if control else merge + ":0")
        if node in self.variables:
            if tensor.endswith(":1"):
                raise NotUnderstood(node, "says whether it is the first turn")
            return Outside("" if control else tensor)
        if op == "Enter":
            if control:
                return Outside("")
            if not is_invariant(self.graph, node):
                raise NotUnderstood(node, "is there in the first turn of a loop only")
            return Outside(self.graph.inputs(node)[0].tensor)
        if op == "LoopCond":
            return Outside("") if control else None
        if op in ("Merge", "Switch"):
            raise NotUnderstood(node, "is of a conditional that does not end")
        return None


def make_while(
    graph: Graph,
    names: List[str],
    frame: Frame,
    regions: Regions,
    fixed: Collection[str],
) -> str:
    """Rewrites a loop.

    Args:
      graph: the graph.
      names: the nodes of the frame; inner loops are While nodes by now, and
        conditionals If nodes.
      frame: the frame.
      regions: where the nodes are.
      fixed: constants that are not copied.

    Returns:
      The While node.
    """
    loop = _Loop(graph, names, regions)
    inside = set(names)

    def boundary(tensor: str, node: str) -> Optional[Outside]:
        if node in inside:
            return loop.boundary(tensor, node)
        return Outside("^" + node if tensor.startswith("^") else tensor)

    continues = graph.inputs(loop.condition)[0].tensor
    condition = collect(graph, [continues], boundary)
    body = Part(set(), {}, set())
    controls = []
    for merge, variable in loop.variables.items():
        waits = [
            edge.tensor
            for edge in graph.inputs(loop.steps[merge])
            if edge.tensor.startswith("^")
        ]
        body.add(collect(graph, [variable.following] + waits, boundary))
        controls += [wait[1:] for wait in waits]
    _check_shared(graph, condition, body)

    variables = list(loop.variables.values())
    own = {variable.merge + ":0" for variable in variables}
    constants: Dict[str, str] = {}
    invariants: Dict[str, Tuple[str, int, Any]] = {}
    for part in (condition, body):
        for tensor in part.taken.values():
            if tensor in own:
                continue
            constant = constant_behind(graph, tensor, fixed)
            if constant is not None:
                constants[tensor] = constant
            else:
                dtype = graph.output(tensor).dtype
                invariants[tensor] = (tensor, dtype, shape_of(graph, tensor))
    taken = sorted(invariants.values(), key=lambda each: each[0])
    arguments = [(v.merge + ":0", v.dtype, v.shape) for v in variables] + taken

    name = graph.unique_name((loop.condition.rpartition("/")[0] or frame[-1]) + "/While")
    functions = {
        attr: function_name(graph, "{}_{}".format(name, attr))
        for attr in ("cond", "body")
    }
    goes_on = Result(CONDITION, _inner(continues, loop), DT_BOOL)
    write_function(
        graph,
        regions,
        functions["cond"],
        condition,
        arguments,
        [goes_on],
        constants,
        counted=True,
    )
    results = []
    for variable in variables:
        tensor = _inner(variable.following, loop)
        same = tensor == variable.merge + ":0" or variable.dtype == DT_RESOURCE
        results.append(Result("next", tensor, variable.dtype, same))
    # What stays the same is returned as it came: TF 1.15 knows a resource by it.
    results += [Result("same", tensor, dtype, True) for tensor, dtype, _ in taken]
    write_function(
        graph,
        regions,
        functions["body"],
        body,
        arguments,
        results,
        constants,
        [control for control in controls if control in body.names],
        counted=True,
    )
    _replace(graph, regions, loop, name, functions, frame, taken)
    waits = condition.waits | body.waits
    for enter in regions.entered[frame]:
        if enter in graph.nodes:
            waits.update(e.node for e in graph.inputs(enter) if e.tensor[0] == "^")
    graph.nodes[name].input.extend("^" + wait for wait in sorted(waits))
    graph.forget(name)
    regions.order[name] = min(regions.order[each] for each in regions.entered[frame])
    return name


def _inner(tensor: str, loop: _Loop) -> str:
    """A tensor that leaves a turn, as ``Part.taken`` has it where it came in."""
    tensor = normal(tensor)
    node = tensor.rpartition(":")[0]
    outside = loop.boundary(tensor, node)
    return tensor if outside is None else outside.tensor


def _check_shared(graph: Graph, condition: Part, body: Part) -> None:
    """Refuses what would be run twice in a turn."""
    for name in condition.names & body.names:
        op = graph.nodes[name].op
        if graph.op_def(op).is_stateful and op != "ReadVariableOp":
            raise NotUnderstood(name, "is in the condition of a loop and in its body")


def _replace(
    graph: Graph,
    regions: Regions,
    loop: _Loop,
    name: str,
    functions: Dict[str, str],
    frame: Frame,
    taken: List[Tuple[str, int, Any]],
) -> None:
    """Puts a While in the place of a loop, and Identities in that of its Exits."""
    variables = list(loop.variables.values())
    node = node_def_pb2.NodeDef(name=name, op="While")
    for suffix, value in (("turn", 0), ("most_turns", -1)):
        # The gradient code of TensorFlow counts the turns by the first, and takes
        # the second for the size of the lists that it keeps values in.
        constant = node_def_pb2.NodeDef(op="Const")
        constant.name = graph.unique_name("{}/{}".format(name, suffix))
        set_attr(constant, "dtype", ("type", DT_INT32))
        set_attr(constant, "value", int32_tensor(value))
        graph.replace(constant)
        node.input.append(constant.name)
    node.input.extend(variable.initial for variable in variables)
    node.input.extend(tensor for tensor, _, _ in taken)
    types = [DT_INT32, DT_INT32]
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
    for exit_name in regions.left[frame]:
        old = graph.nodes[exit_name]
        i = places[loop.switches[graph.inputs(exit_name)[0].node]]
        result = node_def_pb2.NodeDef(name=exit_name, op="Identity")
        result.input.append("{}:{}".format(name, i))
        result.input.extend(t for t in old.input if t.startswith("^"))
        set_attr(result, "T", ("type", types[i]))
        if shapes[i] is not None:
            set_attr(result, "_output_shapes", shapes_attr([shapes[i]]))
        graph.replace(result)
        regions.guards[name] = regions.guards[exit_name]
