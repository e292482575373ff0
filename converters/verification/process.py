"""Has another process compare models, as a stranger's graph may end the one it runs in.

A process is started with the first comparison, and kept for the next: importing
TensorFlow takes longer than most comparisons. Where none can be started, or models are
where no other process sees them, this process compares.
"""

from __future__ import annotations

import atexit
import base64
import collections
import contextlib
import json
import logging
import os
import pickle
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from hub_compat import errors
from hub_compat._io import files
from hub_compat.errors import HubCompatError, VerificationError
from hub_compat.formats import SignatureComparison

from .job import FAILS, Job, Place

__all__ = ["compare", "prepare"]

_logger = logging.getLogger(__name__)

# Seconds until a process must have imported TensorFlow, and for each of its steps.
_START = 300.0
_STEP = 600.0
# What a user may set: seconds for each step; 0 has this process compare.
_VARIABLE = "HUB_COMPAT_VERIFY_TIMEOUT"
# After so many deaths, what is left is not tried.
_MOST_DEATHS = 4
_BOOT = (
    "import sys; sys.path[:] = eval(sys.argv[1]); "
    "from hub_compat.converters.verification.child import main; main()"
)
_FLAGS = {
    "isolated": "-I",
    "ignore_environment": "-E",
    "no_user_site": "-s",
    "no_site": "-S",
    "dont_write_bytecode": "-B",
}
_PYTHON = re.compile(r"^(python|pypy)", re.IGNORECASE)
# Signals of a program's own errors; others come from outside.
_CRASHES = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGTRAP")
_LAST_WORDS = re.compile(
    r"Check failed|Fatal|terminate called|what\(\)|\bF(\d{4})? |MemoryError"
)


class _Unavailable(Exception):
    """No other process can do it; says why."""


class _Died(Exception):
    """The process ended while it ran a model."""

    def __init__(self, place: Place, reason: str, crash: bool) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason
        self.crash = crash


class _Over(Exception):
    """The process has ended for want of work, or to give its memory back."""


