"""The only wing that imports TensorFlow; of Keras, it is ``keras.py``.

The rest says ``from hub_compat._tf import tf``. Every symbol in this wing that is not
public in all supported versions has a probe, and a note on who needs it.
"""

from __future__ import annotations

from hub_compat.errors import MissingDependencyError

try:
    import tensorflow as tf
except ImportError as error:
    raise MissingDependencyError(
        "This function needs TensorFlow, which cannot be imported. So do paths on "
        "file systems such as gs://, which you can copy first. Install one that "
        "fits this Python: pip install 'hub-compat[tf2]' (Python 3.9 or newer), or "
        "'hub-compat[tf1]' (Python 3.7). Received: {}".format(error)
    ) from error

# The message classes of the SavedModel format. They are not in the `tf`
# namespace, but their module paths are the same from 1.15 to 2.21.
from tensorflow.core.framework import (
    attr_value_pb2,
    function_pb2,
    node_def_pb2,
    op_def_pb2,
    tensor_pb2,
    tensor_shape_pb2,
    types_pb2,
    variable_pb2,
)
from tensorflow.core.protobuf import (
    control_flow_pb2,
    meta_graph_pb2,
    saved_model_pb2,
    saved_object_graph_pb2,
    struct_pb2,
    trackable_object_graph_pb2,
)

__all__ = [
    "attr_value_pb2",
    "control_flow_pb2",
    "function_pb2",
    "meta_graph_pb2",
    "node_def_pb2",
    "op_def_pb2",
    "saved_model_pb2",
    "saved_object_graph_pb2",
    "struct_pb2",
    "tensor_pb2",
    "tensor_shape_pb2",
    "tf",
    "trackable_object_graph_pb2",
    "types_pb2",
    "variable_pb2",
]
