"""The tables of a graph, entered into the model."""

from __future__ import annotations

import hashlib
from typing import Dict, List

from hub_compat._tf import node_def_pb2

from ..ir.dtypes import DT_RESOURCE
from ..ir.functions import Capture
from ..ir.graph import Graph
from ..ir.model import Model, Table, VariantGraph
from ..ir.tables import find_tables, is_carrier, is_table, set_shared_name, shared_name

__all__ = ["add_tables"]


#     by_name: shared name -> the nodes that hand the table out; a session has one
#     owners:  node -> its table
#     fillers: table -> the initializers that fill it, in order
#
# An initializer belongs to one table, though it may touch several: the last of
# them, as loaders may create and fill one table after the other.
def add_tables(model: Model, variant: VariantGraph) -> None:
    """Adds a variant's tables to the model and to the variant's captures.

    Tables of one name in two variants are one table where they are created
    and filled alike, as variables of one name are one variable; otherwise each
    variant has its own.
    """
    by_name: Dict[str, List[node_def_pb2.NodeDef]] = {}
    for node in find_tables(variant.graph):
        by_name.setdefault(shared_name(variant.graph, node), []).append(node)
    owners = {node.name: name for name, nodes in by_name.items() for node in nodes}
    fillers: Dict[str, List[str]] = {name: [] for name in by_name}
    for initializer in variant.initializers:
        behind = variant.graph.slice(["^" + initializer])
        touched = [name for name in behind if name in owners]
        captured = [variant.captures.get(name) for name in behind]
        # What it gives to variables is what they begin with.
        set_variables = any(
            capture is not None
            and capture.key in model.variables
            and model.variables[capture.key].initial is not None
            for capture in captured
        )
        if touched:
            # Where one op fills several, all are created by the time the
            # last of them is filled. What else the init op does comes after all.
            carriers = [name for name in touched if is_carrier(owners[name])]
            fillers[owners[(carriers or touched)[-1]]].append(initializer)
        elif variant.graph.nodes[initializer].op != "NoOp" and not set_variables:
            model.warnings.append(
                "the table initializer {!r} fills no table and is skipped".format(
                    initializer
                )
            )
    for name, nodes in by_name.items():
        digest = _digest(variant, nodes[0], fillers[name])
        key = "table:" + name
        if key in model.tables and model.tables[key].digest != digest:
            own = "@{}".format(",".join(variant.tags))
            _rename(variant.graph, name, name + own)
            key, name = key + own, name + own
        for node in nodes:
            variant.captures[node.name] = Capture(key, DT_RESOURCE)
        if key not in model.tables:
            model.tables[key] = Table(
                key, name, digest, variant, nodes[0].name, fillers[name]
            )


def _rename(graph: Graph, name: str, other: str) -> None:
    """Renames a table where functions ask for it by its name."""
    for function in graph.library.values():
        for node in function.node_def:
            if is_table(graph, node.op) and node.attr["shared_name"].s.decode() == name:
                set_shared_name(graph, node, other)


def _digest(
    variant: VariantGraph, node: node_def_pb2.NodeDef, fillers: List[str]
) -> bytes:
    digest = hashlib.sha256(node.SerializeToString(deterministic=True))
    for name in variant.graph.slice(["^" + filler for filler in fillers]):
        filler = variant.graph.nodes[name]
        digest.update(filler.SerializeToString(deterministic=True))
        if name in variant.captures:
            digest.update(variant.captures[name].key.encode())
    return digest.digest()
