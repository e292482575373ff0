"""One side of one comparison, in a process of its own: ``sides.py NAME ARG...``.

``run.py`` starts these alternately. What a side needs is imported before the
clock starts; the last line on standard output is what was measured, as JSON.
With ``--twice`` first, a side that writes a directory does so once more, warm.
``--pairs N NAME NAME SOURCE`` runs two sides in turn, in one process.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any, Callable, Dict, List

Prepared = Callable[[], Any]


def _peak_memory() -> int:
    """The peak of resident memory since ``_forget_peak``, in bytes.

    Not ru_maxrss, which cannot be reset: what ``import tensorflow`` needed for
    a moment would hide what comes after it.
    """
    with open("/proc/self/status") as status:
        return next(int(line[6:-3]) for line in status if line[:5] == "VmHWM") * 1024


def _forget_peak() -> None:
    """Sets the peak of resident memory to what is resident now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _bytes_read() -> int:
    """What this process has read so far, page cache included (not mmap)."""
    with open("/proc/self/io") as io:
        return int(dict(line.split(": ") for line in io)["rchar"])


def convert(source: str, destination: str) -> Prepared:
    """``hub_compat.convert``."""
    import hub_compat as hub
    import hub_compat.converters.tf1_model  # noqa: F401

    function = hub.convert
    return lambda: function(source, destination)


def lower(source: str, destination: str) -> Prepared:
    """``hub_compat.convert`` for TensorFlow 1.15."""
    import hub_compat as hub
    import hub_compat.converters.lowering  # noqa: F401

    function = hub.convert
    return lambda: function(source, destination, target="tf1.15")


def load_and_save(source: str, destination: str) -> Prepared:
    """What there is without hub_compat: TensorFlow loads it and saves it."""
    import tensorflow as tf

    load, save = tf.saved_model.load, tf.saved_model.save

    def run() -> None:
        loaded = load(source, tags=[])
        save(loaded, destination, signatures=loaded.signatures)

    return run


def hub_compat_load(source: str) -> Prepared:
    """``hub_compat.load``; the cache is what HUB_COMPAT_CACHE_DIR says."""
    import hub_compat as hub
    import hub_compat.converters.tf1_model  # noqa: F401

    function = hub.load
    return lambda: function(source)


def hub_compat_layer(source: str) -> Prepared:
    """``KerasLayer(path)``; the cache is what HUB_COMPAT_CACHE_DIR says."""
    import hub_compat as hub
    import hub_compat.converters.slim  # noqa: F401

    layer = hub.KerasLayer
    return lambda: layer(source)


def hub_compat_resolve(address: str) -> Prepared:
    """``hub_compat.resolve``; the cache is what TFHUB_CACHE_DIR says."""
    import requests  # noqa: F401

    import hub_compat as hub
    from hub_compat._handles import resolving, transfer  # noqa: F401

    function = hub.resolve
    return lambda: function(address)


def tensorflow_hub_resolve(address: str) -> Prepared:
    """``tensorflow_hub.resolve``."""
    import tensorflow_hub

    return lambda: tensorflow_hub.resolve(address)


def tensorflow_hub_load(source: str) -> Prepared:
    """``tensorflow_hub.load``."""
    import tensorflow_hub

    return lambda: tensorflow_hub.load(source)


def our_module(source: str) -> Prepared:
    """``hub_compat.Module``, made and applied in a graph."""
    import hub_compat as hub

    return _applied(hub.Module, source)


def their_module(source: str) -> Prepared:
    """``tensorflow_hub.Module``, made and applied in a graph."""
    import tensorflow_hub

    return _applied(tensorflow_hub.Module, source)


def _applied(module_class: Any, source: str) -> Prepared:
    import tensorflow as tf

    def run() -> None:
        with tf.Graph().as_default():
            module = module_class(source, trainable=True)
            ((name, info),) = module.get_input_info_dict().items()
            module({name: tf.compat.v1.placeholder(info.dtype, info.get_shape())})

    return run


def tensorflow_load(source: str) -> Prepared:
    """``tf.saved_model.load``."""
    import tensorflow as tf

    load = tf.saved_model.load
    return lambda: load(source)


# Each run of a recurrent side is this many calls.
_CALLS = 10


