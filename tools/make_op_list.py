"""Writes converters/ops_tf1_15.pb.gz: the op definitions of TF 1.15.5.

Run it under TF 1.15.5: ``make ops``. Documentation is left out; the bytes are
the same on every run.
"""

import gzip
import os

import tensorflow as tf
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.framework import op_def_registry

OUT = os.path.join(os.path.dirname(__file__), "..", "converters", "ops_tf1_15.pb.gz")


def main() -> None:
    """Writes the file and prints what is in it."""
    assert tf.__version__ == "1.15.5", tf.__version__
    op_list = op_def_pb2.OpList()
    for _, op in sorted(op_def_registry.get_registered_ops().items()):
        copy = op_list.op.add()
        copy.CopyFrom(op)
        copy.ClearField("summary")
        copy.ClearField("description")
        for arg in list(copy.input_arg) + list(copy.output_arg) + list(copy.attr):
            arg.ClearField("description")
    with open(OUT, "wb") as file:
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as zipped:
            zipped.write(op_list.SerializeToString(deterministic=True))
    print(len(op_list.op), "ops", os.path.getsize(OUT), "bytes")


if __name__ == "__main__":
    main()
