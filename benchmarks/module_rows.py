"""The row on Module, beside tensorflow_hub's own in TensorFlow 1.15."""

from __future__ import annotations

from bench import Bench

__all__ = ["module"]


def module(bench: Bench) -> None:
    """A Module of ResNet-50, made and applied once."""
    source = bench.models.hub_module("resnet50")
    theirs = "hub.Module"
    facts = bench.alternate(
        {
            "ours": lambda: bench.old_side("our_module", source),
            theirs: lambda: bench.old_side("their_module", source),
        }
    )
    bench.add_share("Module of ResNet-50, TensorFlow 1.15", facts, theirs, 1.0)
