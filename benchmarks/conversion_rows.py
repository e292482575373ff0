"""Rows on importing, detecting, converting and loading modules."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Callable, Dict, List

from bench import Bench
from models import EMBEDDING, size_of, weights_of
from report import Facts, Row, bytes_text, median, seconds_text

__all__ = ["imports", "detect", "convert", "weights", "growth", "load"]

MEGABYTE = 10**6


def imports(bench: Bench) -> None:
    """``import hub_compat``."""
    facts = bench.alternate(
        {
            "ours": lambda: bench.importing("hub_compat"),
            "tensorflow_hub": lambda: bench.importing("tensorflow_hub"),
        }
    )
    seconds = median(facts["ours"])
    theirs = median(facts["tensorflow_hub"])
    clean = not any(f["tensorflow"] for f in facts["ours"])
    bench.add(
        Row(
            "import hub_compat",
            seconds_text(seconds) + ("" if clean else ", with TensorFlow"),
            "{} tensorflow_hub".format(seconds_text(theirs)),
            "{:.3g}x faster".format(theirs / seconds),
            "under 50 ms, no TensorFlow",
            seconds < 0.05 and clean,
            facts,
        )
    )


def detect(bench: Bench) -> None:
    """The command line, from a cold shell."""
    resnet = bench.models.hub_module("resnet50")
    gigabyte = bench.models.with_huge_graph(resnet, 10**9)
    tool = str(Path(sys.executable).with_name("saved_model_cli"))

    def ours(directory: Path) -> Callable[[], Facts]:
        python = (sys.executable, "-m", "hub_compat")
        return lambda: bench.command(*python, "detect", str(directory))

    facts = bench.alternate(
        {
            "ours": ours(resnet),
            "ours, 1 GB": ours(gigabyte),
            "saved_model_cli": lambda: bench.command(
                tool, "show", "--dir", str(resnet), "--all"
            ),
        }
    )
    huge = {
        "ours": facts.pop("ours, 1 GB"),
        "saved_model_cli": facts["saved_model_cli"],
    }
    for name, source, runs in (
        ("detect ResNet-50, from a shell", resnet, facts),
        # Against their time on ResNet-50: on this they would take longer still.
        ("detect 1 GB of saved_model.pb", gigabyte, huge),
    ):
        bench.add_faster(name, runs, "saved_model_cli", 20)
        peak = max(bench.memory_of_detect(source) for _ in range(bench.runs))
        bench.add_limit("  memory of the process", peak, 30 * MEGABYTE, bytes_text)


def convert(bench: Bench) -> None:
    """Conversion of a large graph."""
    resnet = bench.models.hub_module("resnet50")
    facts = bench.alternate(
        {
            "ours": lambda: bench.writing("convert", resnet, twice=True),
            "load + save": lambda: bench.writing("load_and_save", resnet, twice=True),
        },
        runs=bench.many_runs,
    )
    bench.add_faster("convert ResNet-50", facts, "load + save", 20)
    # In a new process TensorFlow makes much ready at its first load, which is
    # no import; a script that converts many modules pays for it once.
    again = {name: [f["again"] for f in runs] for name, runs in facts.items()}
    bench.add_faster("  again, in one process", again, "load + save", 20, False)


def weights(bench: Bench) -> None:
    """Conversion of large weights."""
    source = _embedding(bench)
    what = "convert {} embedding".format(bytes_text(size_of(source)))
    facts = bench.alternate(
        {
            "ours": lambda: bench.writing("convert", source),
            "load + save": lambda: bench.writing("load_and_save", source),
            "cp -r": lambda: bench.copying(source),
        }
    )
    # Both bars are about a gigabyte: less is copied before a process has started.
    judged = bench.megabytes >= 1000
    bench.add_faster(what, facts, "load + save", 100, judged)
    bench.add_faster("  against a copy", facts, "cp -r", 1, judged)
    extra = {
        name: statistics.median(f["extra_memory"] for f in facts[name])
        for name in ("ours", "load + save")
    }
    bench.add(
        Row(
            "  memory beyond import tensorflow",
            bytes_text(extra["ours"]),
            "{} load + save".format(bytes_text(extra["load + save"])),
            "",
            "under 50 MB",
            # The worst run, not the median: memory has no noise to forgive.
            max(f["extra_memory"] for f in facts["ours"]) < 50 * MEGABYTE,
        )
    )
    weights = weights_of(source)
    reported = max(f["weight_bytes_read"] for f in facts["ours"])
    read = max(f["bytes_read"] for f in facts["ours"])
    bench.add(
        Row(
            "  weights read, as reported",
            bytes_text(reported),
            "{} there".format(bytes_text(weights)),
            "",
            "0 B",
            reported == 0,
        )
    )
    # Everything a conversion may read: the graph, the index, the assets.
    bench.add_limit(
        "  read by the process, in all",
        read,
        size_of(source) - weights + 2 * MEGABYTE,
        bytes_text,
    )
    source = _partitioned(bench)
    facts = bench.alternate(
        {
            "ours": lambda: bench.writing("convert", source),
            "cp -r": lambda: bench.copying(source),
        }
    )
    what = "convert {} embedding in parts".format(bytes_text(size_of(source)))
    bench.add_faster(what, facts, "cp -r", 1, judged)


def _embedding(bench: Bench) -> Path:
    size = str(bench.megabytes)
    return bench.models.hub_module("embedding", "--megabytes", size, writer=EMBEDDING)


def _partitioned(bench: Bench) -> Path:
    return bench.models.hub_module("embedding", "--megabytes", str(bench.megabytes))


def growth(bench: Bench) -> None:
    """Conversion of growing graphs."""
    sizes = (100, 1000, 10_000) if bench.quick else (1000, 10_000, 100_000)
    sources = {
        size: bench.models.hub_module("deep", "--nodes", str(size)) for size in sizes
    }
    facts = bench.alternate(
        {
            str(size): lambda size=size: bench.writing("convert", sources[size])
            for size in sizes
        }
    )
    times = [median(facts[str(size)]) for size in sizes]
    for size, seconds in zip(sizes[:2], times):
        bench.add(
            Row(
                "convert a chain of {:,} nodes".format(size),
                seconds_text(seconds),
                "",
                seconds_text(seconds / size) + " a node",
                "",
                None,
            )
        )
    bench.add(
        Row(
            "convert a chain of {:,} nodes".format(sizes[2]),
            seconds_text(times[2]),
            "{} for {:,}".format(seconds_text(times[1]), sizes[1]),
            "{:.1f}x for 10x, {} a node".format(
                times[2] / times[1], seconds_text(times[2] / sizes[2])
            ),
            "15x for 10x",
            times[2] / times[1] <= 15,
            facts,
        )
    )


def load(bench: Bench) -> None:
    """Loading of TF1 Hub modules, conversion included, and of a TF2 SavedModel."""
    resnet = bench.models.hub_module("resnet50")
    cases = [("ResNet-50", resnet, 0.7, bench.many_runs)]
    for name, source in (
        ("embedding", _embedding(bench)),
        ("embedding in parts", _partitioned(bench)),
    ):
        name = "{} {}".format(bytes_text(size_of(source)), name)
        cases.append((name, source, 1.05, bench.runs))
    for name, source, bar, runs in cases:
        facts = bench.alternate(
            {
                "ours": lambda source=source: bench.loading(source),
                "tensorflow_hub": lambda source=source: bench.side(
                    "tensorflow_hub_load", source
                ),
            },
            runs=runs,
        )
        bench.add_share("first load of " + name, facts, "tensorflow_hub", bar)
    _load_tf2(bench, bench.models.tf2_saved_model(resnet))


def _load_tf2(bench: Bench, source: Path) -> None:
    """Loading of what TensorFlow loads, which must not take longer."""
    theirs = "tf.saved_model.load"
    # Three in a hundred is far less than one process differs from the next,
    # so the two sides take turns within each.
    facts: Dict[str, List[Facts]] = {"ours": [], theirs: []}
    for _ in range(bench.runs):
        sides = ("hub_compat_load", "tensorflow_load")
        pairs = bench.side("--pairs", "9", *sides, source)
        for name, side in zip(facts, sides):
            facts[name].extend({"seconds": seconds} for seconds in pairs[side])
    bench.add_share("load of a TF2 SavedModel", facts, theirs, 1.03)
    facts = bench.alternate(
        {
            "ours": lambda: bench.loading(source),
            theirs: lambda: bench.side("tensorflow_load", source),
        },
        runs=bench.many_runs,
    )
    bench.add_share("  first in a process", facts, theirs, 1.03, judged=False)
