"""What the layers of all Kerases share."""

from __future__ import annotations