def _sequences() -> Any:
    """What the recurrent sides are called with: (batch, steps, width)."""
    import numpy as np
    import tensorflow as tf

    return tf.constant(np.random.RandomState(0).normal(size=(16, 100, 128)), tf.float32)


def _called(function: Callable[..., Any], argument: Any) -> Prepared:
    def run() -> None:
        for _ in range(_CALLS):
            result = function(argument)
        # Nothing is left to do when a value can be read.
        result.numpy()

    return run


def _signature_of(loaded: Any) -> Callable[..., Any]:
    signature = loaded.signatures["default"]
    (name,) = signature.structured_input_signature[1]
    return lambda x: signature(**{name: x})["default"]


def _gradient_of(function: Callable[..., Any], variables: Any) -> Callable[..., Any]:
    import tensorflow as tf

    @tf.function(autograph=False)
    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(function(x))
        return tf.add_n([tf.reduce_sum(g) for g in tape.gradient(value, variables)])

    return step


def converted_forward(source: str) -> Prepared:
    """A signature of what ``hub_compat.load`` loaded."""
    import hub_compat as hub

    return _called(_signature_of(hub.load(source)), _sequences())


def untouched_forward(source: str) -> Prepared:
    """The same of ``tensorflow_hub.load``, which has TF1's nodes as they are."""
    import tensorflow_hub

    return _called(_signature_of(tensorflow_hub.load(source)), _sequences())


def converted_gradient(source: str) -> Prepared:
    """The gradient of all variables by such a signature, in a tf.function."""
    import hub_compat as hub

    loaded = hub.load(source)
    step = _gradient_of(_signature_of(loaded), loaded.trainable_variables)
    return _called(step, _sequences())


def keras_gradient(source: str) -> Prepared:
    """The same of a network of the same size in Keras 2."""
    import tf_keras

    layer = tf_keras.layers.LSTM(128, return_sequences=True)
    x = _sequences()
    layer(x)
    return _called(_gradient_of(layer, layer.trainable_variables), x)


# Each run of a layer is this many eager calls, or calls within one function.
_LAYER_CALLS = 50


def _eager(function: Callable[..., Any]) -> Prepared:
    import tensorflow as tf

    images = tf.ones([1, 8, 8, 3])

    def run() -> None:
        for _ in range(_LAYER_CALLS):
            function(images)

    return run


def _in_function(function: Callable[..., Any]) -> Prepared:
    import tensorflow as tf

    @tf.function(autograph=False)
    def calls(images: Any) -> Any:
        return tf.add_n([function(images) for _ in range(_LAYER_CALLS)])

    return _called(calls, tf.ones([1, 8, 8, 3]))


def _concrete_function(source: str) -> Callable[..., Any]:
    import tensorflow as tf

    loaded = tf.saved_model.load(source)
    signature = loaded.signatures["image_feature_vector"]
    (name,) = signature.structured_input_signature[1]
    # It does not keep its variables itself.
    return lambda images, kept=loaded: signature(**{name: images})["default"]


def _our_layer(source: str, trainable: bool = False) -> Any:
    from hub_compat.keras2 import KerasLayer

    return KerasLayer(source, trainable=trainable)


def _their_layer(source: str, trainable: bool = False) -> Any:
    import tensorflow_hub

    return tensorflow_hub.KerasLayer(source, trainable=trainable)


def concrete_eager(source: str) -> Prepared:
    """A signature of what TensorFlow loads, called eagerly."""
    return _eager(_concrete_function(source))


def our_layer_eager(source: str) -> Prepared:
    """``hub_compat.keras2.KerasLayer``, called eagerly."""
    return _eager(_our_layer(source))


def their_layer_eager(source: str) -> Prepared:
    """``tensorflow_hub.KerasLayer``, called eagerly."""
    return _eager(_their_layer(source))


def concrete_in_function(source: str) -> Prepared:
    """A signature within a tf.function."""
    return _in_function(_concrete_function(source))


def our_layer_in_function(source: str) -> Prepared:
    """Our layer within a tf.function."""
    return _in_function(_our_layer(source))


def their_layer_in_function(source: str) -> Prepared:
    """tensorflow_hub's layer within a tf.function."""
    return _in_function(_their_layer(source))


