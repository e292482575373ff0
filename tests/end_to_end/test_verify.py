"""verify(): what it compares, what it leaves, what it catches."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import expected
import numpy as np
import pytest
import replay
from signatures_saved import Signatures, edit, module, save

import hub_compat as hub
from hub_compat import errors

pytestmark = pytest.mark.tensorflow

RANDOM = "uses RandomUniform"
DROPPED = "which this TensorFlow does not have"
# What cannot be compared: (tags, signature) and a part of the reason.
NOT_COMPARED: Dict[str, Dict[Tuple[str, str], str]] = {
    "bert_like": {("train", "tokens"): RANDOM},
    "train_ops": {("train", "default"): RANDOM},
    "tf1_odd_signatures": {
        ("serve", "no_name"): "must name its tensors",
        ("serve", "no_value"): "no value for the variable 'counter'",
        ("serve", "not_there"): "'absent'",
        ("serve", "unfed"): "'other', which it does not list",
    },
}
# What no function was made of when the modules were recorded.
NOT_RECORDED = {"tf1_odd_signatures": ["same_tensor"]}
# TensorFlow 2 runs neither these ops nor variables of these dtypes.
NOT_COMPARED_IN_TF2: Dict[str, Dict[Tuple[str, str], str]] = {
    "all_dtypes": {("", "default"): "DT_QINT16", ("", "product"): "DT_QINT16"},
    "tf1_dropped_ops": {
        ("serve", "adjusted"): DROPPED,
        ("serve", "beams"): DROPPED,
        ("serve", "boosted"): "No OpKernel was registered",
        ("serve", "buckets"): DROPPED,
        ("serve", "crossed"): DROPPED,
        ("serve", "packed"): DROPPED,
        ("serve", "sampled"): DROPPED,
        ("serve", "sliced"): DROPPED,
        ("serve", "strings"): DROPPED,
    },
}
SKIPPED_OUTPUTS = {
    "tf1_estimator_modes": {"metrics/error/value": "read while it is written"}
}


@pytest.fixture(scope="module", autouse=True)
def _contrib() -> None:
    """Has TensorFlow 1 register the ops of tf.contrib that models here use."""
    import tensorflow as tf

    if tf.__version__.startswith("1."):
        contrib = Path(tf.contrib.__file__).parent
        for library in (
            "layers/python/ops/_sparse_feature_cross_op.so",
            "boosted_trees/python/ops/_boosted_trees_ops.so",
            "reduce_slice_ops/python/ops/_reduce_slice_ops.so",
        ):
            tf.load_op_library(str(contrib / library))


def digests(directory: Path) -> Dict[str, str]:
    """A hash of every file below a directory."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def double_constants(proto: Any) -> None:
    """Doubles all floating-point constants of the functions."""
    import tensorflow as tf

    changed = 0
    for function in proto.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "Const" and node.attr["dtype"].type == 1:
                tensor = node.attr["value"].tensor
                doubled = tf.make_ndarray(tensor) * np.float32(2)
                tensor.CopyFrom(tf.make_tensor_proto(doubled, tf.float32))
                changed += 1
    assert changed


@pytest.mark.parametrize("name", expected.module_names())
def test_every_module_verifies(name: str, tmp_path: Path) -> None:
    """All outputs of all signatures are compared, but for those listed above."""
    import tensorflow as tf

    recorded = expected.load_expected(name)
    hub.convert(recorded.path, tmp_path / "out")
    report = hub.verify(recorded.path, tmp_path / "out")
    wanted = dict(NOT_COMPARED.get(name, {}))
    if not tf.__version__.startswith("1."):
        wanted.update(NOT_COMPARED_IN_TF2.get(name, {}))
    reasons = {(",".join(s.tags), s.name): s.reason for s in report.not_compared}
    assert sorted(reasons) == sorted(wanted)
    for key, text in wanted.items():
        assert text in reasons[key]
    compared = {(s.tags, s.name): s for s in report.compared}
    skipped = SKIPPED_OUTPUTS.get(name, {})
    for case in recorded.cases:
        found = compared.pop((case.tags, case.signature), None)
        if found is None:
            continue
        outputs = set()
        for key, value in case.outputs.items():
            outputs |= set(replay.flat_expected(key, value))
        left = {text.split(": ")[0]: text for text in found.skipped}
        assert set(found.outputs) == outputs - set(left)
        assert set(left) == outputs & set(skipped)
        assert all(skipped[key] in text for key, text in left.items())
    assert [key for _, key in compared] == NOT_RECORDED.get(name, [])
    assert report.equal
    assert report.largest_relative <= report.tolerance


