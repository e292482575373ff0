"""detect(): the decision table, the three encodings, damage, speed and memory."""

from __future__ import annotations

import builtins
import os
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any, List, Sequence, Tuple

import pytest
from chunked import Spec, to_riegeli, to_wire, varint

from hub_compat._io import files as _files
from hub_compat.detector import detect
from hub_compat.errors import CorruptModuleError, FormatError, HandleError
from hub_compat.formats import Format, Producer, Variant

ROOT = Path(__file__).resolve().parents[2]
MARKER = b"\x08\x03"

# --- models made by hand, in every encoding ----------------------------------------


def to_text(spec: Spec, indent: str = "") -> str:
    """Encodes a message in protobuf's text format, as ``str(message)`` does."""
    out = ""
    for _, name, value in spec:
        if isinstance(value, list):
            inner = to_text(value, indent + "  ")
            out += "{0}{1} {{\n{2}{0}}}\n".format(indent, name, inner)
        elif isinstance(value, int):
            out += "{}{}: {}\n".format(indent, name, value)
        else:
            text = value if isinstance(value, str) else value.decode("latin-1")
            text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            out += '{}{}: "{}"\n'.format(indent, name, text)
    return out


def meta_graph(
    tags: Sequence[str] = ("serve",),
    signatures: Sequence[str] = ("serving_default",),
    objects: Any = None,
    nodes: int = 3,
    producer: int = 134,
) -> Spec:
    """A MetaGraphDef, its fields in the order of a serialiser."""
    node = [(1, "name", 'n{"<'), (2, "op", "Const"), (5, "attr", [(1, "key", "v\\")])]
    info: Spec = [(2, "stripped_op_list", [(1, "op", [(1, "name", "Const")])])]
    info += [(4, "tags", tag) for tag in tags]
    info += [(5, "tensorflow_version", "1.15.5"), (6, "tensorflow_git_version", "x")]
    graph: Spec = [(1, "node", node)] * nodes
    if producer:
        graph += [(4, "versions", [(1, "producer", producer), (2, "min_consumer", 12)])]
    spec: Spec = [(1, "meta_info_def", info), (2, "graph_def", graph)]
    for name in signatures:
        value = [(3, "method_name", "tensorflow/serving/predict")]
        spec.append((5, "signature_def", [(1, "key", name), (2, "value", value)]))
    if objects is not None:
        spec.append((7, "object_graph_def", objects))
    return spec


def saved_model(*graphs: Spec, **options: int) -> Spec:
    """A SavedModel."""
    version = options.get("schema_version", 1)
    head: Spec = [(1, "saved_model_schema_version", version)] if version else []
    return head + [(2, "meta_graphs", graph) for graph in graphs]


def reference(node_id: int, name: str) -> Tuple[int, str, Any]:
    """A child of a SavedObject; node 0 is left out, as proto3 does."""
    fields: Spec = [(1, "node_id", node_id)] if node_id else []
    return (1, "children", fields + [(2, "local_name", name)])


def objects(
    identifier: str = "_generic_user_object",
    children: Sequence[Tuple[int, str]] = (),
    kinds: Sequence[Tuple[int, str]] = (),
) -> Spec:
    """A SavedObjectGraph: the root and further nodes of the given kinds."""
    root: Spec = [reference(node_id, name) for node_id, name in children]
    root.append((4, "user_object", [(1, "identifier", identifier)]))
    nodes: Spec = [(1, "nodes", root)]
    for number, name in kinds:
        nodes.append((1, "nodes", [(number, name, [(3, "unknown", 1)])]))
    return nodes


FUNCTION = (6, "function")
VARIABLE = (7, "variable")
BARE = (8, "bare_concrete_function")
CALLABLE = objects(
    children=[(1, "v"), (2, "__call__")], kinds=[VARIABLE, FUNCTION, VARIABLE]
)
PLAIN = objects(children=[(1, "v"), (2, "serve")], kinds=[VARIABLE, FUNCTION])


def write(directory: Path, spec: Spec, encoding: str = "pb", marker: Any = None) -> str:
    """Writes a module directory."""
    directory.mkdir(exist_ok=True)
    path = directory / ("saved_model." + encoding)
    if encoding == "pb":
        path.write_bytes(to_wire(spec))
    elif encoding == "pbtxt":
        path.write_text(to_text(spec), encoding="utf-8")
    else:
        path.write_bytes(to_riegeli([[to_wire(spec), b"metadata"]]))
    if marker is not None:
        (directory / "tfhub_module.pb").write_bytes(marker)
    return str(directory)


# --- the decision table -----------------------------------------------------------

