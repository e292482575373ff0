"""Inputs that a signature of a TF1 graph accepts, made up from what the graph says.

Numbers are small, and below the number of rows where they pick some; strings are
words of the model's vocabularies, tf.Examples or images, as the graph reads them;
dimensions that are not known are tried in several sizes.
"""

from __future__ import annotations

import base64
import itertools
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from hub_compat._io import files
from hub_compat._tf import struct_pb2, tf

from ..frontend.collections import asset_definitions
from ..ir.constants import array_of
from ..ir.dtypes import DT_BOOL, DT_STRING, REF_OFFSET
from ..ir.graph import Graph, node_of, normal
from ..ir.signatures import Component, Signature, Value
from .parsing_specs import PARSERS, constant_strings, features
from .sample_graph import flat_graph

__all__ = ["SampleInputs"]

# Batch, and every other unknown dimension; models for images may need large ones.
_SIZES = (
    [(2, 3), (2, 1), (1, 1), (2, 8), (2, 16), (2, 32), (1, 64), (1, 128), (1, 224)]
    + [(3, 3), (4, 4), (5, 5), (8, 8), (16, 16), (32, 32), (1, 299)]
)  # fmt: skip
_RANKS = [1, 0, 2, 3, 4]
# Integers are below this, whatever else is known of them.
_LIMITS = [10, 2, 1]
_STRINGS = ["", "words", "number", "png", "jpeg"]
_MOST_ATTEMPTS = 120
# Of a vocabulary, the first lines are enough.
_VOCABULARY_BYTES = 1 << 16
_MOST_WORDS = 200
_UNKNOWN_WORDS = [b"qqzzx", b"unheard-of"]
_IMAGE_SIZE = 64

# Ops that hand on what they are given, or some of it.
_CARRIERS = frozenset(
    [
        "Cast", "Enter", "Exit", "ExpandDims", "Identity", "IdentityN", "Merge",
        "NextIteration", "PlaceholderWithDefault", "Reshape", "Squeeze",
        "StopGradient", "StridedSlice", "Switch", "TensorArrayReadV3",
        "TensorArrayScatterV3", "Unique", "UniqueV2", "Unpack",
    ]
)  # fmt: skip
_GATHERS = frozenset(["Gather", "GatherV2", "ResourceGather"])
_DECODERS = {
    "DecodeAndCropJpeg": "jpeg",
    "DecodeBase64": "base64",
    "DecodeImage": "png",
    "DecodeJpeg": "jpeg",
    "DecodePng": "png",
    "ExtractJpegShape": "jpeg",
    "StringToNumber": "number",
}


class _Choice(NamedTuple):
    """One way to fill in what the graph leaves open.

    Attributes:
      rank: of inputs whose rank is unknown.
      sizes: of the first dimension, and of others, where they are unknown.
      limit: integers are below it.
      strings: what strings are; "" for what the graph tells.
      signed: whether floating-point numbers are negative, too; few graphs refuse
        those from 0 to 1.
    """

    rank: int
    sizes: Tuple[int, int]
    limit: int
    strings: str
    signed: bool = False


