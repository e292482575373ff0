"""Writes the TF1 Hub modules of this directory, and records what they do.

For TensorFlow 1.15 and tensorflow_hub 0.12, which are the original runtime::

    python testdata/scripts/make_testdata.py                  # all, in place
    python testdata/scripts/make_testdata.py --out DIR NAME   # one, elsewhere
    python testdata/scripts/make_testdata.py --compare DIR    # two runs gave the same?
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

SCRIPTS = Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS))


def differences(one: Path, other: Path) -> List[str]:
    """Names of the recorded values that differ between two directories."""
    files = sorted(
        {
            file.relative_to(root)
            for root in (one, other)
            for file in root.glob("*/expected.*")
            if file.suffix in (".json", ".npz")
        }
    )
    found = []
    for name in files:
        if not ((one / name).exists() and (other / name).exists()):
            found.append("{}: only in one of them".format(name))
        elif name.suffix == ".json":
            if (one / name).read_bytes() != (other / name).read_bytes():
                found.append(str(name))
        else:
            keys = _different_arrays(one / name, other / name)
            found += ["{}: {}".format(name, key) for key in keys]
    return found


def _different_arrays(one: Path, other: Path) -> List[str]:
    import numpy as np

    with np.load(str(one), allow_pickle=False) as first:
        with np.load(str(other), allow_pickle=False) as second:
            different = set(first.files) ^ set(second.files)
            for key in set(first.files) & set(second.files):
                a, b = first[key], second[key]
                same = a.dtype == b.dtype and a.shape == b.shape
                if not (same and a.tobytes() == b.tobytes()):
                    different.add(key)
    return sorted(different)


def make(names: List[str], root: Path, definitions: str = "modules") -> None:
    """Writes and records modules.

    Args:
      names: which; all but the large ones for none.
      root: where.
      definitions: the Python module that defines them.
    """
    import tensorflow.compat.v1 as tf
    from define import write_module
    from summary import HEADER

    tf.logging.set_verbosity(tf.logging.ERROR)
    module = importlib.import_module(definitions)
    everything = module.DEFINITIONS + getattr(module, "LARGE", ())
    known = [definition.name for definition in everything]
    for name in names:
        if name not in known:
            raise SystemExit(
                "No such module; there are {}. Received: {}".format(
                    ", ".join(known), name
                )
            )
    chosen = list(module.DEFINITIONS)
    if names:
        chosen = [d for d in everything if d.name in names]
    root.mkdir(parents=True, exist_ok=True)
    for definition in chosen:
        with tempfile.TemporaryDirectory() as scratch:
            write_module(definition, root, Path(scratch))
            os.chdir(str(root))
    print(HEADER, flush=True)
    command = [sys.executable, str(SCRIPTS / "record.py"), definitions, str(root)]
    subprocess.run(command + [d.name for d in chosen], check=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="modules; all small ones by default")
    parser.add_argument(
        "--out", type=Path, default=SCRIPTS.parent, help="the directory to write"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="DIR",
        help="compare with DIR instead of writing",
    )
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    if arguments.compare:
        found = differences(out, arguments.compare.resolve())
        print("\n".join(found) or "The same.")
        return 1 if found else 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    make(arguments.names, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
