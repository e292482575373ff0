"""A signature that TensorFlow refuses to load keeps no other from loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import expected
import pytest
import replay
import runtimes
from edits import edited

import hub_compat as hub
from hub_compat import errors

pytestmark = pytest.mark.tensorflow

_FLOAT = 1


def _add_signature(proto: Any, op: str) -> None:
    """Adds a signature ``bad`` of two inputs [2, 3] and [4, 5] and one node."""
    for meta_graph in proto.meta_graphs:
        nodes = meta_graph.graph_def.node
        signature = meta_graph.signature_def["bad"]
        for key, sizes in (("a", [2, 3]), ("b", [4, 5])):
            node = nodes.add(name="bad/" + key, op="Placeholder")
            node.attr["dtype"].type = _FLOAT
            info = signature.inputs[key]
            info.name, info.dtype = node.name + ":0", _FLOAT
            for size in sizes:
                info.tensor_shape.dim.add(size=size)
            node.attr["shape"].shape.CopyFrom(info.tensor_shape)
        node = nodes.add(name="bad/product", op=op)
        node.input.extend(["bad/a", "bad/b"])
        node.attr["T"].type = _FLOAT
        output = signature.outputs["y"]
        output.name, output.dtype = "bad/product:0", _FLOAT
        output.tensor_shape.unknown_rank = True


def invalid(proto: Any) -> None:
    """Adds a signature that shape inference finds invalid."""
    _add_signature(proto, "MatMul")


def custom(proto: Any) -> None:
    """Adds a signature with an op of a package that is not there."""
    _add_signature(proto, "NobodysOp")
    for meta_graph in proto.meta_graphs:
        op = meta_graph.meta_info_def.stripped_op_list.op.add(name="NobodysOp")
        for name in "ab":
            op.input_arg.add(name=name, type_attr="T")
        op.output_arg.add(name="y", type_attr="T")
        op.attr.add(name="T", type="type")


def undeclared(proto: Any) -> None:
    """Adds a signature with an op that nothing defines."""
    _add_signature(proto, "NobodysOp")


EDITS: Dict[str, Callable[[Any], None]] = {
    "invalid": invalid,
    "custom": custom,
    "undeclared": undeclared,
}


@pytest.mark.parametrize("edit", sorted(EDITS))
def test_refused_signature_costs_nothing_but_itself(tmp_path: Path, edit: str) -> None:
    """The others give what they gave, and the bad one says why it is not there."""
    recorded = expected.load_expected("tf1_builder")
    source = edited("tf1_builder", tmp_path, EDITS[edit])
    # The second load finds the first one's result in the cache.
    for _ in range(2):
        for check in ("calls", "training", "signatures"):
            replay.OBJECT_CHECKS[check](recorded, lambda tags: hub.load(source))
    reason = "Dimensions must be equal|incompatible" if edit == "invalid" else "Nobody"
    with runtimes.Runtime(lambda: hub.load(source)) as runtime:
        assert "bad" not in runtime.loaded.signatures
        with pytest.raises(errors.SignatureError, match=reason):
            runtime.loaded.signatures["bad"]
        runtime.read(runtime.loaded.variables)
        hub.save(runtime.loaded, tmp_path / "saved", session=runtime.session)
    replay.OBJECT_CHECKS["calls"](recorded, lambda tags: hub.load(tmp_path / "saved"))


def test_refused_default_is_not_replaced_by_another(tmp_path: Path) -> None:
    """Where the signature behind __call__ is refused, nothing else is called so."""

    def refuse_default(proto: Any) -> None:
        invalid(proto)
        for meta_graph in proto.meta_graphs:
            signatures = meta_graph.signature_def
            for name in list(signatures):
                if name not in ("bad", "embed"):
                    del signatures[name]
            signatures["serving_default"].CopyFrom(signatures["bad"])
            del signatures["bad"]

    source = edited("tf1_builder", tmp_path, refuse_default)
    with runtimes.Runtime(lambda: hub.load(source)) as runtime:
        assert sorted(runtime.loaded.signatures) == ["embed"]
        assert not callable(runtime.loaded)


def test_declared_shape_that_inference_contradicts_is_not_believed(
    tmp_path: Path,
) -> None:
    """A signature of wrong output shapes loads, with those that are inferred."""

    def contradict(proto: Any) -> None:
        for meta_graph in proto.meta_graphs:
            for info in meta_graph.signature_def["serving_default"].outputs.values():
                del info.tensor_shape.dim[:]
                info.tensor_shape.dim.add(size=77)

    recorded = expected.load_expected("tf1_builder")
    source = edited("tf1_builder", tmp_path, contradict)
    for check in ("calls", "training", "signatures"):
        replay.OBJECT_CHECKS[check](recorded, lambda tags: hub.load(source))


def test_model_of_refused_signatures_alone_is_an_error(tmp_path: Path) -> None:
    """Where nothing is left, the error is TensorFlow's on the whole."""

    def nothing_else(proto: Any) -> None:
        custom(proto)
        for meta_graph in proto.meta_graphs:
            for name in list(meta_graph.signature_def):
                if name != "bad":
                    del meta_graph.signature_def[name]

    source = edited("tf1_builder", tmp_path, nothing_else)
    with pytest.raises(errors.UnknownOpError, match="NobodysOp"):
        hub.load(source)


@pytest.mark.parametrize("edit", ["invalid", "custom"])
def test_verified_conversion_leaves_out_what_does_not_load(
    tmp_path: Path, edit: str
) -> None:
    """convert(verify=True) writes what loads, and the report says what is not in it."""
    source = edited("tf1_builder", tmp_path, EDITS[edit])
    report = hub.convert(source, tmp_path / "out", verify=True)
    assert any("'bad' is skipped" in warning for warning in report.warnings)
    for found in report.verification.signatures:
        # No session runs an invalid graph, and so there is nothing to compare with.
        compared = edit == "custom" and found.name != "bad"
        assert bool(found.outputs) == compared
        assert bool(found.reason) != compared
    recorded = expected.load_expected("tf1_builder")
    replay.OBJECT_CHECKS["calls"](recorded, lambda tags: hub.load(tmp_path / "out"))