# What the other process says, a line of JSON each after a token that no library prints:
#
#     "at"         before a step: its place, should the process die in it
#     "lacks"      ops that it does not have; the answer says where they are here
#     "elsewhere"  it cannot get them
#     "error"      an exception of ours, to be raised here
#     "broken"     any other exception: a defect
#     "result"     the comparisons
#     "over"       it ends
#
# All else that it prints is noise of TensorFlow. The end of stderr is kept for
# messages.
class _Worker:
    """Another process, ready to compare."""

    def __init__(self, python: str) -> None:
        self._token = uuid.uuid4().hex
        flags = [f for name, f in _FLAGS.items() if getattr(sys.flags, name, 0)]
        environment = dict(os.environ)
        # This process may have taken what it could get of a GPU's memory.
        environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        self.key = _key()
        # Whether it runs TensorFlow 1 eagerly; None before its first job.
        self.eager: Optional[bool] = None
        self._started = False
        self._messages: queue.Queue[Optional[Dict[str, Any]]] = queue.Queue()
        self._noise: collections.deque[str] = collections.deque(maxlen=60)
        try:
            self._process = subprocess.Popen(
                [python] + flags + ["-c", _BOOT, repr(self.key[1]), self._token],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
        except (OSError, ValueError) as error:
            raise _Unavailable(str(error)) from error
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._listen, self._overhear)
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode("utf-8", "replace")
            if text.startswith(self._token):
                self._messages.put(json.loads(text[len(self._token) :]))
        self._messages.put(None)

    def _overhear(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._noise.append(line.decode("utf-8", "replace").rstrip())

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        for thread in self._threads:
            # They end with the pipes.
            thread.join(10)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()

    def fits(self) -> bool:
        """Whether it has all that this process would give to a new one."""
        return self.key == _key() and (self.eager is None or self.eager == _eager())

    def alive(self) -> bool:
        """Whether the process is there."""
        # Between two jobs it says nothing but that it ends.
        over = self._started and not self._messages.empty()
        return not over and self._process.poll() is None

    def ask(self, job: Job) -> List[SignatureComparison]:
        """Sends a job to the process, and waits for its result.

        Raises:
          _Unavailable: it cannot.
          _Over: the process was about to end.
          _Died: the process ended, or had to be ended.
          HubCompatError: what the job raised.
        """
        self._start()
        place: Place = ("original", (), "")
        try:
            folder: Optional[str] = os.getcwd()
        except OSError:
            folder = None
        self.eager = _eager()
        self._send({"job": job._asdict(), "folder": folder, "eager": self.eager})
        while True:
            message = self._next(_step(), place)
            if "over" in message:
                raise _Over
            if "at" in message:
                stage, tags, name = message["at"]
                place = (stage, tuple(tags), name)
            elif "lacks" in message:
                self._send(_what_is_here(message["lacks"]))
            elif "elsewhere" in message:
                raise _Unavailable("it lacks ops that this process has")
            elif "error" in message:
                raise _error(*message["error"])
            elif "broken" in message:
                raise VerificationError(
                    "The comparison stopped with an unexpected error. Report it as "
                    "a bug of hub_compat. Received: {}".format(
                        message["broken"].strip().splitlines()[-1]
                    )
                ) from _Remote(message["broken"])
            else:
                return [_comparison(found) for found in message["result"]]

    def _start(self) -> None:
        """Waits until the process has imported TensorFlow."""
        if self._started:
            return
        place: Place = ("original", (), "")
        try:
            self._next(_START, place)
            ready = self._next(_START, place)
        except _Died as error:
            raise _Unavailable(error.reason) from error
        from hub_compat._tf import tf

        if ready.get("ready") != tf.__version__:
            raise _Unavailable("it has TensorFlow {}".format(ready.get("ready")))
        self._started = True

    def _send(self, message: Dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            line = base64.b64encode(pickle.dumps(message, protocol=4))
        except Exception as error:  # whatever an object's own code raises
            raise _Unavailable("inputs cannot be sent: {}".format(error)) from error
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            if not self._messages.empty():
                raise _Over from error
            raise _Unavailable("it is gone: {}".format(error)) from error

    def _next(self, seconds: float, place: Place) -> Dict[str, Any]:
        """The next message of the process."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            # For a while only: an interrupt on Windows, and one that a program gives to
            # itself, do not end the waiting.
            with contextlib.suppress(queue.Empty):
                message = self._messages.get(timeout=min(seconds, 0.5))
                if message is None:
                    raise _Died(place, *self._how_it_ended())
                return message
        reason = "it did not end in {:g} s, and was stopped".format(seconds)
        raise _Died(place, reason, crash=False)

    def _how_it_ended(self) -> Tuple[str, bool]:
        """For a person, and whether by an error of its own."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "it closed its output", False
        name = "exit code {}".format(code)
        if code < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
        for thread in self._threads:
            thread.join(5)
        said = [line for line in self._noise if _LAST_WORDS.search(line)]
        if name == "SIGKILL":
            said = ["there may have been too little memory"]
        reason = "it was ended by {}{}".format(name, said and ": " or "")
        text = reason + " ".join(said[-1:])
        # On Windows an exit code says what POSIX says by signals.
        return text[:400], name in _CRASHES or code > 0


class _Remote(Exception):
    """The stage that the other process was in, as the cause of an error."""


_lock = threading.Lock()
_idle: List[Tuple[int, _Worker]] = []


def prepare() -> None:
    """Starts a process, which imports TensorFlow while this one goes on."""
    with contextlib.suppress(_Unavailable):
        worker = _take()
        _give_back(worker)


def compare(job: Job) -> List[SignatureComparison]:
    """As ``run.run``, in another process, where that is possible."""
    if any(map(_only_here, (job.path, job.directory))):
        return _run_here(job)
    deaths: Dict[Place, str] = {}
    seen: Dict[Place, int] = collections.Counter()
    while True:
        given_up = ""
        if sum(seen.values()) >= _MOST_DEATHS:
            given_up = "the process that ran the model ended {} times".format(
                _MOST_DEATHS
            )
        try:
            with _borrowed() as worker:
                return worker.ask(job._replace(deaths=deaths, given_up=given_up))
        except _Over:
            continue
        except _Unavailable as reason:
            _logger.info("verify() compares in this process: %s", reason)
            return _run_here(job._replace(deaths=deaths, given_up=given_up))
        except _Died as died:
            if given_up:
                raise VerificationError(
                    "The models cannot be compared: the process that compares them "
                    "ends each time. Received: {}".format(died.reason)
                ) from died
            seen[died.place] += 1
            if died.place[0] == "original" or not died.crash:
                deaths[died.place] = died.reason
            elif seen[died.place] > 1:
                # Not before the second time: the original may have caused the first.
                return [_crash(died)]


def _crash(died: _Died) -> SignatureComparison:
    """A converted model that ends the process in which its original runs."""
    stage, tags, name = died.place
    if not name:
        raise VerificationError(
            "The converted module does not load: TensorFlow's loader of {} ends the "
            "process. Report it as a bug of hub_compat. Received: {}".format(
                stage, died.reason
            )
        ) from died
    mismatch = "{} by its {}: {}".format(FAILS, stage, died.reason)
    return SignatureComparison(tags, name, (), mismatches=(mismatch,))


def _run_here(job: Job) -> List[SignatureComparison]:
    # It imports TensorFlow, which a process that is only started need not wait for.
    from .run import run

    return run(job)


@contextlib.contextmanager
def _borrowed() -> Iterator[_Worker]:
    worker = _take()
    try:
        yield worker
    except HubCompatError:
        _give_back(worker)
        raise
    except BaseException:
        worker.close()
        raise
    _give_back(worker)


def _take() -> _Worker:
    """A process that nobody uses; a new one, if there is none."""
    if not _step():
        raise _Unavailable("{} is 0".format(_VARIABLE))
    with _lock:
        while _idle:
            pid, worker = _idle.pop()
            # One of before a fork is another's.
            if pid == os.getpid():
                if worker.fits() and worker.alive():
                    return worker
                worker.close()
    return _Worker(_python())


def _give_back(worker: _Worker) -> None:
    with _lock:
        if not _idle and worker.alive():
            _idle.append((os.getpid(), worker))
            return
    worker.close()


@atexit.register
def _close() -> None:
    while _idle:
        pid, worker = _idle.pop()
        if pid == os.getpid():
            worker.close()


def _key() -> Tuple[Any, ...]:
    """The environment that another process shares with this one."""
    prefixes = ("TF_", "XLA_", "CUDA_", "LD_", "DYLD_")
    shared = [(k, v) for k, v in os.environ.items() if k.startswith(prefixes)]
    try:
        here = os.getcwd()
    except OSError:
        here = ""
    path = [entry or here for entry in sys.path if isinstance(entry, str)]
    return tuple(sorted(shared)), path


def _eager() -> bool:
    """Whether TensorFlow 1 has been switched to eager execution in this process."""
    from hub_compat._tf import tf
    from hub_compat._tf.runtime import in_tf1_graph

    return tf.__version__.startswith("1.") and not in_tf1_graph()


def _python() -> str:
    """The interpreter to start; that of a program with Python in it is none."""
    if getattr(sys, "frozen", False):
        raise _Unavailable("this program is no Python interpreter")
    from multiprocessing import spawn

    candidates = [sys.executable, spawn.get_executable()]
    for candidate in candidates:
        path = os.fsdecode(candidate or "")
        if _PYTHON.match(os.path.basename(path)) and os.access(path, os.X_OK):
            return path
    raise _Unavailable("{!r} is no Python interpreter".format(sys.executable))


def _step() -> float:
    try:
        return max(0.0, float(os.environ.get(_VARIABLE, _STEP)))
    except ValueError:
        return _STEP


def _only_here(path: str) -> bool:
    """Whether a directory is in this process's memory."""
    return files.is_remote(path) and path.startswith(("ram:", "memory:"))


def _what_is_here(ops: List[str]) -> Dict[str, Any]:
    """The libraries that the other process may load for some ops."""
    from hub_compat._tf.runtime import has_op

    from .op_libraries import libraries_of, packages

    here = [op for op in ops if has_op(op)]
    found = packages() if here or not ops else []
    return {"ops": here, "libraries": libraries_of(here), "packages": found}


def _error(name: str, text: str, trace: str) -> HubCompatError:
    """An error of the other process."""
    kind: Callable[..., HubCompatError] = getattr(errors, name, VerificationError)
    error = kind(text)
    error.__cause__ = _Remote(trace)
    return error


def _comparison(found: Dict[str, Any]) -> SignatureComparison:
    return SignatureComparison(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    )
