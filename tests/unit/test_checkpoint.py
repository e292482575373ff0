"""Checkpoints read, relabelled and written, against TensorFlow's own reader."""

from __future__ import annotations

import builtins
import dataclasses
import errno
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from string_tables import NO_RESTARTS, table_of

from hub_compat._io import files
from hub_compat._parsing import varint
from hub_compat.converters.checkpoint import bundle, relabel, sstable
from hub_compat.converters.checkpoint import index as checkpoint_index
from hub_compat.errors import (
    ConversionError,
    CorruptModuleError,
    DestinationError,
    FormatError,
    HandleError,
)

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
FLOAT, STRING = 1, 7

needs_tensorflow = pytest.mark.tensorflow


def _tf():
    import tensorflow

    return tensorflow


def _run(fetch):
    """Builds a graph with ``fetch`` and runs it, in any mode of TensorFlow."""
    v1 = _tf().compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        return session.run(fetch())


def _save(prefix, tensors):
    """Saves tensors under ``name`` or, a slice of one, ``name|shape and slice``."""
    tf = _tf()

    def write():
        names, specs = zip(*((key + "|").split("|")[:2] for key in tensors))
        with tf.control_dependencies(
            [
                tf.raw_ops.SaveV2(
                    prefix=str(prefix),
                    tensor_names=list(names),
                    shape_and_slices=list(specs),
                    tensors=[tf.convert_to_tensor(v) for v in tensors.values()],
                )
            ]
        ):
            return tf.constant(0)

    Path(str(prefix)).parent.mkdir(parents=True, exist_ok=True)
    _run(write)
    return str(prefix)


def _save_shards(prefix, shards):
    """Saves several dicts of tensors, each into a shard of its own."""
    tf = _tf()
    prefix = str(prefix)
    temporary = ["{}_temp/part{}".format(prefix, i) for i in range(len(shards))]
    for path, tensors in zip(temporary, shards):
        _save(path, tensors)

    def merge():
        done = tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=temporary, destination_prefix=prefix
        )
        with tf.control_dependencies([done]):
            return tf.constant(0)

    _run(merge)
    return prefix


def _restore(prefix, key, dtype=None, spec=""):
    """Reads a tensor, or a slice of it, with RestoreV2."""
    tf = _tf()
    if dtype is None:
        reader = tf.train.load_checkpoint(str(prefix))
        dtype = reader.get_variable_to_dtype_map()[key]
    return _run(
        lambda: tf.raw_ops.RestoreV2(
            prefix=str(prefix),
            tensor_names=[key],
            shape_and_slices=[spec],
            dtypes=[dtype],
        )[0]
    )


def _keys(prefix):
    return sorted(_tf().train.load_checkpoint(str(prefix)).get_variable_to_shape_map())


def _items(prefix):
    """The entries of an index, as bytes."""
    return sstable.read_table(Path(prefix + ".index").read_bytes(), prefix)


def _same(index):
    """The mapping that keeps every key."""
    return {key: (key, None) for key in index.entries}


def _relabel(tmp_path, source, mapping, new_tensors=(), **options):
    """Relabels into a directory of its own; returns the prefix and the report."""
    destination = tmp_path / "out" / "variables"
    destination.parent.mkdir(exist_ok=True)
    report = relabel.relabel(
        source, str(destination), mapping, dict(new_tensors), **options
    )
    return str(destination), report


def _write_by_hand(directory, entries, num_shards=1, size=1 << 20, header=None):
    """Writes an index with these entries over sparse shards; returns the prefix."""
    directory.mkdir(parents=True, exist_ok=True)
    prefix = str(directory / "variables")
    header = header or bundle.encode_header(num_shards, False)
    items = [(b"", header)]
    for key, entry in entries.items():
        value = entry if isinstance(entry, bytes) else bundle.encode_entry(entry)
        items.append((bundle.encode_key(key) if isinstance(key, str) else key, value))
    Path(prefix + ".index").write_bytes(sstable.write_table(sorted(items)))
    for shard in range(num_shards):
        with open(checkpoint_index.shard_path(prefix, shard, num_shards), "wb") as file:
            file.truncate(size)
    return prefix


def _entry(shape, offset=0, **fields):
    size = 4 * bundle.count_elements(shape)
    return bundle.TensorEntry(FLOAT, shape, offset=offset, size=size, **fields)


def _many_dtypes():
    tf = _tf()
    values = {
        np.dtype(d).name: np.arange(6).reshape(2, 3).astype(d)
        for d in (
            "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 "
            "complex64 complex128"
        ).split()
    }
    values["bfloat16"] = np.arange(6).astype(tf.bfloat16.as_numpy_dtype)
    values["bool"] = np.array([True, False])
    values["strings"] = np.array([b"", b"a", b"\x00\xff", b"x" * 300], dtype=object)
    values["string"] = np.array(b"one", dtype=object)
    values["scalar"] = np.float32(7)
    values["empty"] = np.zeros([0, 4], np.float32)
    values["emptier"] = np.zeros([3, 0, 2], np.int64)
    values["ten"] = np.zeros([1] * 7 + [2], np.int64)
    values["a name/with spaces \u00e4:0"] = np.float32(8)
    return values


