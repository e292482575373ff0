"""Reads a TF1 MetaGraphDef into the terms of the compiler.

Collections are those of tf.compat.v1.GraphKeys.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Collection, List, Sequence, Tuple

from hub_compat._parsing.known_names import INTERNAL_SIGNATURES
from hub_compat.errors import ConversionError, CorruptModuleError

from ..ir.context import Context, Source
from ..ir.cycles import check_acyclic
from ..ir.graph import Graph, normal
from ..ir.model import Model
from ..ir.signatures import Signature, read_values
from ..passes import control_flow, dropped_ops
from ..passes.resource_variables import obstacle
from ..request import Exclusions
from .collections import asset_definitions, node_list, tensor_list

__all__ = ["possible", "read_variant"]

# The producer of TensorFlow 1.4. What an older one says of the shape of an output, a
# newer inference may contradict, and refuse the model for it.
_SHAPES_AGREE = 24


def read_variant(
    model: Model, meta_graph: Any, source: Source, exclusions: Exclusions
) -> Tuple[Graph, Context]:
    """The graph of a MetaGraphDef, and what is wanted of it.

    Args:
      model: takes warnings, and the signatures that are left out.
      meta_graph: the proto; its nodes are the graph's from now on.
      source: where it is from.
      exclusions: what to leave out.

    Raises:
      ConversionError, CorruptModuleError: there is no signature that can be converted.
    """
    graph = Graph(meta_graph)
    check_acyclic(graph)
    collections = meta_graph.collection_def
    context = Context(
        model=model,
        meta_graph=meta_graph,
        source=source,
        tags=tuple(sorted(meta_graph.meta_info_def.tags)),
        signatures=[],
        update_ops=node_list(graph, collections, "update_ops"),
        losses=tensor_list(collections, "regularization_losses"),
        assets=asset_definitions(meta_graph),
        fetches=[],
    )
    context.signatures = _read_signatures(graph, context, exclusions)
    _drop_losses_of_loops(graph, context)
    context.update_ops = possible(
        graph, context, "update ops", context.update_ops, "^{}"
    )
    context.losses = possible(graph, context, "regularization losses", context.losses)
    for signature in context.signatures:
        components = signature.flat_inputs() + signature.flat_outputs()
        context.fetches += [component.tensor for component in components]
    return graph, context


def _drop_losses_of_loops(graph: Graph, context: Context) -> None:
    inside = control_flow.inside_of_loops(graph, context.losses)
    if inside:
        context.warn(
            "{} of {} regularization losses are inside of loops, where TensorFlow 1 "
            "cannot fetch them; they are skipped: {}",
            len(inside),
            len(context.losses),
            ", ".join(inside),
        )
        context.losses = [loss for loss in context.losses if loss not in inside]


def possible(
    graph: Graph,
    context: Context,
    what: str,
    candidates: Sequence[str],
    fetch: str = "{}",
) -> List[str]:
    """Those of some tensors or nodes that can be converted; a warning of the others."""
    found = []
    for each in candidates:
        reason = obstacle(graph, graph.slice([fetch.format(each)]))
        if reason is None:
            found.append(each)
        else:
            context.warn("of the {}, {!r} is skipped: {}", what, each, reason)
    return found


def _read_signatures(
    graph: Graph, context: Context, exclusions: Exclusions
) -> List[Signature]:
    """The signatures; one that names missing tensors is skipped.

    Raises:
      ConversionError, CorruptModuleError: none is left.
    """
    signatures = []
    errors = []
    definitions = context.meta_graph.signature_def
    for name in sorted(definitions):
        if name.startswith(INTERNAL_SIGNATURES):
            continue
        excluded = exclusions.reason(context.tags, name)
        if excluded is not None:
            context.model.leave_out_signature(context.tags, name, excluded)
            continue
        try:
            signature, ops = _read_signature(graph, name, definitions[name])
        except (ConversionError, CorruptModuleError) as error:
            errors.append(error)
            context.model.leave_out_signature(context.tags, name, str(error))
            continue
        if (
            graph.producer < _SHAPES_AGREE
            or (context.tags, name) in exclusions.unshaped
            or not dropped_ops.MISJUDGED.isdisjoint(ops)
        ):
            signature = _unshaped(signature, definitions[name])
        signatures.append(signature)
    if errors and not signatures:
        raise errors[0]
    return signatures


# All errors of one signature must come up here, before passes change the graph for all:
# that the tensors are there, that the ops are known, that writes have a resource twin.
# Most errors of a later pass concern the whole variant.
def _read_signature(
    graph: Graph, name: str, definition: Any
) -> Tuple[Signature, Collection[str]]:
    """A signature, and the ops that it needs.

    Raises:
      ConversionError, CorruptModuleError: it cannot be converted.
    """
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
    reason = obstacle(graph, needed)
    if reason is not None:
        raise ConversionError(reason)
    inside = control_flow.inside_of_loops(graph, outputs)
    if inside:
        raise ConversionError(
            "A signature's outputs must be there when its loops have ended; "
            "TensorFlow 1 cannot fetch what is inside of a tf.while_loop. "
            "Export the loop's result. Received: {!r}".format(inside[0])
        )
    return signature, ops


def _unshaped(signature: Signature, definition: Any) -> Signature:
    """The signature without the shapes that it declares for its outputs."""
    unknown = type(definition)()
    unknown.CopyFrom(definition)
    for info in unknown.outputs.values():
        info.tensor_shape.Clear()
        info.tensor_shape.unknown_rank = True
    return dataclasses.replace(signature, outputs=read_values(unknown.outputs))
