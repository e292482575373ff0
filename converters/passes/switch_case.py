"""Replaces Case, a choice among several functions, by nested Ifs.

::

    before:  Case(index, x; branches=[f, g, h])
    after:   call(choice, index, x), where choice is
             If(index == 0, f(x), If(index == 1, g(x), h(x)))

TensorFlow 1.15 has the op, but its loader does not find the functions of one that it
loads. An index outside of the range takes the last branch, as Case does.

1. In the graph, the node becomes a call under its own name.
2. In a function, it becomes the outermost If, or a call if there is one branch.
3. Copies of branches may hold Cases of their own, which are replaced in turn.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Tuple

from hub_compat._tf import function_pb2

from ..ir.attributes import GRADIENT, GRADIENT_OF_CALL
from ..ir.builder import Builder, Tensor
from ..ir.calls import call
from ..ir.context import Context
from ..ir.dtypes import DT_INT32
from ..ir.function_nodes import FunctionNodes
from ..ir.graph import Graph
from ..ir.names import Names
from ..opdata.op_defs import builtin_ops

__all__ = ["CASES", "replace_case", "run"]

CASES = ("Case", "StatelessCase")


# Given:
#     y = Case(index, x) {branches: [@negative, @double, @same]}
# Result:
#     y = StatefulPartitionedCall(index, x) {f: @y_case_4}
#     y_case_4(i, a): If(i == 0, @y_case_3, @y_case_2)(i, a)
#     y_case_3(i, a): the nodes of negative
#     y_case_2(i, a): If(i == 1, @y_case_1, @y_case)(i, a)
#     y_case_1(i, a): the nodes of double
#     y_case(i, a):   the nodes of same
#
# Afterwards, neither the graph nor a function holds a Case. All new functions take
# the index first, so that both branches of an If have one signature.
#
# Before "variables passed by value" and "inlined calls": they follow calls and Ifs.
def run(graph: Graph, context: Context) -> None:
    """Replaces the Cases of a graph, and of its functions."""
    found = [(node, None) for node in graph.nodes.values() if node.op in CASES]
    for function in graph.library.values():
        found += _cases_of(function)
    names = Names(graph.library)
    while found:
        node, function = found.pop()
        where = "" if function is None else function.signature.name
        if function is None:
            with graph.editing(node.name):
                made = replace_case(node, where, names, graph.library)
        else:
            made = replace_case(node, where, names, graph.library)
            if len(made) > 1:
                _put_in_place(node, made.pop(), function)
        for each in made:
            graph.add_function(each)
            # The copy of a branch may have Cases that were not replaced before.
            found += _cases_of(each)


def _cases_of(function: Any) -> List[Any]:
    return [(node, function) for node in function.node_def if node.op in CASES]


def _put_in_place(node: Any, choice: Any, function: Any) -> None:
    """Makes the outermost If of a call of it, see ``_Maker.branch``."""
    taken = [arg.name for arg in function.signature.input_arg]
    names = Names(taken + [each.name for each in function.node_def])
    index = node.input[0]
    number, equal, chosen = choice.node_def
    for made in (number, equal):
        name = names.take("{}_{}".format(node.name, made.name))
        function.node_def.add().CopyFrom(made)
        function.node_def[-1].name = name
    number, equal = function.node_def[-2:]
    equal.input[:] = [index, number.name + ":output:0"]
    given = list(node.input)
    chosen.name = node.name
    chosen.input[:] = [equal.name + ":z:0"] + given
    node.CopyFrom(chosen)


def replace_case(
    node: Any, where: str, names: Names, library: Mapping[str, Any]
) -> List[Any]:
    """Makes a call of a Case, whose tensors keep their names.

    An index that is none takes the last branch, as there.

    Args:
      node: the NodeDef.
      where: the function that it is in.
      names: those of functions that are taken.
      library: the FunctionDefs of the branches; those that are missing are called.

    Returns:
      The FunctionDefs that there must be for it.
    """
    wanted = re.sub(r"\W", "_", "{}_{}_case".format(where, node.name))
    maker = _Maker(node, wanted.strip("_"), names, library)
    branches = [f.name for f in node.attr["branches"].list.func]
    rest = maker.branch(branches[-1])
    for number in range(len(branches) - 2, -1, -1):
        rest = maker.choice(number, maker.branch(branches[number]), rest)
    call(node, maker.made[-1])
    # A call says nothing of how it is run.
    node.attr.pop("_lower_using_switch_merge", None)
    return maker.made


def _shift(places: Any, of_branch: Any) -> None:
    """Numbers arguments from one on, as the index comes first."""
    for place in list(places):
        del places[place]
    for place in of_branch:
        if isinstance(of_branch[place], int):
            places[place + 1] = of_branch[place]
        else:
            places[place + 1].CopyFrom(of_branch[place])


def _nodes_of(function: Any) -> Builder:
    return Builder(FunctionNodes(function, builtin_ops().__getitem__))


class _Maker:
    """Makes functions of the index and what the branches take.

    Attributes:
      made: the FunctionDefs; the last one is what the Case does.
    """

    def __init__(
        self, node: Any, wanted: str, names: Names, library: Mapping[str, Any]
    ) -> None:
        self._wanted = wanted
        self._names = names
        self._library = library
        self._tin = list(node.attr["Tin"].list.type)
        self._tout = list(node.attr["Tout"].list.type)
        self._shapes = list(node.attr["output_shapes"].list.shape)
        self.made: List[Any] = []

    def branch(self, called: str) -> str:
        """A function that leaves the index aside and does what a branch does.

        It has the branch's nodes, rather than a call: within an If, the loaders of TF
        2.4 to 2.8 give a call no gradient but that of C++ code, which has few.
        """
        if called in self._library:
            return self._copy(self._library[called])
        function, args = self._function()
        attrs: Dict[str, Any] = {GRADIENT: GRADIENT_OF_CALL}
        attrs.update(Tout=self._tout, f=called)
        build, op = _nodes_of(function), "StatefulPartitionedCall"
        build.run(op, args[1:], name="chosen", **attrs)
        return self._done(function)

    def _copy(self, branch: Any) -> str:
        function = function_pb2.FunctionDef()
        function.CopyFrom(branch)
        signature = function.signature
        signature.name = self._names.take(self._wanted)
        taken = [arg.name for arg in branch.signature.input_arg]
        taken += [node.name for node in branch.node_def]
        index = Names(taken).take("index")
        del signature.input_arg[:]
        signature.input_arg.add(name=index, type=DT_INT32)
        signature.input_arg.extend(branch.signature.input_arg)
        _shift(function.arg_attr, branch.arg_attr)
        # TF < 2.1 has no such field.
        if hasattr(branch, "resource_arg_unique_id"):
            _shift(function.resource_arg_unique_id, branch.resource_arg_unique_id)
        if "_input_shapes" in function.attr:
            shapes = function.attr["_input_shapes"].list.shape
            own = list(branch.attr["_input_shapes"].list.shape)
            del shapes[:]
            shapes.add()
            shapes.extend(own)
        self.made.append(function)
        return str(signature.name)

    def choice(self, number: int, then: str, rest: str) -> str:
        """A function that goes on with one of two, as the index is a number or not."""
        function, args = self._function()
        build = _nodes_of(function)
        value = build.constant(number, name="number")
        equal = build.op("Equal", args[0], value, name="equal")
        build.run(
            "If",
            equal,
            args,
            name="chosen",
            Tout=self._tout,
            then_branch=then,
            else_branch=rest,
            output_shapes=self._shapes,
        )
        return self._done(function)

    def _function(self) -> Tuple[Any, List[Tensor]]:
        function = function_pb2.FunctionDef()
        signature = function.signature
        signature.name = self._names.take(self._wanted)
        signature.is_stateful = True
        args: List[Tensor] = []
        for i, dtype in enumerate([DT_INT32] + self._tin):
            args.append(Tensor("a{}".format(i), dtype))
            signature.input_arg.add(name=args[-1], type=dtype)
        for i, dtype in enumerate(self._tout):
            signature.output_arg.add(name="r{}".format(i), type=dtype)
        return function, args

    def _done(self, function: Any) -> str:
        for i in range(len(self._tout)):
            function.ret["r{}".format(i)] = "chosen:output:{}".format(i)
        # Whoever waits for the call waits for what a branch reads and writes.
        function.signature.control_output.append("chosen")
        function.control_ret["chosen"] = "chosen"
        self.made.append(function)
        return str(function.signature.name)
