"""The lowering pass: rules, attributes, refusals, files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest
import runtimes
import tf221_compare
from edits import edited_copy
from lowered import gradient, lowered_function, numbers, ops_of, parsed

import hub_compat as hub
from hub_compat import errors, provenance

FOLDER = Path(__file__).resolve().parents[2] / "testdata" / "tf221"

pytestmark = pytest.mark.tensorflow


def edited(name: str, tmp_path: Path, edit: Callable[[Any], None]) -> Path:
    """A copy of a model of testdata/tf221 with another proto."""
    return edited_copy(FOLDER / name / "module", tmp_path / "edited", edit)


@pytest.mark.parametrize("name", sorted(p.name for p in FOLDER.iterdir()))
def test_lowered_for_1_15_from_any_runtime(name: str, tmp_path: Path) -> None:
    """convert(target="tf1.15") leaves nothing that TensorFlow 1.15 does not know."""
    from hub_compat.converters import lowering

    report = hub.convert(FOLDER / name / "module", tmp_path / "out", target="tf1.15")
    registry = lowering.of_target("tf1.15")
    proto = parsed(tmp_path / "out")
    assert not lowering.needs_lowering(proto, registry)
    # A TF1 format is converted first, and then lowered.
    gone = "DisableCopyOnRead" if "tf1" not in name else "DenseBincount"
    assert any(gone in line for line in report.lowered) or not report.variables
    (meta_graph,) = proto.meta_graphs
    library = {f.signature.name for f in meta_graph.graph_def.library.function}
    declared = {op.name for op in meta_graph.meta_info_def.stripped_op_list.op}
    assert declared == set(ops_of(proto)) - library
    facts = provenance.read(str(tmp_path / "out"))
    assert facts is not None
    assert facts.lowered_for == "TensorFlow 1.15"
    assert not (tmp_path / "out" / "fingerprint.pb").exists()


def test_same_bytes(tmp_path: Path) -> None:
    """Two conversions of a model are equal, so a cache or a rebuild can rely on it."""
    for name in ("one", "two"):
        hub.convert(
            FOLDER / "keras2_functional" / "module", tmp_path / name, target="tf1.15"
        )
    one, two = (tmp_path / n / "saved_model.pb" for n in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_weights_are_linked(tmp_path: Path) -> None:
    """The weights of a lowered model are the source's own file."""
    source = tmp_path / "source"
    shutil.copytree(str(FOLDER / "keras2_functional" / "module"), str(source))
    report = hub.convert(source, tmp_path / "out", target="tf1.15")
    shard = "variables/variables.data-00000-of-00001"
    assert os.path.samefile(str(source / shard), str(tmp_path / "out" / shard))
    assert report.bytes_linked == (source / shard).stat().st_size
    hub.convert(source, tmp_path / "copy", target="tf1.15", link="copy")
    assert not os.path.samefile(str(source / shard), str(tmp_path / "copy" / shard))


def test_unknown_target_is_named(tmp_path: Path) -> None:
    """A target without an op list raises, with those there are."""
    with pytest.raises(errors.ConversionError, match="'tf1.15'.*'tf0.1'"):
        hub.convert(FOLDER / "keras2_text" / "module", tmp_path / "o", target="tf0.1")


def test_tf2_model_without_target_says_what_to_name(tmp_path: Path) -> None:
    """Without a target a TF2 SavedModel is refused, with the argument to pass."""
    with pytest.raises(errors.FormatError, match="target='tf1.15'"):
        hub.convert(FOLDER / "keras2_text" / "module", tmp_path / "out")


def rename(proto: Any, function: str, op: str, new: str) -> None:
    """Gives the nodes of an op in some functions another op."""
    (meta_graph,) = proto.meta_graphs
    count = 0
    for f in meta_graph.graph_def.library.function:
        if function in f.signature.name:
            for node in f.node_def:
                if node.op == op:
                    node.op = new
                    count += 1
    assert count


def test_all_missing_ops_are_named_at_once(tmp_path: Path) -> None:
    """A refusal names every op, the function and the package, and writes nothing."""

    def edit(proto: Any) -> None:
        rename(proto, "", "Tanh", "WordpieceTokenizeWithOffsets")
        rename(proto, "", "Sum", "Addons>Sum")

    source = edited("module_control_flow", tmp_path, edit)
    with pytest.raises(errors.UnknownOpError) as raised:
        hub.convert(source, tmp_path / "out", target="tf1.15")
    text = str(raised.value)
    for part in (
        "WordpieceTokenizeWithOffsets (of the package tensorflow-text)",
        "Addons>Sum (of the package tensorflow-addons)",
        "while_body",
    ):
        assert part in text
    assert not (tmp_path / "out").exists()


