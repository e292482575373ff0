"""Rewrites Switch and Merge as If.

::

    before:  x, p -> Switch -> (f | g) -> Merge
    after:   x, p -> If(then=g', else=f') -> Identity (under the name of the Merge)

Merges of one tf.cond become one If, unless they need different placeholders. Left alone
are a Merge without a Switch of its own, a choice between resources, and conditionals
that need each other; the reason is that of ``NotUnderstood``.
"""

from __future__ import annotations

from typing import (
    Any,
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

from ...ir.builder import Builder, Tensor, new_node
from ...ir.constants import int32_tensor, shape_of, shapes_attr
from ...ir.dtypes import DT_BOOL, DT_RESOURCE, DT_STRING
from ...ir.functions import set_attr
from ...ir.graph import Graph, data_inputs, normal
from .outlining import (
    Outside,
    Part,
    Result,
    collect,
    function_name,
    functional_node,
    outer_tensors,
    write_function,
)
from .regions import Choice, Guards, NotUnderstood, Regions

__all__ = ["make_ifs", "numbered", "split_merges"]


class _Merge(NamedTuple):
    """One Merge of a conditional.

    Attributes:
      name: the node.
      branches: the inputs that it takes where the predicate is false and true.
    """

    name: str
    branches: Tuple[str, str]


class _Conditional(NamedTuple):
    """The nodes and Merges that one If computes.

    Attributes:
      predicate: as ``Regions.predicate`` names it.
      guards: those of the conditional itself.
      merges: what it returns.
    """

    predicate: str
    guards: Guards
    merges: List[_Merge]


def numbered(graph: Graph, regions: Regions, outputs: Collection[str]) -> Set[str]:
    """The Merges that are asked for the number of the input they took.

    Args:
      graph: the graph.
      regions: how the Merges choose.
      outputs: tensors that are wanted of the graph.
    """
    found = {name for name in regions.choices if name + ":1" in outputs}
    found.update(
        edge.node
        for name in graph.nodes
        for edge in graph.inputs(name)
        if edge.tensor.endswith(":1") and edge.node in regions.choices
    )
    return found


# Given:
#     y = Merge(a, b, c)        tf.case: a where p, b where q, c otherwise
# Result:
#     y/inner = Merge(b, c)
#     y = Merge(a, y/inner)     and y/value_index beside it, if y:1 is wanted
#
# Afterwards, each Merge is the end of one If: two inputs, and only output 0 is used.
def split_merges(
    graph: Graph, names: List[str], regions: Regions, numbered: Collection[str]
) -> List[str]:
    """Gives each Merge two inputs, and none the number of the one it took.

    Args:
      graph: the graph.
      names: the nodes, Merges among them.
      regions: how the Merges choose.
      numbered: see the function of that name.

    Returns:
      The nodes that were added.
    """
    known = len(graph.added)
    for name in [n for n in names if n in regions.choices]:
        node, choice = graph.nodes[name], regions.choices[name]
        edges = data_inputs(graph, name)
        controls = [tensor for tensor in node.input if tensor.startswith("^")]
        if name in numbered:
            numbers = [
                _number(graph, node, i, edge.tensor) for i, edge in enumerate(edges)
            ]
            taken = _merged(graph, name + "/value_index", choice, numbers)
            graph.redirect({name + ":1": taken})
            graph.aliases[name + ":1"] = taken + ":0"
        if len(edges) > 2:
            tensors = [edge.tensor for edge in edges]
            inner = [
                _merged(graph, name + "/inner", branch, tensors)
                for branch in choice.branches
            ]
            graph.set_inputs(name, [*inner, *controls])
            with graph.editing(name):
                set_attr(node, "N", 2)
    return graph.added[known:]


# Given: a Merge of tensor and others, whose output 1 is used
# Result:
#     merge/here_0 = Identity(tensor)
#     merge/number_0 = Const(^merge/here_0) 0      dead where the input is dead
def _number(graph: Graph, merge: Any, i: int, tensor: str) -> str:
    """Adds the number of an input of a Merge, which is there where the input is."""
    build = Builder(graph)
    name = "{}/here_{}".format(merge.name, i)
    here = build.op("Identity", graph.tensor(tensor), name=name)
    name = "{}/number_{}".format(merge.name, i)
    return build.constant(int32_tensor(i), name=name, beside=here)


def _merged(graph: Graph, name: str, choice: Any, tensors: Sequence[str]) -> Tensor:
    """Adds the Merges of a choice, innermost first; returns what gives the tensor."""
    if not isinstance(choice, Choice):
        number: int = choice
        return graph.tensor(tensors[number])
    inner = [
        _merged(graph, name + "/inner", branch, tensors) for branch in choice.branches
    ]
    return Builder(graph).op("Merge", inner, name=name)


# Given:
#     either = Switch(x, flag)
#     negative = Neg(either:0),  double = Add(either:1, either:1)
#     merged = Merge(negative, double)
# Result:
#     merged/If = If(flag, x) {then_branch: @..., else_branch: @...}
#     merged_if_else_branch(x): Neg(x)
#     merged_if_then_branch(x): Add(x, x)
#     merged = Identity(merged/If)
#
# Afterwards, no Merge of the frame has a choice. Inner conditionals are written before
# those that hold them: an inner one is an If node by the time its branch is a function.
def make_ifs(
    graph: Graph,
    names: List[str],
    regions: Regions,
    fixed: Collection[str],
    sources: Mapping[str, int],
) -> List[str]:
    """Rewrites the conditionals of one frame.

    Args:
      graph: the graph.
      names: the nodes of the frame, where inner loops are While nodes by now.
      regions: says what the predicates are.
      fixed: constants that are not copied.
      sources: the placeholders behind nodes, as bits.

    Returns:
      The If nodes, and what is before them.
    """
    left = []
    for conditional in _conditionals(graph, names, regions):
        left += _apart(graph, regions, conditional, sources)
    # Merges that are no If yet. A conditional with one of them inside has to wait; if
    # all wait, they need each other.
    waiting: Set[str] = {merge.name for each in left for merge in each.merges}
    made: List[str] = []
    while left:
        later = []
        for conditional in left:
            parts, predicate = _branches(graph, regions, conditional)
            inside = parts[0].names | parts[1].names
            own = {merge.name for merge in conditional.merges}
            if not waiting.isdisjoint(inside):
                later.append(conditional)
                continue
            made += _write_if(graph, regions, conditional, parts, predicate, fixed)
            waiting -= own
        if len(later) == len(left):
            raise NotUnderstood(
                left[0].merges[0].name, "belongs to conditionals that need each other"
            )
        left = later
    return made


def _conditionals(
    graph: Graph, names: List[str], regions: Regions
) -> List[_Conditional]:
    """The Merges of a frame, those of one conditional together."""
    ordered = sorted(names, key=regions.order.__getitem__)
    groups: Dict[Tuple[Any, ...], List[int]] = {}
    for place, name in enumerate(ordered):
        choice = regions.choices.get(name)
        if choice is not None:
            scope = name.rpartition("/")[0]
            # The scope tells two calls of tf.cond with one predicate apart. Together
            # they would be one If, and the second may need the first one's result.
            key = (choice.predicate, regions.guards[name], scope)
            groups.setdefault(key, []).append(place)
    found: List[_Conditional] = []
    for (predicate, guards, _), places in groups.items():
        merges = [ordered[place] for place in places]
        between = ordered[places[0] : places[-1] + 1]
        # One tf.cond makes its Merges in one scope, and none after another.
        depths = _depths(graph, between, set(merges))
        apart: Dict[int, _Conditional] = {}
        for name in merges:
            tensors = [edge.tensor for edge in data_inputs(graph, name)]
            no, yes = regions.choices[name].branches
            if not isinstance(no, int) or not isinstance(yes, int):
                raise AssertionError(name)
            conditional = apart.setdefault(
                depths[name], _Conditional(predicate, guards, [])
            )
            conditional.merges.append(_Merge(name, (tensors[no], tensors[yes])))
        found += apart.values()
    return sorted(found, key=lambda each: regions.order[each.merges[0].name])


def _depths(graph: Graph, names: List[str], counted: Set[str]) -> Dict[str, int]:
    """How many of some nodes each one comes after, itself counted.

    Args:
      graph: the graph.
      names: the nodes from the first of them to the last, in topological order.
      counted: the nodes.
    """
    depths: Dict[str, int] = {}
    for name in names if len(counted) > 1 else counted:
        depth = int(name in counted)
        for edge in graph.inputs(name):
            known = depths.get(edge.node)
            if known and graph.nodes[edge.node].op != "NextIteration":
                depth = max(depth, known + (name in counted))
        if depth:
            depths[name] = depth
    return depths


def _apart(
    graph: Graph,
    regions: Regions,
    conditional: _Conditional,
    sources: Mapping[str, int],
) -> List[_Conditional]:
    """Merges that need the same placeholders, together.

    A session that wants one of them is not fed what only the others need.
    """
    if len(conditional.merges) == 1:
        return [conditional]
    found: Dict[int, _Conditional] = {}
    for merge in conditional.merges:
        alone = conditional._replace(merges=[merge])
        behind = sources.get(merge.name, 0)
        found.setdefault(behind, alone._replace(merges=[])).merges.append(merge)
    return list(found.values())


# The nodes of a branch are those under its guard and the guards of the conditional, and
# no others. A Switch of the same predicate is the boundary: what it takes is outside.
def _branches(
    graph: Graph, regions: Regions, conditional: _Conditional
) -> Tuple[Tuple[Part, Part], str]:
    """The nodes of both branches, and the predicate as their frame knows it."""
    predicate = conditional.predicate
    known = conditional.guards
    deciding: List[str] = []

    def part(branch: int) -> Part:
        def boundary(tensor: str, node: str) -> Optional[Outside]:
            guards = regions.guards.get(node)
            if guards is not None and (predicate, branch) in guards:
                if len(guards) > len(known) + 1:
                    raise NotUnderstood(
                        node, "leaves a conditional other than by its Merge"
                    )
                return None
            control = tensor.startswith("^")
            if guards is not None and regions.is_branching(node):
                if regions.predicate(node) == predicate:
                    if guards <= known:
                        deciding.append(graph.inputs(node)[1].tensor)
                    return Outside("" if control else graph.inputs(node)[0].tensor)
            return Outside("^" + node if control else tensor)

        return collect(
            graph, [merge.branches[branch] for merge in conditional.merges], boundary
        )

    parts = part(0), part(1)
    if not deciding:
        raise NotUnderstood(
            conditional.merges[0].name, "is a Merge without a Switch of its own"
        )
    return parts, min(deciding)


def _write_if(
    graph: Graph,
    regions: Regions,
    conditional: _Conditional,
    parts: Tuple[Part, Part],
    predicate: str,
    fixed: Collection[str],
) -> List[str]:
    first = conditional.merges[0].name
    types = []
    for merge in conditional.merges:
        dtype = graph.output(merge.name + ":0").dtype
        if dtype == DT_RESOURCE:
            raise NotUnderstood(merge.name, "chooses between resources")
        types.append(dtype)
    taken, constants = outer_tensors(graph, parts, fixed)
    name = graph.unique_name((first.rpartition("/")[0] or first) + "/If")
    node = functional_node(name, "If")
    for branch, (part, attr) in enumerate(zip(parts, ("else_branch", "then_branch"))):
        function = function_name(graph, "{}_{}".format(name, attr))
        results = [
            Result("output", normal(merge.branches[branch]), dtype)
            for merge, dtype in zip(conditional.merges, types)
        ]
        write_function(graph, regions, function, part, taken, results, constants)
        set_attr(node, attr, ("func", function))
    waits = parts[0].waits | parts[1].waits
    for merge in conditional.merges:
        waits.update(
            edge.node for edge in graph.inputs(merge.name) if edge.tensor[0] == "^"
        )
    node.input.append(predicate)
    own = []
    for tensor, dtype, shape in taken:
        # These dtypes have no gradient. See _stopped for what TF 1.15 makes of them.
        if dtype in (DT_BOOL, DT_STRING):
            own.append(_stopped(graph, name + "/stop", tensor, dtype, shape))
            tensor = own[-1] + ":0"
        node.input.append(tensor)
    node.input.extend("^" + wait for wait in sorted(waits))
    set_attr(node, "Tcond", ("type", graph.output(predicate).dtype))
    set_attr(node, "Tin", ("types", [dtype for _, dtype, _ in taken]))
    set_attr(node, "Tout", ("types", types))
    shapes = [shape_of(graph, merge.name) for merge in conditional.merges]
    set_attr(node, "output_shapes", shapes_attr(shapes))
    graph.replace(node)
    _replace_merges(graph, conditional, name, types, shapes)
    for merge in conditional.merges:
        del regions.choices[merge.name]
    own.append(name)
    for each in own:
        regions.order[each] = regions.order[first]
        regions.frames[each] = regions.frames[first]
        regions.guards[each] = conditional.guards
    return own


def _replace_merges(
    graph: Graph,
    conditional: _Conditional,
    name: str,
    types: List[int],
    shapes: List[Any],
) -> None:
    """Makes the Merges of a conditional the results of its If."""
    for i, merge in enumerate(conditional.merges):
        attrs: Dict[str, Any] = {}
        if shapes[i] is not None:
            attrs["_output_shapes"] = shapes_attr(shapes[i : i + 1])
        result = [Tensor("{}:{}".format(name, i), types[i])]
        identity = graph.op_def("Identity")
        graph.replace(new_node(identity, merge.name, result, (), attrs))


def _stopped(graph: Graph, name: str, tensor: str, dtype: int, shape: Any) -> str:
    """A tensor that an If takes, without a gradient.

    TF 1.15 gives it one of zeros, and cannot add up the zeros of two Ifs.
    """
    attrs: Dict[str, Any] = {}
    if shape is not None:
        attrs["_output_shapes"] = shapes_attr([shape])
    return Builder(graph).op("StopGradient", Tensor(tensor, dtype), name=name, **attrs)