@needs_tensorflow
def test_reads_what_tensorflow_wrote(tmp_path):
    """Every dtype: keys, dtypes and shapes are those TensorFlow's reader gives."""
    values = _many_dtypes()
    prefix = _save(tmp_path / "in" / "variables", values)
    index = relabel.read_index(prefix)
    reader = _tf().train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    dtypes = reader.get_variable_to_dtype_map()
    assert sorted(index.entries) == sorted(values)
    for key, entry in index.entries.items():
        assert list(entry.shape) == shapes[key]
        assert entry.dtype == dtypes[key].as_datatype_enum
    assert (index.num_shards, index.big_endian) == (1, False)


@needs_tensorflow
def test_every_dtype_under_a_new_name(tmp_path):
    """Every dtype keeps its values under another name, in another order."""
    values = _many_dtypes()
    index = relabel.read_index(_save(tmp_path / "in" / "variables", values))
    names = {"{}/new".format(i): key for i, key in enumerate(sorted(values)[::-1])}
    prefix, report = _relabel(
        tmp_path, index, {new: (old, None) for new, old in names.items()}
    )
    assert _keys(prefix) == sorted(names)
    for new, old in names.items():
        restored = _restore(prefix, new)
        np.testing.assert_array_equal(restored, values[old])
    assert report.weight_bytes_read == report.bytes_copied == 0


@needs_tensorflow
def test_entries_are_written_as_tensorflow_writes_them(tmp_path):
    """An index relabelled to the same keys holds the same bytes for each."""
    values = dict(_many_dtypes())
    values["part|4 3 0,1:0,3"] = np.zeros([1, 3], np.float32)
    values["part|4 3 1,3:-"] = np.ones([3, 3], np.float32)
    source = _save(tmp_path / "in" / "variables", values)
    index = relabel.read_index(source)
    part = index.entries["part"]
    assert part.slices == (((0, 1), (0, 3)), ((1, 3), (0, -1)))
    assert index.slice_entry("part", ((0, 1), (0, 3))).size == 12
    assert index.slice_entry("part", ((1, 3), (0, 3))).size == 36
    assert index.slice_entry("part", ((1, 2), (0, 3))) is None
    # All but the partitioned tensor, whose slices we write with their lengths.
    mapping = _same(index)
    del mapping["part"]
    mapping["the part"] = ("part", None)
    destination, _ = _relabel(tmp_path, index, mapping)
    np.testing.assert_array_equal(_restore(destination, "the part")[:, 0], [0, 1, 1, 1])
    ours, theirs = (
        [(k, v) for k, v in _items(prefix) if k[:1] != b"\0" and k[-4:] != b"part"]
        for prefix in (destination, source)
    )
    assert ours == theirs
    # The header, and all but the partitioned one.
    assert len(ours) == 1 + len(index.entries) - 1


@needs_tensorflow
@pytest.mark.parametrize("start", [0, 63, 64, 8191, 8192, 1 << 20, 1 << 27, 1 << 34])
def test_keys_of_slices(tmp_path, start):
    """The keys of slices are TensorFlow's, at every length of number."""
    spec = "{} 3 {},1:0,3".format(start + 1, start)
    source = _save(tmp_path / "in" / "variables", {"n|" + spec: np.ones([1, 3])})
    key = "n" if start == 0 else ((start, 1), (0, 3))
    keys = [k for k, _ in _items(source)]
    assert (b"n" if start == 0 else bundle.slice_key("n", key)) in keys


def test_keys_of_slices_at_the_limits():
    """Ordered code of the largest numbers, and of names with bytes it escapes."""
    key = bundle.slice_key("a", ((0, -1), ((1 << 63) - 1, 64)))
    numbers = b"\x80\x7f" + b"\xff\xc0\x7f" + b"\xff" * 7 + b"\xc0\x40"
    assert key == b"\x00a\x00\x01\x01\x02" + numbers
    name = b"a\x00\xffb".decode("utf-8", "surrogateescape")
    assert bundle.slice_key(name, ())[:9] == b"\x00a\x00\xff\xff\x00b\x00\x01"


def _partitioned(tmp_path, axis, parts=3):
    """A variable of shape [7, 5] as get_variable partitions it, and two others."""
    v1 = _tf().compat.v1
    prefix = str(tmp_path / "in" / "variables")
    os.makedirs(os.path.dirname(prefix))
    value = np.arange(35, dtype=np.float32).reshape(7, 5)
    with v1.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable(
            "scope/v",
            [7, 5],
            initializer=lambda shape, dtype, partition_info: _tf().constant(
                value[
                    tuple(
                        slice(o, o + n)
                        for o, n in zip(partition_info.var_offset, shape)
                    )
                ]
            ),
            partitioner=v1.fixed_size_partitioner(parts, axis),
        )
        infos = [v._get_save_slice_info() for v in variable]
        v1.get_variable("before", initializer=1.0)
        v1.get_variable("zafter", initializer=2.0)
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, prefix, write_meta_graph=False)
    extents = [tuple(zip(i.var_offset, i.var_shape)) for i in infos]
    return relabel.read_index(prefix), value, extents


