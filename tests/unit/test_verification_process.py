"""Models are compared in another process, which may die, hang, or not be there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from signatures_saved import Signatures, edit, module, save

import hub_compat as hub
from hub_compat import errors

pytestmark = pytest.mark.tensorflow


def deadly(tf: Any, v1: Any) -> Signatures:
    """A model with a signature that ends the process, and one that does not."""
    x = v1.placeholder(tf.float32, [None], name="x")
    abort = tf.raw_ops.Abort(error_msg="no more", exit_without_error=False)
    with tf.control_dependencies([abort]):
        bad = tf.identity(x)
    return {"bad": ({"x": x}, {"y": bad}), "good": ({"x": x}, {"y": x * 2.0})}


def test_dead_process_is_not_compared(tmp_path: Path) -> None:
    """What ends the process is listed with how it did; the rest is compared."""
    source = save(tmp_path / "source", deadly)
    report = hub.convert(source, tmp_path / "out", verify=True).verification
    assert report is not None
    (bad,) = report.not_compared
    assert bad.name == "bad"
    assert "the process that ran the original did not survive it" in bad.reason
    assert "it was ended by SIGABRT: " in bad.reason
    assert "no more" in bad.reason
    assert [found.name for found in report.compared] == ["good"]


class Dying:
    """A process that dies, if it is not told where the last ones died."""

    def __init__(self, place: Any, crash: bool, jobs: List[Any]) -> None:
        self.place = place
        self.crash = crash
        self.jobs = jobs

    def ask(self, job: Any) -> Any:
        """Dies, or gives no comparison at all."""
        from hub_compat.converters.verification.process import _Died

        self.jobs.append(job)
        if job.given_up or job.deaths.get(self.place):
            return []
        raise _Died(self.place, "it was ended by A SIGNAL", self.crash)

    def close(self) -> None:
        """It is dead."""

    def alive(self) -> bool:
        """Whether it can be asked again: then another is made."""
        return False


@pytest.mark.parametrize(
    ("stage", "crash", "asked", "mismatches"),
    [
        ("original", True, 2, 0),
        ("objects", True, 2, 1),
        ("session", True, 2, 1),
        ("objects", False, 2, 0),
    ],
)
def test_who_is_to_blame_for_a_death(
    stage: str, crash: bool, asked: int, mismatches: int, monkeypatch: Any
) -> None:
    """The original's is no comparison; of the converted model, what happens again."""
    from hub_compat.converters.verification import process as verification_process
    from hub_compat.converters.verification.job import Job

    jobs: List[Any] = []
    place = (stage, ("serve",), "f")
    monkeypatch.setattr(
        verification_process, "_take", lambda: Dying(place, crash, jobs)
    )
    found = verification_process.compare(Job("a", "b", {}, 1e-5, 0))
    assert len(jobs) == asked
    assert len(found) == mismatches
    assert all("it was ended by A SIGNAL" in each.mismatches[0] for each in found)
    assert dict(jobs[-1].deaths) == (
        {} if mismatches else {place: "it was ended by A SIGNAL"}
    )


def endless(tf: Any, v1: Any) -> Signatures:
    """A loop that never ends, for positive numbers."""
    x = v1.placeholder(tf.float32, [], name="x")
    y = tf.while_loop(lambda i: i >= 0.0, lambda i: (i + 1.0) / 2.0, (x,))
    y = tf.identity(y[0] if isinstance(y, (list, tuple)) else y)
    return {"bad": ({"x": x}, {"y": y}), "good": ({"x": x}, {"y": x * 2.0})}


@pytest.mark.modeless
def test_endless_signature_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is ended after the time that it has for a step."""
    monkeypatch.setenv("HUB_COMPAT_VERIFY_TIMEOUT", "6")
    source = save(tmp_path / "source", endless)
    report = hub.convert(source, tmp_path / "out", verify=True).verification
    assert report is not None
    (bad,) = report.not_compared
    assert "it did not end in 6 s, and was stopped" in bad.reason
    assert [found.name for found in report.compared] == ["good"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> List[Any]:
    """The processes that are started."""
    found: List[Any] = []
    popen = subprocess.Popen

    def record(*arguments: Any, **keywords: Any) -> Any:
        found.append(popen(*arguments, **keywords))
        return found[-1]

    from hub_compat.converters.verification import process as verification_process

    verification_process._close()
    monkeypatch.setattr(subprocess, "Popen", record)
    return found


@pytest.mark.modeless
def test_interrupt_ends_the_process(
    tmp_path: Path, started: List[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs on after Ctrl-C, and nothing is written."""
    import _thread
    import signal

    from hub_compat.converters.verification import process as verification_process

    following = verification_process._Worker._next

    def interrupt(self: Any, seconds: float, place: Any) -> Any:
        if place[2] == "bad":
            threading.Timer(1, _thread.interrupt_main).start()
        return following(self, seconds, place)

    monkeypatch.setattr(verification_process._Worker, "_next", interrupt)
    source = save(tmp_path / "source", endless)
    # Shells have what they run in the background ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            hub.convert(source, tmp_path / "out", verify=True)
    finally:
        signal.signal(signal.SIGINT, before)
    (process,) = started
    assert process.poll() is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_one_process_for_many(tmp_path: Path, started: List[Any]) -> None:
    """TensorFlow is imported once, whatever was said of a model before."""
    for number, name in enumerate(("tf1_frozen", "tables", "tf1_frozen")):
        out = tmp_path / str(number)
        hub.convert(module(name), out, verify=True)
        with pytest.raises(errors.VerificationError, match="does not run on your"):
            hub.verify(
                save(tmp_path / (str(number) + "s"), checked),
                hub.convert(
                    tmp_path / (str(number) + "s"), tmp_path / (str(number) + "c")
                ).destination,
                {"f": {"x": [11.0]}},
            )
    assert len(started) == 1


