"""Loads the slim form of a model, where there is one."""

from __future__ import annotations

import logging
from typing import Any, Callable, Optional, Tuple

from hub_compat import cache
from hub_compat._tf import tf
from hub_compat._tf.tracking import tracks_attributes
from hub_compat.converters import VERSION, slim
from hub_compat.errors import CacheError, HubCompatError, OptionsError

__all__ = ["AUTO", "check", "load_slim"]

# Only where it pays.
AUTO = "auto"
_logger = logging.getLogger(__name__)
# So many layers are worth an entry in the cache.
_WORTH = 8


def check(value: Any) -> None:
    """Refuses what is no value of the argument ``slim``.

    Raises:
      OptionsError: it is none.
    """
    if not (isinstance(value, bool) or value == AUTO):
        raise OptionsError(
            "slim says whether to leave out what only Keras' own loader needs: True, "
            "False, or 'auto' for models where that pays. Received: {!r}".format(value)
        )


def load_slim(
    directory: str, wanted: Any, name: str, load: Callable[[str], Any]
) -> Optional[Any]:
    """Loads the slim form of a TF2 SavedModel.

    Args:
      directory: the model.
      wanted: True, or ``AUTO``.
      name: what the caller knows it as, for messages.
      load: loads a directory.

    Returns:
      The object; None where the model is to be loaded whole.
    """
    if not slim.pays(directory, _WORTH if wanted == AUTO else 1):
        return None
    try:
        found = cache.normalised(
            directory,
            # What its protobuf does not know, TensorFlow's loader does not read.
            (VERSION, "slim", str(slim.VERSION), tf.__version__),
            lambda target: slim.write_slim(directory, target),
        )
        facts = slim.read_facts(found)
        if not facts.reason:
            loaded = load(found)
            _explain(loaded, facts.lost, name)
            return loaded
        reason = facts.reason
    except (HubCompatError, OSError, KeyError, ValueError) as error:
        if isinstance(error, CacheError):
            _logger.debug("No slim form of %r, for want of a cache: %s", name, error)
            return None
        reason = str(error)
    except Exception as error:  # TensorFlow's, of any kind
        reason = "{}: {}".format(type(error).__name__, error)
    _logger.debug("The model %r is loaded whole, as %s", name, reason)
    return None


def _explain(loaded: Any, lost: Tuple[str, ...], name: str) -> None:
    """Has a loaded object say where what it lacks is."""
    kind = type(loaded)
    # TensorFlow makes a class for each object that it loads.
    if not tracks_attributes(loaded) or hasattr(kind, "__getattr__"):
        return
    missing = frozenset(lost)

    def ask(found: Any, attribute: str) -> Any:
        if attribute in missing:
            raise AttributeError(
                "The model was loaded without what only Keras' own loader needs. "
                "hub_compat.load({!r}, slim=False) has it. Received: {!r}".format(
                    name, attribute
                )
            )
        raise AttributeError(
            "{!r} object has no attribute {!r}".format(kind.__name__, attribute)
        )

    kind.__getattr__ = ask
