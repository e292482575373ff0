"""Files and directories, local or remote: the one place that touches them.

A local path goes to ``os`` and ``shutil``. A path with a scheme (``gs://``,
``ram://``) goes to ``tf.io.gfile``, and TensorFlow is imported at that moment, not
before. Either way what goes wrong is an ``OSError``; TensorFlow's ``OpError``s do
not leave this module.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import stat
from typing import Any, BinaryIO, Iterator, List, Optional, cast
from urllib.parse import unquote

from hub_compat.errors import FormatError

__all__ = [
    "as_path",
    "copy_file",
    "exists",
    "irregular",
    "is_dir",
    "is_remote",
    "join",
    "list_dir",
    "make_dirs",
    "open_read",
    "os_errors",
    "read_bytes",
    "remove_tree",
    "sha256",
    "size",
    "walk_files",
    "working_directory",
    "write_bytes",
]

_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")
_COPY_BYTES = 1 << 20


def as_path(path: Any) -> str:
    """Returns a path as a string.

    Args:
      path: a string or an ``os.PathLike``. ``file:///x`` becomes ``/x``.

    Raises:
      FormatError: (a ``ValueError``) it is neither.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise FormatError(
            "Expected a string, got a value of type {}. A handle is a string or an "
            "os.PathLike. Received: {!r}".format(type(path).__name__, path)
        )
    text = os.fspath(path)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    for prefix in ("file://localhost/", "file:///"):
        if text.lower().startswith(prefix):
            return "/" + unquote(text[len(prefix) :])
    return text


def is_remote(path: str) -> bool:
    """Whether a path has a scheme and so needs ``tf.io.gfile``."""
    return _SCHEME.match(path) is not None


