"""ModuleSpec: what a module says of itself before it is in a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import expected
import numpy as np
import pytest

import hub_compat as hub
from hub_compat import attachments, errors
from hub_compat._parsing.full_proto import read_saved_model

pytestmark = pytest.mark.tensorflow
MODULES = expected.module_names()


@pytest.mark.parametrize("name", MODULES)
def test_every_recorded_signature_is_described(name: str) -> None:
    """Tags, signatures, inputs and outputs are those of the recorded runs."""
    spec = hub.load_module_spec(expected.HERE / name / "module")
    for case in expected.load_expected(name).cases:
        assert case.signature in spec.get_signature_names(case.tags)
        inputs = spec.get_input_info_dict(case.signature, case.tags)
        outputs = spec.get_output_info_dict(case.signature, case.tags)
        assert set(case.inputs) <= set(inputs)
        assert set(case.outputs) == set(outputs)
        for key, value in case.outputs.items():
            assert outputs[key].is_sparse == isinstance(value, expected.Sparse)
            if isinstance(value, np.ndarray):
                # Some modules declare shapes that their outputs do not have.
                assert outputs[key].get_shape().is_compatible_with(value.shape) or (
                    name == "tf1_dropped_ops"
                )


def test_infos_have_the_interface_of_tensors(testdata: Path) -> None:
    """They have what tensors have, are compared, and print as upstream's do."""
    import tensorflow as tf

    spec = hub.load_module_spec(testdata / "text_embedding" / "module")
    info = spec.get_output_info_dict()["default"]
    assert (info.dtype, info.get_shape().as_list()[0]) == (tf.float32, None)
    assert (info.is_sparse, info.is_composite, info.is_supported_type) == (
        (False, False, True)
    )
    assert info == spec.get_output_info_dict("default")["default"]
    (text,) = spec.get_input_info_dict().values()
    assert (info != text, text.dtype) == (True, tf.string)
    assert repr(info).startswith("<hub.ParsedTensorInfo shape=(?, ") or repr(
        info
    ).startswith("<hub.ParsedTensorInfo shape=(None, ")


def test_what_a_spec_does_not_have(testdata: Path) -> None:
    """Errors are those that programs catch for tensorflow_hub's, and say what is."""
    spec = hub.load_module_spec(testdata / "image_bn" / "module")
    assert spec.get_tags() == [frozenset(), frozenset(["train"])]
    for kind in (KeyError, ValueError, errors.VariantError):
        with pytest.raises(kind, match="No such graph variant"):
            spec.get_signature_names(tags={"test"})
    for kind in (KeyError, ValueError, errors.SignatureError):
        with pytest.raises(kind, match="'no' is missing from meta graph"):
            spec.get_input_info_dict("no")
    assert spec.get_attached_message("no", hub.ImageModuleInfo) is None
    with pytest.raises(KeyError, match="No attached message for key 'no'"):
        spec.get_attached_message("no", hub.ImageModuleInfo, required=True)


def test_no_tags_mean_the_serving_variant_of_a_saved_model(testdata: Path) -> None:
    """So one call serves both formats; the strict function keeps the tags."""
    path = testdata / "tf1_simple_save" / "module"
    spec = hub.load_module_spec(path)
    assert spec.get_tags() == [frozenset(["serve"])]
    assert spec.get_input_info_dict() == spec.get_input_info_dict(
        "serving_default", {"serve"}
    )
    with pytest.raises(errors.VariantError):
        hub.create_module_spec_from_saved_model(path).get_signature_names()


def test_collections_that_a_module_cannot_have(testdata: Path) -> None:
    """The strict function names them, and leaves them out when told to."""
    path = testdata / "tf1_estimator_modes" / "module"
    with pytest.raises(ValueError, match="Unsupported collections.*drop_coll") as info:
        hub.create_module_spec_from_saved_model(path)
    assert "local_variables" in str(info.value)
    names = {
        name
        for graph in read_saved_model(hub.detect(path)).meta_graphs
        for name in graph.collection_def
        if name not in ("variables", "trainable_variables", "saved_model_assets")
    }
    spec = hub.create_module_spec_from_saved_model(path, drop_collections=names)
    assert frozenset(["serve"]) in spec.get_tags()


