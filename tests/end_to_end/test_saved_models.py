"""TF1 SavedModels: what is odd about them, and what becomes of it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import expected
import pytest
import replay
import runtimes
from edits import edited

import hub_compat as hub
from hub_compat import errors, provenance

pytestmark = pytest.mark.tensorflow


def break_variant(proto: Any, tags: Any) -> None:
    """Gives a variant an op that nobody knows."""
    for meta_graph in proto.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            for node in meta_graph.graph_def.node:
                if node.op == "MatMul":
                    node.op = "NobodysOp"


def test_signature_that_cannot_be_one_is_left_out_and_reported(tmp_path: Path) -> None:
    """The good signatures stay, and the report says why the others went."""
    recorded = expected.load_expected("tf1_odd_signatures")
    report = hub.convert(recorded.path, tmp_path / "out")
    reasons = {
        "no_name": "must name its tensors",
        "no_value": "no value for the variable 'counter'",
        "not_there": "'absent'",
        "unfed": "'other', which it does not list",
    }
    for name, reason in reasons.items():
        (said,) = [w for w in report.warnings if "{!r} is skipped".format(name) in w]
        assert reason in said
    assert len(report.warnings) == len(reasons)
    with runtimes.Runtime(lambda: hub.load(recorded.path)) as runtime:
        signatures = runtime.loaded.signatures
        assert sorted(signatures) == ["reference", "same_tensor", "serving_default"]
        assert "unfed" not in signatures
        assert signatures.get("unfed") is None
        with pytest.raises(errors.SignatureError, match="'other', which it does not"):
            signatures["unfed"]
        with pytest.raises(
            KeyError, match="it has 'reference', 'same_tensor', 'serving_default'"
        ):
            signatures["never_there"]


def test_broken_variant_costs_nothing_but_itself(tmp_path: Path) -> None:
    """A variant that cannot be read is left out, and refused when asked for."""
    gpu = ("gpu", "serve")
    source = edited("tf1_two_devices", tmp_path, lambda p: break_variant(p, gpu))
    report = hub.convert(source, tmp_path / "out")
    (said,) = report.warnings
    assert "variant ['gpu', 'serve'] is skipped" in said
    assert "NobodysOp" in said
    recorded = expected.load_expected("tf1_two_devices")
    with runtimes.Runtime(lambda: hub.load(source)) as runtime:
        case = recorded.cases[0]
        found = runtime.run(replay.call(runtime.loaded, recorded, case, False))
        replay.assert_outputs(found, case, case.id)
    with pytest.raises(errors.UnknownOpError, match="NobodysOp"):
        hub.load(source, tags={"serve", "gpu"})


def test_broken_variant_for_serving_is_an_error(tmp_path: Path) -> None:
    """What load() would give by default is not silently another variant."""
    source = edited("tf1_two_devices", tmp_path, lambda p: break_variant(p, ["serve"]))
    with pytest.raises(errors.UnknownOpError, match="NobodysOp"):
        hub.convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(errors.UnknownOpError, match="NobodysOp"):
        hub.load(source)
    with runtimes.Runtime(lambda: hub.load(source, {"serve", "gpu"})) as runtime:
        assert runtime.loaded.variables


def test_saver_says_which_keys_are_the_variables(tmp_path: Path) -> None:
    """Averages that are restored into the variables are their values."""
    recorded = expected.load_expected("tf1_moving_averages")
    report = hub.convert(recorded.path, tmp_path / "out")
    facts = provenance.read(str(tmp_path / "out"))
    assert facts is not None
    assert sorted(key for _, key, _ in facts.variables) == [
        "layer/bias/ExponentialMovingAverage",
        "layer/kernel/ExponentialMovingAverage",
    ]
    assert report.unused_keys == ()


def test_metrics_are_no_weights() -> None:
    """What an evaluation counts is initialized, used, and not among variables."""
    recorded = expected.load_expected("tf1_estimator_modes")
    with runtimes.Runtime(lambda: hub.load(recorded.path, {"eval"})) as runtime:
        names = {v.name.split(":")[0] for v in runtime.loaded.variables}
        assert names == set(recorded.variables)
        assert not any("error" in name for name in names)
        (case,) = [case for case in recorded.cases if case.tags == ("eval",)]
        inputs = {name: replay.tensor(value) for name, value in case.inputs.items()}
        found = runtime.run(runtime.loaded.signatures["eval"](**inputs))
        for name in ("loss", "metrics/error/update_op"):
            replay.assert_equal(found[name], case.outputs[name], name)


def test_optimizer_is_not_converted(tmp_path: Path) -> None:
    """What no signature needs of a training graph is not in the result."""
    report = hub.convert(
        expected.load_expected("tf1_partitioned").path, tmp_path / "out"
    )
    assert report.warnings == ()
    assert report.nodes < 60


def test_default_variant_and_others_are_named(tmp_path: Path) -> None:
    """Without tags the one for serving; with unknown tags the ones there are."""
    path = expected.load_expected("tf1_estimator_modes").path
    with runtimes.Runtime(lambda: hub.load(path)) as runtime:
        assert list(runtime.loaded.signatures) == ["serving_default"]
        assert runtime.loaded._is_hub_module_v1 is False
    with pytest.raises(errors.VariantError, match=r"\['eval'\]"):
        hub.load(path, tags={"gpu"})


def rename_op(proto: Any, signature: str, op: str) -> None:
    """Gives the node behind a signature's first output another op."""
    for meta_graph in proto.meta_graphs:
        outputs = meta_graph.signature_def[signature].outputs
        name = outputs[sorted(outputs)[0]].name.split(":")[0]
        for node in meta_graph.graph_def.node:
            if node.name == name:
                node.op = op
        ops = meta_graph.meta_info_def.stripped_op_list.op
        known = next(o for o in ops if o.name == "MatMul")
        added = ops.add()
        added.CopyFrom(known)
        added.name = op


