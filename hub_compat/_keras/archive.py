"""A SavedModel as a zip archive, and back: whoever made it, it unpacks to a model.

It goes through the same door as what is downloaded (``_handles/archives.py``), with the
same limits. One more rule is for its weights: they may be compressed to any degree, as
those that are all alike rightly are, but are not larger than the index of the
checkpoint says.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import zipfile
from typing import Dict

from hub_compat._handles import archives
from hub_compat._io import files, links
from hub_compat.converters.checkpoint.index import needed_bytes
from hub_compat.errors import CacheError, CorruptModuleError, HubCompatError

__all__ = ["pack", "unpack"]

# That of every file in the archive: the same module is the same text.
_DATE = (1980, 1, 1, 0, 0, 0)
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

    def needed() -> Dict[str, int]:
        found = needed_bytes(os.path.join(folder, "variables", "variables"))
        total, free = sum(found.values()), shutil.disk_usage(folder).free
        if total > free:
            raise OSError(
                errno.ENOSPC, "its weights need {} bytes of {}".format(total, free)
            )
        return {"variables/" + name: size for name, size in found.items()}

    selection = archives.Selection(links.is_of_model, links.is_shard, needed)
    try:
        archives.extract(io.BytesIO(data), folder, "its archive", selection)
    except HubCompatError as error:
        # There may be weights, and no index of them that can be read.
        raise _damaged(error) from error
    except OSError as error:
        if error.errno in _SPACE:
            raise CacheError(
                "The module in the layer's configuration cannot be unpacked: {}. "
                "Set TMPDIR to a directory with enough space. Received: {!r}".format(
                    error, folder
                )
            ) from error
        raise _damaged(error) from error


def _damaged(reason: object) -> CorruptModuleError:
    return CorruptModuleError(
        "The module in the layer's configuration cannot be read. Perhaps the file "
        "of the model was edited. Received: {}".format(reason)
    )
