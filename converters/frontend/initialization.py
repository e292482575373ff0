"""Finds the values that the variables of a TF1 SavedModel start with.

A session-based loader runs the restore op of the SaverDef, and then one init op
(loader_impl.py): the saver says under which keys of the checkpoint the values are,
which need not be the variables' names; the init op makes those of local variables
(metrics), which the checkpoint does not hold, and fills tables.
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
    Tuple,
)

import numpy as np

from hub_compat._io import files
from hub_compat._parsing.known_names import INIT_SIGNATURE
from hub_compat.errors import ConversionError, CorruptModuleError

from ..ir.constants import array_of
from ..ir.effects import Determinism
from ..ir.graph import (
    CONTROL_FLOW_OPS,
    Graph,
    node_of,
    normal,
    resource_name,
    split_tensor,
)
from ..ir.tables import find_tables, shared_name
from ..ir.variables import Variable, listed
from . import init_actions, init_values
from .init_effects import Effects, find_effects

__all__ = [
    "Initialization",
    "Restored",
    "Values",
    "apply",
    "init_ops",
    "read",
    "restored_keys",
    "without_files",
]

# In the order in which loader_impl.py looks for it.
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
# The others read one tensor each, and are of TensorFlow before 0.12.
_RESTORE = ("RestoreV2", "RestoreSlice", "Restore")
_ASSIGN = ("Assign", "AssignVariableOp")
# A local variable counts or sums up; nobody keeps weights in one.
_MOST_ELEMENTS = 1 << 20


class Restored(NamedTuple):
    """Where a checkpoint keeps a variable's value.

    Attributes:
      key: the key.
      part: of a partitioned variable, (offset, length) per dimension of the whole.
    """

    key: str
    part: Optional[Tuple[Tuple[int, int], ...]]


class Values(NamedTuple):
    """The values that the init op gives to variables, by their nodes.

    Attributes:
      initial: the values, NumPy arrays.
      lost: why a value is not known.
      warnings: what to say of them.
      restored: those that the init op reads from a checkpoint.
    """

    initial: Dict[str, Any]
    lost: Dict[str, str]
    warnings: List[str]
    restored: List[str]


class Initialization(NamedTuple):
    """The actions of a session-based loader before anything is computed.

    Attributes:
      restored: where the checkpoint has the values of variables, by their nodes.
      values: what the init op makes of variables.
      fillers: the nodes behind the init op that fill tables and the like.
      warnings: what is left out.
    """

    restored: Dict[str, Restored]
    values: Values
    fillers: List[str]
    warnings: List[str]


# Given: a SavedModel, in the order in which its loader acts
#     1. saver:    Assign(w, RestoreV2(file, ["ema/w"]))
#     2. init op:  Assign(count, 0.0), InitializeTable(words, ...), Print(...)
# Result:
#     restored:        w -> Restored("ema/w")
#     values.initial:  count -> 0.0
#     fillers:         InitializeTable, and the resource that does Print at each load
#     warnings:        what cannot be done here
#
# The init op wins where both set a variable, as it runs after the saver.
def read(
    graph: Graph,
    meta_graph: Any,
    needed: List[str],
    by_saver: bool,
    source: str,
    acts: bool = False,
    weights: bool = True,
) -> Initialization:
    """Reads it off a graph.

    Args:
      graph: the graph, before any pass; it gets what is to be run besides.
      meta_graph: its proto.
      needed: what is wanted of the graph, tensors and control names.
      by_saver: whether the saver and the init op say what variables are.
      source: the model's directory.
      acts: whether what it does besides is done each time that the model is loaded.
      weights: whether variables have their values by then.
    """
    ops = init_ops(graph, meta_graph)
    effects = find_effects(graph, ops)
    used = graph.slice(needed)
    fillers, apart = _wanted(graph, effects, used)
    reasons: Dict[str, str] = {}
    done = fillers
    if acts and by_saver and ops:
        actions = init_actions.run_at_load(graph, ops[0], effects, fillers, weights)
        reasons, done = actions.left, fillers + actions.fillers
        apart = [n for n in apart if n not in effects.others or n in reasons]
    warnings = _named(graph, effects, fillers, apart, reasons)
    if not by_saver:
        return Initialization({}, Values({}, {}, [], []), fillers, warnings)
    restored = restored_keys(graph, meta_graph.saver_def)
    names = graph.nodes.keys() & listed(meta_graph.collection_def)
    names = names.union(used, graph.slice(["^" + name for name in done]))
    found = _values(graph, meta_graph, ops, effects, names, source)
    return Initialization(restored, found, done, warnings + found.warnings)


def without_files(
    graph: Graph, assets: Sequence[Any], ops: List[str], tables: List[str], source: str
) -> Tuple[List[str], List[str]]:
    """The initializers of tables that have their files; what to say of the others.

    Args:
      graph: the graph.
      assets: the AssetFileDefs.
      ops: what runs when the model is loaded.
      tables: what a program may run to fill tables.
      source: the model's directory.

    Raises:
      CorruptModuleError: what runs when the model is loaded lacks a file.
    """
    missing = {}
    for definition in assets:
        path = files.join(source, "assets", *definition.filename.split("/"))
        if not files.exists(path):
            missing[node_of(definition.tensor_info.name)] = definition.filename
    if not missing:
        return tables, []
    for name in graph.slice(["^" + op for op in ops]):
        if name in missing:
            raise CorruptModuleError(
                "The module fills a table from a file that is not there: the module "
                "was fetched in part. Received: no {!r} in {!r}".format(
                    missing[name], files.join(source, "assets")
                )
            )
    kept = [op for op in tables if missing.keys().isdisjoint(graph.slice(["^" + op]))]
    warnings = [
        "the graph lists the asset {!r}, which is not there; ops that read it will "
        "fail".format(filename)
        for filename in sorted(missing.values())
    ]
    return kept, warnings


def _wanted(
    graph: Graph, effects: Effects, used: List[str]
) -> Tuple[List[str], List[str]]:
    """The fillers of tables, and of what else is used; what else has an effect."""
    shared = {shared_name(graph, node) for node in find_tables(graph, used)}
    for function in graph.library.values():
        for node in function.node_def:
            if "shared_name" in node.attr:
                shared.add(node.attr["shared_name"].s.decode())
    fillers, apart = [], list(effects.others)
    for name in effects.fillers:
        tables = find_tables(graph, graph.slice(["^" + name]))
        if any(
            "HashTable" in node.op or shared_name(graph, node) in shared
            for node in tables
        ):
            fillers.append(name)
        else:
            apart.append(name)
    return fillers, apart


def _named(
    graph: Graph,
    effects: Effects,
    fillers: List[str],
    apart: List[str],
    reasons: Mapping[str, str],
) -> List[str]:
    """The warning about actions that are skipped."""
    done = graph.slice(["^" + name for name in fillers])
    left = []
    for name in sorted(set(apart + effects.mixed) - set(done)):
        reason = reasons.get(name, "")
        op = graph.nodes[name].op
        left.append("{} ({}{})".format(name, op, reason and ": " + reason))
    if not left:
        return []
    return [
        "the init op does more than fill tables and set variables; this is skipped: "
        + ", ".join(left)
    ]


# The way back from an Assign: past Identities to the output i of a RestoreV2, whose
# i-th key and i-th slice it is. Anything else between them gives no key.
def restored_keys(graph: Graph, saver: Any) -> Dict[str, Restored]:
    """Where the saver finds the value of each variable, by the variable's node.

    Args:
      graph: the graph, before any pass.
      saver: ``MetaGraphDef.saver_def``.
    """
    found: Dict[str, Restored] = {}
    restore = node_of(saver.restore_op_name)
    if restore not in graph.nodes:
        return found
    for name in graph.slice(["^" + restore]):
        node = graph.nodes[name]
        if node.op not in _ASSIGN:
            continue
        tensor = normal(node.input[1])
        while graph.node(node_of(tensor)).op == "Identity":
            tensor = normal(graph.node(node_of(tensor)).input[0])
        source, index = split_tensor(tensor)
        reader = graph.node(source)
        if reader.op not in _RESTORE:
            continue
        keys = _constant(graph, reader.input[1])
        specs: Optional[np.ndarray] = np.array([b""], object)
        if reader.op != "Restore":
            specs = _constant(graph, reader.input[2])
        if keys is not None and specs is not None and index < keys.size:
            key, spec = keys.ravel()[index], specs.ravel()[index]
            found[node_of(node.input[0])] = Restored(key.decode(), _part(spec.decode()))
    return found


def _part(spec: str) -> Optional[Tuple[Tuple[int, int], ...]]:
    """``"4 2 0,2:-"`` -> ``((0, 2), (0, 2))``: dimensions, then start,length of each.

    The form is that of tensorflow/core/util/saved_tensor_slice_util; ``-`` is all
    of a dimension.
    """
    if not spec:
        return None
    *dims, extents = spec.split(" ")
    part = []
    for size, extent in zip(dims, extents.split(":")):
        start, _, length = extent.partition(",")
        part.append((0, int(size)) if extent == "-" else (int(start), int(length)))
    return tuple(part)


def init_ops(graph: Graph, meta_graph: Any) -> List[str]:
    """The node that a session-based loader runs after restoring; none or one."""
    signatures = meta_graph.signature_def
    if INIT_SIGNATURE in signatures:
        outputs = signatures[INIT_SIGNATURE].outputs
        if INIT_SIGNATURE in outputs:
            return [graph.node(node_of(outputs[INIT_SIGNATURE].name)).name]
    for collection in _INIT_COLLECTIONS:
        if collection in meta_graph.collection_def:
            nodes = meta_graph.collection_def[collection].node_list.value
            if nodes:
                return [graph.node(node_of(nodes[0])).name]
    return []


def _constants(graph: Graph, effects: Effects) -> Dict[str, Any]:
    """The variables that the init op gives nothing but a constant, by their nodes."""
    found = {}
    for handle, writers in effects.writers.items():
        node = graph.nodes[writers[0]]
        if len(writers) == 1 and node.op in _ASSIGN and not _may_not_run(graph, node):
            value = _constant(graph, node.input[1])
            if value is not None:
                found[handle] = value
    return found


def _may_not_run(graph: Graph, node: Any) -> bool:
    """Whether a node is part of a conditional or a loop."""
    names = graph.slice(["^" + node.name])
    return any(graph.nodes[name].op in CONTROL_FLOW_OPS for name in names)


def _values(
    graph: Graph,
    meta_graph: Any,
    ops: List[str],
    effects: Effects,
    used: Collection[str],
    source: str,
) -> Values:
    """The values that the init op gives to variables.

    Args:
      graph: the graph, before any pass.
      meta_graph: its proto.
      ops: the init op.
      effects: what it does.
      used: nodes of the variables that matter: what is neither a constant nor of
        these is not computed.
      source: the model's directory.
    """
    found = Values(_constants(graph, effects), {}, [], [])
    names = {resource_name(graph.nodes[name]) for name in used}
    computed = sorted(
        handle
        for handle in effects.writers
        if handle not in found.initial and resource_name(graph.nodes[handle]) in names
    )
    if not computed:
        return found
    try:
        found.initial.update(
            init_values.compute(graph, meta_graph, source, ops[0], effects, computed)
        )
    except ConversionError as error:
        reason = "the init op sets it to a value that cannot be computed: {}".format(
            error
        )
        return found._replace(lost=dict.fromkeys(computed, reason))
    for handle in computed:
        behind = graph.slice(["^" + name for name in effects.writers[handle]])
        if "RestoreV2" in Determinism(graph).ops(behind):
            found.restored.append(handle)
    for handle, op in init_values.random_ones(graph, effects, computed).items():
        found.warnings.append(
            "the init op sets the variable {!r} to random numbers of {}; a session "
            "draws new ones, but here they are those of the conversion".format(
                handle, op
            )
        )
    return found


# "Listed" makes a variable a weight. What the checkpoint restores is one, even if no
# collection has it.
def apply(
    variables: Sequence[Variable],
    restored: Mapping[str, Restored],
    values: Values,
) -> None:
    """Tells variables where the checkpoint has their values, or which they are."""
    for variable in variables:
        for node in variable.nodes:
            if node in restored:
                variable.checkpoint_key, variable.part = restored[node]
                variable.listed = True
            if node in values.initial:
                variable.initial = values.initial[node]
            variable.listed = variable.listed or node in values.restored
            variable.lost = variable.lost or values.lost.get(node, "")


def _constant(graph: Graph, tensor: str) -> Optional[np.ndarray]:
    """A tensor's value if it is plainly constant."""
    node = graph.node(node_of(tensor))
    if node.op == "Const":
        return np.asarray(array_of(node.attr["value"].tensor))
    if node.op == "Identity":
        return _constant(graph, node.input[0])
    if node.op == "Fill":
        dims = _constant(graph, node.input[0])
        value = _constant(graph, node.input[1])
        if dims is not None and value is not None:
            if int(np.prod(dims, dtype=np.int64)) <= _MOST_ELEMENTS:
                return np.full(dims, value)
    return None
