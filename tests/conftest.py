"""Which runtime the tests run in, what they skip there, and what they report.

``make test`` runs the suite once per leg (tools/run_tests.py) and says so in the
environment; without these variables pytest runs on the checkout, in the
TensorFlow at hand, in its default mode:

* ``HUB_COMPAT_TEST_LEG``: name of the leg, ``"tf115-eager"``.
* ``HUB_COMPAT_TEST_MODE``: ``"eager"`` turns TensorFlow 2 behaviour on in
  TensorFlow 1; ``"graph"`` leaves it as it is.
* ``HUB_COMPAT_TEST_INSTALLED``: set where the installed wheel is under test.
* ``HUB_COMPAT_SUPPORT_DIR``: where outcomes for the support table are written.
* ``HUB_COMPAT_VERSIONS_DIR``: the same for the table of versions.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import importlib.util
import json
import logging
import os
import sys
import uuid
from pathlib import Path
from typing import Any, Dict, List

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTDATA = ROOT / "testdata"

# Helpers, programs of other processes, and `expected`, the reader of what was recorded
# under TF 1.15.
for _folder in (
    ROOT / "tests" / "programs",
    ROOT / "tests" / "support",
    TESTDATA / "scripts",
):
    sys.path.insert(0, str(_folder))

from environment import (  # noqa: E402
    executes_eagerly,
    has_module,
    keras_generations,
    keras_versions,
    tensorflow_version,
)
from outcomes import both  # noqa: E402

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# What a pass of the converter ensures is checked, see converters/pipeline.py.
os.environ.setdefault("HUB_COMPAT_CHECK_PASSES", "1")
logging.getLogger("tensorflow").setLevel(logging.ERROR)


@pytest.fixture(params=keras_generations(), ids="keras{}".format)
def k(request: Any) -> Any:
    """Each generation of Keras that is installed, with a graph of its own."""
    from keras_kit import Keras

    found = Keras(request.param)
    found.clear()
    yield found
    found.clear()


# Marker -> (whether the runtime has it, what to say if not).
_NEEDS = {
    "tensorflow": (lambda: bool(tensorflow_version()), "needs TensorFlow"),
    "tf1": (lambda: tensorflow_version().startswith("1."), "needs TensorFlow 1"),
    "tf2": (lambda: tensorflow_version().startswith("2."), "needs TensorFlow 2"),
    "eager": (executes_eagerly, "needs eager execution"),
    "graph": (
        lambda: bool(tensorflow_version()) and not executes_eagerly(),
        "needs graph mode",
    ),
    "keras2": (lambda: 2 in keras_generations(), "needs Keras 2"),
    "keras3": (lambda: 3 in keras_generations(), "needs Keras 3"),
    "exporters": (
        lambda: has_module("tf2onnx") and has_module("tensorflowjs"),
        "needs tf2onnx and tensorflowjs",
    ),
    "network": (
        lambda: bool(os.environ.get("HUB_COMPAT_TEST_NETWORK")),
        "needs a network; set HUB_COMPAT_TEST_NETWORK=1",
    ),
}

# module -> check -> outcome; the marker `support` fills it.
_support: Dict[str, Dict[str, str]] = {}
# The same by column; the marker `smoke` fills it.
_smoke: Dict[str, Dict[str, str]] = {}


def pytest_configure(config: Any) -> None:
    """Switches TensorFlow 1 to eager execution where the leg asks for it."""
    if os.environ.get("HUB_COMPAT_TEST_MODE") != "eager":
        return
    if tensorflow_version().startswith("1."):
        importlib.import_module("tensorflow").compat.v1.enable_v2_behavior()


def pytest_report_header(config: Any) -> str:
    """Says which runtime this is, first thing in the output."""
    mode = "eager" if executes_eagerly() else "graph"
    version = tensorflow_version()
    runtime = "TensorFlow {}, {}".format(version, mode) if version else "none"
    package = importlib.import_module("hub_compat").__file__
    return "runtime: {}; hub_compat: {}".format(runtime, package)


# Fixtures that are of TensorFlow, which tests without a marker may use as well.
_OF_TENSORFLOW = {"tf", "remote", "anywhere", "gfile_root"}


def _is_plain(item: Any) -> bool:
    """Whether a test is the same without TensorFlow, by its markers and fixtures."""
    needs = any(item.get_closest_marker(name) is not None for name in _NEEDS)
    return not needs and not _OF_TENSORFLOW & set(item.fixturenames)


# Before pytest selects by marker.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: List[Any]) -> None:
    """Skips what this runtime cannot run, and marks what needs no TensorFlow."""
    for item in items:
        if _is_plain(item):
            item.add_marker(pytest.mark.plain)
        if Path(str(item.fspath)).parent.name == "handles":
            item.add_marker(pytest.mark.handles)
        for name, (there, reason) in _NEEDS.items():
            if item.get_closest_marker(name) is not None and not there():
                item.add_marker(pytest.mark.skip(reason=reason))
                break


def pytest_collection_finish() -> None:
    """Spares the garbage collector what is there as long as the tests."""
    # Of TensorFlow and Keras a million objects.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Any:
    """Notes the outcome of a test that enters a table."""
    result = yield
    report = result.get_result()
    if report.when != "call" and report.outcome == "passed":
        return
    outcome = report.outcome
    if outcome == "skipped":
        outcome = "skipped: {}".format(report.longrepr[2].split(": ", 1)[-1])
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    for name, noted in (("support", _support), ("smoke", _smoke)):
        marker = item.get_closest_marker(name)
        if marker is None:
            continue
        module = parameters.get("module", parameters.get("name", item.originalname))
        check = str(marker.args[0])
        if parameters.get("k") == 3:
            # Keras 2 is in every runtime, and may be here as well.
            check += " of Keras 3"
        outcomes = noted.setdefault(str(module), {})
        outcomes[check] = both(outcomes.get(check), outcome)


def pytest_sessionfinish(session: Any) -> None:
    """Writes the outcomes for tools/support_table.py and tools/versions_table.py."""
    leg = os.environ.get("HUB_COMPAT_TEST_LEG")
    versions = {
        "python": "{}.{}".format(*sys.version_info[:2]),
        "tensorflow": tensorflow_version(),
        "keras": keras_versions(),
        "outcomes": _smoke,
    }
    tables: Dict[str, Any] = {"SUPPORT": _support, "VERSIONS": versions}
    for name, noted in tables.items():
        folder = os.environ.get("HUB_COMPAT_{}_DIR".format(name))
        if not folder or not leg:
            continue
        path = Path(folder) / (leg + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another part of the leg may end at this moment, in another process.
        with open(str(path) + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                earlier = json.loads(path.read_text())
                into = noted["outcomes"] if name == "VERSIONS" else noted
                _add(into, earlier["outcomes"] if name == "VERSIONS" else earlier)
            path.write_text(json.dumps(noted, indent=1, sort_keys=True) + "\n")


def _add(noted: Dict[str, Dict[str, str]], earlier: Dict[str, Dict[str, str]]) -> None:
    """Adds the outcomes of an earlier process to those of this one."""
    for module, checks in earlier.items():
        outcomes = noted.setdefault(module, {})
        for check, outcome in checks.items():
            outcomes[check] = both(outcomes.get(check), outcome)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout, also where the installed wheel is under test."""
    return ROOT