def test_first_tensorflow_is_named(tmp_path: Path) -> None:
    """An op of a newer TensorFlow is refused with a version that has it."""
    source = edited(
        "module_control_flow",
        tmp_path,
        lambda proto: rename(proto, "", "Tanh", "ApproxTopK"),
    )
    with pytest.raises(
        errors.UnknownOpError, match=r"ApproxTopK \(from TensorFlow 2\.\d+ on\)"
    ):
        hub.convert(source, tmp_path / "out", target="tf1.15")


def signature_function(proto: Any, signature: str) -> str:
    """The function that a signature's wrapper calls."""
    (meta_graph,) = proto.meta_graphs
    nodes = meta_graph.object_graph_def.nodes
    (map_,) = [n for n in nodes if n.user_object.identifier == "signature_map"]
    (child,) = [c for c in map_.children if c.local_name == signature]
    wrapper = nodes[child.node_id].bare_concrete_function.concrete_function_name
    (function,) = [
        f for f in meta_graph.graph_def.library.function if f.signature.name == wrapper
    ]
    (called,) = [
        node.attr["f"].func.name
        for node in function.node_def
        if node.attr["f"].func.name
    ]
    return str(called)


def test_one_bad_signature_costs_itself_alone(tmp_path: Path) -> None:
    """The others load; asking for it says why it is not there."""

    def edit(proto: Any) -> None:
        name = signature_function(proto, "pooled")
        (meta_graph,) = proto.meta_graphs
        (function,) = [
            f for f in meta_graph.graph_def.library.function if f.signature.name == name
        ]
        mean = next(node for node in function.node_def if node.op == "Mean")
        mean.op = "Addons>Mean"
        ops = meta_graph.meta_info_def.stripped_op_list.op
        added = ops.add()
        added.CopyFrom(next(op for op in ops if op.name == "Mean"))
        added.name = "Addons>Mean"

    source = edited("keras3_transformer", tmp_path, edit)
    report = hub.convert(source, tmp_path / "out", target="tf1.15")
    assert any("'pooled' is skipped" in line for line in report.warnings)
    (meta_graph,) = parsed(tmp_path / "out").meta_graphs
    assert "pooled" not in meta_graph.signature_def
    assert "tokens" in meta_graph.signature_def

    import runtimes

    with runtimes.Runtime(lambda: hub.load(tmp_path / "out")) as runtime:
        assert "tokens" in runtime.loaded.signatures
        with pytest.raises(errors.SignatureError, match="tensorflow-addons"):
            runtime.loaded.signatures["pooled"]


def declare_saturate(meta_graph: Any, default: bool) -> None:
    """Lists Tanh with an attribute that no TensorFlow has."""
    from hub_compat.converters.opdata.op_defs import builtin_ops

    op = meta_graph.meta_info_def.stripped_op_list.op.add()
    op.CopyFrom(builtin_ops()["Tanh"])
    attr = op.attr.add(name="saturate", type="bool")
    attr.default_value.b = default


def test_meaningful_attribute_is_refused(tmp_path: Path) -> None:
    """An unknown attribute that is not at its default is named with its value."""

    def edit(proto: Any) -> None:
        (meta_graph,) = proto.meta_graphs
        declare_saturate(meta_graph, False)
        for function in meta_graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "Tanh":
                    node.attr["saturate"].b = True

    source = edited("module_control_flow", tmp_path, edit)
    with pytest.raises(errors.UnknownOpError, match="Tanh, for its attribute saturate"):
        hub.convert(source, tmp_path / "out", target="tf1.15")


def test_default_attribute_is_dropped(tmp_path: Path) -> None:
    """An unknown attribute at the default of the model's writer goes away."""

    def edit(proto: Any) -> None:
        (meta_graph,) = proto.meta_graphs
        declare_saturate(meta_graph, True)
        for function in meta_graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "Tanh":
                    node.attr["saturate"].b = True

    source = edited("module_control_flow", tmp_path, edit)
    report = hub.convert(source, tmp_path / "out", target="tf1.15")
    assert any("Tanh.saturate is dropped" in line for line in report.lowered)


