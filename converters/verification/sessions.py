"""A TF1 model in a session of its own.

It is a graph with a session, whatever mode the caller is in, so that it does not
touch the caller's default graph.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from hub_compat._io import files
from hub_compat._tf import meta_graph_pb2, tf, variable_pb2
from hub_compat._tf.runtime import has_op, registered_op

from ..checkpoint.v1 import files_of
from ..frontend import initialization
from ..frontend.collections import asset_definitions, node_list
from ..ir.calls import called_by
from ..ir.effects import is_random
from ..ir.graph import Graph, node_of
from ..lowering.attributes import MEANINGLESS
from ..opdata.op_defs import builtin_ops

__all__ = ["Original", "Sessions", "runnable", "unknown_ops"]


class Sessions:
    """A graph and the session that it runs in; the first run starts one."""

    def __init__(self) -> None:
        self.graph = tf.Graph()
        self._session: Any = None

    def run(self, fetches: Mapping[str, Any], feeds: Mapping[Any, Any]) -> Any:
        """The values of some tensors."""
        self.start()
        return self._session.run(dict(fetches), dict(feeds))

    def start(self) -> None:
        """Restores variables and fills tables, unless that has been done."""
        if self._session is None:
            # A variant made for another device runs on what there is.
            config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
            # A node without a kernel is no obstacle to those that do not need it.
            config.graph_options.place_pruned_graph = True
            session = tf.compat.v1.Session(graph=self.graph, config=config)
            try:
                with self.graph.as_default():
                    self._prepare(session)
            except BaseException:
                session.close()
                raise
            self._session = session

    def restart(self) -> None:
        """Resets variables, so that the next run starts from the checkpoint."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _prepare(self, session: Any) -> None:
        raise AssertionError("each kind of session is prepared in its own way")


# The truth of every comparison. So it is as near to TensorFlow 1 as this TensorFlow is:
# a graph, a session, the saver, the init op, and none of our own rewrites.
class Original(Sessions):
    """One variant of a TF1 model, as TensorFlow 1 runs it.

    A session of its graph; the saver restores it, and its init op fills tables.
    Where it has none, as in a TF1 Hub module, the table initializers do.

    Args:
      path: the model's directory.
      meta_graph: the variant, only with nodes that this TensorFlow knows.
      reseed: for another seed, other than 0, for each op that draws random
        numbers; None to leave them as they are.
    """

    def __init__(
        self, path: str, meta_graph: Any, reseed: Optional[int] = None
    ) -> None:
        super().__init__()
        graph = Graph(meta_graph)
        assets = files.join(path, "assets")
        self._checkpoint = files.join(path, "variables", "variables")
        self._asset_feeds = {
            asset.tensor_info.name: files.join(assets, asset.filename)
            for asset in asset_definitions(meta_graph)
        }
        self._init = initialization.init_ops(graph, meta_graph)
        if not self._init:
            collections = meta_graph.collection_def
            self._init = node_list(graph, collections, "table_initializer")
        imported = meta_graph_pb2.MetaGraphDef()
        imported.CopyFrom(meta_graph)
        for name in list(imported.collection_def):
            # What others are for, a run does not need.
            if name != "variables":
                del imported.collection_def[name]
        if reseed is not None:
            _reseed(imported.graph_def, reseed)
        with self.graph.as_default():
            self._saver = tf.compat.v1.train.import_meta_graph(
                imported, clear_devices=True
            )

    def _prepare(self, session: Any) -> None:
        # A model without variables has a saver and no checkpoint.
        there = files.exists(self._checkpoint + ".index") or files_of(self._checkpoint)
        if self._saver is not None and there:
            self._saver.restore(session, self._checkpoint)
        if self._init:
            session.run(self._init, self._asset_feeds)

    def run(self, fetches: Mapping[str, Any], feeds: Mapping[Any, Any]) -> Any:
        """The values of some tensors; both are named as in the graph."""
        # The loader feeds the paths of assets while it runs the init op alone;
        # TF1 Hub, whenever one is asked for.
        return super().run(fetches, dict(self._asset_feeds, **feeds))


def unknown_ops(meta_graphs: Any) -> List[str]:
    """The ops of some MetaGraphDefs that are not registered here, sorted."""
    found: Set[str] = set()
    for meta_graph in meta_graphs:
        library = meta_graph.graph_def.library.function
        for nodes in [meta_graph.graph_def.node] + [f.node_def for f in library]:
            found.update(node.op for node in nodes)
        found.difference_update(f.signature.name for f in library)
    return sorted(op for op in found if not has_op(op))