def test_changed_constant_is_found(tmp_path: Path) -> None:
    """The error names variant, signature, output and differences; has the report."""
    hub.convert(module("tf1_frozen"), tmp_path / "out")
    edit(tmp_path / "out", double_constants)
    with pytest.raises(
        errors.VerificationError,
        match=r"variant \['serve'\], signature 'serving_default': output 'y': largest "
        r"difference \S+, relative 1\. If",
    ) as caught:
        hub.verify(module("tf1_frozen"), tmp_path / "out")
    (found,) = caught.value.report.signatures
    assert found.largest_absolute > 0.1
    assert found.largest_relative == pytest.approx(1, abs=0.01)
    report = hub.verify(module("tf1_frozen"), tmp_path / "out", tolerance=1.1)
    assert report.largest_relative == pytest.approx(1, abs=0.01)


def weighted(weight: float) -> Callable[[Any, Any], Signatures]:
    """A model that multiplies by a variable."""

    def build(tf: Any, v1: Any) -> Signatures:
        x = v1.placeholder(tf.float32, [None], name="x")
        variable = v1.get_variable("weight", initializer=weight)
        return {"serving_default": ({"x": x}, {"y": x * variable})}

    return build


def test_changed_weight_is_found(tmp_path: Path) -> None:
    """A weight that is off by a ten-thousandth is; one within the tolerance is not."""
    source = save(tmp_path / "source", weighted(3.0))
    hub.convert(save(tmp_path / "near", weighted(3.00001)), tmp_path / "near_out")
    hub.convert(save(tmp_path / "far", weighted(3.0003)), tmp_path / "far_out")
    report = hub.verify(source, tmp_path / "near_out")
    assert 1e-6 < report.largest_relative < 1e-5
    with pytest.raises(errors.VerificationError, match="relative 0.0001"):
        hub.verify(source, tmp_path / "far_out")
    with pytest.raises(errors.VerificationError, match="tolerance of 1e-07"):
        hub.verify(source, tmp_path / "near_out", tolerance=1e-7)


def test_changed_asset_is_found(tmp_path: Path) -> None:
    """A path leads to the same file as the original's, wherever it is."""
    hub.convert(module("shared_asset"), tmp_path / "out", link="copy")
    report = hub.verify(str(module("shared_asset")) + "/", str(tmp_path / "out") + "/")
    assert len(report.compared) == 3
    (asset,) = (tmp_path / "out" / "assets").glob("labels.txt")
    asset.write_bytes(asset.read_bytes().replace(b"a", b"b"))
    with pytest.raises(
        errors.VerificationError, match="signature 'paths'.*b'assets/labels.txt'"
    ):
        hub.verify(module("shared_asset"), tmp_path / "out")


def test_converted_one_that_fails_is_found(tmp_path: Path) -> None:
    """Where the original runs and the converted module does not, they differ."""
    source = save(tmp_path / "source", weighted(3.0))
    hub.convert(source, tmp_path / "out", link="copy")
    for shard in (tmp_path / "out" / "variables").glob("*.data-*"):
        shard.write_bytes(bytes(255 - byte for byte in shard.read_bytes()))
    with pytest.raises(errors.VerificationError, match=r"(fails|not load).*ecksum"):
        hub.verify(source, tmp_path / "out")


@pytest.fixture
def faulty(monkeypatch: Any) -> None:
    """Has the converter write doubled constants."""
    from hub_compat.converters import tf1_model

    convert = tf1_model.convert_tf1_model

    def convert_badly(request: Any) -> Any:
        result = convert(request)
        edit(Path(request.directory), double_constants)
        return result

    monkeypatch.setattr(tf1_model, "convert_tf1_model", convert_badly)