def _part(value, extents):
    return value[tuple(slice(o, o + n) for o, n in extents)]


@needs_tensorflow
@pytest.mark.parametrize("axis", [0, 1])
def test_partitioned_variable(tmp_path, axis):
    """Whole, each part, and two parts together, without reading a weight."""
    index, value, extents = _partitioned(tmp_path, axis)
    assert sorted(index.entries) == ["before", "scope/v", "zafter"]
    assert len(extents) == len(index.entries["scope/v"].slices) == 3
    assert list(index.pieces("scope/v")) == extents
    mapping = {"p{}".format(i): ("scope/v", e) for i, e in enumerate(extents)}
    mapping["whole"] = ("scope/v", None)
    mapping["whole too"] = ("scope/v", [(0, 7), (0, 5)])
    last_two = list(extents[1])
    last_two[axis] = (extents[1][axis][0], extents[1][axis][1] + extents[2][axis][1])
    mapping["last two"] = ("scope/v", last_two)
    mapping["b"] = ("before", None)
    prefix, report = _relabel(tmp_path, index, mapping)
    assert report.weight_bytes_read == report.weight_bytes_written == 0
    assert report.files_linked == 1
    assert _keys(prefix) == sorted(mapping)
    assert _restore(prefix, "b") == 1.0
    for i, part in enumerate(extents):
        restored = _restore(prefix, "p{}".format(i))
        np.testing.assert_array_equal(restored, _part(value, part))
    for key in ("whole", "whole too"):
        np.testing.assert_array_equal(_restore(prefix, key), value)
        restored = _restore(prefix, key, spec="7 5 2,3:1,4")
        np.testing.assert_array_equal(restored, value[2:5, 1:5])
    np.testing.assert_array_equal(_restore(prefix, "last two"), _part(value, last_two))
    # The result is a source in its turn.
    again = relabel.read_index(prefix)
    assert list(again.pieces("whole")) == extents
    assert again.entries["p1"].shape == _part(value, extents[1]).shape


@needs_tensorflow
def test_partition_of_one(tmp_path):
    """A partition of one part is a plain tensor, and its part is all of it."""
    index, value, extents = _partitioned(tmp_path, 0, parts=1)
    assert index.entries["scope/v"].slices == ()
    assert extents == [((0, 7), (0, 5))]
    prefix, report = _relabel(tmp_path, index, {"p": ("scope/v", extents[0])})
    np.testing.assert_array_equal(_restore(prefix, "p"), value)
    assert report.weight_bytes_read == 0


@needs_tensorflow
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("parts", [1, 3])
def test_another_partition_is_cut(tmp_path, axis, parts):
    """Parts that the checkpoint does not keep are read, checked, and written."""
    index, value, _ = _partitioned(tmp_path, axis, parts)
    wanted = [
        ((0, 4), (0, 5)),
        ((4, 3), (0, 5)),
        ((0, 7), (1, 3)),
        ((2, 2), (2, 2)),
        ((3, 0), (0, 5)),
        ((6, 1), (4, 1)),
    ]
    mapping = {"w{}".format(i): ("scope/v", e) for i, e in enumerate(wanted)}
    mapping["z"] = ("zafter", None)
    prefix, report = _relabel(tmp_path, index, mapping, {"new": b"string"})
    for i, extents in enumerate(wanted):
        restored = _restore(prefix, "w{}".format(i))
        np.testing.assert_array_equal(restored, _part(value, extents))
        assert restored.shape == _part(value, extents).shape
    assert _restore(prefix, "z") == 2.0
    assert _restore(prefix, "new") == b"string"
    assert report.weight_bytes_written == sum(
        4 * bundle.count_elements(n for _, n in e) for e in wanted
    )
    if parts == 1:
        # Once for all parts.
        assert report.weight_bytes_read == 4 * 35


@needs_tensorflow
def test_cut_from_damaged_bytes(tmp_path):
    """What has to be read is checked; what is only relabelled is not."""
    index, _, _ = _partitioned(tmp_path, 0, parts=1)
    shard = Path(index.shard_path(0))
    data = bytearray(shard.read_bytes())
    data[index.entries["scope/v"].offset + 5] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptModuleError, match="checksum"):
        _relabel(tmp_path, index, {"p": ("scope/v", [(0, 1), (0, 5)])})
    shutil.rmtree(str(tmp_path / "out"))
    _relabel(tmp_path, index, {"p": ("scope/v", None)})


@needs_tensorflow
def test_some_slices_only(tmp_path):
    """Slices that were saved alone are had; what is missing of the whole is not."""
    slices = {"v|9 0,3": np.arange(3), "v|9 3,3": np.arange(3, 6)}
    index = relabel.read_index(_save(tmp_path / "in" / "variables", slices))
    mapping = {"first": ("v", [(0, 3)]), "two": ("v", [(0, 6)]), "all": ("v", None)}
    mapping["cut"] = ("v", [(2, 2)])
    prefix, _ = _relabel(tmp_path, index, mapping)
    np.testing.assert_array_equal(_restore(prefix, "first"), [0, 1, 2])
    np.testing.assert_array_equal(_restore(prefix, "two"), np.arange(6))
    np.testing.assert_array_equal(_restore(prefix, "cut"), [2, 3])
    restored = _restore(prefix, "all", spec="9 3,3")
    np.testing.assert_array_equal(restored, [3, 4, 5])
    with pytest.raises(CorruptModuleError, match="6 of its 9 elements"):
        _relabel(tmp_path, index, {"x": ("v", [(0, 9)])})


