"""Reads the checkpoint of a module: all of it, or what its variables need."""

from __future__ import annotations

import contextlib
from typing import Any, Optional, Sequence, Tuple

from hub_compat._io import files
from hub_compat._tf import tf
from hub_compat.errors import CorruptModuleError

__all__ = ["is_whole", "restore_variables"]

# Values are held twice while they are assigned, so not all at once.
_BATCH_BYTES = 256 << 20


def is_whole(directory: str) -> bool:
    """Whether the weights of a module are those that its index has checksums of.

    Args:
      directory: the module; all of its checkpoint is read.
    """
    prefix = files.join(directory, "variables", "variables")
    if not files.exists(prefix + ".index"):
        return True
    try:
        reader = tf.compat.v1.train.NewCheckpointReader(prefix)
        for key in sorted(reader.get_variable_to_shape_map()):
            # Slices of some dtypes TensorFlow does not put together.
            with contextlib.suppress(tf.errors.UnimplementedError):
                reader.get_tensor(key)
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError):
        return False
    return True


def restore_variables(
    variables: Sequence[Any],
    keys: Sequence[Tuple[str, str, Optional[Tuple[Tuple[int, int], ...]]]],
    source: str,
) -> None:
    """Assigns the source's values to variables; eager execution only.

    Args:
      variables: the variables.
      keys: for each, its name, its key in the checkpoint, and for a part of a
        partitioned variable its (offset, length) per dimension; the key is empty
        where the checkpoint has no value of it.
      source: directory of the source module, on any file system.
    """
    prefix = files.join(source, "variables", "variables")
    reader = tf.compat.v1.train.NewCheckpointReader(prefix)
    shapes = reader.get_variable_to_shape_map()
    dtypes = reader.get_variable_to_dtype_map()
    batch, size = [], 0
    for variable, (_, key, part) in zip(variables, keys):
        if not key:
            # The converted module has its value.
            continue
        if key not in shapes:
            raise CorruptModuleError(
                "The checkpoint has no value under the key that the conversion "
                "noted for a variable. Convert the module again. Received: {!r}, in "
                "{!r}".format(key, prefix)
            )
        spec = ""
        if part:
            # A slice is written as the whole shape and then start,length of
            # each dimension (tensorflow/core/util/saved_tensor_slice_util).
            whole = " ".join(str(dim) for dim in shapes[key])
            spec = whole + " " + ":".join("{},{}".format(*extent) for extent in part)
        batch.append((variable, key, spec, dtypes[key]))
        size += variable.dtype.size * (variable.shape.num_elements() or 0)
        if size > _BATCH_BYTES:
            _restore(prefix, batch)
            batch, size = [], 0
    if batch:
        _restore(prefix, batch)


def _restore(prefix: str, batch: Sequence[Tuple[Any, str, str, Any]]) -> None:
    values = tf.raw_ops.RestoreV2(
        prefix=prefix,
        tensor_names=[key for _, key, _, _ in batch],
        shape_and_slices=[spec for _, _, spec, _ in batch],
        dtypes=[dtype for _, _, _, dtype in batch],
    )
    for (variable, _, _, dtype), value in zip(batch, values):
        # Some dtypes no variable can have; the same bits are in one of another
        # (converters/variables.py, STORED_AS).
        if dtype != variable.dtype:
            value = tf.bitcast(value, variable.dtype)
        variable.assign(value)
