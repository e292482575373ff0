"""What the init op of a TF1 SavedModel does, once a loader has restored the rest.

The values are those of TensorFlow 1.15.5's session on the same programs.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
import runtimes
from tf1_loops import old_control_flow

import hub_compat as hub
from hub_compat import errors, provenance

pytestmark = pytest.mark.tensorflow


def export(path: Path, program: Callable[[Any, Any], Dict[str, Any]]) -> Path:
    """Writes a SavedModel: the program says ``outputs``, ``main_op`` and the rest."""
    import tensorflow as tf

    v1 = tf.compat.v1
    info = v1.saved_model.build_tensor_info
    with tf.Graph().as_default(), v1.Session() as session:
        w = v1.get_variable("w", initializer=[3.0, 4.0], use_resource=False)
        made = program(w, v1)
        session.run(v1.global_variables_initializer())
        session.run(made.pop("trained", ()))
        outputs = {key: info(value) for key, value in made.pop("outputs").items()}
        main_op = made.pop("main_op", None)
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": v1.saved_model.build_signature_def({}, outputs, "p")},
            main_op=getattr(main_op, "op", main_op),
            **made,
        )
        builder.save()
    return path


def left_out_of_the_saver(w: Any, v1: Any) -> Dict[str, Any]:
    """A weight that the init op alone sets."""
    e = v1.get_variable("e", initializer=[9.0, 9.0], use_resource=False)
    saver = v1.train.Saver([w])
    return dict(outputs={"y": w + e}, main_op=e.assign([1.0, 2.0]), saver=saver)


def computed_from_another(w: Any, v1: Any) -> Dict[str, Any]:
    """A weight that is made of another."""
    e = v1.get_variable("e", initializer=[9.0, 9.0], use_resource=True)
    saver = v1.train.Saver([w])
    main_op = e.assign(w / v1.norm(w))
    return dict(outputs={"y": w + e}, main_op=main_op, saver=saver)


def computed_from_itself(w: Any, v1: Any) -> Dict[str, Any]:
    """A weight that is restored, and then changed."""
    return dict(outputs={"y": w + 0.0}, main_op=w.assign(w * w))


def initialized_again(w: Any, v1: Any) -> Dict[str, Any]:
    """What the checkpoint holds does not count: the initializers run after it."""
    e = v1.get_variable("e", initializer=[5.0, 6.0])
    trained = v1.group(w.assign([0.5, 0.5]), e.assign([0.5, 0.5]))
    outputs = {"w": w * 1.0, "e": e + 0.0}
    main_op = v1.global_variables_initializer()
    return dict(outputs=outputs, main_op=main_op, trained=trained)


def written_in_part(w: Any, v1: Any) -> Dict[str, Any]:
    """A row that is exchanged, and a number that is counted up."""
    n = v1.get_variable("n", initializer=7, trainable=False)
    main_op = v1.group(v1.scatter_update(w, [1], [8.0]), v1.assign_add(n, 5))
    return dict(outputs={"w": w * 1.0, "n": n + 0}, main_op=main_op)


def in_a_branch(w: Any, v1: Any) -> Dict[str, Any]:
    """A weight that is set only where it is not yet."""
    e = v1.get_variable("e", initializer=[9.0, 9.0], use_resource=True)
    saver = v1.train.Saver([w])
    known = v1.is_variable_initialized(e)
    main_op = v1.cond(known, v1.no_op, lambda: e.assign(w + 1.0).op)
    return dict(outputs={"y": w + e}, main_op=main_op, saver=saver)


def in_a_branch_by_reference(w: Any, v1: Any) -> Dict[str, Any]:
    """The same, of a variable that is a reference."""
    e = v1.get_variable("e", initializer=[9.0, 9.0], use_resource=False)
    saver = v1.train.Saver([w])
    known = v1.is_variable_initialized(e)
    with old_control_flow():
        main_op = v1.cond(known, v1.no_op, lambda: e.assign(w + 1.0).op)
    return dict(outputs={"y": w + e}, main_op=main_op, saver=saver)


def words(w: Any, v1: Any) -> Dict[str, Any]:
    """A variable of strings."""
    e = v1.get_variable("e", initializer=["q", "q"], use_resource=True)
    saver = v1.train.Saver([w])
    main_op = e.assign(v1.as_string(v1.cast(w, v1.int32)))
    outputs = {"y": w * 1.0, "words": e.read_value()}
    return dict(outputs=outputs, main_op=main_op, saver=saver)


WANTED = {
    left_out_of_the_saver: {"y": [4.0, 6.0]},
    computed_from_another: {"y": [3.6, 4.8]},
    computed_from_itself: {"y": [9.0, 16.0]},
    initialized_again: {"w": [3.0, 4.0], "e": [5.0, 6.0]},
    written_in_part: {"w": [3.0, 8.0], "n": 12},
    in_a_branch: {"y": [7.0, 9.0]},
    in_a_branch_by_reference: {"y": [7.0, 9.0]},
    words: {"y": [3.0, 4.0], "words": [b"3", b"4"]},
}


def check(path: Path, wanted: Dict[str, Any], names: List[str]) -> None:
    """Loads a model, and compares what its signature gives and its variables."""
    with runtimes.Runtime(lambda: hub.load(path)) as run:
        found = run.run(run.loaded.signatures["serving_default"]())
        for key, value in wanted.items():
            if found[key].dtype == object:
                assert list(found[key]) == value
            else:
                np.testing.assert_allclose(found[key], value, rtol=1e-6)
        assert sorted(v.name.split(":")[0] for v in run.loaded.variables) == names


@pytest.mark.parametrize("program", list(WANTED), ids=lambda each: each.__name__)
def test_variables_that_it_sets(program: Any, tmp_path: Path) -> None:
    """They are weights, with the values that a session would give them."""
    source = export(tmp_path / "source", program)
    report = hub.convert(source, tmp_path / "out", verify=True)
    assert report.warnings == ()
    assert report.verification is not None
    assert not report.verification.not_compared
    code = program.__code__
    names = ["w"] + [n for n in "en" if n in code.co_varnames + code.co_cellvars]
    for path in (source, tmp_path / "out"):
        check(path, WANTED[program], sorted(names))
    if program is not words:
        with runtimes.Runtime(lambda: hub.load(source)) as run:
            trained = [v.name[:1] for v in run.loaded.trainable_variables]
            assert sorted(trained) == sorted(set(names) - {"n"})


def test_tuned_values_are_kept(tmp_path: Path) -> None:
    """save() writes what training made of such a weight; no init op undoes it."""
    source = export(tmp_path / "source", computed_from_another)
    with runtimes.Runtime(lambda: hub.load(source)) as run:
        variables = {v.name.split(":")[0]: v for v in run.loaded.variables}
        run.run(variables["e"].read_value())
        assigned = variables["e"].assign([100.0, 200.0])
        if run.session is not None:
            run.run(assigned)
        hub.save(run.loaded, tmp_path / "tuned", session=run.session)
    check(tmp_path / "tuned", {"y": [103.0, 204.0]}, ["e", "w"])


def test_random_values_are_named(tmp_path: Path) -> None:
    """What each session would draw anew is drawn once, with a warning."""

    def program(w: Any, v1: Any) -> Dict[str, Any]:
        e = v1.get_variable("e", initializer=[9.0, 9.0])
        main_op = e.assign(v1.random.uniform([2], 1.0, 2.0))
        saver = v1.train.Saver([w])
        return dict(outputs={"y": e + 0.0}, main_op=main_op, saver=saver)

    source = export(tmp_path / "source", program)
    report = hub.convert(source, tmp_path / "out")
    (said,) = report.warnings
    assert "'e' to random numbers of RandomUniform" in said
    for _ in range(2):
        with runtimes.Runtime(lambda: hub.load(tmp_path / "out")) as run:
            found = run.run(run.loaded.signatures["serving_default"]()["y"])
            assert np.all((found >= 1.0) & (found < 2.0))


def test_what_it_does_beside_is_done(tmp_path: Path, capfd: Any) -> None:
    """Whoever loads the model does it, each time, and convert() does not."""
    import tensorflow as tf

    v1 = tf.compat.v1
    written = tmp_path / "written"

    def program(w: Any, v1: Any) -> Dict[str, Any]:
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2]), -1
        )
        assigned = w.assign(w * 2.0)
        filled = v1.tables_initializer()
        with v1.control_dependencies([assigned, filled]):
            file = tf.io.write_file(str(written), v1.as_string(w)[0])
            found = v1.print("found", table.lookup(v1.constant(["b"])))
            branch = v1.cond(w[0] > 5.0, lambda: v1.group(v1.print("in", w)), v1.no_op)
        loop = v1.while_loop(lambda i: i < 2, _one_more, [v1.constant(0)])
        return dict(outputs={"y": w + 0.0}, main_op=v1.group(file, found, branch, loop))

    def _one_more(i: Any) -> Any:
        with v1.control_dependencies([v1.print("turn", i)]):
            return i + 1

    source = export(tmp_path / "source", program)
    report = hub.convert(source, tmp_path / "out", verify=True)
    # The original has written it.
    assert written.read_bytes() == b"6.000000"
    (said,) = report.warnings
    assert "its initializers or updates: writes files (WriteFile)" in said
    assert report.tables == 1
    for path in (source, tmp_path / "out", tmp_path / "saved"):
        written.unlink()
        capfd.readouterr()
        check(path, {"y": [6.0, 8.0]}, ["w"])
        assert written.read_bytes() == b"6.000000"
        printed = capfd.readouterr().err
        for text in ("found [2]", "in [6 8]", "turn 0", "turn 1"):
            assert printed.count(text) == 1
        if path == source:
            with runtimes.Runtime(lambda: hub.load(source)) as run:
                run.run(run.loaded.variables[0].read_value())
                hub.save(run.loaded, tmp_path / "saved", session=run.session)
    written.unlink()
    hub.convert(source, tmp_path / "other")
    assert not written.exists()
    with tf.Graph().as_default(), v1.Session() as session:
        capfd.readouterr()
        v1.saved_model.load(session, ["serve"], str(tmp_path / "out"))
        assert written.exists()
        assert capfd.readouterr().err.count("in [6 8]") == 1


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("holds", [True, False])
def test_checks_of_it(holds: bool, old: bool, tmp_path: Path) -> None:
    """One that does not hold keeps the model from being loaded, as in a session."""
    import tensorflow as tf

    def program(w: Any, v1: Any) -> Dict[str, Any]:
        with old_control_flow() if old else contextlib.nullcontext():
            least = w - (2.0 if holds else 3.0)
            check = v1.assert_positive(least, message="too small")
        return dict(outputs={"y": w + 0.0}, main_op=check)

    source = export(tmp_path / "source", program)
    assert hub.convert(source, tmp_path / "out").warnings == ()
    for path in (source, tmp_path / "out"):
        if holds:
            check(path, {"y": [3.0, 4.0]}, ["w"])
            continue
        # In a graph, a session runs it with the initializers of variables.
        with pytest.raises(
            (errors.CorruptModuleError, tf.errors.InvalidArgumentError),
            match="too small",
        ) as caught:
            check(path, {"y": [3.0, 4.0]}, ["w"])
        if tf.executing_eagerly():
            assert "A check in the init op of the module" in str(caught.value)


def test_what_cannot_be_done_is_named(tmp_path: Path, capfd: Any) -> None:
    """Code of another process, and what is read before it is set; the rest is done."""

    def program(w: Any, v1: Any) -> Dict[str, Any]:
        code = v1.py_func(lambda: np.float32(1), [], v1.float32, name="code")
        taken = v1.print("taken", code, name="taken")
        before = v1.print("before", w * 1.0, name="before")
        with v1.control_dependencies([before]):
            assigned = w.assign([2.0, 2.0])
        main_op = v1.group(code, taken, assigned, v1.print("hello"))
        return dict(outputs={"y": w + 0.0}, main_op=main_op)

    source = export(tmp_path / "source", program)
    (said,) = hub.convert(source, tmp_path / "out").warnings
    assert "code (PyFunc: PyFunc needs the program" in said
    assert "(PrintV2: it uses an output of PyFunc)" in said
    assert "(PrintV2: it reads the variable 'w' before it is set)" in said
    capfd.readouterr()
    check(tmp_path / "out", {"y": [2.0, 2.0]}, ["w"])
    printed = capfd.readouterr().err
    assert printed.count("hello") == 1
    assert "taken" not in printed


def test_values_that_cannot_be_computed(tmp_path: Path) -> None:
    """What needs such a variable is left out: its old value would be another."""

    def program(w: Any, v1: Any) -> Dict[str, Any]:
        value = v1.py_func(lambda: np.array([1, 2], np.float32), [], v1.float32)
        return dict(outputs={"y": w + 0.0}, main_op=w.assign(value))

    source = export(tmp_path / "source", program)
    with pytest.raises(errors.ConversionError, match="the init op sets it.*PyFunc"):
        hub.convert(source, tmp_path / "out")


@pytest.mark.parametrize("once", [False, True])
def test_iterators(once: bool, tmp_path: Path) -> None:
    """One that the init op starts, or its first use, goes on from call to call."""
    import tensorflow as tf

    v1 = tf.compat.v1
    path = tmp_path / "source"
    with tf.Graph().as_default(), v1.Session() as session:
        dataset = tf.data.Dataset.range(10).map(lambda i: i * 2).repeat().batch(2)
        make = v1.data.make_initializable_iterator
        iterator = (v1.data.make_one_shot_iterator if once else make)(dataset)
        v1.get_variable("w", initializer=3.0)
        session.run(v1.global_variables_initializer())
        info = v1.saved_model.build_tensor_info(iterator.get_next())
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"next": v1.saved_model.build_signature_def({}, {"n": info}, "p")},
            main_op=None if once else iterator.initializer,
        )
        builder.save()
    report = hub.convert(path, tmp_path / "out")
    assert report.warnings == ()
    with runtimes.Runtime(lambda: hub.load(tmp_path / "out")) as run:
        for wanted in ([0, 2], [4, 6]):
            if run.session is None or wanted == [0, 2]:
                next_one = run.loaded.signatures["next"]()["n"]
            assert run.run(next_one).tolist() == wanted
    with tf.Graph().as_default(), v1.Session() as session:
        meta_graph = v1.saved_model.load(session, ["serve"], str(tmp_path / "out"))
        tensor = meta_graph.signature_def["next"].outputs["n"].name
        assert [session.run(tensor).tolist() for _ in range(2)] == [[0, 2], [4, 6]]


def test_model_without_signatures(tmp_path: Path) -> None:
    """It loads, is called by nothing, and has its variables."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("w", initializer=[1.0, 2.0])
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(tmp_path / "source"))
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()
    hub.convert(tmp_path / "source", tmp_path / "out")
    for directory in ("source", "out"):
        with runtimes.Runtime(lambda d=directory: hub.load(tmp_path / d)) as run:
            assert dict(run.loaded.signatures) == {}
            assert not callable(run.loaded)
            (w,) = run.loaded.variables
            assert run.run(w.read_value()).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("needed", [False, True])