@pytest.mark.usefixtures("faulty")
def test_failed_verification_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither a destination nor anything beside it."""
    with pytest.raises(errors.VerificationError, match="'serving_default'"):
        hub.convert(module("tf1_frozen"), tmp_path / "new" / "out", verify=True)
    assert list(tmp_path.iterdir()) == []
    hub.convert(module("tf1_frozen"), tmp_path / "new" / "out")
    assert (tmp_path / "new" / "out" / "saved_model.pb").exists()


@pytest.mark.usefixtures("faulty")
def test_failed_verification_overwrites_nothing(tmp_path: Path) -> None:
    """The old destination stays as it is."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("data")
    before = digests(tmp_path)
    with pytest.raises(errors.VerificationError):
        hub.convert(module("tf1_frozen"), out, overwrite=True, verify=True)
    assert digests(tmp_path) == before
    report = hub.convert(
        module("tf1_frozen"), out, overwrite=True, verify=True, tolerance=1.1
    )
    assert report.verification.tolerance == 1.1
    assert not (out / "precious").exists()


def test_verified_conversion_is_reported(anywhere: str) -> None:
    """The report of a conversion has that of its verification, if there was one."""
    report = hub.convert(module("text_embedding"), anywhere + "/one", verify=True)
    assert len(report.verification.compared) == 2
    assert report.verification.not_compared == ()
    again = hub.convert(module("text_embedding"), anywhere + "/two")
    assert again.verification is None


def test_verifying_leaves_the_caller_alone(tmp_path: Path) -> None:
    """The default graph gets no ops, and eager execution stays what it is."""
    import tensorflow as tf

    eager = tf.executing_eagerly()
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    hub.convert(module("tables"), tmp_path / "out", verify=True)
    assert tf.compat.v1.get_default_graph() is graph
    assert len(graph.get_operations()) == before
    assert tf.executing_eagerly() is eager


def test_variant_that_was_left_out_is_listed(tmp_path: Path) -> None:
    """Its signatures are not compared, for the reason that the conversion gave."""
    source = tmp_path / "source"
    shutil.copytree(str(module("tf1_two_devices")), str(source))

    def break_variant(proto: Any) -> None:
        for meta_graph in proto.meta_graphs:
            if "gpu" in meta_graph.meta_info_def.tags:
                for node in meta_graph.graph_def.node:
                    if node.op == "MatMul":
                        node.op = "NobodysOp"

    edit(source, break_variant)
    report = hub.convert(source, tmp_path / "out", verify=True).verification
    assert report is not None
    (left_out,) = report.not_compared
    assert left_out.tags == ("gpu", "serve")
    assert "NobodysOp" in left_out.reason
    assert [found.tags for found in report.compared] == [("serve",)]


# ---- inputs


def images(tf: Any, v1: Any) -> Signatures:
    """Images as bytes, as base64, and within tf.Examples."""
    jpeg = v1.placeholder(tf.string, [], name="jpeg")
    encoded = v1.placeholder(tf.string, [], name="encoded")
    example = v1.placeholder(tf.string, [], name="example")
    parsed = tf.io.parse_single_example(
        example,
        {
            "image": tf.io.FixedLenFeature([], tf.string),
            "label": tf.io.FixedLenFeature([2], tf.int64),
        },
    )

    def mean(pixels: Any) -> Any:
        return tf.reduce_mean(tf.cast(pixels, tf.float32), [0, 1])

    png = tf.io.decode_png(tf.io.decode_base64(encoded), channels=3)
    return {
        "base64": ({"encoded": encoded}, {"mean": mean(png)}),
        "example": (
            {"example": example},
            {
                "mean": mean(tf.io.decode_jpeg(parsed["image"], channels=3)),
                "label": parsed["label"],
            },
        ),
        "jpeg": ({"jpeg": jpeg}, {"mean": mean(tf.io.decode_jpeg(jpeg))}),
    }


def examples(tf: Any, v1: Any) -> Signatures:
    """Batches of tf.Examples, of all that they can hold."""
    serialized = v1.placeholder(tf.string, [None], name="serialized")
    features = {
        "fixed": tf.io.FixedLenFeature([2, 3], tf.float32),
        "text": tf.io.FixedLenFeature([], tf.string),
        "many": tf.io.FixedLenSequenceFeature([2], tf.int64, allow_missing=True),
        "sparse": tf.io.VarLenFeature(tf.int64),
    }
    if hasattr(tf.io, "RaggedFeature"):
        features["ragged"] = tf.io.RaggedFeature(tf.float32)
    parsed = tf.io.parse_example(serialized, features)
    outputs = {
        "fixed": parsed["fixed"],
        "text": parsed["text"],
        "many": parsed["many"],
        "sparse": tf.sparse.to_dense(parsed["sparse"]),
    }
    if "ragged" in parsed:
        outputs["ragged"] = parsed["ragged"].flat_values
    return {"parse": ({"serialized": serialized}, outputs)}


