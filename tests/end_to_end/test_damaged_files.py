"""Whatever becomes of a module's files: an error of ours, or the right result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import damaging
import expected
import pytest

import hub_compat as hub
from hub_compat import errors, provenance
from hub_compat.converters.checkpoint import bundle, sstable
from hub_compat.converters.checkpoint.index import read_index

pytestmark = pytest.mark.tensorflow

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
TF1, TF2 = "image_bn/module", "tf221/keras2_text/module"


def copy(name: str, path: Path) -> Path:
    """A module that may be damaged."""
    shutil.copytree(str(expected.HERE / name), str(path))
    return path


@pytest.mark.parametrize("seed", [1, 2])
def test_random_damage(seed: int, tmp_path: Path) -> None:
    """No foreign exception, death or hang; a wrong value where there is no checksum."""
    names = {
        1: ["hub", "tf1.pbtxt", "keras2"],
        2: ["hub_text.cpb", "tf1_parts.converted", "structures"],
    }[seed]
    count = 0
    for outcome in damaging.run(tmp_path, seed, 0, 15, names):
        count += 1
        assert outcome.result in ("ok", "ours", "late", "wrong"), outcome
        if outcome.result == "wrong":
            # Nothing has a checksum of graphs and assets.
            assert outcome.damage.startswith(("saved_model.", "assets/")), outcome
    assert count == 4 * 15


def change_entry(path: Path, **change: Any) -> None:
    """Changes the largest entry of a checkpoint's index, and all checksums with it."""
    index = path / "variables" / "variables.index"
    items = dict(sstable.read_table(index.read_bytes(), ""))
    entries = {key: bundle.decode_entry(value) for key, value in items.items() if key}
    key = max(entries, key=lambda k: (entries[k].dtype == 1, entries[k].size))
    items[key] = bundle.encode_entry(entries[key]._replace(**change))
    index.write_bytes(sstable.write_table(sorted(items.items())))


@pytest.mark.parametrize("name", [TF1, TF2])
@pytest.mark.parametrize(
    "change",
    [
        {"shape": (1 << 62, 1 << 62)},
        {"shape": (1 << 62, 1 << 62, 0)},
        {"shape": (1 << 40,)},
        {"shape": ()},
        {"dtype": 0},
        {"dtype": 9},
        {"dtype": 7},
        {"dtype": 101},
        {"size": 1 << 62},
        {"size": 0},
        {"offset": (1 << 63) - 1},
        {"shard_id": 1 << 30},
        {"slices": (((0, 1 << 62),),)},
    ],
    ids=str,
)
def test_absurd_entries_never_reach_tensorflow(
    change: Dict[str, Any], name: str, tmp_path: Path
) -> None:
    """Its reader ends the process over some of them."""
    path = copy(name, tmp_path / "model")
    change_entry(path, **change)
    with pytest.raises(errors.CorruptModuleError, match="variables|checkpoint"):
        hub.load(path)
    target = "tf1.15" if name == TF2 else None
    with pytest.raises(errors.CorruptModuleError, match="variables|checkpoint"):
        hub.convert(path, tmp_path / "out", target=target)
    assert not (tmp_path / "out").exists()


def test_every_index_of_the_test_data_is_right() -> None:
    """What TensorFlow wrote is not taken for absurd."""
    found = list(expected.HERE.rglob("variables.index"))
    assert len(found) > 50
    for path in found:
        assert read_index(str(path)[: -len(".index")]).entries


