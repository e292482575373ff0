"""What the layers of testdata/scripts/layers.py are made with and called with."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

__all__ = ["ABSTRACT", "VARIANTS", "arguments"]

# Not layers to be used by themselves.
ABSTRACT = {
    "AbstractRNNCell", "InputLayer", "InputSpec", "Layer", "RNN", "StackedRNNCells",
    "TFSMLayer", "Wrapper", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "GRUCell",
    "LSTMCell", "SimpleRNNCell", "Pipeline", "MapGraph", "DenseFeatures",
    "SeparableConvolution1D",
}  # fmt: skip
Given = Tuple[List[Any], Dict[str, Any]]


def numbers(*shape: int) -> Any:
    """Reproducible numbers between -0.9 and 0.9."""
    count = int(np.prod(shape))
    values = np.sin(np.arange(1, count + 1) * 1.7) * 0.9
    return values.astype("float32").reshape(shape)


def arguments(name: str, keras: Any) -> Given:
    """A layer's inputs, and the arguments of its constructor.

    Args:
      name: the layer's class, and after a space which of VARIANTS.
      keras: its library.
    """
    if " " in name:
        return VARIANTS[name](keras)
    layers = keras.layers

    image, line, cube = numbers(2, 8, 8, 3), numbers(2, 8, 3), numbers(2, 6, 6, 6, 2)
    pixels = np.abs(image) * 255
    words = np.array([["a b"], ["c z a"]])
    # A pure tone would leave most of a spectrum to rounding.
    noise = np.sin(np.arange(1000.0) ** 2 * 0.37).astype("float32")[None]
    options: Dict[str, Any] = {}
    by_name: Dict[str, Given] = {
        "Activation": ([line], dict(activation="gelu")),
        "AdditiveAttention": ([line, line], {}),
        "Attention": ([line, line], {}),
        "BatchNormalization": ([image], {}),
        "Bidirectional": ([line], dict(layer=layers.LSTM(2))),
        "CategoryEncoding": (
            [np.array([[1, 2], [0, 1]])],
            dict(num_tokens=4, output_mode="multi_hot"),
        ),
        "CenterCrop": ([pixels], dict(height=4, width=4)),
        "ConvLSTM1D": ([numbers(2, 3, 8, 3)], dict(filters=2, kernel_size=3)),
        "ConvLSTM2D": ([numbers(2, 3, 8, 8, 3)], dict(filters=2, kernel_size=3)),
        "ConvLSTM3D": ([numbers(1, 2, 6, 6, 6, 2)], dict(filters=2, kernel_size=3)),
        "Dense": ([line], dict(units=2, activation="gelu")),
        "Discretization": ([line], dict(bin_boundaries=[-0.5, 0.0, 0.5])),
        "Dot": ([line, line], dict(axes=2)),
        "EinsumDense": ([line], dict(equation="...ab,bc->...ac", output_shape=(8, 4))),
        "Embedding": ([np.array([[1, 2], [0, 3]])], dict(input_dim=5, output_dim=3)),
        "Flatten": ([line], {}),
        "GroupNormalization": ([numbers(2, 4, 4, 6)], dict(groups=2)),
        "GroupQueryAttention": (
            [line, line],
            dict(head_dim=4, num_query_heads=4, num_key_value_heads=2),
        ),
        "HashedCrossing": ([np.array([["a"]]), np.array([["b"]])], dict(num_bins=5)),
        "Hashing": ([words], dict(num_bins=5)),
        "IntegerLookup": ([np.array([[1, 7], [9, 1]])], dict(vocabulary=[1, 9])),
        "Lambda": ([line], dict(function=lambda x: x * 2)),
        "Masking": ([line], {}),
        "MelSpectrogram": ([noise], dict(fft_length=256, num_mel_bins=16)),
        "MultiHeadAttention": ([line, line], dict(num_heads=2, key_dim=4)),
        "Normalization": ([line], dict(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])),
        "Permute": ([line], dict(dims=(2, 1))),
        "Rescaling": ([pixels], dict(scale=1 / 127.5, offset=-1.0)),
        "RepeatVector": ([numbers(2, 3)], dict(n=2)),
        "Reshape": ([line], dict(target_shape=(4, 6))),
        "Resizing": ([pixels], dict(height=5, width=5)),
        "RMSNormalization": ([line], {}),
        "STFTSpectrogram": ([noise[..., None]], dict(window=None)),
        "SpectralNormalization": ([line], dict(layer=layers.Dense(2))),
        "StringLookup": ([words], dict(vocabulary=["a b", "c"])),
        "TextVectorization": (
            [words],
            dict(vocabulary=["a", "b", "c"], output_mode="int"),
        ),
        "TimeDistributed": ([line], dict(layer=layers.Dense(2))),
        "UnitNormalization": ([line], {}),
        "ReversibleEmbedding": (
            [np.array([[1, 2], [0, 3]])],
            dict(input_dim=5, output_dim=3),
        ),
        "SimpleRNN": ([line], dict(units=2)),
        "LSTM": ([line], dict(units=2)),
        "GRU": ([line], dict(units=2)),
        "LocallyConnected1D": ([line], dict(filters=2, kernel_size=3)),
        "LocallyConnected2D": ([image], dict(filters=2, kernel_size=3)),
        "ThresholdedReLU": ([line], dict(theta=0.3)),
        "MaxNumBoundingBoxes": ([line], dict(max_number=3)),
        "Solarization": ([pixels], {}),
    }
    if name in by_name:
        return by_name[name]
    if name in ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply"):
        return [line, line], {}
    if name == "Subtract":
        return [line, line], {}
    if re.search("Conv.*1D|Convolution1D", name):
        return [line], _filters(name)
    if re.search("Conv.*2D|Convolution2D", name):
        return [image], _filters(name)
    if re.search("Conv.*3D|Convolution3D", name):
        return [cube], _filters(name)
    for digit, value in (("1D", line), ("2D", image), ("3D", cube)):
        if name.endswith(digit):
            options = {}
            if "Dropout" in name:
                options = dict(rate=0.5)
            elif name.startswith("Adaptive"):
                options = dict(output_size=2)
            elif name.startswith(("Average", "Avg", "Max")):
                options = dict(pool_size=2)
            return [value], options
    if name.startswith(("Random", "Aug", "Auto", "Equal", "Mix", "Cut", "Rand")):
        options = {
            "RandomBrightness": dict(factor=0.2),
            "RandomColorJitter": dict(
                value_range=(0, 255), brightness_factor=0.2, contrast_factor=0.2,
                saturation_factor=0.2, hue_factor=0.2,
            ),
            "RandomContrast": dict(factor=0.2),
            "RandomCrop": dict(height=4, width=4),
            "RandomErasing": {},
            "RandomHeight": dict(factor=0.2),
            "RandomHue": dict(factor=0.2, value_range=(0, 255)),
            "RandomRotation": dict(factor=0.2),
            "RandomSaturation": dict(factor=0.2),
            "RandomSharpness": dict(factor=0.2, value_range=(0, 255)),
            "RandomShear": dict(x_factor=0.2),
            "RandomTranslation": dict(height_factor=0.2, width_factor=0.2),
            "RandomWidth": dict(factor=0.2),
            "RandomZoom": dict(height_factor=0.2),
            "RandomColorDegeneration": dict(factor=0.2),
            "RandomPosterization": dict(factor=4),
        }.get(name, {})  # fmt: skip
        return [pixels], options
    if "Dropout" in name:
        return [line], dict(rate=0.5)
    if name == "GaussianNoise":
        return [line], dict(stddev=0.5)
    return [line], {}


def _filters(name: str) -> Dict[str, Any]:
    if name.startswith("Depthwise"):
        return dict(kernel_size=3)
    return dict(filters=2, kernel_size=3)


LINE, IMAGE = numbers(2, 8, 3), numbers(2, 8, 8, 4)
WORDS = np.array([["a b"], ["c z a"]])
IDS = np.array([[1, 2], [0, 1]])

# Further configurations, which other ops stand behind.
VARIANTS: Dict[str, Callable[[Any], Given]] = {
    "Attention causal": lambda k: (
        [LINE, LINE],
        dict(score_mode="dot", use_scale=True, dropout=0.2),
    ),
    "BatchNormalization of vectors": lambda k: ([numbers(4, 3)], {}),
    "BatchNormalization of channels first": lambda k: ([IMAGE], dict(axis=1)),
    "Bidirectional GRU": lambda k: (
        [LINE],
        dict(layer=k.layers.GRU(2, return_sequences=True), merge_mode="ave"),
    ),
    "CategoryEncoding count": lambda k: (
        [IDS],
        dict(num_tokens=4, output_mode="count"),
    ),
    "CategoryEncoding one_hot": lambda k: (
        [IDS[:, :1]],
        dict(num_tokens=4, output_mode="one_hot"),
    ),
    "Conv1D causal": lambda k: (
        [LINE],
        dict(filters=2, kernel_size=3, padding="causal", dilation_rate=2),
    ),
    "Conv2D dilated": lambda k: (
        [IMAGE],
        dict(filters=2, kernel_size=3, dilation_rate=2, activation="swish"),
    ),
    "Conv2D in groups": lambda k: ([IMAGE], dict(filters=4, kernel_size=3, groups=2)),
    "Conv2D of depth": lambda k: ([IMAGE], dict(filters=8, kernel_size=3, groups=4)),
    "Conv2DTranspose strided": lambda k: (
        [IMAGE],
        dict(filters=2, kernel_size=3, strides=2, padding="same"),
    ),
    "Dense of float16": lambda k: (
        [LINE],
        dict(units=2, dtype="mixed_float16"),
    ),
    "Discretization one_hot": lambda k: (
        [LINE[0]],
        dict(bin_boundaries=[-0.5, 0.0, 0.5], output_mode="multi_hot"),
    ),
    "GRU unrolled": lambda k: ([LINE], dict(units=2, unroll=True, reset_after=False)),
    "Hashing salted": lambda k: ([WORDS], dict(num_bins=5, salt=[133, 137])),
    "Hashing of integers": lambda k: ([IDS], dict(num_bins=5)),
    "IntegerLookup count": lambda k: (
        [np.array([[1, 7], [9, 1]])],
        dict(vocabulary=[1, 9], output_mode="count", num_oov_indices=2),
    ),
    "LSTM backwards": lambda k: (
        [LINE],
        dict(units=2, go_backwards=True, return_sequences=True, recurrent_dropout=0.2),
    ),
    "LayerNormalization of two axes": lambda k: ([IMAGE], dict(axis=[1, 3])),
    "MultiHeadAttention of two axes": lambda k: (
        [IMAGE, IMAGE],
        dict(num_heads=2, key_dim=3, attention_axes=(1, 2), value_dim=2),
    ),
    "Resizing bicubic": lambda k: (
        [np.abs(IMAGE) * 255],
        dict(height=5, width=6, interpolation="bicubic", crop_to_aspect_ratio=True),
    ),
    "SeparableConv2D same": lambda k: (
        [IMAGE],
        dict(filters=2, kernel_size=3, padding="same", depth_multiplier=2),
    ),
    "StringLookup inverted": lambda k: (
        [np.array([[1, 2], [0, 1]])],
        dict(vocabulary=["x", "y"], invert=True),
    ),
    "StringLookup multi_hot": lambda k: (
        [np.array([["a b", "c"], ["q", "c"]])],
        dict(vocabulary=["a b", "c"], output_mode="multi_hot", num_oov_indices=2),
    ),
    "TextVectorization ngrams": lambda k: (
        [WORDS],
        dict(vocabulary=["a", "a b", "c z"], ngrams=2, output_mode="count"),
    ),
    "TextVectorization tf_idf": lambda k: (
        [WORDS],
        dict(
            vocabulary=["a", "b", "c"],
            idf_weights=[0.5, 0.25, 2.0],
            output_mode="tf_idf",
        ),
    ),
    "TimeDistributed convolution": lambda k: (
        [numbers(2, 3, 8, 3)],
        dict(layer=k.layers.Conv1D(2, 3)),
    ),
}
