"""Models of TensorFlow 2.21 as TF1 Hub modules, in TensorFlow Hub's own hub.Module.

That runs in TensorFlow 1.15, with an unmodified tensorflow_hub 0.12. What is compared
is what the models gave in TensorFlow 2.21.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tf1_module
import tf221_compare

import hub_compat as hub

TESTDATA = Path(__file__).resolve().parents[2] / "testdata"
FOLDER = TESTDATA / "tf221"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())

pytestmark = [pytest.mark.tensorflow, pytest.mark.tf1]


@pytest.fixture(scope="module", autouse=True)
def loops_have_gradients() -> None:
    """What a program of TensorFlow 1.15 imports for that."""
    from tensorflow.python.ops import cond_v2, while_v2  # noqa: F401


def converted(source: Path, folder: Path, **options: Any) -> str:
    """The model as a TF1 Hub module."""
    path = str(folder / "hub")
    hub.convert(source, path, target="tf1-hub", **options)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_calls(name: str, tmp_path: Path) -> None:
    """Outputs, gradients and updates are those of TensorFlow 2.21."""
    stock = pytest.importorskip("tensorflow_hub")
    wanted = tf221_compare.recorded(FOLDER / name)
    path = converted(FOLDER / name / "module", tmp_path)
    order = tf1_module.variables_in_order(FOLDER / name / "module")
    calls = tf1_module.calls_of(name, wanted)
    for tags in ((), ("train",)):
        those = [(c, v) for c, v in calls if (c == "train") == bool(tags)]
        if not those:
            continue
        found = tf1_module.run(stock.Module, path, [v for _, v in those], tags)
        for (call, _), one in zip(those, found):
            tf1_module.compare(one, wanted[call], order, "{} {}".format(name, call))


def test_exported_again(tmp_path: Path) -> None:
    """Module.export writes a module that gives the same, with what was trained."""
    stock = pytest.importorskip("tensorflow_hub")
    import tensorflow as tf

    path = converted(FOLDER / "keras2_images" / "module", tmp_path)
    given = tf221_compare.recorded(FOLDER / "keras2_images")["train"]["in"]
    call = tf1_module.Call("default", given, True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        module = stock.Module(path, trainable=True, tags={"train"})
        assert len(tf.compat.v1.get_collection("regularization_losses")) == 1
        module(given["#"])
        assert len(tf.compat.v1.get_collection("update_ops")) == 2
        assert list(module.get_input_info_dict()) == ["images"]
        session.run(tf.compat.v1.global_variables_initializer())
        module.export(str(tmp_path / "again"), session)
    found = [
        tf1_module.run(stock.Module, where, [call], ("train",))
        for where in (path, str(tmp_path / "again"))
    ]
    tf221_compare.assert_all_close(found[1][0]["after"], found[0][0]["after"], 0, "")
    tf221_compare.assert_all_close(found[1][0]["out"], found[0][0]["out"], 0, "")


def test_what_is_refused(tmp_path: Path) -> None:
    """A module that is one already, and a comparison that would compare nothing."""
    own = TESTDATA / "image_bn" / "module"
    with pytest.raises(hub.errors.FormatError, match="already"):
        hub.convert(own, tmp_path / "out", target="tf1-hub")
    with pytest.raises(hub.errors.VerificationError, match="session"):
        hub.convert(own, tmp_path / "out", target="tf1-saved-model", verify=True)


def test_served(tmp_path: Path) -> None:
    """A TF1 SavedModel, by the loader of sessions."""
    import tensorflow as tf

    folder = FOLDER / "keras2_images"
    wanted = tf221_compare.recorded(folder)["call"]
    out = str(tmp_path / "out")
    hub.convert(folder / "module", out, target="tf1-saved-model")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], out)
        signature = loaded.signature_def["serving_default"]
        ((_, given),) = signature.inputs.items()
        found = session.run(
            signature.outputs["default"].name, {given.name: wanted["in"]["#"]}
        )
    tf221_compare.assert_all_close({"output": found}, wanted["out"], 1e-5, "")
