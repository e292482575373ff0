"""What stands for a module where nobody looks into its files."""

from __future__ import annotations

from pathlib import Path

from hub_compat._io import files

SHARD = "variables/variables.data-00000-of-00001"


def make_source(folder: Path) -> Path:
    """Writes what a module consists of."""
    for name in ("variables", "assets"):
        (folder / name).mkdir(parents=True)
    (folder / "saved_model.pb").write_text("graph")
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    (folder / "variables" / "variables.index").write_text("checksum of weights")
    (folder / SHARD).write_text("weights")
    (folder / "assets" / "vocabulary.txt").write_text("one\ntwo\n")
    return folder


def upload(folder: Path, remote: str) -> str:
    """Copies a directory's files to another file system; returns ``remote``."""
    for name in files.walk_files(str(folder)):
        path = files.join(remote, *name.split("/"))
        files.make_dirs(path.rsplit("/", 1)[0])
        files.copy_file(str(folder / name), path)
    return remote