def demanding(tf: Any, v1: Any) -> Signatures:
    """Sizes, ranks, words and numbers that only some inputs have."""
    wide = v1.placeholder(tf.float32, [None, None], name="wide")
    image = v1.placeholder(tf.float32, None, name="image")
    number = v1.placeholder(tf.string, [None], name="number")
    rows = v1.placeholder(tf.int32, [50], name="rows")
    kernel = v1.get_variable("kernel", initializer=tf.ones([32, 2]))
    few = v1.get_variable("few", initializer=tf.ones([3, 2]))
    gathered = tf.gather(few, tf.cast(tf.reshape(rows, [5, 10]), tf.int64))
    with tf.control_dependencies([v1.assert_less(rows, 3)]):
        picked = tf.identity(gathered)
    return {
        "image": ({"image": image}, {"y": tf.nn.avg_pool2d(image, 1, 1, "VALID")}),
        "number": ({"number": number}, {"y": tf.strings.to_number(number)}),
        "rows": ({"rows": rows}, {"y": picked}),
        "wide": ({"wide": wide}, {"y": tf.matmul(wide, kernel)}),
    }


@pytest.mark.parametrize("build", [images, examples, demanding])
def test_inputs_are_made_up(build: Any, tmp_path: Path) -> None:
    """Images, tf.Examples, sizes and numbers are what the original accepts."""
    source = save(tmp_path / "source", build)
    report = hub.convert(source, tmp_path / "out", verify=True).verification
    assert report is not None
    assert [s.reason for s in report.not_compared] == []
    assert all(not s.skipped for s in report.signatures)


@pytest.mark.tf2
@pytest.mark.eager
def test_inputs_of_functions_are_made_up(tmp_path: Path) -> None:
    """A TF2 model parses and decodes in functions, also in those that others call."""
    import tensorflow as tf

    @tf.function
    def parse(examples: Any) -> Any:
        features = {
            "numbers": tf.io.FixedLenFeature([2], tf.float32),
            "ids": tf.io.VarLenFeature(tf.int64),
            "image": tf.io.FixedLenFeature([], tf.string),
        }
        return tf.io.parse_example(examples, features)

    class Model(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([1], tf.string)])
        def examples(self, examples: Any) -> Any:
            parsed = parse(examples)
            image = tf.io.decode_png(parsed["image"][0])
            return {
                "numbers": parsed["numbers"],
                "ids": tf.sparse.to_dense(parsed["ids"]),
                "mean": tf.reduce_mean(tf.cast(image, tf.float32)),
            }

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def encoded(self, encoded: Any) -> Any:
            image = tf.io.decode_jpeg(tf.io.decode_base64(encoded))
            return {"mean": tf.reduce_mean(tf.cast(image, tf.float32))}

    model = Model()
    signatures = {"examples": model.examples, "encoded": model.encoded}
    tf.saved_model.save(model, str(tmp_path / "model"), signatures)
    report = hub.convert(
        tmp_path / "model", tmp_path / "out", target="tf1.15", verify=True
    )
    assert report.verification is not None
    assert report.verification.not_compared == ()
    assert [len(s.outputs) for s in report.verification.compared] == [1, 3]


def test_made_up_words_are_those_of_the_vocabulary() -> None:
    """Strings are words of the model's assets, unknown words, and both together."""
    from hub_compat._tf import saved_model_pb2
    from hub_compat.converters.ir.graph import Graph
    from hub_compat.converters.ir.signatures import Signature, Value
    from hub_compat.converters.verification.sample_inputs import SampleInputs

    source = module("tf1_builder")
    proto = saved_model_pb2.SavedModel.FromString(
        (source / "saved_model.pb").read_bytes()
    )
    (meta_graph,) = proto.meta_graphs
    info = meta_graph.signature_def["embed"].inputs["words"]
    value = Value.from_tensor_info("words", info)
    samples = SampleInputs(str(source), meta_graph, Graph(meta_graph), 0)
    signature = Signature("embed", {"words": value}, {}, "")
    next(samples.attempts(signature))
    words = [w for text in samples.another(signature)["words"] for w in text.split()]
    known = {b"one", b"two", b"three"}
    assert known.intersection(words)
    assert set(words) - known


