"""Rewrites TF1's loops, conditionals and TensorArrays as While, If and TensorLists.

::

    before:  x -> Enter -> Merge -> Switch -> Exit
    after:   x -> While(cond, body) -> Identity

    before:  x, p -> Switch -> (f | g) -> Merge
    after:   x, p -> If(f, g) -> Identity

TensorFlow 2 runs TF1's control flow inside a function, but cannot differentiate it: the
gradient code looks for Python objects that a loaded graph does not have. It can
differentiate While and If, whose branches and bodies are functions, and TensorLists,
which are values. In order:

1. ``inlining``: functions that hold control flow are put in the place of their calls.
2. ``forward_copies``: loops whose gradient is in the graph are copied, for results that
   need none.
3. ``regions``: which nodes are in which loop and in which branch.
4. ``open_branches``: a conditional without a Merge gets one, if it has a user.
5. ``components``: which loops, conditionals and arrays share nodes.
6. ``hoisting``: reads of variables and tables move before the loop.
7. ``tensor_arrays``: arrays become lists.
8. ``conditionals``, ``while_loops``: from the innermost out, nodes become functions
   (``outlining``), and an If or While that calls them.

A connected component that is not understood stays as it is. ``context.left`` has its
nodes and the reason; ``gradient_guards`` puts both into the message of its error.
Update ops inside of loops are dropped, with a warning: TF1 cannot run them either.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, Iterable, List, Mapping

from ...ir import effects
from ...ir.context import Context
from ...ir.dtypes import DT_RESOURCE
from ...ir.graph import (
    CONTROL_FLOW_OPS,
    PLACEHOLDERS,
    Graph,
    node_of,
    normal,
    topological,
)
from . import conditionals, hoisting, open_branches, tensor_arrays, while_loops
from .components import find_components, has_control_flow
from .forward_copies import part_from_gradients
from .inlining import inline_calls
from .regions import Frame, NotUnderstood, Regions

__all__ = [
    "copy_forward",
    "inline",
    "inside_of_loops",
    "make_functional",
    "run",
]


def inside_of_loops(graph: Graph, tensors: Iterable[str]) -> List[str]:
    """The tensors of a list that exist inside of a loop only."""
    tensors = list(tensors)
    names = graph.slice(tensors)
    if all(graph.nodes[name].op != "Enter" for name in names):
        return []
    frames = Regions(graph, names).frames
    return [tensor for tensor in tensors if frames[node_of(tensor)]]


# Given:
#     y = PartitionedCall(flag, x) {f: @choose}
#     choose(p, a): Switch(a, p) -> Neg | AddV2 -> Merge
# Result:
#     y/inlined/p = Identity(flag)
#     y/inlined/a = Identity(x)
#     y/inlined/body/either = Switch(y/inlined/a, y/inlined/p)
#     y/inlined/body/chosen = Merge(...)
#     y = NoOp(^y/inlined/body/chosen)           keeps the name for control edges
#
# Afterwards, TF1 control flow is in the graph, but for the functions that
# context.looping names: recursive ones, those with a custom gradient, makers of
# tables, those that a While or If calls.
#
# After "custom gradients", which says what may not be inlined. Before "forward
# copies" and "control flow", which see the nodes of the graph alone.
def inline(graph: Graph, context: Context) -> None:
    """Puts functions with control flow in the place of their calls."""
    context.looping = inline_calls(graph, context.custom)


# Given:
#     y = Exit(a/switch)                       signature forward: y
#     push = StackPushV2(stack, a/switch:1)    inside of the loop
#     dx = StackPopV2(stack)                   signature gradient: dx
# Result: the same loop for dx, and beside it
#     y/forward = Exit(a/switch/forward)       frame "loop/forward", no stack
#     context.moved: y -> y/forward
#
# Afterwards, a signature without a gradient shares no stack with one that has some,
# unless the loop draws random numbers or writes.
#
# Before "control flow", which leaves loops with stacks alone: the copy can become a
# While, the original cannot.
def copy_forward(graph: Graph, context: Context) -> None:
    """Copies loops for what is wanted without their gradients."""
    wanted = context.ends() + [([loss], set()) for loss in context.losses]
    context.moved = part_from_gradients(graph, wanted, context.asset_paths)
    context.losses = [context.moved.get(normal(loss), loss) for loss in context.losses]
    context.fetches += context.moved.values()


# Given:
#     i/enter = Enter(zero) {frame_name: "loop"},  a/enter = Enter(x)
#     i = Merge(i/enter, i/next),                  a = Merge(a/enter, a/next)
#     go = LoopCond(Less(i, limit))
#     i/switch = Switch(i, go),                    a/switch = Switch(a, go)
#     i/next = NextIteration(Add(i/switch:1, 1))
#     a/next = NextIteration(Square(a/switch:1))
#     y = Exit(a/switch)
# Result:
#     loop/While = While(turn=0, most_turns=3, zero, x)
#     loop_while_cond(turn, most_turns, i, a): Less(i, 3)
#     loop_while_body(turn, most_turns, i, a): turn + 1, most_turns, i + 1, Square(a)
#     y = Identity(loop/While:3)
#
# Afterwards, each TF1 control flow node that is needed is in context.left, with the
# reason (invariants.no_control_flow).
#
# After "variables" and "tables": functions take resources, and no references. After
# "forward copies", as a While hands none of its values out on stacks.
def run(graph: Graph, context: Context) -> None:
    """Rewrites the control flow of a graph, and drops update ops inside of loops."""
    wanted = len(context.update_ops)
    context.left = make_functional(
        graph, context.update_ops, context.fetches, context.asset_paths
    )
    if len(context.update_ops) < wanted:
        context.warn(
            "{} of {} update ops are inside of loops, where TensorFlow 1 cannot "
            "fetch them; training runs the others",
            wanted - len(context.update_ops),
            wanted,
        )


def make_functional(
    graph: Graph,
    targets: List[str],
    outputs: Collection[str] = (),
    fixed: Collection[str] = (),
) -> Dict[str, str]:
    """Rewrites the control flow of a graph.

    Args:
      graph: the graph, whose variables and tables are resources.
      targets: nodes that a session runs for their own sake. A node of a branch is
        replaced by one after the conditional; one of a loop goes: nothing outside
        can run it, and what inside waits for it still does.
      outputs: tensors that are wanted of the graph.
      fixed: constants that stay where they are: the paths of assets.

    Returns:
      The nodes of what was not understood, and why.
    """
    if not has_control_flow(graph):
        return {}
    _free_resources(graph)
    regions = Regions(graph, list(graph.nodes))
    known = len(graph.added)
    targets[:] = [
        open_branches.end(graph, regions, target)
        for target in targets
        if not regions.frames[target]
    ]
    for tensor in outputs:
        open_branches.take_out(graph, regions, tensor)
    if len(graph.added) > known:
        regions = Regions(graph, list(graph.nodes))
    written = effects.written_resources(graph)
    sources = _sources(graph, regions)
    numbered = conditionals.numbered(graph, regions, outputs)
    left: Dict[str, str] = {}
    rewritten: List[str] = []
    for names in find_components(graph, regions):
        attempt = _Attempt(graph, names)
        known = len(graph.added)
        try:
            for name in names:
                if name in regions.problems:
                    raise NotUnderstood(name, regions.problems[name])
            rewritten += _rewrite(
                graph, names, regions, written, numbered, sources, fixed
            )
        except NotUnderstood as error:
            attempt.undo()
            left.update(dict.fromkeys(names, str(error)))
        # What a conditional or loop writes, the node that it has become writes.
        made = [name for name in graph.added[known:] if name in graph.nodes]
        for resource, writers in effects.written_resources(graph, made).items():
            written.setdefault(resource, []).extend(writers)
    _remove_unused(graph, rewritten)
    return left


def _free_resources(graph: Graph) -> None:
    """Moves variables and tables that were made in a branch out of it."""
    for name, node in graph.nodes.items():
        if node.input and all(tensor.startswith("^") for tensor in node.input):
            outputs = graph.outputs(name)
            if outputs and all(output.dtype == DT_RESOURCE for output in outputs):
                graph.set_inputs(name, [])


def _sources(graph: Graph, regions: Regions) -> Dict[str, int]:
    """The placeholders that each node depends on, as bits."""
    bits: Dict[str, int] = {}
    found: Dict[str, int] = {}
    for name in regions.order:
        behind = 0
        if graph.nodes[name].op in PLACEHOLDERS:
            behind = bits.setdefault(name, 1 << len(bits))
        for edge in graph.inputs(name):
            behind |= found.get(edge.node, 0)
        found[name] = behind
    return found


# All or nothing: half a component would take tensors that are gone. A component that
# fails leaves no trace, and those before it stay rewritten.
class _Attempt:
    """A snapshot of a graph, before some of its nodes are rewritten."""

    def __init__(self, graph: Graph, names: List[str]) -> None:
        self._graph = graph
        self._added = len(graph.added)
        self._functions = set(graph.library)
        self._nodes: Dict[str, Any] = {}
        for name in names:
            self._nodes[name] = type(graph.nodes[name])()
            self._nodes[name].CopyFrom(graph.nodes[name])

    def undo(self) -> None:
        """Puts everything back."""
        graph = self._graph
        for name in graph.added[self._added :]:
            graph.remove(name)
        for node in self._nodes.values():
            graph.replace(node)
        for name in [name for name in graph.library if name not in self._functions]:
            del graph.library[name]


def _rewrite(
    graph: Graph,
    names: List[str],
    regions: Regions,
    written: Mapping[str, List[str]],
    numbered: Collection[str],
    sources: Mapping[str, int],
    fixed: Collection[str],
) -> List[str]:
    """Rewrites a connected component; returns nodes that may have become unused."""
    # The order counts. Merges of two inputs are what make_ifs takes. Hoisting comes
    # before lists, as it only knows handles of variables and tables. Then nodes have
    # been added and removed, so the regions are found again.
    names = names + conditionals.split_merges(graph, names, regions, numbered)
    names = names + hoisting.read_before(graph, names, regions, written)
    names = tensor_arrays.make_lists(graph, topological(graph, names))
    regions = Regions(graph, names)
    for name, reason in regions.problems.items():
        raise NotUnderstood(name, reason)
    by_frame: Dict[Frame, List[str]] = {}
    for name in names:
        by_frame.setdefault(regions.frames[name], []).append(name)
    for frame in list(by_frame):
        # Every frame has its Enters, but what is between two of them may be empty.
        for depth in range(len(frame)):
            by_frame.setdefault(frame[:depth], [])
    # Innermost first: an inner loop is one While node of the outer frame by the time
    # that the outer loop becomes a function. Likewise, the conditionals of a frame are
    # If nodes before its loop is written.
    for frame in sorted(by_frame, key=len, reverse=True):
        inside = by_frame[frame]
        inside += conditionals.make_ifs(graph, inside, regions, fixed, sources)
        if frame:
            by_frame[frame[:-1]] += while_loops.make_whiles(
                graph, inside, frame, regions, fixed, sources
            )
    return [
        name
        for name in names
        if regions.frames[name]
        or regions.guards[name]
        or graph.nodes[name].op in CONTROL_FLOW_OPS
    ]


def _remove_unused(graph: Graph, names: List[str]) -> None:
    """Removes those of some nodes that nothing takes any more."""
    candidates = set(names).intersection(graph.nodes)
    stack = [name for name in graph.nodes if name not in candidates]
    used = set(stack)
    while stack:
        for edge in graph.inputs(stack.pop()):
            if edge.node in candidates and edge.node not in used:
                used.add(edge.node)
                stack.append(edge.node)
    for name in candidates - used:
        graph.remove(name)
