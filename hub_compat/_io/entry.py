"""An entry of the cache: what its manifest says, and whether it still holds.

Files are checked by their SHA-256 whenever the entry is used, but for weights, which
may be large. Those are sure where they are the very files of the module that is asked
for, or copies of files that have not changed. Else the weights of the entry may be
those of a damaged copy of that module: their checksums, which are in the index, are
compared with them, once.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from hub_compat._io import files
from hub_compat._io.fingerprint import SourceFile
from hub_compat._io.links import is_shard
from hub_compat._io.trust import distrust

__all__ = [
    "MANIFEST",
    "Request",
    "is_orphan",
    "lookup",
    "read_manifest",
    "write_manifest",
]

MANIFEST = "manifest.json"

# No manifest of a module is larger, and Python's parser takes its time.
_MANIFEST_BYTES = 16 << 20
# A shard that is not linked is read, up to this size: it holds what the conversion
# itself wrote.
_SMALL = 4 << 20


class Request(NamedTuple):
    """A request to the cache, and its key.

    Attributes:
      source: directory of the module.
      files: its files.
      parts: what the key is made of.
      key: the name of the entry.
      build: writes the converted form into an empty directory.
      is_whole: whether the weights of a converted form are those that its index has
        checksums of; None where that cannot be told.
    """

    source: str
    files: List[SourceFile]
    parts: List[str]
    key: str
    build: Callable[[str], Any]
    is_whole: Optional[Callable[[str], bool]] = None


def write_manifest(entry: str, request: Request) -> None:
    """Writes what must be there, of an entry that was built just now."""
    _write(
        entry,
        {
            "key": request.parts,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "files": _facts(files.join(entry, "model")),
            "source": _source(request),
            "source_files": {
                f.name: _of_source(f) for f in request.files if not f.link
            },
            "host": platform.node(),
            "whole": False,
        },
    )


def _write(entry: str, manifest: Dict[str, Any]) -> None:
    data = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    path = files.join(entry, MANIFEST)
    if files.is_remote(entry):
        files.write_bytes(path, data)
        return
    unfinished = "{}.{}".format(path, os.getpid())
    files.write_bytes(unfinished, data)
    os.replace(unfinished, path)


def _of_source(file: SourceFile) -> List[int]:
    return [file.size, file.time, file.identity[0], file.identity[1]]


def _facts(model: str) -> Dict[str, Dict[str, Any]]:
    """Size, time of change and hash of each file; 0 for a time that is not known."""
    found = {}
    for name in files.walk_files(model):
        path = files.join(model, *name.split("/"))
        if files.is_remote(path):
            size, time, linked = files.size(path), 0, False
        else:
            facts = os.stat(path)
            size, time, linked = facts.st_size, facts.st_mtime_ns, facts.st_nlink > 1
        hashed = files.sha256(path) if _is_hashed(name, size, linked) else ""
        found[name] = {"size": size, "time": time, "sha256": hashed}
    return found


def _is_hashed(name: str, size: int, linked: bool) -> bool:
    return not is_shard(name) or (size <= _SMALL and not linked)


def read_manifest(entry: str) -> Optional[Dict[str, Any]]:
    """The description of an entry; None if it cannot be read."""
    path = files.join(entry, MANIFEST)
    try:
        if files.size(path) > _MANIFEST_BYTES:
            return None
        manifest = json.loads(files.read_bytes(path).decode())
        return manifest if isinstance(manifest, dict) else None
    except (OSError, ValueError, RecursionError):
        return None


def lookup(entry: str, request: Request) -> Optional[str]:
    """The model in an entry; None if there is none, or not as it was built."""
    model = files.join(entry, "model")
    manifest = read_manifest(entry)
    if manifest is None:
        return None
    try:
        if not _is_own(entry, manifest["files"], request):
            return None
        for name, facts in manifest["files"].items():
            path = files.join(model, *name.split("/"))
            if files.size(path) != facts["size"]:
                return None
            if facts["sha256"] and files.sha256(path) != facts["sha256"]:
                return None
        whole = _has_sure_weights(entry, manifest, request)
        return model if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def _is_own(entry: str, names: Sequence[str], request: Request) -> bool:
    """Whether nobody but this user, or root, can have written what is in an entry."""
    if files.is_remote(entry):
        return True
    sources = {f.identity for f in request.files}
    paths = [entry, os.path.join(entry, MANIFEST), os.path.join(entry, "model")]
    for name in names:
        paths.append(os.path.join(entry, "model", *name.split("/")))
    for path in paths:
        facts = os.stat(path)
        # Linked weights are as safe as the module that is asked for.
        if (facts.st_dev, facts.st_ino) not in sources and distrust(facts):
            return False
    return True


def _has_sure_weights(entry: str, manifest: Dict[str, Any], request: Request) -> bool:
    model = files.join(entry, "model")
    if files.is_remote(model):
        return True
    weights = {
        name: facts
        for name, facts in manifest["files"].items()
        if is_shard(name) and not _is_of_conversion(name, facts, request)
    }
    now = {n: os.stat(os.path.join(model, *n.split("/"))) for n in weights}
    sources = {f.identity for f in request.files}
    strange = [n for n in now if (now[n].st_dev, now[n].st_ino) not in sources]
    if not strange:
        return True
    # Where a hash was compared, the time says nothing more.
    kept = all(
        weights[n]["sha256"] or _same_time(weights[n]["time"], now[n].st_mtime_ns)
        for n in strange
    )
    if kept and (manifest["whole"] or _is_same_source(manifest, request)):
        return True
    if request.is_whole is None:
        return kept and _source(request) != manifest["source"]
    if not request.is_whole(model):
        return False
    # Of a cache that cannot be written, they are read by each process.
    with contextlib.suppress(OSError):
        for name in strange:
            weights[name]["time"] = now[name].st_mtime_ns
        _write(entry, dict(manifest, whole=True))
    return True


def _is_of_conversion(name: str, facts: Dict[str, Any], request: Request) -> bool:
    """Whether a shard is the last one, in which a conversion writes what is new."""
    number, _, count = name.rpartition(".data-")[2].partition("-of-")
    if not facts["sha256"] or int(number) + 1 != int(count):
        return False
    # Of a model that is lowered, each shard is a copy.
    return not any((f.name, f.size) == (name, facts["size"]) for f in request.files)


def _is_same_source(manifest: Dict[str, Any], request: Request) -> bool:
    """Whether the weights are at the place they were at, as they were."""
    if _source(request) != manifest["source"]:
        return False
    for file in request.files:
        if is_shard(file.name):
            size, time, *identity = manifest["source_files"][file.name]
            if file.size != size or not _same_time(time, file.time):
                return False
            # An archive has whole seconds, and unpacked it has other inodes.
            if list(file.identity) != identity and file.time % 10**9:
                return False
    return True


def _source(request: Request) -> str:
    source = request.source
    return source if files.is_remote(source) else os.path.realpath(source)


def _same_time(before: int, now: int) -> bool:
    """Whether two times are the same, as far as is known (0 stands for unknown)."""
    if 0 in (before, now):
        return True
    second = 10**9
    # Archives, such as the layers of container images, may keep whole seconds.
    if before % second == 0 or now % second == 0:
        return before // second == now // second
    return before == now


def is_orphan(manifest: Dict[str, Any]) -> bool:
    """Whether the module is gone that an entry of this machine was made of.

    Raises:
      KeyError, TypeError, AttributeError, ValueError: the manifest says no such thing.
    """
    source = manifest["source"]
    if files.is_remote(source) or manifest["host"] != platform.node():
        return False
    for name, (size, time, device, inode) in manifest["source_files"].items():
        try:
            facts = os.stat(os.path.join(source, *name.split("/")))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        # Touched, it is the same.
        touched = (facts.st_dev, facts.st_ino) == (device, inode)
        if facts.st_size != size or (facts.st_mtime_ns != time and not touched):
            return True
    return False
