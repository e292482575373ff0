"""Processes that fetch one handle: killed, stopped, and many at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from loopback import Answer, Server, serving, tar_of

import hub_compat as hub

requests = pytest.importorskip("requests")

if not hasattr(os, "fork"):
    pytest.skip("there is no fork", allow_module_level=True)

from killed_handles import content, files, forked  # noqa: E402

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"

# Of more, tests/programs/killed_handles.py tells how.
KILLS = int(os.environ.get("HUB_COMPAT_TEST_KILLS", "200"))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: Any) -> Iterator[Server]:
    """The server, and a cache of the test's own."""
    for name in list(os.environ):
        if name.startswith("TFHUB_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("hub_compat._io.builders._SILENCE", 0.1)
    with serving() as found:
        yield found


def run(server: Server, kind: str, one: int, two: int) -> Dict[str, int]:
    """What tests/programs/killed_handles.py finds."""
    address = server.on("/m/1", Answer(tar_of(files())))
    script = str(PROGRAMS / "killed_handles.py")
    output = subprocess.check_output(
        [sys.executable, script, kind, str(one), str(two), address],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
    )
    found: Dict[str, int] = json.loads(output.decode().splitlines()[-1])
    return found


def test_killed_at_any_point(server: Server) -> None:
    """By bytes, by file system calls, by time: a complete entry or none, no litter."""
    found = run(server, "kill", KILLS, 0)
    assert found.pop("killed") > KILLS * 2 // 3
    assert set(found.values()) == {0}, found


def test_sixteen_processes_with_four_threads(server: Server) -> None:
    """One request for the archive."""
    assert run(server, "together", 16, 4) == {"failed": 0}
    assert len(server.asked) == 1


def holder(server: Server, stall: float) -> Any:
    """A process that holds the lock of a module, and the module's address."""
    body = tar_of(files())
    address = server.on("/m/1", Answer(body, stall=stall), Answer(body))

    def resolve() -> None:
        # A shell that runs the suite in the background has it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        hub.resolve(address)

    process = forked(resolve)
    while not server.asked:
        time.sleep(0.01)
    return process, address


def test_a_dead_holder_is_not_waited_for(server: Server) -> None:
    """Killed midway, it is followed within a second or two."""
    process, address = holder(server, 30)
    os.kill(process, signal.SIGKILL)
    started = time.monotonic()
    assert content(hub.resolve(address)) == files()
    assert time.monotonic() - started < 3
    os.waitpid(process, 0)


def test_a_killed_holder_is_taken_over_from(server: Server) -> None:
    """Who waits for it meanwhile."""
    process, address = holder(server, 30)
    waiting = forked(lambda: hub.resolve(address))
    time.sleep(0.3)
    assert os.waitpid(waiting, os.WNOHANG) == (0, 0)
    os.kill(process, signal.SIGKILL)
    started = time.monotonic()
    assert os.waitpid(waiting, 0)[1] == 0
    assert time.monotonic() - started < 5
    os.waitpid(process, 0)
    assert content(hub.resolve(address)) == files()
    assert len(server.asked) == 2


@pytest.mark.parametrize("stopped", [False, True])
def test_a_holder_that_hangs(
    server: Server, stopped: bool, monkeypatch: Any, caplog: Any
) -> None:
    """It is named, waited for as long as is said, and does no harm when it goes on."""
    monkeypatch.setenv("HUB_COMPAT_LOCK_TIMEOUT", "1.2")
    process, address = holder(server, 3)
    if stopped:
        os.kill(process, signal.SIGSTOP)
    started = time.monotonic()
    assert content(hub.resolve(address)) == files()
    assert 1 < time.monotonic() - started < 2.9
    said = [r.getMessage() for r in caplog.records if str(process) in r.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("Waiting for process {}, which fetches".format(process))
    assert all(("stopped" in text) is stopped for text in said)
    os.kill(process, signal.SIGCONT)
    assert os.waitpid(process, 0)[1] == 0
    assert content(hub.resolve(address)) == files()
    assert len(server.asked) == 2


def test_interrupted(server: Server, tmp_path: Path) -> None:
    """Ctrl-C ends it at once, and leaves nothing."""
    process, address = holder(server, 30)
    while not list((tmp_path / "cache").glob(".*.tmp-*")):
        time.sleep(0.01)
    started = time.monotonic()
    os.kill(process, signal.SIGINT)
    assert os.WEXITSTATUS(os.waitpid(process, 0)[1]) == 1
    assert time.monotonic() - started < 5
    assert {p.name[-5:] for p in (tmp_path / "cache").iterdir()} == {".lock"}


def test_litter_of_other_handles(server: Server, tmp_path: Path) -> None:
    """What one killed process left, the next fetch of any module removes."""
    process, address = holder(server, 30)
    while not list((tmp_path / "cache").glob(".*.tmp-*")):
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert list((tmp_path / "cache").glob(".*.tmp-*"))
    hub.resolve(server.on("/other", Answer(tar_of(files()))))
    assert not list((tmp_path / "cache").glob(".*.tmp-*"))
