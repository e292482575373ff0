"""Writes converters/opdata/package_ops.json: the ops of packages that models use.

    python tools/make_package_ops.py

Downloads wheels of each package, without what they depend on, and looks for the names
of ops in their libraries: a string of one is an op where the package's Python code
calls its wrapper, by the same name in snake case, or names it. Ops of TensorFlow itself
are left out. Needs a network and pip; nothing of what is downloaded is run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "converters" / "opdata" / "package_ops.json"
sys.path.insert(0, str(ROOT))

# Package, version, and the Python whose wheel there is. The newest of each, and an old
# one where ops have gone since.
WHEELS: Tuple[Tuple[str, str, str], ...] = (
    ("struct2tensor", "0.48.1", "3.11"),
    ("tensorflow-addons", "0.10.0", "3.7"),
    ("tensorflow-addons", "0.23.0", "3.11"),
    ("tensorflow-compression", "2.14.1", "3.11"),
    ("tensorflow-decision-forests", "0.2.7", "3.9"),
    ("tensorflow-decision-forests", "1.12.0", "3.11"),
    ("tensorflow-io", "0.17.1", "3.7"),
    ("tensorflow-io", "0.37.1", "3.11"),
    ("tensorflow-quantum", "0.7.6", "3.11"),
    ("tensorflow-recommenders-addons", "0.8.1", "3.9"),
    ("tensorflow-text", "2.4.3", "3.7"),
    ("tensorflow-text", "2.8.2", "3.9"),
    ("tensorflow-text", "2.21.1", "3.11"),
    ("tf-sentencepiece", "0.1.90", "3.7"),
    ("ydf-tf", "2.21.0.post1", "3.12"),
)

# How the names of a package's ops begin; of the others, wrappers tell.
PREFIXES = {
    "tensorflow-addons": "Addons>",
    "tensorflow-decision-forests": "SimpleML",
    "tensorflow-io": "IO>",
    "tensorflow-quantum": "Tfq",
    "tensorflow-recommenders-addons": "TFRA>",
    "tf-sentencepiece": "Sentencepiece",
    "ydf-tf": "SimpleML",
}

_NAME = re.compile(rb"(?:[A-Z][A-Za-z0-9]*>)?[A-Z][A-Za-z0-9]{2,80}")
_PRINTED = re.compile(rb"[\x20-\x7e]{4,}")
_WORD = re.compile(rb"[A-Za-z0-9_]{3,120}")
# Names that libraries and Python code have for other things.
_NO_OPS = frozenset(
    ["ParquetDatasetOp", "RunLengthBeforeOp", "SavedModel", "ShapeChecks"]
)
_NO_OPS |= {"TensorType"}


def download(package: str, version: str, python: str, folder: Path) -> List[Path]:
    """The wheel of a package; none where there is no such wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", python]
    for tag in ("manylinux2010", "manylinux2014", "manylinux1", "linux"):
        command += ["--platform", tag + "_x86_64"]
    for glibc in range(5, 35):
        command += ["--platform", "manylinux_2_{}_x86_64".format(glibc)]
    command += ["--dest", str(folder), "{}=={}".format(package, version)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        print(package, version, done.stdout.decode().strip()[-300:], file=sys.stderr)
    return sorted(folder.glob("*.whl"))


def snake(name: str) -> str:
    """The name of an op's wrapper: ``Addons>SkipGram`` is ``addons_skip_gram``."""
    name = name.replace(">", "_")
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def strings(data: bytes) -> Iterator[str]:
    """The strings of a library that may be names of ops."""
    for piece in _PRINTED.findall(data):
        if len(piece) < 90 and _NAME.fullmatch(piece):
            yield piece.decode()


def ops_of(wheel: Path, prefix: str) -> Set[str]:
    """The ops of a wheel."""
    candidates: Set[str] = set()
    words: Set[bytes] = set()
    with zipfile.ZipFile(str(wheel)) as archive:
        for name in archive.namelist():
            if name.endswith(".so") or ".so." in name:
                candidates.update(strings(archive.read(name)))
            elif name.endswith(".py"):
                words.update(_WORD.findall(archive.read(name)))
    found = set()
    for name in candidates:
        if prefix:
            # TFRA>FindOp is the class of a kernel.
            known = name.startswith(prefix) and name[:-2] not in candidates
        elif ">" in name:
            known = name.startswith("TFText>")
        else:
            # Without an underscore, it is the name of anything.
            known = "_" in snake(name) and snake(name).encode() in words
        if known:
            found.add(name)
    return found


def main() -> None:
    """Writes the file."""
    from hub_compat.converters.opdata.op_defs import first_versions
    from hub_compat.converters.opdata.targets import TARGETS
    from hub_compat.converters.opdata.targets import ops_of as ops_of_target

    own = set(first_versions())
    for target in TARGETS:
        own |= set(ops_of_target(target))
    found: Dict[str, Set[str]] = {}
    for package, version, python in WHEELS:
        with tempfile.TemporaryDirectory() as folder:
            for wheel in download(package, version, python, Path(folder)):
                ops = ops_of(wheel, PREFIXES.get(package, "")) - own - _NO_OPS
                print(package, version, len(ops))
                found.setdefault(package, set()).update(ops)
    text = json.dumps({p: sorted(found[p]) for p in sorted(found)}, indent=1)
    OUTPUT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
