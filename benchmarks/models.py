"""The modules that the benchmarks run on, written once into a cache directory.

TF1 Hub modules can only be written by TensorFlow 1: ``testdata/scripts/large.py``
and ``embedding.py`` do, in the project's TF 1.15 environment. The rest derives
from those.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
LARGE = ROOT / "testdata" / "scripts" / "large.py"
EMBEDDING = Path(__file__).resolve().with_name("embedding.py")
RECURRENT = Path(__file__).resolve().with_name("recurrent.py")


class ModelMissing(Exception):
    """A module is not in the cache and cannot be written."""


def default_directory() -> Path:
    """Where the modules are kept: ``$HUB_COMPAT_BENCH_DIR``."""
    chosen = os.environ.get("HUB_COMPAT_BENCH_DIR")
    return Path(chosen or "~/.cache/hub_compat/bench").expanduser().absolute()


class Models:
    """A directory of modules, each written when it is first asked for.

    Args:
      directory: where they are; its file system is the one that is measured.
      tf1_python: a Python with TF 1.15 and tensorflow_hub; None for that of
        ``tools/environments.py``, which is only built if it is needed.
    """

    def __init__(self, directory: Path, tf1_python: Optional[str] = None):
        self.directory = directory
        self._tf1_python = tf1_python

    def hub_module(self, kind: str, *options: str, writer: Path = LARGE) -> Path:
        """A TF1 Hub module.

        Args:
          kind: what its writer calls it: ``"resnet50"``.
          *options: the writer's further arguments: ``"--megabytes", "1200"``.
          writer: the script.
        """
        # An edited script writes anew.
        key = hashlib.sha256(writer.read_bytes()).hexdigest()[:8]
        name = "-".join([kind] + [o.lstrip("-") for o in options] + [key])
        target = self.directory / name
        if not target.exists():
            partial = self._partial(target)
            command = [self.tf1(), str(writer), kind, str(partial)] + list(options)
            _say("writing {} with TensorFlow 1.15".format(name))
            _run(command)
            _publish(partial, target)
        return target

    def newer(self, kind: str, *options: str) -> Path:
        """A SavedModel of the TensorFlow that runs this, see ``newer.py``."""
        writer = Path(__file__).with_name("newer.py")
        key = hashlib.sha256(writer.read_bytes()).hexdigest()[:8]
        parts = ["newer", kind] + [o.lstrip("-") for o in options] + [key]
        target = self.directory / "-".join(parts)
        if not target.exists():
            partial = self._partial(target)
            _say("writing {}".format(target.name))
            _run([sys.executable, str(writer), kind, str(partial)] + list(options))
            _publish(partial, target)
        return target

    def tf2_saved_model(self, source: Path) -> Path:
        """A TF1 Hub module, as TensorFlow 2 saves it again."""
        target = source.with_name(source.name + "-tf2")
        if not target.exists():
            partial = self._partial(target)
            _say("writing {} with TensorFlow 2".format(target.name))
            side = str(Path(__file__).with_name("sides.py"))
            _run([sys.executable, side, "load_and_save", str(source), str(partial)])
            _publish(partial, target)
        return target

    def with_huge_graph(self, source: Path, size: int) -> Path:
        """A copy, without weights, whose graph has one more node, of ``size`` bytes.

        The node is a hole in a sparse file, which takes no room on the disk. It is
        the first of the first graph: what tells the format lies on both sides.
        """
        target = source.with_name("{}-huge{}".format(source.name, size))
        if target.exists():
            return target
        partial = self._partial(target)
        _say("writing {}".format(target.name))
        partial.mkdir(parents=True)
        shutil.copy2(str(source / "tfhub_module.pb"), str(partial))
        data = (source / "saved_model.pb").read_bytes()
        # SavedModel.meta_graphs, and its MetaGraphDef.graph_def.
        outer = _find_field(data, 2, 0)
        inner = _find_field(data, 2, outer.body)
        node = b""
        # GraphDef.node.attr.value.tensor.tensor_content, from the inside out.
        for number in (4, 8, 2, 5, 1):
            node = _header(number, len(node) + size) + node
        graph = _header(2, inner.end - inner.body + len(node) + size) + node
        before, after = data[outer.body : inner.start], data[inner.body : outer.end]
        with open(str(partial / "saved_model.pb"), "wb") as file:
            file.write(data[: outer.start])
            file.write(_header(2, len(before) + len(graph) + size + len(after)))
            file.write(before + graph)
            file.seek(size, os.SEEK_CUR)
            file.write(after + data[outer.end :])
        _publish(partial, target)
        return target

    def _partial(self, target: Path) -> Path:
        """Where a module is written before it gets its name: whole or not at all."""
        self.directory.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(str(partial), ignore_errors=True)
        return partial

    def tf1(self) -> str:
        """The Python with TensorFlow 1.15 and tensorflow_hub."""
        if self._tf1_python is None:
            tool = str(ROOT / "tools" / "environments.py")
            result = subprocess.run(
                [sys.executable, tool, "path", "tf115"], stdout=subprocess.PIPE
            )
            if result.returncode:
                raise ModelMissing(
                    "The source models are TF1 Hub modules, which only TensorFlow 1 "
                    "writes, and its environment could not be made (see above). Name "
                    "a Python with TensorFlow 1.15 and tensorflow_hub: --tf1-python."
                )
            self._tf1_python = result.stdout.decode().split("\n")[-2]
        return self._tf1_python


def size_of(directory: Path) -> int:
    """The bytes of all files in a directory."""
    return sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())


def weights_of(directory: Path) -> int:
    """The bytes of the checkpoint's shards."""
    shards = directory.glob("variables/variables.data-*")
    return sum(shard.stat().st_size for shard in shards)


def _publish(partial: Path, target: Path) -> None:
    partial.rename(target)
    # Conversions wait for the disk, too.
    os.sync()


def _say(message: str) -> None:
    print("[bench] " + message, file=sys.stderr, flush=True)


def _run(command: List[str]) -> None:
    environ = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="2", CUDA_VISIBLE_DEVICES="")
    # The bench's own modules would shadow those of another TensorFlow.
    environ.pop("PYTHONPATH", None)
    result = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if result.returncode:
        raise ModelMissing(
            "A source model could not be written: {}\n{}".format(
                " ".join(command), result.stdout.decode(errors="replace")[-3000:]
            )
        )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _header(number: int, length: int) -> bytes:
    """What stands before a length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(length)


class _Field(NamedTuple):
    """Where a length-delimited protobuf field starts, its body starts, and ends."""

    start: int
    body: int
    end: int


def _find_field(data: bytes, number: int, at: int) -> _Field:
    """The first length-delimited field of this number from ``at`` on.

    The messages it walks over hold nothing but varints and such fields.
    """
    while True:
        start = at
        tag, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if tag & 7 == 2:
            if tag >> 3 == number:
                return _Field(start, at, at + value)
            at += value


def _read_varint(data: bytes, at: int) -> Tuple[int, int]:
    """A varint, and where the next thing starts."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