def test_op_that_nobody_knows_costs_its_own_signature_alone(tmp_path: Path) -> None:
    """Tables are filled all the same, by what of their initializers is known."""
    source = tmp_path / "source"
    shutil.copytree(str(module("tf1_builder")), str(source))
    hub.convert(source, tmp_path / "out")

    def break_one(proto: Any) -> None:
        (meta_graph,) = proto.meta_graphs
        bad = meta_graph.graph_def.node.add(name="bad", op="NobodysOp")
        for node in meta_graph.graph_def.node:
            if node.op == "Softmax":
                node.input.append("^" + bad.name)
            if node.op == "NoOp":
                node.input.append("^" + bad.name)

    edit(source, break_one)
    report = hub.verify(source, tmp_path / "out")
    assert [found.name for found in report.compared] == ["embed", "weights"]
    (left_out,) = report.not_compared
    assert "needs the op NobodysOp" in left_out.reason


def test_numbers_are_of_either_sign(tmp_path: Path) -> None:
    """What only negative numbers reach is compared, too."""

    def build(slope: float) -> Callable[[Any, Any], Signatures]:
        def negative(tf: Any, v1: Any) -> Signatures:
            x = v1.placeholder(tf.float32, [None, 4], name="x")
            scale = v1.get_variable("scale", initializer=slope)
            return {"f": ({"x": x}, {"y": tf.where(x < 0, x * scale, x)})}

        return negative

    source = save(tmp_path / "source", build(1.0))
    hub.convert(save(tmp_path / "other", build(2.0)), tmp_path / "out")
    with pytest.raises(errors.VerificationError, match="output 'y'"):
        hub.verify(source, tmp_path / "out")


def thresholds(limit: float) -> Callable[[Any, Any], Signatures]:
    """A model that treats large numbers in a way of its own."""

    def build(tf: Any, v1: Any) -> Signatures:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        y = tf.where(x > 1000.0, x * limit, x)
        checked = v1.placeholder(tf.float32, [None], name="checked")
        with tf.control_dependencies([v1.assert_less(checked, 10.0)]):
            z = tf.identity(checked)
        return {"f": ({"x": x}, {"y": y}), "g": ({"checked": checked}, {"z": z})}

    return build


def test_given_inputs_are_used(tmp_path: Path) -> None:
    """What no made-up input shows, a given one does."""
    source = save(tmp_path / "source", thresholds(2.0))
    hub.convert(save(tmp_path / "other", thresholds(3.0)), tmp_path / "out")
    assert hub.verify(source, tmp_path / "out").equal
    large = {"f": {"x": np.full([1, 2], 2000.0)}}
    with pytest.raises(errors.VerificationError, match="difference 2e\\+03, relative"):
        hub.verify(source, tmp_path / "out", large)
    assert hub.verify(source, tmp_path / "out", {"f": {"x": [[1.0, 2.0]]}}).equal


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"h": {"x": [1.0]}}, errors.SignatureError, "it has f, g. Received: 'h'"),
        ({"f": {"y": [1.0]}}, errors.VerificationError, r"has the inputs \['x'\]"),
        ({"f": {"x": [1.0]}}, errors.VerificationError, r"shape is \(1,\)"),
        ({"f": {"x": [["a", "b"]]}}, errors.VerificationError, "must be float32"),
        ({"g": {"checked": [11.0]}}, errors.VerificationError, "does not run on your"),
    ],
)
def test_bad_given_inputs_are_refused(
    inputs: Any, error: Any, message: str, tmp_path: Path
) -> None:
    """Inputs for no signature, of another shape or dtype, or that do not run."""
    source = save(tmp_path / "source", thresholds(2.0))
    hub.convert(source, tmp_path / "out")
    with pytest.raises(error, match=message):
        hub.verify(source, tmp_path / "out", inputs)


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_tolerance_must_be_one(tolerance: float, tmp_path: Path) -> None:
    """With such a tolerance everything or nothing would pass."""
    hub.convert(module("tf1_frozen"), tmp_path / "out")
    with pytest.raises(errors.VerificationError, match="tolerance must be"):
        hub.verify(module("tf1_frozen"), tmp_path / "out", tolerance=tolerance)


def test_only_a_conversion_is_verified(tmp_path: Path) -> None:
    """A source is no conversion."""
    with pytest.raises(errors.FormatError, match="did not write"):
        hub.verify(module("tf1_frozen"), module("tf1_frozen"))


