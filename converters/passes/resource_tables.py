"""Turns lookup tables of reference type into resources.

::

    before:  HashTable   -> (string reference) -> LookupTableFind
    after:   HashTableV2 -> (resource)         -> LookupTableFindV2

Each op of ``_REFERENCE_OPS`` becomes the V2 op of the same form: same inputs, same
attributes, same name. All other nodes stay as they are.
"""

from __future__ import annotations

from ..ir.context import Context
from ..ir.graph import Graph

__all__ = ["run"]

# Ops that hand tables out, or take them, as references to strings: TF before
# 1.0, and graphs that were made by its Python code for long after.
_REFERENCE_OPS = frozenset(
    [
        "HashTable",
        "InitializeTable",
        "InitializeTableFromTextFile",
        "LookupTableExport",
        "LookupTableFind",
        "LookupTableImport",
        "LookupTableInsert",
        "LookupTableSize",
        "MutableDenseHashTable",
        "MutableHashTable",
        "MutableHashTableOfTensors",
    ]
)


# Given:
#     table = HashTable {shared_name: "words"}
#     ids = LookupTableFind(table, words, unknown)
#     fill = InitializeTable(table, keys, values)
# Result:
#     table = HashTableV2 {shared_name: "words"}
#     ids = LookupTableFindV2(table, words, unknown)
#     fill = InitializeTableV2(table, keys, values)
#
# Afterwards, no tensor is a reference to a table. The V2 ops differ from the others
# in the type of the handle alone, so a change of the name is enough.
#
# Before "control flow", whose functions take resources and no references.
def run(graph: Graph, context: Context) -> None:
    """Turns tables of reference type into resources: the V2 ops of same form."""
    for node in graph.nodes.values():
        if node.op in _REFERENCE_OPS:
            with graph.editing(node.name):
                node.op += "V2"
