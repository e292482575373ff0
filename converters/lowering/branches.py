"""Case, a choice among several functions, by Ifs within each other.

TF 1.15 has the op, but its loader does not find the functions of one that it loads.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List

from hub_compat._tf import attr_value_pb2, function_pb2, tf

from ..functions import set_attr
from ..graph import DT_BOOL, DT_INT32
from .scope import Rewrite

__all__ = ["OPS", "rewrite_case"]


def rewrite_case(rewrite: Rewrite) -> None:
    """Rewrites a Case; an index that is none takes the last branch, as there."""
    maker = _Maker(rewrite)
    branches = [f.name for f in rewrite.attr("branches").list.func]
    rest = maker.branch(branches[-1])
    for number in range(len(branches) - 2, 0, -1):
        rest = maker.choice(number, maker.branch(branches[number]), rest)
    first = maker.branch(branches[0])
    index = rewrite.inputs[0]
    zero = rewrite.constant(0)
    chosen = rewrite.add("Equal", [index, zero], T=("type", DT_INT32))
    rewrite.done(
        rewrite.emit("If", [chosen] + rewrite.inputs, **maker.attrs(first, rest))
    )


class _Maker:
    """Makes functions of the index and what the branches take."""

    def __init__(self, rewrite: Rewrite) -> None:
        self._scope = rewrite.scope
        name = "{}_{}_case".format(rewrite.scope.name, rewrite.node.name)
        self._name = re.sub(r"\W", "_", name)
        self._tin = list(rewrite.attr("Tin").list.type)
        self._tout = list(rewrite.attr("Tout").list.type)
        self._shapes = rewrite.attr("output_shapes")
        self._count = 0

    def attrs(self, then: str, rest: str) -> Any:
        """The attributes of an If."""
        return dict(
            Tcond=("type", DT_BOOL),
            Tin=("types", [DT_INT32] + self._tin),
            Tout=("types", self._tout),
            then_branch=("func", then),
            else_branch=("func", rest),
            output_shapes=self._shapes,
        )

    def branch(self, called: str) -> str:
        """A function that leaves the index aside and calls a branch."""
        function, args = self._function()
        node = function.node_def.add(name="chosen", op="StatefulPartitionedCall")
        node.input.extend(args[1:])
        set_attr(node, "Tin", ("types", self._tin))
        set_attr(node, "Tout", ("types", self._tout))
        set_attr(node, "f", ("func", called))
        set_attr(node, "_gradient_op_type", b"PartitionedCall-0")
        return self._done(function)

    def choice(self, number: int, then: str, rest: str) -> str:
        """A function that goes on with one of two, as the index is a number or not."""
        function, args = self._function()
        value = attr_value_pb2.AttrValue()
        value.tensor.CopyFrom(tf.make_tensor_proto(number, tf.int32))
        constant = function.node_def.add(name="number", op="Const")
        set_attr(constant, "value", value)
        set_attr(constant, "dtype", ("type", DT_INT32))
        equal = function.node_def.add(name="equal", op="Equal")
        equal.input.extend([args[0], "number:output:0"])
        set_attr(equal, "T", ("type", DT_INT32))
        node = function.node_def.add(name="chosen", op="If")
        node.input.extend(["equal:z:0"] + args)
        for key, attr in self.attrs(then, rest).items():
            set_attr(node, key, attr)
        return self._done(function)

    def _function(self) -> Any:
        function = function_pb2.FunctionDef()
        signature = function.signature
        signature.name = "{}_{}".format(self._name, self._count)
        self._count += 1
        signature.is_stateful = True
        args: List[str] = []
        for i, dtype in enumerate([DT_INT32] + self._tin):
            args.append("a{}".format(i))
            signature.input_arg.add(name=args[-1], type=dtype)
        for i, dtype in enumerate(self._tout):
            signature.output_arg.add(name="r{}".format(i), type=dtype)
        return function, args

    def _done(self, function: Any) -> str:
        for i in range(len(self._tout)):
            function.ret["r{}".format(i)] = "chosen:output:{}".format(i)
        self._scope.made.append(function)
        return str(function.signature.name)


OPS: Dict[str, Callable[[Rewrite], Any]] = {"StatelessCase": rewrite_case}
