"""Builds the Python environments that the Makefile's commands run in.

An environment is a virtual environment with a fixed list of requirements and
nothing of this checkout in it, so clones on one machine share it::

    python tools/environments.py list
    python tools/environments.py path tf221       # builds it, prints its Python
    python tools/environments.py run tf221 -- examples/demo.py

They live in ``$HUB_COMPAT_ENVS``, by default ``~/.cache/hub_compat-envs``, in
directories named after the environment, the Python and a hash of the
requirements: an edited list makes a new environment. A stamp, written last,
marks a finished one; without it the directory is built anew.

Runs on Python 3.7 and later with the standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import functools
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

# Linux on x86-64 has a build without the GPU code, at half the download.
_CPU_ONLY = 'platform_system == "Linux" and platform_machine == "x86_64"'
_NOT_CPU_ONLY = 'platform_system != "Linux" or platform_machine != "x86_64"'


def _tensorflow(version: str) -> Tuple[str, ...]:
    return (
        "tensorflow-cpu=={}; {}".format(version, _CPU_ONLY),
        "tensorflow=={}; {}".format(version, _NOT_CPU_ONLY),
    )


@dataclasses.dataclass(frozen=True)
class Environment:
    """What one environment holds.

    Attributes:
      name: ``"tf221"``.
      pythons: versions of CPython that serve, best first: ``("3.11", "3.10")``.
      requirements: what pip installs, dependencies included.
      bare: what pip installs after that, without dependencies.
    """

    name: str
    pythons: Tuple[str, ...]
    requirements: Tuple[str, ...]
    bare: Tuple[str, ...] = ()


_TEST_TOOLS = ("numpy", "parameterized", "pytest")
# What fetches modules; the TensorFlows in between bring the first with them.
_FETCHING = ("requests", "tqdm")

# The oldest and the newest patch of every second TensorFlow in between: its Pythons,
# what its own requirements leave too open, and what comes after without dependencies.
_OLD_PROTOBUF = ("protobuf<3.21",)
# numpy 1.24 dropped np.object, which these use.
_OLD_NUMPY = ("numpy<1.24",)
_KERAS_26 = ("keras==2.6.0", "tensorflow-estimator==2.6.0", "tensorboard==2.6.0")
_SETUPTOOLS = ("setuptools<81",)
_BETWEEN: Tuple[Tuple[str, Tuple[str, ...], Tuple[str, ...], Tuple[str, ...]], ...] = (
    ("2.4.0", ("3.8", "3.7"), _OLD_PROTOBUF, ()),
    ("2.4.4", ("3.8", "3.7"), _OLD_PROTOBUF, ()),
    ("2.6.0", ("3.9", "3.8", "3.7"), _OLD_PROTOBUF + _KERAS_26, ()),
    ("2.6.5", ("3.9", "3.8", "3.7"), _OLD_PROTOBUF + _KERAS_26, ()),
    ("2.8.0", ("3.9", "3.10", "3.8"), _OLD_PROTOBUF + _OLD_NUMPY, ()),
    ("2.8.4", ("3.10", "3.9", "3.8"), _OLD_PROTOBUF + _OLD_NUMPY, ()),
    ("2.10.0", ("3.9", "3.10", "3.8"), _OLD_NUMPY, ()),
    ("2.10.1", ("3.10", "3.9", "3.8"), _OLD_NUMPY, ()),
    ("2.12.0", ("3.10", "3.11", "3.9"), (), ()),
    ("2.12.1", ("3.11", "3.10", "3.9"), (), ()),
    ("2.14.0", ("3.10", "3.11", "3.9"), ("numpy<2",), ()),
    ("2.14.1", ("3.11", "3.10", "3.9"), (), ()),
    # The oldest patch with an old Keras 3, the newest with what pip finds.
    (
        "2.16.1",
        ("3.11", "3.12", "3.10"),
        ("keras==3.0.5",) + _SETUPTOOLS,
        ("tf-keras==2.16.*",),
    ),
    ("2.16.2", ("3.12", "3.11", "3.10"), _SETUPTOOLS, ("tf-keras==2.16.*",)),
    (
        "2.18.0",
        ("3.11", "3.12", "3.10"),
        ("keras==3.5.0",) + _SETUPTOOLS,
        ("tf-keras==2.18.*",),
    ),
    ("2.18.1", ("3.12", "3.11", "3.10"), _SETUPTOOLS, ("tf-keras==2.18.*",)),
    ("2.20.0", ("3.13", "3.12", "3.11"), _SETUPTOOLS, ("tf-keras==2.20.*",)),
)

ENVIRONMENTS: Dict[str, Environment] = {
    environment.name: environment
    for environment in (
        Environment(
            "tf115",
            ("3.7",),
            (
                "tensorflow==1.15.5",
                "protobuf<3.21",
                "tensorflow_hub==0.12.0",
                # The last for Python 3.7.
                "kagglehub==0.2.9",
            )
            + _TEST_TOOLS
            + _FETCHING,
        ),
        Environment(
            "tf215",
            ("3.11", "3.10", "3.9"),
            # tensorflow_hub imports pkg_resources, which setuptools 81 dropped.
            _tensorflow("2.15.1")
            + ("tensorflow_hub==0.15.0", "setuptools<81", "kagglehub==1.0.3")
            + _TEST_TOOLS
            + _FETCHING,
        ),
        Environment(
            "tf221",
            ("3.13", "3.12", "3.11", "3.10"),
            _tensorflow("2.21.*")
            + ("setuptools<81", "kagglehub==1.0.3")
            + _TEST_TOOLS
            + _FETCHING,
            # Both require the distribution "tensorflow" by name, which would
            # come on top of tensorflow-cpu.
            bare=("tf-keras==2.21.*", "tensorflow_hub==0.16.1"),
        ),
        Environment(
            # Converters to other formats, which bring a TensorFlow that suits them.
            "exporters",
            ("3.11", "3.10"),
            (
                "tensorflowjs==4.22.0",
                "tensorflow==2.19.0",
                # Newer ones want a protobuf that this TensorFlow does not take.
                "ydf<0.13",
                "tf2onnx==1.17.0",
                "onnx==1.17.0",
                "onnxruntime",
                "setuptools<81",
            )
            + _TEST_TOOLS,
        ),
        Environment(
            "tools",
            ("3.13", "3.12", "3.11", "3.10"),
            # mypy 1.4.1 is the last that checks for 3.7, absl-py 2.1.0 the last
            # whose source 3.7 can parse.
            (
                "ruff==0.17.6",
                "mypy==1.4.1",
                "absl-py==2.1.0",
                "setuptools==80.10.2",
                "wheel",
            ),
        ),
    )
    + tuple(
        Environment(
            "tf" + version,
            pythons,
            _tensorflow(version) + pins + _TEST_TOOLS,
            bare=bare,
        )
        for version, pythons, pins, bare in _BETWEEN
    )
}


class EnvironmentMissing(Exception):
    """No Python on this machine can carry the environment."""


class BuildFailed(Exception):
    """pip, or venv, did not succeed."""


@dataclasses.dataclass(frozen=True)
class Python:
    """An interpreter that was found and runs.

    Attributes:
      path: the executable.
      version: ``"3.13.0"``.
      has_ensurepip: Debian and Ubuntu ship it as a package of its own.
    """

    path: str
    version: str
    has_ensurepip: bool


_PROBE = """
import importlib.util, json, platform, ssl, sys, venv
print(json.dumps({
    "implementation": platform.python_implementation(),
    "version": platform.python_version(),
    "pip": importlib.util.find_spec("pip") is not None,
    "ensurepip": importlib.util.find_spec("ensurepip") is not None,
}))
"""


def _clean_environ() -> Dict[str, str]:
    """The caller's environment without what redirects Python or pip."""
    redirects = (
        "PYTHONHOME",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "PIP_PREFIX",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_TARGET",
        "PIP_USER",
        "__PYVENV_LAUNCHER__",
    )
    environ = {k: v for k, v in os.environ.items() if k not in redirects}
    environ["PYTHONNOUSERSITE"] = "1"
    environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    environ["PIP_NO_INPUT"] = "1"
    return environ


