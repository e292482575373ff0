"""save(): a loaded module, with the values that its variables have now."""

from __future__ import annotations

import os
import warnings
from typing import Any, Callable, Dict, Mapping

from hub_compat import _guard, provenance
from hub_compat._io import files
from hub_compat._io import links as _links
from hub_compat._io.fingerprint import fingerprint, is_unchanged, source_files
from hub_compat._io.publish import atomic_directory, resolved
from hub_compat._loaded import origin, variable_values
from hub_compat._loaded.origin import Origin
from hub_compat.detector import detect
from hub_compat.errors import SaveError
from hub_compat.provenance import Provenance

__all__ = ["save", "write"]


def save(
    loaded: Any,
    directory: Any,
    *,
    overwrite: bool = False,
    session: Any = None,
    follow_links: bool = False,
) -> None:
    """Saves a loaded module with the values that its variables have now.

    All else stays as it was: functions, variants, sub-objects, signatures, attached
    messages, assets and provenance. If a TF1 module was loaded by ``tags``, its other
    variants are saved, too, as ``hub.Module.export`` did, with the new values of
    shared variables. The result is a TF2 SavedModel. Attributes that a program added
    to the object are not part of the module: ``tf.saved_model.save`` saves those.

    Args:
      loaded: what ``load()`` returned.
      directory: directory to write; a string or ``os.PathLike``. It appears whole or
        not at all, and may be the one that was loaded.
      overwrite: replace a directory that exists.
      session: in graph mode, the ``tf.compat.v1.Session`` that holds the values; by
        default the current one.
      follow_links: treat symbolic links that lead out of the module as part of it.
        Its own folders, such as ``assets``, may be links in any case.

    Raises:
      FormatError: there is a link out of the module.
      SaveError: ``loaded`` did not come from ``load()``; its files are gone or have
        changed; its variables have no values, or there is no session that holds them.
      DestinationError: ``directory`` exists, or cannot be written.
    """
    place = origin.now(loaded)
    if place is None:
        raise SaveError(
            "save() takes the result of load(). For other objects, and for parts of "
            "a loaded one, use tf.saved_model.save. Received: {!r}".format(loaded)
        )

    def values(variables: Mapping[str, Any]) -> Dict[str, Any]:
        try:
            read = variable_values.read(list(variables.values()), session)
        except SaveError:
            raise
        except Exception as error:
            raise SaveError(
                "The values of the variables cannot be read: {}. In graph mode, give "
                "save() an open session of the graph that the module was loaded in. "
                "Received: session={!r}".format(error, session)
            ) from error
        found = dict(zip(variables, read))
        # The others are as they were loaded.
        return {key: value for key, value in found.items() if value is not None}

    path = files.as_path(directory)
    # Asked before it is replaced.
    onto_itself = _is_same(path, place.detection.path)
    with _guard.reading(place.directory, "saved"), atomic_directory(
        path, overwrite=overwrite
    ) as new:
        write(loaded, new, values, _links.ALL if follow_links else _links.INSIDE)
    if onto_itself:
        origin.note_rewritten(place, detect(resolved(path)))


def _is_same(one: str, other: str) -> bool:
    if files.is_remote(one) or files.is_remote(other):
        return one.rstrip("/") == other.rstrip("/")
    return os.path.realpath(one) == os.path.realpath(other)


def write(
    loaded: Any,
    directory: str,
    values: Callable[[Mapping[str, Any]], Dict[str, Any]],
    links: str = _links.INSIDE,
) -> None:
    """Writes a loaded module into an empty directory, with other values.

    Args:
      loaded: what ``load()`` returned.
      directory: where the result goes.
      values: from the variables to their values, each by its key; the variables that
        it leaves out keep the value that they were loaded with.
      links: what becomes of those out of the module, see ``_io/links.py``.

    Raises:
      FormatError: there is a link that is not to be followed.
      SaveError: its files are gone or not the same any more.
    """
    place = origin.now(loaded)
    assert place is not None
    root = loaded if place.root is None else place.root
    if _can_convert(place):
        assert place.facts is not None
        before = source_files(place.detection.path)
        # load() converted no more of it than it loaded.
        from hub_compat.converters import dispatch

        dispatch.for_save(place.detection, directory, place.facts.excluded, links)
        old = variable_values.prefix_in(directory)
        variables = _same_variables(root, place.facts, directory)
        variable_values.write(values(variables), old, directory)
        if not is_unchanged(place.detection.path, before):
            raise _gone(place, place.detection.path)
        return
    old = _copy_without_values(place, directory, links)
    if place.is_rewritten:
        assert place.facts is not None
        variables = _same_variables(root, place.facts, place.directory)
    else:
        variables = variable_values.variables_by_key(root, old)
    variable_values.write(values(variables), old, directory)
    if old == variable_values.prefix_in(place.directory) and not place.is_unchanged():
        raise _gone(place, place.directory)


def _can_convert(place: Origin) -> bool:
    """Whether it is a TF1 module that is still there, to be converted as a whole.

    If not, the directory that TensorFlow loaded is what there is to save.
    """
    source = place.detection.path
    if place.detection.format.is_tf2:
        return False
    if place.facts is None:
        raise _gone(place, place.directory)
    try:
        if fingerprint(source) == place.facts.source_fingerprint:
            return True
        problem = "the module that it came from has changed"
    except OSError:
        problem = "the module that it came from is no longer there"
    if place.facts.weights_elsewhere:
        raise SaveError(
            "The module cannot be saved: {}. Received: {!r}".format(problem, source)
        )
    if not place.is_unchanged():
        raise _gone(place, place.directory)
    warnings.warn(
        "Only the loaded variants are saved: {}. Received: {!r}".format(
            problem, source
        ),
        stacklevel=4,
    )
    return False


def _same_variables(root: Any, facts: Provenance, directory: str) -> Dict[str, Any]:
    """The loaded variables by their keys in another conversion of the same module."""
    loaded = dict(zip(facts.variables, root.variables))
    converted = provenance.read(directory)
    assert converted is not None
    keys = variable_values.keys_of_list(
        "variables", variable_values.prefix_in(directory)
    )
    # Those that were not loaded are of other variants.
    return {
        key: loaded[variable]
        for key, variable in zip(keys, converted.variables)
        if variable in loaded
    }


def _copy_without_values(place: Origin, directory: str, links: str) -> str:
    """Copies a TF2 SavedModel, but for its checkpoint.

    Returns:
      Where that is, without ``.index``.
    """
    source = place.directory
    if not place.is_unchanged():
        if source == place.detection.path or not place.is_source_unchanged():
            raise _gone(place, source)
        # It was lowered into the cache, which may be deleted at any time.
        from hub_compat.converters import dispatch

        dispatch.for_save(place.detection, directory, False, links)
        return variable_values.prefix_in(directory)
    for name in _links.model_files(source, links):
        # fingerprint.pb has a hash of the checkpoint.
        if not name.startswith("variables/") and name != "fingerprint.pb":
            target = files.join(directory, *name.split("/"))
            files.make_dirs(target.rsplit("/", 1)[0])
            files.copy_file(files.join(source, *name.split("/")), target)
    return variable_values.prefix_in(source)


def _gone(place: Origin, path: str) -> SaveError:
    return SaveError(
        "The files that the module was loaded from are gone or changed. Load it "
        "again. It was loaded from {!r}. Received: {!r}".format(
            place.detection.path, path
        )
    )
