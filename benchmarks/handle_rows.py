"""Rows on handles that are fetched: from a server on loopback, into an empty cache."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Iterator

from bench import Bench
from report import Facts, bytes_text

__all__ = ["resolve"]

MEGABYTE = 10**6
_PIECE = 1 << 20

# Sends one file to whoever asks, whatever for.
SERVER = """
import http.server, os, shutil, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(os.path.getsize(sys.argv[1])))
        self.end_headers()
        with open(sys.argv[1], "rb") as file:
            self.connection.sendfile(file)
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def resolve(bench: Bench) -> None:
    """``resolve`` of both, of an archive of weights."""
    archive = _archive(bench.models.directory, bench.megabytes)
    with _serving(archive) as address:

        def side(name: str) -> Facts:
            with bench.directory() as directory:
                bench.environ["TFHUB_CACHE_DIR"] = str(directory / "cache")
                return bench.side(name, address)

        facts = bench.alternate(
            {
                "ours": lambda: side("hub_compat_resolve"),
                "tensorflow_hub": lambda: side("tensorflow_hub_resolve"),
            }
        )
    what = "resolve, {} MB on loopback".format(bench.megabytes)
    bench.add_faster(what, facts, "tensorflow_hub", 1.5, judged=not bench.quick)
    # The worst run, not the median: memory has no noise to forgive.
    memory = max(f["extra_memory"] for f in facts["ours"])
    bench.add_limit("  memory beyond the start", memory, 64 * MEGABYTE, bytes_text)


def _archive(folder: Path, megabytes: int) -> Path:
    """A .tar.gz of a module whose weights are random floats, made once."""
    path = folder / "archive-{}.tar.gz".format(megabytes)
    if path.exists():
        return path
    import numpy as np

    random = np.random.RandomState(0)
    # What compresses as weights do, to nine tenths.
    piece = (random.randn(_PIECE // 4) * 0.05).astype(np.float32).tobytes()
    partial = path.with_name("{}.{}".format(path.name, os.getpid()))
    with tarfile.open(str(partial), "w:gz", compresslevel=1) as archive:
        # TensorFlow Hub needs members for directories.
        for name in ("assets", "variables"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        member = tarfile.TarInfo("variables/variables.data-00000-of-00001")
        member.size = megabytes * MEGABYTE
        archive.addfile(member, _Repeated(piece))
        member = tarfile.TarInfo("saved_model.pb")
        member.size = 2
        archive.addfile(member, io.BytesIO(b"\x08\x01"))
    partial.replace(path)
    return path


class _Repeated(io.RawIOBase):
    """A stream without an end, of one piece again and again."""

    def __init__(self, piece: bytes) -> None:
        super().__init__()
        self._piece, self._place = piece, 0

    def read(self, size: int = -1) -> bytes:
        """Reads as much as is asked for."""
        found = b""
        while len(found) < size:
            data = self._piece[self._place : self._place + size - len(found)]
            self._place = (self._place + len(data)) % len(self._piece)
            found += data
        return found


@contextlib.contextmanager
def _serving(path: Path) -> Iterator[str]:
    command = [sys.executable, "-c", SERVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield "http://127.0.0.1:{}/module/1".format(port)
        finally:
            process.terminate()
