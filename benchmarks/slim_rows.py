"""The rows on SavedModels of Keras 2, which a layer loads in their slim form."""

from __future__ import annotations

import statistics

from bench import Bench

# Of TensorFlow's time, with the slim form in the cache, and without.
_WARM, _COLD, _MEMORY = 0.35, 0.5, 0.6


def slim(bench: Bench) -> None:
    """``KerasLayer(path)`` against ``tf.saved_model.load(path)``."""
    theirs = "tf.saved_model.load"
    for kind in ("efficientnetb0", "resnet50", "mobilenetv2"):
        source = bench.models.newer(kind)
        facts = bench.alternate(
            {
                "ours": lambda source=source: bench.layering(source),
                theirs: lambda source=source: bench.side("tensorflow_load", source),
            }
        )
        bench.add_share("first KerasLayer of " + kind, facts, theirs, _COLD)
        with bench.directory() as cache:
            bench.environ["HUB_COMPAT_CACHE_DIR"] = str(cache)
            # The first run, which does not count, fills the cache.
            facts = bench.alternate(
                {
                    "ours": lambda source=source: bench.side(
                        "hub_compat_layer", source
                    ),
                    theirs: lambda source=source: bench.side("tensorflow_load", source),
                }
            )
        bench.add_share("  further ones", facts, theirs, _WARM)
        mine, other = (
            statistics.median(run["extra_memory"] for run in facts[name])
            for name in ("ours", theirs)
        )
        bench.add_limit(
            "  memory, of TensorFlow's", mine / other, _MEMORY, "{:.2f}x".format
        )
