"""Reads a TF1 MetaGraphDef into the compiler's model.

What a TF1 Hub module and a TF1 SavedModel have in common; ``hub_module.py``
adds what only the first has. Collections are those of
tf.compat.v1.GraphKeys; ``saved_model_assets`` is of saved_model/constants.
"""

from __future__ import annotations

from typing import Any, Dict, List

from hub_compat._tf import meta_graph_pb2
from hub_compat.errors import ConversionError, CorruptModuleError

from . import calls, control_flow, custom_gradients, tables, variables
from .functions import Capture
from .graph import DT_RESOURCE, DT_STRING, Graph, node_of, split_tensor
from .model import Component, Model, Signature, Value, VariantGraph

__all__ = ["ATTACHMENTS", "add_variant"]

# The collection of messages attached by hub.attach_message.
ATTACHMENTS = "hub_module_attachments"


def add_variant(model: Model, meta_graph: Any) -> VariantGraph:
    """Adds one MetaGraphDef, which it takes apart, to the model."""
    graph = Graph(meta_graph)
    collections = meta_graph.collection_def
    tags = tuple(sorted(meta_graph.meta_info_def.tags))
    variables.make_resources(graph)
    tables.make_resources(graph)
    variant = VariantGraph(
        tags=tags,
        graph=graph,
        signatures={},
        update_ops=node_list(graph, collections, "update_ops"),
        losses=tensor_list(graph, collections, "regularization_losses"),
        initializers=node_list(graph, collections, "table_initializer"),
        captures={},
        attachments=bytes_list(collections, ATTACHMENTS),
        gradients=list(meta_graph.graph_def.library.gradient),
    )
    calls.make_partitioned(graph)
    lost = custom_gradients.settle_gradients(graph)
    own = custom_gradients.lost_functions(graph, variant.gradients)
    guarded = control_flow.prevent_gradients(graph, lost, own)
    if guarded:
        model.warnings.append(
            "variant {}: TF1 loops, conditionals or custom gradients run forward only; "
            "gradients stop at {}".format(list(tags), ", ".join(guarded[:4]))
        )
    _add_assets(model, variant, meta_graph)
    _add_variables(model, variant, collections)
    tables.add_tables(model, variant)
    for name in sorted(meta_graph.signature_def):
        _add_signature(model, variant, name, meta_graph.signature_def[name])
    model.variants.append(variant)
    return variant


def _add_assets(model: Model, variant: VariantGraph, meta_graph: Any) -> None:
    definitions = list(meta_graph.asset_file_def)
    if not definitions and "saved_model_assets" in meta_graph.collection_def:
        collection = meta_graph.collection_def["saved_model_assets"]
        for packed in collection.any_list.value:
            definition = meta_graph_pb2.AssetFileDef()
            definition.ParseFromString(packed.value)
            definitions.append(definition)
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


def _add_variables(model: Model, variant: VariantGraph, collections: Any) -> None:
    for variable in variables.find_variables(variant.graph, collections):
        key = "variable:" + variable.name
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
        variant.variables.append(key)
        if variable.trainable:
            variant.trainable.add(key)
        for node in variable.nodes:
            variant.captures[node] = Capture(key, DT_RESOURCE)


def _add_signature(
    model: Model, variant: VariantGraph, name: str, definition: Any
) -> None:
    graph = variant.graph
    inputs = {
        key: Value.from_tensor_info(key, definition.inputs[key])
        for key in sorted(definition.inputs)
    }
    outputs = {}
    for key in sorted(definition.outputs):
        value = Value.from_tensor_info(key, definition.outputs[key])
        components = tuple(
            Component(c.name, variables.value_of(graph, c.tensor), c.dtype, c.shape)
            for c in value.components
        )
        outputs[key] = Value(key, components, value.spec)
    for value in list(inputs.values()) + list(outputs.values()):
        for component in value.components:
            graph.output(component.tensor)
    variant.signatures[name] = Signature(name, inputs, outputs, definition.method_name)


def node_list(graph: Graph, collections: Any, name: str) -> List[str]:
    """The nodes of a collection, each once."""
    if name not in collections:
        return []
    found: Dict[str, None] = {}
    for value in collections[name].node_list.value:
        graph.node(node_of(value))
        found[node_of(value)] = None
    return list(found)


def tensor_list(graph: Graph, collections: Any, name: str) -> List[str]:
    """The tensors of a collection."""
    if name not in collections:
        return []
    return [
        variables.value_of(graph, value) for value in collections[name].node_list.value
    ]


def bytes_list(collections: Any, name: str) -> List[bytes]:
    """The byte strings of a collection."""
    return list(collections[name].bytes_list.value) if name in collections else []
