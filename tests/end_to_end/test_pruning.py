"""``prune`` and ``graph`` of loaded TF1 modules, as tensorflow_hub's have them."""

from __future__ import annotations

import shutil
from pathlib import Path

import expected
import numpy as np
import pytest
from placeholders import placeholder

import hub_compat as hub
from hub_compat import errors

tf = pytest.importorskip("tensorflow")
runtimes = pytest.importorskip("runtimes")

pytestmark = pytest.mark.tensorflow


def write(path: Path) -> Path:
    """A model of a hidden layer, a table and a step that counts."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        with v1.name_scope("in"):
            x = v1.placeholder(tf.float32, [None, 2], name="x")
        kernel = v1.get_variable(
            "kernel", initializer=[[1.0], [2.0]], use_resource=False
        )
        gain = v1.get_variable("gain", initializer=3.0, use_resource=True)
        hidden = tf.matmul(x, kernel, name="hidden")
        output = tf.multiply(tf.nn.relu(hidden, name="active"), gain, name="output")
        count = v1.get_variable(
            "count", initializer=0.0, trainable=False, use_resource=False
        )
        v1.assign_add(count, 1.0, name="step")
        tf.add(output, 100.0, name="outside")
        words = v1.placeholder(tf.string, [None], name="words")
        table = v1.lookup.StaticHashTable(
            v1.lookup.KeyValueTensorInitializer(["a", "b"], [10, 20]), -1
        )
        tf.identity(table.lookup(words), name="ids")
        v1.sparse_placeholder(tf.float32, [None, 3], name="sparse")
        loop = tf.while_loop(
            lambda i, _: i < 3, lambda i, y: (i + 1, y * 2.0), [0, hidden]
        )
        tf.identity(loop[1], name="looped")
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        info = v1.saved_model.predict_signature_def({"x": x}, {"y": output})
        ids = graph.get_tensor_by_name("ids:0")
        other = v1.saved_model.predict_signature_def({"w": words}, {"ids": ids})
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": info, "ids": other},
            main_op=v1.tables_initializer(),
        )
        builder.save()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The model."""
    return write(tmp_path / "source")


X = [[1.0, 2.0]]


def test_interior_tensors(source: Path) -> None:
    """Tensors are named by the model's graph; each may be fed, or fetched."""
    with runtimes.Runtime(lambda: hub.load(source)) as run:
        loaded = run.loaded
        signature = loaded.signatures["serving_default"]
        for prune in (loaded.prune, signature.prune):
            hidden = prune("in/x:0", "hidden:0")
            assert np.asarray(run.run(hidden(tf.constant(X)))).tolist() == [[5.0]]
        both = loaded.prune(
            ["in/x:0"], {"h": "hidden:0", "o": ["output:0", "outside:0"]}
        )
        found = both(tf.constant(X))
        assert run.run(found["h"]).tolist() == [[5.0]]
        assert [run.run(t).tolist() for t in found["o"]] == [[[15.0]], [[115.0]]]
        rest = both.prune("hidden:0", "output:0")
        assert run.run(rest([[7.0]])).tolist() == [[21.0]]
        assert run.run(rest(hidden=[[-7.0]])).tolist() == [[0.0]]
        looped = loaded.prune("hidden:0", "looped:0")
        assert run.run(looped([[7.0]])).tolist() == [[56.0]]
        ids = loaded.prune("words:0", "ids:0")
        assert run.run(ids(["b", "c"])).tolist() == [20, -1]
        two = loaded.prune(["hidden:0", "words:0"], ("output:0", "ids:0"))
        values = [run.run(t).tolist() for t in two([[1.0]], ["a"])]
        assert values == [[[3.0]], [10]]


def test_tensors_of_the_graph(source: Path) -> None:
    """``graph`` has the model's own tensors and operations, and is one object."""
    with runtimes.Runtime(lambda: hub.load(source)) as run:
        graph = run.loaded.graph
        assert graph is run.loaded.graph
        names = {op.name for op in graph.get_operations()}
        assert {"in/x", "hidden", "outside", "step"} <= names
        x = graph.get_tensor_by_name("in/x:0")
        assert x.shape.as_list() == [None, 2]
        output = graph.get_operation_by_name("active").outputs[0]
        pruned = run.loaded.prune(feeds=[x], fetches=[output])
        assert run.run(pruned(tf.constant(X))[0]).tolist() == [[5.0]]


