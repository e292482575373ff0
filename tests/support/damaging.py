"""Damages modules and puts them through every entry point, in a process that may die.

``python damaging.py WORK SEED FIRST COUNT NAME...`` writes a line of JSON before
and after each thing done; ``run`` starts it, and again after each death of it. By
hand, ``python damaging.py --all SEED COUNT [NAME...]`` sums up a large run.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

HERE = Path(__file__).resolve().parent
TESTDATA = HERE.parents[1] / "testdata"
# Seconds after which something hangs.
PATIENCE = 10

MODULES = {
    "hub": "image_bn/module",
    "hub_text": "text_embedding/module",
    "hub_loops": "while_loop/module",
    "tf1": "tf1_batch_norm/module",
    "tf1_parts": "tf1_partitioned/module",
    "keras2": "tf221/keras2_text/module",
    "keras3": "tf221/keras3_export/module",
    "structures": "tf221/module_structures/module",
}


class Outcome(NamedTuple):
    """What became of one action on one damaged module."""

    name: str
    number: int
    damage: str
    action: str
    # "ok", "ours", "foreign", "wrong" values, "abort", "hang"; "late" where it loads
    # and a call says that it is damaged
    result: str
    detail: str = ""


def source_of(name: str) -> Path:
    """The undamaged module; names may end in ``.pbtxt``, ``.cpb``, ``.converted``."""
    return TESTDATA / MODULES[name.split(".")[0]]


def prepare(name: str, folder: Path) -> None:
    """Writes an undamaged module, in the encoding that its name says."""
    from google.protobuf import text_format

    import hub_compat as hub
    from hub_compat._tf import saved_model_pb2

    encoding = name.partition(".")[2]
    if encoding == "converted":
        hub.convert(source_of(name), folder, link="copy")
        return
    shutil.copytree(str(source_of(name)), str(folder))
    binary = folder / "saved_model.pb"
    if encoding:
        data = binary.read_bytes()
        binary.unlink()
        if encoding == "pbtxt":
            proto = saved_model_pb2.SavedModel.FromString(data)
            text = text_format.MessageToString(proto)
            (folder / "saved_model.pbtxt").write_text(text, encoding="utf-8")
        else:
            from chunked import split_model

            (folder / "saved_model.cpb").write_bytes(split_model(data))


# ---- damages


def damaged(folder: Path, other: Path, rng: random.Random) -> str:
    """Damages one file of a module; says how."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    # The model's own file matters most, and is one of many.
    weights = [
        4 if p.name.startswith(("saved_model", "variables.i")) else 1 for p in files
    ]
    path = rng.choices(files, weights)[0]
    name = path.relative_to(folder).as_posix()
    special: List[Tuple[str, Callable[[Path, random.Random], Any]]] = []
    if path.name == "saved_model.pb":
        special = [("proto", change_proto)] * 6
    elif path.suffix == ".index":
        special = [("entry", change_index)] * 6
    elif path.suffix == ".json":
        special = [("json", change_json)] * 6
    twin = other / name
    if twin.is_file():
        special.append(("swapped", lambda p, _: shutil.copyfile(str(twin), str(p))))
    kind, change = rng.choice(_ANY + special)
    found = change(path, rng)
    return "{}: {}{}".format(name, kind, " " + found if isinstance(found, str) else "")


def _rewrite(change: Callable[[bytearray, random.Random], Any]) -> Any:
    def rewrite(path: Path, rng: random.Random) -> None:
        data = bytearray(path.read_bytes())
        change(data, rng)
        path.unlink()
        path.write_bytes(bytes(data))

    return rewrite


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[
        rng.choice(
            [0, len(data) // 2, max(0, len(data) - 1), rng.randint(0, len(data))]
        ) :
    ]


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 2, 8])):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _stretch(fill: Callable[[random.Random, int], bytes]) -> Any:
    def change(data: bytearray, rng: random.Random) -> None:
        start = rng.randint(0, len(data))
        size = min(rng.choice([1, 8, 64, 1024]), len(data) - start)
        data[start : start + size] = fill(rng, size)

    return change


def _noise(rng: random.Random, size: int) -> bytes:
    return bytes(rng.getrandbits(8) for _ in range(size))


def _garbage(data: bytearray, rng: random.Random) -> None:
    data[:] = _noise(rng, min(len(data), 4096))


def _doubled(data: bytearray, rng: random.Random) -> None:
    start = rng.randint(0, len(data))
    data[start:start] = data[start : start + rng.choice([1, 16, 256])]


def _to_folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


