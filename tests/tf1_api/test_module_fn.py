"""Modules that a program builds: create_module_spec() in every TensorFlow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
import runtimes

import hub_compat as hub
from hub_compat.converters.opdata.targets import ops_of
from hub_compat.errors import (
    AttachmentError,
    HubCompatError,
    ModuleFnError,
    SignatureError,
    VariantError,
)

pytestmark = pytest.mark.tensorflow

tf = pytest.importorskip("tensorflow")
# Not skipped over: it is part of the checkout.
import tf221_hub_module as written  # noqa: E402

v1 = tf.compat.v1

RECORDED: Dict[str, Any] = json.loads(
    (written.OUT / "recorded.json").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> Any:
    """The spec that this TensorFlow makes, and the module that it exports."""
    folder = tmp_path_factory.mktemp("made")
    vocabulary = str(folder / "words.txt")
    Path(vocabulary).write_text("a\nb\nc\n")
    found = written.record(folder, vocabulary)
    np.testing.assert_allclose(found["default"], RECORDED["default"], rtol=1e-5)
    spec = written.make_spec(vocabulary)
    path = folder / "module"
    spec.export(str(path), checkpoint_path=str(folder / "model"))
    os.remove(vocabulary)
    return spec, path


def place(key: str, made: Any) -> Path:
    """The module that is exported here, or that of TF 2.21."""
    return Path(made[1] if key == "here" else written.OUT / "module")


def test_says_what_the_function_builds(made: Any) -> None:
    """Variants, signatures, their inputs and outputs, the attached message."""
    spec = made[0]
    assert spec.get_tags() == [frozenset(), frozenset({"train"})]
    names = ["default", "lookup", "ragged", "sparse"]
    for tags in (None, {"train"}):
        assert sorted(spec.get_signature_names(tags)) == names
    assert spec.get_input_info_dict()["images"].get_shape().as_list() == [None, 2, 2, 3]
    assert spec.get_input_info_dict("sparse")["default"].is_sparse
    assert list(spec.get_input_info_dict("ragged")) == ["rows"]
    assert sorted(spec.get_output_info_dict()) == ["default", "doubled"]
    info = spec.get_attached_message("image_module_info", hub.ImageModuleInfo)
    assert info.default_image_size.width == 2


def test_has_what_signatures_and_collections_need(made: Any) -> None:
    """No saver, and nothing of no use; loops and conditionals whole."""
    graph = made[0].meta_graph({"train"})
    ops = {node.op for node in graph.graph_def.node}
    assert not ops & {"SaveV2", "RestoreV2", "DisableCopyOnRead"}
    names = {node.name for node in graph.graph_def.node}
    assert "of_no_use" not in names
    assert "images" in names
    functions = {f.signature.name for f in graph.graph_def.library.function}
    assert ops - functions == {
        op.name for op in graph.meta_info_def.stripped_op_list.op
    }
    assert len(graph.collection_def["update_ops"].node_list.value) == 2
    assert len(graph.collection_def["variables"].bytes_list.value) == 5
    assert len(graph.collection_def["trainable_variables"].bytes_list.value) == 3


@pytest.mark.tf1
@pytest.mark.graph
@pytest.mark.parametrize("key", ["here", "tf221"])
@pytest.mark.parametrize("tags", [None, {"train"}], ids=["none", "train"])
def test_unmodified_tensorflow_hub_reads_it(key: str, tags: Any, made: Any) -> None:
    """In TF 1.15: outputs, losses, gradients, updates, tables, names of variables."""
    stock: Any = pytest.importorskip("tensorflow_hub")
    with tf.Graph().as_default():
        module = stock.Module(str(place(key, made)), trainable=True, tags=tags)
        found = module({"images": written.IMAGES}, as_dict=True)
        updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        sparse = module(tf.SparseTensor([[0, 1]], [3.0], [2, 3]), signature="sparse")
        rows = tf.ragged.constant([[1, 2], [3]], dtype=tf.int64)
        values = {
            "default": found["default"],
            "doubled": found["doubled"],
            "lookup": module(written.WORDS, signature="lookup"),
            "losses": tf.add_n(v1.losses.get_regularization_losses()),
            "gradient": tf.gradients(found["default"], module.variable_map["bias"])[0],
        }
        trainable = [v.op.name for v in v1.trainable_variables()]
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            for name, value in session.run(values).items():
                np.testing.assert_allclose(value, RECORDED[name], 1e-5, err_msg=name)
            assert session.run(sparse).values.tolist() == [6.0]
            tripled = session.run(module({"rows": rows}, signature="ragged"))
            assert tripled.values.tolist() == [3, 6, 9]
            assert len(updates) == (2 if tags else 0)
            session.run(updates)
            for name in ("mean", "count") if tags else ():
                value = session.run(module.variable_map[name])
                np.testing.assert_allclose(value, RECORDED[name], 1e-5, err_msg=name)
        names = ["module/dense/kernel/part_{}".format(i) for i in range(2)]
        assert trainable == names + ["module/bias"]
        assert stock.get_expected_image_size(module) == [2, 2]


def newer_ops() -> None:
    """Has ops that TF 1.15 lacks: as an output, a loss, and in a loop."""
    x = number()
    weight = v1.get_variable("w", [2], initializer=v1.ones_initializer())
    loss = tf.linalg.diag(weight)
    v1.add_to_collection(v1.GraphKeys.REGULARIZATION_LOSSES, loss)
    _, looped = tf.while_loop(
        lambda i, _: i < 2,
        lambda i, value: (i + 1, tf.reduce_sum(tf.linalg.diag(value * weight), 1)),
        [0, x],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
    )
    outputs = {"default": tf.linalg.diag(x), "looped": looped}
    hub.add_signature(inputs=x, outputs=outputs)


@pytest.mark.tf2
@pytest.mark.parametrize("functional", [True, False], ids=["functions", "frames"])
def test_writes_the_ops_of_1_15(functional: bool, tmp_path: Path) -> None:
    """Signatures, collections and loops of TF1 follow nodes that are replaced."""
    kept = v1.control_flow_v2_enabled()
    choose = v1.enable_control_flow_v2 if functional else v1.disable_control_flow_v2
    choose()
    try:
        spec = hub.create_module_spec(newer_ops)
        with tf.Graph().as_default():
            module = hub.Module(spec)
            with v1.Session() as session:
                session.run(v1.global_variables_initializer())
                module.export(str(tmp_path / "module"), session)
        ops = ops_of("tf1.15")
        spec = hub.load_module_spec(tmp_path / "module")
        graph = spec.meta_graph(None).graph_def
        functions = [f.node_def for f in graph.library.function]
        nodes = [node for body in [graph.node] + functions for node in body]
        assert ("Enter" in {node.op for node in nodes}) != functional
        own = {function.signature.name for function in graph.library.function}
        assert {node.op for node in nodes} - own <= set(ops)
        with tf.Graph().as_default():
            module = hub.Module(spec, trainable=True)
            x = tf.constant([2.0, 3.0])
            found = module(x, as_dict=True)
            gradient = tf.gradients(found["looped"], [x, module.variables[0]])
            with v1.Session() as session:
                session.run(v1.global_variables_initializer())
                loss = v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)
                values = session.run([found, gradient, loss])
        assert values[0]["default"].tolist() == [[2.0, 0.0], [0.0, 3.0]]
        assert values[0]["looped"].tolist() == [2.0, 3.0]
        assert [v.tolist() for v in values[1]] == [[1.0, 1.0], [4.0, 6.0]]
        assert values[2][0].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    finally:
        (v1.enable_control_flow_v2 if kept else v1.disable_control_flow_v2)()


@pytest.mark.parametrize("key", ["here", "tf221"])
def test_load_reads_it(key: str, made: Any, tmp_path: Path) -> None:
    """It loads as any TF1 Hub module does, and trains."""
    path = place(key, made)
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        model = run.loaded
        found = run.run(
            {
                "default": model(written.IMAGES),
                "lookup": model.signatures["lookup"](tf.constant(written.WORDS))[
                    "default"
                ],
                "losses": tf.add_n([loss() for loss in model.regularization_losses]),
            }
        )
        for name, value in found.items():
            np.testing.assert_allclose(value, RECORDED[name], 1e-5, err_msg=name)


@pytest.mark.parametrize("of", ["spec", "directory", "loaded"])
def test_expected_image_size(of: str, made: Any) -> None:
    """Of a spec, a directory and a loaded object: by the message, and by the shape."""
    if of == "loaded":
        with runtimes.Runtime(lambda: hub.load(made[1])) as run:
            assert hub.get_expected_image_size(run.loaded) == [2, 2]
            assert hub.get_num_image_channels(run.loaded) == 3
        return
    model = made[0] if of == "spec" else made[1]
    assert hub.get_expected_image_size(model) == [2, 2]
    assert hub.get_num_image_channels(model, "default", "images") == 3
    with pytest.raises(ValueError, match="missing the input"):
        hub.get_num_image_channels(model, "lookup")
    with pytest.raises(SignatureError, match="no_such"):
        hub.get_num_image_channels(model, "no_such")


def images_of(shape: Any, name: str = "images") -> Callable[[], None]:
    """A module_fn that sums images."""

    def module_fn() -> None:
        images = v1.placeholder(tf.float32, shape)
        hub.add_signature(inputs={name: images}, outputs=tf.reduce_sum(images))

    return module_fn


def test_expected_image_size_of_the_shape() -> None:
    """Without a message, the shape counts; an unknown one is an error."""
    spec = hub.create_module_spec(images_of([None, 6, 7, 1]))
    assert hub.get_expected_image_size(spec) == [6, 7]
    assert hub.get_num_image_channels(spec) == 1
    for shape in ([None, None, 7, None], [None, 7], None):
        spec = hub.create_module_spec(images_of(shape))
        with pytest.raises(ValueError, match="expected .batch_size, height, width"):
            hub.get_expected_image_size(spec)
        with pytest.raises(ValueError, match="known num_channels|4 dimensions"):
            hub.get_num_image_channels(spec)
    spec = hub.create_module_spec(images_of([None, 6, 7, 1], "pictures"))
    with pytest.raises(ValueError, match="'pictures'"):
        hub.get_expected_image_size(spec)
    assert hub.get_expected_image_size(spec, input_name="pictures") == [6, 7]


def number() -> Any:
    """An input."""
    return v1.placeholder(tf.float32, [None])


def without_signature() -> None:
    """Says nothing."""
    number()


def with_own_collection() -> None:
    """Has a variable in a collection of its own."""
    weight = v1.get_variable("w", [], collections=["mine"])
    x = number()
    hub.add_signature(inputs=x, outputs=x * weight)


def with_slices() -> None:
    """Takes what no signature takes."""
    x = tf.IndexedSlices(number(), v1.placeholder(tf.int64, [None]))
    hub.add_signature(inputs={"x": x}, outputs=x.values)


def with_a_variable() -> None:
    """Returns a variable itself."""
    hub.add_signature(outputs=v1.get_variable("w", []))


def with_a_foreign_tensor() -> None:
    """Returns a tensor of another graph."""
    with tf.Graph().as_default():
        other = number()
    hub.add_signature(outputs=other)


def with_numbers_for_names() -> None:
    """Has inputs by number."""
    hub.add_signature(inputs={0: number()}, outputs=number())


def with_a_colocated_input() -> None:
    """Has an input that must be where another node is."""
    node = tf.add(1.0, 2.0, name="u")
    with v1.colocate_with(node):
        x = number()
    hub.add_signature(inputs=x, outputs=x + 1.0)


def with_a_colocated_variable() -> None:
    """Has a variable that must be where another node is."""
    node = tf.add(1.0, 2.0, name="u")
    with v1.colocate_with(node):
        variable = tf.Variable(1.0)
    x = number()
    hub.add_signature(inputs=x, outputs=x + variable)


def with_a_malformed_key() -> None:
    """Attaches a message under a name that is none."""
    hub.add_signature(outputs=number())
    hub.attach_message("a-b", v1.train.Int64List(value=[1]))


def with_a_dict_for_a_message() -> None:
    """Attaches what is no message."""
    hub.add_signature(outputs=number())
    hub.attach_message("numbers", {"a": 1})


REFUSED = [
    (without_signature, ModuleFnError, ValueError, "No signatures present"),
    (with_own_collection, ModuleFnError, ValueError, r"collections in graph: \['mine'"),
    (with_slices, SignatureError, ValueError, "one of the types.*'x' has type Indexed"),
    (with_a_variable, SignatureError, ValueError, r"\.value\(\)"),
    (with_a_foreign_tensor, SignatureError, ValueError, "of the graph that the module"),
    (with_numbers_for_names, SignatureError, ValueError, "name of an input, 0"),
    (with_a_colocated_input, SignatureError, ValueError, "input.*colocate.*loc:@u"),
    (with_a_colocated_variable, ModuleFnError, ValueError, "state.*colocate.*loc:@u"),
    (with_a_malformed_key, AttachmentError, ValueError, "malformed key.*'a-b'"),
    (with_a_dict_for_a_message, AttachmentError, ValueError, "protocol buffer"),
]


@pytest.mark.parametrize(
    "module_fn, error, builtin, said",
    REFUSED,
    ids=[case[0].__name__ for case in REFUSED],
)
def test_refuses(module_fn: Any, error: Any, builtin: Any, said: str) -> None:
    """Each is an error of our own, which old programs catch as well."""
    with pytest.raises(error, match="(?s)" + said) as raised:
        hub.create_module_spec(module_fn)
    assert isinstance(raised.value, builtin)
    assert isinstance(raised.value, HubCompatError)


def plain(**arguments: Any) -> None:
    """A module without variables."""
    x = number()
    hub.add_signature(inputs=x, outputs=2.0 * x)


def test_collections_are_dropped_if_asked_for() -> None:
    """By name."""
    for dropped in (["mine"], "mine", ("mine", "no_such")):
        spec = hub.create_module_spec(with_own_collection, drop_collections=dropped)
        assert "mine" not in spec.meta_graph(None).collection_def


@pytest.mark.parametrize(
    "tags", [[{"a"}, {"a"}], [[], set()], [["a", "b"], {"b", "a"}]]
)
def test_tags_are_used_once(tags: Any) -> None:
    """In any order, as lists or sets."""
    with pytest.raises(VariantError, match="Tags used repeatedly"):
        hub.create_module_spec(plain, [(each, {}) for each in tags])


@pytest.mark.parametrize("pairs", [[("train", {})], [{"train"}], [({1}, {})]])
def test_tags_are_sets_of_strings(pairs: Any) -> None:
    """A string would be one of letters."""
    with pytest.raises(ModuleFnError, match="set"):
        hub.create_module_spec(plain, pairs)


@pytest.mark.parametrize("tags", [None, set(), [], ()])
def test_no_tags(tags: Any) -> None:
    """However they are said."""
    spec = hub.create_module_spec(plain, [(tags, None)])
    assert spec.get_tags() == [frozenset()]


def test_what_is_no_function_is_refused() -> None:
    """The error says what to give."""
    with pytest.raises(ModuleFnError, match="takes a function"):
        hub.create_module_spec("module")  # type: ignore[arg-type]


def test_the_last_signature_and_message_of_a_name_count() -> None:
    """As in tensorflow_hub; of a signature, a warning says so."""

    def module_fn() -> None:
        hub.add_signature(outputs={"first": tf.constant(1.0)})
        with pytest.warns(UserWarning, match="called twice"):
            hub.add_signature(outputs={"second": tf.constant(1.0)})
        hub.attach_message("numbers", v1.train.Int64List(value=[1]))
        hub.attach_message("numbers", v1.train.Int64List(value=[2]))

    spec = hub.create_module_spec(module_fn)
    assert list(spec.get_output_info_dict()) == ["second"]
    assert spec.get_attached_message("numbers", v1.train.Int64List).value[:] == [2]


def test_inputs_of_ops_with_several_outputs() -> None:
    """A warning names them; they are allowed."""

    def module_fn() -> None:
        first, second = tf.split([1.0, 2.0], 2, name="split")
        with pytest.warns(UserWarning, match="single output(?s:.*)y='split:1'"):
            hub.add_signature(inputs={"y": second}, outputs=first + second)

    assert list(hub.create_module_spec(module_fn).get_input_info_dict()) == ["y"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: hub.add_signature(outputs=tf.constant(1.0)),
        lambda: hub.attach_message("numbers", v1.train.Int64List(value=[1])),
    ],
    ids=["add_signature", "attach_message"],
)
def test_outside_of_a_module_fn(call: Any) -> None:
    """In eager execution, and in the graph of a function."""
    if tf.executing_eagerly():
        with pytest.raises(ModuleFnError, match="by the module_fn"):
            call()
    traced = tf.function(call, autograph=False)
    with pytest.raises(ModuleFnError, match="not inside of a tf.function"):
        traced.get_concrete_function()
