"""Makes a module's graph one that the running TensorFlow has all ops of."""

from __future__ import annotations

from typing import Any, Collection, Dict, List, Mapping, Set

from hub_compat._tf import meta_graph_pb2, saved_model_pb2, tf
from hub_compat._tf.runtime import has_op
from hub_compat.converters import lowering
from hub_compat.converters.ir.graph import Graph, node_of
from hub_compat.converters.ir.used_nodes import CONTEXTS
from hub_compat.converters.lowering.meta_graphs import lower_meta_graph
from hub_compat.converters.opdata import targets
from hub_compat.converters.passes import dropped_ops, handle_shapes

__all__ = ["fitted"]


def fitted(meta_graph: Any) -> Any:
    """A MetaGraphDef as the running TensorFlow imports it.

    - Ops that TensorFlow 2 has dropped are replaced, as a conversion does.
    - Ops that are too new are replaced, as ``convert(target=...)`` does.
    - Functions say what variables they take: gradients of TensorFlow 2 ask for it.

    Args:
      meta_graph: the proto, which stays as it is.

    Raises:
      UnknownOpError: an op is too new, and no older ones can stand for it.
    """
    ops = {node.op for node in meta_graph.graph_def.node}
    # Some are still there, without their gradients or kernels.
    gone = not tf.__version__.startswith("1.")
    dropped = {op for op in ops & set(dropped_ops.REWRITES) if gone or not has_op(op)}
    newer = _is_newer(meta_graph)
    if not dropped and not newer and not meta_graph.graph_def.library.function:
        return meta_graph
    copy = meta_graph_pb2.MetaGraphDef()
    copy.CopyFrom(meta_graph)
    if newer:
        lower_meta_graph(copy, targets.of_runtime())
    graph = Graph(copy)
    if dropped:
        before = set(graph.nodes)
        dropped_ops.replace(graph, dropped)
        _enter_contexts(copy, before, [n for n in graph.nodes if n not in before])
        nodes = list(graph.nodes.values())
        del copy.graph_def.node[:]
        copy.graph_def.node.extend(nodes)
        for node in copy.graph_def.node:
            # The shape functions of some of them were wrong.
            if "_output_shapes" in node.attr:
                del node.attr["_output_shapes"]
        del copy.graph_def.library.function[:]
        copy.graph_def.library.function.extend(graph.library.values())
        graph = Graph(copy)
    handle_shapes.annotate(graph)
    return copy


def _enter_contexts(meta_graph: Any, old: Collection[str], new: List[str]) -> None:
    """Adds nodes to the TF1 loops and conditionals of those that they stand for."""
    by_node: Dict[str, List[str]] = {}
    for name in new:
        base = name.rpartition("/")[0]
        while base and base not in old:
            base = base.rpartition("/")[0]
        by_node.setdefault(base, []).append(name)
    for key, kind in CONTEXTS.items():
        if key not in meta_graph.collection_def:
            continue
        values = meta_graph.collection_def[key].bytes_list.value
        for i, data in enumerate(values):
            context = kind.FromString(data)
            _enter(context, by_node)
            values[i] = context.SerializeToString(deterministic=True)


def _enter(context: Any, by_node: Mapping[str, List[str]]) -> Set[str]:
    """Adds them to a context or one in it; returns the nodes that it holds."""
    inside: Set[str] = set()
    for nested in context.nested_contexts:
        kind = nested.WhichOneof("ctxt")
        if kind is not None:
            inside |= _enter(getattr(nested, kind), by_node)
    values = context.values_def.values
    own = {node_of(value) for value in values} - inside
    for base in sorted(own & set(by_node)):
        values.extend(name + ":0" for name in by_node[base])
    return own | inside


def _is_newer(meta_graph: Any) -> bool:
    """Whether it has ops or attributes that this TensorFlow's import refuses."""
    if meta_graph.graph_def.versions.producer <= tf.version.GRAPH_DEF_VERSION:
        return False
    model = saved_model_pb2.SavedModel(meta_graphs=[meta_graph])
    return bool(lowering.is_unknown(model, targets.of_runtime()))