def test_lowered_model_is_verified(tmp_path: Path, testdata: Path) -> None:
    """A TF2 SavedModel is run where TensorFlow knows it, beside its lowered form."""
    import tensorflow as tf

    source = testdata / "tf221" / "keras2_text" / "module"
    out = tmp_path / "out"
    report = hub.convert(source, out, target="tf1.15", verify=True).verification
    assert report is not None
    if report.not_compared:
        # An op of it is of a newer TensorFlow than this one.
        assert not tf.__version__.startswith("2.21")
        assert "does not have" in report.not_compared[0].reason
        return
    assert report.largest_relative < 1e-6
    images = testdata / "tf221" / "keras2_images" / "module"
    with pytest.raises(errors.VerificationError, match="the converted one fails"):
        hub.verify(images, out)
    # A weight that is another: of the same shape, but with other values.
    saved = hub.load(out)
    for variable in saved.trainable_variables:
        variable.assign(variable + 1.0)
    hub.save(saved, tmp_path / "other")
    with pytest.raises(errors.VerificationError, match="relative"):
        hub.verify(source, tmp_path / "other")


# What TensorFlow 1.15 does not run, or 2.21 not with inputs that are made up.
NEWER_NOT_COMPARED = (
    "the original needs the op ",
    "on generated inputs: estimated_mean must be empty",
    "on generated inputs: Base64 string length",
    "currently does not support grouped convolutions",
)


@pytest.mark.parametrize(
    "name",
    sorted(
        "{}/{}".format(path.parent.name, path.name)
        for folder in ("tf215", "tf221")
        for path in (expected.HERE / folder).iterdir()
    ),
)
def test_every_newer_model_verifies(name: str, tmp_path: Path) -> None:
    """Models of TensorFlow 2.15 and 2.21 give their results when lowered for 1.15."""
    import tensorflow as tf

    source = expected.HERE / name / "module"
    out = tmp_path / "out"
    report = hub.convert(source, out, target="tf1.15", verify=True).verification
    assert report is not None
    for found in report.not_compared:
        assert any(text in found.reason for text in NEWER_NOT_COMPARED), found
    if not tf.__version__.startswith("1."):
        assert len(report.compared) >= len(report.not_compared), report
    assert all(not found.skipped for found in report.compared)


@pytest.mark.tf1
def test_one_that_only_does_not_load_here_is_said_to_do_so(tmp_path: Path) -> None:
    """TensorFlow 1.15 lacks what a newer one wrote: a target is the advice."""
    source = expected.HERE / "tf215" / "image_module" / "module"
    hub.convert(source, tmp_path / "out")

    def of_a_newer_one(proto: Any) -> None:
        for function in proto.meta_graphs[0].graph_def.library.function:
            function.node_def[0].attr["of_a_newer_one"].b = True

    edit(tmp_path / "out", of_a_newer_one)
    with pytest.raises(
        errors.VerificationError, match=r"does not load in .*--target=tf1\.15"
    ) as caught:
        hub.verify(source, tmp_path / "out")
    assert "differ from those" not in str(caught.value)
    # Where the original does not run, either, that is no failure.
    source = expected.HERE / "tf215" / "text_module" / "module"
    report = hub.convert(source, tmp_path / "text", verify=True)
    assert report.verification is not None
    (found,) = report.verification.not_compared
    assert "the original needs the op DenseBincount" in found.reason
    assert "--target=tf1.15" in found.reason


def kernelless(tf: Any, v1: Any) -> Signatures:
    """An op that TensorFlow 2 knows, and has no kernel of."""
    x = v1.placeholder(tf.int32, [None, None], name="x")
    words = v1.placeholder(tf.string, [None], name="words")
    with tf.control_dependencies([words]):
        handle = tf.raw_ops.BoostedTreesEnsembleResourceHandleOp(shared_name="trees")
    y = tf.raw_ops.BoostedTreesPredict(
        tree_ensemble_handle=handle, bucketized_features=[x[0]], logits_dimension=1
    )
    return {"f": ({"x": x, "words": words}, {"y": y})}