@needs_tensorflow
def test_parts_of_strings(tmp_path):
    """String slices are relabelled like others, but not cut."""
    index = relabel.read_index(
        _save(
            tmp_path / "in" / "variables",
            {
                "s|4 0,2": np.array([b"a", b"bb"], object),
                "s|4 2,2": np.array([b"ccc", b"dddd"], object),
            },
        )
    )
    mapping = {"whole": ("s", None), "part": ("s", [(2, 2)])}
    prefix, _ = _relabel(tmp_path, index, mapping)
    assert _restore(prefix, "part").tolist() == [b"ccc", b"dddd"]
    restored = _restore(prefix, "whole", spec="4 0,2")
    assert restored.tolist() == [b"a", b"bb"]
    shutil.rmtree(os.path.dirname(prefix))
    with pytest.raises(ConversionError, match="string"):
        _relabel(tmp_path, index, {"other": ("s", [(1, 2)])})
    with pytest.raises(ConversionError, match="string"):
        _relabel(tmp_path, index, {"other": ("s", [(0, 4)])})


@needs_tensorflow
def test_parts_of_half_precision(tmp_path):
    """TensorFlow does not merge float16: a part made of two slices is written anew."""
    value = np.arange(12, dtype=np.float16).reshape(6, 2)
    slices = {"h|6 2 {},2:0,2".format(i): value[i : i + 2] for i in (0, 2, 4)}
    index = relabel.read_index(_save(tmp_path / "in" / "variables", slices))
    wanted = {"all": [(0, 6), (0, 2)], "two": [(0, 4), (0, 2)], "one": [(2, 2), (0, 2)]}
    mapping = {key: ("h", part) for key, part in wanted.items()}
    prefix, report = _relabel(tmp_path, index, mapping)
    for key, part in wanted.items():
        np.testing.assert_array_equal(_restore(prefix, key), _part(value, part))
    assert report.weight_bytes_written == 24 + 16


@pytest.mark.parametrize(
    "part", [[(0, 3)], [(0, 3), (0, 6)], [(-1, 2), (0, 5)], [(0, 1), (5, 1)], []]
)
def test_part_that_does_not_fit(tmp_path, part):
    """The error says the tensor's shape and the part."""
    prefix = _write_by_hand(tmp_path / "in", {"a": _entry((7, 5))})
    with pytest.raises(CorruptModuleError, match=r"\[7, 5\]"):
        _relabel(tmp_path, relabel.read_index(prefix), {"b": ("a", part)})


@needs_tensorflow
def test_several_shards(tmp_path):
    """Shards that are used are linked, and numbered anew; the new one is last."""
    source = _save_shards(
        tmp_path / "in" / "variables",
        [
            {"a": np.arange(3), "v|4 2 0,1:0,2": np.ones([1, 2])},
            {"unused": np.arange(9)},
            {"b": np.arange(4), "v|4 2 1,3:0,2": np.zeros([3, 2])},
        ],
    )
    index = relabel.read_index(source)
    assert index.num_shards == 3
    assert sorted(index.entries) == ["a", "b", "unused", "v"]
    mapping = {"x": ("a", None), "y": ("b", None), "z": ("v", None)}
    prefix, report = _relabel(tmp_path, index, mapping, {OBJECT_GRAPH: b"graph"})
    assert sorted(os.listdir(os.path.dirname(prefix))) == [
        "variables.data-00000-of-00003",
        "variables.data-00001-of-00003",
        "variables.data-00002-of-00003",
        "variables.index",
    ]
    assert report.files_linked == 2
    np.testing.assert_array_equal(_restore(prefix, "x"), np.arange(3))
    np.testing.assert_array_equal(_restore(prefix, "y"), np.arange(4))
    np.testing.assert_array_equal(_restore(prefix, "z")[:, 0], [1, 0, 0, 0])
    assert _restore(prefix, OBJECT_GRAPH) == b"graph"
    # A shard that nothing needs may be missing.
    os.remove(checkpoint_index.shard_path(source, 1, 3))
    with pytest.raises(CorruptModuleError, match="unused"):
        relabel.read_index(source)


@needs_tensorflow
@pytest.mark.parametrize(
    "graph", [b"", b"x", b"y" * 127, b"z" * 128, b"\0\xff" * 99999]
)
def test_new_string(tmp_path, graph):
    """The object graph, of any length, reads back."""
    prefix, report = _relabel(tmp_path, None, {}, {OBJECT_GRAPH: graph})
    assert _restore(prefix, OBJECT_GRAPH) == graph
    assert _keys(prefix) == [OBJECT_GRAPH]
    assert dataclasses.asdict(report) == dict.fromkeys(dataclasses.asdict(report), 0)


