"""Every layer of tf_keras and Keras 3 that TensorFlow 2.21 saves, in this runtime.

``testdata/scripts/layers.py`` wrote them, one module for each library, and recorded
what they compute there; ``docs/lowering.md`` is the table of what comes out here.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Tuple

import layers_compare
import pytest
import runtimes

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.tf1]


def each_layer() -> List[Tuple[str, str]]:
    """All layers that are there, by library."""
    return [
        (library, name)
        for library in layers_compare.LIBRARIES
        for name in layers_compare.names(library)
    ]


@pytest.fixture(scope="module", params=layers_compare.LIBRARIES)
def layers(request: Any, tmp_path_factory: Any) -> Iterator[Any]:
    """All layers of a library, loaded once."""
    path = layers_compare.unpacked(request.param, tmp_path_factory.mktemp("layers"))
    # Eagerly, TensorFlow's optimizer is at work; in a graph it would take a minute.
    with runtimes.Runtime(lambda: hub.load(path), optimized=False) as runtime:
        yield request.param, runtime


def test_there_are_layers() -> None:
    """Both libraries have more than a hundred; one of each TensorFlow cannot save."""
    for library in layers_compare.LIBRARIES:
        facts = layers_compare.facts(library)
        saved = {key for key, fact in facts.items() if fact in ("same", "random")}
        assert len(saved) >= 140
        assert len(facts) - len(saved) <= 1


@pytest.mark.parametrize("group", range(layers_compare.GROUPS))
def test_layers(group: int, layers: Any) -> None:
    """Outputs, gradients, and what training changes are those of TensorFlow 2.21."""
    library, runtime = layers
    wrong: List[str] = []
    those = layers_compare.names(library)[group :: layers_compare.GROUPS]
    for name, said in layers_compare.compare(runtime, library, those).items():
        for mode, what in said.items():
            if what not in layers_compare.GOOD:
                wrong.append("{} {}: {}".format(name, mode, what))
    assert not wrong, "\n".join(wrong)
