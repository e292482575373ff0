"""Values of a module's variables, from a checkpoint of a training job."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable

import numpy as np

from hub_compat._tf import tensor_shape_pb2, tf
from hub_compat._tf.loading import LOAD_ERRORS
from hub_compat.converters.checkpoint.writer import Typed
from hub_compat.converters.ir.graph import node_of
from hub_compat.converters.ir.variables import listed
from hub_compat.errors import ConversionError, CorruptModuleError, HandleError

__all__ = ["Weight", "read_values", "weights_of"]


class Weight:
    """A variable of a module; a partitioned one is one.

    Attributes:
      name: its name in the module, its key in the module's checkpoint.
      dtype: a ``DataType``.
      shape: (3, None); None if it is unknown.
    """

    def __init__(self, name: str, dtype: int, shape: Any) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape


def weights_of(meta_graph: Any) -> Dict[str, Weight]:
    """The variables of a MetaGraphDef, by name.

    Raises:
      CorruptModuleError: the graph has no node of one of them.
    """
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    found: Dict[str, Weight] = {}
    for name, definition in listed(meta_graph.collection_def).items():
        node = nodes.get(node_of(name))
        if node is None:
            raise CorruptModuleError(
                "The collection 'variables' names a node that the graph has not. "
                "Received: {!r}".format(name)
            )
        dtype = node.attr["dtype"].type
        if definition.HasField("save_slice_info_def"):
            part = definition.save_slice_info_def
            found[part.full_name] = Weight(part.full_name, dtype, list(part.full_shape))
        else:
            found[name] = Weight(name, dtype, _dims(node.attr["shape"].shape))
    return found


def _dims(shape: tensor_shape_pb2.TensorShapeProto) -> Any:
    if shape.unknown_rank:
        return None
    return [None if dim.size < 0 else dim.size for dim in shape.dim]


def read_values(
    checkpoint: str, weights: Iterable[Weight], rename: Callable[[str], str]
) -> Dict[str, Any]:
    """Reads the values of variables from a checkpoint.

    Args:
      checkpoint: its prefix, or a directory with the file ``checkpoint``.
      weights: the variables.
      rename: from the name of a variable to the key in the checkpoint.

    Returns:
      ``Typed`` values by the names of the variables.

    Raises:
      HandleError: there is no checkpoint.
      ConversionError: it has no such value, or one of another dtype or shape.
    """
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        shapes = reader.get_variable_to_shape_map()
        dtypes = reader.get_variable_to_dtype_map()
    except LOAD_ERRORS as error:
        raise HandleError(
            "There is no checkpoint, or it cannot be read. Pass the prefix of its "
            "files, such as 'model.ckpt-100', or its directory. Received: {!r}".format(
                checkpoint
            )
        ) from error
    values: Dict[str, Any] = {}
    for weight in weights:
        key = rename(weight.name)
        if key not in shapes:
            raise ConversionError(
                "Tensor {} is not found in the checkpoint {!r}. It is wanted for the "
                "module's variable {!r}. Pass name_transform_fn, which turns the "
                "module's names into those of the checkpoint; it has {}. Received: "
                "{!r}".format(key, checkpoint, weight.name, _some(shapes), key)
            )
        fits = weight.shape is None or (
            len(weight.shape) == len(shapes[key])
            and all(w in (None, s) for w, s in zip(weight.shape, shapes[key]))
        )
        if not fits or dtypes[key].as_datatype_enum != weight.dtype:
            raise ConversionError(
                "Shape or dtype of the variable {!r} ({}, {}) doesn't match with shape "
                "of the tensor {!r} in the checkpoint. Received: {}, {}".format(
                    weight.name,
                    weight.shape,
                    tf.as_dtype(weight.dtype).name,
                    key,
                    shapes[key],
                    dtypes[key].name,
                )
            )
        values[weight.name] = Typed(weight.dtype, np.asarray(reader.get_tensor(key)))
    return values


def _some(names: Iterable[str]) -> str:
    known = sorted(names)
    more = "" if len(known) <= 8 else ", ... ({} in all)".format(len(known))
    return ", ".join(map(repr, known[:8])) + more
