"""Builds the wheel, and compares what is in it with what is in the tree.

    python tools/wheel.py build/dist      # builds; prints the wheel's path
    python tools/wheel.py --check         # builds, and compares with the tree

A sub-package that setup.cfg forgets is left out of a wheel without a word,
and a data file that package_data forgets too; hence the comparison.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import List, Set

import environments

ROOT = Path(__file__).resolve().parent.parent

# What a build reads. A copy is built, so that neither a left-over build/lib nor
# an egg-info in the checkout can get into the wheel, nor the build into it.
_SOURCES = (
    "LICENSE",
    "README.md",
    "converters",
    "hub_compat",
    "pyproject.toml",
    "setup.cfg",
)


class WheelError(Exception):
    """The wheel could not be built, or does not hold what it should."""


def build(destination: Path) -> Path:
    """Builds the wheel in the environment "tools".

    Args:
      destination: a directory; it is emptied, and made if need be.

    Returns:
      The wheel's path.

    Raises:
      WheelError: setuptools failed; the message holds its output.
    """
    python = environments.ensure("tools")
    shutil.rmtree(str(destination), ignore_errors=True)
    destination.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        for name in _SOURCES:
            source, target = ROOT / name, Path(scratch) / name
            if source.is_dir():
                shutil.copytree(str(source), str(target), symlinks=True, ignore=ignore)
            else:
                shutil.copy(str(source), str(target))
        command = [str(python), "-m", "pip", "wheel", "--no-deps", "--quiet"]
        command += ["--no-build-isolation", "--no-index", "--wheel-dir"]
        command += [str(destination.absolute()), "."]
        result = subprocess.run(
            command,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    wheels = sorted(destination.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        output = result.stdout.decode(errors="replace")
        raise WheelError("The wheel could not be built:\n" + output)
    return wheels[0]


def tree_files() -> Set[str]:
    """The package's files in the tree, named as they are in a wheel."""
    found = set()
    for name in ("hub_compat", "converters"):
        for folder, folders, files in os.walk(str(ROOT / name)):
            folders[:] = [
                f
                for f in folders
                if f != "__pycache__" and not os.path.islink(os.path.join(folder, f))
            ]
            inside = Path(folder).relative_to(ROOT).as_posix()
            if name == "converters":
                inside = "hub_compat/" + inside
            found.update(
                inside + "/" + file for file in files if not file.endswith(".pyc")
            )
    return found


def differences(wheel: Path) -> List[str]:
    """What is in the tree and not in the wheel, and the other way round.

    Args:
      wheel: the wheel's path.

    Returns:
      One sentence per difference.
    """
    with zipfile.ZipFile(str(wheel)) as archive:
        names = set(archive.namelist())
        entry_points = [n for n in names if n.endswith("/entry_points.txt")]
        commands = b"".join(archive.read(name) for name in entry_points).decode()
    packed = {name for name in names if ".dist-info/" not in name}
    tree = tree_files()
    found = [
        "{} is in the tree but not in the wheel: name its package, or its pattern, "
        "in setup.cfg.".format(name)
        for name in sorted(tree - packed)
    ]
    found += [
        "{} is in the wheel but not in the tree.".format(name)
        for name in sorted(packed - tree)
    ]
    if "hub-compat = hub_compat.cli:run" not in commands:
        found.append("The wheel installs no command hub-compat.")
    if not any(name.endswith("LICENSE") for name in names):
        found.append("The wheel holds no LICENSE.")
    return found


def main(argv: List[str]) -> int:
    """Runs the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Builds and checks the wheel.")
    parser.add_argument("destination", nargs="?", default=str(ROOT / "build/dist"))
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    try:
        if not options.check:
            print(build(Path(options.destination)))
            return 0
        with tempfile.TemporaryDirectory() as scratch:
            found = differences(build(Path(scratch) / "dist"))
    except (environments.EnvironmentMissing, environments.BuildFailed) as error:
        print("ERROR: {}".format(error), file=sys.stderr)
        return 1
    except WheelError as error:
        print(error, file=sys.stderr)
        return 1
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
