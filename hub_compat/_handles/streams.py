"""Streams of an archive: counted, decompressed, and written by a thread of their own.

zlib, bz2 and lzma are called by the megabyte, where ``gzip.open`` takes 8 kB at a time.
``isal`` decompresses gzip faster than zlib; where it is installed it is used:
pip install hub-compat[fast]. ``zlib-ng`` was no faster on weights; a ``gzip`` process
is zlib with two more copies.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import queue
import threading
import zlib
from typing import Any, Callable, NamedTuple, Optional

__all__ = [
    "CHUNK",
    "Counted",
    "Decompressed",
    "File",
    "Forward",
    "Part",
    "Peeked",
    "Written",
    "errors",
    "private",
]

CHUNK = 1 << 20
# What a decompressor may keep; xz -9 needs 65 MiB.
_MEMORY = 256 << 20
# Chunks that wait to be written.
_WAITING = 8


class File(NamedTuple):
    """An unpacked file, by size and checksum.

    Attributes:
      size: in bytes.
      sha256: of the content, in hex.
    """

    size: int
    sha256: str


class Counted:
    """A stream that knows how much of it was read.

    Like all streams here it has nothing but ``read``, which returns what is there, up
    to so many bytes, and nothing at the end: no byte is copied on its way.

    Args:
      source: what is read.
      notify: is told of how many bytes each time, if given.
    """

    def __init__(
        self, source: Any, notify: Optional[Callable[[int], None]] = None
    ) -> None:
        self._source = source
        self._notify = notify
        self.count = 0

    def read(self, size: int) -> bytes:
        """Reads."""
        data: bytes = self._source.read(min(size, CHUNK))
        self.count += len(data)
        if self._notify is not None:
            self._notify(len(data))
        return data


class Peeked:
    """A stream whose start was looked at.

    Attributes:
      head: its first bytes, as many as were asked for, or all.
    """

    def __init__(self, source: Any, size: int) -> None:
        self._source = source
        self.head = b""
        while len(self.head) < size:
            data = source.read(CHUNK)
            if not data:
                break
            self.head += data
        self._left = self.head

    def read(self, size: int) -> bytes:
        """Reads."""
        if not self._left:
            data: bytes = self._source.read(size)
            return data
        data, self._left = self._left[:size], self._left[size:]
        return data


# Several compressed streams may stand one after the other (gzip -c a b), with zeros
# between and after them: tape blocks are filled up.
#
#     _engine:   the decompressor of the stream at hand
#     _input:    bytes that it has not taken yet
#     _has_more: whether it would give more without further input
class Decompressed:
    """Unpacks a compressed stream; errors are those of zlib, bz2 and lzma.

    Args:
      kind: ``"gzip"``, ``"bzip2"`` or ``"xz"``.
      source: what is read.
    """

    def __init__(self, kind: str, source: Any) -> None:
        self._kind = kind
        self._source = source
        self._engine = _engine(kind)
        self._input = b""
        self._has_more = False

    def read(self, size: int) -> bytes:
        """Reads; raises ``EOFError`` where the source is cut short."""
        while True:
            if self._engine.eof and not self._begin_next():
                return b""
            if not self._input and not self._has_more:
                self._input = self._source.read(CHUNK)
                if not self._input:
                    raise EOFError("it ends before the end of the compressed stream")
            data = self._decompress(size)
            if data:
                return data

    def _decompress(self, size: int) -> bytes:
        data: bytes = self._engine.decompress(self._input, size)
        if self._kind == "gzip":
            self._input = self._engine.unconsumed_tail
            # Where the output is full, there may be more without further input.
            self._has_more = len(data) == size
        else:
            self._input = b""
            self._has_more = not self._engine.needs_input
        return data

    def _begin_next(self) -> bool:
        """Whether another stream follows; zeros may, which fill a block."""
        rest = self._engine.unused_data.lstrip(b"\0")
        while not rest:
            rest = self._source.read(CHUNK)
            if not rest:
                return False
            rest = rest.lstrip(b"\0")
        self._engine = _engine(self._kind)
        self._input, self._has_more = rest, False
        return True


class Forward:
    """A stream as ``tarfile`` wants a file: with places, of which none is behind.

    Its own streams (``r|``) copy each byte four times more.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._place = 0

    def read(self, size: int) -> bytes:
        """Reads so many bytes, or to the end."""
        data = self.some(size)
        while 0 < len(data) < size:
            more = self.some(size - len(data))
            if not more:
                break
            data += more
        return data

    def some(self, size: int) -> bytes:
        """Reads what is there."""
        data: bytes = self._source.read(size)
        self._place += len(data)
        return data

    def tell(self) -> int:
        """How much was read."""
        return self._place

    def seek(self, place: int) -> None:
        """Reads until there, or the end."""
        if place < self._place:
            raise ValueError("the stream cannot be rewound")
        while self._place < place and self.some(min(CHUNK, place - self._place)):
            pass


