"""Ways to take a variable, or a part of it, that hand on its memory or copy it."""

from __future__ import annotations

from typing import Any, Callable, List

import tensorflow as tf

__all__ = ["handed_on", "parts"]

Ways = List[Callable[[], tf.Tensor]]


def handed_on(variable: Any) -> Ways:
    """Ops that change nothing of a vector."""
    ways: Ways = [
        lambda: variable[:],
        lambda: tf.slice(variable, [0], [-1]),
        lambda: tf.split(variable, 1)[0],
        lambda: tf.split(variable, variable.shape.as_list())[0],
        lambda: tf.raw_ops.AddN(inputs=[variable]),
        lambda: tf.raw_ops.Snapshot(input=variable),
        lambda: tf.stack([variable])[0],
        lambda: tf.unstack(tf.stack([variable]))[0],
        lambda: tf.tile(variable, [1]),
        lambda: tf.pad(variable, [[0, 0]]),
        lambda: tf.broadcast_to(variable, variable.shape.as_list()),
        lambda: tf.reduce_max(variable[None], axis=[0]),
        lambda: tf.reduce_sum(variable, axis=[]),
        lambda: tf.transpose(variable[:, None])[0],
        lambda: tf.placeholder_with_default(variable, variable.shape.as_list()),
        lambda: tf.roll(variable, 0, 0),
        lambda: tf.concat([variable, variable], 0)[: variable.shape[0].value],
        lambda: tf.matrix_band_part(variable[None], -1, -1)[0],
        lambda: tf.where(True, variable, variable * 2),
        lambda: tf.split(tf.stack([variable, variable], 1), 2, 1)[0][:, 0],
    ]
    return ways


def parts(variable: Any, rows: int, width: int) -> Ways:
    """Parts of a matrix, or of a vector whose rows have a width of one."""
    ways: Ways = [
        lambda: variable[1:],
        lambda: variable[:1],
        lambda: variable[rows // 2],
        lambda: variable[-1],
        lambda: variable[::-1],
        lambda: variable[16:32] if width == 1 else variable[1:, :],
        lambda: variable[8:16] if width == 1 else variable[:, 1:],
        lambda: tf.slice(variable, [1] + [0] * (width > 1), [1] + [-1] * (width > 1)),
        lambda: tf.split(variable, [1, rows - 1])[1],
        lambda: tf.split(variable, [rows // 2, -1])[0],
        lambda: tf.unstack(variable)[1],
        lambda: tf.transpose(variable),
        lambda: tf.reshape(variable[1:], [-1]),
        lambda: tf.gather(variable, [0]),
    ]
    if rows % 2 == 0:
        ways.append(lambda: tf.split(variable, 2)[1])
        ways.append(lambda: tf.split(variable.value(), 2)[0])
    return ways
