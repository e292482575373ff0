"""Modules of the size that users have: a ResNet-50's graph, 300 MB of weights.

They are written and recorded under TensorFlow 1.15, as the small ones were.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Dict

import expected
import pytest
import replay
import runtimes
from written_once import models

import hub_compat as hub

NAMES = ("embedding", "resnet50")
WRITERS = ("apply.py", "define.py", "large.py", "make_testdata.py", "record.py")

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def large(testdata: Path) -> Dict[str, Any]:
    """The large modules and what was recorded of them, by name."""
    folder = models("tf115", testdata / "scripts" / "make_testdata.py", WRITERS, NAMES)
    return {name: expected.load_expected(name, folder) for name in NAMES}


def bytes_read() -> int:
    """What this process has read of files so far."""
    words = Path("/proc/self/io").read_text().split()
    return int(words[words.index("rchar:") + 1])


@pytest.mark.parametrize("check", sorted(replay.OBJECT_CHECKS))
@pytest.mark.parametrize("name", NAMES)
def test_values(name: str, check: str, large: Dict[str, Any]) -> None:
    """A large module gives what it gave under TF 1.15."""
    recorded = large[name]

    def load(tags: Any) -> Any:
        return hub.load(recorded.path, tags=tags or None)

    replay.OBJECT_CHECKS[check](recorded, runtimes.shared(recorded.path, load))


@pytest.mark.modeless
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/io")
@pytest.mark.parametrize("name", NAMES)
def test_conversion_reads_no_weights(name: str, large: Dict[str, Any]) -> None:
    """A conversion reads the graph and not the weights, and copies nothing."""
    path = large[name].path
    weights = sum(p.stat().st_size for p in path.rglob("*.data-*"))
    graph = (path / "saved_model.pb").stat().st_size
    # In the same file system, so that it can link.
    with tempfile.TemporaryDirectory(dir=str(path.parent)) as folder:
        # For what a process reads once: modules, the list of ops.
        hub.convert(path, Path(folder, "first"))
        before = bytes_read()
        report = hub.convert(path, Path(folder, "second"))
        assert bytes_read() - before < min(weights, 4 * graph + 2**18)
    assert report.weight_bytes_read == 0
    assert report.bytes_copied == 0
    assert report.bytes_linked == weights


@pytest.mark.modeless
def test_a_classifier_calls_its_feature_vector(large: Dict[str, Any]) -> None:
    """A signature that holds another's nodes calls it; it does not repeat it."""
    with tempfile.TemporaryDirectory() as folder:
        hub.convert(large["resnet50"].path, Path(folder, "out"))
        library = functions(Path(folder, "out"))
    for tags in ("", "_train"):
        features = library["default" + tags]
        (call,) = [
            node
            for node in library["image_classification" + tags].node_def
            if node.op == "StatefulPartitionedCall"
        ]
        assert call.attr["f"].func.name == features.signature.name
        assert len(features.node_def) > 300
        # A matrix and a bias, read and applied.
        assert len(library["image_classification" + tags].node_def) == 5


def functions(directory: Path) -> Dict[str, Any]:
    """The functions of a SavedModel by name."""
    from hub_compat._parsing.full_proto import parse_saved_model

    (meta_graph,) = parse_saved_model(str(directory), "saved_model.pb").meta_graphs
    return {f.signature.name: f for f in meta_graph.graph_def.library.function}
