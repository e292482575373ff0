"""Writes converters/opdata/first_versions.json: which TensorFlow 2 brought an op.

``make first-versions`` downloads the newest patch release of each TensorFlow 2.x from
PyPI, one after the other, and reads the names of its ops out of the Python wrappers in
the wheel; nothing is installed. Ops that TensorFlow 1.15 has are left out.
"""

import gzip
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Set

from tensorflow.core.framework import op_def_pb2

OPDATA = Path(__file__).resolve().parent.parent / "converters" / "opdata"
NEWEST = 21
_OP = re.compile(r'(?:_apply_op_helper\(\s*|_execute\.execute\(b)"([\w>]+)"')
_PLATFORMS = ("manylinux2010", "manylinux2014", "manylinux_2_17", "manylinux_2_27")


def download(minor: int, folder: str) -> Path:
    """The wheel of TensorFlow 2.<minor>, for whichever Python it has one."""
    for python in ("3.7", "3.9", "3.11"):
        for package in ("tensorflow-cpu", "tensorflow"):
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
            command += ["--only-binary=:all:", "--python-version", python]
            for platform in _PLATFORMS:
                command += ["--platform", platform + "_x86_64"]
            command += ["-d", folder, "{}==2.{}.*".format(package, minor)]
            if subprocess.run(command, capture_output=True).returncode == 0:
                return next(Path(folder).glob("*.whl"))
    raise RuntimeError("PyPI has no wheel of TensorFlow 2.{}".format(minor))


def ops_in(wheel: Path) -> Set[str]:
    """The ops that a wheel has Python wrappers for."""
    found: Set[str] = set()
    with zipfile.ZipFile(str(wheel)) as archive:
        for name in archive.namelist():
            if re.search(r"/gen_\w+\.py$", name):
                found.update(_OP.findall(archive.read(name).decode()))
    return found


def main() -> None:
    """Writes the file and prints how many ops each version brought."""
    op_list = op_def_pb2.OpList()
    with gzip.open(str(OPDATA / "ops_tf1_15.pb.gz"), "rb") as file:
        op_list.ParseFromString(file.read())
    known = {op.name for op in op_list.op}
    new = {}
    for minor in range(NEWEST + 1):
        with tempfile.TemporaryDirectory() as folder:
            here = ops_in(download(minor, folder)) - known
        new["2.{}".format(minor)] = sorted(here)
        known |= here
        print("2.{}: {} ops".format(minor, len(here)))
    path = OPDATA / "first_versions.json"
    path.write_text(json.dumps(new, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
