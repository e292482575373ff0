"""Finds the features that nodes parse out of tf.Examples."""

from __future__ import annotations

from typing import Any, List, NamedTuple

import numpy as np

from ..ir.constants import array_of
from ..ir.dtypes import DT_STRING
from ..ir.graph import Graph, attr_or_default, node_of

__all__ = ["PARSERS", "Feature", "constant_strings", "features"]

PARSERS = frozenset(["ParseExample", "ParseExampleV2", "ParseSingleExample"])


class Feature(NamedTuple):
    """One feature that a parser of tf.Examples asks for.

    Attributes:
      key: its key.
      dtype: a ``DataType``.
      number: how many values to give.
      tensor: what the parser makes of them.
    """

    key: str
    dtype: int
    number: int
    tensor: str


def features(graph: Graph, node: Any) -> List[Feature]:
    """The features that a node parses out of tf.Examples.

    The order of inputs and outputs is that of parsing_ops.cc.
    """
    op = graph.op_def(node.op)
    sparse_types = list(attr_or_default(node, op, "sparse_types").list.type)
    dense_types = list(attr_or_default(node, op, "Tdense").list.type)
    sparse, dense = len(sparse_types), len(dense_types)
    inputs = [edge.tensor for edge in graph.inputs(node.name)]
    ragged_types: List[int] = []
    ragged_keys: List[bytes] = []
    if node.op == "ParseSingleExample":
        sparse_keys = list(attr_or_default(node, op, "sparse_keys").list.s)
        dense_keys = list(attr_or_default(node, op, "dense_keys").list.s)
    elif node.op == "ParseExample":
        keys = [
            constant_strings(graph, tensor) for tensor in inputs[2 : 2 + sparse + dense]
        ]
        flat = [key[0] if key else b"" for key in keys]
        sparse_keys, dense_keys = flat[:sparse], flat[sparse:]
    else:
        sparse_keys, dense_keys, ragged_keys = [
            constant_strings(graph, tensor) for tensor in inputs[2:5]
        ]
        ragged_types = list(attr_or_default(node, op, "ragged_value_types").list.type)
    shapes = attr_or_default(node, op, "dense_shapes").list.shape
    found = []
    for i, (key, dtype) in enumerate(zip(sparse_keys, sparse_types)):
        tensor = "{}:{}".format(node.name, sparse + i)
        found.append(Feature(key.decode(), dtype, 1, tensor))
    for i, (key, dtype) in enumerate(zip(dense_keys, dense_types)):
        count = int(np.prod([max(dim.size, 1) for dim in shapes[i].dim], dtype=int))
        tensor = "{}:{}".format(node.name, 3 * sparse + i)
        found.append(Feature(key.decode(), dtype, count, tensor))
    for i, (key, dtype) in enumerate(zip(ragged_keys, ragged_types)):
        tensor = "{}:{}".format(node.name, 3 * sparse + dense + i)
        found.append(Feature(key.decode(), dtype, 2, tensor))
    return found


def constant_strings(graph: Graph, tensor: str) -> List[bytes]:
    """The elements of a constant of strings; none of anything else."""
    node = graph.node(node_of(tensor))
    while node.op == "Identity":
        node = graph.node(node_of(node.input[0]))
    if node.op != "Const" or node.attr["dtype"].type != DT_STRING:
        return []
    values: List[bytes] = array_of(node.attr["value"].tensor).ravel().tolist()
    return values
