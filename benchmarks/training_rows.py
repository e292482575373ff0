"""Rows on lowering, loops and KerasLayer."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence

from bench import Bench
from models import RECURRENT, ROOT
from report import Facts, Row, median, seconds_text

__all__ = ["lower", "recurrent", "layer", "fit"]


def lower(bench: Bench) -> None:
    """Lowering of a model of this TensorFlow for TensorFlow 1.15."""
    sizes = (100, 1000) if bench.quick else (1000, 10_000)
    sources = {
        str(size): bench.models.newer("deep", "--nodes", str(size)) for size in sizes
    }
    sources["ResNet-50"] = bench.models.newer("resnet50")
    facts = bench.alternate(
        {
            name: lambda source=source: bench.writing("lower", source, twice=True)
            for name, source in sources.items()
        }
    )
    times = {name: median([f["again"] for f in facts[name]]) for name in facts}
    first = median(facts["ResNet-50"])
    bench.add_limit("lower ResNet-50, once in a process", first, 0.5, seconds_text)
    small, large = (times[str(size)] for size in sizes)
    bench.add(
        Row(
            "lower a chain of {:,} nodes".format(sizes[1]),
            seconds_text(large),
            "{} for {:,}".format(seconds_text(small), sizes[0]),
            "{:.1f}x for 10x".format(large / small),
            "15x for 10x",
            large / small <= 15,
            facts,
        )
    )


def recurrent(bench: Bench) -> None:
    """An LSTM of 100 steps, written as TF1 writes loops."""
    source = bench.models.hub_module("lstm", writer=RECURRENT)
    for what, sides, bar in (
        ("forward", ("converted_forward", "untouched_forward"), 1.2),
        ("gradient", ("converted_gradient", "keras_gradient"), 1.5),
    ):
        theirs = {"forward": "the graph untouched", "gradient": "tf_keras"}[what]
        with bench.directory() as directory:
            bench.environ["HUB_COMPAT_CACHE_DIR"] = str(directory)
            what = "LSTM, 100 steps, {} x10".format(what)
            _pairs(bench, what, sides, source, theirs, bar, pairs=9)


def layer(bench: Bench) -> None:
    """Calls of KerasLayer, against tensorflow_hub's and the function behind it."""
    small = _converted(bench, ROOT / "testdata" / "image_bn" / "module")
    hub, raw = "tensorflow_hub", "a concrete function"
    for what, sides, theirs, bar in (
        ("KerasLayer x50", ("our_layer_eager", "their_layer_eager"), hub, 1.05),
        ("  against it", ("our_layer_eager", "concrete_eager"), raw, 0),
        (
            "  in a tf.function",
            ("our_layer_in_function", "their_layer_in_function"),
            hub,
            1.05,
        ),
        (
            "  in a tf.function",
            ("our_layer_in_function", "concrete_in_function"),
            raw,
            1.05,
        ),
    ):
        _pairs(bench, what, sides, small, theirs, bar)


def fit(bench: Bench) -> None:
    """An epoch of a small network with a large module in it."""
    resnet = _converted(bench, bench.models.hub_module("resnet50"))
    for kind in ("frozen", "trainable"):
        sides = ("our_fit_" + kind, "their_fit_" + kind)
        what = "fit, ResNet-50 " + kind
        # An epoch takes seconds, and the first one half a minute.
        _pairs(bench, what, sides, resnet, "tensorflow_hub", 1.1, 3, processes=2)


def _converted(bench: Bench, source: Path) -> Path:
    """What tensorflow_hub can train, too."""
    target = bench.scratch / (source.parent.name + source.name + "-converted")
    if not target.exists():
        bench.side("convert", source, target)
    return target


def _pairs(
    bench: Bench,
    what: str,
    sides: Sequence[str],
    source: Path,
    theirs: str,
    bar: float,
    pairs: int = 5,
    processes: int = 0,
) -> None:
    """A row on two sides that take turns within each of some processes."""
    facts: Dict[str, List[Facts]] = {"ours": [], theirs: []}
    for _ in range(processes or bench.runs):
        seconds = bench.side("--pairs", str(pairs), *sides, source)
        for name, side in zip(facts, sides):
            facts[name].extend({"seconds": one} for one in seconds[side])
    bench.add_share(what, facts, theirs, bar, judged=bool(bar))
