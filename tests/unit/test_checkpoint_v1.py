"""Checkpoints of format V1, one file without an index, are read as any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from damaging import in_graph, values_of

import hub_compat as hub
from hub_compat import errors
from hub_compat.converters.checkpoint import v1 as checkpoint_v1

# What is loaded is loaded in a graph.
pytestmark = [pytest.mark.tensorflow, pytest.mark.modeless]

VALUES: Dict[str, Any] = {
    "float": np.array([[1.5, -2.0], [3.0, 4.25]], np.float32),
    "double": np.float64(0.1),
    "half": np.array([0.5, 65504.0], np.float16),
    "int": np.array([-1, 2**31 - 1], np.int32),
    "long": np.array([-(2**62), 5], np.int64),
    "short": np.array([-3, 7], np.int16),
    "byte": np.array([-128, 127], np.int8),
    "unsigned": np.array([0, 255], np.uint8),
    "flag": np.array([True, False, True]),
    "complex": np.array([1 + 2j, -3j], np.complex64),
    "empty": np.zeros([0, 3], np.float32),
}


def export(folder: Path, sharded: bool = False, old_ops: bool = False) -> None:
    """Writes a TF1 SavedModel whose outputs are its variables, as TF 0.x saved them."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {
            name: v1.get_variable(name, initializer=value, use_resource=False)
            for name, value in VALUES.items()
        }
        whole = v1.get_variable(
            "parts",
            [5, 2],
            initializer=v1.random_normal_initializer(seed=1),
            partitioner=v1.fixed_size_partitioner(3),
            use_resource=False,
        )
        x = v1.placeholder(tf.float32, [None], "x")
        outputs = {name: tf.identity(found) for name, found in variables.items()}
        outputs["parts"] = tf.identity(whole)
        outputs["y"] = x * 2.0
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(write_version=v1.train.SaverDef.V1, sharded=sharded)
        if old_ops:
            saver = _with_old_ops(saver, variables, list(whole))
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.build_signature_def(
            {"x": v1.saved_model.build_tensor_info(x)},
            {n: v1.saved_model.build_tensor_info(t) for n, t in outputs.items()},
            "predict",
        )
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, saver=saver
        )
        builder.save()
        np.save(str(folder / "parts.npy"), session.run(outputs["parts"]))


def _with_old_ops(saver: Any, variables: Dict[str, Any], parts: Any) -> Any:
    """A saver that reads each tensor by an op of its own, as TensorFlow 0.x had it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    definition = saver.as_saver_def()
    graph = v1.get_default_graph()
    file = graph.get_tensor_by_name(definition.filename_tensor_name)
    restores = []
    for name, variable in variables.items():
        value = tf.raw_ops.Restore(
            file_pattern=file, tensor_name=name, dt=variable.dtype.base_dtype
        )
        restores.append(v1.assign(variable, value, validate_shape=False).op)
    for number, part in enumerate(parts):
        start = (0, 2, 4)[number]
        spec = "5 2 {},{}:0,2".format(start, int(part.shape[0]))
        value = tf.raw_ops.RestoreSlice(
            file_pattern=file, tensor_name="parts", shape_and_slice=spec, dt=tf.float32
        )
        restores.append(v1.assign(part, value, validate_shape=False).op)
    definition.restore_op_name = tf.group(*restores, name="old_restore").name
    return v1.train.Saver(saver_def=definition)


@pytest.mark.parametrize("how", ["plain", "sharded", "old_ops"])
def test_values_are_equal(how: str, tmp_path: Path) -> None:
    """Every dtype, parts of variables, and savers of TensorFlow 0.x."""
    source = tmp_path / "source"
    export(source, sharded=how == "sharded", old_ops=how == "old_ops")
    assert not list((source / "variables").glob("*.index"))
    report = hub.convert(source, tmp_path / "out", verify=how != "sharded")
    if how != "sharded":
        # Its own loader does not find several files.
        assert report.verification is not None
        assert not report.verification.not_compared
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "assets",
        "assets.extra",
        "saved_model.pb",
        "variables",
    ]
    right = dict(VALUES, parts=np.load(str(source / "parts.npy")))
    for path in (source, tmp_path / "out"):
        found = in_graph(lambda path=path: values_of(hub.load(path)))
        for name, value in right.items():
            got = found["serving_default " + name]
            assert got.dtype == value.dtype, name
            np.testing.assert_array_equal(got, value, err_msg=name)


def test_strings_and_quantized_values_keep_their_dtypes(tmp_path: Path) -> None:
    """What NumPy has no dtype for is written as TensorFlow writes it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    words = np.array([[b"one", b""], [b"three\0", b"\xff"]], object)
    with tf.Graph().as_default(), v1.Session() as session:
        save = tf.raw_ops.Save(
            filename=str(tmp_path / "variables"),
            tensor_names=["words", "quantized"],
            data=[
                tf.constant(words),
                tf.bitcast(tf.constant([1, -1], tf.int8), tf.qint8),
            ],
        )
        session.run(save)
    files = checkpoint_v1.files_of(str(tmp_path / "variables"))
    (tmp_path / "new").mkdir()
    index = checkpoint_v1.upgrade(files, str(tmp_path / "new"))
    assert index.entries["quantized"].dtype == 11
    reader = v1.train.NewCheckpointReader(str(tmp_path / "new" / "variables"))
    assert reader.get_tensor("words").tolist() == words.tolist()


def test_damage_is_said(tmp_path: Path) -> None:
    """A file that is cut or changed is an error of ours, wherever that is."""
    export(tmp_path / "source")
    data = (tmp_path / "source" / "variables" / "variables").read_bytes()
    for number in range(24):
        path = tmp_path / "damaged"
        shutil.rmtree(str(path), ignore_errors=True)
        shutil.copytree(str(tmp_path / "source"), str(path))
        place = len(data) * number // 24
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        file = path / "variables" / "variables"
        file.write_bytes(data[:place] if number % 2 else changed)
        with pytest.raises(errors.CorruptModuleError, match="again"):
            hub.convert(path, tmp_path / "out", overwrite=True)
