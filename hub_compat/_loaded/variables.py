"""The variables of a loaded object, where it does not list them itself."""

from __future__ import annotations

from typing import Any, Iterator, List, Optional, Set, Tuple

from hub_compat._tf.tracking import trackable_children

__all__ = ["list_variables", "own_list"]

_MARK = "_hub_compat_lists_variables"


def list_variables(loaded: Any) -> None:
    """Gives an object ``variables`` and ``trainable_variables``, if it has none.

    A SavedModel keeps attributes, not what a class computes: of a ``tf.Module`` or a
    ``tf.train.Checkpoint`` come the variables, but no list of them.

    Args:
      loaded: what TensorFlow's loader returned.
    """
    listed = getattr(loaded, "variables", None)
    if listed is not None and not isinstance(listed, (list, tuple)):
        # Something of the program's own.
        return
    # Not tracked: nothing more is saved.
    if not listed:
        found = _variables(loaded, set())
        every = list({id(variable): variable for variable in found}.values())
        if listed is not None and not every:
            every = listed  # type: ignore[assignment]
        object.__setattr__(loaded, "variables", every)
        object.__setattr__(loaded, _MARK, True)
        listed = every
    trained = getattr(loaded, "trainable_variables", None)
    if trained is None or (not trained and getattr(loaded, _MARK, False)):
        trained = [variable for variable in listed if variable.trainable]
        object.__setattr__(loaded, "trainable_variables", trained)


def own_list(found: Any, name: str) -> Optional[List[Any]]:
    """A list of variables that the model itself has under a name; else None."""
    listed = getattr(found, name, None)
    return None if listed is None or getattr(found, _MARK, False) else list(listed)


def _variables(found: Any, seen: Set[int]) -> Iterator[Any]:
    """Variables in the order of tf.Module: an object's own first, by name."""
    later = []
    for child in _children(found):
        if id(child) in seen:
            continue
        seen.add(id(child))
        if hasattr(child, "read_value"):
            yield child
        else:
            later.append(child)
    for child in later:
        yield from _variables(child, seen)


def _children(found: Any) -> Iterator[Any]:
    """What an object tracks, and in place of a list or dict what that tracks."""
    children = trackable_children(found)
    for name in sorted(children, key=_in_order):
        child = children[name]
        if isinstance(child, (list, tuple, dict)):
            yield from _children(child)
        else:
            yield child


def _in_order(name: str) -> Tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (-1, name)
