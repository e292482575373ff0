"""Skips the signatures and variables that cannot be converted, with the reason."""

from __future__ import annotations

from typing import Callable, Collection, Dict, Optional, Set

from .checkpoint.index import CheckpointIndex
from .ir.model import Model, VariantGraph, root_tags
from .ir.tables import is_carrier
from .opdata import op_defs


def leave_out_without_value(model: Model, index: Optional[CheckpointIndex]) -> None:
    """Skips variables that have no value, and everything that needs them.

    A graph declares variables that its exporter did not save: those of metrics, or
    what only another signature's program initialized.
    """
    missing = set()
    lost = {key for key, variable in model.variables.items() if variable.lost}
    for key, variable in model.variables.items():
        saved = index is not None and variable.checkpoint_key in index.entries
        if variable.initial is None and not saved or key in lost:
            missing.add(key)
    tags = root_tags(variant.tags for variant in model.variants)
    root = next(variant for variant in model.variants if variant.tags == tags)
    if not missing or root.restored.intersection(missing - lost):
        # Its own loader could not restore it: _map_variables says what it lacks.
        return
    for variant in model.variants:
        keys = {n: c.key for n, c in variant.captures.items() if c.key in missing}

        def reason(name: str, keys: Dict[str, str] = keys) -> str:
            variable = model.variables[keys[name]]
            if variable.lost:
                return "its outputs need the variable {!r}: {}".format(
                    name, variable.lost
                )
            return (
                "the checkpoint holds no value for the variable {!r}, which its "
                "outputs need".format(name)
            )

        _leave_out(set(keys), model, variant, reason)
        variant.variables = [key for key in variant.variables if key not in missing]
        variant.trainable -= missing
    for key in missing:
        del model.variables[key]


def leave_out_dropped(model: Model, available: Collection[str]) -> None:
    """Skips everything that needs an op that TensorFlow has dropped.

    Args:
      model: the model.
      available: such ops that are there nevertheless.
    """
    homes = op_defs.homes()
    for variant in model.variants:
        ops = {
            name: node.op
            for name, node in variant.graph.nodes.items()
            if node.op in homes and node.op not in available
        }

        def reason(name: str, ops: Dict[str, str] = ops) -> str:
            return "it uses the op {} of {}, which TensorFlow 2 removed".format(
                ops[name], homes[ops[name]]
            )

        _leave_out(set(ops), model, variant, reason)


def leave_out_dense_tables(model: Model) -> None:
    """Skips users of tables whose empty key is not made of constants.

    No object of a SavedModel can be made from a tensor of a graph, and in a function
    each call would have a table of its own, empty.
    """
    for variant in model.variants:
        nodes = {
            name
            for name, node in variant.graph.nodes.items()
            if node.op.startswith("MutableDenseHashTable")
            and name not in variant.captures
        }
        _leave_out(
            nodes,
            model,
            variant,
            "it needs the dense hash table {!r}, which would be empty".format,
        )


def _leave_out(
    nodes: Set[str],
    model: Model,
    variant: VariantGraph,
    reason: Callable[[str], str],
) -> None:
    """Skips the signatures, update ops and losses that need some nodes."""
    if not nodes:
        return
    graph = variant.graph
    for name, signature in list(variant.signatures.items()):
        fed = {c.tensor for c in signature.flat_inputs()}
        outputs = [c.tensor for c in signature.flat_outputs()]
        needed = nodes.intersection(graph.slice(outputs, fed))
        if needed:
            del variant.signatures[name]
            model.leave_out_signature(variant.tags, name, reason(min(needed)))
    variant.update_ops = [
        op for op in variant.update_ops if nodes.isdisjoint(graph.slice(["^" + op]))
    ]
    variant.losses = [
        loss for loss in variant.losses if nodes.isdisjoint(graph.slice([loss]))
    ]
    for table in model.tables.values():
        if table.variant is not variant or not is_carrier(table.name):
            continue
        for name in list(table.fillers):
            needed = nodes.intersection(graph.slice(["^" + name]))
            if needed:
                table.fillers.remove(name)
                model.warnings.append(
                    "variant {}: the init op does more than fill tables and set "
                    "variables; this is skipped: {}".format(
                        list(variant.tags), reason(min(needed))
                    )
                )