@pytest.fixture(scope="session")
def testdata() -> Path:
    """The directory of recorded modules."""
    return TESTDATA


@pytest.fixture
def remote() -> str:
    """An empty directory in TensorFlow's ram:// file system."""
    tf = pytest.importorskip("tensorflow")
    path = "ram://hub_compat_{}".format(uuid.uuid4().hex)
    try:
        tf.io.gfile.makedirs(path)
    except (tf.errors.OpError, NotImplementedError):
        # TF 1.15; its own code path for file:// is the same GFile.
        pytest.skip("This TensorFlow has no ram:// file system")
    return path


@pytest.fixture(params=["local", "remote"])
def anywhere(request: Any) -> str:
    """An empty directory, local or in TensorFlow's ram:// file system."""
    if request.param == "local":
        return str(request.getfixturevalue("tmp_path"))
    return str(request.getfixturevalue("remote"))


@pytest.fixture(autouse=True, scope="session")
def _private_cache(tmp_path_factory: Any) -> Any:
    """Keeps the tests out of the user's cache."""
    name = "HUB_COMPAT_CACHE_DIR"
    previous = os.environ.get(name)
    os.environ[name] = str(tmp_path_factory.mktemp("cache"))
    yield
    if previous is None:
        del os.environ[name]
    else:
        os.environ[name] = previous
