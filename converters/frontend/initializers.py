"""Finds the nodes that fill tables, start iterators and initialize variables."""

from __future__ import annotations

from ..ir.context import Context
from ..ir.graph import Graph
from ..ir.variables import HANDLE_OPS
from . import initialization, restored_resources
from .collections import node_list
from .metagraph import possible

__all__ = ["drop_unneeded", "find"]


# Given:
#     set_weights = Assign(weights, RestoreV2(path, ["ema/weights"]))    the saver
#     set_count = Assign(count, 0.0)                                     the init op
#     fill = InitializeTableV2(table, keys, values)
# Result: the same nodes, and in the context
#     restored:     weights -> key "ema/weights" of the checkpoint
#     initial:      count -> 0.0
#     initializers: fill
#
# Afterwards, no pass needs the saver or the init op: context.initial and
# context.initializers say what they do.
#
# Here, because it follows what a session would run: later passes replace ops.
def find(graph: Graph, context: Context) -> None:
    """Finds the values of variables, and the nodes that fill tables and the like.

    The saver comes before the init op, as in a session-based loader.
    """
    source = context.source
    context.initial = initialization.read(
        graph,
        context.meta_graph,
        context.wanted(),
        source.by_saver,
        source.directory,
        source.acts,
        source.weights,
    )
    context.warn_all(context.initial.warnings)
    fillers = context.started + context.initial.fillers
    if source.by_saver:
        restored = restored_resources.fillers(
            graph, context.meta_graph.saver_def, source.directory
        )
        restored_resources.run_before(graph, restored, fillers)
        fillers += restored
    listed = node_list(graph, context.collections, "table_initializer")
    filled, warnings = initialization.without_files(
        graph,
        context.assets,
        fillers if source.by_saver else fillers + listed,
        listed,
        source.directory,
    )
    context.warn_all(warnings)
    context.initializers = possible(
        graph,
        context,
        "initializers",
        list(dict.fromkeys(filled + fillers)),
        "^{}",
    )
    context.fetches += [asset.tensor_info.name for asset in context.assets]


# Given:
#     y = Mul(x, value)                                     fetched
#     update = AssignAddVariableOp(weights, x)              an update op
#     step = ResourceApplyGradientDescent(weights, rate, x)
#     unused = VarHandleOp
# Result:
#     y = Mul(x, value)
#     update = AssignAddVariableOp(weights, x)
#     unused = VarHandleOp                                  variables stay
#
# Afterwards, something of the result needs each node, but for variables: they are
# part of the model even where no signature reads them.
#
# After "initial values", which looks at savers and init ops that go now. Before
# "variables": an optimizer's op may have no twin for resources.
def drop_unneeded(graph: Graph, context: Context) -> None:
    """Drops the nodes that a session would run for nothing that is wanted.

    A graph for training has optimizers and queues that no signature knows of; they
    need no conversion.
    """
    graph.keep(graph.slice(context.needed()), HANDLE_OPS)
