"""A directory that appears at its destination complete, or not at all.

It is written under a hidden name beside the destination, brought to the disk, and
renamed. To overwrite, the two directories change places in one step, where system and
file system can do that (Linux, macOS), and the old one is deleted: at every instant
the destination is there, whole, old or new. Where they cannot, it is gone for
microseconds between two renames. What processes leave that are killed, the next one
with the same destination finds and clears away; ``leftovers.py`` has the names.

On remote file systems (``gs://``, ``ram://``) directories have no rename that could
be relied on. Their files are moved one by one, those on top last and of these
``saved_model.pb`` after the others: what is there half is not yet a model.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import stat
from typing import Iterator, List, Optional, Tuple

from hub_compat._io import files as _files
from hub_compat._io import leftovers, locks
from hub_compat._io.exchange import exchange
from hub_compat.errors import DestinationError, HubCompatError

__all__ = ["atomic_directory", "resolved"]

_logger = logging.getLogger(__name__)

# How often to try again when other processes interfere: each of them has got on
# in the meantime, so that this many failures in a row do not happen.
_ATTEMPTS = 100

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)

_HINTS = {
    errno.ENOSPC: "Make space there, or name a directory on another file system.",
    errno.EDQUOT: "Make space there, or name a directory on another file system.",
    errno.EFBIG: "Allow larger files (ulimit -f), or name another file system.",
    errno.EACCES: "Name a directory in which you may write.",
    errno.EPERM: "Name a directory in which you may write.",
    errno.EROFS: "Name a directory on a file system that is not read-only.",
    errno.ENOTDIR: "A directory above it is a file: name another directory.",
    errno.EEXIST: "A directory above it is a file: name another directory.",
    errno.EXDEV: "It is part of a container's image, whose directories cannot be "
    "renamed: name another one.",
    errno.ENAMETOOLONG: "Name a directory with a shorter path.",
    errno.ELOOP: "Its symbolic links lead in a circle: name another directory.",
}


#     1. clear away what killed processes left for this destination
#     2. refuse what cannot end well, before the block has done any work
#     3. a hidden directory beside the destination: the same file system, for the rename
#     4. the block writes
#     5. sync, then one rename or exchange
#
# The lock on the hidden directory says to others that its process still lives.
@contextlib.contextmanager
def atomic_directory(
    destination: str, *, overwrite: bool = False, mode: Optional[int] = None
) -> Iterator[str]:
    """Lets a block of code write a directory that others see only once it is done.

    The block gets an empty directory. When it ends, that directory is the
    destination; when it raises, nothing of it is left and the destination is what
    it was before. The permissions are the usual ones (umask), or those of the
    directory whose place is taken. A destination that is a symbolic link stays
    one; what it leads to is written.

    Args:
      destination: the directory, local or remote. One that is there already but
        empty is taken as one to be filled.
      overwrite: replace a directory that is not empty.
      mode: permissions of a local directory, in place of the usual ones.

    Yields:
      Path of the directory to write into.

    Raises:
      DestinationError: the destination exists, or cannot be written; before the
        block runs, if that can be known, and instead of the block's own
        ``OSError``, if it concerns what is written.
    """
    target = resolved(destination)
    temporary = ""
    lock = locks.NONE
    made: List[str] = []
    try:
        if not _files.is_remote(target):
            leftovers.clear_away(target)
        _check(target, destination, overwrite)
        temporary, lock = _make_temporary(target, destination, made, mode)
        try:
            yield temporary
        except OSError as error:
            if _concerns(error, temporary):
                raise _unwritable(error, destination) from error
            raise
        if _files.is_remote(target):
            _publish_remote(temporary, target, destination, overwrite)
        else:
            _publish(temporary, target, destination, overwrite, mode)
    except BaseException:
        _discard(temporary)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        raise
    finally:
        locks.release(lock)


@contextlib.contextmanager
def _explained(destination: str) -> Iterator[None]:
    """Turns the system's errors into one about the destination."""
    try:
        yield
    except HubCompatError:
        raise
    except OSError as error:
        raise _unwritable(error, destination) from error


def resolved(destination: str) -> str:
    """The absolute path behind links; remote paths only without end slashes.

    Raises:
      DestinationError: it is no path, or relative to a directory that is gone.
    """
    if not destination:
        raise DestinationError(
            "The destination must be the path of a directory. Received: {!r}".format(
                destination
            )
        )
    if _files.is_remote(destination):
        return destination.rstrip("/")
    try:
        if not os.path.isabs(destination) and not _files.working_directory():
            raise OSError("the working directory has been deleted")
        return os.path.realpath(destination)
    except (OSError, ValueError) as error:
        raise DestinationError(
            "The destination is not a path that can be used: {}. Received: {!r}".format(
                error, destination
            )
        ) from error