@pytest.mark.parametrize("kind", ["pipe", "device", "socketless link"])
@pytest.mark.parametrize(
    "name",
    [
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
        "assets/extra.txt",
        "fingerprint.pb",
        "assets.extra/hub_compat.json",
    ],
)
def test_what_is_no_file_is_refused_at_once(
    name: str, kind: str, tmp_path: Path
) -> None:
    """A named pipe waits for ever, /dev/zero never ends, a link may lead nowhere."""
    path = copy(TF2, tmp_path / "model")
    file = path / name
    file.parent.mkdir(exist_ok=True)
    if file.exists():
        file.unlink()
    if kind == "pipe":
        os.mkfifo(str(file))
    else:
        os.symlink("/dev/zero" if kind == "device" else "/nowhere", str(file))
    actions = [lambda: hub.load(path), lambda: hub.convert(path, tmp_path / "o")]
    if kind == "socketless link" and name not in (
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    ):
        return
    for action in actions:
        with pytest.raises(errors.HubCompatError):
            action()


@pytest.mark.parametrize("name", ["saved_model.pbtxt", "saved_model.cpb"])
def test_another_form_of_the_model_has_a_size(name: str, tmp_path: Path) -> None:
    """What no loader takes is not read whole for the cache, either."""
    path = copy(TF1, tmp_path / "model")
    with (path / name).open("wb") as file:
        file.truncate(4 << 30)
    for action in (lambda: hub.load(path), lambda: hub.convert(path, tmp_path / "o")):
        with pytest.raises(errors.CorruptModuleError, match="is too large"):
            action()


def test_a_shard_that_is_a_pointer_says_so(tmp_path: Path) -> None:
    """Weights and vocabularies that Git LFS has not fetched."""
    for name, target in ((TF1, None), (TF2, "tf1.15")):
        path = copy(name, tmp_path / str(target))
        (shard,) = path.glob("variables/*.data-*")
        shard.write_bytes(POINTER)
        for action in (
            lambda path=path: hub.load(path),
            lambda path=path, target=target: hub.convert(
                path, tmp_path / "out", target=target
            ),
        ):
            with pytest.raises(errors.CorruptModuleError, match="git lfs pull"):
                action()


def test_a_vocabulary_that_is_a_pointer_says_so(tmp_path: Path) -> None:
    """As a vocabulary, a pointer would be three words."""
    path = copy("text_embedding/module", tmp_path / "model")
    for asset in (path / "assets").iterdir():
        asset.write_bytes(POINTER)
    with pytest.raises(errors.CorruptModuleError, match="git lfs pull"):
        hub.load(path)
    with pytest.raises(errors.CorruptModuleError, match="git lfs pull"):
        hub.convert(path, tmp_path / "out")


@pytest.mark.parametrize("form", sorted(provenance._FORMS))
@pytest.mark.parametrize("value", ["null", "1.5", '{"a": []}', "[[[1]]]"])
def test_types_in_hub_compat_json_are_looked_at(
    form: str, value: str, tmp_path: Path
) -> None:
    """Valid JSON of another shape is an edited file."""
    if form == "callable" and value == "null":
        return
    facts = json.loads(_provenance_of(tmp_path))
    facts[form] = json.loads(value)
    _write(tmp_path, json.dumps(facts))
    with pytest.raises(errors.CorruptModuleError, match="Convert the module again"):
        provenance.read(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "[" * 100000, "{" * 100000, "\x00", '{"callable": 1}', "5"],
)
def test_odd_json_is_an_edited_file(text: str, tmp_path: Path) -> None:
    """No depth and no type of JSON gets through."""
    _write(tmp_path, text)
    with pytest.raises(errors.CorruptModuleError, match="Convert the module again"):
        provenance.read(str(tmp_path))


def test_what_a_later_version_adds_is_passed_over(tmp_path: Path) -> None:
    """One key more does not refuse a model."""
    facts = json.loads(_provenance_of(tmp_path))
    before = provenance.read(str(tmp_path))
    facts["added_later"] = {"any": ["thing"]}
    _write(tmp_path, json.dumps(facts))
    assert provenance.read(str(tmp_path)) == before


def test_every_field_has_a_form() -> None:
    """A field without one would get lost."""
    import dataclasses

    fields = {field.name for field in dataclasses.fields(provenance.Provenance)}
    assert fields == set(provenance._FORMS)