def test_a_spec_is_exported_from_a_checkpoint(testdata: Path, tmp_path: Path) -> None:
    """Under the names that the job had; what does not fit is an error."""
    import tensorflow as tf

    spec = hub.load_module_spec(testdata / "image_bn" / "module")
    reader = tf.train.load_checkpoint(spec.checkpoint)
    shapes = reader.get_variable_to_shape_map()
    values = {
        "job/" + name: np.full(shape, i, "float32")
        for i, (name, shape) in enumerate(sorted(shapes.items()))
    }
    prefix = _write_checkpoint(tmp_path / "job", values)
    with pytest.raises(ValueError, match="Missing mandatory `checkpoint_path`"):
        spec.export(str(tmp_path / "out"))
    with pytest.raises(ValueError, match="is not found in"):
        spec.export(str(tmp_path / "out"), checkpoint_path=prefix)
    assert not (tmp_path / "out").exists()
    spec.export(
        tmp_path / "out",
        checkpoint_path=prefix,
        name_transform_fn=lambda name: "job/" + name,
    )
    written = hub.load_module_spec(tmp_path / "out")
    assert written.get_tags() == spec.get_tags()
    reader = tf.train.load_checkpoint(written.checkpoint)
    for key, value in values.items():
        np.testing.assert_array_equal(reader.get_tensor(key[4:]), value)
    values["job/" + sorted(shapes)[0]] = np.zeros([3, 3, 3], "float32")
    prefix = _write_checkpoint(tmp_path / "other", values)
    with pytest.raises(ValueError, match="doesn't match with shape of"):
        spec.export(
            tmp_path / "bad",
            checkpoint_path=prefix,
            name_transform_fn=lambda name: "job/" + name,
        )


def _write_checkpoint(prefix: Path, values: Any) -> str:
    import tensorflow as tf

    with tf.Graph().as_default():
        for key, value in values.items():
            tf.compat.v1.get_variable(key, initializer=value)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            return str(tf.compat.v1.train.Saver().save(session, str(prefix)))


def test_assets_of_one_file_are_written_once(testdata: Path, tmp_path: Path) -> None:
    """And two files of one name become two; the graph keeps no path of the machine."""
    source = testdata / "shared_asset" / "module"
    spec = hub.load_module_spec(source)
    spec.write(tmp_path / "out", {})
    assert sorted(p.name for p in (tmp_path / "out" / "assets").iterdir()) == sorted(
        p.name for p in (source / "assets").iterdir()
    )
    assert str(tmp_path).encode() not in (tmp_path / "out/saved_model.pb").read_bytes()
    assert str(testdata).encode() not in (
        (tmp_path / "out" / "saved_model.pb").read_bytes()
    )
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    graphs = []
    for number, tags in (("1", []), ("2", ["train"])):
        (tmp_path / number / "words").write_text(number)
        graph = hub.load_module_spec(source).meta_graph()
        del graph.meta_info_def.tags[:]
        graph.meta_info_def.tags.extend(tags)
        assets = graph.collection_def["asset_filepaths"].node_list.value
        for node in graph.graph_def.node:
            if node.name + ":0" in assets:
                path = str(tmp_path / number / "words").encode()
                node.attr["value"].tensor.string_val[0] = path
        graphs.append(graph)
    hub.ModuleSpec(graphs).write(tmp_path / "two", {})
    written = {p.name: p.read_text() for p in (tmp_path / "two" / "assets").iterdir()}
    assert written == {"words": "1", "words0": "2"}


def test_variants_are_in_the_order_of_the_program(tmp_path: Path) -> None:
    """Sets have no order of their own, so that ``sorted()`` leaves them as they are."""
    import tensorflow as tf

    def module_fn(factor: float) -> None:
        x = tf.compat.v1.placeholder(tf.float32, [])
        hub.add_signature(inputs=x, outputs=x * factor)

    spec = hub.create_module_spec(
        module_fn, [({"train"}, {"factor": 1.0}), ({"infer"}, {"factor": 2.0})]
    )
    assert spec.get_tags() == [{"train"}, {"infer"}]


def test_the_first_missing_variable_is_said(testdata: Path, tmp_path: Path) -> None:
    """The first by name, whatever the order in which the graph has them."""
    import tensorflow as tf

    spec = hub.load_module_spec(testdata / "image_bn" / "module")
    shapes = tf.train.load_checkpoint(spec.checkpoint).get_variable_to_shape_map()
    prefix = _write_checkpoint(tmp_path / "job", {"other": np.zeros(2, "float32")})
    with pytest.raises(ValueError, match=sorted(shapes)[0] + " is not found in"):
        spec.export(str(tmp_path / "out"), checkpoint_path=prefix)


def test_a_spec_of_a_program_gives_its_own_attachments() -> None:
    """A subclass without graphs, as programs write of hub.ModuleSpec."""

    class Spec(hub.ModuleSpec):
        """Has one message, and no graph."""

        def get_tags(self) -> Any:
            """One variant, without tags."""
            return [frozenset()]

        def _get_attached_bytes(self, key: str, tags: Any) -> Any:
            size = attachments.ImageModuleInfo()
            size.default_image_size.height = 2
            size.default_image_size.width = 4
            return size.SerializeToString() if key == "image_module_info" else None

    assert hub.get_expected_image_size(Spec()) == [2, 4]
    assert Spec().get_attached_message("other", attachments.ImageModuleInfo) is None
    with pytest.raises(KeyError, match="'other' in graph version .* it has none"):
        Spec().get_attached_message("other", attachments.ImageModuleInfo, required=True)
