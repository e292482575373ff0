"""Archives of models, unpacked as if they came from an enemy.

What an archive is, its first bytes say. Nothing is written outside of the directory
that it is unpacked into, and nothing but regular files and directories, each once; how
much, limits say. Python 3.7 has no ``tarfile.data_filter``: the rules here hold in
every version. An archive that is read from a network is unpacked while it arrives.
"""

from __future__ import annotations

import errno
import stat
import tarfile
import tempfile
import zipfile
from typing import Any, BinaryIO, Callable, Dict, List, Optional

from hub_compat._handles.streams import (
    CHUNK,
    Counted,
    Decompressed,
    File,
    Forward,
    Part,
    Peeked,
    Written,
    errors,
)
from hub_compat._handles.target import Target
from hub_compat.errors import HubCompatError

__all__ = ["Selection", "extract", "is_archive"]

_BLOCK = 512
# Compressed twice is a mistake that servers make; more is none.
_LAYERS = 2
# A tar's header of names and dates is read at once.
_LARGEST_HEADER = 1 << 20

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_USTAR = slice(257, 262)


class Selection:
    """Which files of an archive are unpacked, and what some of them need.

    Args:
      wanted: whether a file is unpacked, by relative path.
      is_last: whether it is unpacked after all others, where the archive is a zip.
      needed: called then; how large each of these is at most. They may be compressed
        to any degree.
    """

    def __init__(
        self,
        wanted: Callable[[str], bool],
        is_last: Callable[[str], bool],
        needed: Callable[[], Dict[str, int]],
    ) -> None:
        self.wanted, self.is_last, self.needed = wanted, is_last, needed


def is_archive(path: str) -> bool:
    """Whether a local file begins as an archive does."""
    with open(path, "rb") as file:
        head = file.read(_BLOCK)
    return _compression(head) is not None or head.startswith(_ZIP) or _is_tar(head)


def extract(
    source: BinaryIO, folder: str, origin: str, selection: Optional[Selection] = None
) -> Dict[str, File]:
    """Unpacks an archive into an empty local directory.

    Args:
      source: the archive; it need not be seekable.
      folder: the directory. What is unpacked before an error stays in it.
      origin: what the archive is, for messages.
      selection: which files are unpacked; None for all.

    Returns:
      The files by relative path.

    Raises:
      ArchiveError: it is no archive, a damaged one, or one that is refused.
      OSError: the directory cannot be written, or the source not be read.
    """
    counted, written = Counted(source), Written()
    wanted = None if selection is None else selection.wanted
    target = Target(folder, origin, counted, written, wanted)
    try:
        with written:
            _extract(counted, target, selection, _LAYERS)
            # What follows has the checksum of a compressed archive.
            while counted.read(CHUNK):
                pass
    except HubCompatError:
        raise
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        UnicodeError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        KeyError,
        IndexError,
        OverflowError,
        *errors(),
    ) as error:
        raise target.refused("it is damaged, or cut short: {}".format(error)) from error
    except OSError as error:
        # bz2 says so of what is damaged, and zipfile of places that are none.
        if error.errno in (None, errno.EINVAL):
            raise target.refused("it is damaged: {}".format(error)) from error
        raise
    if not target.files:
        raise target.refused("there is no file in it")
    return target.files


def _extract(
    source: Any, target: Target, selection: Optional[Selection], layers: int
) -> None:
    stream = Peeked(source, _BLOCK)
    head = stream.head[:_BLOCK]
    kind = _compression(head)
    if kind is not None and layers:
        inner = Counted(Decompressed(kind, stream), target.unpacked)
        _extract(inner, target, selection, layers - 1)
        while inner.read(CHUNK):
            pass
    elif head.startswith(_ZIP):
        _extract_zip(stream, target, selection)
    elif _is_tar(head):
        _extract_tar(stream, target)
    else:
        raise target.refused(_what(head))


def _extract_tar(stream: Any, target: Target) -> None:
    class Bounded(tarfile.TarInfo):
        """A member whose own header is not as large as memory."""

        @classmethod
        def frombuf(cls, buf: Any, encoding: str, errors: str) -> Any:
            found = super().frombuf(buf, encoding, errors)
            if found.type == tarfile.GNUTYPE_SPARSE:
                raise target.refused("{!r} is a sparse file".format(found.name))
            if not found.isreg():
                if found.size > _LARGEST_HEADER:
                    raise target.refused("a header has {} bytes".format(found.size))
                target.check_headers()
            return found

    forward: Any = Forward(stream)
    with tarfile.open(fileobj=forward, mode="r:", tarinfo=Bounded) as archive:
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
            target.add(member.name, Part(forward, member.size), member.size)


def _extract_zip(stream: Any, target: Target, selection: Optional[Selection]) -> None:
    # Its directory is at the end.
    with tempfile.TemporaryFile(dir=target.folder) as whole:
        for data in iter(lambda: stream.read(CHUNK), b""):
            target.check_total(whole.tell() + len(data))
            whole.write(data)
        whole.seek(0)
        with zipfile.ZipFile(whole) as archive:
            members = archive.infolist()
            last: List[zipfile.ZipInfo] = []
            for member in members:
                if selection is not None and selection.is_last(member.filename):
                    last.append(member)
                else:
                    _extract_member(archive, member, target)
            if selection is not None and last:
                target.flush()
                target.needed = selection.needed()
            for member in last:
                _extract_member(archive, member, target)


def _extract_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Target
) -> None:
    name = member.filename
    if name.endswith("/"):
        target.add_directory(name)
        return
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise target.refused(
            "{!r} is a link or a device, and only files and directories are "
            "unpacked".format(name)
        )
    if member.flag_bits & 1:
        raise target.refused(
            "{!r} is encrypted; pack it without a password".format(name)
        )
    with archive.open(member) as content:
        notify = None if name in target.needed else target.unpacked
        target.add(name, Counted(content, notify), member.file_size)


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
    """The kind of file that is there instead of an archive."""
    start = head.lstrip()[:200].lower()
    if not head:
        return "it is empty"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "it is a web page"
    if start.startswith((b"{", b"[")):
        return "it is JSON: {!r}".format(head[:80].decode("utf-8", "replace"))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return (
            "it is compressed with zstd, which hub_compat does not read; pack it "
            "as .tar.gz"
        )
    return "it is neither a tar (plain, gzip, bzip2, xz) nor a zip"


def _member_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link"
    if member.isdev():
        return "a device or a pipe"
    return "a sparse file" if member.issparse() else "of another kind"
