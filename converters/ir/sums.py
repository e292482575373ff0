"""Sums of a tensor and its copies, in a form that TensorFlow's optimizer keeps.

Behind control edges the copies are nodes of their own. The optimizer takes them out
only once a loop or conditional is made of Switches, and then makes ``2 * x`` of
``x + x``. Its 2 waits for the output 0 of the Switch, whichever the sum was of: in a
loop, and in the branch for true, the result is empty. So it is in 1.15, 2.15 and 2.21.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from hub_compat._tf import tf

from .dtypes import DT_BOOL, DT_STRING, DT_VARIANT

__all__ = ["keep_sums"]

# What TensorFlow makes a product of, if all it adds up is one tensor.
_SUMS = ("Add", "AddN", "AddV2")
_NOT_MULTIPLIED = (DT_BOOL, DT_STRING, DT_VARIANT)
# What it may find to change nothing, and take out.
_BY_CONSTANT = ("Add", "AddV2", "Div", "Mul", "Pow", "RealDiv", "Sub")
_COPIES = _BY_CONSTANT + (
    "BroadcastTo",
    "Cast",
    "ConjugateTranspose",
    "ExpandDims",
    "Identity",
    "Pad",
    "PadV2",
    "PreventGradient",
    "Reshape",
    "ReverseV2",
    "Slice",
    "Snapshot",
    "Squeeze",
    "StopGradient",
    "StridedSlice",
    "Tile",
    "Transpose",
)


def keep_sums(fdef: Any) -> None:
    """Rewrites sums of copies as sums of one copy, or as differences.

    Args:
      fdef: a FunctionDef, with its nodes and results.
    """
    nodes = {node.name: node for node in fdef.node_def}
    for node in list(fdef.node_def):
        if node.op not in _SUMS or node.attr["T"].type in _NOT_MULTIPLIED:
            continue
        tensors = [tensor for tensor in node.input if not tensor.startswith("^")]
        if len(set(tensors)) < 2:
            continue
        waits = [tensor for tensor in node.input if tensor.startswith("^")]
        if len({_origin(nodes, tensor, ("Identity",)) for tensor in tensors}) == 1:
            # The optimizer sees that at once, while Identities are before it.
            copies = [tensor for tensor in tensors if _node(tensor) in nodes]
            waits += ["^" + _node(copy) for copy in copies[1:]]
            node.input[:] = [copies[0]] * len(tensors) + list(dict.fromkeys(waits))
        elif len({_origin(nodes, tensor, _COPIES) for tensor in tensors}) == 1:
            _as_difference(fdef, node, tensors, waits)


def _node(tensor: str) -> str:
    """The node behind ``node:output_arg:index``; an argument stays what it is."""
    return tensor.partition(":")[0]


def _origin(nodes: Mapping[str, Any], tensor: str, ops: Sequence[str]) -> str:
    """The tensor that this one is a copy of, if only such ops made it."""
    while True:
        node = nodes.get(_node(tensor))
        if node is None or node.op not in ops:
            return tensor
        sources = list(node.input)
        if node.op in _BY_CONSTANT:
            # The constant may be a one or a zero.
            one, two = (nodes.get(_node(each)) for each in sources[:2])
            if one is not None and one.op == "Const":
                sources.reverse()
            elif two is None or two.op != "Const":
                return tensor
        tensor = [each for each in sources if not each.startswith("^")][0]


def _as_difference(fdef: Any, node: Any, tensors: List[str], waits: List[str]) -> None:
    """Makes of a sum a difference: what is taken away is the product with -1."""
    writer = _Writer(fdef, node)
    negative = [
        writer.add("Mul", "negative", [tensor, writer.minus(waits)])
        for tensor in tensors[1:]
    ]
    found = tensors[0]
    for each in negative[:-1]:
        found = writer.add("Sub", "less", [found, each])
    node.op = "Sub"
    node.input[:] = [found, negative[-1]] + waits
    if "N" in node.attr:
        # An AddN, whose output has another name.
        del node.attr["N"]
        old, new = node.name + ":sum:0", node.name + ":z:0"
        for other in fdef.node_def:
            other.input[:] = [new if each == old else each for each in other.input]
        for name, tensor in fdef.ret.items():
            if tensor == old:
                fdef.ret[name] = new


class _Writer:
    """Adds nodes for a sum, of its dtype.

    Args:
      fdef: the FunctionDef.
      node: the sum.
    """

    def __init__(self, fdef: Any, node: Any) -> None:
        self._fdef = fdef
        self._scope: str = node.name
        self._dtype: int = node.attr["T"].type
        self._names: Dict[str, None] = {each.name: None for each in fdef.node_def}
        self._minus = ""

    def add(self, op: str, name: str, inputs: List[str], arg: str = "z") -> str:
        """Adds a node; returns its output."""
        node = self._fdef.node_def.add(op=op, input=inputs)
        node.name = "{}/{}".format(self._scope, name)
        while node.name in self._names:
            node.name += "_"
        self._names[node.name] = None
        node.attr["dtype" if op == "Const" else "T"].type = self._dtype
        return "{}:{}:0".format(node.name, arg)

    def minus(self, waits: List[str]) -> str:
        """The constant -1; of unsigned integers, what is the same for a product."""
        if not self._minus:
            self._minus = self.add("Const", "minus", waits, "output")
            value = np.array(-1).astype(tf.as_dtype(self._dtype).as_numpy_dtype)
            constant = self._fdef.node_def[-1].attr["value"]
            constant.tensor.CopyFrom(tf.make_tensor_proto(value))
        return self._minus
