"""Summarizes a SavedModel file, whatever its encoding.

One schema and one set of functions for the three encodings: binary and chunked
(``WireReader``), text (``TextReader``). Field numbers and names are those of
saved_model.proto, meta_graph.proto, graph.proto, versions.proto,
saved_object_graph.proto, trackable_object_graph.proto (TensorFlow) and
module_def.proto (TensorFlow Hub up to 0.15).
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from hub_compat._parsing import wire
from hub_compat._parsing.chunked import ChunkedFile
from hub_compat._parsing.text_format import TextMessage
from hub_compat.errors import CorruptModuleError

__all__ = [
    "MetaGraph",
    "Model",
    "ObjectGraph",
    "TextReader",
    "WireReader",
    "read_chunked",
    "read_model",
]

# tf.saved_model keeps its initialisation op as a signature under such a name; no
# loader offers it to callers.
_INTERNAL_SIGNATURES = "__saved_model_"

_INT = "int"
_STRING = "string"
_SKIP = "skip"
# message -> field number -> name and kind; a kind is one of the above or a message.
# Numbers: saved_model.proto, meta_graph.proto, graph.proto, versions.proto,
# saved_object_graph.proto and trackable_object_graph.proto of TensorFlow.
_SCHEMA: Dict[str, Dict[int, Tuple[str, str]]] = {
    "SavedModel": {
        1: ("saved_model_schema_version", _INT),
        2: ("meta_graphs", "MetaGraphDef"),
    },
    "MetaGraphDef": {
        1: ("meta_info_def", "MetaInfoDef"),
        2: ("graph_def", "GraphDef"),
        5: ("signature_def", "SignatureEntry"),
        7: ("object_graph_def", "SavedObjectGraph"),
    },
    "MetaInfoDef": {4: ("tags", _STRING), 5: ("tensorflow_version", _STRING)},
    "GraphDef": {4: ("versions", "VersionDef")},
    "VersionDef": {
        1: ("producer", _INT),
        2: ("min_consumer", _SKIP),
        3: ("bad_consumers", _SKIP),
    },
    "SignatureEntry": {1: ("key", _STRING)},
    "SavedObjectGraph": {1: ("nodes", "SavedObject")},
    "SavedObject": {
        1: ("children", "ObjectReference"),
        4: ("user_object", "SavedUserObject"),
        6: ("function", _SKIP),
        8: ("bare_concrete_function", _SKIP),
    },
    "ObjectReference": {1: ("node_id", _INT), 2: ("local_name", _STRING)},
    "SavedUserObject": {1: ("identifier", _STRING)},
    "ModuleDef": {1: ("format", _INT), 2: ("required_features", _STRING)},
}
_NUMBERS = {
    kind: {name: number for number, (name, _) in fields.items()}
    for kind, fields in _SCHEMA.items()
}


class ObjectGraph:
    """A summary of a SavedObjectGraph."""

    def __init__(self) -> None:
        self.count = 0  # nodes looked at; 0 says that there are none
        self.root_identifier = ""
        self.callable = False
        self.export_archive = False


class MetaGraph:
    """A summary of a MetaGraphDef."""

    def __init__(self) -> None:
        self.tags: List[str] = []
        self.signatures: List[str] = []
        self.tensorflow_version = ""
        self.graph_def_version = 0
        self.objects: Optional[ObjectGraph] = None


class Model(NamedTuple):
    """A summary of a SavedModel."""

    schema_version: int
    graphs: List[MetaGraph]


class WireReader:
    """A message in the binary format, read through the schema."""

    def __init__(self, message: wire.Message, kind: str) -> None:
        self._message = message
        self._kind = kind

    def fields(self) -> Iterator[Tuple[str, Any]]:
        """Walks the fields of the schema: name and int, str or message."""
        message = self._message
        schema = _SCHEMA[self._kind]
        for field in message.fields():
            known = schema.get(field.number)
            if known is None:
                continue
            name, kind = known
            if kind == _INT:
                yield name, message.integer(field)
            elif kind == _STRING:
                yield name, message.text(field)
            elif kind == _SKIP:
                yield name, None
            else:
                yield name, WireReader(message.message(field), kind)

    def last(self, name: str) -> Optional[WireReader]:
        """Returns the field that ends this message, if it is surely that one."""
        number = _NUMBERS[self._kind][name]
        found = self._message.last(number)
        if found is None:
            return None
        kind = _SCHEMA[self._kind][number][1]
        # The bytes were found from behind. They are believed if they are a strict
        # message of that kind: its first field, then only known ones, rising.
        previous = 0
        try:
            for field in found.fields():
                if field.number not in _SCHEMA[kind] or field.number <= previous:
                    return None
                if not previous and field.number != 1:
                    return None
                previous = field.number
        except CorruptModuleError:
            return None
        return WireReader(found, kind) if previous else None


class TextReader:
    """A message in the text format, read through the schema."""

    def __init__(self, message: TextMessage, kind: str) -> None:
        self._message = message
        self._kind = kind

    def fields(self) -> Iterator[Tuple[str, Any]]:
        """Walks the fields of the schema: name and int, str or message."""
        numbers = _NUMBERS[self._kind]
        for name, value in self._message.fields(numbers):
            kind = _SCHEMA[self._kind][numbers[name]][1]
            if kind == _SKIP:
                yield name, None
            elif isinstance(value, TextMessage):
                if kind in (_INT, _STRING):
                    raise self._message.damaged("a value of {}".format(name))
                yield name, TextReader(value, kind)
            elif kind == _STRING:
                yield name, value
            elif kind == _INT:
                try:
                    yield name, int(value, 10)
                except ValueError as error:
                    raise self._message.damaged(
                        "a number for {}".format(name)
                    ) from error
            else:
                raise self._message.damaged("a message for {}".format(name))

    def last(self, name: str) -> Optional[TextReader]:
        """A stream has no end to look at first."""
        return None


_Reader = Union[WireReader, TextReader]


def read_model(reader: _Reader) -> Model:
    schema_version = 0
    graphs: List[MetaGraph] = []
    for name, value in reader.fields():
        if name == "saved_model_schema_version":
            schema_version = value
        else:
            # Only the first MetaGraph names the producer.
            graphs.append(_read_meta_graph(value, with_producer=not graphs))
    return Model(schema_version, graphs)


def read_chunked(file: ChunkedFile) -> Model:
    model = read_model(WireReader(file.saved_model(), "SavedModel"))
    if model.graphs and not model.graphs[0].graph_def_version:
        graph = file.graph_def()
        if graph is not None:
            producer = _read_producer(WireReader(graph, "GraphDef"))
            model.graphs[0].graph_def_version = producer
    return model


def _read_meta_graph(reader: _Reader, with_producer: bool) -> MetaGraph:
    graph = MetaGraph()
    for name, value in reader.fields():
        if name == "meta_info_def":
            for info, text in value.fields():
                if info == "tags":
                    graph.tags.append(text)
                else:
                    graph.tensorflow_version = text
        elif name == "graph_def":
            if with_producer:
                graph.graph_def_version = _read_producer(value)
        elif name == "signature_def":
            # A map entry without a key has the key "".
            keys = [text for _, text in value.fields()]
            key = keys[-1] if keys else ""
            if not key.startswith(_INTERNAL_SIGNATURES):
                graph.signatures.append(key)
        else:
            graph.objects = _read_object_graph(value)
    return graph


def _read_producer(graph: _Reader) -> int:
    """Returns GraphDef.versions.producer, 0 if it is not set."""
    # `versions` is written behind the nodes; looked for from the end, 100,000 nodes
    # need not be hopped over.
    versions = graph.last("versions")
    found = [("versions", versions)] if versions is not None else graph.fields()
    producer = 0
    for _, version in found:
        for name, value in version.fields():
            if name == "producer":
                producer = value
    return producer


def _read_object_graph(reader: _Reader) -> ObjectGraph:
    graph = ObjectGraph()
    wanted = -1
    for _, node in reader.fields():
        if not graph.count:
            for name, value in node.fields():
                if name == "children":
                    child, node_id = _read_reference(value)
                    if child == "__call__":
                        wanted = node_id
                    elif child == "_misc_assets":
                        # keras.export.ExportArchive keeps such a list.
                        graph.export_archive = True
                elif name == "user_object":
                    for _, graph.root_identifier in value.fields():
                        pass
        elif graph.count == wanted:
            graph.callable = any(name == "function" for name, _ in node.fields())
        graph.count += 1
        # The rest, often thousands of nodes, says nothing about the root.
        if graph.count > wanted:
            break
    return graph


def _read_reference(reader: _Reader) -> Tuple[str, int]:
    local_name, node_id = "", 0
    for name, value in reader.fields():
        if name == "node_id":
            node_id = value
        else:
            local_name = value
    return local_name, node_id
