"""Processes that fetch a handle, and are killed: a warm process that forks.

test_handles_processes.py runs it; by hand, with any number of kills and a seed:

    PYTHONPATH=. python tests/programs/killed_handles.py kill 2000 7
    PYTHONPATH=. python tests/programs/killed_handles.py together 16 4
"""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import requests  # noqa: F401
import urllib3  # noqa: F401
from loopback import Answer, serving, tar_of

import hub_compat as hub
from hub_compat._handles import kaggle, resolving, transfer  # noqa: F401
from hub_compat._io import exchange, publish  # noqa: F401

# The file system calls before or after one of which a process is killed.
CALLS = "open mkdir rename replace rmdir remove unlink fsync close scandir".split()
CALLS += ["listdir", "stat", "lstat"]
_PIECE = 4096


def files() -> Dict[str, bytes]:
    """A module of 120 kB."""
    chance = random.Random(0)
    found = {"saved_model.pb": b"\x08\x01", "assets/empty.txt": b""}
    for number in range(2):
        name = "variables/variables.data-0000{}-of-00002".format(number)
        found[name] = bytes(chance.getrandbits(8) for _ in range(60000))
    return found


def content(folder: str) -> Dict[str, bytes]:
    """The files of a directory; nothing where there is none."""
    found = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def forked(work: Callable[[], Any]) -> int:
    """Has a child do some work; returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)


def die() -> None:
    """Ends this process as the system does that is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def counting(tell: Callable[[], None]) -> None:
    """Has each file system call told of, before and after it."""

    def told(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            tell()
            result = function(*arguments, **options)
            tell()
            return result

        return call

    for name in CALLS:
        setattr(os, name, told(getattr(os, name)))
    builtins.open = told(builtins.open)


def dying_at_call(number: int) -> None:
    """Has this process die at the nth file system call."""
    left = [number]

    def tell() -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    counting(tell)


def dying_at_byte(number: int) -> None:
    """Has this process die when so many bytes were received."""
    original = transfer.Body.read
    got = [0]

    def read(self: Any, size: int = _PIECE) -> bytes:
        data = original(self, min(size, _PIECE))
        got[0] += len(data)
        if got[0] >= number:
            die()
        return data

    transfer.Body.read = read  # type: ignore[method-assign]


def calls_of(address: str) -> int:
    """How many file system calls there are in a fetch."""
    count = [0]

    def add() -> None:
        count[0] += 1

    read, write = os.pipe()

    def work() -> None:
        counting(add)
        hub.resolve(address)
        os.write(write, str(count[0]).encode())

    os.waitpid(forked(work), 0)
    return int(os.read(read, 100))


def killing(base: str, kills: int, seed: int) -> Dict[str, int]:
    """Kills a process that fetches, at so many points; says what was wrong after."""
    whole = files()
    body = tar_of(whole)
    cache = os.path.join(base, "cache")
    os.environ["TFHUB_CACHE_DIR"] = cache
    chance = random.Random(seed)
    wrong = dict.fromkeys(("half", "offline", "next", "litter", "outside"), 0)
    address = sys.argv[4]
    entry = os.path.join(cache, hashlib.sha1(address.encode()).hexdigest())
    total = calls_of(address)
    started = time.monotonic()
    shutil.rmtree(entry)
    os.waitpid(forked(lambda: hub.resolve(address)), 0)
    needed = time.monotonic() - started
    killed = 0
    for number in range(kills):
        # Nothing there, or an entry that has lost a file.
        if number % 3:
            shutil.rmtree(entry, ignore_errors=True)
        else:
            os.remove(os.path.join(entry, "saved_model.pb"))
        before = content(entry)
        how = number % 4
        place = (number + chance.random()) / kills

        def work(how: int = how, place: float = place) -> None:
            if how in (0, 2):
                dying_at_call(1 + int(place * total))
            elif how == 1:
                dying_at_byte(int(place * len(body)))
            hub.resolve(address)

        child = forked(work)
        if how == 3:
            time.sleep(place * needed)
            os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        there = content(entry)
        wrong["half"] += there not in ({}, before, whole)
        os.environ["HUB_COMPAT_OFFLINE"] = "1"
        try:
            wrong["offline"] += content(hub.resolve(address)) != whole
        except hub.errors.HandleError:
            wrong["offline"] += there == whole
        del os.environ["HUB_COMPAT_OFFLINE"]
        if there == whole:
            # Nothing would be fetched, and so nothing cleared away.
            os.remove(os.path.join(entry, "saved_model.pb"))
        wrong["next"] += content(hub.resolve(address)) != whole
        names = {n[:41].lstrip(".")[:40] for n in os.listdir(cache)}
        wrong["outside"] += names != {os.path.basename(entry)}
        wrong["litter"] += any("tmp" in n or "old" in n for n in os.listdir(cache))
    return dict(wrong, killed=killed)


def together(base: str, processes: int, threads: int) -> Dict[str, int]:
    """Has processes and threads ask for one module; counts what they got."""
    os.environ["TFHUB_CACHE_DIR"] = os.path.join(base, "cache")
    whole = files()
    address = sys.argv[4]

    def work() -> None:
        found: List[bool] = []

        def ask() -> None:
            found.append(content(hub.resolve(address)) == whole)

        running = [threading.Thread(target=ask) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert found == [True] * threads, found

    children = [forked(work) for _ in range(processes)]
    return {"failed": sum(os.waitpid(child, 0)[1] != 0 for child in children)}


def main() -> None:
    """Runs one of the two, and prints what was found as JSON."""
    kind, one, two = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.environ["HUB_COMPAT_RETRIES"] = "2"
    # In memory, where that goes: fsync takes most of the time elsewhere.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as base:
        if len(sys.argv) < 5:
            with serving() as server:
                sys.argv.append(server.on("/m/1", Answer(tar_of(files()))))
                found = _run(kind, base, one, two)
        else:
            found = _run(kind, base, one, two)
    print(json.dumps(found))


def _run(kind: str, base: str, one: int, two: int) -> Dict[str, int]:
    return killing(base, one, two) if kind == "kill" else together(base, one, two)


if __name__ == "__main__":
    main()