CASES = [
    (
        "hub module",
        saved_model(
            meta_graph(tags=[], signatures=["default", "a:b"]),
            meta_graph(tags=["train"], signatures=["default"]),
            schema_version=0,
        ),
        MARKER,
        Format.TF1_HUB_MODULE,
    ),
    ("tf1", saved_model(meta_graph()), None, Format.TF1_SAVED_MODEL),
    (
        "two graphs with objects are read as tf1",
        saved_model(meta_graph(objects=CALLABLE), meta_graph(tags=["gpu", "serve"])),
        None,
        Format.TF1_SAVED_MODEL,
    ),
    ("reusable", saved_model(meta_graph(objects=CALLABLE)), None, Format.TF2_REUSABLE),
    (
        "reusable with a marker",
        saved_model(meta_graph(objects=CALLABLE)),
        MARKER,
        Format.TF2_REUSABLE,
    ),
    ("plain", saved_model(meta_graph(objects=PLAIN)), None, Format.TF2_SIGNATURES),
    (
        "__call__ that is no function",
        saved_model(
            meta_graph(objects=objects(children=[(1, "__call__")], kinds=[BARE]))
        ),
        None,
        Format.TF2_SIGNATURES,
    ),
    (
        "__call__ that leads nowhere",
        saved_model(meta_graph(objects=objects(children=[(9, "__call__")]))),
        None,
        Format.TF2_SIGNATURES,
    ),
    (
        "__call__ that leads to the root",
        saved_model(meta_graph(objects=objects(children=[(0, "__call__")]))),
        None,
        Format.TF2_SIGNATURES,
    ),
    (
        "keras 2",
        saved_model(
            meta_graph(
                objects=objects("_tf_keras_model", [(1, "__call__")], [FUNCTION])
            )
        ),
        None,
        Format.TF2_KERAS,
    ),
    (
        "keras 2 layer without a call",
        saved_model(meta_graph(objects=objects("_tf_keras_layer"))),
        None,
        Format.TF2_KERAS,
    ),
]