def test_signature_with_a_dropped_op_costs_nothing_but_itself(tmp_path: Path) -> None:
    """What tf.contrib had is named, and the other signatures load."""
    source = edited(
        "tf1_builder",
        tmp_path,
        lambda p: rename_op(p, "serving_default", "QuantileBuckets"),
    )
    report = hub.convert(source, tmp_path / "out")
    (said,) = report.warnings
    assert "'serving_default' is skipped: it uses the op QuantileBuckets" in said
    assert "tf.contrib.boosted_trees" in said
    with runtimes.Runtime(lambda: hub.load(source)) as runtime:
        assert sorted(runtime.loaded.signatures) == ["embed", "weights"]


def test_model_of_dropped_ops_alone_is_an_error(tmp_path: Path) -> None:
    """Without a signature left, the error names the op and where it was."""
    source = edited(
        "tf1_two_devices",
        tmp_path,
        lambda p: rename_op(p, "serving_default", "QuantileBuckets"),
    )
    with pytest.raises(
        errors.ConversionError, match="QuantileBuckets.*tf.contrib.boosted_trees"
    ):
        hub.convert(source, tmp_path / "out")


def test_each_variant_has_what_its_own_saver_restores(tmp_path: Path) -> None:
    """Averages for serving and the weights themselves for training, both right."""
    import tensorflow as tf

    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(tmp_path / "source"))
    for tag in ("serve", "train"):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None], name="x")
            weight = v1.get_variable("w", initializer=2.0, use_resource=True)
            average = v1.get_variable("average", initializer=3.0, use_resource=True)
            info = v1.saved_model.build_tensor_info
            signature = v1.saved_model.build_signature_def(
                {"x": info(x)}, {"y": info(x * weight)}
            )
            session.run(v1.global_variables_initializer())
            signatures = {"serving_default": signature}
            if tag == "serve":
                saver = v1.train.Saver({"average": weight, "w": average})
                builder.add_meta_graph_and_variables(
                    session, [tag], signatures, saver=saver
                )
            else:
                builder.add_meta_graph([tag], signatures, saver=v1.train.Saver())
    builder.save()
    found, wanted = {}, {}
    for tag in ("serve", "train"):
        with tf.Graph().as_default(), v1.Session() as session:
            loaded = v1.saved_model.load(session, [tag], str(tmp_path / "source"))
            signature = loaded.signature_def["serving_default"]
            feeds = {signature.inputs["x"].name: [1.0]}
            wanted[tag] = session.run(signature.outputs["y"].name, feeds).tolist()
    hub.convert(tmp_path / "source", tmp_path / "out")
    with runtimes.Runtime(lambda: hub.load(tmp_path / "out")) as runtime:
        for tag in ("serve", "train"):
            model = runtime.loaded
            if tag == "train":
                model = model.graph_variants["train"]
            outputs = model.signatures["serving_default"](x=tf.constant([1.0]))
            found[tag] = runtime.run(outputs["y"]).tolist()
    assert found == wanted == {"serve": [2.0], "train": [3.0]}


