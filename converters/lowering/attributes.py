"""Attributes that the target does not know, and those it needs."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from ..ir.rewriter import Rewrite, Unlowerable
from ..opdata.targets import Registry
from . import rules
from .rules import arrays, small_integers

__all__ = ["Attributes", "Limits", "limits_of"]

# They tell a debugger, a gradient function of the writer or a device that the target
# does not have; without them the op computes the same. ``*`` stands for any op.
MEANINGLESS = frozenset(
    [
        ("*", "debug_name"),  # of a variable's handle, for messages
        ("*", "grad_a"),  # of a product: whether an operand is a gradient
        ("*", "grad_b"),
        ("*", "grad_x"),
        ("*", "grad_y"),
        ("*", "metadata"),  # for a profiler
        ("*", "sparse_gradient"),  # of a sum over segments: as IndexedSlices
        # Checks a shape that has been checked when the model was traced.
        ("AssignVariableOp", "validate_shape"),
        ("ScanDataset", "use_default_device"),
        # Of tables: for how long an object lives, which the loader decides.
        ("VarHandleOp", "allowed_devices"),
        # How TPUs compile and shard; no other device has anything to do with it.
        ("ConfigureDistributedTPU", "compilation_failure_closes_chips"),
        ("ConfigureDistributedTPU", "enable_whole_mesh_compilations"),
        ("ConfigureDistributedTPU", "tpu_cancellation_closes_chips"),
        ("EnqueueTPUEmbeddingSparseTensorBatch", "num_features"),
        ("TPUPartitionedCall", "autotuner_thresh"),
        ("TPUReplicateMetadata", "tpu_compile_options_proto"),
        ("TPUReplicateMetadata", "use_shardy_partitioner"),
        ("TPUReplicateMetadata", "use_spmd_for_xla_partitioning"),
        ("TPUReplicatedInput", "index"),
        ("TPUReplicatedInput", "is_mirrored_variable"),
        ("TPUReplicatedInput", "is_packed"),
        # Which requests of several a server puts together, and how it fills up.
        ("BatchFunction", "batch_padding_policy"),
        ("BatchFunction", "enable_large_batch_splitting"),
        ("BatchFunction", "low_priority_allowed_batch_sizes"),
        ("BatchFunction", "low_priority_batch_timeout_micros"),
        ("BatchFunction", "low_priority_max_batch_size"),
        ("BatchFunction", "low_priority_max_enqueued_batches"),
        ("BatchFunction", "mixed_priority_policy"),
        # How workers wait for each other.
        ("CollectiveBcastRecv", "timeout_seconds"),
        ("CollectiveBcastSend", "timeout_seconds"),
        ("CollectiveGather", "timeout_seconds"),
        ("CollectiveReduce", "timeout_seconds"),
        # How much of a dataset is held, how it is told to workers, and what is logged.
        ("AutoShardDataset", "auto_shard_policy"),
        ("AutoShardDataset", "num_replicas"),
        ("DatasetToGraph", "allow_stateful"),
        ("DatasetToGraph", "strip_device_assignment"),
        ("IgnoreErrorsDataset", "log_warning"),
        ("MapDataset", "force_synchronous"),
        ("ModelDataset", "ram_budget"),
        ("PrefetchDataset", "buffer_size_min"),
        ("RangeDataset", "replicate_on_split"),
        ("SerializeIterator", "external_state_policy"),
        ("TensorSliceDataset", "is_files"),
        ("TensorSliceDataset", "replicate_on_split"),
    ]
)
# The same of all ops whose name begins so: which table of a TPU is meant.
_MEANINGLESS_OF = (
    ("LoadTPUEmbedding", "config"),
    ("RetrieveTPUEmbedding", "config"),
)
# Values of an attribute that say what a CPU does without it: an index that is out of
# range is an error.
_AS_EVER = {"bad_indices_policy": (b"", b"DEFAULT", b"ERROR")}


def _means_nothing(node: Any, key: str) -> bool:
    return (
        ("*", key) in MEANINGLESS
        or (node.op, key) in MEANINGLESS
        or any(key == k and node.op.startswith(op) for op, k in _MEANINGLESS_OF)
        or (key in _AS_EVER and node.attr[key].s in _AS_EVER[key])
    )


class Limits(NamedTuple):
    """The definition of an op in one TensorFlow.

    Attributes:
      names: its attributes.
      types: dtype attributes, with the dtypes it takes.
      least: attributes that are numbers, with the least one.
    """

    names: Set[str]
    types: List[Tuple[str, Set[int]]]
    least: List[Tuple[str, int]]

    def allow(self, node: Any) -> bool:
        """Whether all that a node says of itself is known."""
        for key in node.attr:
            if key not in self.names and not key.startswith("_"):
                return False
        return self.refused(node) is None

    def refused(self, node: Any) -> Optional[str]:
        """An attribute of a node whose dtype, or number, the op does not take."""
        for key, allowed in self.types:
            if key in node.attr and node.attr[key].type not in allowed:
                return key
        for key, least in self.least:
            if key in node.attr and node.attr[key].i < least:
                return key
        return None


def limits_of(op: Any) -> Limits:
    """The attributes that an OpDef allows."""
    return Limits(
        {attr.name for attr in op.attr},
        [
            (attr.name, set(attr.allowed_values.list.type))
            for attr in op.attr
            if attr.type == "type" and attr.HasField("allowed_values")
        ],
        [
            (attr.name, attr.minimum)
            for attr in op.attr
            if attr.type == "int" and attr.has_minimum
        ],
    )


class _Known(NamedTuple):
    """The definition in the target of an op of the model's writer.

    Attributes:
      limits: its attributes and dtypes.
      missing: attributes that the target has and whose default is another one for
        the model's writer, with that.
      differs: whether its arguments are others.
    """

    limits: Limits
    missing: List[Tuple[str, Any]]
    differs: bool


class Attributes:
    """Settles the attributes of nodes whose op the target has.

    Args:
      registry: what the target knows.
      source_op: from an op to its OpDef as the model's writer had it.
    """

    def __init__(self, registry: Registry, source_op: Callable[[str], Any]) -> None:
        self._registry = registry
        self._source_op = source_op
        self._known: Dict[str, _Known] = {}

    def settle(self, rewrite: Rewrite, done: Dict[str, int]) -> bool:
        """Makes a node's attributes those that the target knows.

        Returns:
          Whether the op can stay; False where its arguments are others.

        Raises:
          Unlowerable: an attribute means something that the target does not know.
        """
        node = rewrite.node
        known = self._known.get(node.op)
        if known is None:
            known = self._known[node.op] = self._compare(node.op)
        if known.differs:
            return False
        unknown = [
            key
            for key in node.attr
            if key not in known.limits.names and not key.startswith("_")
        ]
        for key in unknown:
            if not self._is_default(node, key) and not _means_nothing(node, key):
                rule = rules.ATTRIBUTES.get((node.op, key))
                if rule is None:
                    raise Unlowerable(
                        "{}, for its attribute {}={}".format(
                            node.op, key, _short(node.attr[key])
                        )
                    )
                if not rule(rewrite):
                    raise Unlowerable("{}, for its attribute {}".format(node.op, key))
                done["{}.{} is written out".format(node.op, key)] += 1
            else:
                done["{}.{} is dropped".format(node.op, key)] += 1
            del node.attr[key]
        for key, value in known.missing:
            if key not in node.attr:
                node.attr[key].CopyFrom(value)
        refused = known.limits.refused(node)
        if refused is not None and small_integers.widen(rewrite, refused):
            done["{} of small integers is one of int32".format(node.op)] += 1
        elif refused is not None and arrays.row_of_variant(rewrite, refused):
            done[node.op + " of a row is one of a list"] += 1
        elif refused is not None:
            raise Unlowerable(
                "{}, for {}={}".format(node.op, refused, _short(node.attr[refused]))
            )
        return True

    def _is_default(self, node: Any, key: str) -> bool:
        for attr in self._source_op(node.op).attr:
            if attr.name == key:
                return attr.HasField("default_value") and _same(
                    attr.default_value, node.attr[key]
                )
        return False

    def _compare(self, op: str) -> _Known:
        target = self._registry.get(op)
        source = self._source_op(op)
        assert target is not None
        limits = limits_of(target)
        if target == source:
            return _Known(limits, [], False)
        defaults = {
            attr.name: attr.default_value
            for attr in source.attr
            if attr.HasField("default_value")
        }
        missing = []
        for attr in target.attr:
            if attr.name in defaults and not (
                attr.HasField("default_value")
                and _same(attr.default_value, defaults[attr.name])
            ):
                missing.append((attr.name, defaults[attr.name]))
        differs = [a.name for a in target.input_arg] != [
            a.name for a in source.input_arg
        ] or [a.name for a in target.output_arg] != [a.name for a in source.output_arg]
        return _Known(limits, missing, differs)


def _same(one: Any, other: Any) -> bool:
    return bool(
        one == other
        or one.SerializeToString(deterministic=True)
        == other.SerializeToString(deterministic=True)
    )


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) < 60 else text[:57] + "..."
