"""What the functions of a converted module consist of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence

import expected
import pytest
import replay
import runtimes
from edits import edited

import hub_compat as hub

pytestmark = pytest.mark.tensorflow


def constant(name: str, value: Any, controls: Sequence[str] = ()) -> Any:
    """A Const node."""
    import tensorflow as tf

    from hub_compat._tf import node_def_pb2

    tensor = tf.compat.v1.make_tensor_proto(value)
    node = node_def_pb2.NodeDef(name=name, op="Const")
    node.input.extend("^" + control for control in controls)
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)
    return node


def operation(name: str, op: str, inputs: Sequence[str], **types: int) -> Any:
    """A node with dtypes for attributes."""
    from hub_compat._tf import node_def_pb2

    node = node_def_pb2.NodeDef(name=name, op=op, input=inputs)
    for key, dtype in types.items():
        node.attr[key].type = dtype
    return node


def emitted(nodes: Sequence[Any]) -> Dict[str, List[str]]:
    """The inputs of a function's nodes, by their names, after ``emit``."""
    from hub_compat._tf import meta_graph_pb2
    from hub_compat.converters.ir.functions import FunctionWriter, emit
    from hub_compat.converters.ir.graph import Graph

    meta_graph = meta_graph_pb2.MetaGraphDef()
    meta_graph.graph_def.node.extend(nodes)
    graph = Graph(meta_graph)
    writer = FunctionWriter("f", graph.nodes)
    emit(graph, writer, list(graph.nodes), {}, {})
    return {node.name: list(node.input) for node in writer.fdef.node_def}


def test_equal_constants_and_what_is_computed_from_them_are_one() -> None:
    """A decay for every layer, and one minus it, are two nodes and no more."""
    nodes = [constant("one", 1.0)]
    for i in range(3):
        nodes.append(constant("decay_{}".format(i), 0.99))
        sub = ["one", "decay_{}".format(i)]
        nodes.append(operation("rate_{}".format(i), "Sub", sub, T=1))
        nodes.append(operation("used_{}".format(i), "Neg", ["rate_{}".format(i)], T=1))
        nodes.append(operation("last_{}".format(i), "NoOp", ["^decay_{}".format(i)]))
    assert emitted(nodes) == {
        "one": [],
        "decay_0": [],
        "rate_0": ["one:output:0", "decay_0:output:0"],
        "used_0": ["rate_0:z:0"],
        "last_0": ["^decay_0"],
        "last_1": ["^decay_0"],
        "last_2": ["^decay_0"],
    }


def test_nodes_may_come_before_what_they_need() -> None:
    """A file that is in no order keeps what was referred to under its name."""
    nodes = [
        constant("one", 1.0),
        operation("early", "Neg", ["late"], T=1),
        operation("waits", "NoOp", ["^later"]),
        constant("late", 1.0),
        constant("later", 1.0),
        constant("last", 1.0),
        operation("uses", "Neg", ["last"], T=1),
        operation("both", "NoOp", ["^one", "^last"]),
    ]
    assert emitted(nodes) == {
        "one": [],
        "early": ["late:output:0"],
        "waits": ["^later"],
        "late": [],
        "later": [],
        "uses": ["one:output:0"],
        "both": ["^one"],
    }


def test_what_only_looks_equal_stays() -> None:
    """Another dtype, a large value, a control input, a random op, a loop's entry."""
    random = dict(T=3, dtype=1)
    nodes = [
        constant("float", 1.0),
        constant("int", 1),
        constant("large", [0.5] * 65),
        constant("large_too", [0.5] * 65),
        constant("waits", 1.0, ["int"]),
        constant("shape", [2]),
        operation("random", "RandomUniform", ["shape"], **random),
        operation("random_too", "RandomUniform", ["shape"], **random),
        operation("enter", "Enter", ["float"], T=1),
        operation("enter_too", "Enter", ["float"], T=1),
    ]
    assert list(emitted(nodes)) == [node.name for node in nodes]


def test_thousands_of_equal_names_are_numbered_in_no_time() -> None:
    """Each new name starts where the last one of its kind was found."""
    from hub_compat.converters.ir.names import Names

    names = Names(["loss_2"])
    assert [names.take("loss") for _ in range(4)] == [
        "loss",
        "loss_1",
        "loss_3",
        "loss_4",
    ]
    assert names.free("loss") == names.free("loss") == "loss_5"
    assert names.take("loss_5") == "loss_5"
    assert names.take("loss") == "loss_6"
    assert len({names.take("value") for _ in range(20_000)}) == 20_000


def shorten(proto: Any) -> None:
    """Spells what a node gives by its name, without a number."""
    for meta_graph in proto.meta_graphs:
        for function in meta_graph.graph_def.library.function:
            for node in function.node_def:
                node.input[:] = [_short(tensor) for tensor in node.input]
            for name, tensor in list(function.ret.items()):
                function.ret[name] = _short(tensor)


def _short(tensor: str) -> str:
    return tensor[:-2] if tensor.count(":") == 2 and tensor.endswith(":0") else tensor


def test_tensors_of_functions_that_are_spelled_short(tmp_path: Path) -> None:
    """``node:arg`` is what a session takes for ``node:arg:0``."""
    recorded = expected.load_expected("function_library")
    source = edited("function_library", tmp_path, shorten)
    assert (source / "saved_model.pb").stat().st_size < (
        Path(recorded.path) / "saved_model.pb"
    ).stat().st_size
    with runtimes.Runtime(lambda: hub.load(source)) as runtime:
        for case in recorded.cases:
            call = replay.callable_of(runtime.loaded, recorded, case)
            found = runtime.run(replay.call(call, recorded, case, False))
            replay.assert_outputs(found, case, case.id)


def test_short_name_of_a_list() -> None:
    """``node:arg`` of an output that is a list is all of it."""
    from hub_compat._tf import meta_graph_pb2
    from hub_compat.converters.ir.graph import Graph

    meta_graph = meta_graph_pb2.MetaGraphDef()
    function = meta_graph.graph_def.library.function.add()
    function.signature.name = "f"
    function.signature.input_arg.add(name="x", type=1)
    function.signature.output_arg.add(name="y", type=1)
    split = operation("split", "Unpack", ["x"], T=1)
    split.attr["num"].i = 2
    added = operation("added", "AddN", ["split:output"], T=1)
    added.attr["N"].i = 2
    function.node_def.extend([split, added])
    function.ret["y"] = "added:sum"
    found = Graph(meta_graph).library["f"]
    assert list(found.node_def[1].input) == ["split:output:0", "split:output:1"]
    assert found.ret["y"] == "added:sum:0"
