"""Functions, lowered and called."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np

import hub_compat as hub


def parsed(path: Any) -> Any:
    """The proto of a SavedModel."""
    from hub_compat._parsing.full_proto import parse_saved_model

    return parse_saved_model(str(path), "saved_model.pb")


def ops_of(proto: Any) -> Dict[str, int]:
    """How often each op is used."""
    found: Dict[str, int] = {}
    for meta_graph in proto.meta_graphs:
        graph = meta_graph.graph_def
        for nodes in [f.node_def for f in graph.library.function] + [graph.node]:
            for node in nodes:
                found[node.op] = found.get(node.op, 0) + 1
    return found


def lowered_function(function: Any, folder: Path) -> Callable[..., Any]:
    """A tf.function after the lowering for TF 1.15, loaded where it was traced."""
    import tensorflow as tf

    module = tf.Module()
    module.run = function
    tf.saved_model.save(module, str(folder / "source"))
    hub.convert(folder / "source", folder / "out", target="tf1.15")
    loaded = tf.saved_model.load(str(folder / "out"))
    return loaded.run  # type: ignore[no-any-return]


def numbers(*shape: int) -> np.ndarray:
    """Reproducible numbers between -1 and 1."""
    size = int(np.prod(shape))
    return np.sin(np.arange(1, size + 1) * 1.7).astype(np.float32).reshape(shape)


def gradient(function: Any, x: Any) -> Any:
    """The gradient of a function's sum."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        result = function(x)
    return tape.gradient(result, x)
