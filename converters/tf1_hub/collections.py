"""MetaGraphDefs as hub.Module and TF1's session loader read them."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Sequence, Tuple

from hub_compat._parsing.known_names import ATTACHMENTS
from hub_compat._tf import meta_graph_pb2

from ..ir.flat_functions import flat_library, own_functions
from ..ir.graph import node_of
from .gradients import OwnGradient
from .structures import Leaf
from .variants import VariantBuilder

__all__ = ["write_meta_graph"]

_PREDICT = "tensorflow/serving/predict"


def write_meta_graph(
    meta_graph: Any,
    tags: Sequence[str],
    source: Any,
    variant: VariantBuilder,
    attachments: Sequence[bytes],
    op_def: Callable[[str], Any],
    gradients: Sequence[OwnGradient],
) -> int:
    """Writes a variant.

    Args:
      meta_graph: an empty MetaGraphDef.
      tags: its tags.
      source: the MetaGraphDef that it was made from.
      variant: the variant.
      attachments: serialized ModuleAttachments.
      op_def: from the name of an op to its OpDef.
      gradients: the functions that have gradients of their own.

    Returns:
      How many nodes it has, with those of its functions.
    """
    info = meta_graph.meta_info_def
    info.tags.extend(tags)
    info.tensorflow_version = source.meta_info_def.tensorflow_version
    info.tensorflow_git_version = source.meta_info_def.tensorflow_git_version
    graph_def = meta_graph.graph_def
    graph_def.versions.CopyFrom(source.graph_def.versions)
    for name in variant.graph.slice(_kept(variant)):
        graph_def.node.add().CopyFrom(variant.graph.nodes[name])
    own_functions(graph_def.node, variant.inliner)
    own = {each.forward: each.backward for each in gradients}
    functions = flat_library(graph_def.node, variant.inliner, own)
    for function in functions:
        graph_def.library.function.add().CopyFrom(function)
        name = function.signature.name
        if name in own:
            graph_def.library.gradient.add(function_name=name, gradient_func=own[name])
    _write_signatures(meta_graph, variant)
    _write_collections(meta_graph, variant, attachments)
    used = {node.op for node in graph_def.node}
    for function in functions:
        used.update(node.op for node in function.node_def)
    for name in sorted(used - {f.signature.name for f in functions}):
        info.stripped_op_list.op.add().CopyFrom(op_def(name))
    return len(graph_def.node) + sum(len(f.node_def) for f in functions)


def _kept(variant: VariantBuilder) -> List[str]:
    """What is fetched, by whomever."""
    kept: List[str] = list(variant.updates.names) + variant.losses
    state = variant.state
    kept += state.table_initializers + list(state.asset_nodes)
    for name, definition in state.definitions.items():
        kept += [
            name + "/IsInitialized/VarIsInitializedOp",
            definition.initializer_name,
            definition.snapshot_name,
        ]
    if variant.served is not None:
        kept += variant.served.nodes()
    for built in variant.signatures.values():
        for _, tensors in built.inputs + built.outputs:
            kept += tensors
    return [name for name in kept if node_of(name) in variant.graph.nodes]


def _write_signatures(meta_graph: Any, variant: VariantBuilder) -> None:
    for name, built in variant.signatures.items():
        signature = meta_graph.signature_def[name]
        signature.method_name = _PREDICT
        for infos, values in (
            (signature.inputs, built.inputs),
            (signature.outputs, built.outputs),
        ):
            for leaf, tensors in values:
                _write_info(infos[leaf.name], leaf, tensors)


def _write_info(info: Any, leaf: Leaf, tensors: Tuple[str, ...]) -> None:
    if leaf.spec is None:
        info.name = tensors[0]
        info.dtype = leaf.parts[0].dtype
        info.tensor_shape.CopyFrom(leaf.parts[0].shape)
        return
    state = leaf.spec.type_state.tuple_value.values
    if leaf.spec.type_spec_class == leaf.spec.SPARSE_TENSOR_SPEC:
        info.dtype = leaf.parts[1].dtype
        info.tensor_shape.CopyFrom(state[0].tensor_shape_value)
        sparse = info.coo_sparse
        sparse.indices_tensor_name = tensors[0]
        sparse.values_tensor_name = tensors[1]
        sparse.dense_shape_tensor_name = tensors[2]
        return
    composite = info.composite_tensor
    composite.type_spec.CopyFrom(leaf.spec)
    for part, tensor in zip(leaf.parts, tensors):
        composite.components.add(name=tensor, dtype=part.dtype).tensor_shape.CopyFrom(
            part.shape
        )


def _write_collections(
    meta_graph: Any, variant: VariantBuilder, attachments: Sequence[bytes]
) -> None:
    collections = meta_graph.collection_def
    state = variant.state
    definitions = list(state.definitions.values())
    for key, chosen in (
        ("variables", definitions),
        ("trainable_variables", [d for d in definitions if d.trainable]),
    ):
        if chosen:
            collections[key].bytes_list.value.extend(
                d.SerializeToString(deterministic=True) for d in chosen
            )
    names: Dict[str, Iterable[str]] = {
        "table_initializer": state.table_initializers,
        "asset_filepaths": [name + ":0" for name in state.asset_nodes],
        "update_ops": variant.updates.names,
        "regularization_losses": variant.losses,
    }
    for key, values in names.items():
        if values:
            collections[key].node_list.value.extend(values)
    for name, filename in state.asset_nodes.items():
        asset = meta_graph_pb2.AssetFileDef(filename=filename)
        asset.tensor_info.name = name + ":0"
        collections["saved_model_assets"].any_list.value.add().Pack(asset)
    if variant.served is not None:
        variant.served.write(meta_graph)
    if attachments:
        collections[ATTACHMENTS].bytes_list.value.extend(attachments)
