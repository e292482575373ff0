"""Collects nodes of a loop or conditional, and writes them as a function.

::

    before:  x -> Mul -> Add -> y         in a loop's body
    after:   body(x): Mul -> Add -> y     in the library

Small constants are copied into each function, because an axis or a shape must be known
when gradients are built. What comes from outside becomes an argument.
"""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from hub_compat._tf import node_def_pb2

from ...ir.constants import int32_tensor, shape_of
from ...ir.dtypes import DT_INT32, DT_RESOURCE
from ...ir.functions import FunctionWriter, emit, set_attr
from ...ir.graph import Graph, node_of, normal, split_tensor
from ...ir.names import argument_name
from ...ir.signatures import make_shape
from .regions import Regions, is_invariant

__all__ = [
    "CONDITION",
    "Outside",
    "Part",
    "Result",
    "collect",
    "constant_behind",
    "function_name",
    "functional_node",
    "outer_tensors",
    "write_function",
]

# Bytes of a constant that a function gets a copy of: an axis or a shape must be
# known when gradients are built. A larger one may be the weights of a frozen graph.
_SMALL = 1024
# The result of the function that says whether a loop goes on.
CONDITION = "goes_on"


# A tensor from outside: its name, dtype and shape.
Argument = Tuple[str, int, Any]


class Outside(NamedTuple):
    """The tensor outside of a part that an edge leads to.

    Attributes:
      tensor: the tensor that the function takes as an argument; or a node to wait
        for before it is called, ``"^node"``; empty for nothing.
    """

    tensor: str


class Part(NamedTuple):
    """The nodes that compute something within a region.

    Attributes:
      names: the nodes.
      taken: tensors from outside, by the names that the nodes know them by.
      waits: nodes outside that must have run.
    """

    names: Set[str]
    taken: Dict[str, str]
    waits: Set[str]

    def add(self, other: Part) -> None:
        """Adds another part's nodes."""
        self.names.update(other.names)
        self.taken.update(other.taken)
        self.waits.update(other.waits)


class Result(NamedTuple):
    """A result of a function.

    Attributes:
      name: its name.
      tensor: the tensor, as the part's nodes name it.
      dtype: its dtype.
      own: whether it may be an argument, unchanged.
    """

    name: str
    tensor: str
    dtype: int
    own: bool = False


# Walks from the results back to the boundary. What no result needs stays behind, so
# that a branch holds no node that only the other branch wants.
def collect(
    graph: Graph,
    fetches: Iterable[str],
    boundary: Callable[[str, str], Optional[Outside]],
) -> Part:
    """The part of a region that computes some tensors.

    Args:
      graph: the graph.
      fetches: full names of tensors, and control edges.
      boundary: called with a tensor or control edge and the node that it is of;
        None where that is inside.
    """
    part = Part(set(), {}, set())
    stack = [(normal(tensor), node_of(tensor)) for tensor in fetches]
    while stack:
        tensor, node = stack.pop()
        outside = boundary(tensor, node)
        if outside is not None:
            if outside.tensor.startswith("^"):
                part.waits.add(outside.tensor[1:])
            elif outside.tensor and not tensor.startswith("^"):
                part.taken[tensor] = outside.tensor
        elif node not in part.names:
            part.names.add(node)
            stack.extend(graph.inputs(node))
    return part


def constant_behind(graph: Graph, tensor: str, fixed: Collection[str]) -> Optional[str]:
    """The small Const whose value a tensor has, past loops and conditionals.

    Args:
      graph: the graph.
      tensor: the tensor.
      fixed: constants that stay where they are: the paths of assets.
    """
    while True:
        node, _ = split_tensor(tensor)
        op = graph.node(node).op
        if op == "Const":
            small = graph.nodes[node].attr["value"].ByteSize() <= _SMALL
            return node if small and node not in fixed else None
        if op in ("Identity", "Switch") or is_invariant(graph, node):
            tensor = graph.inputs(node)[0].tensor
        else:
            return None


def outer_tensors(
    graph: Graph,
    parts: Iterable[Part],
    fixed: Collection[str],
    own: Collection[str] = (),
) -> Tuple[List[Argument], Dict[str, str]]:
    """What parts take of what is around them.

    Args:
      graph: the graph.
      parts: those that become functions with the same arguments.
      fixed: constants that stay where they are.
      own: tensors that are arguments anyway.

    Returns:
      The arguments, sorted by name, and the constants that are copied in their place.
    """
    constants: Dict[str, str] = {}
    arguments: Dict[str, Argument] = {}
    for part in parts:
        for tensor in part.taken.values():
            if tensor in own:
                continue
            constant = constant_behind(graph, tensor, fixed)
            if constant is not None:
                constants[tensor] = constant
            else:
                dtype = graph.output(tensor).dtype
                arguments[tensor] = (tensor, dtype, shape_of(graph, tensor))
    return sorted(arguments.values(), key=lambda each: each[0]), constants


