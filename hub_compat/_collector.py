"""Python's cyclic garbage collector, out of the way while graphs grow."""

from __future__ import annotations

import contextlib
import gc
from typing import Iterator

__all__ = ["collector_paused"]


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Pauses the collector, if it runs, for the length of the block.

    A fifth of the time of a conversion or of a load went to it: it looked again
    and again at hundreds of thousands of objects, all of them still in use,
    beside those of TensorFlow itself.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
