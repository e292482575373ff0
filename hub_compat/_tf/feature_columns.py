"""What feature columns are made of; TensorFlow keeps it to itself."""

from __future__ import annotations

from typing import Any, Tuple

from hub_compat._tf import tf
from hub_compat.errors import OptionsError

__all__ = ["check_state_manager", "column_bases", "is_trainable"]


def column_bases() -> Tuple[type, ...]:
    """The classes that ``input_layer`` and ``DenseFeatures`` look for.

    Private: ``_DenseColumn`` of feature_column and ``DenseColumn`` of feature_column_v2
    (1.15 to 2.21). TensorFlow's columns are of both.

    Raises:
      OptionsError: this TensorFlow has none.
    """
    try:
        from tensorflow.python.feature_column import feature_column, feature_column_v2

        return feature_column._DenseColumn, feature_column_v2.DenseColumn
    except (ImportError, AttributeError) as error:
        raise OptionsError(
            "TensorFlow {} has no feature columns. Use hub_compat.KerasLayer on the "
            "feature instead. Received: {}".format(tf.__version__, error)
        ) from error


def check_state_manager() -> None:
    """Refuses TensorFlows whose layers do not keep what a column loads.

    Private: ``StateManager.has_resource`` of feature_column_v2 (2.3 to 2.21).

    Raises:
      OptionsError: it is one of those.
    """
    try:
        from tensorflow.python.feature_column import feature_column_v2

        if hasattr(feature_column_v2.StateManager, "has_resource"):
            return
    except (ImportError, AttributeError):
        pass
    raise OptionsError(
        "text_embedding_column_v2() needs a TensorFlow whose DenseFeatures keeps the "
        "model that a column loads: 2.3 or newer, with feature columns. Use "
        "text_embedding_column() or hub_compat.KerasLayer. Received: TensorFlow "
        "{}".format(tf.__version__)
    )


def is_trainable(state_manager: Any) -> bool:
    """Whether the layer that a column is made for trains.

    Private: ``_trainable`` of the state manager (1.15 to 2.21). Without it, it does.
    """
    return bool(getattr(state_manager, "_trainable", True))