def working_directory() -> str:
    """The working directory; empty where it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def join(path: str, *names: str) -> str:
    """Joins names to a directory; remote paths always with ``/``."""
    if not is_remote(path):
        return os.path.join(path, *names)
    for name in names:
        path = path + name if path.endswith("/") else path + "/" + name
    return path


def open_read(path: str) -> BinaryIO:
    """Opens a file for binary reading; supports ``seek`` and ``tell``.

    Raises:
      OSError: it cannot be opened, or is a pipe, a socket or a device.
    """
    if not is_remote(path):
        return _open_regular(path)
    with os_errors(path):
        file = _gfile().GFile(path, "rb")
        # GFile opens at the first read; opening now makes an absent file fail
        # here, as open() does.
        total = int(file.size())
    return cast(BinaryIO, io.BufferedReader(_RemoteFile(file, path, total)))


def read_bytes(path: str, limit: Optional[int] = None) -> bytes:
    """Returns the content of a file.

    Args:
      path: the file.
      limit: the largest content, in bytes, that can be right.

    Raises:
      OSError: it cannot be read, or is larger.
    """
    with open_read(path) as file:
        if limit is not None and size(path) > limit:
            raise OSError(
                errno.EINVAL,
                "It has {} bytes, no more than {} can be right".format(
                    size(path), limit
                ),
                path,
            )
        return file.read()


def irregular(mode: int) -> str:
    """The name of a special file whose reading may never end.

    Args:
      mode: ``st_mode`` of ``os.stat``.

    Returns:
      ``"a named pipe"``; empty for a file or a directory.
    """
    for test, what in _IRREGULAR:
        if test(mode):
            return what
    return ""


_IRREGULAR = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _open_regular(path: str) -> BinaryIO:
    def opener(name: str, flags: int) -> int:
        # A pipe opens at once, rather than when somebody writes to it.
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(path, "rb", opener=opener)
    what = irregular(os.fstat(file.fileno()).st_mode)
    if what:
        file.close()
        raise _no_file(path, what)
    return file


def _no_file(path: str, what: str) -> OSError:
    return OSError(errno.EINVAL, "It is {}, not a file".format(what), path)


def write_bytes(path: str, data: bytes) -> None:
    """Writes a file; one that exists is replaced.

    Raises:
      OSError: it cannot be written.
    """
    if not is_remote(path):
        with open(path, "wb") as file:
            file.write(data)
        return
    with os_errors(path):
        _make_way(path)
        with _gfile().GFile(path, "wb") as remote:
            remote.write(data)


def sha256(path: str) -> str:
    """The SHA-256 of a file's content, in hex.

    Raises:
      OSError: it cannot be read.
    """
    content = hashlib.sha256()
    with open_read(path) as file:
        data = file.read(_COPY_BYTES)
        while data:
            content.update(data)
            data = file.read(_COPY_BYTES)
    return content.hexdigest()


def exists(path: str) -> bool:
    """Whether there is a file or directory.

    Raises:
      OSError: the remote file system cannot tell.
    """
    if not is_remote(path):
        return os.path.exists(path)
    with os_errors(path):
        return bool(_gfile().exists(path))


def is_dir(path: str) -> bool:
    """Whether there is a directory.

    Raises:
      OSError: the remote file system cannot tell.
    """
    if not is_remote(path):
        return os.path.isdir(path)
    with os_errors(path):
        return bool(_gfile().isdir(path))


def list_dir(path: str) -> List[str]:
    """Returns the names in a directory, sorted, directories without a slash.

    Raises:
      OSError: it cannot be listed.
    """
    if not is_remote(path):
        return sorted(os.listdir(path))
    with os_errors(path):
        names = _gfile().listdir(path)
        if _scheme(path) == "ram":
            # TensorFlow's ram:// lists "assets.extra" as ".extra" in "assets".
            names = [name for name in names if _gfile().exists(join(path, name))]
    # Object stores list a directory as "name/", and sometimes the directory
    # itself under an empty name.
    return sorted({name.rstrip("/") for name in names} - {""})


def size(path: str) -> int:
    """Returns the size of a file in bytes.

    Raises:
      OSError: there is no such file.
    """
    if not is_remote(path):
        return os.path.getsize(path)
    with os_errors(path):
        return int(_gfile().stat(path).length)


def walk_files(root: str) -> List[str]:
    """Returns the files below a directory: relative, with ``/``, sorted.

    Links to files are listed; links to directories are not followed.

    Raises:
      OSError: a directory cannot be listed.
    """
    found = []
    if not is_remote(root):
        for folder, _, names in os.walk(root, onerror=_raise):
            below = os.path.relpath(folder, root)
            for name in names:
                relative = os.path.normpath(os.path.join(below, name))
                found.append(relative.replace(os.sep, "/"))
        return sorted(found)
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folder = join(root, below) if below else root
        for name in list_dir(folder):
            relative = below + "/" + name if below else name
            if is_dir(join(root, relative)):
                waiting.append(relative)
            else:
                found.append(relative)
    return sorted(found)


def copy_file(source: str, destination: str) -> None:
    """Copies a file's content; one that exists is replaced.

    Between two remote paths the file system does it, if it can, without the bytes
    passing through this machine.

    Raises:
      OSError: it cannot be read or written.
    """
    if not is_remote(source) and not is_remote(destination):
        what = irregular(os.stat(source).st_mode)
        if what:
            raise _no_file(source, what)
        shutil.copyfile(source, destination)
        return
    if source == destination:
        raise shutil.SameFileError("{!r} would be copied onto itself".format(source))
    with os_errors(source):
        gfile = _gfile()
        gfile.stat(source)
        _make_way(destination)
        if _scheme(source) == _scheme(destination):
            gfile.copy(source, destination, overwrite=True)
            return
        # TensorFlow copies across file systems too, but 1.15 reads the whole
        # file into memory for it.
        with gfile.GFile(source, "rb") as reader:
            with gfile.GFile(destination, "wb") as writer:
                data = reader.read(_COPY_BYTES)
                while data:
                    writer.write(data)
                    data = reader.read(_COPY_BYTES)
                # Nothing is created by a writer that was never written to.
                writer.write(b"")


def make_dirs(path: str) -> None:
    """Makes a directory and those above it; an existing one is fine.

    Raises:
      OSError: it cannot be made.
    """
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)
        return
    with os_errors(path):
        _gfile().makedirs(path)


def remove_tree(path: str) -> None:
    """Removes a directory and all below it.

    Raises:
      OSError: it cannot be removed, or is not there.
    """
    if not is_remote(path):
        shutil.rmtree(path)
        return
    if _scheme(path) == "ram":
        # Its own rmtree() stumbles over what list_dir() leaves out, so longer
        # names go first.
        for name in reversed(list_dir(path)):
            child = join(path, name)
            if is_dir(child):
                remove_tree(child)
            else:
                with os_errors(child):
                    _gfile().remove(child)
    with os_errors(path):
        _gfile().rmtree(path)


class _RemoteFile(io.RawIOBase):
    """A GFile as a raw Python file.

    TF 1.15's GFile lacks ``readinto``, ``seekable`` and a ``seek`` from the end;
    this needs only ``read`` and ``seek(offset)`` of it. It can go with TF 1.15.
    """

    def __init__(self, file: Any, path: str, total: int) -> None:
        super().__init__()
        self._gfile = file
        self._path = path
        self._total = total
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence, self._total)
        if start + offset < 0:
            raise OSError(errno.EINVAL, "Seek before the start", self._path)
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        amount = min(len(view), max(0, self._total - self._position))
        if not amount:
            return 0
        with os_errors(self._path):
            self._gfile.seek(self._position)
            data = self._gfile.read(amount)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._gfile.close()
        super().close()


def _gfile() -> Any:
    # Imported here: `import tensorflow` takes seconds, and local paths need none.
    from hub_compat._tf import tf

    return tf.io.gfile


def _make_way(path: str) -> None:
    """Removes a file that is about to be written.

    ram:// of TF 2 appends to a file that exists (seen in 2.21), also in a copy.
    """
    gfile = _gfile()
    if gfile.exists(path):
        gfile.remove(path)


def _scheme(path: str) -> str:
    return path.split("://", 1)[0] if is_remote(path) else ""


def _raise(error: OSError) -> None:
    raise error


@contextlib.contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Turns TensorFlow's errors into the ``OSError`` that ``open()`` would raise."""
    from hub_compat._tf import tf

    try:
        yield
    except tf.errors.NotFoundError as error:
        raise _os_error(FileNotFoundError, errno.ENOENT, path, error) from error
    except tf.errors.PermissionDeniedError as error:
        raise _os_error(PermissionError, errno.EACCES, path, error) from error
    except tf.errors.UnauthenticatedError as error:
        raise _os_error(PermissionError, errno.EACCES, path, error) from error
    except tf.errors.AlreadyExistsError as error:
        raise _os_error(FileExistsError, errno.EEXIST, path, error) from error
    except tf.errors.ResourceExhaustedError as error:
        raise _os_error(OSError, errno.ENOSPC, path, error) from error
    except tf.errors.OpError as error:
        raise _os_error(OSError, errno.EIO, path, error) from error


def _os_error(kind: Any, number: int, path: str, error: Any) -> OSError:
    message = getattr(error, "message", None) or str(error)
    return cast(OSError, kind(number, message, path))