@pytest.mark.eager
def test_facts_that_do_not_go_with_the_checkpoint(tmp_path: Path) -> None:
    """Keys of the source where the weights are the conversion's own, and no format."""
    hub.convert(copy("text_embedding/module", tmp_path / "source"), tmp_path / "out")
    tmp_path = tmp_path / "out"
    facts = json.loads((tmp_path / "assets.extra" / "hub_compat.json").read_text())
    _write(tmp_path, json.dumps(dict(facts, weights_elsewhere=True)))
    with pytest.raises(errors.CorruptModuleError, match="Convert the module again"):
        hub.load(tmp_path)
    _write(tmp_path, json.dumps(dict(facts, source_format="nothing")))
    with pytest.raises(errors.CorruptModuleError, match="Convert the module again"):
        hub.load(tmp_path)


def _provenance_of(path: Path) -> str:
    provenance.Provenance(
        source_format="tf1_hub_module",
        source_fingerprint="0" * 64,
        source_tensorflow_version="1.15.5",
        callable="default",
        root_tags=(),
        variants=(((), ("default",)), (("train",), ())),
        variables=(("w", "w", None), ("v", "v", ((0, 1), (2, 3)))),
        weights_elsewhere=False,
        warnings=("nothing",),
        left_out=(((), "logits", "a reason"),),
    ).write(str(path))
    return (path / "assets.extra" / "hub_compat.json").read_text()


def _write(path: Path, text: str) -> None:
    (path / "assets.extra").mkdir(exist_ok=True)
    (path / "assets.extra" / "hub_compat.json").write_text(text)


def test_a_programs_own_error_stays_its_own(tmp_path: Path) -> None:
    """Wrong arguments, and a graph that is finished, are nobody's damage."""
    import tensorflow as tf

    path = copy("tf1_simple_save/module", tmp_path / "model")
    with pytest.raises(TypeError):
        hub.load(path, tags=5)
    with pytest.raises(errors.VerificationError, match="tolerance"):
        hub.convert(path, tmp_path / "out", verify=True, tolerance="small")
    graph = tf.Graph()
    graph.finalize()
    with graph.as_default(), pytest.raises(RuntimeError, match="finalized"):
        hub.load(path)


# What another user does; a module is used first, as much is imported late, from where
# that user may not read.
_AS_ANOTHER = """
import os, sys
sys.path[:0] = {path!r}
import hub_compat as hub
work = {work!r} + "/"
hub.convert(work + "whole", work + "converted")
hub.load(work + "whole")
if os.getuid() == 0:
    os.setgid(12345)
    os.setuid(12345)
for number, name in enumerate({names!r}):
    for action in (
        lambda source: hub.load(source),
        lambda source: hub.convert(source, work + "open/out"),
    ):
        try:
            action(work + str(number))
        except hub.errors.HandleError as error:
            assert name in str(error), (name, str(error))
        else:
            raise AssertionError(name)
"""


@pytest.mark.modeless
@pytest.mark.skipif(os.name == "nt", reason="another way of permissions")
def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """A user who may not read a file is told which."""
    names = ["saved_model.pb", "tfhub_module.pb", "variables.index", ".data-", "words"]
    copy("text_embedding/module", tmp_path / "whole")
    for number, name in enumerate(names):
        path = copy("text_embedding/module", tmp_path / str(number))
        (file,) = (p for p in path.rglob("*") if name in p.name)
        file.chmod(0)
    for parent in [tmp_path, *tmp_path.parents]:
        mode = os.stat(str(parent)).st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o011)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    code = _AS_ANOTHER.format(path=sys.path, work=str(tmp_path), names=names)
    environment = dict(os.environ, HUB_COMPAT_CACHE_DIR=str(tmp_path / "cache"))
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_text_of_a_newer_tensorflow() -> None:
    """Fields that only newer versions have are passed over; damaged names are not."""
    from hub_compat._parsing import newer_text
    from hub_compat._tf import saved_model_pb2

    lines = [
        "meta_graphs {",
        "meta_info_def {",
        'tags: "a {"',
        "stripped_op_list {",
        "op {",
        'name: "x"',
        "is_distributed_communication: true",
    ]
    text = "\n".join(lines + ["}"] * 4)
    found = newer_text.parse(text, saved_model_pb2.SavedModel())
    assert found.meta_graphs[0].meta_info_def.stripped_op_list.op[0].name == "x"
    damaged = text.replace("tags", "tbgs")
    with pytest.raises(Exception, match="no field named"):
        newer_text.parse(damaged, saved_model_pb2.SavedModel())


