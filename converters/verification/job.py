"""The arguments of a comparison, as sent to another process.

``process.py`` has another process do it, which may die; then it asks
again, and says what of it not to try.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple, Tuple

__all__ = ["FAILS", "NOT_LOADED", "Job", "Place", "Tags", "Watch"]

# How a mismatch begins that is no difference of values.
FAILS = "the converted one fails"
# How the error begins where the converted model does not load at all.
NOT_LOADED = "The converted module does not load in this TensorFlow"
Tags = Tuple[str, ...]
# What is being run, "original", "objects" or "session"; the variant; the signature,
# "" while the model is loaded.
Place = Tuple[str, Tags, str]
Watch = Callable[[Place], None]


class Job(NamedTuple):
    """One comparison.

    Attributes:
      path: the original's directory.
      directory: the converted model's.
      inputs: by signature and by input, those that the caller gave.
      tolerance: the largest relative difference.
      seed: of inputs that are made up.
      deaths: places where a process died that ran the same job, and of what.
      given_up: why nothing is to be run any more; "" otherwise.
    """

    path: str
    directory: str
    inputs: Mapping[str, Mapping[str, Any]]
    tolerance: float
    seed: int
    deaths: Mapping[Place, str] = {}
    given_up: str = ""