def test_attributes_that_only_tpus_know(tmp_path: Path) -> None:
    """A variant for TPUs has nodes that say how to compile, which a CPU passes over."""

    def edit(proto: Any) -> None:
        (meta_graph,) = proto.meta_graphs
        nodes = meta_graph.graph_def.node
        node = nodes.add(name="tpu/metadata", op="TPUReplicateMetadata")
        node.attr["num_replicas"].i = 1
        node.attr["use_spmd_for_xla_partitioning"].b = True
        node.attr["use_shardy_partitioner"].b = True
        node.attr["tpu_compile_options_proto"].s = b"x"
        for output in meta_graph.signature_def["serving_default"].outputs.values():
            name = output.name.split(":")[0]
            (found,) = [each for each in nodes if each.name == name]
            found.input.append("^tpu/metadata")
        meta_graph.meta_info_def.tags.append("tpu")

    source = edited_copy(FOLDER / "tf1_saved_model" / "module", tmp_path / "m", edit)
    hub.convert(source, tmp_path / "out", target="tf1.15")
    op = {
        n.op
        for f in parsed(tmp_path / "out").meta_graphs[0].graph_def.library.function
        for n in f.node_def
    }
    assert "TPUReplicateMetadata" in op
    with runtimes.Runtime(lambda: hub.load(source, tags={"serve", "tpu"})) as runtime:
        assert runtime.loaded.signatures["serving_default"] is not None


def test_build_that_names_an_older_release(tmp_path: Path) -> None:
    """A nightly of 2.x may call itself 1.15.0: the GraphDef's version decides."""

    def as_nightly(proto: Any) -> None:
        for meta_graph in proto.meta_graphs:
            meta_graph.meta_info_def.tensorflow_version = "1.15.0"

    for name in ("keras2_images", "tf1_saved_model"):
        source = edited_copy(
            FOLDER / name / "module", tmp_path / name / "module", as_nightly
        )
        report = hub.convert(source, tmp_path / (name + "_out"), target="tf1.15")
        assert report.lowered
        shutil.copy(str(FOLDER / name / "expected.npz"), str(source.parent))
        (call, *_) = sorted(tf221_compare.recorded(source.parent))
        tf221_compare.check(source.parent, [call])


def test_result_that_plain_tensorflow_refuses_is_warned_of(tmp_path: Path) -> None:
    """Without a target, the report names the one that an older TensorFlow needs."""

    def as_newer(proto: Any) -> None:
        for meta_graph in proto.meta_graphs:
            meta_graph.meta_info_def.tensorflow_version = "99.0.0"
            if change:
                for node in meta_graph.graph_def.node:
                    node.attr["of_tomorrow"].b = True

    for change in (False, True):
        source = edited_copy(
            FOLDER.parent / "tf1_simple_save" / "module",
            tmp_path / str(change),
            as_newer,
        )
        report = hub.convert(source, tmp_path / "out", overwrite=True)
        found = [w for w in report.warnings if "--target=tf1.15" in w]
        assert len(found) == change


def test_nothing_is_lowered_without_need(tmp_path: Path, monkeypatch: Any) -> None:
    """A model that the runtime knows is loaded from where it is."""
    import tensorflow as tf

    from hub_compat import cache

    source = tmp_path / "own"
    module = tf.Module()
    module.double = tf.function(
        lambda x: x * 2.0, input_signature=[tf.TensorSpec([None], tf.float32)]
    )
    if not tf.executing_eagerly():
        pytest.skip("TF 1.15 saves objects eagerly")
    tf.saved_model.save(module, str(source))
    monkeypatch.setattr(cache, "normalised", None)
    assert hub.load(source).double(tf.constant([1.0])).numpy().tolist() == [2.0]


# ---- rules, each against the op that it stands for, in the TensorFlow that has it