@pytest.mark.tf2
def test_missing_kernel_is_no_matter_of_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No others are tried, which took minutes."""
    import tensorflow as tf

    if not hasattr(tf.raw_ops, "BoostedTreesEnsembleResourceHandleOp"):
        pytest.skip("This TensorFlow does not know the op")
    from hub_compat.converters.verification import sessions

    monkeypatch.setenv("HUB_COMPAT_VERIFY_TIMEOUT", "0")
    runs = []
    run = sessions.Original.run
    monkeypatch.setattr(
        sessions.Original, "run", lambda *given: runs.append(1) or run(*given)
    )
    hub.convert(save(tmp_path / "source", kernelless), tmp_path / "out")
    report = hub.verify(tmp_path / "source", tmp_path / "out")
    assert "No OpKernel was registered" in report.not_compared[0].reason
    assert len(runs) == 1


def two_trees(tf: Any, v1: Any) -> Signatures:
    """A table of which TensorFlow 2 has no kernel, and a signature without it."""
    x = v1.placeholder(tf.int32, [None, None], name="x")
    handle = tf.raw_ops.BoostedTreesEnsembleResourceHandleOp(shared_name="trees")
    y = tf.raw_ops.BoostedTreesPredict(
        tree_ensemble_handle=handle, bucketized_features=[x[0]], logits_dimension=1
    )
    return {"bad": ({"x": x}, {"y": y}), "good": ({"x": x}, {"y": x * 2})}


@pytest.mark.tf2
@pytest.mark.eager
def test_table_without_kernel_costs_its_own_signature_alone(tmp_path: Path) -> None:
    """TensorFlow finds out when it makes the table, which load() and verify do."""
    source = save(tmp_path / "source", two_trees)
    report = hub.convert(source, tmp_path / "out", verify=True)
    assert report.verification is not None
    (bad,) = report.verification.not_compared
    assert bad.name == "bad"
    assert "No OpKernel was registered" in bad.reason
    assert [found.name for found in report.verification.compared] == ["good"]
    loaded = hub.load(source)
    assert loaded.signatures["good"](x=[[1]])["y"].numpy().tolist() == [[2]]
    with pytest.raises(errors.SignatureError, match="No OpKernel was registered"):
        loaded.signatures["bad"]


def test_call_of_the_object_is_compared(tmp_path: Path) -> None:
    """``model(x)`` and ``model.g(x)`` give what the signatures of the original give."""

    def build(tf: Any, v1: Any) -> Signatures:
        x = v1.placeholder(tf.float32, [None], name="x")
        return {
            "default": ({"x": x}, {"default": x * 2.0, "more": x * 4.0}),
            "g": ({"x": x}, {"default": x * 3.0, "more": x * 5.0}),
        }

    source = save(tmp_path / "source", build)
    hub.convert(source, tmp_path / "out")
    assert len(hub.verify(source, tmp_path / "out").compared) == 2

    def cross(proto: Any) -> None:
        calls: Dict[str, Any] = {"default": [], "g": []}
        for function in proto.meta_graphs[0].graph_def.library.function:
            for name, found in calls.items():
                if function.signature.name.startswith("call_" + name):
                    found += [n.attr["f"].func for n in function.node_def if n.input]
        assert len(calls["g"]) == len(calls["default"]) > 1
        for own, other in zip(calls["g"], calls["default"]):
            own.name = other.name

    edit(tmp_path / "out", cross)
    with pytest.raises(
        errors.VerificationError, match="'g': output 'default' by calling the object"
    ):
        hub.verify(source, tmp_path / "out")


def test_original_that_does_not_load_is_no_failure(tmp_path: Path) -> None:
    """Where a check of the init op refuses both, that is what is said."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        w = v1.get_variable("w", initializer=[1.0, -1.0])
        session.run(v1.global_variables_initializer())
        info = v1.saved_model.build_tensor_info(w + 0.0)
        builder = v1.saved_model.Builder(str(tmp_path / "source"))
        signature = v1.saved_model.build_signature_def({}, {"y": info})
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"f": signature}, main_op=v1.assert_positive(w)
        )
        builder.save()
    report = hub.convert(tmp_path / "source", tmp_path / "out", verify=True)
    assert report.verification is not None
    (found,) = report.verification.not_compared
    assert "the original does not load in this TensorFlow: assertion" in found.reason
    assert "nor does the converted one, by tf.saved_model.load" in found.reason


# ---- what is the same each time