@needs_tensorflow
def test_new_tensors_of_every_dtype(tmp_path):
    """Arrays are written so that TensorFlow reads them."""
    values = _many_dtypes()
    prefix, _ = _relabel(tmp_path, None, {}, values)
    for key, value in values.items():
        # TensorFlow's reader returns the bytes of a scalar string.
        restored = _restore(prefix, key)
        restored = (
            np.array(restored, object) if isinstance(restored, bytes) else restored
        )
        assert restored.dtype == value.dtype
        assert restored.shape == value.shape
        np.testing.assert_array_equal(restored, value)


def test_new_tensor_of_no_dtype(tmp_path):
    """The error names the tensor and what can be written."""
    with pytest.raises(ConversionError, match=r"'d'.*float32.*object"):
        _relabel(tmp_path, None, {}, {"d": np.array([None])})


@needs_tensorflow
def test_new_tensor_instead_of_an_old_one(tmp_path):
    """A new tensor wins over a mapped one: a source may have an object graph."""
    source = _save(tmp_path / "in" / "variables", {OBJECT_GRAPH: b"old", "a": 1.0})
    index = relabel.read_index(source)
    prefix, _ = _relabel(tmp_path, index, _same(index), {OBJECT_GRAPH: b"new"})
    assert _restore(prefix, OBJECT_GRAPH) == b"new"
    assert _restore(prefix, "a") == 1.0


@needs_tensorflow
def test_nothing_at_all(tmp_path):
    """A checkpoint without tensors is one that TensorFlow reads."""
    prefix, _ = _relabel(tmp_path, None, {})
    assert _keys(prefix) == []
    assert relabel.read_index(prefix).entries == {}


@needs_tensorflow
@pytest.mark.tf2
def test_big_endian(tmp_path):
    """The byte order of the source holds for what is added to it."""
    source = _write_by_hand(tmp_path / "in", {}, header=bundle.encode_header(1, True))
    index = relabel.read_index(source)
    assert index.big_endian
    new = {"s": b"string" * 50, "i": np.arange(5), "f": np.float32(1.5)}
    prefix, _ = _relabel(tmp_path, index, {}, new)
    assert relabel.read_index(prefix).big_endian
    assert Path(prefix + ".data-00000-of-00001").read_bytes()[:4] == b"\x3f\xc0\0\0"
    np.testing.assert_array_equal(_restore(prefix, "i"), np.arange(5))
    assert _restore(prefix, "f") == 1.5
    assert _restore(prefix, "s") == b"string" * 50