@pytest.mark.tf2
@pytest.mark.parametrize(
    "equation, shapes",
    [
        ("abc,cd->abd", [(2, 3, 4), (4, 5)]),
        ("abc,cde->abde", [(2, 3, 4), (4, 5, 2)]),
        ("aecd,abcd->acbe", [(2, 3, 4, 5), (2, 6, 4, 5)]),
        ("acbe,aecd->abcd", [(2, 4, 3, 6), (2, 6, 4, 5)]),
        ("abcd,cde->abe", [(2, 3, 4, 5), (4, 5, 2)]),
        ("...x,xy->...y", [(2, 3, 4), (4, 5)]),
        ("...ab,bc->...ac", [(6, 2, 3, 4), (4, 5)]),
        ("ab,cd->dbca", [(2, 3), (4, 5)]),
        ("ab,b->a", [(2, 3), (3,)]),
        ("abc,b->", [(2, 3, 4), (3,)]),
        ("abc->ca", [(2, 3, 4)]),
        ("a,a->", [(4,), (4,)]),
        ("...ab,...cb->...ac", [(2, 3, 4, 5), (3, 6, 5)]),
        ("...a,...a->...", [(2, 1, 3), (4, 3)]),
        ("ab...,bc...->ac...", [(2, 3, 4, 1), (3, 5, 4, 2)]),
        ("a...,...->a...", [(2, 3), (3,)]),
        ("aab->ab", [(3, 3, 2)]),
        ("aba,b->a", [(3, 2, 3), (2,)]),
        ("a->aa", [(3,)]),
        ("ab,c->abcb", [(2, 3), (4,)]),
    ],
)
def test_einsum(equation: str, shapes: List[Any], tmp_path: Path) -> None:
    """Einsum by a product of matrices is Einsum, with its gradients."""
    import tensorflow as tf

    values = [tf.constant(numbers(*shape)) for shape in shapes]

    def function(*tensors: Any) -> Any:
        return tf.raw_ops.Einsum(inputs=list(tensors), equation=equation)

    traced = tf.function(
        function, input_signature=[tf.TensorSpec([None] * len(s)) for s in shapes]
    )
    lowered = lowered_function(traced, tmp_path)
    assert "Einsum" not in ops_of(parsed(tmp_path / "out"))
    found = []
    for one in (function, lowered):
        with tf.GradientTape() as tape:
            tape.watch(values)
            result = one(*values)
            loss = tf.reduce_sum(tf.sin(result))
        found.append([result] + list(tape.gradient(loss, values)))
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.tf2
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (0,), (3, 0)])
def test_dense_bincount(
    shape: Any, weighted: bool, binary: bool, tmp_path: Path
) -> None:
    """Counts by UnsortedSegmentSum are those of DenseBincount."""
    import tensorflow as tf

    if weighted and binary:
        pytest.skip("DenseBincount takes no weights for a binary output")
    count = int(np.prod(shape))
    values = (np.arange(count) * 5 % 7).astype(np.int64).reshape(shape)
    weights = numbers(*shape) if weighted else np.zeros([0], np.float32)

    def function(values: Any, weights: Any) -> Any:
        return tf.raw_ops.DenseBincount(
            input=values,
            size=tf.constant(4, tf.int64),
            weights=weights,
            binary_output=binary,
        )

    spec = [
        tf.TensorSpec([None] * len(shape), tf.int64),
        tf.TensorSpec([None] * weights.ndim, tf.float32),
    ]
    lowered = lowered_function(tf.function(function, input_signature=spec), tmp_path)
    assert "DenseBincount" not in ops_of(parsed(tmp_path / "out"))
    wanted = function(tf.constant(values), tf.constant(weights))
    found = lowered(tf.constant(values), tf.constant(weights))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.tf2
@pytest.mark.parametrize("name", ["uniform", "normal", "truncated_normal", "integers"])
def test_stateless_random_numbers_are_the_same(name: str, tmp_path: Path) -> None:
    """With a given seed the numbers are those of the newer ops."""
    import tensorflow as tf

    def function(seed: Any) -> Any:
        if name == "integers":
            return tf.random.stateless_uniform([1000], seed, -5, 70, tf.int32)
        return getattr(tf.random, "stateless_" + name)([1000], seed)

    spec = [tf.TensorSpec([2], tf.int32)]
    lowered = lowered_function(tf.function(function, input_signature=spec), tmp_path)
    assert "StatelessRandomGetKeyCounter" not in ops_of(parsed(tmp_path / "out"))
    for seed in ([1, 2], [-3, 2**31 - 1]):
        seeds = tf.constant(seed)
        np.testing.assert_array_equal(lowered(seeds), function(seeds))


@pytest.mark.tf2
def test_generator_moves_on(tmp_path: Path) -> None:
    """A generator's numbers differ at every call, and are uniform."""
    import tensorflow as tf

    module = tf.Module()
    module.generator = tf.random.Generator.from_seed(3)
    module.run = tf.function(
        lambda: module.generator.uniform([4000]), input_signature=[]
    )
    tf.saved_model.save(module, str(tmp_path / "source"))
    hub.convert(tmp_path / "source", tmp_path / "out", target="tf1.15")
    assert "RngReadAndSkip" not in ops_of(parsed(tmp_path / "out"))
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    one, two = loaded.run().numpy(), loaded.run().numpy()
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.06
    for values in (one, two):
        assert abs(values.mean() - 0.5) < 0.02
        assert abs(values.std() - 12**-0.5) < 0.02