def test_asset_that_is_not_there(needed: bool, tmp_path: Path) -> None:
    """A warning where nothing reads it, an error where a table is filled from it."""
    import tensorflow as tf

    def program(w: Any, v1: Any) -> Dict[str, Any]:
        (tmp_path / "words.txt").write_text("a\nb\n")
        path = tf.constant(str(tmp_path / "words.txt"))
        v1.add_to_collection("asset_filepaths", path)
        made = dict(
            outputs={"y": w + 0.0},
            assets_collection=v1.get_collection("asset_filepaths"),
        )
        if needed:
            index = tf.lookup.TextFileIndex
            initializer = tf.lookup.TextFileInitializer(
                path, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
            )
            tf.lookup.StaticHashTable(initializer, -1)
            made["main_op"] = v1.tables_initializer()
        return made

    source = export(tmp_path / "source", program)
    (source / "assets" / "words.txt").unlink()
    if needed:
        with pytest.raises(errors.CorruptModuleError, match="'words.txt'"):
            hub.load(source)
        return
    check(source, {"y": [3.0, 4.0]}, ["w"])
    (said,) = hub.convert(source, tmp_path / "out").warnings
    assert "'words.txt', which is not there" in said
    facts = provenance.read(str(tmp_path / "out"))
    assert facts is not None
    assert facts.warnings == (said,)
