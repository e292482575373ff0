"""save(): a loaded module, with the values that its variables have now."""

from __future__ import annotations

import warnings
from typing import Any, Callable, Dict, Mapping, Optional

from hub_compat import (
    _files,
    _guard,
    converters,
    object_values,
    origin,
    provenance,
)
from hub_compat._fingerprint import fingerprint
from hub_compat._publish import atomic_directory
from hub_compat.errors import SaveError
from hub_compat.origin import Origin
from hub_compat.provenance import Provenance

__all__ = ["save", "write"]


def save(
    loaded: Any, directory: Any, *, overwrite: bool = False, session: Any = None
) -> None:
    """Saves a loaded module with the values that its variables have now.

    All else is as it was: what it calls, variants, sub-objects, signatures, attached
    messages, assets, and where it came from. Of a TF1 module that was loaded by
    ``tags`` the other variants come along, with the new values of the variables that
    they share, as ``hub.Module.export`` wrote them. The result is a TF2 SavedModel,
    for ``load()`` and for all that reads such. What a program hung on the object is
    not part of the module: ``tf.saved_model.save`` saves that.

    Args:
      loaded: what ``load()`` returned.
      directory: directory to write; a string or ``os.PathLike``. It appears whole or
        not at all, and may be the one that was loaded.
      overwrite: replace a directory that exists.
      session: in graph mode, the ``tf.compat.v1.Session`` that holds the values; by
        default the current one.

    Raises:
      SaveError: ``loaded`` did not come from ``load()``; its files are gone or not
        the same any more; its variables have no values, or there is no session to
        ask for them.
      DestinationError: ``directory`` exists, or cannot be written.
    """
    place = origin.of(loaded)
    if place is None:
        raise SaveError(
            "save() takes what load() returned; for other objects, and for parts of a "
            "loaded one, there is tf.saved_model.save. Received: {!r}".format(loaded)
        )

    def values(variables: Mapping[str, Any]) -> Dict[str, Any]:
        try:
            read = object_values.read(list(variables.values()), session)
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

    target = _files.as_path(directory)
    with _guard.reading(place.directory, "saved"), atomic_directory(
        target, overwrite=overwrite
    ) as new:
        write(loaded, new, values)


def write(
    loaded: Any,
    directory: str,
    values: Callable[[Mapping[str, Any]], Dict[str, Any]],
) -> None:
    """Writes a loaded module into an empty directory, with other values.

    Args:
      loaded: what ``load()`` returned.
      directory: where the result goes.
      values: from the variables to their values, each by its key; the variables that
        it leaves out keep the value that they were loaded with.

    Raises:
      SaveError: its files are gone or not the same any more.
    """
    place = origin.of(loaded)
    assert place is not None
    root = loaded if place.root is None else place.root
    facts = _source_facts(place)
    if facts is not None:
        # load() converted no more of it than it loaded.
        converters.convert_for_save(place.detection, directory, facts.excluded)
        old = object_values.prefix_in(directory)
        variables = _same_variables(root, facts, directory)
    else:
        _copy_without_values(place, directory)
        old = object_values.prefix_in(place.directory)
        variables = object_values.variables_by_key(root, old)
    object_values.write(values(variables), old, directory)


def _source_facts(place: Origin) -> Optional[Provenance]:
    """What ``load()`` knew of a module that it converted and that is still there.

    None where the directory that TensorFlow loaded is what there is to save.
    """
    source = place.detection.path
    if place.detection.format.is_tf2:
        return None
    facts = provenance.read(place.directory)
    if facts is None:
        raise _gone(place)
    try:
        if fingerprint(source) == facts.source_fingerprint:
            return facts
        problem = "the module that it came from is another now"
    except OSError:
        problem = "the module that it came from is no longer there"
    if facts.weights_elsewhere:
        raise SaveError(
            "The module cannot be saved: {}. Received: {!r}".format(problem, source)
        )
    warnings.warn(
        "Only those variants are saved that were loaded: {}. Received: {!r}".format(
            problem, source
        ),
        stacklevel=4,
    )
    return None


def _same_variables(root: Any, facts: Provenance, directory: str) -> Dict[str, Any]:
    """The loaded variables by their keys in another conversion of the same module."""
    loaded = dict(zip(facts.variables, root.variables))
    converted = provenance.read(directory)
    assert converted is not None
    keys = object_values.keys_of_list("variables", object_values.prefix_in(directory))
    # Those that were not loaded are of other variants.
    return {
        key: loaded[variable]
        for key, variable in zip(keys, converted.variables)
        if variable in loaded
    }


def _copy_without_values(place: Origin, directory: str) -> None:
    """Copies a TF2 SavedModel, but for its checkpoint."""
    source = place.directory
    if not place.is_unchanged():
        raise _gone(place)
    for name in _files.walk_files(source):
        # fingerprint.pb has a hash of the checkpoint.
        if not name.startswith("variables/") and name != "fingerprint.pb":
            target = _files.join(directory, *name.split("/"))
            _files.make_dirs(target.rsplit("/", 1)[0])
            _files.copy_file(_files.join(source, *name.split("/")), target)


def _gone(place: Origin) -> SaveError:
    return SaveError(
        "The files that the module was loaded from are gone, or not the same any more; "
        "load it again. Received: {!r}".format(place.directory)
    )
