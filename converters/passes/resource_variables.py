"""Turns TF1's reference variables into resource variables.

::

    before:  VariableV2  -> (reference) -> Assign,           MatMul
    after:   VarHandleOp -> (resource)  -> AssignVariableOp, ReadVariableOp -> MatMul

Reference variables hand out tensors of reference type that ops write through. TF2
objects only track resource variables.

1. The variable becomes a handle under the same node name.
2. An op that writes through a reference becomes its resource twin.
3. An op that takes the value gets a read, placed where a session reads: when the op
   computes. ``references.late_reads`` finds the control edges for that.
4. RefSwitch, RefEnter and the like become the plain op, for a resource.
5. Variables of ``STORED_AS`` dtypes, which have no kernels, keep the same bits as
   integers, with a Bitcast after each read.

Refused: a write whose op has no resource twin, and a ``STORED_AS`` variable that is
used otherwise than read or assigned. ``obstacle`` finds both before the pass, so that
only the signature is skipped. Signatures are skipped, too, if only a run can say whose
memory they use (``references.doubts``).
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from hub_compat._tf import node_def_pb2, types_pb2
from hub_compat.errors import ConversionError

from ..ir.context import Context
from ..ir.dtypes import DT_RESOURCE, REF_OFFSET
from ..ir.functions import set_attr
from ..ir.graph import Graph, attr_or_default, node_of, normal
from ..ir.variable_reads import STORED_AS, add_bitcast, add_read
from ..ir.variables import HANDLE_OPS, REFERENCE_OPS
from ..opdata.op_defs import builtin_ops
from . import counters
from .references.doubts import refused
from .references.keepers import find_doubts
from .references.late_reads import LateRead, LateReads
from .references.late_values import LateValues
from .references.spared_copies import find_references, hand_on_values, read_first

__all__ = ["make_resources", "obstacle", "read_losses", "run", "value_of"]

_CONTROL_FLOW = {
    "RefEnter": "Enter",
    "RefExit": "Exit",
    "RefIdentity": "Identity",
    "RefMerge": "Merge",
    "RefNextIteration": "NextIteration",
    "RefSwitch": "Switch",
}
_ASSIGNMENTS = {
    "Assign": "AssignVariableOp",
    "AssignAdd": "AssignAddVariableOp",
    "AssignSub": "AssignSubVariableOp",
    "IsVariableInitialized": "VarIsInitializedOp",
}


# Given:
#     average = VariableV2 {shared_name: "mean"}
#     update = AssignAdd(average, change)           hands the reference on
#     y = Identity(update)
# Result:
#     average = VarHandleOp {shared_name: "mean"}
#     update = AssignAddVariableOp(average, change)       has no output
#     update/handle = Identity(average, ^update)          stands for the reference
#     y = ReadVariableOp(update/handle)                   reads after the write
#
# Afterwards, no node makes or takes a reference to a variable
# (invariants.no_references); graph.references still says which tensors were some.
#
# After "dropped ops", which may bring in such variables. Before "control flow": only
# a handle may enter a function, and a read in a loop is hoisted as ReadVariableOp.
def run(graph: Graph, context: Context) -> None:
    """Turns the variables of a graph into resource variables.

    Raises:
      ConversionError: no signature is left.
    """
    while True:
        doubts = make_resources(graph, context.ends(), context.beside())
        if not doubts:
            break
        context.leave_out(doubts)
        graph.keep(graph.slice(context.needed()), HANDLE_OPS)
    context.fetches += graph.fetched.values()


# Given:
#     losses: penalty                         was VariableV2, is VarHandleOp by now
# Result:
#     penalty/value = ReadVariableOp(penalty)
#     losses: penalty/value
#
# Afterwards, each loss is a number, never a handle.
#
# After "variables", which says what was a reference. In a pass of its own, because
# the losses are fetched beside all signatures, and belong to none.
def read_losses(graph: Graph, context: Context) -> None:
    """Takes the values of the losses that were references."""
    context.losses = [value_of(graph, tensor) for tensor in context.losses]


def make_resources(
    graph: Graph,
    signatures: Sequence[Tuple[Sequence[str], Set[str]]] = (),
    beside: Sequence[str] = (),
) -> Mapping[int, str]:
    """Turns the variables of a graph into resource variables that TF2 has.

    Args:
      graph: the graph.
      signatures: what each signature returns, and what it is fed.
      beside: what all of them compute as well.

    Returns:
      The signatures that could have other values than in a session, by number, and
      why. If there are any, the variables are as they were.

    Raises:
      ConversionError: an op writes through a reference, and has no twin for
        resources; or it uses a variable of a dtype that TF2 has no variables of.
    """
    _store_bits(graph)
    if not any(node.op in REFERENCE_OPS for node in graph.nodes.values()):
        return {}
    counters.of_references(graph)
    references = graph.references
    hand_on_values(graph)
    references.update(find_references(graph, list(graph.nodes)))
    # Inputs are judged by the original ops, so all of them before any changes.
    declared = {
        name: graph.inputs_types(name)
        for name, node in graph.nodes.items()
        if any(normal(i) in references for i in node.input)
    }
    late = LateReads(
        graph,
        references,
        {name: [t > REF_OFFSET for t in types] for name, types in declared.items()},
    )
    reads = late.of_nodes() + late.of_outputs(signatures)
    without = refused(graph, find_doubts(graph, late, signatures), signatures, beside)
    if without:
        return without
    _rewrite(graph, signatures, declared, late, reads)
    return {}


def _rewrite(
    graph: Graph,
    signatures: Sequence[Tuple[Sequence[str], Set[str]]],
    declared: Mapping[str, List[int]],
    late: LateReads,
    reads: Sequence[LateRead],
) -> None:
    """Makes handles of variables, and reads where sessions read."""
    references = graph.references
    values = LateValues(graph, late)
    controls = {
        (name, i): late.controls(name, i)
        for name, types in declared.items()
        for i, dtype in enumerate(types)
        if dtype <= REF_OFFSET
    }
    reshaped = late.reshaped()
    for name in list(graph.nodes):
        node = graph.nodes[name]
        if node.op in REFERENCE_OPS:
            graph.replace(_handle(graph, node, name in reshaped))
        elif name in declared:
            _use(graph, node, declared[name], references, controls)
    graph.redirect(graph.aliases)
    read_first(graph, signatures)
    for read in reads:
        values.read(read)
    values.share()


def _store_bits(graph: Graph) -> None:
    """Gives the resource variables of ``STORED_AS`` the dtype they are kept in."""
    if not any(
        node.op == "VarHandleOp" and node.attr["dtype"].type in STORED_AS
        for node in graph.nodes.values()
    ):
        return
    for node in list(graph.nodes.values()):
        dtype = node.attr["dtype"].type if "dtype" in node.attr else None
        if dtype not in STORED_AS:
            continue
        if node.op == "VarHandleOp":
            set_attr(node, "dtype", ("type", STORED_AS[dtype]))
        elif node.op == "ReadVariableOp":
            add_read(graph, node.name, node.input[0], list(node.input[1:]), dtype)
        elif node.op == "AssignVariableOp":
            set_attr(node, "dtype", ("type", STORED_AS[dtype]))
            name = graph.unique_name(node.name + "/bits")
            add_bitcast(graph, name, node.input[1], dtype, STORED_AS[dtype])
            graph.set_input(node.name, 1, name)
        else:
            reason = _uses_bits(graph, node)
            if reason is not None:
                raise ConversionError(reason)


def value_of(graph: Graph, tensor: str) -> str:
    """The tensor to fetch for ``tensor``: its value where it is a reference."""
    tensor = normal(tensor)
    if tensor in graph.fetched:
        return graph.fetched[tensor]
    dtype = graph.references.get(tensor)
    while tensor in graph.aliases:
        tensor = graph.aliases[tensor]
    if dtype is None:
        return tensor
    name = graph.unique_name(node_of(tensor) + "/value")
    add_read(graph, name, tensor, [], dtype)
    return name + ":0"


def _handle(
    graph: Graph, node: node_def_pb2.NodeDef, reshaped: bool
) -> node_def_pb2.NodeDef:
    handle = node_def_pb2.NodeDef(name=node.name, op="VarHandleOp")
    op = graph.op_def(node.op)
    dtype = node.attr["dtype"].type
    set_attr(handle, "dtype", ("type", STORED_AS.get(dtype, dtype)))
    handle.attr["shape"].CopyFrom(node.attr["shape"])
    if reshaped:
        # It is assigned values of another shape, which a handle would refuse.
        handle.attr["shape"].shape.Clear()
        handle.attr["shape"].shape.unknown_rank = True
    elif node.op == "Variable":
        # The oldest op writes an unknown shape as a scalar's; its checkpoint
        # entry knows better, and a handle of unknown shape holds any.
        if not node.attr["shape"].shape.dim:
            handle.attr["shape"].shape.unknown_rank = True
    shared_name = attr_or_default(node, op, "shared_name").s
    set_attr(handle, "shared_name", shared_name or node.name.encode())
    set_attr(handle, "container", b"")
    return handle


def _use(
    graph: Graph,
    node: node_def_pb2.NodeDef,
    declared: List[int],
    references: Dict[str, int],
    also: Mapping[Tuple[str, int], List[str]],
) -> None:
    """Rewrites a node that takes references, whether it writes or reads."""
    controls = [i for i in node.input if i.startswith("^")]
    if node.op == "Identity" and normal(node.input[0]) in references:
        dtype = references[normal(node.input[0])]
        add_read(graph, node.name, node.input[0], controls, dtype)
        return
    writes = False
    for i, tensor in enumerate(node.input):
        if normal(tensor) not in references:
            continue
        if declared[i] > REF_OFFSET:
            writes = True
            continue
        # Read when the consumer runs, after whatever it waits for.
        name = graph.unique_name("{}/read_{}".format(node.name, i))
        after = list(dict.fromkeys(controls + also[node.name, i]))
        add_read(graph, name, tensor, after, references[normal(tensor)])
        graph.set_input(node.name, i, name)
    if not writes:
        return
    if node.op in _CONTROL_FLOW:
        with graph.editing(node.name):
            node.op = _CONTROL_FLOW[node.op]
            set_attr(node, "T", ("type", DT_RESOURCE))
            # They were the variable's; a handle is a scalar.
            node.attr.pop("_output_shapes", None)
        return
    _write(graph, node, references)


def obstacle(graph: Graph, names: Sequence[str]) -> Optional[str]:
    """Why one of some nodes of a graph, as it was read, has no resource twin.

    Args:
      graph: the graph, before any pass.
      names: the nodes, with all that they need.
    """
    references = find_references(graph, names)
    for name in names:
        node = graph.nodes[name]
        reason = _uses_bits(graph, node)
        if reason is not None:
            return reason
        if node.op in _CONTROL_FLOW or not any(
            normal(tensor) in references for tensor in node.input
        ):
            continue
        for tensor, dtype in zip(node.input, graph.inputs_types(name)):
            if dtype > REF_OFFSET and normal(tensor) in references:
                reason = _no_twin(graph, node, references)
                if reason is not None:
                    return reason
    return None


def _twin(op: str) -> str:
    return _ASSIGNMENTS.get(op, "Resource" + op)


def _no_twin(
    graph: Graph, node: node_def_pb2.NodeDef, references: Mapping[str, int]
) -> Optional[str]:
    """Why a write cannot be one to a resource variable; None where it can."""
    old = graph.op_def(node.op)
    twin = builtin_ops().get(_twin(node.op))
    recast = any(references.get(normal(i)) in STORED_AS for i in node.input)
    if twin is None or len(twin.input_arg) != len(old.input_arg) or recast:
        return (
            "Node {!r} writes to a reference variable with an op that resource "
            "variables do not have. A signature that needs it cannot be converted. "
            "Received: {!r}".format(node.name, node.op)
        )
    return None


def _uses_bits(graph: Graph, node: node_def_pb2.NodeDef) -> Optional[str]:
    """Why a node cannot use a variable of ``STORED_AS``; None where it can."""
    dtype = node.attr["dtype"].type if "dtype" in node.attr else None
    if dtype not in STORED_AS or node.op in ("AssignVariableOp", "ReadVariableOp"):
        return None
    if DT_RESOURCE not in graph.inputs_types(node.name):
        return None
    return (
        "Node {!r}, a {}, uses a variable of dtype {}. Eager execution has no "
        "variables of that dtype: this one can only be read and assigned.".format(
            node.name, node.op, types_pb2.DataType.Name(dtype)
        )
    )


def _write(
    graph: Graph, node: node_def_pb2.NodeDef, references: Dict[str, int]
) -> None:
    """Turns an op that writes through a reference into its resource twin."""
    reason = _no_twin(graph, node, references)
    if reason is not None:
        raise ConversionError(reason)
    twin = builtin_ops()[_twin(node.op)]
    new = node_def_pb2.NodeDef(name=node.name, op=twin.name)
    new.input.extend(node.input)
    for attr in twin.attr:
        source = "T" if attr.name == "dtype" and "T" in node.attr else attr.name
        if source in node.attr:
            new.attr[attr.name].CopyFrom(node.attr[source])
    graph.replace(new)
    output = "{}:0".format(node.name)
    if output in references:
        # The twin has no output. Whoever takes the reference takes the handle
        # once the write is done.
        done = node_def_pb2.NodeDef(op="Identity")
        done.name = graph.unique_name(node.name + "/handle")
        done.input.extend([node.input[0], "^" + node.name])
        set_attr(done, "T", ("type", DT_RESOURCE))
        graph.replace(done)
        graph.aliases[output] = done.name + ":0"