@functools.lru_cache(maxsize=None)
def _probe(path: str) -> Optional[Python]:
    """Runs the interpreter; a shim on PATH exists but need not run."""
    try:
        result = subprocess.run(
            [path, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_clean_environ(),
            timeout=60,
        )
        facts = json.loads(result.stdout.decode())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if facts["implementation"] != "CPython":
        return None
    if not (facts["pip"] or facts["ensurepip"]):
        return None
    return Python(path, facts["version"], facts["ensurepip"])


def _candidates(version: str) -> Iterator[str]:
    """Every place where a CPython of this version may be, likeliest first."""
    if "{}.{}".format(*sys.version_info[:2]) == version:
        yield sys.executable
    on_path = os.environ.get("PATH", "").split(os.pathsep)
    for directory in on_path:
        yield os.path.join(directory, "python" + version)
    home = os.path.expanduser("~")
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    pyenv_root = os.environ.get("PYENV_ROOT")
    if not pyenv_root and shutil.which("pyenv"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            output = subprocess.check_output(
                ["pyenv", "root"], stdin=subprocess.DEVNULL, timeout=60
            )
            pyenv_root = output.decode().strip()
    roots = [
        os.path.join(root, "versions", version)
        for root in (pyenv_root, os.path.join(home, ".pyenv"), "/opt/pyenv")
        if root
    ]
    uv_roots = (
        os.environ.get("UV_PYTHON_INSTALL_DIR"),
        os.path.join(data, "uv/python"),
    )
    roots += [os.path.join(root, "cpython-" + version) for root in uv_roots if root]
    roots += [
        os.path.join(home, ".asdf/installs/python", version),
        os.path.join(home, ".local/share/mise/installs/python", version),
        "/opt/python" + version,
        "/opt/python-" + version,
        "/opt/python/" + version,
        "/opt/python/cp" + version.replace(".", "") + "-",
        "/opt/hostedtoolcache/Python/" + version,
        "/usr/local/python" + version,
        "/usr/local/opt/python@" + version,
        "/opt/homebrew/opt/python@" + version,
        "/Library/Frameworks/Python.framework/Versions/" + version,
    ]
    for root in roots:
        # "3.1" must not find 3.13: a dot, a dash or nothing follows the version.
        matches = glob.glob(root) + glob.glob(root + "[.-]*")
        if root.endswith("-"):
            matches += glob.glob(root + "*")
        for match in sorted(matches, reverse=True):
            for inner in ("bin", os.path.join("x64", "bin")):
                yield os.path.join(match, inner, "python" + version)
                yield os.path.join(match, inner, "python3")
    # Last: most of these are other versions, and cost a process to find out.
    for directory in on_path:
        for name in ("python3", "python"):
            yield os.path.join(directory, name)


def find_python(versions: Sequence[str]) -> Optional[Python]:
    """The first of these versions of CPython that is found and runs.

    Args:
      versions: ``("3.13", "3.12")``, best first.

    Returns:
      The interpreter, or None.
    """
    for version in versions:
        tried = set()
        for candidate in _candidates(version):
            if candidate in tried or not os.access(candidate, os.X_OK):
                continue
            tried.add(candidate)
            python = _probe(candidate)
            if python and python.version.startswith(version + "."):
                return python
    return None


def directory() -> Path:
    """Where the environments live."""
    chosen = os.environ.get("HUB_COMPAT_ENVS")
    if chosen:
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "hub_compat-envs"


def say(message: str) -> None:
    """Prints a line of progress on standard error."""
    print("[environments] " + message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _lock(path: Path, name: str) -> Iterator[int]:
    """Holds the lock, and yields its file descriptor.

    The system frees it when its holder dies, and all who inherited it.
    """
    with open(str(path), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("{}: another process builds it; waiting".format(name))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _runs(python: Path) -> bool:
    """Whether the environment's Python still starts: its base may be gone."""
    try:
        return subprocess.call([str(python), "-c", ""], env=_clean_environ()) == 0
    except OSError:
        return False


def _build(
    environment: Environment, python: Python, target: Path, log: Path, lock: int
) -> None:
    """Makes the virtual environment and installs everything into it."""
    inside = str(target / "bin" / "python")
    site = "lib/python{}.{}/site-packages".format(*python.version.split(".")[:2])
    pip_install = [inside, "-m", "pip", "install", "--no-warn-script-location"]
    if python.has_ensurepip:
        steps = [[python.path, "-m", "venv", str(target)]]
    else:
        into = str(target / site)
        steps = [
            [python.path, "-m", "venv", "--without-pip", str(target)],
            [python.path, "-m", "pip", "install", "--target", into, "pip"],
        ]
    # 22.3 is where pip learned --python, which tools/run_tests.py uses.
    steps.append(pip_install + ["pip>=22.3"])
    steps.append(pip_install + list(environment.requirements))
    if environment.bare:
        steps.append(pip_install + ["--no-deps"] + list(environment.bare))
    with open(str(log), "w") as output:
        for step in steps:
            output.write("\n$ {}\n".format(" ".join(step)))
            output.flush()
            code = subprocess.call(
                step,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_clean_environ(),
                # A pip that outlives this process keeps the others out.
                pass_fds=[lock],
            )
            if code:
                break
        else:
            return
    tail = log.read_text(errors="replace").splitlines()[-12:]
    raise BuildFailed(
        "The environment {} could not be built: the step below ended with code {}. "
        "It needs pip and a package index; see the whole log in {}, and run the "
        "command again.\n  {}\nThe log ends with:\n  {}".format(
            environment.name, code, log, " ".join(step), "\n  ".join(tail)
        )
    )


def ensure(name: str) -> Path:
    """Builds the environment, unless it is there already.

    Args:
      name: a key of ``ENVIRONMENTS``.

    Returns:
      The path of its Python.

    Raises:
      EnvironmentMissing: no suitable Python was found on this machine.
      BuildFailed: the environment could not be built.
    """
    environment = ENVIRONMENTS[name]
    python = find_python(environment.pythons)
    if python is None:
        raise EnvironmentMissing(
            "The environment {} needs CPython {} with pip; none was found on PATH, "
            "under pyenv, uv, asdf, mise, /opt or /usr/local.".format(
                name, " or ".join(environment.pythons)
            )
        )
    key = hashlib.sha256(repr(dataclasses.astuple(environment)).encode()).hexdigest()
    base = directory()
    version = python.version.rsplit(".", 1)[0]
    target = base / "{}-py{}-{}".format(name, version, key[:10])
    stamp = target / "complete.json"
    inside = target / "bin" / "python"
    if stamp.exists() and _runs(inside):
        return inside
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _lock(Path(str(target) + ".lock"), name) as lock:
            # It may have been finished while this process waited.
            if stamp.exists() and _runs(inside):
                return inside
            shutil.rmtree(str(target), ignore_errors=True)
            log = Path(str(target) + ".log")
            say(
                "{}: building with CPython {} ({}); log: {}".format(
                    name, python.version, python.path, log
                )
            )
            start = time.time()
            _build(environment, python, target, log, lock)
            seconds = round(time.time() - start)
            stamp.write_text(json.dumps({"python": python.path, "seconds": seconds}))
            say("{}: ready after {} s".format(name, seconds))
    except OSError as error:
        raise BuildFailed(
            "The environment {} could not be written to {}: {}. Set HUB_COMPAT_ENVS "
            "to a directory with room for it (2 GB).".format(name, target, error)
        ) from error
    return inside


def main(argv: List[str]) -> int:
    """Runs the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="The project's Python environments.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="what there is, and what is built")
    path = commands.add_parser("path", help="build one and print its Python")
    path.add_argument("name", choices=sorted(ENVIRONMENTS))
    run = commands.add_parser("run", help="build one and run its Python")
    run.add_argument("name", choices=sorted(ENVIRONMENTS))
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_usage(sys.stderr)
        return 2
    if options.command == "list":
        for environment in ENVIRONMENTS.values():
            python = find_python(environment.pythons)
            found = python.path if python else "no CPython " + environment.pythons[0]
            print("{:8}{}".format(environment.name, found))
        print("in " + str(directory()))
        return 0
    try:
        inside = ensure(options.name)
    except (EnvironmentMissing, BuildFailed) as error:
        say("ERROR: {}".format(error))
        return 1
    if options.command == "path":
        print(inside)
        return 0
    arguments = [a for i, a in enumerate(options.arguments) if (i, a) != (0, "--")]
    sys.stdout.flush()
    os.execv(str(inside), [str(inside)] + arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
