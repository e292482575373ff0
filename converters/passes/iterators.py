"""Gives one-shot iterators an initializer.

::

    before:  OneShotIterator(dataset_factory=f)
    after:   IteratorV2 <- MakeIterator <- (the nodes of f)

No function of TensorFlow 2 may name a OneShotIterator, because loaders name what
several functions share. An iterator that an initializer starts gives the same elements.

Left alone: an iterator that nothing needs, and one whose factory is not in the library
or has attributes of its own.
"""

from __future__ import annotations

from typing import Any

from hub_compat._tf import node_def_pb2

from ..ir.builder import Builder, new_node
from ..ir.calls import call
from ..ir.context import Context
from ..ir.graph import Graph
from .control_flow.inlining import inline_call

__all__ = ["run"]


# Given:
#     iterator = OneShotIterator {dataset_factory: @numbers}
#     next = IteratorGetNext(iterator)
# Result:
#     iterator = IteratorV2 {shared_name: "iterator"}
#     iterator/dataset/inlined/body/range = RangeDataset(...)
#     iterator/start = MakeIterator(.../range, iterator)      in context.started
#     next = IteratorGetNext(iterator)
#
# Afterwards, context.started names the nodes that start iterators. A missing
# shared_name becomes the node's name: the initializer and the signature are
# different functions, and share the iterator by that name alone.
#
# Before "initial values": these starts are initializers like any other.
def run(graph: Graph, context: Context) -> None:
    """Gives each OneShotIterator that is needed an initializer."""
    for name in graph.slice(context.wanted()):
        node = graph.nodes[name]
        if node.op == "OneShotIterator":
            factory = graph.library.get(node.attr["dataset_factory"].func.name)
            if factory is not None and not factory.signature.attr:
                context.started.append(_start(graph, node, factory))


def _start(graph: Graph, node: Any, factory: Any) -> str:
    attrs = {name: node.attr[name] for name in ("output_types", "output_shapes")}
    shared = node.attr["shared_name"].s if "shared_name" in node.attr else b""
    attrs["shared_name"] = shared or node.name.encode()
    attrs["container"] = b""
    op = graph.op_def("IteratorV2")
    graph.replace(new_node(op, node.name, (), (), attrs))
    dataset = node_def_pb2.NodeDef(name=graph.unique_name(node.name + "/dataset"))
    call(dataset, factory)
    graph.replace(dataset)
    given = [graph.tensor(name) for name in (dataset.name, node.name)]
    start = Builder(graph).run("MakeIterator", *given, name=node.name + "/start")
    inline_call(graph, dataset.name)
    return start