def _check(target: str, destination: str, overwrite: bool) -> None:
    """Refuses what can be known not to end well."""
    with _explained(destination):
        if _files.is_remote(target):
            if not _files.exists(target):
                return
            is_directory = _files.is_dir(target)
        else:
            try:
                os.lstat(target)
            except (FileNotFoundError, NotADirectoryError):
                return
            is_directory = os.path.isdir(target)
        if not is_directory:
            raise DestinationError(
                "The destination must be a directory. There is a file of that name, "
                "which is not overwritten. Received: {!r}".format(destination)
            )
        if not overwrite and not _is_empty(target):
            raise _exists(destination)
        if _files.is_remote(target):
            return
        if os.path.ismount(target):
            raise DestinationError(
                "The destination is a mount point, which cannot be replaced. Name a "
                "directory below it. Received: {!r}".format(destination)
            )
        here = _files.working_directory()
        # Where it has been deleted, nothing is in use.
        if here and os.path.join(os.path.realpath(here), "").startswith(
            os.path.join(target, "")
        ):
            raise DestinationError(
                "The destination is the working directory, or one above it. It "
                "cannot be replaced while in use. Name a directory below it, or "
                "change the working directory. Received: {!r}".format(destination)
            )


def _is_empty(path: str) -> bool:
    try:
        return not _files.list_dir(path)
    except OSError:
        # It cannot be listed: certainly nothing to write over.
        return False


def _make_temporary(
    target: str, destination: str, made: List[str], mode: Optional[int]
) -> Tuple[str, int]:
    """Makes the directory to write into; notes in `made` those made above it.

    Returns:
      Its path, and the lock on it.
    """
    with _explained(destination):
        if _files.is_remote(target):
            hidden = leftovers.hidden(target, "tmp")
            _files.make_dirs(hidden)
            return hidden, locks.NONE
        for _ in range(_ATTEMPTS):
            hidden = leftovers.hidden(target, "tmp")
            _make_parents(os.path.dirname(target), made)
            try:
                # A new one gets the usual permissions. Where there is one, it may be
                # secret what is written; in the end this gets the permissions of that.
                usual = 0o700 if os.path.isdir(target) else 0o777
                os.mkdir(hidden, usual if mode is None else mode)
                return hidden, locks.hold_new(hidden)
            except (FileNotFoundError, BlockingIOError):
                # Another process made the parent, failed, and removed it; or it
                # took what is not locked yet for left over.
                continue
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), os.path.dirname(target))


def _make_parents(folder: str, made: List[str]) -> None:
    missing = []
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        try:
            os.mkdir(folder)
        except FileExistsError:
            # By another process just now; or it is a file, as the next one shows.
            if not os.path.isdir(folder):
                raise
        except FileNotFoundError:
            return
        else:
            made.append(folder)


# First to the disk, then renamed: after a crash of the machine, a name that is there
# must not lead to files without contents.
def _publish(
    temporary: str,
    target: str,
    destination: str,
    overwrite: bool,
    mode: Optional[int],
) -> None:
    """Brings a local directory to the disk and to its place."""
    with _explained(destination):
        _sync_tree(temporary)
        # Another process may be exchanging it at this moment.
        with contextlib.suppress(FileNotFoundError):
            if mode is None and os.path.isdir(target):
                shutil.copymode(target, temporary)
        if overwrite:
            _swap(temporary, target)
        else:
            try:
                _rename(temporary, target)
            except OSError as error:
                if error.errno in _TAKEN:
                    raise _exists(destination) from error
                raise
        _sync_directory(os.path.dirname(target))


def _rename(source: str, target: str) -> None:
    """Renames a directory; over an empty one, too."""
    if os.name == "nt":
        # Only POSIX replaces an empty directory.
        with contextlib.suppress(OSError):
            os.rmdir(target)
    os.rename(source, target)


# The states that another process can see, with exchange and without it:
#
#     exchange        target: old             ->  target: new
#     two renames     target: old, .tmp: new  ->  no target, .old: old, .tmp: new
#                                             ->  target: new, .old: old
#
# Who finds the middle state knows by the equal numbers of .tmp and .old that they
# belong together, and leftovers.py can finish or undo it.
def _swap(temporary: str, target: str) -> None:
    """Puts a directory in the place of another, if there is one."""
    for _ in range(_ATTEMPTS):
        if not os.path.lexists(target):
            try:
                _rename(temporary, target)
                return
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                continue
        try:
            exchanged = exchange(temporary, target)
        except FileNotFoundError:
            # Another process is exchanging it at this moment, in two steps.
            if not os.path.isdir(temporary):
                raise
            continue
        if exchanged or _swap_in_two_steps(temporary, target):
            # What has the name now is the old one.
            _discard(temporary)
            return
    raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), target)


