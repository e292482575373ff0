"""Reference variables: what is their memory, and when a session reads it."""

from __future__ import annotations
