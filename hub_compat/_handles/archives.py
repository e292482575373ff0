"""Archives of models, unpacked as if they came from an enemy.

What an archive is, its first bytes say. Nothing is written outside of the directory
that it is unpacked into, and nothing but regular files and directories, each once; how
much, limits say. Python 3.7 has no ``tarfile.data_filter``: the rules here hold in
every version. An archive that is read from a network is unpacked while it arrives.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from typing import IO, Any, BinaryIO, Dict, Iterator, NamedTuple, Optional, Tuple

from hub_compat._handles import settings
from hub_compat.errors import ArchiveError, HubCompatError

__all__ = ["File", "extract", "is_archive"]

_CHUNK = 1 << 20
# So much may be in an archive however small it is.
_FREE = 256 << 20
_LONGEST_NAME, _LONGEST_PATH, _DEEPEST = 255, 4000, 100
_BLOCK = 512
# Compressed twice is a mistake that servers make; more is none.
_LAYERS = 2

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_USTAR = slice(257, 262)


class File(NamedTuple):
    """What was unpacked.

    Attributes:
      size: in bytes.
      sha256: of the content, in hex.
    """

    size: int
    sha256: str


def is_archive(path: str) -> bool:
    """Whether a local file begins as an archive does."""
    with open(path, "rb") as file:
        head = file.read(_BLOCK)
    return _compression(head) is not None or head.startswith(_ZIP) or _is_tar(head)


def extract(source: BinaryIO, folder: str, origin: str) -> Dict[str, File]:
    """Unpacks an archive into an empty local directory.

    Args:
      source: the archive; it need not be seekable.
      folder: the directory. What is unpacked before an error stays in it.
      origin: what the archive is, for messages.

    Returns:
      The files by relative path.

    Raises:
      ArchiveError: it is no archive, a damaged one, or one that is refused.
      OSError: the directory cannot be written, or the source not be read.
    """
    counted = _Counted(source)
    target = _Target(folder, origin, counted)
    try:
        _extract(counted, target, _LAYERS)
        # What follows has the checksum of a compressed archive.
        while counted.read(_CHUNK):
            pass
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        UnicodeError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        if isinstance(error, HubCompatError):
            raise
        raise target.refused("it is damaged, or cut short: {}".format(error)) from error
    except OSError as error:
        # gzip and bz2 say so of what is damaged.
        if error.errno is None and not isinstance(error, HubCompatError):
            raise target.refused("it is damaged: {}".format(error)) from error
        raise
    if not target.files:
        raise target.refused("there is no file in it")
    return target.files


def _extract(source: Any, target: _Target, layers: int) -> None:
    stream = io.BufferedReader(source, _CHUNK)
    head = stream.peek(_BLOCK)[:_BLOCK]
    kind = _compression(head)
    if kind is not None and layers:
        _extract_compressed(kind, stream, target, layers)
    elif head.startswith(_ZIP):
        _extract_zip(stream, target)
    elif _is_tar(head):
        _extract_tar(stream, target)
    else:
        raise target.refused(_what(head))
    # It would close what it reads from, of which the rest is read yet.
    stream.detach()


def _extract_compressed(
    kind: str, stream: BinaryIO, target: _Target, layers: int
) -> None:
    inner: Any
    if kind == "gzip":
        inner = gzip.GzipFile(fileobj=stream, mode="rb")
    elif kind == "bzip2":
        inner = bz2.BZ2File(stream)
    else:
        inner = lzma.LZMAFile(stream)
    with inner:
        peeled = _Raw(inner)
        _extract(peeled, target, layers - 1)
        for chunk in _chunks(peeled):
            target.skip(len(chunk))


def _extract_tar(stream: BinaryIO, target: _Target) -> None:
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK) as archive:
        for member in archive:
            # Each member is remembered, which for millions of them is much.
            archive.members = []  # type: ignore[attr-defined]
            if member.isdir():
                target.add_directory(member.name)
                continue
            if not member.isreg() or member.issparse():
                raise target.refused(
                    "{!r} is {}, and only files and directories are unpacked".format(
                        member.name, _member_kind(member)
                    )
                )
            content = archive.extractfile(member)
            assert content is not None
            target.add(member.name, content, member.size)


def _extract_zip(stream: Any, target: _Target) -> None:
    # Its directory is at the end.
    with tempfile.TemporaryFile(dir=target.folder) as whole:
        shutil.copyfileobj(stream, whole, _CHUNK)
        whole.seek(0)
        with zipfile.ZipFile(whole) as archive:
            members = archive.infolist()
            target.check_count(len(members))
            for member in members:
                mode = member.external_attr >> 16
                if member.filename.endswith("/"):
                    target.add_directory(member.filename)
                    continue
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    raise target.refused(
                        "{!r} is a link or a device, and only files and directories "
                        "are unpacked".format(member.filename)
                    )
                if member.flag_bits & 1:
                    raise target.refused(
                        "{!r} is encrypted; pack it without a password".format(
                            member.filename
                        )
                    )
                with archive.open(member) as content:
                    target.add(member.filename, content, member.file_size)


class _Target:
    """The directory that an archive is unpacked into.

    Attributes:
      folder: its path.
      files: what it has by now, by relative path.
    """

    def __init__(self, folder: str, origin: str, source: _Counted) -> None:
        self.folder = folder
        self.files: Dict[str, File] = {}
        self._origin = origin
        self._source = source
        self._total = 0
        # By folded path, the path, and whether it is a directory.
        self._taken: Dict[str, Tuple[str, bool]] = {}

    def refused(self, reason: str) -> ArchiveError:
        """The error for an archive that is not used."""
        return ArchiveError(
            "The archive cannot be used: {}. If it can be trusted, unpack it by other "
            "means and give the directory. Received: {!r}".format(reason, self._origin)
        )

    def add_directory(self, name: str) -> None:
        """Makes a directory, as one may be empty."""
        path = self._path(name, is_directory=True)
        if path:
            os.makedirs(os.path.join(self.folder, path), exist_ok=True)

    def add(self, name: str, content: IO[bytes], size: int) -> None:
        """Writes a file."""
        path = self._path(name, is_directory=False)
        if not path:
            raise self.refused("a file of it has the name {!r}".format(name))
        self.check_count(len(self.files) + 1)
        self._check_total(size)
        absolute = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(absolute), exist_ok=True)
        digest, written = hashlib.sha256(), 0
        with open(absolute, "xb") as file:
            for chunk in _chunks(content):
                self._check_total(len(chunk))
                self._total += len(chunk)
                written += len(chunk)
                digest.update(chunk)
                file.write(chunk)
        if written != size:
            raise self.refused(
                "{!r} has {} bytes, and is said to have {}".format(name, written, size)
            )
        self.files[path] = File(written, digest.hexdigest())

    def check_count(self, count: int) -> None:
        """Refuses more files than there may be."""
        limit = settings.member_limit()
        if count > limit:
            raise self.refused(
                "it has more than {} files (HUB_COMPAT_ARCHIVE_MAX_FILES)".format(limit)
            )

    def _check_total(self, more: int) -> None:
        limit = settings.disk_limit()
        if self._total + more > limit:
            raise self.refused(
                "it is more than {} bytes (HUB_COMPAT_ARCHIVE_MAX_BYTES)".format(limit)
            )
        free = shutil.disk_usage(self.folder).free
        if more > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.folder)
        self._check_ratio(more if more <= _CHUNK else 0)

    def skip(self, size: int) -> None:
        """Notes what follows the archive's end, and is not written."""
        self._total += size
        self._check_ratio(0)

    def _check_ratio(self, more: int) -> None:
        """Checks how much there is for each byte of the archive that was read."""
        limit = settings.ratio_limit()
        if self._total + more > _FREE + limit * self._source.count:
            raise self.refused(
                "its {} bytes unpack to more than {} times as much "
                "(HUB_COMPAT_ARCHIVE_MAX_RATIO)".format(self._source.count, limit)
            )

    def _path(self, name: str, is_directory: bool) -> str:
        """The relative path for a member's name; "" for the root."""
        # As tar does itself, and TensorFlow Hub: an absolute name is a relative one.
        parts = [part for part in name.split("/") if part not in ("", ".")]
        path = "/".join(parts)
        if ".." in parts or "\\" in path or "\0" in path or ":" in "".join(parts[:1]):
            raise self.refused("a file of it has the name {!r}".format(name))
        if (
            len(os.fsencode(path)) > _LONGEST_PATH
            or len(parts) > _DEEPEST
            or any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts)
        ):
            raise self.refused("a name in it is too long: {!r}...".format(name[:80]))
        for number in range(1, len(parts) + 1):
            self._take("/".join(parts[:number]), is_directory or number < len(parts))
        if not is_directory and path in self.files:
            raise self.refused("it has {!r} twice".format(name))
        return path

    def _take(self, path: str, is_directory: bool) -> None:
        """Notes a path: where case does not count, no other may be the same."""
        folded = unicodedata.normalize("NFC", path).casefold()
        known = self._taken.setdefault(folded, (path, is_directory))
        if known != (path, is_directory):
            raise self.refused(
                "it has both {!r} and {!r}, which are one on some systems".format(
                    known[0], path
                )
            )


