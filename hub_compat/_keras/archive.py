"""A SavedModel as a zip archive, and back: whoever made it, it unpacks to a model.

An archive may come from anybody. What is compressed may be a thousand times as large,
which weights that are all alike rightly are: of them, the index of the checkpoint says
how many bytes there are. All else is text and protos, which compress less.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import zipfile
from typing import IO, List

from hub_compat._io import files, links
from hub_compat.converters.checkpoint.index import needed_bytes
from hub_compat.errors import CacheError, CorruptModuleError, HubCompatError

__all__ = ["pack", "unpack"]

# That of every file in the archive: the same module is the same text.
_DATE = (1980, 1, 1, 0, 0, 0)

_MEMBERS = 100000
# How many bytes files other than weights may have: so many in any case, and so many
# for each byte of the archive.
_FREE = 64 << 20
_RATIO = 200
_CHUNK = 1 << 20

_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def pack(folder: str) -> bytes:
    """Makes an archive of a local directory."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name in files.walk_files(folder):
            member = zipfile.ZipInfo(name, _DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            writer.writestr(member, files.read_bytes(os.path.join(folder, name)))
    return archive.getvalue()


def unpack(data: bytes, folder: str) -> None:
    """Unpacks what ``pack`` made into an empty directory.

    Raises:
      CorruptModuleError: it is no archive of a SavedModel, or a damaged one.
      CacheError: there is not enough space for it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _unpack(archive, folder, len(data))
    except CorruptModuleError:
        raise
    except HubCompatError as error:
        # There are weights, and no index of them that can be read.
        raise _damaged(error) from error
    except OSError as error:
        if error.errno in _SPACE:
            raise CacheError(
                "The module that is embedded in the layer's configuration cannot be "
                "unpacked: {}. Set TMPDIR to a directory with enough space. Received: "
                "{!r}".format(error, folder)
            ) from error
        raise _damaged(error) from error
    except Exception as error:
        # zipfile lets through what zlib, bz2 and lzma raise, and has no list of it.
        raise _damaged(error) from error


def _unpack(archive: zipfile.ZipFile, folder: str, size: int) -> None:
    members = [m for m in archive.infolist() if not m.filename.endswith("/")]
    if len(members) > _MEMBERS:
        raise _damaged("it has {} files".format(len(members)))
    weights = []
    left = max(_FREE, _RATIO * size)
    for member in members:
        _check_name(member.filename)
        if member.flag_bits & 1:
            raise _damaged("it is encrypted")
        if links.is_shard(member.filename):
            weights.append(member)
        elif links.is_of_model(member.filename):
            left -= _extract(archive, member, folder, left)
    if weights:
        _unpack_weights(archive, weights, folder)


def _unpack_weights(
    archive: zipfile.ZipFile, members: List[zipfile.ZipInfo], folder: str
) -> None:
    needed = needed_bytes(os.path.join(folder, "variables", "variables"))
    total, free = sum(needed.values()), shutil.disk_usage(folder).free
    if total > free:
        raise OSError(
            errno.ENOSPC, "its weights need {} bytes of {}".format(total, free)
        )
    for member in members:
        name = member.filename.split("/")[-1]
        _extract(archive, member, folder, needed.get(name, 0))


def _extract(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: str, limit: int
) -> int:
    """Unpacks a file of so many bytes at most; returns how many it has."""
    if member.file_size > limit:
        raise _too_large(member, limit)
    path = os.path.join(folder, *member.filename.split("/"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with archive.open(member) as source, open(path, "xb") as target:
        return _copy(source, target, member, limit)


def _copy(
    source: IO[bytes], target: IO[bytes], member: zipfile.ZipInfo, limit: int
) -> int:
    total = 0
    data = source.read(_CHUNK)
    while data:
        total += len(data)
        if total > limit:
            raise _too_large(member, limit)
        target.write(data)
        data = source.read(_CHUNK)
    return total


def _check_name(name: str) -> None:
    parts = name.split("/")
    if "" in parts or "." in parts or ".." in parts or "\\" in name or ":" in parts[0]:
        raise _damaged("it has a file of the name {!r}".format(name))


def _too_large(member: zipfile.ZipInfo, limit: int) -> CorruptModuleError:
    return _damaged(
        "{} would have {} bytes, and no more than {} are left for it".format(
            member.filename, member.file_size, limit
        )
    )


def _damaged(reason: object) -> CorruptModuleError:
    return CorruptModuleError(
        "The module that is embedded in the layer's configuration cannot be read; was "
        "the file of the model edited? Received: {}".format(reason)
    )