def test_variables_are_those_of_the_object(source: Path) -> None:
    """A part trains what the object calls, and sees what was assigned."""
    with runtimes.Runtime(lambda: hub.load(source)) as run:
        variables = {v.name.split(":")[0]: v for v in run.loaded.variables}
        pruned = run.loaded.prune("in/x:0", "output:0")
        trained = [variables["kernel"], variables["gain"]]
        found = run.gradients(
            lambda: tf.reduce_sum(pruned(tf.constant(X))), list(trained)
        )
        assert np.asarray(found[0]).tolist() == [[3.0], [6.0]]
        assert float(found[1]) == 5.0
        if run.eager:
            variables["gain"].assign(5.0)
            assert pruned(tf.constant(X)).numpy().tolist() == [[25.0]]


@pytest.mark.eager
def test_operations(source: Path) -> None:
    """An operation runs, and None is in its place."""
    loaded = hub.load(source)
    variables = {v.name.split(":")[0]: v for v in loaded.variables}
    step = loaded.prune([], {"op": loaded.graph.get_operation_by_name("step")})
    assert step() == {"op": None}
    assert step() == {"op": None}
    assert float(variables["count"].numpy()) == 2.0


def test_what_cannot_be(source: Path, tmp_path: Path) -> None:
    """Errors of ours say what is wrong."""
    moved = tmp_path / "moved"
    shutil.copytree(str(source), str(moved))
    with runtimes.Runtime(lambda: hub.load(moved)) as run:
        with pytest.raises(errors.SignatureError, match="Received: 'absent:0'"):
            run.loaded.prune("in/x:0", "absent:0")
        with pytest.raises(errors.ConversionError, match="'words'"):
            run.loaded.prune("in/x:0", "ids:0")
        pruned = run.loaded.prune("in/x:0", "hidden:0")
        with pytest.raises(errors.InputError, match="in/x"):
            pruned()
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            run.loaded.nothing  # noqa: B018
        shutil.rmtree(str(moved))
        assert run.run(pruned(X)).tolist() == [[5.0]]
        again = hub.load(source)
    with runtimes.Runtime(lambda: hub.load(source)) as run:
        assert again is not run.loaded


def test_variants_and_assets(tmp_path: Path) -> None:
    """A TF1 Hub module has them too, of the variant that was loaded."""
    recorded = expected.load_expected("text_embedding")
    with runtimes.Runtime(lambda: hub.load(recorded.path)) as run:
        assets = run.loaded.asset_paths
        assert assets
        assert all(hasattr(asset, "asset_path") for asset in assets)
        run.run(run.loaded.initializer() if run.eager else tf.constant(0))
        assert run.loaded.graph.get_operations()
    recorded = expected.load_expected("train_ops")
    with runtimes.Runtime(lambda: hub.load(recorded.path, tags={"train"})) as run:
        given = run.loaded.signatures["default"]
        assert given.prune is not None
        assert run.loaded.graph.get_operations()


def test_a_signature_called_so(tmp_path: Path) -> None:
    """A signature of the name stays a signature."""
    v1 = tf.compat.v1
    path = tmp_path / "named"
    with tf.Graph().as_default(), v1.Session() as session:
        x = placeholder(tf.float32)
        infos = {
            name: v1.saved_model.predict_signature_def({"x": x}, {"y": x * (i + 2.0)})
            for i, name in enumerate(["prune", "graph", "as_dict", "__call__"])
        }
        infos["serving_default"] = v1.saved_model.predict_signature_def(
            {"x": x}, {"y": x, "z": x}
        )
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], infos)
        builder.save()
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        for i, name in enumerate(["prune", "graph", "as_dict", "__call__"]):
            found = run.loaded.signatures[name]([1.0])["y"]
            assert run.run(found).tolist() == [i + 2.0]
