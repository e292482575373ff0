"""TF1 SavedModels of a few lines, and modules of testdata/."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Mapping, Tuple

import expected


def module(name: str) -> Path:
    """The directory of a recorded module."""
    return expected.load_expected(name).path


Signatures = Mapping[str, Tuple[Mapping[str, Any], Mapping[str, Any]]]


def save(path: Path, build: Callable[[Any, Any], Signatures]) -> Path:
    """Writes a TF1 SavedModel of the signatures that a function builds."""
    import tensorflow as tf

    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(path))
    config = v1.ConfigProto()
    # An op may have no kernel here.
    config.graph_options.place_pruned_graph = True
    with tf.Graph().as_default(), v1.Session(config=config) as session:
        info = v1.saved_model.build_tensor_info
        signatures = {
            name: v1.saved_model.build_signature_def(
                {key: info(tensor) for key, tensor in inputs.items()},
                {key: info(tensor) for key, tensor in outputs.items()},
            )
            for name, (inputs, outputs) in build(tf, v1).items()
        }
        session.run(v1.global_variables_initializer())
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
    builder.save()
    return path


def edit(directory: Path, change: Callable[[Any], None]) -> None:
    """Changes the SavedModel proto of a directory."""
    from hub_compat._tf import saved_model_pb2

    file = directory / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(proto)
    file.write_bytes(proto.SerializeToString())