@pytest.mark.tf2
@pytest.mark.parametrize(
    "factor, layout", [(0.25, "NHWC"), (0.01, "NHWC"), (0.25, "NDHWC"), (1.0, "NDHWC")]
)
def test_batch_norm_averages(factor: float, layout: str, tmp_path: Path) -> None:
    """Moving averages that are written out are those of the op, of volumes as well."""
    import tensorflow as tf

    def function(x: Any, mean: Any, variance: Any) -> Any:
        found = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=tf.constant([1.0, 2.0]),
            offset=tf.constant([0.5, 0.0]),
            mean=mean,
            variance=variance,
            exponential_avg_factor=factor,
            is_training=True,
            data_format=layout,
        )
        return found.y, found.batch_mean, found.batch_variance

    inner = [3] * (len(layout) - 2) + [2]
    spec = [tf.TensorSpec([None] + inner)] + [tf.TensorSpec([2])] * 2
    lowered = lowered_function(tf.function(function, input_signature=spec), tmp_path)
    library = parsed(tmp_path / "out").meta_graphs[0].graph_def.library
    nodes = [node for function in library.function for node in function.node_def]
    assert {node.attr["data_format"].s for node in nodes} <= {b"", b"NHWC"}
    given = [tf.constant(v) for v in (numbers(4, *inner), numbers(2), numbers(2) ** 2)]
    for one, other in zip(lowered(*given), function(*given)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.tf2
def test_ragged_to_tensor_of_deeper_raggedness(tmp_path: Path) -> None:
    """Two ragged dimensions and an inner one, with a default; also its gradient."""
    import tensorflow as tf

    splits = [tf.constant([0, 2, 2, 3]), tf.constant([0, 1, 3, 4])]

    def function(values: Any) -> Any:
        ragged = tf.RaggedTensor.from_nested_row_splits(values, splits)
        return ragged.to_tensor(default_value=-2.0)

    spec = [tf.TensorSpec([None, 2])]
    lowered = lowered_function(tf.function(function, input_signature=spec), tmp_path)
    values = tf.constant(numbers(4, 2))
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = lowered(values)
        loss = tf.reduce_sum(found * found)
    np.testing.assert_array_equal(found, function(values))
    gradient = tf.convert_to_tensor(tape.gradient(loss, values))
    np.testing.assert_allclose(gradient, 2 * values, rtol=1e-6)


@pytest.mark.tf2
def test_batch_matmul_of_two_dtypes(tmp_path: Path) -> None:
    """BatchMatMulV3 computes in the dtype of its result."""
    import tensorflow as tf

    def function(x: Any, y: Any) -> Any:
        return tf.raw_ops.BatchMatMulV3(x=x, y=y, Tout=tf.int32, adj_y=True)

    spec = [tf.TensorSpec([None, 2, 3], tf.int8), tf.TensorSpec([None, 2, 3], tf.int8)]
    lowered = lowered_function(tf.function(function, input_signature=spec), tmp_path)
    x = tf.constant(np.arange(-60, 60, 10).reshape(2, 2, 3), tf.int8)
    wanted = tf.matmul(tf.cast(x, tf.int32), tf.cast(x, tf.int32), transpose_b=True)
    np.testing.assert_array_equal(lowered(x, x), wanted)


@pytest.mark.tf2
def test_table_that_changes_is_filled_by_its_initializer(tmp_path: Path) -> None:
    """TensorFlow 1.15 restores no such table; its contents are in a function."""
    import tensorflow as tf

    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    module.table.insert(tf.constant(["a", "b"]), tf.constant([5, 6], tf.int64))
    module.dense = tf.lookup.experimental.DenseHashTable(
        tf.string, tf.float32, [-1.0, -1.0], "", "$", initial_num_buckets=8
    )
    module.dense.insert(tf.constant(["a", "b"]), [[1.0, 2.0], [3.0, 4.0]])
    module.run = tf.function(
        lambda words: (module.table.lookup(words), module.dense.lookup(words)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path / "source"))
    hub.convert(tmp_path / "source", tmp_path / "out", target="tf1.15")
    proto = parsed(tmp_path / "out")
    assert "LookupTableInsertV2" not in ops_of(parsed(tmp_path / "source"))
    assert ops_of(proto)["LookupTableInsertV2"] == 2
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    found, dense = loaded.run(tf.constant(["b", "?", "a"]))
    assert found.numpy().tolist() == [6, -1, 5]
    assert dense.numpy().tolist() == [[3.0, 4.0], [-1.0, -1.0], [1.0, 2.0]]


@pytest.mark.tf2
def test_table_that_is_not_in_the_checkpoint_is_refused(tmp_path: Path) -> None:
    """What TensorFlow 1.15 would leave empty without a word is a damaged model."""
    import tensorflow as tf

    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    module.run = tf.function(
        lambda words: module.table.lookup(words),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path / "source"))
    for file in (tmp_path / "source" / "variables").iterdir():
        file.unlink()
    with pytest.raises(errors.CorruptModuleError, match="there is no variables/"):
        hub.convert(tmp_path / "source", tmp_path / "out", target="tf1.15")
    assert not (tmp_path / "out").exists()