def _fit(layer: Any) -> Prepared:
    """One epoch: two steps of a small network before and after a layer."""
    import numpy as np
    import tf_keras as keras

    inputs = keras.Input(shape=(64, 64, 3))
    x = keras.layers.Conv2D(3, 3, padding="same")(inputs)
    x = keras.layers.Resizing(*_size_of(layer))(x)
    outputs = keras.layers.Dense(2)(layer(x))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    images = np.ones([8, 64, 64, 3], np.float32)
    targets = np.ones([8, 2], np.float32)
    return lambda: model.fit(images, targets, batch_size=4, verbose=0)


def _size_of(layer: Any) -> Any:
    """Height and width that a module takes; 64 where it takes any."""
    loaded = layer.resolved_object
    signature = loaded.signatures["default"]
    (spec,) = signature.structured_input_signature[1].values()
    return [size or 64 for size in spec.shape[1:3]]


def our_fit_frozen(source: str) -> Prepared:
    """An epoch with our layer, frozen."""
    return _fit(_our_layer(source))


def their_fit_frozen(source: str) -> Prepared:
    """An epoch with tensorflow_hub's, frozen."""
    return _fit(_their_layer(source))


def our_fit_trainable(source: str) -> Prepared:
    """An epoch with our layer, trained."""
    return _fit(_our_layer(source, trainable=True))


def their_fit_trainable(source: str) -> Prepared:
    """An epoch with tensorflow_hub's, trained: of a converted module it can be."""
    return _fit(_their_layer(source, trainable=True))


def _measure(prepared: Prepared) -> Dict[str, Any]:
    _forget_peak()
    memory, read = _peak_memory(), _bytes_read()
    start = time.perf_counter()
    result = prepared()
    seconds = time.perf_counter() - start
    facts = {
        "seconds": seconds,
        "extra_memory": _peak_memory() - memory,
        # Reading the counters reads a little itself: some hundred bytes.
        "bytes_read": _bytes_read() - read,
    }
    for field in ("weight_bytes_read", "bytes_linked", "bytes_copied", "nodes"):
        if hasattr(result, field):
            facts[field] = getattr(result, field)
    return facts


SIDES: Dict[str, Callable[..., Prepared]] = {
    side.__name__: side
    for side in (
        convert,
        lower,
        load_and_save,
        hub_compat_load,
        our_module,
        their_module,
        hub_compat_layer,
        hub_compat_resolve,
        tensorflow_hub_resolve,
        tensorflow_hub_load,
        tensorflow_load,
        converted_forward,
        untouched_forward,
        converted_gradient,
        keras_gradient,
        concrete_eager,
        our_layer_eager,
        their_layer_eager,
        concrete_in_function,
        our_layer_in_function,
        their_layer_in_function,
        our_fit_frozen,
        their_fit_frozen,
        our_fit_trainable,
        their_fit_trainable,
    )
}


def _pairs(count: int, names: List[str], source: str) -> Dict[str, Any]:
    """Two sides in turn, ABBAABBA, after one run of each that does not count."""
    sides = {name: SIDES[name](source) for name in names}
    seconds: Dict[str, List[float]] = {name: [] for name in names}
    for run in range(count + 1):
        for name in names:
            # What the last one left is not for this one to tidy up.
            gc.collect()
            facts = _measure(sides[name])
            if run:
                seconds[name].append(facts["seconds"])
        names.reverse()
    return seconds


def main() -> None:
    """Runs the side that the command line names."""
    arguments = sys.argv[1:]
    import tensorflow as tf

    # Creates the device and the eager context, which whoever comes first pays.
    tf.constant(0) + 1
    if arguments[0] == "--pairs":
        _, count, one, other, source = arguments
        print("\n" + json.dumps(_pairs(int(count), [one, other], source)))
        return
    twice = arguments[0] == "--twice"
    name, *arguments = arguments[twice:]
    facts = _measure(SIDES[name](*arguments))
    if twice:
        arguments[-1] += "-again"
        facts["again"] = _measure(SIDES[name](*arguments))
    print("\n" + json.dumps(facts))


if __name__ == "__main__":
    main()
