"""Writes an op list in converters/opdata/: the op definitions of one TensorFlow.

Run it under each target of the lowering and under the newest TensorFlow, as ``make
ops`` does. Documentation is left out; the bytes are the same on every run.
"""

import gzip
import os

import tensorflow as tf
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.framework import op_def_registry

FOLDER = os.path.join(os.path.dirname(__file__), "..", "converters", "opdata")
FILES = {
    "1.15.5": "ops_tf1_15.pb.gz",
    "2.15.1": "ops_tf2_15.pb.gz",
    "2.21.0": "ops_tf2_21.pb.gz",
}


def registered() -> op_def_pb2.OpList:
    """The ops that a graph may have."""
    found = op_def_pb2.OpList()
    if hasattr(op_def_registry, "get_registered_ops"):
        # TF 1.15 imports no graph with an op that only its C++ side knows.
        found.op.extend(op_def_registry.get_registered_ops().values())
    else:
        from tensorflow.python.client import pywrap_tf_session

        data = pywrap_tf_session.TF_GetAllOpList()
        found.ParseFromString(pywrap_tf_session.TF_GetBuffer(data))
    return found


def main() -> None:
    """Writes the file and prints what is in it."""
    assert tf.__version__ in FILES, tf.__version__
    op_list = op_def_pb2.OpList()
    for op in sorted(registered().op, key=lambda op: op.name):
        copy = op_list.op.add()
        copy.CopyFrom(op)
        copy.ClearField("summary")
        copy.ClearField("description")
        for arg in list(copy.input_arg) + list(copy.output_arg) + list(copy.attr):
            arg.ClearField("description")
    path = os.path.join(FOLDER, FILES[tf.__version__])
    with open(path, "wb") as file:
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as zipped:
            zipped.write(op_list.SerializeToString(deterministic=True))
    print(len(op_list.op), "ops", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main()
