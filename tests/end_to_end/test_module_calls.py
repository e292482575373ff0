"""Programs that were written for hub.Module: names of variables, and its calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_kit import IMAGES, path

import hub_compat as hub
from hub_compat import errors

pytestmark = pytest.mark.tensorflow


def initialized() -> Any:
    """A session of the graph at hand, with all its variables."""
    import tensorflow as tf

    session = tf.compat.v1.Session()
    session.run(tf.compat.v1.global_variables_initializer())
    session.run(tf.compat.v1.tables_initializer())
    return session


def test_names_of_variables() -> None:
    """A name is a scope, made unique; without one the names are the module's."""
    import tensorflow as tf

    with tf.Graph().as_default():
        plain = hub.load(path("image_bn"))
        first = hub.load(path("image_bn"), name="module")
        second = hub.load(path("image_bn"), name="module")
        with tf.compat.v1.variable_scope("encoder"):
            third = hub.load(path("image_bn"), name="module", fill_collections=True)
        names = [variable.name for variable in plain.variables]
        for loaded, scope in (
            (first, "module/"),
            (second, "module_1/"),
            (third, "encoder/module/"),
        ):
            assert [v.name for v in loaded.variables] == [scope + n for n in names]
        with initialized() as session:
            for one, other in zip(*session.run([plain.variables, third.variables])):
                np.testing.assert_array_equal(one, other)


@pytest.mark.eager
def test_names_need_a_graph() -> None:
    """In eager execution, checkpoints have no names of variables."""
    with pytest.raises(errors.OptionsError, match="tf.train.Checkpoint"):
        hub.load(path("image_bn"), name="module")


@pytest.mark.tf1
@pytest.mark.graph
@pytest.mark.parametrize("module", ["image_bn", "ref_variables"])
def test_checkpoint_of_an_old_job(module: str, tmp_path: Path) -> None:
    """What a job with hub.Module saved is restored, slots of its optimizer too."""
    import tensorflow as tf

    tensorflow_hub = pytest.importorskip("tensorflow_hub")

    def job(load: Any) -> Any:
        loaded = load()
        trained = tf.compat.v1.trainable_variables()
        loss = tf.add_n([tf.reduce_sum(tf.square(v)) for v in trained])
        tf.compat.v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
        assert loaded is not None
        assert trained
        return loss, tf.compat.v1.train.Saver()

    with tf.Graph().as_default():
        loss, saver = job(lambda: tensorflow_hub.Module(path(module), trainable=True))
        with initialized() as session:
            for variable in tf.compat.v1.trainable_variables():
                session.run(variable.assign_add(tf.ones_like(variable)))
            wanted = session.run(loss)
            saver.save(session, str(tmp_path / "model"))
    with tf.Graph().as_default():
        loss, saver = job(
            lambda: hub.load(path(module), fill_collections=True, name="module")
        )
        with initialized() as session:
            saver.restore(session, str(tmp_path / "model"))
            np.testing.assert_allclose(session.run(loss), wanted, rtol=1e-6)


def values(tensors: Any) -> Any:
    """What a nest of tensors holds."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return tf.nest.map_structure(np.asarray, tensors)
    with initialized() as session:
        return session.run(tensors)


@pytest.fixture
def _graph() -> Any:
    """A graph of its own, where operations go into one."""
    import tensorflow as tf

    if tf.executing_eagerly():
        yield
    else:
        with tf.Graph().as_default():
            yield


@pytest.mark.usefixtures("_graph")
def test_signature_and_as_dict() -> None:
    """module(x, signature=..., as_dict=...) is the call of the signature."""
    import tensorflow as tf

    loaded = hub.load(path("image_bn"))
    images = tf.constant(IMAGES)
    name = "image_feature_vector"
    everything = loaded.signatures[name](images=images)
    found = values(
        {
            "plain": loaded(images),
            "default": loaded(images, signature="default"),
            "dict": loaded(images, as_dict=True),
            "one": loaded(images, signature=name),
            "named": loaded(inputs={"images": images}, signature=name),
            "all": loaded(images, signature=name, as_dict=True),
            "training": loaded(images, signature=name, training=True),
            "wanted": everything,
        }
    )
    np.testing.assert_allclose(found["default"], found["plain"], rtol=1e-5)
    assert sorted(found["dict"]) == ["default"]
    assert sorted(found["all"]) == sorted(found["wanted"])
    for key, value in found["all"].items():
        np.testing.assert_allclose(value, found["wanted"][key], rtol=1e-5)
    for key in ("one", "named"):
        np.testing.assert_allclose(found[key], found["wanted"]["default"], rtol=1e-5)
    assert np.any(found["training"] != found["one"])
    with pytest.raises(errors.SignatureError, match="image_feature_vector"):
        loaded(images, signature="nothing")


@pytest.mark.usefixtures("_graph")
def test_an_object_that_cannot_be_called_says_what_to_write(tmp_path: Path) -> None:
    """Python's error names a signature, where there is no default one."""
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None])
        info = tf.compat.v1.saved_model.build_tensor_info
        signatures = {
            name: tf.compat.v1.saved_model.build_signature_def(
                {"x": info(x)}, {"y": info(x * factor)}, "predict"
            )
            for name, factor in (("tokens", 2.0), ("words", 3.0))
        }
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "module"))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    loaded = hub.load(tmp_path / "module")
    assert not callable(loaded)
    with pytest.raises(TypeError, match=r"\.tokens\(x\).* is not callable"):
        loaded(tf.constant([1.0]), signature="tokens", as_dict=True)
    (found,) = values([loaded.tokens(tf.constant([1.0]))])
    assert np.asarray(found).tolist() == [2.0]
    # What every TF1 model has, it has too.
    assert loaded.graph.get_operations()


@pytest.mark.graph
@pytest.mark.usefixtures("_graph")
def test_updates_of_a_named_signature_are_noted_once() -> None:
    """With collections, a call by name is one op in UPDATE_OPS."""
    import tensorflow as tf

    loaded = hub.load(path("image_bn"), tags={"train"}, fill_collections=True)
    key = tf.compat.v1.GraphKeys.UPDATE_OPS
    loaded(tf.constant(IMAGES), signature="image_feature_vector")
    assert len(tf.compat.v1.get_collection(key)) == 1
