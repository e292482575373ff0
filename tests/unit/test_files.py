"""The file layer: local without TensorFlow, remote through tf.io.gfile."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from hub_compat._io import files
from hub_compat.errors import FormatError


@pytest.fixture
def gfile_root(tmp_path: Path, monkeypatch: Any) -> str:
    """A local directory that is passed to GFile, for a TensorFlow without ram://."""
    pytest.importorskip("tensorflow")
    monkeypatch.setattr(files, "is_remote", lambda path: True)
    return str(tmp_path)


def test_directory_whose_name_begins_as_another(anywhere: str) -> None:
    """A directory lists what is in it, not in one with a longer name."""
    for name in ("assets/a", "assets.extra/b", "assets2/c"):
        files.make_dirs(files.join(anywhere, name.split("/")[0]))
        files.write_bytes(files.join(anywhere, name), b"1")
    assert files.list_dir(files.join(anywhere, "assets")) == ["a"]
    assert files.walk_files(anywhere) == ["assets.extra/b", "assets/a", "assets2/c"]
    files.remove_tree(anywhere)
    assert not files.exists(anywhere)


def test_round_trip(anywhere: str) -> None:
    """What is written is read, listed, sized, copied and removed."""
    folder = files.join(anywhere, "a", "b")
    files.make_dirs(folder)
    files.make_dirs(folder)
    path = files.join(folder, "x.bin")
    content = bytes(range(256)) * 10
    files.write_bytes(path, content)
    assert files.read_bytes(path) == content
    assert files.size(path) == 2560
    assert files.exists(path)
    assert not files.is_dir(path)
    assert files.is_dir(folder)
    files.copy_file(path, files.join(anywhere, "y.bin"))
    files.copy_file(path, files.join(anywhere, "y.bin"))
    assert files.read_bytes(files.join(anywhere, "y.bin")) == content
    assert files.list_dir(anywhere) == ["a", "y.bin"]
    assert files.walk_files(anywhere) == ["a/b/x.bin", "y.bin"]
    files.remove_tree(files.join(anywhere, "a"))
    assert not files.exists(path)
    assert files.walk_files(anywhere) == ["y.bin"]


def test_reading_seeks(anywhere: str) -> None:
    """A file opened for reading supports seek, tell and reads of any size."""
    path = files.join(anywhere, "x")
    files.write_bytes(path, b"0123456789")
    with files.open_read(path) as file:
        assert file.read(3) == b"012"
        assert file.tell() == 3
        assert file.seek(7) == 7
        assert file.read(100) == b"789"
        assert file.read(1) == b""
        assert file.seek(-4, io.SEEK_END) == 6
        assert file.read(2) == b"67"
        assert file.seek(0) == 0
        assert file.read() == b"0123456789"


def test_an_empty_file(anywhere: str) -> None:
    """Zero bytes are written, copied and read."""
    path, copy = files.join(anywhere, "x"), files.join(anywhere, "y")
    files.write_bytes(path, b"")
    files.copy_file(path, copy)
    assert files.read_bytes(copy) == b""
    assert files.size(copy) == 0


@pytest.mark.parametrize(
    "act", [files.open_read, files.read_bytes, files.size, files.remove_tree]
)
def test_absent_files_are_file_not_found(anywhere: str, act: Any) -> None:
    """What is absent raises FileNotFoundError on both sides."""
    with pytest.raises(FileNotFoundError) as caught:
        act(files.join(anywhere, "absent"))
    assert "absent" in str(caught.value)


def test_copying_an_absent_file(anywhere: str) -> None:
    """The source of a copy must be there."""
    with pytest.raises(FileNotFoundError):
        files.copy_file(files.join(anywhere, "absent"), files.join(anywhere, "y"))


def test_a_file_is_not_copied_onto_itself(anywhere: str) -> None:
    """Such a copy is an OSError, and the file keeps its content."""
    path = files.join(anywhere, "x")
    files.write_bytes(path, b"kept")
    with pytest.raises(OSError):
        files.copy_file(path, path)
    assert files.read_bytes(path) == b"kept"


def test_copies_cross_file_systems(anywhere: str, tmp_path: Path) -> None:
    """A file may go from a remote to a local file system and back."""
    near = str(tmp_path / "near")
    far = files.join(anywhere, "far")
    files.write_bytes(near, b"x" * 3000000)
    files.copy_file(near, far)
    files.copy_file(far, str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"x" * 3000000


def test_the_gfile_path_in_any_tensorflow(gfile_root: str) -> None:
    """Through GFile everything works too, in TF 1.15 as in TF 2."""
    test_round_trip(gfile_root)


def test_gfile_reading_seeks(gfile_root: str) -> None:
    """A GFile reads like a Python file, in TF 1.15 as in TF 2."""
    test_reading_seeks(gfile_root)


def test_gfile_errors_are_os_errors(gfile_root: str) -> None:
    """No OpError leaves the layer."""
    test_absent_files_are_file_not_found(gfile_root, files.read_bytes)
    test_absent_files_are_file_not_found(gfile_root, files.size)
    files.make_dirs(files.join(gfile_root, "d"))
    with pytest.raises(OSError):
        files.read_bytes(files.join(gfile_root, "d"))


@pytest.mark.tensorflow
def test_an_unknown_scheme_is_an_os_error() -> None:
    """A file system that TensorFlow does not know is an OSError."""
    pytest.importorskip("tensorflow")
    with pytest.raises(OSError):
        files.list_dir("nosuchscheme://bucket/module")


def test_as_path(tmp_path: Path) -> None:
    """Strings, paths and file URLs become plain strings; schemes stay."""
    assert files.as_path("a/b") == "a/b"
    assert files.as_path(tmp_path) == str(tmp_path)
    assert files.as_path("file:///a/b%20c") == "/a/b c"
    assert files.as_path("file://localhost/a") == "/a"
    assert files.as_path("gs://bucket/x") == "gs://bucket/x"


@pytest.mark.parametrize("value", [None, 3, b"bytes", ["a"], object])
def test_as_path_refuses_the_rest(value: Any) -> None:
    """Anything else is a ValueError that says what was expected and received."""
    with pytest.raises(ValueError) as caught:
        files.as_path(value)
    assert isinstance(caught.value, FormatError)
    assert str(caught.value).startswith("Expected a string, got ")
    assert str(caught.value).endswith("Received: {!r}".format(value))


def test_join_and_is_remote() -> None:
    """Remote paths join with a slash, local ones as the system does."""
    assert files.join("gs://b/x", "a", "b") == "gs://b/x/a/b"
    assert files.join("gs://b/x/", "a") == "gs://b/x/a"
    assert files.join("x", "a") == os.path.join("x", "a")
    assert files.is_remote("ram://x")
    assert not files.is_remote("/ram/x")


def test_walk_needs_a_directory(anywhere: str) -> None:
    """Walking what is absent is an OSError, not an empty list."""
    with pytest.raises(OSError):
        files.walk_files(files.join(anywhere, "absent"))