def unsteady(tf: Any, v1: Any) -> Signatures:
    """Random numbers, seeded or not, a queue, a counter, a race for a variable."""
    x = v1.placeholder(tf.float32, [4], name="x")
    queue = v1.FIFOQueue(1, [tf.float32])
    counter = v1.get_variable("counter", initializer=1.0, use_resource=True)
    raced = v1.get_variable("raced", initializer=1.0, use_resource=True)
    counted = v1.assign_add(counter, 1.0)
    added = v1.assign_add(raced, 1.0)
    with tf.control_dependencies([added]):
        after = raced.read_value()
    return {
        "count": ({}, {"count": tf.identity(counted)}),
        "count_again": ({"x": x}, {"count": x + counted}),
        "queue": ({"x": x}, {"y": x + queue.dequeue()}),
        "race": ({}, {"after": after, "raced": raced.read_value()}),
        "random": ({"x": x}, {"steady": x * 2, "y": x + v1.random_uniform([4])}),
        "shuffled": ({}, {"y": v1.random_shuffle([1, 2])}),
        "seeded": ({"x": x}, {"y": x + v1.random_normal([4], seed=7)}),
        # Of x * 0 an optimizer makes 0, which has another sign.
        "undefined": (
            {"x": x},
            {"y": tf.math.log(-1 - tf.abs(x)), "z": 1 / (tf.abs(x) * 0)},
        ),
    }


def test_what_is_not_the_same_each_time_is_not_compared(tmp_path: Path) -> None:
    """It is listed with its reason; what is steady beside it is compared."""
    source = save(tmp_path / "source", unsteady)
    report = hub.convert(source, tmp_path / "out", verify=True).verification
    assert report is not None
    found = {s.name: s for s in report.signatures}
    for name in ("count", "count_again", "undefined"):
        assert found[name].compared
        assert not found[name].skipped
    assert found["random"].outputs == ("steady",)
    assert found["random"].skipped == ("y: uses RandomUniform",)
    assert found["race"].outputs == ("after",)
    assert "'raced' is read while it is written" in found["race"].skipped[0]
    assert found["seeded"].reason == "y: uses RandomStandardNormal"
    assert "QueueDequeue" in found["queue"].reason
    assert [s.name for s in report.not_compared] == ["queue", "seeded", "shuffled"]


@pytest.mark.parametrize(
    ("wanted", "found", "passes"),
    [
        (np.float32([1, 2]), np.float32([1, 2]), True),
        (np.float32([1, 2]), np.float64([1, 2]), False),
        (np.float32([1, 2]), np.float32([[1, 2]]), False),
        (np.float32([1e-9, 100]), np.float32([5e-4, 100]), True),
        (np.float32([1e-9, 1]), np.float32([5e-4, 1]), False),
        (np.float32([0, 0]), np.float32([0, 5e-8]), True),
        (np.float32([0, 0]), np.float32([0, 5e-7]), False),
        (np.float32([np.nan, np.inf]), np.float32([np.nan, np.inf]), True),
        (np.float32([np.inf]), np.float32([-np.inf]), False),
        (np.float32([1]), np.float32([np.nan]), False),
        (np.float16([1]), np.float16([1.001]), True),
        (np.float16([1]), np.float16([1.01]), False),
        (np.complex64([1j]), np.complex64([1]), False),
        (np.int64([2 ** 60]), np.int64([2 ** 60 + 1]), False),
        (np.array([True]), np.array([False]), False),
        (np.array([b"a"], object), np.array([b"b"], object), False),
        (np.float32([]), np.float32([]), True),
    ],
)  # fmt: skip
def test_differences(wanted: Any, found: Any, passes: bool) -> None:
    """Floating-point numbers may differ a little, by what is in the array; no other."""
    from hub_compat.converters.verification.differences import difference

    assert difference(wanted, found).within(1e-5) is passes


def test_command_line_verifies(tmp_path: Path) -> None:
    """--verify says how much was compared, and that all is well by the exit code."""
    package_parent = os.path.dirname(os.path.dirname(hub.__file__))
    result = subprocess.run(
        [sys.executable, "-m", "hub_compat", "convert", "--verify"]
        + [str(module("train_ops")), str(tmp_path / "out")],
        env=dict(os.environ, PYTHONPATH=package_parent),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr.decode()
    text = result.stdout.decode()
    assert "3 of 4 signatures compared; largest difference " in text
    assert "not compared: train: default: default: uses RandomUniform" in text
