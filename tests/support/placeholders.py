"""Inputs of TF1 graphs."""

from __future__ import annotations

from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")


def placeholder(dtype: Any, shape: Any = (None,)) -> Any:
    """An input."""
    return tf.compat.v1.placeholder(dtype, None if shape is None else list(shape))