class SampleInputs:
    """Makes inputs for the signatures of one variant.

    Args:
      path: the model's directory.
      meta_graph: the variant.
      graph: its graph, before any pass.
      seed: of the random numbers.
    """

    def __init__(self, path: str, meta_graph: Any, graph: Graph, seed: int) -> None:
        self._graph = graph = flat_graph(meta_graph, graph, PARSERS | set(_DECODERS))
        self._seed = seed
        self._random = np.random.RandomState(0)
        self._choice = _Choice(_RANKS[0], _SIZES[0], _LIMITS[0], _STRINGS[0])
        self._consumers: Dict[str, List[Tuple[str, int]]] = {}
        for name in graph.nodes:
            for i, edge in enumerate(graph.inputs(name)):
                self._consumers.setdefault(edge.tensor, []).append((name, i))
        self._words = _asset_words(path, meta_graph) + _table_words(graph)
        self._images: Dict[str, bytes] = {}

    def attempts(self, signature: Signature) -> Iterator[Dict[str, np.ndarray]]:
        """Inputs by flattened name, the likeliest first."""
        components = signature.flat_inputs()
        unknown = [c for c in components if c.shape.unknown_rank]
        open_sizes = bool(unknown) or any(
            dim.size < 0 for c in components for dim in c.shape.dim
        )
        kinds = {np.dtype(_numpy_dtype(c.dtype)).kind for c in components}
        # What is left open; of what is not, the first will do.
        ranks = _RANKS if unknown else _RANKS[:1]
        sizes = _SIZES if open_sizes else _SIZES[:1]
        limits = _LIMITS if kinds & set("iuV") else _LIMITS[:1]
        strings = _STRINGS if "O" in kinds else _STRINGS[:1]
        choices = itertools.product(
            enumerate(ranks), enumerate(sizes), enumerate(limits), enumerate(strings)
        )
        nearest = sorted(
            (a + b + c + d, _Choice(rank, size, limit, string))
            for (a, rank), (b, size), (c, limit), (d, string) in choices
        )
        for _, choice in nearest[:_MOST_ATTEMPTS]:
            self._choice = choice
            yield self._feeds(signature, choice, self._seed)

    def another(self, signature: Signature) -> Dict[str, np.ndarray]:
        """Inputs like those of the last attempt: more of them, and of either sign."""
        batch, other = self._choice.sizes
        choice = self._choice._replace(sizes=(batch + 3, other), signed=True)
        return self._feeds(signature, choice, self._seed + 1)

    def _feeds(
        self, signature: Signature, choice: _Choice, seed: int
    ) -> Dict[str, np.ndarray]:
        self._random = np.random.RandomState(seed & 0xFFFFFFFF)
        feeds: Dict[str, np.ndarray] = {}
        for value in signature.inputs.values():
            feeds.update(self._value(value, choice))
        return feeds

    def _value(self, value: Value, choice: _Choice) -> Dict[str, np.ndarray]:
        kind = struct_pb2.TypeSpecProto
        parts = value.components
        if value.spec is not None:
            spec = value.spec.type_spec_value.type_spec_class
            if spec == kind.SPARSE_TENSOR_SPEC and len(parts) == 3:
                return self._sparse(parts, choice)
            if spec == kind.RAGGED_TENSOR_SPEC and len(parts) > 1:
                return self._ragged(parts, choice)
        return {c.name: self._dense(c, choice) for c in parts}

    def _dense(self, component: Component, choice: _Choice) -> np.ndarray:
        node = self._graph.node(node_of(component.tensor))
        if node.op == "PlaceholderWithDefault":
            default = self._graph.node(node_of(node.input[0]))
            if default.op == "Const":
                value = np.asarray(array_of(default.attr["value"].tensor))
                if value.ndim == 0 and not component.shape.dim:
                    return value
        shape = _shape(component.shape, choice)
        return self._array(component.tensor, component.dtype, shape, choice)

    def _sparse(
        self, parts: Sequence[Component], choice: _Choice
    ) -> Dict[str, np.ndarray]:
        indices, values, dense_shape = parts
        columns = indices.shape.dim[1].size
        rank = columns if columns > 0 else max(2, choice.rank)
        shape = [choice.sizes[0]] + [max(2, choice.sizes[1])] * (rank - 1)
        # One entry or two in each row, in order.
        places = []
        for row in range(shape[0]):
            for column in range(1 + row % 2 if rank > 1 else 1):
                places.append([row] + [0] * (rank - 2) + [column] * (rank > 1))
        return {
            indices.name: np.array(places, np.int64).reshape(-1, rank),
            values.name: self._array(
                values.tensor, values.dtype, (len(places),), choice
            ),
            dense_shape.name: np.array(shape, np.int64),
        }

    def _ragged(
        self, parts: Sequence[Component], choice: _Choice
    ) -> Dict[str, np.ndarray]:
        made = {}
        rows = choice.sizes[0]
        for component in parts[1:]:
            # Rows of one element, two, none, one, ...
            lengths = [(row + 1) % 3 for row in range(rows)]
            splits = np.cumsum([0] + lengths)
            made[component.name] = splits.astype(_numpy_dtype(component.dtype))
            rows = int(splits[-1])
        flat = parts[0]
        shape = (rows,) + _shape(flat.shape, choice)[1:]
        made[flat.name] = self._array(flat.tensor, flat.dtype, shape, choice)
        return made

    def _array(
        self, tensor: str, dtype: int, shape: Tuple[int, ...], choice: _Choice
    ) -> np.ndarray:
        """Random elements, fit for what the graph does with a tensor."""
        if dtype == DT_STRING:
            kind = choice.strings or self._string_kind(tensor)
            count = int(np.prod(shape, dtype=np.int64))
            array = np.empty([count], object)
            for i in range(count):
                array[i] = self._string(tensor, kind, i, choice)
            return array.reshape(shape)
        if dtype == DT_BOOL:
            # A switch, such as one for training, is off at first.
            return self._random.randint(0, 2 if shape else 1, shape).astype(bool)
        numpy_dtype = np.dtype(_numpy_dtype(dtype))
        if numpy_dtype.kind in "iu" or numpy_dtype.fields:
            limit = choice.limit
            if choice.limit == _LIMITS[0]:
                limit = self._rows(tensor) or limit
            numbers = self._random.randint(0, limit, shape)
            if numpy_dtype.fields:
                # A quantized dtype is a record of one number.
                array = np.zeros(shape, numpy_dtype)
                array[numpy_dtype.names[0]] = numbers
                return array
            return np.asarray(numbers).astype(numpy_dtype)
        draw = self._random.normal if choice.signed else self._random.uniform
        return np.asarray(draw(size=shape)).astype(numpy_dtype)

    def _string(self, tensor: str, kind: str, number: int, choice: _Choice) -> bytes:
        if kind == "example":
            return self._example(tensor, choice)
        if kind == "base64":
            decoder = self._reached(tensor, {"DecodeBase64"})[0]
            inner = self._string_kind(decoder + ":0")
            text = self._string(decoder + ":0", inner, number, choice)
            return base64.urlsafe_b64encode(text).rstrip(b"=")
        if kind == "number":
            return b"%d" % self._random.randint(0, 10)
        if kind in ("png", "jpeg"):
            return self._image(kind)
        words = self._words or [b"some", b"words", b"here"]
        word: bytes = words[self._random.randint(len(words))]
        # One word alone, an unknown one, and then sentences.
        if number % 4 == 1:
            return _UNKNOWN_WORDS[number // 4 % len(_UNKNOWN_WORDS)]
        if number % 4 == 2:
            other: bytes = words[self._random.randint(len(words))]
            return b" ".join([word, _UNKNOWN_WORDS[0], other])
        return word

    def _string_kind(self, tensor: str) -> str:
        found = self._reached(tensor, PARSERS | set(_DECODERS))
        if not found:
            return "words"
        return _DECODERS.get(self._graph.node(found[0]).op, "example")

    def _image(self, kind: str) -> bytes:
        if kind not in self._images:
            shape = (_IMAGE_SIZE, _IMAGE_SIZE, 3)
            pixels = np.random.RandomState(0).randint(0, 256, shape)
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                encode = tf.image.encode_png if kind == "png" else tf.image.encode_jpeg
                made: bytes = session.run(encode(pixels.astype(np.uint8)))
            self._images[kind] = made
        return self._images[kind]

    def _example(self, tensor: str, choice: _Choice) -> bytes:
        """A serialized tf.Example with all that the parser asks for."""
        example = tf.train.Example()
        for name in self._reached(tensor, PARSERS):
            for feature in features(self._graph, self._graph.node(name)):
                values = self._array(
                    feature.tensor, feature.dtype, (feature.number,), choice
                )
                if feature.key in example.features.feature:
                    # Another parser of the same bytes asks for it, too.
                    continue
                target = example.features.feature[feature.key]
                if feature.dtype == DT_STRING:
                    target.bytes_list.value.extend(values.tolist())
                elif values.dtype.kind == "f":
                    target.float_list.value.extend(values.tolist())
                else:
                    target.int64_list.value.extend(values.tolist())
        serialized: bytes = example.SerializeToString(deterministic=True)
        return serialized

    def _reached(self, tensor: str, ops: Any) -> List[str]:
        """The nearest nodes of some ops that a tensor gets to."""
        return [
            name for name, _ in self._uses(tensor) if self._graph.nodes[name].op in ops
        ]

    def _rows(self, tensor: str) -> Optional[int]:
        """How many rows there are to pick from, if a tensor picks rows."""
        found = []
        for name, index in self._uses(tensor):
            if self._graph.nodes[name].op in _GATHERS and index == 1:
                rows = self._first_dimension(self._graph.inputs(name)[0].tensor)
                found += [rows] if rows else []
        return min(found, default=None)

    def _uses(self, tensor: str) -> Iterator[Tuple[str, int]]:
        """Nodes that take a tensor, as it is or handed on, and as which input."""
        seen: Set[str] = set()
        queue = [normal(tensor)]
        for current in queue:
            for name, index in self._consumers.get(current, ()):
                yield name, index
                node = self._graph.nodes[name]
                if node.op in _CARRIERS and name not in seen:
                    seen.add(name)
                    count = len(self._graph.outputs(name))
                    queue += ["{}:{}".format(name, i) for i in range(count)]

    def _first_dimension(self, tensor: str) -> Optional[int]:
        """The size of a variable's or constant's first dimension."""
        node = self._graph.node(node_of(tensor))
        while node.op in ("Enter", "Identity", "ReadVariableOp", "Switch"):
            node = self._graph.node(node_of(node.input[0]))
        if node.op == "Const":
            shape = node.attr["value"].tensor.tensor_shape
        elif "shape" in node.attr:
            shape = node.attr["shape"].shape
        else:
            return None
        return shape.dim[0].size if shape.dim and shape.dim[0].size > 0 else None


def _asset_words(path: str, meta_graph: Any) -> List[bytes]:
    """Words from the first lines of the model's asset files."""
    words: List[bytes] = []
    for asset in asset_definitions(meta_graph):
        file = files.join(path, "assets", asset.filename)
        if not files.exists(file):
            continue
        with files.open_read(file) as reader:
            start = reader.read(_VOCABULARY_BYTES)
        for line in start.splitlines()[:_MOST_WORDS]:
            word = line.split(b"\t")[0].strip()
            # Other assets than vocabularies are no text.
            if 0 < len(word) <= 64 and b"\0" not in word:
                words.append(word)
    return words


def _table_words(graph: Graph) -> List[bytes]:
    """Keys of the tables that constants fill."""
    words: List[bytes] = []
    for name, node in graph.nodes.items():
        if node.op in _TABLE_FILLERS:
            words += constant_strings(graph, graph.inputs(name)[1].tensor)[:_MOST_WORDS]
    return words


_TABLE_FILLERS = frozenset(
    ["InitializeTable", "InitializeTableV2", "LookupTableImport", "LookupTableImportV2"]
)


def _numpy_dtype(dtype: int) -> Any:
    return tf.as_dtype(dtype % REF_OFFSET).as_numpy_dtype


def _shape(shape: Any, choice: _Choice) -> Tuple[int, ...]:
    dims = [-1] * choice.rank if shape.unknown_rank else [d.size for d in shape.dim]
    return tuple(
        size if size >= 0 else choice.sizes[0 if i == 0 else 1]
        for i, size in enumerate(dims)
    )