def test_a_type_that_nobody_has_registered(tmp_path: Path) -> None:
    """Policies of TF-Agents return distributions: the package must be imported."""
    from hub_compat._tf import saved_model_pb2

    path = copy("tf221/module_structures/module", tmp_path / "model")
    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    functions = model.meta_graphs[0].object_graph_def.concrete_functions
    for name in sorted(functions):
        value = functions[name].output_signature
        value.Clear()
        # REGISTERED_TYPE_SPEC, which TensorFlow 1.15 has not.
        value.type_spec_value.type_spec_class = 12
        value.type_spec_value.type_spec_class_name = "tfp.distributions.Normal"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(errors.UnknownOpError, match="tensorflow_probability"):
        hub.load(path)


def test_a_checkpoint_of_another_graph(tmp_path: Path) -> None:
    """The variable that does not fit is named."""
    path = copy("tf221/keras2_functional/module", tmp_path / "model")
    other = expected.HERE / "tf221" / "keras2_images" / "module" / "variables"
    shutil.rmtree(str(path / "variables"))
    shutil.copytree(str(other), str(path / "variables"))
    with pytest.raises(errors.CorruptModuleError, match="checkpoint"):
        hub.load(path)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_a_file_of_any_size_takes_no_time(name: str, tmp_path: Path) -> None:
    """A sparse file of a terabyte is neither read nor hashed."""
    path = copy(TF1, tmp_path / "model")
    with (path / name).open("r+b") as file:
        try:
            file.truncate(1 << 40)
        except OSError:
            pytest.skip("this file system has no files as large")
    for action in (
        lambda: hub.load(path),
        lambda: hub.convert(path, tmp_path / "out"),
    ):
        with pytest.raises(errors.CorruptModuleError, match="again"):
            action()


def _own_input(model: Any) -> None:
    """A node that takes its own output."""
    for node in model.meta_graphs[0].graph_def.node:
        if node.op == "Identity":
            node.input[0] = node.name


def _circle(model: Any) -> None:
    """Control edges all around."""
    nodes = model.meta_graphs[0].graph_def.node
    for node, other in zip(nodes, [*list(nodes)[1:], nodes[0]]):
        node.input.append("^" + other.name)


def _circle_in_function(model: Any) -> None:
    """The same in functions."""
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.input:
                node.input[0] = node.name + ":z:0"


def _recursion(model: Any) -> None:
    """Functions that call themselves."""
    functions = model.meta_graphs[0].graph_def.library.function
    for function in functions:
        function.node_def.add(name="again", op=function.signature.name)


@pytest.mark.parametrize(
    "name", ["tf1_batch_norm/module", "while_loop/module", "function_library/module"]
)
@pytest.mark.parametrize(
    "change", [_own_input, _circle, _circle_in_function, _recursion]
)
def test_graphs_that_go_in_circles(name: str, change: Any, tmp_path: Path) -> None:
    """A walk along the inputs would never end."""
    from hub_compat._tf import saved_model_pb2

    path = copy(name, tmp_path / "model")
    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    before = model.SerializeToString()
    change(model)
    if model.SerializeToString() == before:
        return
    file.write_bytes(model.SerializeToString())
    for action in (
        lambda: hub.load(path),
        lambda: hub.convert(path, tmp_path / "out"),
    ):
        with pytest.raises(errors.CorruptModuleError, match="in loops only"):
            action()