def checked(tf: Any, v1: Any) -> Signatures:
    """Refuses large numbers."""
    x = v1.placeholder(tf.float32, [None], name="x")
    with tf.control_dependencies([v1.assert_less(x, 10.0)]):
        return {"f": ({"x": x}, {"y": tf.identity(x)})}


def test_without_an_interpreter_this_process_compares(
    tmp_path: Path, started: List[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that has Python in it is not started again."""
    from multiprocessing import spawn

    monkeypatch.setattr(sys, "executable", "/usr/bin/blender")
    monkeypatch.setattr(spawn, "get_executable", lambda: None)
    report = hub.convert(module("tables"), tmp_path / "out", verify=True).verification
    assert report is not None
    assert report.compared
    assert started == []


@pytest.mark.modeless
@pytest.mark.parametrize("command", ["import sys; sys.exit(3)", "print('hello')"])
def test_broken_interpreter_is_no_obstacle(
    command: str, tmp_path: Path, started: List[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the other process does not come up, this one compares."""
    from hub_compat.converters.verification import process as verification_process

    monkeypatch.setattr(verification_process, "_BOOT", command)
    report = hub.convert(module("tf1_frozen"), tmp_path / "o", verify=True).verification
    assert report is not None
    assert report.compared
    # One while the model is converted, and another for the comparison, if it is known
    # by then that the first has ended.
    assert len(started) in (1, 2)


def test_package_that_only_the_program_finds(tmp_path: Path) -> None:
    """The other process has the program's path, from any working directory."""
    program = (
        "import sys; sys.path.remove(''); sys.path.insert(0, {parent!r})\n"
        "from hub_compat.converters.verification import process\n"
        "process.prepare()\n"
        "assert 'tensorflow' not in sys.modules\n"
        "((_, worker),) = process._idle\n"
        "assert worker._messages.get(timeout=60)['here'] != process.os.getpid()\n"
    ).format(parent=os.path.dirname(os.path.dirname(os.path.abspath(hub.__file__))))
    # A file of a name that the other process imports.
    (tmp_path / "pickle.py").write_text("raise SystemExit('the wrong file')")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=str(tmp_path),
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr.decode()


def test_session_is_compared_too(tmp_path: Path) -> None:
    """Inputs that only the session's signature has in another order are found."""

    def build(tf: Any, v1: Any) -> Signatures:
        a = v1.placeholder(tf.float32, [None], name="a")
        b = v1.placeholder(tf.float32, [None], name="b")
        return {"f": ({"a": a, "b": b}, {"y": a * 10.0 + b})}

    def swap(proto: Any) -> None:
        inputs = proto.meta_graphs[0].signature_def["f"].inputs
        inputs["a"].name, inputs["b"].name = inputs["b"].name, inputs["a"].name

    hub.convert(save(tmp_path / "source", build), tmp_path / "out")
    edit(tmp_path / "out", swap)
    with pytest.raises(
        errors.VerificationError, match="'y' by tf.compat.v1.saved_model.load: largest"
    ):
        hub.verify(tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize("stage", ["objects", "session"])
def test_one_that_does_not_load_is_found(stage: str, tmp_path: Path) -> None:
    """Each of the two loaders has to take it, though no signature can be compared."""

    def build(tf: Any, v1: Any) -> Signatures:
        x = v1.placeholder(tf.float32, [4], name="x")
        return {"f": ({"x": x}, {"y": x + v1.FIFOQueue(1, [tf.float32]).dequeue()})}

    def break_it(proto: Any) -> None:
        (meta_graph,) = proto.meta_graphs
        if stage == "session":
            meta_graph.graph_def.node.add(name="bad", op="NobodysOp")
        else:
            meta_graph.object_graph_def.nodes[0].children.add(
                node_id=9999, local_name="bad"
            )

    hub.convert(save(tmp_path / "source", build), tmp_path / "out")
    assert not hub.verify(tmp_path / "source", tmp_path / "out").compared
    edit(tmp_path / "out", break_it)
    how = {"objects": "tf.saved_model.load", "session": "tf.compat.v1.saved_model"}
    with pytest.raises(
        errors.VerificationError, match="does not load in .*, by " + how[stage]
    ):
        hub.verify(tmp_path / "source", tmp_path / "out")


def test_damaged_weights_of_the_original_are_no_comparison(tmp_path: Path) -> None:
    """They are an error, not a reason to compare less."""

    def build(tf: Any, v1: Any) -> Signatures:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        w = v1.get_variable("w", initializer=np.ones([4, 4], np.float32))
        return {"f": ({"x": x}, {"y": tf.matmul(x, w)})}

    source = save(tmp_path / "source", build)
    (shard,) = (source / "variables").glob("*.data-*")
    shard.write_bytes(bytes(255 - byte for byte in shard.read_bytes()))
    with pytest.raises(errors.CorruptModuleError, match="weights of the original"):
        hub.convert(source, tmp_path / "out", verify=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.modeless
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")
def test_memory_of_the_program_does_not_count() -> None:
    """The process ends for what it has had itself, not for what its parent has."""
    ours = np.ones(300 << 20, np.uint8)
    code = (
        "from hub_compat.converters.verification import child as c; print(c._memory())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert 0 < int(found.stdout) < ours.nbytes