@pytest.mark.parametrize("encoding", ["pb", "pbtxt", "cpb"])
@pytest.mark.parametrize(
    "spec, marker, expected", [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_decision(
    tmp_path: Path, spec: Spec, marker: Any, expected: Format, encoding: str
) -> None:
    """Each row of the table, in each encoding, with evidence and producer."""
    found = detect(write(tmp_path, spec, encoding, marker))
    assert found.format is expected
    assert found.file == "saved_model." + encoding
    assert found.producer == Producer("1.15.5", 134)
    assert found.evidence
    assert all(sentence.endswith(".") for sentence in found.evidence)


@pytest.mark.parametrize("encoding", ["pb", "pbtxt", "cpb"])
def test_variants(tmp_path: Path, encoding: str) -> None:
    """Variants keep the file's order; tags and signatures are sorted."""
    spec = saved_model(
        meta_graph(tags=[], signatures=["logits", "default", "__saved_model_init_op"]),
        meta_graph(tags=["train", "gpu"], signatures=[]),
        schema_version=0,
    )
    found = detect(write(tmp_path, spec, encoding, MARKER))
    assert found.variants == (
        Variant((), ("default", "logits")),
        Variant(("gpu", "train"), ()),
    )
    assert found.signatures == ("default", "logits")


def test_evidence_names_what_matters(tmp_path: Path) -> None:
    """A stray marker, a callable Keras model, a lost marker and an export are said."""
    two = saved_model(meta_graph(objects=CALLABLE))
    said = " ".join(detect(write(tmp_path / "a", two, marker=MARKER)).evidence)
    assert "marker tfhub_module.pb is there, but the model is TF2" in said

    keras = objects("_tf_keras_sequential", [(1, "__call__")], [FUNCTION])
    found = detect(write(tmp_path / "b", saved_model(meta_graph(objects=keras))))
    said = " ".join(found.evidence)
    assert "_tf_keras_sequential" in said
    assert "The root is callable" in said

    lost = saved_model(meta_graph(tags=[]), schema_version=0)
    said = " ".join(detect(write(tmp_path / "c", lost)).evidence)
    assert "lost its marker" in said

    export = objects(children=[(1, "_misc_assets"), (2, "serve")])
    found = detect(write(tmp_path / "d", saved_model(meta_graph(objects=export))))
    said = " ".join(found.evidence)
    assert "Model.export" in said
    assert "not callable" in said


def test_keras_metadata_makes_it_keras(tmp_path: Path) -> None:
    """Keras 2's own file decides, also where the root is a plain object."""
    write(tmp_path, saved_model(meta_graph(objects=PLAIN)))
    (tmp_path / "keras_metadata.pb").write_bytes(b"")
    assert detect(str(tmp_path)).format is Format.TF2_KERAS


def test_the_file_that_tensorflow_reads_counts(tmp_path: Path) -> None:
    """saved_model.pb goes before .pbtxt, and .cpb counts only alone."""
    spec = saved_model(meta_graph())
    for encoding in ("cpb", "pbtxt", "pb"):
        write(tmp_path, spec, encoding)
        assert detect(str(tmp_path)).file == "saved_model." + encoding


def test_paths(tmp_path: Path, monkeypatch: Any) -> None:
    """Strings, paths and file URLs are taken; the path is given back as it was."""
    write(tmp_path, saved_model(meta_graph()))
    assert detect(tmp_path).path == str(tmp_path)
    assert detect(str(tmp_path) + "/").path == str(tmp_path) + "/"
    assert detect("file://" + str(tmp_path)).path == "file://" + str(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert detect(".").path == "."
    with pytest.raises(ValueError, match="Expected a string, got "):
        detect(None)  # type: ignore[arg-type]


# --- the marker -------------------------------------------------------------------


@pytest.mark.parametrize(
    "marker, message",
    [
        (b"", "Unsupported module def format 0"),
        (b"\x08\x02", "Unsupported module def format 2"),
        (b"\x08\x04", "Unsupported module def format 4"),
        (b"\x08\x03\x12\x05magic\x12\x01b", r"Received: \['b', 'magic'\]"),
    ],
)
def test_unknown_markers_are_refused(
    tmp_path: Path, marker: bytes, message: str
) -> None:
    """Another format, or a feature that is required, is named and refused."""
    path = write(tmp_path, saved_model(meta_graph(tags=[])), marker=marker)
    with pytest.raises(FormatError, match=message) as caught:
        detect(path)
    assert not isinstance(caught.value, CorruptModuleError)


@pytest.mark.parametrize("marker", [b"\x08", b"\xff\xff", b"\x0a\x01a", b"\x12\x7f"])
def test_damaged_markers(tmp_path: Path, marker: bytes) -> None:
    """A marker that is no message is damage."""
    path = write(tmp_path, saved_model(meta_graph(tags=[])), marker=marker)
    with pytest.raises(CorruptModuleError, match="tfhub_module.pb is damaged"):
        detect(path)


# --- not a module -----------------------------------------------------------------


def test_a_link_to_nothing_and_a_tilde(tmp_path: Path) -> None:
    """A link that leads nowhere says where; a ~ is the user's home."""
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(HandleError, match="a symbolic link to .*gone"):
        detect(str(tmp_path / "link"))
    with pytest.raises(HandleError, match="/no_such_module does not exist"):
        detect("~/no_such_module")


def test_an_absent_path(tmp_path: Path) -> None:
    """The message says so and offers the nearest name."""
    (tmp_path / "half_plus_two").mkdir()
    with pytest.raises(HandleError) as caught:
        detect(str(tmp_path / "half_plus_too"))
    message = str(caught.value)
    assert message.startswith("{} does not exist.".format(tmp_path / "half_plus_too"))
    assert "Did you mean {}?".format(tmp_path / "half_plus_two") in message
    with pytest.raises(OSError, match="The nearest directory that does is"):
        detect(str(tmp_path / "zz" / "yy"))
    with pytest.raises(HandleError, match="It was looked for in"):
        detect("no/such/module/here")
    with pytest.raises(HandleError):
        detect("")
    with pytest.raises(HandleError):
        detect("a\0b")
    with pytest.raises(HandleError, match="register_resolver"):
        detect("ftp://host/google/x/1")


@pytest.mark.parametrize(
    "name, message",
    [
        ("saved_model.pb", "Pass its directory: {}"),
        ("model.tar.gz", "model.tar.gz is an archive. Extract it"),
        ("model.h5", "Keras HDF5 file"),
        ("model.txt", "Pass a directory that holds one of saved_model.pb"),
    ],
)
def test_a_file_instead_of_a_directory(tmp_path: Path, name: str, message: str) -> None:
    """A file is recognised, and the message says what to do with it."""
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FormatError) as caught:
        detect(str(tmp_path / name))
    assert message.format(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "names, message",
    [
        ([], "Found: an empty directory"),
        (["model.json", "group1-shard1of1.bin"], "model.json is a TensorFlow.js"),
        (["net.tflite"], "net.tflite is a TensorFlow Lite model"),
        (["net.h5"], "net.h5 is a Keras HDF5 file"),
        (["net.keras"], "net.keras is a Keras model file"),
        (["frozen_graph.pb"], "frozen_graph.pb may be a frozen graph"),
        (["checkpoint", "m.index", "m.data-00000-of-00001"], "It holds a checkpoint"),
        (["m.index", "m.data-00000-of-00001"], "It holds a checkpoint"),
        (["module.tar.gz"], "module.tar.gz is an archive"),
        (["variables/variables.index"], "whose model file was lost"),
        (["tfhub_module.pb"], "Found: tfhub_module.pb"),
        (["1/saved_model.pb"], "Did you mean its sub-directory {}/1"),
        (["1/saved_model.pb", "2/saved_model.pb"], "It holds 2 modules"),
        (["readme.md"], "Pass the directory that tf.saved_model.save"),
    ],
)
def test_directories_without_a_model(
    tmp_path: Path, names: List[str], message: str
) -> None:
    """What is there instead is recognised, listed, and advice is given."""
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(MARKER)
    with pytest.raises(FormatError) as caught:
        detect(str(tmp_path))
    found = str(caught.value)
    assert "contains neither saved_model.pb nor saved_model.pbtxt" in found
    assert message.format(tmp_path) in found
    assert not isinstance(caught.value, CorruptModuleError)


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    """A directory named saved_model.pb is unusable, and said to be."""
    (tmp_path / "saved_model.pb").mkdir()
    with pytest.raises(HandleError, match="saved_model.pb cannot be read"):
        detect(str(tmp_path))


# --- damage -----------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["pb", "pbtxt", "cpb"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"\xff" * 100, b"\x08\x01", b"{", b'x: "', b"# a"]
)
def test_what_is_not_a_model(tmp_path: Path, content: bytes, encoding: str) -> None:
    """Emptiness, zeros, noise and a model without graphs are damage."""
    (tmp_path / ("saved_model." + encoding)).write_bytes(content)
    with pytest.raises(CorruptModuleError, match="is damaged or incomplete"):
        detect(str(tmp_path))


def test_an_object_graph_without_a_root(tmp_path: Path) -> None:
    """A TF2 model without any object is damage."""
    with pytest.raises(CorruptModuleError, match="has no nodes"):
        detect(write(tmp_path, saved_model(meta_graph(objects=[]))))


def survives(path: str) -> None:
    """Detects; nothing but a result or a FormatError may come out."""
    try:
        detect(path)
    except FormatError:
        pass


FUZZED = saved_model(
    meta_graph(objects=CALLABLE, signatures=["serving_default", "x"], nodes=20)
)


@pytest.mark.parametrize("encoding", ["pb", "pbtxt", "cpb"])
def test_a_cut_file_is_damage(tmp_path: Path, encoding: str) -> None:
    """Cut at any byte, every encoding is refused as damage."""
    path = write(tmp_path, FUZZED, encoding)
    file = tmp_path / ("saved_model." + encoding)
    content = file.read_bytes()
    complete = len(content.rstrip())
    for size in range(0, complete, max(1, complete // 200)):
        file.write_bytes(content[:size])
        with pytest.raises(CorruptModuleError):
            detect(path)


@pytest.mark.parametrize("encoding", ["pb", "pbtxt", "cpb"])
def test_flipped_bits_raise_nothing_else(tmp_path: Path, encoding: str) -> None:
    """A flipped bit gives some result or a FormatError, never another error."""
    path = write(tmp_path, FUZZED, encoding)
    file = tmp_path / ("saved_model." + encoding)
    content = file.read_bytes()
    chance = random.Random(3)
    for _ in range(400):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(bytes(damaged))
        survives(path)


# --- details of the encodings ------------------------------------------------------


def test_a_producer_written_first_is_found(tmp_path: Path) -> None:
    """The versions of a GraphDef need not be its last field."""
    graph = meta_graph()
    fields = graph[1][2]
    graph[1] = (2, "graph_def", fields[-1:] + fields[:-1] + [(2, "library", "x" * 99)])
    assert detect(write(tmp_path, saved_model(graph))).producer.graph_def_version == 134


def test_a_missing_producer_is_zero(tmp_path: Path) -> None:
    """A graph without versions has producer 0, whatever its last bytes are."""
    graph = meta_graph(producer=0)
    assert detect(write(tmp_path, saved_model(graph))).producer.graph_def_version == 0
    # The last node ends in what looks like the header of field 4.
    graph[1][2].append((1, "node", b'"\x03\x22\x01x'))
    assert detect(write(tmp_path, saved_model(graph))).producer.graph_def_version == 0


TEXT = r"""
# proto-file: saved_model.proto
saved_model_schema_version : 1,
meta_graphs <
  meta_info_def: {
    tags: ["b", 'a'];
    any_info { [type.googleapis.com/x.Y] { a: "}" } }
    tensorflow_version: "1." '15' "\x2e\065"  # in four parts
  }
  graph_def {
    node { name: "}}\"}" attr { key: "\\" value < s: '"{' > } } # {{{ "
    versions { producer: 134 }
  }
  signature_def [{ key: "one" value {} }, { key: "tw\303\266" }]
>
meta_graphs: { meta_info_def {} }
"""


def test_liberties_of_the_text_format(tmp_path: Path) -> None:
    """Lists, angle brackets, comments, escapes and joined strings are understood."""
    (tmp_path / "saved_model.pbtxt").write_text(TEXT, encoding="utf-8")
    found = detect(str(tmp_path))
    assert found.variants == (
        Variant(("a", "b"), ("one", "tw\u00f6")),
        Variant((), ()),
    )
    assert found.producer == Producer("1.15.5", 134)


@pytest.mark.parametrize("size", [2**18 - 20, 2**18, 2**18 + 1, 2**20])
def test_text_across_read_buffers(tmp_path: Path, size: int) -> None:
    """Strings and comments longer than a read buffer are passed."""
    for filler in (
        '"{}"'.format("\\\\" * (size // 2)),
        "'{}'".format("}" * size),
        "1 # {}\n".format('"' * size),
        "1" + " " * size,
        " " * size + "1.5e-7",
    ):
        text = (
            "meta_graphs {{ graph_def {{ node: {{ name: {0} }} }} x: {0} "
            "signature_def {{ key: 'k' }} }}"
        ).format(filler)
        (tmp_path / "saved_model.pbtxt").write_text(text, encoding="utf-8")
        assert detect(str(tmp_path)).signatures == ("k",)


def test_chunked_model_with_its_graph_cut_out(tmp_path: Path) -> None:
    """The producer of a chunked model may lie in a record of its own."""
    graph = meta_graph(objects=CALLABLE)
    cut_out = to_wire(graph[1][2])
    graph[1] = (2, "graph_def", [])
    root = to_wire(saved_model(graph, meta_graph(tags=["x"], nodes=9000)))
    path: Spec = [
        (1, "field_tag", [(1, "field", 2)]),
        (1, "field_tag", [(3, "index", 0)]),
        (1, "field_tag", [(1, "field", 2)]),
        (3, "message", [(1, "chunk_index", 2)]),
    ]
    body = to_riegeli([[root], [b"some bytes" * 20000]])
    # Two blocks' headers may lie between; a record's offset is its chunk's begin.
    metadata: Spec = [(2, "chunks", [(3, "offset", 64)])]
    metadata += [(2, "chunks", [(3, "offset", len(to_riegeli([[root]])))])]
    metadata += [(2, "chunks", [(3, "offset", len(body) + 1)])]
    metadata += [(3, "message", [(1, "chunk_index", 0), (2, "chunked_fields", path)])]
    content = to_riegeli(
        [[root], [b"some bytes" * 20000], [b"first", cut_out], [to_wire(metadata)]]
    )
    (tmp_path / "saved_model.cpb").write_bytes(content)
    found = detect(str(tmp_path))
    assert found.producer == Producer("1.15.5", 134)
    assert found.variants[1].tags == ("x",)


def test_chunked_model_that_cannot_be_unpacked(tmp_path: Path) -> None:
    """A compressed chunked model is still TF2; the evidence says what is unknown."""
    content = to_riegeli([[b"squeezed"]], compression=ord("x"))
    (tmp_path / "saved_model.cpb").write_bytes(content)
    found = detect(str(tmp_path))
    assert found.format is Format.TF2_SIGNATURES
    assert found.variants == ()
    assert found.producer == Producer("", 0)
    assert "compression type 120" in " ".join(found.evidence)
    (tmp_path / "keras_metadata.pb").write_bytes(b"")
    assert detect(str(tmp_path)).format is Format.TF2_KERAS


# --- time, memory, imports ----------------------------------------------------------


def sparse_model(directory: Path, size: int) -> str:
    """Writes a TF1 SavedModel around one node of so many bytes, as a sparse file."""
    graph = meta_graph(nodes=1)
    before = to_wire(graph[1][2][:-1])
    after = to_wire(graph[1][2][-1:])
    node = varint(1 << 3 | 2) + varint(size)
    graph_size = len(before) + len(node) + size + len(after)
    rest = to_wire(graph[2:])
    info = to_wire(graph[:1])
    head = info + varint(2 << 3 | 2) + varint(graph_size)
    total = len(head) + graph_size + len(rest)
    with open(str(directory / "saved_model.pb"), "wb") as file:
        file.write(varint(1 << 3) + varint(1) + varint(2 << 3 | 2) + varint(total))
        file.write(head + before + node)
        file.truncate(file.tell() + size)
        file.seek(0, os.SEEK_END)
        file.write(after + rest)
    return str(directory)


def measure(path: str) -> Tuple[Any, float, int]:
    """Detects; returns the result, the seconds and the peak of Python's memory."""
    start = time.perf_counter()
    detect(path)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    try:
        found = detect(path)
        return found, seconds, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [1 << 30, 5 << 30])
def test_a_gigabyte_takes_milliseconds(tmp_path: Path, size: int) -> None:
    """The graph is seeked over: neither time nor memory grows with it."""
    found, seconds, peak = measure(sparse_model(tmp_path, size))
    assert found.producer == Producer("1.15.5", 134)
    assert found.signatures == ("serving_default",)
    assert seconds < 0.25
    assert peak < 2 << 20


@pytest.mark.parametrize("last", [True, False])
def test_a_hundred_thousand_nodes(tmp_path: Path, last: bool) -> None:
    """Many nodes cost nothing where the versions come last, a hop each elsewhere."""
    graph = meta_graph(nodes=1)
    node = to_wire([(1, "node", b"n" * 250)]) * 100000
    versions = to_wire(graph[1][2][-1:])
    content = node + versions if last else versions + node
    graph[1] = (2, "graph_def", content)
    (tmp_path / "saved_model.pb").write_bytes(to_wire(saved_model(graph)))
    found, seconds, peak = measure(str(tmp_path))
    assert found.producer.graph_def_version == 134
    assert seconds < (0.25 if last else 3.0)
    assert peak < 2 << 20


def test_a_large_text_file_needs_little_memory(tmp_path: Path) -> None:
    """The text format is a stream: twenty megabytes pass through a small buffer."""
    node = 'node { name: "n" attr { key: "v" value { tensor { s: "\\001\\002" } } } }\n'
    with open(str(tmp_path / "saved_model.pbtxt"), "w") as file:
        file.write("meta_graphs { graph_def {\n")
        for _ in range(300):
            file.write(node * 1000)
        file.write("versions { producer: 27 } } }\n")
    found, seconds, peak = measure(str(tmp_path))
    assert found.producer.graph_def_version == 27
    assert seconds < 20
    assert peak < 8 << 20


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """Detecting a local module imports neither TensorFlow nor protobuf."""
    path = write(tmp_path, saved_model(meta_graph(tags=[])), marker=MARKER)
    code = (
        "import sys\n"
        "from hub_compat.detector import detect\n"
        "assert detect({!r}).format.value == 'tf1_hub_module'\n"
        "heavy = {{'tensorflow', 'google.protobuf', 'numpy', 'keras'}}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    ).format(path)
    environment = dict(os.environ)
    if "HUB_COMPAT_TEST_INSTALLED" not in environment:
        environment["PYTHONPATH"] = str(ROOT)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# --- real models ---------------------------------------------------------------------


def committed_modules() -> List[Path]:
    """The TF1 Hub modules of the repository, but those whose graph is packed."""
    modules = sorted((ROOT / "testdata").glob("*/module"))
    return [path for path in modules if not (path / "saved_model.pb.gz").exists()]


def test_committed_modules() -> None:
    """Every module in testdata with a marker is a TF1 Hub module, written by TF1."""
    modules = committed_modules()
    assert modules, "testdata/*/module is empty"
    kinds = set()
    for module in modules:
        found = detect(module)
        marker = (module / "tfhub_module.pb").exists()
        kinds.add(found.format)
        assert (found.format is Format.TF1_HUB_MODULE) == marker, module
        assert found.variants, module
        assert found.producer.tensorflow_version, module
        assert found.producer.graph_def_version > 20, module
    assert Format.TF1_HUB_MODULE in kinds


def test_committed_modules_cut_anywhere(tmp_path: Path) -> None:
    """A real module cut at every 97th byte is refused as damage."""
    modules = committed_modules()
    assert modules, "testdata/*/module is empty"
    files = [path / "saved_model.pb" for path in modules]
    smallest = min((f for f in files if f.exists()), key=lambda f: f.stat().st_size)
    content = smallest.read_bytes()
    (tmp_path / "tfhub_module.pb").write_bytes(MARKER)
    step = 97 * max(1, len(content) // (97 * 300))
    for size in range(0, len(content), step):
        (tmp_path / "saved_model.pb").write_bytes(content[:size])
        with pytest.raises(CorruptModuleError):
            detect(tmp_path)


@pytest.fixture
def tf() -> Any:
    """TensorFlow in eager mode."""
    module = pytest.importorskip("tensorflow")
    if not module.executing_eagerly():
        pytest.skip("tf.saved_model.save needs eager execution")
    return module


def tf_module(tf: Any, name: str) -> Any:
    """A tf.Module with one function of the given name."""

    def method(self: Any, x: Any) -> Any:
        return x * self.v

    signature = [tf.TensorSpec([None], tf.float32)]
    function = tf.function(method, input_signature=signature)
    module = type("Made", (tf.Module,), {name: function})()
    module.v = tf.Variable(2.0)
    return module


@pytest.mark.parametrize(
    "name, expected",
    [("__call__", Format.TF2_REUSABLE), ("serve", Format.TF2_SIGNATURES)],
)
def test_models_of_this_tensorflow(
    tf: Any, tmp_path: Path, name: str, expected: Format
) -> None:
    """What tf.saved_model.save writes here is told apart."""
    module = tf_module(tf, name)
    signatures = {"mine": getattr(module, name).get_concrete_function()}
    tf.saved_model.save(module, str(tmp_path), signatures=signatures)
    found = detect(tmp_path)
    assert found.format is expected
    assert found.variants == (Variant(("serve",), ("mine",)),)
    assert found.producer.tensorflow_version == tf.__version__
    assert found.producer.graph_def_version == tf.version.GRAPH_DEF_VERSION


def test_text_written_by_this_tensorflow(tf: Any, tmp_path: Path) -> None:
    """The text form that protobuf writes of a real model gives the same result."""
    from hub_compat._tf import saved_model_pb2

    source, text = tmp_path / "pb", tmp_path / "pbtxt"
    tf.saved_model.save(tf_module(tf, "__call__"), str(source))
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((source / "saved_model.pb").read_bytes())
    text.mkdir()
    (text / "saved_model.pbtxt").write_text(str(model), encoding="utf-8")
    first, second = detect(source), detect(text)
    assert second.file == "saved_model.pbtxt"
    assert (first.format, first.variants, first.producer) == (
        second.format,
        second.variants,
        second.producer,
    )


def test_keras_2_models(tf: Any, tmp_path: Path) -> None:
    """A model saved by tf_keras (or TF 1.15's tf.keras) is TF2_KERAS and callable."""
    if tf.__version__.startswith("1."):
        keras = tf.keras
    else:
        keras = pytest.importorskip("tf_keras")
    layers = [keras.layers.InputLayer((3,)), keras.layers.Dense(2)]
    keras.Sequential(layers).save(str(tmp_path), save_format="tf")
    found = detect(tmp_path)
    assert found.format is Format.TF2_KERAS
    assert "The root is callable" in " ".join(found.evidence)


def test_keras_3_exports(tf: Any, tmp_path: Path) -> None:
    """Keras 3's export has signatures and no callable root."""
    keras = pytest.importorskip("keras")
    if not getattr(keras, "__version__", "").startswith("3."):
        pytest.skip("This is not Keras 3")
    if keras.config.backend() != "tensorflow":
        pytest.skip("Keras 3 runs on another backend")
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    model.export(str(tmp_path), verbose=False)
    found = detect(tmp_path)
    assert found.format is Format.TF2_SIGNATURES
    assert "serve" in found.signatures
    assert "Model.export" in " ".join(found.evidence)


@pytest.mark.tensorflow
def test_tf1_saved_models(tmp_path: Path) -> None:
    """What TF1's builder writes is a TF1 SavedModel."""
    tf = pytest.importorskip("tensorflow").compat.v1
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None], name="x")
        v = tf.get_variable("v", initializer=2.0, use_resource=True)
        session.run(tf.global_variables_initializer())
        tf.saved_model.simple_save(
            session, str(tmp_path / "m"), inputs={"x": x}, outputs={"y": x * v}
        )
    found = detect(tmp_path / "m")
    assert found.format is Format.TF1_SAVED_MODEL
    assert found.variants == (Variant(("serve",), ("serving_default",)),)
    assert found.producer.graph_def_version > 0


def test_remote_directories(tf: Any) -> None:
    """A module on a file system of TensorFlow is detected where it is."""
    root = "ram://hub_compat_detector"
    try:
        _files.make_dirs(root)
    except OSError:
        pytest.skip("This TensorFlow has no ram:// file system")
    _files.write_bytes(root + "/saved_model.pb", to_wire(saved_model(meta_graph())))
    found = detect(root)
    assert found.path == root
    assert found.format is Format.TF1_SAVED_MODEL
    with pytest.raises(HandleError, match="does not exist"):
        detect(root + "/absent")


def test_no_file_is_left_open(tmp_path: Path, monkeypatch: Any) -> None:
    """Files are closed, also when detection fails."""
    opened: List[Any] = []
    original = builtins.open

    def spy(*args: Any, **kwargs: Any) -> Any:
        file = original(*args, **kwargs)
        opened.append(file)
        return file

    path = write(tmp_path, saved_model(meta_graph()), marker=MARKER)
    monkeypatch.setattr(builtins, "open", spy)
    detect(path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff")
    with pytest.raises(CorruptModuleError):
        detect(path)
    monkeypatch.undo()
    assert len(opened) >= 4
    assert all(file.closed for file in opened)


# --- what there is in place of a model --------------------------------------------

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345\n"
)
NODE = [(1, "name", "x"), (2, "op", "Placeholder")]


@pytest.mark.parametrize(
    "content, told",
    [
        (POINTER, "git lfs pull"),
        (b"\n\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "page of HTML"),
        (b"<html>", "page of HTML"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "of XML"),
        (to_wire([(1, "node", NODE), (1, "node", NODE)]), "tf.import_graph_def"),
        (to_wire([(1, "node", [(1, "name", "x" * 9999)])]), "tf.import_graph_def"),
        (to_wire(meta_graph()), "import_meta_graph"),
        (b"PK\x03\x04 and so on", "zip archive"),
        (b"\x1f\x8b\x08 and so on", "gzip archive"),
        (bytes(1000), "zeros"),
        (b"saved_model_schema_version: 1\nmeta_graphs {\n}\n", "saved_model.pbtxt"),
        (b"\x1c\0\0\0TFL3 and so on", "TensorFlow Lite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_message_says_what_the_file_is(
    content: bytes, told: str, tmp_path: Path
) -> None:
    """What a download or a clone left in place of a model is named, with advice."""
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(CorruptModuleError, match=told):
        detect(str(tmp_path))


def test_a_marker_that_is_a_pointer(tmp_path: Path) -> None:
    """The marker of a TF1 Hub module may be one as well."""
    (tmp_path / "saved_model.pb").write_bytes(to_wire(saved_model(meta_graph())))
    (tmp_path / "tfhub_module.pb").write_bytes(POINTER)
    with pytest.raises(CorruptModuleError, match="git lfs pull"):
        detect(str(tmp_path))


@pytest.mark.parametrize("below", ["2", "a name", "9/10", "models/x"])
def test_a_directory_above_a_module_names_the_module(
    below: str, tmp_path: Path
) -> None:
    """One and two levels down, whatever else is there."""
    (tmp_path / "README.md").write_text("words")
    for number in range(60):
        (tmp_path / "a{}".format(number)).mkdir()
    folder = tmp_path / below
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(to_wire(saved_model(meta_graph())))
    with pytest.raises(FormatError, match="sub-directory .*" + below.split("/")[-1]):
        detect(str(tmp_path))


def test_of_several_versions_the_newest_is_named(tmp_path: Path) -> None:
    """Versions are numbers, not words."""
    for name in ("2", "9", "10"):
        (tmp_path / name).mkdir()
        content = to_wire(saved_model(meta_graph()))
        (tmp_path / name / "saved_model.pb").write_bytes(content)
    with pytest.raises(FormatError, match="3 modules.*/10\\."):
        detect(str(tmp_path))


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)]
)
@pytest.mark.parametrize(
    "name",
    ["saved_model.pb", "saved_model.pbtxt", "saved_model.cpb", "tfhub_module.pb"],
)
def test_what_never_ends_is_refused_at_once(
    name: str, make: Any, tmp_path: Path
) -> None:
    """A named pipe waits for ever, and a device goes on for ever."""
    if name == "tfhub_module.pb":
        (tmp_path / "saved_model.pb").write_bytes(to_wire(saved_model(meta_graph())))
    make(str(tmp_path / name))
    with pytest.raises(HandleError, match="not a file"):
        detect(str(tmp_path))


@pytest.mark.parametrize("line", ["", "\n"])
@pytest.mark.parametrize("closed", [True, False])
def test_brackets_in_brackets_take_no_time(
    line: str, closed: bool, tmp_path: Path
) -> None:
    """Of 40,000 levels each is counted once."""
    text = "meta_graphs {" + "a { " * 40000 + line + "} " * 40000 * closed + line + "}"
    (tmp_path / "saved_model.pbtxt").write_text(text)
    started = time.perf_counter()
    if closed:
        assert len(detect(str(tmp_path)).variants) == 1
    else:
        with pytest.raises(CorruptModuleError, match="closing bracket"):
            detect(str(tmp_path))
    assert time.perf_counter() - started < 5


def test_sizes_without_end_take_no_time(tmp_path: Path) -> None:
    """A number of a chunked file has no more than ten bytes."""
    content = bytearray(to_riegeli([[b"x" * 400000]]))
    start = content.index(b"x" * 100)
    content[start - 3 : start] = b"\xff\xff\x7f"
    content[64 + 40 + 1 : 64 + 40 + 4] = varint(390000)
    content[64 + 40 + 4 : 64 + 40 + 390004] = b"\xff" * 390000
    (tmp_path / "saved_model.cpb").write_bytes(bytes(content))
    started = time.perf_counter()
    with pytest.raises(CorruptModuleError):
        detect(str(tmp_path))
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "handle", ["https://tfhub.dev/x/1", "kaggle://x/y", "hf://x/y", "ram://x"]
)
def test_handles_that_need_no_tensorflow_import_none(handle: str) -> None:
    """No file system is asked for what cannot be in one."""
    code = (
        "import sys; from hub_compat.detector import detect\n"
        "try: detect({!r})\n"
        "except OSError as error: print(error)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code.format(handle)], check=True)