_ANY: List[Tuple[str, Any]] = [
    ("cut", _rewrite(_cut)),
    ("flipped", _rewrite(_flip)),
    ("flipped", _rewrite(_flip)),
    ("flipped", _rewrite(_flip)),
    ("zeros", _rewrite(_stretch(lambda _, size: bytes(size)))),
    ("noise", _rewrite(_stretch(_noise))),
    ("removed", _rewrite(_stretch(lambda _, size: b""))),
    ("doubled", _rewrite(_doubled)),
    ("garbage", _rewrite(_garbage)),
    ("lost", lambda path, _: path.unlink()),
    ("a folder", _to_folder),
    ("a pipe", lambda path, _: (path.unlink(), os.mkfifo(str(path)))),
]


def change_proto(path: Path, rng: random.Random) -> str:
    """Changes a field of a SavedModel, so that it still parses."""
    from hub_compat._tf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    message: Any = model
    told = []
    while True:
        fields = message.ListFields()
        if not fields:
            break
        field, value = rng.choice(fields)
        told.append(field.name)
        is_map = field.message_type and field.message_type.GetOptions().map_entry
        if is_map:
            key = rng.choice(sorted(value))
            if rng.random() < 0.1:
                del value[key]
                break
            if not hasattr(value[key], "ListFields"):
                break
            message = value[key]
        elif hasattr(value, "append") or hasattr(value, "add"):
            place = rng.randrange(len(value))
            if rng.random() < 0.1:
                del value[place]
                break
            if field.message_type:
                message = value[place]
            else:
                value[place] = other_value(value[place], rng)
                break
        elif field.message_type:
            if rng.random() < 0.05:
                message.ClearField(field.name)
                break
            message = value
        else:
            setattr(message, field.name, other_value(value, rng))
            break
    path.unlink()
    path.write_bytes(model.SerializeToString())
    return "/".join(told)


