"""What of a module's graph is imported, and on which devices it is to be."""

from __future__ import annotations

from typing import Any

import pytest

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow]

tf: Any = pytest.importorskip("tensorflow")
v1 = tf.compat.v1


def _beside_a_variable() -> None:
    x = v1.placeholder(tf.float32, [])
    with v1.colocate_with(tf.Variable(5, name="far").op):
        total = tf.add(x, 1.0)
    hub.add_signature(inputs=x, outputs=total)


def test_a_node_stays_with_a_variable_that_it_does_not_use() -> None:
    """The variable is the one of the state, in whose place none is in the copy."""
    spec = hub.create_module_spec(_beside_a_variable)
    with tf.Graph().as_default():
        module = hub.Module(spec)
        output: Any = module(1.0)
        assert output.op.colocation_groups() == [b"loc:@module/far"]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            assert session.run(output) == 2.0


def _with_a_split_input() -> None:
    x, y = tf.split([1.0, 2.0], 2, name="split")
    with v1.colocate_with(x):
        total = tf.add(x, y, name="total")
    hub.add_signature(inputs={"x": x, "y": y}, outputs=total)


def test_inputs_of_one_op_on_two_devices_are_refused() -> None:
    """In the words of tensorflow_hub, which programs look for."""
    with pytest.warns(UserWarning, match="single output"):
        spec = hub.create_module_spec(_with_a_split_input)
    with tf.Graph().as_default():
        module = hub.Module(spec, name="m")
        x, y = tf.constant([1.0], name="u"), tf.constant([2.0], name="w")
        said = (
            r"Failed to rewrite .*b'loc:@m_apply_default/split' whose .*"
            r"\[b'loc:@[uw]'\] vs \[b'loc:@[uw]'\]"
        )
        with pytest.raises(ValueError, match="(?s)" + said):
            module({"x": x, "y": y})


def _with_a_dependency() -> None:
    awaited = tf.constant(1.0, name="awaited")
    with tf.control_dependencies([awaited]):
        total = tf.constant(3.0) + tf.constant(2.0)
    hub.add_signature(outputs=total)


def test_constants_that_nodes_wait_for_are_beside_the_state() -> None:
    """Programs find them there, in functions too, whose own graphs they do not have."""
    spec = hub.create_module_spec(_with_a_dependency)
    with tf.Graph().as_default() as graph:
        module = hub.Module(spec)
        output: Any = module()
        assert graph.get_operation_by_name("module/awaited").type == "Const"
        with v1.Session() as session:
            assert session.run(output) == 5.0


def test_parts_of_a_variable_are_gathered_in_their_order() -> None:
    """Twelve parts, of which the last ones would sort before the second by name."""
    from hub_compat._modules.importing import recover_partitioned_variable_map

    with tf.Graph().as_default():
        with v1.variable_scope("scope"):
            v1.get_variable(
                "whole",
                initializer=tf.ones([24]),
                partitioner=v1.fixed_size_partitioner(12),
            )
            v1.get_variable("plain", [])
        prefix = len("scope/")
        named = {each.op.name[prefix:]: each for each in v1.global_variables()}
        found = recover_partitioned_variable_map(dict(sorted(named.items())))
    assert sorted(found) == ["plain", "whole"]
    names = [part.op.name for part in found["whole"]]
    assert names == ["scope/whole/part_{}".format(i) for i in range(12)]
