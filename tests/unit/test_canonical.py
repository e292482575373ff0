"""Protos have the same bytes, whatever implementation of protobuf writes them."""

from __future__ import annotations

import hashlib
import re
from typing import Any, List

import pytest

pytestmark = pytest.mark.tensorflow

# By the C++ implementation, protobuf 3.20 under TensorFlow 1.15.5.
RECORDED = "cef0dd63259ddd5183aaca8e381c15796aab3e7c1607de2fd1dcf5da44ec99a1"


def saved_model() -> Any:
    """A SavedModel with keys of which some begin with others, at every depth."""
    from hub_compat._tf import saved_model_pb2

    result = saved_model_pb2.SavedModel()
    meta_graph = result.meta_graphs.add()
    op = meta_graph.meta_info_def.stripped_op_list.op.add(name="Plain")
    op.attr.add(name="dtype", type="type")
    op = meta_graph.meta_info_def.stripped_op_list.op.add(name="Sum")
    for name in ("T", "Tidx", "keep_dims"):
        op.attr.add(name=name, type="type")
    function = meta_graph.graph_def.library.function.add()
    function.signature.name = "body"
    for name in ("output_1", "output", "output_10"):
        function.ret[name] = "sum:output:0"
    for number in (0, 3, 200, 12):
        function.arg_attr[number].attr["_a"].i = number
    for nodes in (meta_graph.graph_def.node, function.node_def):
        nodes.add(name="plain", op="Plain").attr["dtype"].type = 1
        node = nodes.add(name="sum", op="Sum", input=["plain", "plain"])
        for name in ("keep_dims", "Tidx", "T"):
            node.attr[name].type = 3
        # Not in the list of ops, with a function that has attributes itself.
        node = nodes.add(name="call", op="Call")
        for name in ("config_proto", "config", "f"):
            node.attr[name].func.name = "body"
            for inner in ("Tin", "Ti", "T"):
                node.attr[name].func.attr[inner].i = 300
    for name in ("serving", "serving_default"):
        signature = meta_graph.signature_def[name]
        for key in ("x_1", "x", "y"):
            signature.inputs[key].name = key * 100
    for name in ("__inference_12", "__inference_1"):
        meta_graph.object_graph_def.concrete_functions[name].bound_inputs.append(1)
    return result


def test_every_map_is_in_order_of_its_keys() -> None:
    """The bytes are those that TensorFlow 1.15's protobuf writes."""
    from hub_compat.converters.backend import canonical

    data = canonical.serialize(saved_model())
    assert hashlib.sha256(data).hexdigest() == RECORDED


def test_nothing_is_lost() -> None:
    """What is read again is what was written."""
    from hub_compat.converters.backend import canonical

    message = saved_model()
    data = canonical.serialize(message)
    assert type(message).FromString(data) == message


@pytest.mark.parametrize("extra", [["_b"], ["_b", "_bc"]])
def test_attributes_of_no_op_count(extra: List[str]) -> None:
    """Nodes of plain ops may have other attributes, which are in order, too."""
    from hub_compat.converters.backend import canonical

    message = saved_model()
    node = message.meta_graphs[0].graph_def.node[0]
    for name in extra:
        node.attr[name].i = 1
    data = canonical.serialize(message)
    found = re.findall(rb"\n.(_b\w*)\x12", data, re.DOTALL)
    assert found == [name.encode() for name in extra]