@needs_tensorflow
def test_many_keys(tmp_path):
    """20,000 tensors, in many blocks: TensorFlow finds each."""
    count = 20000
    entries = {
        "scope/layer_{}/kernel".format(i): _entry((1,), 4 * i) for i in range(count)
    }
    source = _write_by_hand(tmp_path / "in", entries)
    data = np.arange(count, dtype="<f4").tobytes()
    Path(source + ".data-00000-of-00001").write_bytes(data)
    index = relabel.read_index(source)
    assert len(index.entries) == count
    checksums = {
        i: sstable.mask(sstable.crc32c(data[4 * i : 4 * i + 4])) for i in range(count)
    }
    index = dataclasses.replace(
        index,
        entries={
            key: entry._replace(crc32c=checksums[entry.offset // 4])
            for key, entry in index.entries.items()
        },
    )
    mapping = {
        "variables/{}/.ATTRIBUTES/VARIABLE_VALUE".format(i): (
            "scope/layer_{}/kernel".format(i),
            None,
        )
        for i in range(count)
    }
    prefix, _ = _relabel(tmp_path, index, mapping)
    assert _keys(prefix) == sorted(mapping)
    tf = _tf()
    values = _run(
        lambda: tf.concat(
            tf.raw_ops.RestoreV2(
                prefix=prefix,
                tensor_names=list(mapping),
                shape_and_slices=[""] * count,
                dtypes=[tf.float32] * count,
            ),
            0,
        )
    )
    np.testing.assert_array_equal(values, np.arange(count))


def test_same_input_same_bytes(tmp_path):
    """The order of the mapping does not show."""
    source = _write_by_hand(
        tmp_path / "in", {k: _entry((2, 2), 16 * i) for i, k in enumerate("abcdef")}
    )
    index = relabel.read_index(source)
    keys = [("x{}".format(k), (k, None)) for k in "abcdef"]
    found = []
    for order in (keys, keys[::-1]):
        prefix, _ = _relabel(tmp_path, index, dict(order), {"s": b"s"})
        names = sorted(os.listdir(os.path.dirname(prefix)))
        folder = Path(prefix).parent
        found.append([(name, (folder / name).read_bytes()) for name in names])
        shutil.rmtree(str(folder))
    assert found[0] == found[1]


@pytest.fixture
def four_gigabytes(tmp_path):
    """A sparse checkpoint with one tensor of 4 GiB."""
    entries = {"big": _entry((1 << 20, 1 << 10), crc32c=1), "small": _entry((2,))}
    prefix = _write_by_hand(tmp_path / "in", entries, size=1 << 32)
    return relabel.read_index(prefix)


def test_weights_are_not_read(tmp_path, four_gigabytes, monkeypatch):
    """Gigabytes take milliseconds, and no shard of the source is opened."""
    opened = []
    plain_open = builtins.open

    def spy(file, *args, **kwargs):
        opened.append(str(file))
        return plain_open(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", spy)
    started = time.perf_counter()
    index = relabel.read_index(four_gigabytes.prefix)
    prefix, report = _relabel(tmp_path, index, {"new": ("big", None)}, {"s": b"s"})
    assert time.perf_counter() - started < 1
    assert opened == [
        index.prefix + ".index",
        prefix + ".data-00001-of-00002",
        prefix + ".index",
    ]
    assert report == relabel.RelabelReport(files_linked=1, bytes_linked=1 << 32)
    linked = os.stat(prefix + ".data-00000-of-00002")
    assert linked.st_ino == os.stat(index.shard_path(0)).st_ino


def _small(tmp_path):
    prefix = _write_by_hand(tmp_path / "in", {"a": _entry((2,), 8)}, size=100)
    return relabel.read_index(prefix)


def test_copy(tmp_path):
    """A copy is a file of its own."""
    index = _small(tmp_path)
    prefix, report = _relabel(tmp_path, index, _same(index), link="copy")
    copied = os.stat(prefix + ".data-00000-of-00001")
    assert copied.st_ino != os.stat(index.shard_path(0)).st_ino
    assert copied.st_size == 100
    assert report == relabel.RelabelReport(files_copied=1, bytes_copied=100)


def _no_links(*args, **kwargs):
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_links_are_impossible(tmp_path, monkeypatch):
    """Across file systems "auto" copies, and "hard" says why it cannot."""
    monkeypatch.setattr(os, "link", _no_links)
    index = _small(tmp_path)
    with pytest.raises(DestinationError, match="cross-device link.*copy"):
        _relabel(tmp_path, index, _same(index), link="hard")
    _, report = _relabel(tmp_path, index, _same(index), link="auto")
    assert (report.files_linked, report.files_copied) == (0, 1)


def test_source_of_symbolic_links(tmp_path):
    """Caches hold symbolic links: what is linked is the file behind them."""
    index = _small(tmp_path)
    shard = index.shard_path(0)
    os.rename(shard, str(tmp_path / "blob"))
    os.symlink(os.path.join("..", "blob"), shard)
    prefix, report = _relabel(tmp_path, index, _same(index))
    assert report.files_linked == 1
    linked = prefix + ".data-00000-of-00001"
    assert not os.path.islink(linked)
    assert os.path.samefile(linked, str(tmp_path / "blob"))


def test_destination_exists(tmp_path):
    """Nothing is written over: it may be a hard link to the source."""
    index = _small(tmp_path)
    prefix, _ = _relabel(tmp_path, index, _same(index))
    with pytest.raises(DestinationError, match="already"):
        _relabel(tmp_path, index, _same(index))
    os.remove(prefix + ".index")
    with pytest.raises(DestinationError, match="already"):
        _relabel(tmp_path, index, _same(index), link="copy")


def test_destination_cannot_be_written(tmp_path):
    """A directory that is not there is a fault of the destination."""
    index = _small(tmp_path)
    for source, new in ((index, {}), (None, {"s": b"s"}), (None, {})):
        mapping = _same(source) if source else {}
        with pytest.raises(DestinationError):
            relabel.relabel(source, str(tmp_path / "no" / "v"), mapping, new)


def test_unknown_link_mode(tmp_path):
    """The error lists the modes."""
    with pytest.raises(DestinationError, match="'auto', 'hard', 'copy'"):
        _relabel(tmp_path, None, {}, link="soft")


def test_key_that_is_not_there(tmp_path):
    """The error names the old key and the new one."""
    with pytest.raises(CorruptModuleError, match="'b'.*'new'.*1 keys"):
        _relabel(tmp_path, _small(tmp_path), {"new": ("b", None)})
    with pytest.raises(CorruptModuleError, match="no checkpoint"):
        _relabel(tmp_path, None, {"new": ("b", None)})


@needs_tensorflow
@pytest.mark.tf2
def test_remote(tmp_path):
    """From a remote file system to a local one, and to itself."""
    gfile = _tf().io.gfile
    base = "ram://hub_compat_test_checkpoint"
    if gfile.exists(base):
        gfile.rmtree(base)
    gfile.makedirs(base + "/in")
    local = _save(tmp_path / "in" / "variables", {"a": np.arange(1000)})
    for suffix in (".index", ".data-00000-of-00001"):
        files.copy_file(local + suffix, base + "/in/v" + suffix)
    index = relabel.read_index(base + "/in/v")
    mapping = {"x": ("a", None), "cut": ("a", [(5, 3)])}
    new = {"s": b"string"}
    with pytest.raises(DestinationError, match="local"):
        relabel.relabel(index, base + "/v", mapping, new, link="hard")
    gfile.makedirs(base + "/out")
    for prefix in (str(tmp_path / "v"), base + "/out/v"):
        report = relabel.relabel(index, prefix, mapping, new)
        assert (report.files_copied, report.bytes_copied) == (1, 8000)
        whole = _restore(prefix, "x", np.int64)
        np.testing.assert_array_equal(whole, np.arange(1000))
        np.testing.assert_array_equal(_restore(prefix, "cut", np.int64), [5, 6, 7])
        assert _restore(prefix, "s", _tf().string) == b"string"


def test_no_checkpoint(tmp_path):
    """A path with nothing at it, and one into nowhere."""
    for prefix in (tmp_path / "variables", tmp_path / "no" / "variables"):
        with pytest.raises(HandleError, match="no checkpoint"):
            relabel.read_index(str(prefix))


def test_index_is_missing(tmp_path):
    """Shards alone are half a checkpoint."""
    index = _small(tmp_path)
    os.remove(index.prefix + ".index")
    with pytest.raises(CorruptModuleError, match="no index"):
        relabel.read_index(index.prefix)


@needs_tensorflow
def test_format_v1(tmp_path):
    """The format before this one is named, and what to do about it."""
    v1 = _tf().compat.v1
    prefix = str(tmp_path / "variables")
    with v1.Graph().as_default(), v1.Session() as session:
        v1.get_variable("a", initializer=1.0)
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(write_version=v1.train.SaverDef.V1)
        saver.save(session, prefix, write_meta_graph=False)
    with pytest.raises(FormatError, match="V1"):
        relabel.read_index(prefix)


def test_shard_is_missing(tmp_path):
    """The error names the tensor and the file."""
    index = _small(tmp_path)
    os.remove(index.shard_path(0))
    with pytest.raises(CorruptModuleError, match="'a'.*data-00000-of-00001"):
        relabel.read_index(index.prefix)


@pytest.mark.parametrize("size", [0, 15])
def test_shard_is_too_short(tmp_path, size):
    """The error names the tensor, the file, and both sizes."""
    index = _small(tmp_path)
    os.truncate(index.shard_path(0), size)
    with pytest.raises(
        CorruptModuleError, match=r"'a' at bytes 8 to 16 .*of-00001.* {} b".format(size)
    ):
        relabel.read_index(index.prefix)
    os.truncate(index.shard_path(0), 16)
    relabel.read_index(index.prefix)


_SLICED = {
    "a": bundle.TensorEntry(
        FLOAT, (4, 2), slices=(((0, 1), (0, 2)), ((1, 3), (0, -1)))
    ),
    bundle.slice_key("a", ((0, 1), (0, 2))): _entry((1, 2)),
    bundle.slice_key("a", ((1, 3), (0, -1))): _entry((3, 2), 8),
}


@pytest.mark.parametrize(
    "change,message",
    [
        ({bundle.slice_key("a", ((0, 1), (0, 2))): None}, "absent"),
        ({bundle.slice_key("a", ((0, 1), (0, 2))): _entry((2, 1))}, "shape"),
        (
            {bundle.slice_key("a", ((0, 1), (0, 2))): _entry((1, 2))._replace(dtype=3)},
            "dtype",
        ),
        (
            {
                "a": _SLICED["a"]._replace(slices=2 * _SLICED["a"].slices),
            },
            "overlap",
        ),
        ({"a": _SLICED["a"]._replace(shape=(3, 2))}, "out of"),
        ({"a": _SLICED["a"]._replace(shape=(4,))}, "rank"),
        ({"a": bundle.TensorEntry(FLOAT, (), slices=((),))}, "scalar"),
        ({"b": _entry((1,))._replace(shard_id=1)}, "counts 1 shards"),
        ({"b": b"\x08"}, "damaged"),
        ({"b": b"\x0b"}, "wire type"),
        ({"b": b"\x12\x05"}, "middle"),
        ({"b": b"\x12\x02\x18\x01"}, "no shape"),
        ({"b": b"\x12" + b"\xfe\x03" + b"\x12\x00" * 255}, "dimensions"),
        ({"b": b"\x22\x00"}, "type"),
        ({"b": b"\x20" + b"\xff" * 9 + b"\x01"}, "negative"),
    ],
)
def test_entries_that_cannot_be(tmp_path, change, message):
    """Nonsense with right checksums is refused as damage."""
    entries = dict(_SLICED)
    relabel.read_index(_write_by_hand(tmp_path / "good", entries))
    entries.update(change)
    entries = {key: entry for key, entry in entries.items() if entry is not None}
    prefix = _write_by_hand(tmp_path / "in", entries)
    with pytest.raises(CorruptModuleError, match=message):
        relabel.read_index(prefix)


@pytest.mark.parametrize(
    "header", [b"\x08\x00", b"\x10\x00", b"\x08\x01\x10\x02", b"\x08\xc0\x84\x3d"]
)
def test_headers_that_cannot_be(tmp_path, header):
    """A table is not yet a checkpoint."""
    with pytest.raises(CorruptModuleError, match="header"):
        relabel.read_index(_write_by_hand(tmp_path / "in", {}, header=header))


def test_no_header(tmp_path):
    """Neither is one without a header."""
    index = _small(tmp_path)
    table = sstable.write_table([(b"a", b"")])
    Path(index.prefix + ".index").write_bytes(table)
    with pytest.raises(CorruptModuleError, match="header"):
        relabel.read_index(index.prefix)


def test_later_format(tmp_path):
    """A checkpoint for later readers only is not guessed at."""
    header = b"\x08\x01\x1a\x04\x08\x02\x10\x02"
    with pytest.raises(FormatError, match="Upgrade") as caught:
        relabel.read_index(_write_by_hand(tmp_path / "in", {}, header=header))
    assert not isinstance(caught.value, CorruptModuleError)


def test_fields_of_the_future(tmp_path):
    """Fields that this version does not know are skipped, as proto's readers do."""
    value = bundle.encode_entry(_entry((2,)))
    more = b"\x40\x01" + b"\x49" + bytes(8) + b"\x82\x01\x01x" + b"\x5d" + bytes(4)
    prefix = _write_by_hand(tmp_path / "in", {"a": value + more})
    assert relabel.read_index(prefix).entries == {"a": _entry((2,))}


@pytest.mark.parametrize(
    "entry",
    [
        b"\x08\x01\x12\x04\x12\x02\x08\x02\x00\x64",
        b"\x08\x01\x09" + bytes(8) + b"\x28\x04",
        b"\x08\x01\x12\x04\x12\x02\x0a\x00\x28\x08",
        b"\x08\x01\x12\x07\x12\x05\x08\x02\x12\x01\xff\x28\x08",
        b"\x08\x01\x88\x80\x80\x80\x80\x01\x01",
    ],
    ids=["field 0", "wire type", "inner wire type", "no text", "large field"],
)
def test_entries_that_readers_of_protos_refuse(entry, tmp_path):
    """TensorFlow's reader would end the process, or see another entry than we do."""
    prefix = _write_by_hand(tmp_path / "in", {"a": entry})
    with pytest.raises(CorruptModuleError, match="damaged"):
        relabel.read_index(prefix)


def test_fuzzed_entries(tmp_path):
    """Whatever an entry holds, reading it ends in an index or one kind of error."""
    generator = random.Random(0)
    values = [bundle.encode_entry(entry) for entry in _SLICED.values()]
    header = bundle.encode_header(1, False)
    prefix = _write_by_hand(tmp_path / "in", {})
    refused = 0
    for _ in range(1500):
        changed = [bytearray(value) for value in values + [header]]
        for _ in range(generator.randint(1, 3)):
            target = generator.choice(changed)
            if target and generator.random() < 0.8:
                position = generator.randrange(len(target))
                target[position] = generator.getrandbits(8)
            else:
                del target[generator.randint(0, len(target)) :]
        items = zip(list(_SLICED), map(bytes, changed))
        named = [(k.encode() if isinstance(k, str) else k, v) for k, v in items]
        table = sstable.write_table(sorted([(b"", bytes(changed[-1]))] + named))
        Path(prefix + ".index").write_bytes(table)
        try:
            relabel.read_index(prefix)
        except FormatError:
            refused += 1
    assert refused > 700


@needs_tensorflow
def test_fuzzed_files(tmp_path):
    """An index by TensorFlow, damaged anywhere: the same index, or one error."""
    tensors = {"layer_{}/kernel".format(i): np.zeros([i, 2]) for i in range(60)}
    prefix = _save(tmp_path / "in" / "variables", tensors)
    path = Path(prefix + ".index")
    good = relabel.read_index(prefix)
    data = path.read_bytes()
    generator = random.Random(0)
    errors = []
    for _ in range(1000):
        damaged = bytearray(data)
        kind = generator.randrange(3)
        position = generator.randrange(len(data))
        if kind == 0:
            damaged[position] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del damaged[position:]
        else:
            # The footer has no checksum.
            damaged[-1 - position % 48] = generator.getrandbits(8)
        path.write_bytes(bytes(damaged))
        try:
            assert relabel.read_index(prefix) == good
        except CorruptModuleError as error:
            errors.append(str(error))
    assert len(errors) > 500
    assert all("variables.index" in error for error in errors)


@needs_tensorflow
def test_snappy_is_what_tensorflow_reads(tmp_path):
    """TensorFlow agrees that byte 1 is Snappy, and on its literals and copies."""
    prefix = _save(tmp_path / "in" / "variables", {"aaaaaaaa": np.arange(2.0)})
    path = Path(prefix + ".index")
    items = _items(prefix)
    plain = b"".join(
        bytes((0, len(key), len(value))) + key + value for key, value in items
    )

    plain += NO_RESTARTS
    start = plain.index(b"aaaaaaaa") + 1
    literals = [plain[:start], plain[start + 7 :]]
    compressed = varint.put_varint(len(plain))
    compressed += bytes(((len(literals[0]) - 1) << 2,)) + literals[0]
    compressed += bytes(((7 - 4) << 2 | 1, 1))
    compressed += bytes(((len(literals[1]) - 1) << 2,)) + literals[1]
    path.write_bytes(table_of(compressed, 1))
    assert list(relabel.read_index(prefix).entries) == ["aaaaaaaa"]
    np.testing.assert_array_equal(_restore(prefix, "aaaaaaaa"), np.arange(2.0))
