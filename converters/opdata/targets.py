"""Describes target runtimes: their ops, with attributes and defaults."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Tuple

from hub_compat._tf import op_def_pb2, tf
from hub_compat._tf.runtime import registered_op
from hub_compat.errors import ConversionError

from .op_defs import read_ops

__all__ = [
    "NEWEST",
    "TARGETS",
    "Registry",
    "Target",
    "of_runtime",
    "of_target",
    "ops_of",
    "version_of",
]


class Target(NamedTuple):
    """A TensorFlow to lower for.

    Attributes:
      version: ``(1, 15)``.
      graph_def_version: its ``tf.version.GRAPH_DEF_VERSION``.
      file: its op list, in ``converters/opdata``.
    """

    version: Tuple[int, int]
    graph_def_version: int
    file: str


# Another target is one more line and one more file, and more where its loader differs:
# docs/how-to/add-a-target.md.
TARGETS = {
    "tf1.15": Target((1, 15), 134, "ops_tf1_15.pb.gz"),
    "tf2.15": Target((2, 15), 1645, "ops_tf2_15.pb.gz"),
    "tf2.21": Target((2, 21), 2474, "ops_tf2_21.pb.gz"),
}
# What writers of models have. A SavedModel lists the ops of its functions, but not
# those of the branches and bodies within them (TF 2.21).
NEWEST = "tf2.21"


class Registry:
    """Op definitions of one TensorFlow.

    Attributes:
      name: how messages call it: ``"TensorFlow 1.15"``.
      version: ``(1, 15)``.
      graph_def_version: its ``tf.version.GRAPH_DEF_VERSION``.
    """

    def __init__(
        self,
        name: str,
        version: Tuple[int, int],
        graph_def_version: int,
        ops: Optional[Dict[str, Any]] = None,
    ) -> None:
        self.name = name
        self.version = version
        self.graph_def_version = graph_def_version
        self._ops = ops
        self._found: Dict[str, Any] = {}
        self._more: Dict[str, Any] = {}

    def get(self, op: str) -> Optional[op_def_pb2.OpDef]:
        """The definition of an op; None where there is none."""
        if op in self._more:
            return self._more[op]
        if self._ops is not None:
            return self._ops.get(op)
        if op not in self._found:
            self._found[op] = registered_op(op)
        return self._found[op]

    def extended(self, ops: Dict[str, Any]) -> Registry:
        """The same TensorFlow with more ops, such as those of a library."""
        found = Registry(self.name, self.version, self.graph_def_version, self._ops)
        found._more = dict(ops)
        return found


def of_target(name: str) -> Registry:
    """The registry of a target, from its file.

    Raises:
      ConversionError: there is no such target.
    """
    if name not in TARGETS:
        raise ConversionError(
            "Unknown target. Choose one of {}. Received: {!r}".format(
                ", ".join(map(repr, list(TARGETS) + ["tf1-hub", "tf1-saved-model"])),
                name,
            )
        )
    target = TARGETS[name]
    return Registry(
        "TensorFlow {}.{}".format(*target.version),
        target.version,
        target.graph_def_version,
        ops_of(name),
    )


def of_runtime() -> Registry:
    """The registry of the running TensorFlow, with what its program loaded."""
    return Registry(
        "TensorFlow " + tf.__version__,
        version_of(tf.__version__),
        tf.version.GRAPH_DEF_VERSION,
    )


def ops_of(name: str) -> Dict[str, Any]:
    """The op definitions of a target, by name."""
    return read_ops(TARGETS[name].file)


def version_of(text: str) -> Tuple[int, int]:
    """``"2.21.0"`` -> ``(2, 21)``; ``(0, 0)`` for what is no version."""
    parts = text.split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return (0, 0)
    return (int(parts[0]), int(parts[1]))