def _swap_in_two_steps(temporary: str, target: str) -> bool:
    """As ``exchange``, for any file system; False if another process interfered."""
    # The same numbers tell who finds both, and no target, that they belong together.
    head, _, unique = temporary.rpartition(".tmp-")
    aside = "{}.old-{}".format(head, unique)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, aside)
        _rename(temporary, target)
    except BaseException as error:
        taken = isinstance(error, OSError) and error.errno in _TAKEN
        if os.path.isdir(aside) and not os.path.lexists(target):
            os.rename(aside, target)
        elif os.path.isdir(aside):
            # Another process put its own there, which replaces this one too.
            _discard(aside)
        if taken:
            return False
        raise
    _discard(aside)
    return True


# Remote directories have no rename, so the order of files is what protects readers:
# saved_model.pb is last to come. A reader without it sees no model yet.
def _publish_remote(
    temporary: str, target: str, destination: str, overwrite: bool
) -> None:
    """Moves a remote directory to its place, file by file."""
    aside = ""
    with _explained(destination):
        if _files.exists(target) and not _is_empty(target):
            if not overwrite:
                raise _exists(destination)
            aside = leftovers.hidden(target, "old")
            _move_tree(target, aside)
        try:
            _move_tree(temporary, target)
        except BaseException:
            if aside:
                _move_tree(aside, target)
            raise
        _discard(aside)


def _move_tree(source: str, target: str) -> None:
    """Moves all files of a remote directory into another, or none; removes it."""
    from hub_compat._tf import tf

    folders, files = _walk_remote(source)
    moved: List[str] = []
    try:
        for folder in folders:
            tf.io.gfile.makedirs(_files.join(target, folder) if folder else target)
        for name in files:
            # Fails if another process has put such a file there meanwhile.
            tf.io.gfile.rename(_files.join(source, name), _files.join(target, name))
            moved.append(name)
    except BaseException as error:
        for name in moved:
            tf.io.gfile.rename(_files.join(target, name), _files.join(source, name))
        if not _walk_remote(target)[1]:
            _discard(target)
        if isinstance(error, tf.errors.OpError):
            raise OSError(errno.EIO, str(error) or repr(error), target) from error
        raise
    _discard(source)


def _walk_remote(root: str) -> Tuple[List[str], List[str]]:
    """Folders and files below a remote one, in the order to make and move them."""
    folders, files = [""], []
    for folder in folders:
        for name in _files.list_dir(_files.join(root, folder) if folder else root):
            relative = folder + "/" + name if folder else name
            if _files.is_dir(_files.join(root, relative)):
                folders.append(relative)
            else:
                files.append(relative)
    last = "saved_model."
    files.sort(key=lambda name: (-name.count("/"), name.startswith(last), name))
    return folders, files


def _sync_tree(root: str) -> None:
    """Brings the files below a directory to the disk, and the directories."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            facts = os.lstat(path)
            # A file with a second name was not written here but linked here: on
            # the disk for long, and maybe hundreds of megabytes.
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                _sync_file(path)
        _sync_directory(folder)


def _sync_file(path: str) -> None:
    # Windows flushes only what is open for writing.
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems have no such thing.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(handle)


def _sync_directory(path: str) -> None:
    # Not everywhere can a directory be opened, or flushed. What matters beyond
    # that, the files, has been flushed.
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _discard(path: str) -> None:
    """Removes a directory, as far as that goes; "" stands for none."""
    try:
        if path and _files.exists(path):
            _files.remove_tree(path)
    except OSError as error:
        # Whoever clears away leftovers may remove it as well.
        if _files.exists(path):
            _logger.warning("The directory %r could not be removed: %s", path, error)


def _concerns(error: OSError, temporary: str) -> bool:
    """Whether an error is about what is written rather than what is read."""
    if isinstance(error, HubCompatError):
        return False
    names = (error.filename, getattr(error, "filename2", None))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if error.errno == errno.EFBIG and names == (None, None):
        return True
    return any(isinstance(n, str) and n.startswith(temporary) for n in names)


def _exists(destination: str) -> DestinationError:
    return DestinationError(
        "The destination already exists and is not empty. Name another directory, or "
        "pass overwrite=True (--overwrite) to replace it. Received: {!r}".format(
            destination
        )
    )


def _unwritable(error: OSError, destination: str) -> DestinationError:
    hint: Optional[str] = _HINTS.get(error.errno or 0)
    return DestinationError(
        "The destination cannot be written: {}. {} Received: {!r}".format(
            str(error).rstrip("."), hint or "Name another directory.", destination
        )
    )