@pytest.mark.tf2
def test_tf1_format_of_a_newer_tensorflow(tmp_path: Path) -> None:
    """An old format that a new TensorFlow wrote is converted and then lowered."""
    import tensorflow as tf

    from hub_compat.converters import lowering

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2, 2], name="x")
        w = v1.get_variable("w", initializer=numbers(1, 2, 2), use_resource=True)
        y = tf.raw_ops.BatchMatMulV3(x=x, y=w, Tout=tf.float32)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(
            session, str(tmp_path / "source"), {"x": x}, {"y": y}
        )
    hub.convert(tmp_path / "source", tmp_path / "out", target="tf1.15")
    proto = parsed(tmp_path / "out")
    assert not lowering.needs_lowering(proto, lowering.of_target("tf1.15"))
    assert "BatchMatMulV3" not in ops_of(proto)
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    found = loaded(tf.constant(numbers(3, 2, 2)))
    np.testing.assert_allclose(found, numbers(3, 2, 2) @ numbers(1, 2, 2), rtol=1e-6)


@pytest.mark.tf2
@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("shape", [[3, 5], [4], []])
def test_full_integers(dtype: str, shape: List[int], tmp_path: Path) -> None:
    """Integers over the whole of a dtype are those of the newer op, also odd counts."""
    import tensorflow as tf

    def function(seed: Any) -> Any:
        return tf.random.stateless_uniform(shape, seed, None, None, dtype)

    spec = [tf.TensorSpec([2], tf.int32)]
    lowered = lowered_function(tf.function(function, input_signature=spec), tmp_path)
    seed = tf.constant([4, -5])
    np.testing.assert_array_equal(lowered(seed), function(seed))


@pytest.mark.tf2
def test_custom_gradient(tmp_path: Path) -> None:
    """A gradient of the program's own comes along; that of swish is natural.

    TensorFlow's own loader, which is not told of it, refuses it rather than take
    another.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def reversed_gradient(x: Any) -> Any:
        return tf.sin(x), lambda upstream: -upstream * tf.cos(x)

    spec = [tf.TensorSpec([None])]
    functions = {
        "own": tf.function(lambda x: reversed_gradient(x * 2.0), input_signature=spec),
        "swish": tf.function(lambda x: tf.nn.silu(x, beta=1.5), input_signature=spec),
    }
    x = tf.constant([1.0, -2.0])
    for name, function in functions.items():
        plain = lowered_function(function, tmp_path / name)
        lowered = hub.load(tmp_path / name / "out").run
        np.testing.assert_allclose(lowered(x), function(x), rtol=1e-6)
        gradients = [gradient(function, x), gradient(lowered, x)]
        np.testing.assert_allclose(*gradients, rtol=1e-6)
        if name == "swish":
            np.testing.assert_allclose(gradients[0], gradient(plain, x), rtol=1e-6)


@pytest.mark.tf2
def test_custom_gradient_that_stays_behind_is_refused(tmp_path: Path) -> None:
    """A model without the function of a gradient gives no other one instead."""
    import tensorflow as tf

    @tf.custom_gradient
    def reversed_gradient(x: Any) -> Any:
        return tf.identity(x), lambda upstream: -upstream

    module = tf.Module()
    module.run = tf.function(
        lambda x: reversed_gradient(x * 2.0), input_signature=[tf.TensorSpec([None])]
    )
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(tmp_path / "source"), options=options)
    hub.convert(tmp_path / "source", tmp_path / "out", target="tf1.15")
    loaded = hub.load(tmp_path / "out")
    x = tf.constant([1.0, -2.0])
    np.testing.assert_allclose(loaded.run(x), 2 * x, rtol=1e-6)
    with pytest.raises(LookupError, match="IdentityN"):
        gradient(loaded.run, x)