class Part:
    """So many bytes of a stream.

    Args:
      source: what is read.
      size: in bytes.
    """

    def __init__(self, source: Forward, size: int) -> None:
        self._source, self._left = source, size

    def read(self, size: int) -> bytes:
        """Reads."""
        data = self._source.some(min(size, self._left)) if self._left else b""
        self._left -= len(data)
        return data


def _engine(kind: str) -> Any:
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    if kind == "xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY)
    # With a header and a checksum, as gzip has them.
    return _zlib().decompressobj(wbits=31)


def _zlib() -> Any:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def private(path: str, flags: int) -> int:
    """An opener of files that others cannot write, whatever the umask says."""
    return os.open(path, flags, 0o644)


def errors() -> Any:
    """The exceptions of decompressors for damaged data."""
    found = [zlib.error, lzma.LZMAError, EOFError]
    engine_error = getattr(_zlib(), "error", zlib.error)
    return tuple(found + [engine_error])


# Two threads, so that decompression and the disk work at once:
#
#     caller     open, write, write, ..., close    into a queue of a few chunks
#     thread     writes and hashes in that order
#
# After an error the thread goes on to empty the queue, without doing anything: a caller
# that waits for a place in it would wait for ever.
class Written:
    """Files that a thread writes, checksums and brings to the disk.

    The next megabyte is decompressed meanwhile. Use it in a ``with`` statement: after
    it all is written, or the block's error, or that of the disk, is raised.
    """

    def __init__(self) -> None:
        self._queue: Any = queue.Queue(_WAITING)
        self._error: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._run, name="hub_compat-unpack")
        self._thread.daemon = True

    def __enter__(self) -> Written:
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None and self._error is None:
            self._error = error
        self._queue.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def open(self, path: str, done: Callable[[File], None]) -> None:
        """Begins a new file; ``done`` is told what it has, in the thread."""
        self._put(("open", path, done))

    def write(self, data: bytes) -> None:
        """Writes on; raises what went wrong before."""
        self._put(("write", data, None))

    def close(self) -> None:
        """Ends the file."""
        self._put(("close", None, None))

    def flush(self) -> None:
        """Waits until all is written; raises what went wrong."""
        self._queue.join()
        if self._error is not None:
            raise self._error

    def _put(self, step: Any) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(step)

    def _run(self) -> None:
        file: Any = None
        digest: Any = None
        size = 0
        done: Any = None
        steps: Any = iter(self._queue.get, None)
        try:
            for kind, value, told in steps:
                try:
                    if self._error is not None:
                        continue
                    if kind == "open":
                        file = open(value, "xb", 0, opener=private)
                        digest, size, done = hashlib.sha256(), 0, told
                    elif kind == "write":
                        _write_all(file, value)
                        digest.update(value)
                        size += len(value)
                    else:
                        file.close()
                        done(File(size, digest.hexdigest()))
                except BaseException as error:
                    self._error = error
                finally:
                    self._queue.task_done()
        finally:
            if file is not None:
                file.close()


# A raw file may take less than it is given, on a full disk for one.
def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
