"""What objects keep track of."""

from __future__ import annotations

from typing import Any, Dict, Iterator

from hub_compat._tf import tf

__all__ = ["trackable_children", "tracked_objects", "tracks_attributes"]


def trackable_children(trackable: Any) -> Dict[str, Any]:
    """The objects that an object tracks for checkpoints, by name.

    Private: ``_trackable_children`` from TF 2.8 on, ``_checkpoint_dependencies``
    before, and ``_maybe_initialize_trackable`` in all. Without them, an object's
    attributes.
    """
    # TF 2.4 to 2.8: a model of Keras that tracks nothing yet has no list to ask for.
    if hasattr(trackable, "_maybe_initialize_trackable"):
        trackable._maybe_initialize_trackable()
    if hasattr(trackable, "_trackable_children"):
        try:
            return dict(trackable._trackable_children())
        except TypeError:
            # TF 2.12: of a resource that a loader made, the argument has no default.
            return dict(trackable._trackable_children("checkpoint"))
    if hasattr(trackable, "_checkpoint_dependencies"):
        return dict(trackable._checkpoint_dependencies)
    return dict(getattr(trackable, "__dict__", {}))


def tracked_objects(trackable: Any) -> Iterator[Any]:
    """An object and all that it tracks, directly or not, each once; no variables."""
    seen = set()
    pending = [trackable]
    while pending:
        found = pending.pop()
        if id(found) not in seen and not isinstance(found, tf.Variable):
            seen.add(id(found))
            yield found
            pending.extend(trackable_children(found).values())


def tracks_attributes(found: Any) -> bool:
    """Whether an object is one that tracks its attributes, as tf.Module does.

    Private: AutoTrackable and its ``_setattr_tracking`` (1.15 to 2.21). Without it, no.
    """
    return hasattr(found, "_setattr_tracking")
