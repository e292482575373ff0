"""Writes a SavedModel of the TensorFlow that runs it: ``newer.py KIND OUT``.

``resnet50``, ``mobilenetv2`` and ``efficientnetb0`` are those of Keras 2, which traces
each function several times, as users' models do. ``deep --nodes N`` is a function of
products and sums, one after another.
"""

from __future__ import annotations

import argparse
from typing import Any

import tensorflow as tf

_APPLICATIONS = {
    "efficientnetb0": "EfficientNetB0",
    "mobilenetv2": "MobileNetV2",
    "resnet50": "ResNet50",
}


def _application(name: str, out: str) -> None:
    import tf_keras

    make = getattr(tf_keras.applications, _APPLICATIONS[name])
    make(weights=None).save(out, save_format="tf")


def _deep(out: str, nodes: int) -> None:
    module = tf.Module()
    module.weight = tf.Variable(tf.eye(2))

    def run(x: Any) -> Any:
        weight = module.weight.read_value()
        # Four nodes for each round; two of them have to be rewritten for TF 1.15.
        for _ in range(nodes // 4):
            x = tf.einsum("ab,bc->ac", x, weight) + weight
            x = tf.raw_ops.BatchMatMulV3(x=x, y=weight, Tout=tf.float32)
            x = tf.tanh(x)
        return x

    module.run = tf.function(
        run, input_signature=[tf.TensorSpec([2, 2])], autograph=False
    )
    tf.saved_model.save(module, out)


def main() -> None:
    """Writes the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=sorted(_APPLICATIONS) + ["deep"])
    parser.add_argument("out", help="the directory to write")
    parser.add_argument("--nodes", type=int, default=0)
    options = parser.parse_args()
    if options.kind == "deep":
        _deep(options.out, options.nodes)
    else:
        _application(options.kind, options.out)


if __name__ == "__main__":
    main()
