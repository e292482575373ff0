"""Symbolic links in a module: which are followed, and the tree that comes of it.

A module may be made of links. Its own folders, ``assets`` or ``variables``, may lie
elsewhere as wholes, as blob stores have it, and links within it lead where they lead.
A link of a single file out of the module is another matter: whoever publishes the
module publishes that file. Folders below its own that lie elsewhere are not walked:
``assets/x -> /usr/lib`` would make all of that part of the module.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from hub_compat._io import files
from hub_compat.errors import FormatError

__all__ = [
    "ALL",
    "FILES",
    "INSIDE",
    "Found",
    "check_link",
    "is_of_model",
    "is_shard",
    "leads_out",
    "model_files",
    "walk",
]

# Which links are followed: those within the module and of its own folders; those of
# files, too, as TensorFlow does, for what is only loaded; all.
INSIDE, FILES, ALL = "inside", "files", "all"

MODEL_FOLDERS = ("assets", "assets.extra", "debug", "variables")
_PROTOS = (".pb", ".pbtxt", ".cpb")
_SHARD = re.compile(r"variables/.*\.data-\d{5}-of-\d{5}\Z")


class Found(NamedTuple):
    """Something below a module.

    Attributes:
      name: relative, with ``/``: ``"variables/variables.index"``.
      facts: of the file.
      same_as: of a folder that was met before under another name, that name.
      elsewhere: of a folder that is not walked, where it is.
    """

    name: str
    facts: os.stat_result
    same_as: str = ""
    elsewhere: str = ""


def walk(
    root: str, folders: Sequence[str], everywhere: bool = False
) -> Iterator[Found]:
    """The files on top of a local module and those in some of its folders.

    Links are followed, but no folder is walked twice: neither in a circle, nor by the
    many ways that lead to it.

    Args:
      root: the module.
      folders: its own folders.
      everywhere: walk folders that lie elsewhere as well.

    Raises:
      OSError: a folder cannot be listed.
    """
    bases = _bases(root, folders)
    # Real path -> the name under which it was met.
    met: Dict[str, str] = {}
    waiting: List[Tuple[str, Tuple[str, ...]]] = [("", ())]
    # After the folders themselves, so that these have their own names.
    links: List[Tuple[str, Tuple[str, ...]]] = []
    while waiting or links:
        below, above = waiting.pop() if waiting else links.pop(0)
        folder = os.path.join(root, below)
        real = os.path.realpath(folder)
        if below and not everywhere and not _within(real, bases):
            yield Found(below, os.stat(folder), elsewhere=real)
            continue
        if real in met:
            if real not in above:
                yield Found(below, os.stat(folder), same_as=met[real])
            continue
        met[real] = below
        inner: List[Tuple[str, Tuple[str, ...]]] = []
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        for entry in entries:
            name = below + "/" + entry.name if below else entry.name
            try:
                facts = os.stat(entry.path)
            except OSError:
                # A link that leads nowhere: if it is needed, the conversion says so.
                continue
            if stat.S_ISDIR(facts.st_mode):
                if below or entry.name in folders:
                    later = links if entry.is_symlink() else inner
                    later.append((name, above + (real,)))
            elif stat.S_ISREG(facts.st_mode):
                yield Found(name, facts)
        waiting.extend(reversed(inner))


def model_files(root: str, links: str) -> List[str]:
    """The files that a SavedModel consists of: relative, with ``/``, sorted.

    That is what is in its own folders, and protos beside them. Whatever else lies
    in the directory, such as a README, is no part of the model.

    Args:
      root: the model, local or remote.
      links: ``INSIDE``, ``FILES`` or ``ALL``.

    Raises:
      FormatError: there is a link that is not to be followed.
      OSError: a folder cannot be listed.
    """
    if files.is_remote(root):
        return [n for n in files.walk_files(root) if is_of_model(n)]
    names: List[str] = []
    aliases = []
    for found in walk(root, MODEL_FOLDERS, links == ALL):
        path = os.path.join(root, *found.name.split("/"))
        if found.elsewhere:
            # Where the model is only loaded, such a folder is left out.
            check_link(path, root, INSIDE if links == INSIDE else ALL)
        elif found.same_as:
            aliases.append(found)
        elif is_of_model(found.name):
            if not is_shard(found.name):
                check_link(path, root, links)
            names.append(found.name)
    again: List[str] = []
    for alias in aliases:
        # What was met in the folder itself: not what other links add to it.
        inside = [n for n in names if n.startswith(alias.same_as + "/")]
        again.extend(alias.name + name[len(alias.same_as) :] for name in inside)
    return sorted(names + again)


def is_of_model(name: str) -> bool:
    """Whether a file belongs to a SavedModel, by its name within the directory."""
    top = name.split("/")[0]
    return top in MODEL_FOLDERS if top != name else name.endswith(_PROTOS)


def is_shard(name: str) -> bool:
    """Whether a file holds weights, of which the index beside it has checksums."""
    return _SHARD.match(name) is not None


def leads_out(path: str, root: str) -> bool:
    """Whether a file of a module lies elsewhere, though its folder does not."""
    if files.is_remote(path):
        return False
    top = os.path.relpath(path, root).split(os.sep)[0]
    return not _within(os.path.realpath(path), _bases(root, [top]))


def check_link(path: str, root: str, links: str) -> None:
    """Refuses a link out of a module that is not to be followed.

    Args:
      path: of a file or folder of the module.
      root: the module.
      links: ``INSIDE``, ``FILES`` or ``ALL``.

    Raises:
      FormatError: it is such a link.
    """
    if links == ALL or not leads_out(path, root):
        return
    if links == FILES and not leads_out(os.path.dirname(path), root):
        return
    raise FormatError(
        "A file or folder of the module is a link out of it, to {!r}. Its target "
        "would become part of the result. Links within a module are followed, and "
        "so are its folders that are links. If the link is intended, pass "
        "follow_links=True (--follow-links), or put a copy in its place. Received: "
        "{!r}".format(os.path.realpath(path), path)
    )


def _bases(root: str, folders: Sequence[str]) -> Tuple[str, ...]:
    """The real paths of a module and of its own folders."""
    paths = [root] + [os.path.join(root, folder) for folder in folders]
    return tuple(os.path.realpath(p) for p in paths if p == root or os.path.isdir(p))


def _within(real: str, bases: Sequence[str]) -> bool:
    return any(real == b or real.startswith(os.path.join(b, "")) for b in bases)
