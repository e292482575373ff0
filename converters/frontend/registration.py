"""Enters a graph, after all passes, into the model."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any, Collection, List, Mapping

import numpy as np

from hub_compat._parsing.known_names import ATTACHMENTS
from hub_compat.errors import ConversionError, CorruptModuleError

from ..ir.context import Context
from ..ir.dtypes import DT_RESOURCE, DT_STRING
from ..ir.functions import Capture
from ..ir.graph import Graph, node_of, normal, split_tensor
from ..ir.model import Model, VariantGraph
from ..ir.signatures import Component, Signature, Value
from ..ir.variables import Variable, find_variables
from ..passes.resource_variables import value_of
from . import initialization, tables
from .collections import bytes_list

__all__ = ["register"]

_WRITES = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")


# The order is that of what each step asks for: tables are told apart by their captures,
# assets and variables among them; signatures come last, as their values may add reads.
def register(graph: Graph, context: Context) -> VariantGraph:
    """Adds a variant with its variables, tables and assets to the model."""
    model, initial = context.model, context.initial
    variant = VariantGraph(
        tags=context.tags,
        graph=graph,
        signatures={},
        update_ops=context.update_ops,
        losses=context.losses,
        initializers=context.initializers,
        captures={},
        attachments=bytes_list(context.collections, ATTACHMENTS),
        gradients=list(context.meta_graph.graph_def.library.gradient),
    )
    _add_assets(model, variant, context.assets)
    variables = find_variables(graph, context.collections)
    initialization.apply(variables, initial.restored, initial.values)
    for variable in variables:
        for node in variable.nodes:
            variable.initial = graph.started.get(node, variable.initial)
    written = _written_by(graph, variant.update_ops)
    _add_variables(model, variant, variables, initial.restored, written)
    tables.add_tables(model, variant)
    for signature in context.signatures:
        # A tensor that a loop gives may be that of a copy of the loop by now.
        variant.signatures[signature.name] = _by_value(graph, signature, context.moved)
    model.variants.append(variant)
    return variant


def _by_value(
    graph: Graph, signature: Signature, moved: Mapping[str, str] = MappingProxyType({})
) -> Signature:
    """The signature with the values of what were references among its outputs."""

    def found(tensor: str) -> str:
        return value_of(graph, moved.get(normal(tensor), tensor))

    outputs = {}
    for key, value in signature.outputs.items():
        components = tuple(
            Component(c.name, found(c.tensor), c.dtype, c.shape)
            for c in value.components
        )
        outputs[key] = Value(key, components, value.spec)
    return dataclasses.replace(signature, outputs=outputs)


def _add_assets(model: Model, variant: VariantGraph, definitions: List[Any]) -> None:
    for definition in definitions:
        filename = definition.filename
        if filename.startswith("/") or ".." in filename.split("/"):
            raise CorruptModuleError(
                "An asset's file name must stay inside assets/. Received: {!r}".format(
                    filename
                )
            )
        node, _ = split_tensor(definition.tensor_info.name)
        if variant.graph.node(node).op != "Const":
            raise CorruptModuleError(
                "An asset must be a Const node. Received: {!r} for {!r}".format(
                    variant.graph.node(node).op, filename
                )
            )
        key = "asset:" + filename
        model.assets[key] = filename
        variant.captures[node] = Capture(key, DT_STRING)


# Variants share a variable if name and value agree. The keys:
#
#     variable:w           of the first variant, and of those with the same value
#     variable:w@train     of a variant that restores w from elsewhere
def _add_variables(
    model: Model,
    variant: VariantGraph,
    found: List[Variable],
    restored: Collection[str],
    written: Collection[str],
) -> None:
    for variable in found:
        key = "variable:" + variable.name
        known = model.variables.setdefault(key, variable)
        if not _same_value(known, variable):
            # Restored from elsewhere, as from its moving average, it is another.
            key = "{}@{}".format(key, ",".join(variant.tags))
            known = model.variables.setdefault(key, variable)
        if (known.dtype, known.shape) != (variable.dtype, variable.shape):
            raise ConversionError(
                "Variants of one module must agree on a variable's dtype and shape; "
                "{!r} differs in the variant {}. Received: {} and {}".format(
                    variable.name,
                    list(variant.tags),
                    str(known.shape).split(),
                    str(variable.shape).split(),
                )
            )
        # Trainable in one variant is trainable: a variant for inference may
        # list none.
        known.trainable = known.trainable or variable.trainable
        known.updated = known.updated or not set(variable.nodes).isdisjoint(written)
        variant.variables.append(key)
        if variable.trainable:
            variant.trainable.add(key)
        if any(node in restored for node in variable.nodes):
            variant.restored.add(key)
        for node in variable.nodes:
            variant.captures[node] = Capture(key, DT_RESOURCE)


def _same_value(one: Variable, other: Variable) -> bool:
    """Whether variables of one name in two variants begin with the same value."""
    if (one.initial is None) != (other.initial is None):
        return False
    if one.initial is not None:
        return bool(np.array_equal(one.initial, other.initial))
    places = [(variable.checkpoint_key, variable.part) for variable in (one, other)]
    return places[0] == places[1]


def _written_by(graph: Graph, update_ops: List[str]) -> Collection[str]:
    """The handles that update ops write through."""
    nodes = [graph.node(name) for name in graph.slice(["^" + op for op in update_ops])]
    return {node_of(node.input[0]) for node in nodes if node.op in _WRITES}
