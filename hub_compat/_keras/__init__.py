"""Code that the layers of Keras 2 and Keras 3 share."""

from __future__ import annotations