def runnable(meta_graph: Any) -> Tuple[Any, Dict[str, str]]:
    """A MetaGraphDef without the nodes that this TensorFlow cannot run.

    One op that is not registered keeps the whole graph from being imported.

    Args:
      meta_graph: the proto; it stays as it is.

    Returns:
      The proto, the given one if all of it can run; and for each node that is
      gone the op that it needs.
    """
    meta_graph, odd = _with_known_attributes(meta_graph)
    library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    known: Dict[str, bool] = {}

    def is_known(op: str) -> bool:
        if op not in known:
            known[op] = op in library or has_op(op)
        return known[op]

    bad_functions: Dict[str, str] = {}
    for name, function in library.items():
        for node in function.node_def:
            if not is_known(node.op) or (name, node.name) in odd:
                bad_functions[name] = odd.get((name, node.name), node.op)
    changed = bool(bad_functions)
    while changed:
        changed = False
        for name, function in library.items():
            if name not in bad_functions:
                for node in function.node_def:
                    for called in sorted(called_by(node)):
                        if called in bad_functions:
                            bad_functions[name] = bad_functions[called]
                            changed = True
    gone: Dict[str, str] = {}
    users: Dict[str, List[str]] = {}
    for node in meta_graph.graph_def.node:
        for tensor in node.input:
            users.setdefault(node_of(tensor), []).append(node.name)
        if not is_known(node.op) or ("", node.name) in odd:
            gone[node.name] = odd.get(("", node.name), node.op)
        for called in sorted(called_by(node)):
            if called in bad_functions:
                gone[node.name] = bad_functions[called]
    if not gone and not bad_functions:
        return meta_graph, gone
    # What initializes everything also does so without some of it.
    groups = {node.name for node in meta_graph.graph_def.node if node.op == "NoOp"}
    stack = list(gone)
    while stack:
        name = stack.pop()
        for user in users.get(name, ()):
            if user not in gone and user not in groups:
                gone[user] = gone[name]
                stack.append(user)
    return _without(meta_graph, set(gone), set(bad_functions)), gone


def _with_known_attributes(meta_graph: Any) -> Tuple[Any, Dict[Tuple[str, str], str]]:
    """A MetaGraphDef without the attributes of a newer TensorFlow that mean nothing.

    Returns:
      The proto, the given one if it has none; and by function, "" for the graph, and
      node what is needed that this TensorFlow does not have.
    """
    names: Dict[str, Optional[Set[str]]] = {}

    def unknown(node: Any) -> List[str]:
        if node.op not in names:
            found = registered_op(node.op)
            names[node.op] = found and {attr.name for attr in found.attr}
        own = names[node.op]
        if own is None:
            return []
        return [key for key in node.attr if key not in own and key[:1] != "_"]

    odd: Dict[Tuple[str, str], str] = {}
    if not any(unknown(node) for _, nodes in _bodies(meta_graph) for node in nodes):
        return meta_graph, odd
    defaults = {
        (op.name, attr.name): attr.default_value
        for op in meta_graph.meta_info_def.stripped_op_list.op
        for attr in op.attr
        if attr.HasField("default_value")
    }
    settled = meta_graph_pb2.MetaGraphDef()
    settled.CopyFrom(meta_graph)
    for body, nodes in _bodies(settled):
        for node in nodes:
            for key in unknown(node):
                ours = {("*", key), (node.op, key)}
                if ours & MEANINGLESS or defaults.get((node.op, key)) == node.attr[key]:
                    del node.attr[key]
                else:
                    odd[body, node.name] = "{} with its {}".format(node.op, key)
    return settled, odd


def _bodies(meta_graph: Any) -> List[Tuple[str, Any]]:
    """The nodes of a graph, under "", and of its functions, by name."""
    graph = meta_graph.graph_def
    functions = [(f.signature.name, f.node_def) for f in graph.library.function]
    return [("", graph.node)] + functions


def _without(meta_graph: Any, gone: Set[str], functions: Set[str]) -> Any:
    kept = meta_graph_pb2.MetaGraphDef()
    kept.CopyFrom(meta_graph)
    nodes = [node for node in kept.graph_def.node if node.name not in gone]
    del kept.graph_def.node[:]
    kept.graph_def.node.extend(nodes)
    library = [
        f for f in kept.graph_def.library.function if f.signature.name not in functions
    ]
    del kept.graph_def.library.function[:]
    kept.graph_def.library.function.extend(library)
    for collection in kept.collection_def.values():
        values = [v for v in collection.node_list.value if node_of(v) not in gone]
        if values or collection.HasField("node_list"):
            del collection.node_list.value[:]
            collection.node_list.value.extend(values)
    if "variables" in kept.collection_def:
        _keep_variables(kept.collection_def["variables"].bytes_list, gone)
    for node in kept.graph_def.node:
        inputs = [tensor for tensor in node.input if node_of(tensor) not in gone]
        del node.input[:]
        node.input.extend(inputs)
        # It may be said to be where a node is that is gone.
        node.attr.pop("_class", None)
    return kept


def _keep_variables(listed: Any, gone: Set[str]) -> None:
    """Leaves out variables that are gone; what initializes others may be."""
    kept = []
    for data in listed.value:
        variable = variable_pb2.VariableDef.FromString(data)
        if node_of(variable.variable_name) in gone:
            continue
        for field in ("initializer_name", "initial_value_name", "snapshot_name"):
            if node_of(getattr(variable, field)) in gone:
                # Nobody runs it; TensorFlow only looks whether it is there.
                setattr(variable, field, variable.variable_name)
        kept.append(variable.SerializeToString())
    del listed.value[:]
    listed.value.extend(kept)


def _reseed(graph_def: Any, seed: int) -> None:
    """Gives each op that draws random numbers another seed."""
    bodies = [graph_def.node] + [f.node_def for f in graph_def.library.function]
    for nodes in bodies:
        for node in nodes:
            known = builtin_ops().get(node.op)
            if is_random(node.op) and known is not None:
                for attr in known.attr:
                    if attr.name in ("seed", "seed2"):
                        node.attr[attr.name].i = seed
