"""TF1 MetaGraphDefs in the ops of an older TensorFlow.

``lowering.py`` rewrites nodes and their edges. Signatures, collections and control flow
contexts of a TF1 graph name nodes, too; here they follow.
"""

from __future__ import annotations

from typing import Any, Dict, List

from hub_compat._tf import saved_model_pb2

from ..ir.names import Names
from ..ir.used_nodes import CONTEXTS, rename_uses, uses
from ..opdata.targets import NEWEST, Registry, ops_of
from .lowering import lower, needs_lowering

__all__ = ["lower_meta_graph"]


def lower_meta_graph(meta_graph: Any, registry: Registry) -> bool:
    """Rewrites a TF1 MetaGraphDef, in place, for a TensorFlow older than its writer.

    Args:
      meta_graph: the MetaGraphDef, without an object graph.
      registry: what that TensorFlow knows.

    Returns:
      Whether anything had to be done.

    Raises:
      UnknownOpError: it needs ops that no older ones can stand for; it is unchanged.
    """
    saved_model = saved_model_pb2.SavedModel()
    lowered = saved_model.meta_graphs.add()
    lowered.CopyFrom(meta_graph)
    registry = _with_ops_of_libraries(lowered, registry)
    if not needs_lowering(saved_model, registry):
        return False
    before = [node.name for node in lowered.graph_def.node]
    markers = _mark(lowered)
    lower(saved_model, registry, "")
    rename_uses(lowered, _unmark(lowered, markers))
    _extend_contexts(lowered, before)
    _forget_lost_places(lowered)
    meta_graph.CopyFrom(lowered)
    return True


def _with_ops_of_libraries(meta_graph: Any, registry: Registry) -> Registry:
    """Adds the ops that no TensorFlow has: whoever reads the graph loads them, too."""
    outside = {
        op.name: op
        for op in meta_graph.meta_info_def.stripped_op_list.op
        if registry.get(op.name) is None and op.name not in ops_of(NEWEST)
    }
    return registry.extended(outside) if outside else registry


def _mark(meta_graph: Any) -> Dict[str, str]:
    """Adds a node for each name in use, whose input is renamed with all others.

    Returns:
      From each such node to what it stands for.
    """
    graph = meta_graph.graph_def
    known = {node.name: node for node in graph.node}
    names = Names(known)
    markers = {}
    for name in sorted(set(uses(meta_graph))):
        node = name.split(":")[0]
        if node not in known:
            continue
        marker = graph.node.add(name=names.take("hub_compat_marker"))
        marker.op = "Identity" if ":" in name else "NoOp"
        marker.input.append(name if ":" in name else "^" + name)
        markers[marker.name] = name
    return markers


def _unmark(meta_graph: Any, markers: Dict[str, str]) -> Dict[str, str]:
    """Takes those nodes away, and returns the names that have changed."""
    graph = meta_graph.graph_def
    changed: Dict[str, str] = {}
    kept: List[Any] = []
    for node in graph.node:
        if node.name not in markers:
            kept.append(node)
            continue
        old = markers[node.name]
        if node.op == "NoOp" and len(node.input) != 1:
            # It stands for what the op has become.
            node.name = old
            kept.append(node)
            continue
        new = node.input[0].lstrip("^")
        if ":" in old and ":" not in new:
            new += ":0"
        if new != old:
            changed[old] = new
    del graph.node[:]
    graph.node.extend(kept)
    return changed


def _extend_contexts(meta_graph: Any, before: List[str]) -> None:
    """Puts new nodes into the contexts of those whose place they take."""
    known = set(before)
    new: Dict[str, List[str]] = {}
    for node in meta_graph.graph_def.node:
        if node.name not in known:
            new.setdefault(_origin(node.name, known), []).append(node.name)
    if not new:
        return
    there = {node.name for node in meta_graph.graph_def.node}
    for name, message in CONTEXTS.items():
        if name in meta_graph.collection_def:
            values = meta_graph.collection_def[name].bytes_list.value
            for i, value in enumerate(values):
                context = message.FromString(value)
                _extend(context, new, there)
                values[i] = context.SerializeToString()


def _origin(name: str, known: Any) -> str:
    """The node that a rule replaced by this one: rules add ``node/Op``."""
    while name and name not in known:
        name = name.rpartition("/")[0]
    return name


def _extend(context: Any, new: Dict[str, List[str]], there: Any) -> None:
    values = context.values_def.values
    own = {value.split(":")[0] for value in values}
    kept = [value for value in values if value.split(":")[0] in there]
    for node in sorted(own & set(new)):
        kept.extend(name + ":0" for name in new[node])
    values[:] = kept
    for nested in context.nested_contexts:
        inner = nested.WhichOneof("ctxt")
        if inner is not None:
            _extend(getattr(nested, inner), new, there)


def _forget_lost_places(meta_graph: Any) -> None:
    there = {node.name for node in meta_graph.graph_def.node}
    for node in meta_graph.graph_def.node:
        if "_class" in node.attr:
            places = node.attr["_class"].list.s
            kept = [
                p
                for p in places
                if not p.startswith(b"loc:@") or p[5:].decode() in there
            ]
            places[:] = kept
            if not kept:
                del node.attr["_class"]
