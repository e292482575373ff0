"""Estimators, which TensorFlow had up to 2.15."""

from __future__ import annotations

from typing import Any

from hub_compat._tf import tf

__all__ = ["exporter_base"]


def exporter_base() -> Any:
    """The class ``Exporter`` that ``EvalSpec`` looks for; None without Estimators.

    Public, but in a package of its own (tensorflow_estimator), which may be missing.
    """
    try:
        return tf.compat.v1.estimator.Exporter
    except (AttributeError, ImportError):
        return None
