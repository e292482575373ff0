"""The process that compares models, and may die of it: ``process.py``.

It reads jobs from its standard input and writes JSON to its standard output, a message
a line.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import importlib
import json
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from typing import Any, Dict, List

__all__ = ["main"]

# Seconds after which a process that has nothing to do ends.
_IDLE = 120.0
# Bytes; one that has needed more memory ends after the job.
_LARGE = 4 << 30


class _Elsewhere(BaseException):
    """The models need ops that cannot be had here."""


class _Child:
    def __init__(self, token: str) -> None:
        self._token = token
        # What anything prints must not get between the messages.
        self._out = os.fdopen(os.dup(1), "w", encoding="ascii")
        os.dup2(2, 1)
        self._requests: queue.Queue[Dict[str, Any]] = queue.Queue()
        stdin = os.fdopen(os.dup(0), "rb")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        threading.Thread(target=self._listen, args=(stdin,), daemon=True).start()

    def _listen(self, stdin: Any) -> None:
        for line in stdin:
            self._requests.put(pickle.loads(base64.b64decode(line)))
        # Whoever asked is gone.
        _end()

    def say(self, **message: Any) -> None:
        """Sends a message."""
        self._out.write(self._token + json.dumps(message) + "\n")
        self._out.flush()

    def serve(self) -> None:
        """Runs the requested jobs until there are no more."""
        self.say(here=os.getpid())
        from hub_compat._tf import tf

        self.say(ready=tf.__version__)
        while True:
            try:
                request = self._requests.get(timeout=_IDLE)
            except queue.Empty:
                break
            if request["eager"] and not tf.executing_eagerly():
                tf.compat.v1.enable_v2_behavior()
            self._do(request)
            if _memory() > _LARGE:
                break
        # Whoever asks next takes another one.
        self.say(over=True)

    def _do(self, request: Dict[str, Any]) -> None:
        from hub_compat.errors import HubCompatError

        from .job import Job
        from .run import run

        with contextlib.suppress(OSError, TypeError):
            os.chdir(request["folder"])
        try:
            found = run(
                Job(**request["job"]),
                lambda place: self.say(at=place),
                self._provide,
            )
        except _Elsewhere:
            self.say(elsewhere=True)
        except HubCompatError as error:
            text = traceback.format_exc()
            self.say(error=[type(error).__name__, str(error), text])
        except Exception:
            self.say(broken=traceback.format_exc())
        else:
            self.say(result=[dataclasses.asdict(each) for each in found])

    def _provide(self, ops: List[str]) -> bool:
        """Loads what the asking process has of some ops, or of packages at all."""
        from hub_compat._tf.runtime import has_op

        from .op_libraries import load_libraries

        self.say(lacks=ops)
        known = self._requests.get()
        loaded = load_libraries(known["libraries"])
        wanted = [op for op in known["ops"] if not has_op(op)]
        if wanted or not ops:
            for name in known["packages"]:
                if name not in sys.modules:
                    with contextlib.suppress(Exception):
                        importlib.import_module(name)
                        loaded = True
        if [op for op in wanted if not has_op(op)]:
            raise _Elsewhere
        return loaded


def _end() -> None:
    """Ends the process at once, whatever TensorFlow's threads are at."""
    os.kill(os.getpid(), signal.SIGTERM)


def _memory() -> int:
    """The most bytes that this process has had, as far as is known."""
    # On Linux getrusage also counts what the process had that this one was forked from.
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
    return 0


def main() -> None:
    """Serves the process that started this one."""
    # Whoever started it ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _Child(sys.argv[2]).serve()
    _end()
