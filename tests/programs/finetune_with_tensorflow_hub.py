"""Fine-tunes a converted module with unmodified tensorflow_hub; prints JSON.

A program of its own: nothing of hub_compat is in the process, and logical
devices must be set up before TensorFlow starts::

    python finetune_with_tensorflow_hub.py plain|mirrored CONVERTED_IMAGE_BN
"""

from __future__ import annotations

import json
import os
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_hub  # noqa: E402

if tf.__version__.startswith("1."):
    keras = tf.keras
    if os.environ.get("HUB_COMPAT_TEST_MODE") == "eager":
        tf.compat.v1.enable_v2_behavior()
else:
    # tensorflow_hub's layer is of Keras 2.
    try:
        import tf_keras as keras
    except ImportError:
        keras = tf.keras


def two_cpus() -> list:
    """Splits the CPU into two logical devices."""
    config = tf.config.experimental
    (cpu,) = config.list_physical_devices("CPU")
    config.set_virtual_device_configuration(
        cpu, [config.VirtualDeviceConfiguration()] * 2
    )
    return ["/cpu:0", "/cpu:1"]


def build(directory: str, size: int) -> tuple:
    """A classifier on top of the module."""
    layer = tensorflow_hub.KerasLayer(
        directory, trainable=True, input_shape=[size, size, 3]
    )
    model = keras.Sequential([layer, keras.layers.Dense(2)])
    optimizer = keras.optimizers.SGD(0.05)
    if not tf.executing_eagerly():
        # In graphs, the Keras of TF 1.15 refuses variables that the loss does not
        # reach (here, those of another signature); TensorFlow's optimizer does not.
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.05)
    model.compile(optimizer, "mse")
    return layer, model


def main(mode: str, directory: str, size: int) -> None:
    """Fits for some epochs and prints what changed."""
    if mode == "mirrored":
        strategy = tf.distribute.MirroredStrategy(two_cpus())
        with strategy.scope():
            layer, model = build(directory, size)
    else:
        layer, model = build(directory, size)
    rng = np.random.RandomState(0)
    x = rng.rand(8, size, size, 3).astype(np.float32)
    y = rng.rand(8, 2).astype(np.float32)
    # In graphs, TF 1.15 cannot differentiate a call that a session has run already;
    # reading the weights runs one.
    model.fit(x, y, epochs=1, batch_size=4, verbose=0)
    before = [np.copy(w) for w in layer.get_weights()]
    history = model.fit(x, y, epochs=8, batch_size=4, verbose=0).history["loss"]
    after = layer.get_weights()
    changed = {
        variable.name: bool(np.any(one != other))
        for variable, one, other in zip(layer.weights, before, after)
    }
    assert not any(name.split(".")[0] == "hub_compat" for name in sys.modules)
    json.dump(
        {
            "loss": [float(loss) for loss in history],
            "changed": changed,
            "trainable": [v.name for v in layer.trainable_weights],
            "losses": len(layer.losses),
            "variable": type(layer.resolved_object.variables[0]).__name__,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
