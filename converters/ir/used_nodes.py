"""What a TF1 MetaGraphDef is for, and the nodes that this needs.

A graph is used through its signatures and collections. All else, such as the saver of
a module within the module, is taken away.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

from hub_compat._tf import control_flow_pb2, variable_pb2

from .calls import called_by

__all__ = ["CONTEXTS", "keep_used", "rename_uses", "uses"]

# Collections of control flow contexts, and the message of each.
CONTEXTS = {
    "cond_context": control_flow_pb2.CondContextDef,
    "while_context": control_flow_pb2.WhileContextDef,
}
_VARIABLES = ("variables", "trainable_variables", "model_variables", "local_variables")
# Fields of VariableDef that name nodes or tensors.
_OF_VARIABLE = (
    "variable_name",
    "initial_value_name",
    "initializer_name",
    "snapshot_name",
)


# A fixed point: a context that one node of it keeps brings all its nodes, which may be
# in other contexts. TensorFlow 1.15 fails to import a context that names a missing
# node.
def keep_used(meta_graph: Any) -> None:
    """Takes the nodes and functions away that no signature or collection needs.

    A control flow context stays whole, as it names all of its nodes, or goes.
    """
    graph = meta_graph.graph_def
    nodes = {node.name: node for node in graph.node}
    contexts = _contexts(meta_graph)
    used: Set[str] = set()
    _reach(nodes, [_node(name) for name in uses(meta_graph)], used)
    changed = True
    while changed:
        changed = False
        for names in contexts.values():
            if names & used and not names <= used:
                _reach(nodes, sorted(names), used)
                changed = True
    kept = [node for node in graph.node if node.name in used]
    if len(kept) < len(nodes):
        del graph.node[:]
        graph.node.extend(kept)
        for node in graph.node:
            _forget_places(node, used)
        _drop_contexts(meta_graph, used)
    _keep_functions(graph)
    _declare(meta_graph)


def uses(meta_graph: Any) -> Iterator[str]:
    """Names of nodes and tensors in signatures and collections, but not in contexts."""
    found: List[str] = []

    def note(name: str) -> str:
        found.append(name)
        return name

    _visit(meta_graph, note, write=False)
    return iter(found)


def rename_uses(meta_graph: Any, names: Dict[str, str]) -> None:
    """Gives signatures and collections other tensors and nodes."""
    _visit(meta_graph, lambda name: names.get(name, name), write=True)


# One walk for reading and for renaming, so that none of both can miss a place that the
# other one knows.
def _visit(meta_graph: Any, change: Callable[[str], str], write: bool) -> None:
    for signature in meta_graph.signature_def.values():
        for tensors in (signature.inputs, signature.outputs):
            for info in tensors.values():
                _visit_tensor(info, change)
    for name, collection in meta_graph.collection_def.items():
        if name in CONTEXTS:
            continue
        kind = collection.WhichOneof("kind")
        if kind == "node_list":
            collection.node_list.value[:] = [
                change(value) for value in collection.node_list.value
            ]
        elif kind == "bytes_list" and name in _VARIABLES:
            values = []
            for value in collection.bytes_list.value:
                variable = variable_pb2.VariableDef.FromString(value)
                for field in _OF_VARIABLE:
                    if getattr(variable, field):
                        setattr(variable, field, change(getattr(variable, field)))
                values.append(variable.SerializeToString())
            if write:
                collection.bytes_list.value[:] = values


def _visit_tensor(info: Any, change: Callable[[str], str]) -> None:
    kind = info.WhichOneof("encoding")
    if kind == "name":
        info.name = change(info.name)
    elif kind == "coo_sparse":
        sparse = info.coo_sparse
        for field in (
            "values_tensor_name",
            "indices_tensor_name",
            "dense_shape_tensor_name",
        ):
            setattr(sparse, field, change(getattr(sparse, field)))
    elif kind == "composite_tensor":
        for part in info.composite_tensor.components:
            _visit_tensor(part, change)


def _node(name: str) -> str:
    """``"^a"``, ``"a:1"`` -> ``"a"``."""
    return name.lstrip("^").rsplit(":", 1)[0] if ":" in name else name.lstrip("^")


def _reach(nodes: Dict[str, Any], start: List[str], used: Set[str]) -> None:
    stack = list(start)
    while stack:
        name = stack.pop()
        if name not in used and name in nodes:
            used.add(name)
            stack.extend(map(_node, nodes[name].input))


def _contexts(meta_graph: Any) -> Dict[Tuple[str, int], Set[str]]:
    """The nodes that each context names, by its collection and place there."""
    found = {}
    for name, message in CONTEXTS.items():
        if name in meta_graph.collection_def:
            values = meta_graph.collection_def[name].bytes_list.value
            for i, value in enumerate(values):
                found[name, i] = set(_names_in(message.FromString(value)))
    return found


def _names_in(context: Any) -> Iterator[str]:
    """The nodes of a context, and of those in it."""
    for field, value in context.ListFields():
        if field.name == "values_def":
            yield from map(_node, value.values)
            yield from map(_node, value.external_values.values())
        elif field.name == "nested_contexts":
            for nested in value:
                inner = nested.WhichOneof("ctxt")
                if inner is not None:
                    yield from _names_in(getattr(nested, inner))
        elif field.name in ("loop_exit_names", "loop_enter_names"):
            yield from map(_node, value)
        elif field.name.endswith("_name") and field.name != "context_name":
            yield _node(value)


def _drop_contexts(meta_graph: Any, used: Set[str]) -> None:
    for name, message in CONTEXTS.items():
        if name in meta_graph.collection_def:
            values = meta_graph.collection_def[name].bytes_list.value
            kept = [
                v
                for v in values
                if not used.isdisjoint(_names_in(message.FromString(v)))
            ]
            values[:] = kept
            if not kept:
                del meta_graph.collection_def[name]


def _forget_places(node: Any, used: Set[str]) -> None:
    """Takes the wish away to be where a node is that is gone."""
    if "_class" not in node.attr:
        return
    places = node.attr["_class"].list.s
    kept = [p for p in places if not p.startswith(b"loc:@") or p[5:].decode() in used]
    if len(kept) < len(places):
        places[:] = kept
        if not kept:
            del node.attr["_class"]


def _keep_functions(graph: Any) -> None:
    """Takes functions away that no node calls, and their gradients."""
    library = {function.signature.name: function for function in graph.library.function}
    gradients = {g.function_name: g.gradient_func for g in graph.library.gradient}
    used: Set[str] = set()
    stack: List[str] = []
    for node in graph.node:
        stack.extend(called_by(node))
    while stack:
        name = stack.pop()
        if name in library and name not in used:
            used.add(name)
            stack.append(gradients.get(name, ""))
            for node in library[name].node_def:
                stack.extend(called_by(node))
    if len(used) < len(library):
        kept = [f for f in graph.library.function if f.signature.name in used]
        del graph.library.function[:]
        graph.library.function.extend(kept)
        left = [g for g in graph.library.gradient if g.function_name in used]
        del graph.library.gradient[:]
        graph.library.gradient.extend(left)


def _declare(meta_graph: Any) -> None:
    """Lists the ops that are left, of those that were listed."""
    graph = meta_graph.graph_def
    used = {node.op for node in graph.node}
    for function in graph.library.function:
        used.update(node.op for node in function.node_def)
    declared = meta_graph.meta_info_def.stripped_op_list
    kept = [op for op in declared.op if op.name in used]
    if len(kept) < len(declared.op):
        del declared.op[:]
        declared.op.extend(kept)
