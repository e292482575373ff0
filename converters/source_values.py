"""Where a source's checkpoint has the values of a model's variables."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from hub_compat._io import files as _files
from hub_compat._parsing.known_names import OBJECT_GRAPH
from hub_compat.errors import CorruptModuleError

from .checkpoint import relabel, v1
from .checkpoint.index import CheckpointIndex
from .ir.calls import CALLS
from .ir.effects import written_resources
from .ir.functions import set_attr
from .ir.model import Model
from .ir.signatures import make_shape
from .ir.variable_reads import STORED_AS

# What may give a variable another shape.
_REPLACING = ("AssignVariableOp", *CALLS)


def say_shapes(model: Model, index: Optional[CheckpointIndex]) -> None:
    """Gives variables of unknown shape that of their values.

    A graph does not say it with ``validate_shape=False``. What a program assigns anew
    may get another one, and stays unknown.
    """
    unknown = {
        key: variable
        for key, variable in model.variables.items()
        if variable.shape.unknown_rank
        or any(dim.size < 0 for dim in variable.shape.dim)
    }
    if not unknown:
        return
    assigned = {
        variant.captures[name].key
        for variant in model.variants
        for name, writers in written_resources(variant.graph).items()
        if name in variant.captures
        and any(variant.graph.nodes[w].op in _REPLACING for w in writers)
    }
    for key, variable in unknown.items():
        if key in assigned:
            continue
        if variable.part is not None:
            sizes = [length for _, length in variable.part]
        elif index is not None and variable.checkpoint_key in index.entries:
            sizes = list(index.entries[variable.checkpoint_key].shape)
        elif variable.initial is not None:
            sizes = list(variable.initial.shape)
        else:
            continue
        variable.shape = make_shape(sizes)
        for variant in model.variants:
            for name, capture in variant.captures.items():
                if capture.key == key:
                    node = variant.graph.nodes[name]
                    set_attr(node, "shape", ("shape", variable.shape))


def read_source_index(source: str, folder: str) -> Optional[CheckpointIndex]:
    """The index of the checkpoint; None for a module without variables.

    Args:
      source: the module.
      folder: where a checkpoint of an older format is written in the present one.
    """
    prefix = _files.join(source, "variables", "variables")
    if _files.exists(prefix + ".index"):
        return relabel.read_index(prefix)
    files = v1.files_of(prefix)
    if not files:
        return None
    _files.make_dirs(folder)
    return v1.upgrade(files, folder)


def map_variables(
    model: Model, index: Optional[CheckpointIndex]
) -> Dict[str, Tuple[str, Any]]:
    """Where the checkpoint keeps each variable's value, by the variable's key.

    Raises:
      CorruptModuleError: it has no value, or one of another dtype or shape.
    """
    mapping = {}
    for key, variable in model.variables.items():
        if variable.initial is not None:
            continue
        if index is None or variable.checkpoint_key not in index.entries:
            raise CorruptModuleError(
                "The checkpoint holds no value for the variable {!r} (key {!r}): "
                "the module was exported or fetched in part. Received: {}".format(
                    variable.name,
                    variable.checkpoint_key,
                    "no variables/variables.index"
                    if index is None
                    else "an index with {} keys".format(len(index.entries)),
                )
            )
        entry = index.entries[variable.checkpoint_key]
        if STORED_AS.get(entry.dtype) == variable.dtype and not entry.slices:
            entry = entry._replace(dtype=variable.dtype)
            index.entries[variable.checkpoint_key] = entry
        found = tuple(entry.shape)
        if variable.part is not None and len(variable.part) == len(found):
            found = tuple(length for _, length in variable.part)
        dims = tuple(dim.size for dim in variable.shape.dim)
        fits = len(dims) == len(found) and all(
            dim in (-1, size) for dim, size in zip(dims, found)
        )
        if entry.dtype != variable.dtype or not (fits or variable.shape.unknown_rank):
            raise CorruptModuleError(
                "The graph declares the variable {!r} with dtype {} and shape {}, "
                "but the checkpoint has another under {!r}. The graph and the "
                "checkpoint are of different exports. Received: dtype {} and shape "
                "{}".format(
                    variable.name,
                    variable.dtype,
                    list(dims),
                    variable.checkpoint_key,
                    entry.dtype,
                    list(found),
                )
            )
        mapping[key] = (variable.checkpoint_key, variable.part)
    return mapping


def unused_keys(
    index: Optional[CheckpointIndex], mapping: Mapping[str, Tuple[str, Any]]
) -> List[str]:
    """Keys that no variable of the graphs has; they are kept as they are."""
    if index is None:
        return []
    used = {key for key, _ in mapping.values()}
    used.add(OBJECT_GRAPH)
    return [key for key in index.entries if key not in used]
