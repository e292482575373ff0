"""A Keras SavedModel without what only Keras' own loader needs."""

from __future__ import annotations

from .directories import SlimFacts, pays, read_facts, write_slim
from .objects import NotUnderstood
from .slimming import Slim, slim

# Changes with what the slim form of a model is, so that caches hold nothing stale.
VERSION = 2

__all__ = [
    "NotUnderstood",
    "Slim",
    "SlimFacts",
    "VERSION",
    "pays",
    "read_facts",
    "slim",
    "write_slim",
]
