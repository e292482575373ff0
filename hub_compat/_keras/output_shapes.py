"""The static shapes that ``output_shape`` of a KerasLayer promises."""

from __future__ import annotations

from typing import Any, Mapping

from hub_compat._keras.inputs import described
from hub_compat._tf import tf
from hub_compat.errors import LayerError

__all__ = ["OutputShapes", "to_shapes"]


class OutputShapes:
    """Promised shapes of the outputs, without the batch dimension.

    Args:
      shapes: a nest of shapes or of TensorShapes; None promises nothing.

    Attributes:
      shapes: a nest of TensorShapes; None where nothing is promised.
    """

    def __init__(self, shapes: Any) -> None:
        self.shapes: Any = None if shapes is None else to_shapes(shapes)

    def config(self) -> Any:
        """The shapes as JSON takes them; None where nothing is promised."""
        if self.shapes is None:
            return None
        return tf.nest.map_structure(
            lambda shape: None if shape.rank is None else shape.as_list(), self.shapes
        )

    def applied(self, inputs: Any, outputs: Any) -> Any:
        """The outputs, with the static shapes that are promised.

        Raises:
          LayerError: the promise does not fit the outputs.
        """
        if self.shapes is None:
            return outputs
        first = tf.nest.flatten(inputs)
        batch = first[0].shape[0] if first and first[0].shape.rank else None

        def promise(output: Any, shape: Any) -> Any:
            full = tf.TensorShape([batch]).concatenate(shape)
            if isinstance(output, tf.Tensor):
                output = tf.ensure_shape(output, full)
            return output

        try:
            shapes = _like(outputs, self.shapes)
            return tf.nest.map_structure(promise, outputs, shapes)
        except (KeyError, TypeError, ValueError) as error:
            raise LayerError(
                "output_shape must be a nest like the outputs, of shapes without the "
                "batch dimension; the outputs are {}. Received: output_shape={}".format(
                    described(outputs), self.shapes
                )
            ) from error


def to_shapes(shapes: Any) -> Any:
    """A nest of what TensorShapes are made of, as a nest of TensorShapes."""
    if isinstance(shapes, Mapping):
        return {name: to_shapes(shape) for name, shape in shapes.items()}
    if isinstance(shapes, (list, tuple)) and any(
        isinstance(one, (tuple, list, dict, tf.TensorShape)) for one in shapes
    ):
        return [to_shapes(shape) for shape in shapes]
    return tf.TensorShape(shapes)


def _like(outputs: Any, shape: Any) -> Any:
    """``output_shape`` in the structure of the outputs."""
    if isinstance(outputs, Mapping):
        return {name: _like(value, shape[name]) for name, value in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return [_like(value, one) for one, value in zip(shape, outputs)]
    return shape