class _Counted(io.RawIOBase):
    """A stream that knows how much of it was read."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self._source = source
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


class _Raw(io.RawIOBase):
    """What a decompressor gives, as a raw stream."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(min(len(buffer), _CHUNK))
        buffer[: len(data)] = data
        return len(data)


def _chunks(content: Any) -> Iterator[bytes]:
    data = content.read(_CHUNK)
    while data:
        yield data
        data = content.read(_CHUNK)


def _compression(head: bytes) -> Optional[str]:
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            return kind
    return None


def _is_tar(head: bytes) -> bool:
    # Two blocks of zeros end a tar, also one without files.
    if head[_USTAR] == b"ustar" or head == bytes(_BLOCK):
        return True
    if len(head) < _BLOCK:
        return False
    # Of before 1988: nothing but the checksum tells.
    try:
        tarfile.TarInfo.frombuf(head[:_BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _what(head: bytes) -> str:
    """What there is in place of an archive."""
    start = head.lstrip()[:200].lower()
    if not head:
        return "it is empty"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "it is a web page"
    if start.startswith((b"{", b"[")):
        return "it is JSON: {!r}".format(head[:80].decode("utf-8", "replace"))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "it is compressed by zstd, which is not read; pack it as .tar.gz"
    return "it is neither a tar (plain, gzip, bzip2, xz) nor a zip"


def _member_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link"
    if member.isdev():
        return "a device or a pipe"
    return "a sparse file" if member.issparse() else "of another kind"