def other_value(value: Any, rng: random.Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice(
            [0, 1, 2, 7, 1 << 20, (1 << 31) - 1, max(0, value - 1), value + 1]
        )
    if isinstance(value, float):
        return rng.choice([0.0, 1.0, float("nan")])
    if isinstance(value, bytes):
        return rng.choice([b"", value[:-1], value + b"x", b"\xff\0"])
    return rng.choice(
        ["", value[:-1], value + "x", "nothing", "../" + value, value * 2]
    )


def change_index(path: Path, rng: random.Random) -> str:
    """Changes an entry of a checkpoint's index, checksums included."""
    from hub_compat.converters.checkpoint import bundle, sstable

    items = dict(sstable.read_table(path.read_bytes(), str(path)))
    key = rng.choice(sorted(items))
    what = rng.choice(["shape", "dtype", "size", "offset", "shard", "gone", "noise"])
    if what == "gone":
        del items[key]
    elif what == "noise" or not key:
        data = bytearray(items[key])
        _flip(data, rng)
        items[key] = bytes(data)
    else:
        entry = bundle.decode_entry(items[key])
        huge = rng.choice([0, 1, 3, 1 << 20, 1 << 31, (1 << 62) + 1, (1 << 63) - 1])
        change: Dict[str, Any] = {
            "shape": {
                "shape": rng.choice([(huge,), (huge, huge), entry.shape + (huge,)])
            },
            "dtype": {"dtype": rng.choice([0, 1, 2, 7, 20, 21, 99, 101])},
            "size": {"size": huge},
            "offset": {"offset": huge},
            "shard": {"shard_id": min(huge, 1 << 30)},
        }[what]
        items[key] = bundle.encode_entry(entry._replace(**change))
    path.unlink()
    path.write_bytes(sstable.write_table(sorted(items.items())))
    return what


def change_json(path: Path, rng: random.Random) -> str:
    """Puts something else in place of a value."""
    facts = json.loads(path.read_text())
    name = rng.choice(sorted(facts))
    facts[name] = rng.choice(
        [None, 1, "x", [], {}, [[[]]], [1], True, {"a": [1]}, -1.5]
    )
    path.write_text(json.dumps(facts))
    return name


# ---- what is done with them


def values_of(loaded: Any) -> Dict[str, Any]:
    """Variables of an object, and outputs of its signatures, as arrays."""
    from hub_compat._tf import tf

    found = {}
    for number, variable in enumerate(getattr(loaded, "variables", None) or ()):
        found["variable {}".format(number)] = variable.read_value()
    for name in sorted(getattr(loaded, "signatures", {})):
        function = loaded.signatures[name]
        inputs = {
            key: _some(spec)
            for key, spec in function.structured_input_signature[1].items()
        }
        for key, output in function(**inputs).items():
            found[name + " " + key] = output
    if tf.executing_eagerly():
        return {key: value.numpy() for key, value in found.items()}
    v1 = tf.compat.v1
    with v1.Session() as session:
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        return dict(session.run(found))


def _some(spec: Any) -> Any:
    from hub_compat._tf import tf

    shape = [2 if size is None else size for size in spec.shape.as_list()]
    if spec.dtype == tf.string:
        return tf.fill(shape, "a b")
    return tf.cast(tf.fill(shape, 1), spec.dtype)


def same(one: Dict[str, Any], other: Dict[str, Any]) -> str:
    """Where two results of ``values_of`` differ; empty if they do not."""
    import numpy as np

    for key in sorted(set(one) & set(other)):
        a, b = np.asarray(one[key]), np.asarray(other[key])
        if a.shape != b.shape or a.dtype != b.dtype:
            return key
        if a.dtype.kind in "fc":
            if not np.allclose(a, b, 1e-4, 1e-6, equal_nan=True):
                return key
        elif not np.array_equal(a, b):
            return key
    return ""


def in_graph(action: Callable[[], Any]) -> Any:
    """Does something in a graph of its own, where operations do not run eagerly."""
    from hub_compat._tf import tf

    if tf.executing_eagerly():
        return action()
    with tf.Graph().as_default():
        return action()


class _Hang(BaseException):
    """An action takes too long. No handler of exceptions may keep it."""


class _Late(Exception):
    """A loaded module cannot be called."""


class Actions:
    """What a user does with a module."""

    def __init__(self, work: Path, names: List[str]) -> None:
        self._work = work
        self._right: Dict[str, Dict[str, Any]] = {}
        self._loaded: Any = None
        for name in names:
            in_graph(functools.partial(self._remember, name))

    def _remember(self, name: str) -> None:
        import hub_compat as hub

        self._right[name] = values_of(hub.load(self._work / "whole" / name))

    def run(self, name: str, path: Path, action: str) -> Tuple[str, str]:
        """Does one thing; returns result and detail."""
        from hub_compat import errors

        try:
            found = in_graph(lambda: getattr(self, action)(name, path))
            return ("wrong", found) if found else ("ok", "")
        except _Late as late:
            return "late", str(late)
        except _Hang as hang:
            return "hang", str(hang)
        except errors.HubCompatError as error:
            return "ours", "{}: {}".format(type(error).__name__, error)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            ours = [
                f
                for f in where
                if "hub_compat" in f.filename or "converters" in f.filename
            ]
            last = ours[-1] if ours else where[-1]
            return "foreign", "{} at {}:{}: {}".format(
                type(error).__name__, Path(last.filename).name, last.lineno, error
            )

    def detect(self, name: str, path: Path) -> str:
        """What is it?"""
        import hub_compat as hub

        hub.detect(path)
        return ""

    def attached(self, name: str, path: Path) -> str:
        """A message that is attached to few of them."""
        import hub_compat as hub

        hub.get_attached_message(path, "image_module_info", hub.ImageModuleInfo)
        return ""

    def load(self, name: str, path: Path) -> str:
        """Loads and calls it."""
        import hub_compat as hub

        return self._compare(name, hub.load(path))

    def _compare(self, name: str, loaded: Any) -> str:
        try:
            return same(self._right[name], values_of(loaded))
        except Exception as error:
            # Calls, and sessions that initialize, are TensorFlow's.
            text = "{}: {}".format(type(error).__name__, error)
            raise _Late(text) from error

    def convert(self, name: str, path: Path) -> str:
        """Converts it, loads and calls the result."""
        import hub_compat as hub

        target = None if hub.detect(path).format.value.startswith("tf1") else "tf1.15"
        out = self._work / "out"
        hub.convert(path, out, overwrite=True, target=target, link="copy")
        # Weights are not read; damage in them is found by who does.
        return self._compare(name, hub.load(out))

    def verify(self, name: str, path: Path) -> str:
        """Converts and verifies it."""
        import hub_compat as hub

        target = None if hub.detect(path).format.value.startswith("tf1") else "tf1.15"
        hub.convert(
            path, self._work / "out", overwrite=True, target=target, verify=True
        )
        return ""

    def keras(self, name: str, path: Path) -> str:
        """Makes a layer of it."""
        import hub_compat as hub

        signature = "default" if name.startswith("hub") else "serving_default"
        hub.KerasLayer(str(path), trainable=True, signature=signature)
        return ""

    def save(self, name: str, path: Path) -> str:
        """Loads it and saves it again."""
        import hub_compat as hub
        from hub_compat._tf import tf

        loaded = hub.load(path)
        if tf.executing_eagerly():
            hub.save(loaded, self._work / "out", overwrite=True)
        else:
            with tf.compat.v1.Session() as session:
                try:
                    session.run(tf.compat.v1.global_variables_initializer())
                except Exception as error:
                    # A graph's weights are read by its sessions.
                    raise _Late(str(error)) from error
                hub.save(loaded, self._work / "out", overwrite=True, session=session)
        return ""


def actions_of(number: int) -> List[str]:
    """What is done with a damaged module: the cheap things always."""
    return ["detect", "attached", "load"] + [
        ["convert", "keras", "save", "verify", "convert", "keras"][number % 6]
    ]


def main(work: Path, seed: int, first: int, count: int, names: List[str]) -> None:
    """Does everything with ``count`` damaged modules, and tells of each step."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.environ["HUB_COMPAT_CACHE_DIR"] = str(work / "cache")
    if os.environ.get("HUB_COMPAT_TEST_MODE") == "eager":
        import tensorflow as tf

        tf.compat.v1.enable_v2_behavior()
    for name in names:
        if not (work / "whole" / name).exists():
            prepare(name, work / "whole" / name)
    actions = Actions(work, names)

    def ring(*_: Any) -> None:
        raise _Hang("more than {} s".format(PATIENCE))

    signal.signal(signal.SIGALRM, ring)
    for number in range(first, first + count):
        name = names[number % len(names)]
        rng = random.Random("{} {}".format(seed, number))
        path = work / "damaged"
        shutil.rmtree(str(path), ignore_errors=True)
        shutil.copytree(str(work / "whole" / name), str(path))
        damage = damaged(path, work / "whole" / rng.choice(names), rng)
        for action in actions_of(number // len(names)):
            facts = [name, number, damage, action]
            told.write(json.dumps(facts) + "\n")
            signal.alarm(3 * PATIENCE if action in ("verify", "convert") else PATIENCE)
            try:
                result, detail = actions.run(name, path, action)
            finally:
                signal.alarm(0)
            told.write(json.dumps(facts + [result, detail[:2000]]) + "\n")


def run(
    work: Path, seed: int, first: int, count: int, names: List[str], batch: int = 100
) -> Iterator[Outcome]:
    """Damages modules in processes of their own, until all ``count`` are done."""
    end = first + count
    while first < end:
        command = [sys.executable, str(Path(__file__).resolve()), str(work), str(seed)]
        command += [str(first), str(min(batch, end - first))] + names
        errors = work / "stderr"
        with errors.open("w") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, universal_newlines=True
            )
        last: Optional[List[Any]] = None
        reached = first - 1
        watch = _Watch(process)
        assert process.stdout is not None
        for line in process.stdout:
            watch.touch()
            if not line.startswith("["):
                continue
            facts = json.loads(line)
            reached = facts[1]
            if len(facts) == 4:
                last = facts
            else:
                last = None
                yield Outcome(*facts)
        code = process.wait()
        watch.stop()
        if last is not None:
            tail = errors.read_text(errors="replace")[-500:]
            yield Outcome(
                *last, "hang" if watch.killed else "abort", "{}: {}".format(code, tail)
            )
        elif code:
            raise AssertionError(errors.read_text(errors="replace")[-3000:])
        first = reached + 1


class _Watch:
    """Kills a process that says nothing for long: no signal reaches its C++ code."""

    def __init__(self, process: Any) -> None:
        import threading

        self.killed = False
        self._last = time.monotonic()
        self._done = False
        self._process = process
        threading.Thread(target=self._look, daemon=True).start()

    def touch(self) -> None:
        self._last = time.monotonic()

    def stop(self) -> None:
        self._done = True

    def _look(self) -> None:
        while not self._done:
            time.sleep(1)
            # The first line waits for TensorFlow, and for the undamaged modules.
            if time.monotonic() - self._last > 12 * PATIENCE:
                self.killed = True
                self._process.kill()
                return


def sum_up(outcomes: Iterator[Outcome]) -> None:
    """Prints what was found, alike together."""
    counts: Dict[Tuple[str, str], int] = collections.Counter()
    told: Dict[str, List[Outcome]] = {}
    for outcome in outcomes:
        counts[outcome.action, outcome.result] += 1
        if outcome.result not in ("ok", "ours", "late"):
            key = "{} {} {}".format(outcome.result, outcome.action, outcome.detail[:60])
            told.setdefault(key, []).append(outcome)
    for key, group in sorted(told.items()):
        print("--", key, "x", len(group))
        for outcome in group[:3]:
            print("    ", outcome.name, outcome.number, outcome.damage)
            print("        ", " ".join(outcome.detail.split())[:300])
    for pair, count in sorted(counts.items()):
        print("{:10} {:8} {}".format(*pair, count))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    if sys.argv[1] == "--all":
        import tempfile

        chosen = sys.argv[4:] or sorted(MODULES)
        with tempfile.TemporaryDirectory() as place:
            sum_up(run(Path(place), int(sys.argv[2]), 0, int(sys.argv[3]), chosen))
    else:
        main(
            Path(sys.argv[1]),
            int(sys.argv[2]),
            int(sys.argv[3]),
            int(sys.argv[4]),
            sys.argv[5:],
        )