# Given:
#     i/add = Add(i/switch:1, one),  one = Const 1      part.taken: i/switch:1 -> i:0
# Result: in the library
#     body(turn, most_turns, i):
#         one = Const 1
#         i/add = Add(i, one)
#         -> turn + 1, most_turns, i/add
#
# Three names of one tensor meet here. The nodes know it by its inner name
# (i/switch:1), the graph by its outer name (i:0), the function by the argument (i).
def write_function(
    graph: Graph,
    regions: Regions,
    name: str,
    part: Part,
    arguments: Sequence[Argument],
    results: Sequence[Result],
    constants: Dict[str, str],
    controls: Iterable[str] = (),
    counted: bool = False,
) -> None:
    """Adds a function to the library of a graph.

    Args:
      graph: the graph.
      regions: says the order of the nodes.
      name: the function's name.
      part: its nodes.
      arguments: outer tensors, with their dtypes and shapes.
      results: what it returns.
      constants: outer tensors that are Const nodes, which it gets copies of.
      controls: nodes of the part that must run.
      counted: whether the function is of a loop: the number of iterations so far and
        most that there may be come first, and a body returns them.
    """
    copied = {constants[t] for t in part.taken.values() if t in constants}
    order = regions.order
    names = sorted(part.names, key=lambda each: (order.get(each, -1), each))
    names += sorted(copied)
    writer = FunctionWriter(name, names)
    counters = [
        writer.argument(each, DT_INT32, make_shape([]))
        for each in ("turn", "most_turns")
        if counted
    ]
    given = {
        tensor: writer.argument(node_of(tensor), dtype, shape)
        for tensor, dtype, shape in arguments
    }
    bound = {
        inner: given[outer] if outer in given else constants[outer] + ":output:0"
        for inner, outer in part.taken.items()
    }
    # Under their own names: equal constants would be one otherwise.
    bound.update((const + ":0", const + ":output:0") for const in copied)
    resolve = emit(graph, writer, names, bound, {})
    if counted and results[0].name == CONDITION:
        _tie_constants(writer, counters[0])
    elif counted:
        _count(writer, counters)
    for result in results:
        tensor = given.get(result.tensor) or resolve(result.tensor)
        _return(writer, result, tensor, tensor in given.values())
    for control in controls:
        writer.control_result(control)
    writer.stateful = writer.stateful or any(
        dtype == DT_RESOURCE for _, dtype, _ in arguments
    )
    writer.finish()
    graph.add_function(writer.fdef)


def _count(writer: FunctionWriter, counters: Sequence[str]) -> None:
    """Returns one iteration more, and the most that there may be."""
    int32 = ("type", DT_INT32)
    one = writer.node("Const", "one", dtype=int32, value=int32_tensor(1))
    iteration = writer.node("AddV2", "next", [counters[0], one + ":output:0"], T=int32)
    writer.result("turn", DT_INT32, iteration + ":z:0")
    writer.result("most_turns", DT_INT32, counters[1])


def _return(
    writer: FunctionWriter, result: Result, tensor: str, is_argument: bool
) -> None:
    if is_argument and not result.own:
        # A function that returns its own argument confuses the gradient code of
        # TF 1.15.
        node = writer.node(
            "Identity", "result_" + result.name, [tensor], T=("type", result.dtype)
        )
        tensor = node + ":output:0"
    writer.result(result.name, result.dtype, tensor)


def _tie_constants(writer: FunctionWriter, counter: str) -> None:
    """Makes the constants of a loop's condition wait for one of its arguments.

    With a loop in the condition, a session of TF 1.15 takes them to be outside.
    """
    if any(node.op == "While" for node in writer.fdef.node_def):
        alone = [node for node in writer.fdef.node_def if not node.input]
        here = writer.node("Identity", "here", [counter], T=("type", DT_INT32))
        for node in alone:
            node.input.append("^" + here)


def function_name(graph: Graph, wanted: str) -> str:
    """A name that no function has yet."""
    base = name = argument_name(wanted)
    count = 0
    while name in graph.library:
        count += 1
        name = "{}_{}".format(base, count)
    return name


def functional_node(name: str, op: str) -> node_def_pb2.NodeDef:
    """A While or If without its inputs and types.

    TensorFlow makes Switches and Merges of it again when it runs it. Without that it
    would call a function in each iteration, and wait for all of it.
    """
    node = node_def_pb2.NodeDef(name=name, op=op)
    set_attr(node, "_lower_using_switch_merge", True)
    return node
