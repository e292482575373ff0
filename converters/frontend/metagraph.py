"""Reads a TF1 MetaGraphDef into the compiler's model.

Collections are those of
tf.compat.v1.GraphKeys; ``saved_model_assets`` is of saved_model/constants.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any, Collection, List, Mapping, Set, Tuple

import numpy as np

from hub_compat.errors import ConversionError, CorruptModuleError

from ..ir import calls, variables
from ..ir.cycles import check_acyclic
from ..ir.dtypes import DT_RESOURCE, DT_STRING
from ..ir.functions import Capture
from ..ir.graph import Graph, node_of, normal, split_tensor
from ..ir.model import ATTACHMENTS, Model, VariantGraph
from ..ir.signatures import Component, Signature, Value, read_values
from ..omissions import NOTHING, Exclusions
from ..passes import (
    call_order,
    control_outputs,
    counters,
    custom_gradients,
    dropped_ops,
    gradient_guards,
    handle_shapes,
    iterators,
    made_tables,
    resource_tables,
    resource_variables,
    stopped_loops,
    switch_case,
    temporaries,
    variable_values,
)
from ..passes import control_flow as loops
from . import initialization, restored_resources, tables
from .collections import asset_definitions, bytes_list, node_list, tensor_list

__all__ = ["add_variant"]

# Signatures that TensorFlow keeps for itself begin with this.
_INTERNAL = "__saved_model_"
# The producer of TensorFlow 1.4. What an older one says of the shape of an output, a
# newer inference may contradict, and refuse the model for it.
_SHAPES_AGREE = 24
_WRITES = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")


def add_variant(
    model: Model,
    meta_graph: Any,
    by_saver: bool = False,
    exclusions: Exclusions = NOTHING,
    source: str = "",
    acts: bool = False,
    weights: bool = True,
) -> VariantGraph:
    """Adds one MetaGraphDef, which it takes apart, to the model.

    Args:
      model: takes it.
      meta_graph: the proto.
      by_saver: whether the checkpoint's keys are those that its saver restores,
        and not the names of the variables.
      exclusions: what to leave out.
      source: the model's directory, for what the saver restores beside variables.
      acts: whether loading the result does what else the init op does.
      weights: whether the result has the variables' values.
    """
    graph = Graph(meta_graph)
    check_acyclic(graph)
    collections = meta_graph.collection_def
    tags = tuple(sorted(meta_graph.meta_info_def.tags))
    signatures = _read_signatures(model, graph, meta_graph, tags, exclusions)
    update_ops = node_list(graph, collections, "update_ops")
    losses = tensor_list(collections, "regularization_losses")
    inside = loops.inside_of_loops(graph, losses)
    if inside:
        model.warnings.append(
            "variant {}: {} of {} regularization losses are inside of loops, where "
            "TensorFlow 1 cannot fetch them; they are left out: {}".format(
                list(tags), len(inside), len(losses), ", ".join(inside)
            )
        )
        losses = [loss for loss in losses if loss not in inside]
    assets = asset_definitions(meta_graph)
    update_ops = _possible(model, graph, tags, "update ops", update_ops, "^{}")
    losses = _possible(model, graph, tags, "regularization losses", losses)
    tensors = [c.tensor for s in signatures for c in s.flat_inputs() + s.flat_outputs()]
    needed = tensors + losses + ["^" + op for op in update_ops]
    made_tables.inline_makers(graph)
    started = iterators.start_once(graph, needed)
    initial = initialization.read(
        graph, meta_graph, needed, by_saver, source, acts, weights
    )
    model.warnings += initial.warnings
    fillers = started + initial.fillers
    if by_saver:
        restored = restored_resources.fillers(graph, meta_graph.saver_def, source)
        restored_resources.run_before(graph, restored, fillers)
        fillers += restored
    listed = node_list(graph, collections, "table_initializer")
    filled, warnings = initialization.without_files(
        graph, assets, fillers if by_saver else fillers + listed, listed, source
    )
    model.warnings += warnings
    initializers = list(dict.fromkeys(filled + fillers))
    initializers = _possible(model, graph, tags, "initializers", initializers, "^{}")
    tensors += [definition.tensor_info.name for definition in assets]
    # What a session would not run for any of these needs no conversion: a graph for
    # training has optimizers and queues that no signature knows of.
    graph.keep(
        graph.slice(tensors + losses + ["^" + op for op in update_ops + initializers]),
        variables.HANDLE_OPS,
    )
    graph.stopped = stopped_loops.exits(collections)
    dropped_ops.replace_dropped_ops(graph)
    temporaries.replace_temporaries(graph)
    for doubt in resource_variables.make_resources(graph, _ends(signatures)):
        model.warnings.append("variant {}: {}".format(list(tags), doubt))
    tensors += graph.fetched.values()
    counters.replace_counters(graph)
    resource_tables.make_resources(graph)
    variant = VariantGraph(
        tags=tags,
        graph=graph,
        signatures={},
        update_ops=update_ops,
        losses=[resource_variables.value_of(graph, tensor) for tensor in losses],
        initializers=initializers,
        captures={},
        attachments=bytes_list(collections, ATTACHMENTS),
        gradients=list(meta_graph.graph_def.library.gradient),
    )
    calls.make_partitioned(graph)
    switch_case.replace_cases(graph)
    variable_values.pass_values(graph)
    own = custom_gradients.lost_functions(graph, variant.gradients)
    looping = loops.inline_calls(graph, own)
    lost = custom_gradients.settle_gradients(graph)
    paths = {node_of(definition.tensor_info.name) for definition in assets}
    wanted = len(variant.update_ops)
    moved = loops.part_from_gradients(
        graph, _ends(signatures) + [([loss], set()) for loss in variant.losses], paths
    )
    variant.losses[:] = [moved.get(normal(loss), loss) for loss in variant.losses]
    tensors += moved.values()
    left = loops.make_functional(graph, variant.update_ops, tensors, paths)
    handle_shapes.say_variables(graph)
    control_outputs.wait_for_takers(graph)
    call_order.wait_for_calls(graph)
    if len(variant.update_ops) < wanted:
        model.warnings.append(
            "variant {}: {} of {} update ops are inside of loops, where TensorFlow 1 "
            "cannot run them for their own sake; training runs the others".format(
                list(tags), wanted - len(variant.update_ops), wanted
            )
        )
    lost.intersection_update(graph.nodes)
    guarded = gradient_guards.prevent_gradients(graph, lost, own, left, looping)
    if guarded:
        model.warnings.append(
            "variant {}: some TF1 control flow or custom gradients run forward only; "
            "gradients stop at {}".format(list(tags), ", ".join(guarded[:4]))
        )
    _add_assets(model, variant, assets)
    found = variables.find_variables(graph, collections)
    initialization.apply(found, initial.restored, initial.values)
    for variable in found:
        for node in variable.nodes:
            variable.initial = graph.started.get(node, variable.initial)
    written = _written_by(graph, variant.update_ops)
    _add_variables(model, variant, found, initial.restored, written)
    tables.add_tables(model, variant)
    for signature in signatures:
        # A tensor that a loop gives may be that of a copy of the loop by now.
        variant.signatures[signature.name] = _by_value(graph, signature, moved)
    model.variants.append(variant)
    return variant


def _read_signatures(
    model: Model,
    graph: Graph,
    meta_graph: Any,
    tags: Tuple[str, ...],
    exclusions: Exclusions,
) -> List[Signature]:
    """The signatures; one that names what is not there is left out.

    Raises:
      ConversionError, CorruptModuleError: none is left.
    """
    signatures = []
    errors = []
    for name in sorted(meta_graph.signature_def):
        if name.startswith(_INTERNAL):
            continue
        definition = meta_graph.signature_def[name]
        excluded = exclusions.reason(tags, name)
        if excluded is not None:
            model.leave_out_signature(tags, name, excluded)
            continue
        try:
            signature = Signature(
                name,
                read_values(definition.inputs),
                read_values(definition.outputs),
                definition.method_name,
            )
            fed = {normal(c.tensor) for c in signature.flat_inputs()}
            outputs = [c.tensor for c in signature.flat_outputs()]
            for tensor in outputs + sorted(fed):
                graph.output(tensor)
            needed = graph.slice(outputs, fed)
            ops = {graph.node(n).op for n in needed}
            for op in ops:
                graph.op_def(op)
            obstacle = resource_variables.obstacle(graph, needed)
            if obstacle is not None:
                raise ConversionError(obstacle)
            inside = loops.inside_of_loops(graph, outputs)
            if inside:
                raise ConversionError(
                    "A signature's outputs must be there when its loops have ended; "
                    "TensorFlow 1 cannot fetch what is inside of a tf.while_loop. "
                    "Export the loop's result. Received: {!r}".format(inside[0])
                )
            if (
                graph.producer < _SHAPES_AGREE
                or (tags, name) in exclusions.unshaped
                or not dropped_ops.MISJUDGED.isdisjoint(ops)
            ):
                signature = _unshaped(signature, definition)
        except (ConversionError, CorruptModuleError) as error:
            errors.append(error)
            model.leave_out_signature(tags, name, str(error))
        else:
            signatures.append(signature)
    if errors and not signatures:
        raise errors[0]
    return signatures


def _possible(
    model: Model,
    graph: Graph,
    tags: Tuple[str, ...],
    what: str,
    wanted: List[str],
    fetch: str = "{}",
) -> List[str]:
    """Those of some tensors or nodes that can be converted; a warning of the others."""
    found = []
    for each in wanted:
        obstacle = resource_variables.obstacle(graph, graph.slice([fetch.format(each)]))
        if obstacle is None:
            found.append(each)
        else:
            model.warnings.append(
                "variant {}: of the {}, {!r} is left out: {}".format(
                    list(tags), what, each, obstacle
                )
            )
    return found


def _ends(signatures: List[Signature]) -> List[Tuple[List[str], Set[str]]]:
    """What each signature returns, and what it is fed."""
    return [
        (
            [c.tensor for c in signature.flat_outputs()],
            {normal(c.tensor) for c in signature.flat_inputs()},
        )
        for signature in signatures
    ]


def _unshaped(signature: Signature, definition: Any) -> Signature:
    """The signature without the shapes that it declares for its outputs."""
    unknown = type(definition)()
    unknown.CopyFrom(definition)
    for info in unknown.outputs.values():
        info.tensor_shape.Clear()
        info.tensor_shape.unknown_rank = True
    return dataclasses.replace(signature, outputs=read_values(unknown.outputs))


def _by_value(
    graph: Graph, signature: Signature, moved: Mapping[str, str] = MappingProxyType({})
) -> Signature:
    """The signature with the values of what were references among its outputs."""

    def found(tensor: str) -> str:
        return resource_variables.value_of(graph, moved.get(normal(tensor), tensor))

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


def _add_variables(
    model: Model,
    variant: VariantGraph,
    found: List[variables.Variable],
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


def _same_value(one: variables.Variable, other: variables.Variable) -> bool:
    """Whether variables of one name in two variants begin with the same value."""
    if (one.initial is None) != (other.initial is None):
        return False
    if one.initial is not None:
        return np.array_equal(one.initial, other.initial)
    places = [(variable.checkpoint_key, variable.part) for variable in (one, other)]
    return places[0] == places[1]


def _written_by(graph: Graph, update_ops: List[str]) -> Collection[str]:
    """The handles that update ops write through."""
    nodes = [graph.node(name) for name in graph.slice(["^" + op for op in update_ops])]
    return {node_of(node.input[0]) for node in nodes if node.op in _WRITES}