def test_half_a_download_is_damage(tmp_path: Path) -> None:
    """Without its checkpoint a model is incomplete, not one with fewer signatures."""
    source = edited("tf1_builder", tmp_path, lambda proto: None)
    (source / "variables" / "variables.index").unlink()
    with pytest.raises(errors.CorruptModuleError, match="holds no value for"):
        hub.convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def retagged(proto: Any, old: str, new: str) -> Any:
    """The MetaGraphDef that had a tag, with another in its place."""
    (found,) = [m for m in proto.meta_graphs if old in m.meta_info_def.tags]
    tags = [new if tag == old else tag for tag in found.meta_info_def.tags]
    del found.meta_info_def.tags[:]
    found.meta_info_def.tags.extend(tags)
    return found


def test_shapes_that_a_newer_inference_contradicts(tmp_path: Path) -> None:
    """What TF 1.0 inferred is left behind; TensorFlow's loader would refuse it."""

    def contradict(proto: Any) -> None:
        (meta_graph,) = proto.meta_graphs
        meta_graph.graph_def.versions.producer = 21
        for node in meta_graph.graph_def.node:
            if node.op in ("Identity", "MatMul", "Softmax", "GatherV2"):
                shapes = node.attr["_output_shapes"].list
                del shapes.shape[:]
                shapes.shape.add().dim.add(size=77)
        for info in meta_graph.signature_def["serving_default"].outputs.values():
            del info.tensor_shape.dim[:]
            info.tensor_shape.dim.add(size=77)

    recorded = expected.load_expected("tf1_builder")
    source = edited("tf1_builder", tmp_path, contradict)
    hub.convert(source, tmp_path / "out")
    for check in ("calls", "training"):
        replay.OBJECT_CHECKS[check](recorded, lambda tags: hub.load(source))
        replay.OBJECT_CHECKS[check](recorded, lambda tags: hub.load(tmp_path / "out"))
    replay.check_session(recorded, str(tmp_path / "out"))


def test_graph_for_tpus_beside_that_for_serving(tmp_path: Path) -> None:
    """{serve, tpu} converts as any other, and is no obstacle where it cannot."""

    def for_tpus(proto: Any) -> None:
        for node in retagged(proto, "gpu", "tpu").graph_def.node:
            node.device = "/job:worker/device:TPU:0"
            node.attr["_tpu_replicate"].s = b"cluster"

    recorded = expected.load_expected("tf1_two_devices")
    (plain,) = [c for c in recorded.cases if c.tags == ("serve",)]
    (gpu,) = [c for c in recorded.cases if c.tags == ("gpu", "serve")]
    source = edited("tf1_two_devices", tmp_path, for_tpus)
    for tags, case in ((None, plain), (["serve", "tpu"], gpu)):
        with runtimes.Runtime(functools.partial(hub.load, source, tags)) as runtime:
            found = runtime.run(replay.call(runtime.loaded, recorded, case, False))
            replay.assert_outputs(found, case, case.id)


def test_transform_graph(tmp_path: Path) -> None:
    """A graph tagged {transform} alone, as tf.Transform writes, is what is loaded."""

    def transform(proto: Any) -> None:
        signatures = retagged(proto, "serve", "transform").signature_def
        signatures["transform_signature"].CopyFrom(signatures["serving_default"])
        for name in list(signatures):
            if name != "transform_signature":
                del signatures[name]

    recorded = expected.load_expected("tf1_builder")
    (case,) = [c for c in recorded.cases if c.signature == "serving_default"]
    source = edited("tf1_builder", tmp_path, transform)
    for tags in (None, {"transform"}):
        with runtimes.Runtime(functools.partial(hub.load, source, tags)) as runtime:
            assert "transform_signature" in runtime.loaded.signatures
            found = runtime.run(replay.call(runtime.loaded, recorded, case, False))
            replay.assert_outputs(found, case, case.id)
