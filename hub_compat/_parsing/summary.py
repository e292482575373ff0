"""Summarizes a SavedModel file, whatever its encoding.

One schema and one set of functions for the three encodings: binary and chunked
(``WireReader``), text (``TextReader``). Field numbers and names are those of
saved_model.proto, meta_graph.proto, graph.proto, versions.proto,
saved_object_graph.proto, trackable_object_graph.proto (TensorFlow) and
module_def.proto (TensorFlow Hub up to 0.15).
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

from hub_compat._parsing.chunked import ChunkedFile
from hub_compat._parsing.known_names import INTERNAL_SIGNATURES
from hub_compat._parsing.readers import (
    INT,
    SKIP,
    STRING,
    Reader,
    Schema,
    WireReader,
)

__all__ = [
    "SCHEMA",
    "MetaGraph",
    "Model",
    "ObjectGraph",
    "read_chunked",
    "read_model",
]

# tf.saved_model keeps its initialisation op as a signature under such a name; no
# loader offers it to callers.

# message -> field number -> name and kind; a kind is one of the above or a message.
# Numbers: saved_model.proto, meta_graph.proto, graph.proto, versions.proto,
# saved_object_graph.proto and trackable_object_graph.proto of TensorFlow.
SCHEMA = Schema(
    {
        "SavedModel": {
            1: ("saved_model_schema_version", INT),
            2: ("meta_graphs", "MetaGraphDef"),
        },
        "MetaGraphDef": {
            1: ("meta_info_def", "MetaInfoDef"),
            2: ("graph_def", "GraphDef"),
            5: ("signature_def", "SignatureEntry"),
            7: ("object_graph_def", "SavedObjectGraph"),
        },
        "MetaInfoDef": {4: ("tags", STRING), 5: ("tensorflow_version", STRING)},
        "GraphDef": {4: ("versions", "VersionDef")},
        "VersionDef": {
            1: ("producer", INT),
            2: ("min_consumer", SKIP),
            3: ("bad_consumers", SKIP),
        },
        "SignatureEntry": {1: ("key", STRING)},
        "SavedObjectGraph": {1: ("nodes", "SavedObject")},
        "SavedObject": {
            1: ("children", "ObjectReference"),
            4: ("user_object", "SavedUserObject"),
            6: ("function", SKIP),
            8: ("bare_concrete_function", SKIP),
        },
        "ObjectReference": {1: ("node_id", INT), 2: ("local_name", STRING)},
        "SavedUserObject": {1: ("identifier", STRING)},
        "ModuleDef": {1: ("format", INT), 2: ("required_features", STRING)},
    }
)


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


def read_model(reader: Reader) -> Model:
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
    model = read_model(WireReader(file.saved_model(), "SavedModel", SCHEMA))
    if model.graphs and not model.graphs[0].graph_def_version:
        graph = file.graph_def()
        if graph is not None:
            producer = _read_producer(WireReader(graph, "GraphDef", SCHEMA))
            model.graphs[0].graph_def_version = producer
    return model


def _read_meta_graph(reader: Reader, with_producer: bool) -> MetaGraph:
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
            if not key.startswith(INTERNAL_SIGNATURES):
                graph.signatures.append(key)
        else:
            graph.objects = _read_object_graph(value)
    return graph


def _read_producer(graph: Reader) -> int:
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


def _read_object_graph(reader: Reader) -> ObjectGraph:
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


def _read_reference(reader: Reader) -> Tuple[str, int]:
    local_name, node_id = "", 0
    for name, value in reader.fields():
        if name == "node_id":
            node_id = value
        else:
            local_name = value
    return local_name, node_id
