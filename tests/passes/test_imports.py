"""TensorFlow takes the graphs that passes and lowering rules leave."""

from __future__ import annotations

from typing import Any, Callable, Dict

import cases
import graph_text
import pytest

from hub_compat._tf import tf
from hub_compat._tf.runtime import has_op
from hub_compat.converters.opdata.op_defs import builtin_ops
from hub_compat.converters.opdata.targets import NEWEST, ops_of

pytestmark = [pytest.mark.tensorflow, pytest.mark.passes]

_CASES = [case for case in cases.find() if case.expects() != "refused"]


def _as_graph(
    function: Any, op_def: Callable[[str], Any], library: Dict[str, Any]
) -> Any:
    """The body of a function as a GraphDef, with placeholders for its arguments."""
    graph_def = tf.compat.v1.GraphDef()
    names = {}
    for arg in function.signature.input_arg:
        node = graph_def.node.add(name="arguments/" + arg.name, op="Placeholder")
        node.attr["dtype"].type = arg.type
        names[arg.name] = node.name
    for node in function.node_def:
        outputs = graph_text.outputs(node, op_def(node.op), True)
        for i, (tensor, _) in enumerate(outputs):
            names[tensor] = "{}:{}".format(node.name, i)
    for node in function.node_def:
        copy = graph_def.node.add()
        copy.CopyFrom(node)
        copy.input[:] = [t if t[0] == "^" else names[t] for t in node.input]
    for tensor in function.ret.values():
        assert tensor in names
    return graph_def


@pytest.mark.parametrize("case", _CASES, ids=[case.name for case in _CASES])
def test_tensorflow_takes_it(case: Any) -> None:
    """The graph and the bodies of its functions can be imported, dtypes and all."""
    _, _, graph_def = cases.outcome(case)
    library = {f.signature.name: f for f in graph_def.library.function}
    known = case.op_def(builtin_ops(), ops_of(NEWEST))

    def op_def(name: str) -> Any:
        return library[name].signature if name in library else known(name)

    graphs = [_as_graph(f, op_def, library) for f in library.values()]
    graphs.append(tf.compat.v1.GraphDef(node=graph_def.node))
    for graph in graphs:
        # What this TensorFlow lacks is what the passes are about.
        if all(node.op in library or has_op(node.op) for node in graph.node):
            graph.library.CopyFrom(graph_def.library)
            graph.versions.producer = graph_def.versions.producer
            with tf.Graph().as_default():
                tf.compat.v1.import_graph_def(graph, name="")


def test_what_is_wrong_is_refused() -> None:
    """A node whose dtype does not fit its input would be found."""
    (case,) = [case for case in _CASES if case.name == "variables/read"]
    _, _, graph_def = cases.outcome(cases.Case(case.path))
    graph_def.node[-1].attr["T"].type = 2
    with tf.Graph().as_default(), pytest.raises(ValueError, match="float"):
        tf.compat.v1.import_graph_def(graph_def, name="")


def test_most_of_it_is_imported() -> None:
    """Few cases have ops that no TensorFlow without contrib has."""
    without = [
        case.name
        for case in _CASES
        if not all(
            has_op(node.op)
            for node in cases.outcome(cases.Case(case.path))[2].node
            if node.op not in {f.signature.name for f in case.functions}
        )
    ]
    assert len(without) <= 2, without
