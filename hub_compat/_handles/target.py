"""The directory that an archive is unpacked into, and what may be in it.

Nothing is written outside of it, and nothing but regular files and directories, each
once; how much, limits say, which the environment can change.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import unicodedata
from typing import Any, Callable, Dict, Optional, Tuple

from hub_compat._handles import settings
from hub_compat._handles.streams import CHUNK, Counted, File, Written
from hub_compat.errors import ArchiveError

__all__ = ["Target"]

# So much may be in an archive however small it is.
_FREE = 256 << 20
_FREE_HEADERS = 1000
_LONGEST_NAME, _LONGEST_PATH, _DEEPEST = 255, 4000, 100


class Target:
    """The directory that an archive is unpacked into.

    Args:
      folder: its path.
      origin: what the archive is, for messages.
      source: the archive.
      written: writes the files.
      wanted: which of the files are written, by relative path; None for all.

    Attributes:
      folder: its path.
      files: what it has by now, by relative path.
      needed: what files need, by relative path, where it is known: they are not
        larger, and may be compressed to any degree.
    """

    def __init__(
        self,
        folder: str,
        origin: str,
        source: Counted,
        written: Written,
        wanted: Optional[Callable[[str], bool]] = None,
    ) -> None:
        self.folder = folder
        self.files: Dict[str, File] = {}
        self.needed: Dict[str, int] = {}
        self._origin = origin
        self._source = source
        self._written = written
        self._wanted = wanted
        self._count = self._headers = 0
        self._total = 0
        self._unpacked = 0
        self._made = {""}
        # By folded path, the path, and whether it is a directory.
        self._taken: Dict[str, Tuple[str, bool]] = {}
        self._limits = (
            settings.member_limit(),
            settings.disk_limit(),
            settings.ratio_limit(),
        )

    def refused(self, reason: str) -> ArchiveError:
        """The error for an archive that is not used."""
        return ArchiveError(
            "The archive cannot be used: {}. If you trust it, unpack it yourself "
            "and pass the directory. Received: {!r}".format(reason, self._origin)
        )

    def add_directory(self, name: str) -> None:
        """Makes a directory, as one may be empty."""
        path = self._path(name, is_directory=True)
        self.check_count()
        if path and (self._wanted is None or self._wanted(path + "/")):
            self._make(path)

    def add(self, name: str, content: Any, size: int) -> None:
        """Writes a file."""
        path = self._path(name, is_directory=False)
        if not path:
            raise self.refused("a file of it has the name {!r}".format(name))
        self.check_count()
        if self._wanted is not None and not self._wanted(path):
            return
        self._check_size(path, size)
        absolute = os.path.join(self.folder, path)
        self._make(path.rpartition("/")[0])

        def done(file: File) -> None:
            self.files[path] = file

        count = 0
        self._written.open(absolute, done)
        data = content.read(CHUNK)
        while data:
            count += len(data)
            self._total += len(data)
            if count > size:
                break
            self._written.write(data)
            data = content.read(CHUNK)
        self._written.close()
        if count != size:
            raise self.refused(
                "{!r} has {} bytes; its header states {}".format(name, count, size)
            )

    def _make(self, path: str) -> None:
        """Makes a directory and those above it, whatever the umask lets others do."""
        if path in self._made:
            return
        self._make(path.rpartition("/")[0])
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(self.folder, path), 0o755)
        self._made.add(path)

    def check_count(self, more: int = 1) -> None:
        """Counts members; refuses more than there may be."""
        self._count += more
        if self._count > self._limits[0]:
            raise self.refused(
                "it has more than {} files (HUB_COMPAT_ARCHIVE_MAX_FILES)".format(
                    self._limits[0]
                )
            )

    def check_headers(self) -> None:
        """Counts what is no member of its own, of which there may be any number."""
        self._headers += 1
        if self._headers > 4 * self._limits[0] + _FREE_HEADERS:
            raise self.refused(
                "it has {} headers for its {} files (HUB_COMPAT_ARCHIVE_MAX_FILES)"
                "".format(self._headers, self._count)
            )

    def _check_size(self, path: str, size: int) -> None:
        needed = self.needed.get(path)
        if needed is not None and size > needed:
            raise self.refused(
                "{!r} has {} bytes, and the model needs {} of it".format(
                    path, size, needed
                )
            )
        self.check_total(self._total + size)
        if size > shutil.disk_usage(self.folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.folder)

    def check_total(self, size: int) -> None:
        """Refuses more bytes than there may be."""
        if size > self._limits[1]:
            raise self.refused(
                "it is more than {} bytes (HUB_COMPAT_ARCHIVE_MAX_BYTES)".format(
                    self._limits[1]
                )
            )

    def flush(self) -> None:
        """Waits until all that was added can be read."""
        self._written.flush()

    def unpacked(self, size: int) -> None:
        """Counts what is unpacked, written or not; refuses too much for its archive."""
        self._unpacked += size
        limit = self._limits[2]
        if self._unpacked > _FREE + limit * self._source.count:
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
            raise self.refused("a file of it has the name {!r}".format(name[:200]))
        if (
            len(os.fsencode(path)) > _LONGEST_PATH
            or len(parts) > _DEEPEST
            or any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts)
        ):
            raise self.refused("a name in it is too long: {!r}...".format(name[:80]))
        for number in range(1, len(parts) + 1):
            last = number == len(parts)
            known = self._take("/".join(parts[:number]), is_directory or not last)
            if last and known and not is_directory:
                raise self.refused("it has {!r} twice".format(name))
        return path

    def _take(self, path: str, is_directory: bool) -> bool:
        """Notes a path; says whether it was there.

        Where case does not count, no other may be the same.
        """
        folded = unicodedata.normalize("NFC", path).casefold()
        found = self._taken.get(folded)
        if found is None:
            self._taken[folded] = (path, is_directory)
            return False
        if found != (path, is_directory):
            raise self.refused(
                "it has both {!r} and {!r}, which are the same file "
                "on some systems".format(found[0], path)
            )
        return True
