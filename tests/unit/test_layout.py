"""The tree, the symlink and the installed package are one and the same code."""

from __future__ import annotations

import ast
import configparser
import os
import re
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set, Tuple

import pytest

import hub_compat
import hub_compat.converters

INSTALLED = bool(os.environ.get("HUB_COMPAT_TEST_INSTALLED"))
PACKAGE = Path(hub_compat.__file__).resolve().parent


def _files(folder: Path) -> dict[str, Path]:
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    }


def _package() -> Dict[str, Path]:
    """The Python files of the package, by their paths in it."""
    found = _files(PACKAGE)
    # In a checkout, where a symbolic link leads, which not every rglob follows.
    converters = Path(hub_compat.converters.__file__).resolve().parent
    found.update(("converters/" + n, p) for n, p in _files(converters).items())
    return {name: path for name, path in found.items() if path.suffix == ".py"}


def _imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
    return {name.split(".")[0] for name in found}


def test_the_symlink_leads_to_the_converters(root: Path) -> None:
    """hub_compat/converters in the tree is the top-level folder converters."""
    if not (root / "hub_compat" / "converters").is_dir():
        pytest.skip("this clone has no symbolic links")
    assert os.path.samefile(
        str(root / "hub_compat" / "converters" / "__init__.py"),
        str(root / "converters" / "__init__.py"),
    )


@pytest.mark.skipif(INSTALLED, reason="the installed wheel is under test")
def test_a_checkout_imports_its_own_converters(root: Path) -> None:
    """No second checkout or installed copy mixes in silently."""
    assert os.path.samefile(str(PACKAGE), str(root / "hub_compat"))
    assert os.path.samefile(
        str(hub_compat.converters.__file__), str(root / "converters" / "__init__.py")
    )


@pytest.mark.skipif(not INSTALLED, reason="a checkout is under test")
def test_the_installed_package_is_this_tree(root: Path) -> None:
    """The wheel under test lies outside the tree's packages and equals them."""
    assert root / "hub_compat" != PACKAGE
    assert Path(hub_compat.converters.__file__).resolve().parent.parent == PACKAGE
    installed = _files(PACKAGE)
    own = _files(root / "hub_compat")
    # In a clone with symbolic links, converters is in there, too.
    tree = {n: p for n, p in own.items() if not n.startswith("converters/")}
    tree.update(("converters/" + n, p) for n, p in _files(root / "converters").items())
    assert sorted(installed) == sorted(tree)
    for name, path in tree.items():
        assert installed[name].read_bytes() == path.read_bytes(), name


def test_setup_cfg_names_every_package(root: Path) -> None:
    """A folder with code that setup.cfg forgets would be left out of the wheel."""
    config = configparser.ConfigParser()
    config.read(str(root / "setup.cfg"), encoding="utf-8")
    listed = set(config["options"]["packages"].split())
    found = {"hub_compat"}
    for init in (root / "converters").rglob("__init__.py"):
        inside = init.parent.relative_to(root).as_posix().replace("/", ".")
        found.add("hub_compat." + inside)
    for init in (root / "hub_compat").glob("*/__init__.py"):
        found.add("hub_compat." + init.parent.name)
    assert listed == found


def test_only_tf_py_imports_tensorflow() -> None:
    """The rule that lint enforces holds for the installed files as well."""
    fenced = {"keras", "pkg_resources", "tensorflow", "tensorflow_hub", "tf_keras"}
    offenders = {
        name: sorted(_imported_modules(path) & fenced)
        for name, path in _package().items()
        if _imported_modules(path) & fenced
    }
    assert {name.split("/")[0] for name in offenders} <= {"_tf"}


# From the foundation up: a file imports its own wing, and those in lines above it.
_FLOORS = (
    "errors",
    "_tf",
    "_io _printing _collector _causes",
    "formats cache _guard",
    "_parsing provenance",
    "_handles",
    "detector",
    "converters.opdata",
    "converters.ir",
    "converters.checkpoint",
    "converters.request",
    "converters.passes converters.trial_loading",
    "converters.frontend converters.backend",
    "converters.slim",
    "converters.lowering converters.pipeline converters.omissions",
    "converters.tf1_hub",
    "converters.source_values",
    "converters.tf1_model",
    "converters.dispatch",
    "converters.verification converters.pruned _preflight",
    "converters.verify",
    "converters",
    "_registration _loaded",
    "loader saver _tf1_form",
    "_keras attachments exporter _modules",
    "module_spec",
    "module",
    "module_fn estimator",
    "image_util",
    "keras2 keras3",
    "feature_column",
    "",
    "_model_commands",
    "cli",
    "__main__",
)


def _module(name: str) -> str:
    """``"converters/ir/graph.py"`` -> ``"converters.ir.graph"``."""
    parts = Path(name).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _wing(module: str) -> str:
    """The longest name in ``_FLOORS`` that the module is, or is in."""
    wings = {wing for floor in _FLOORS for wing in (floor.split() or [""])}
    while module not in wings:
        module = module.rpartition(".")[0]
    return module


def _arrows() -> Iterator[Tuple[str, str]]:
    """The imports between the modules of the package, late ones too."""
    files = _package()
    modules = {_module(name) for name in files}
    for name, path in files.items():
        inside = name.split("/")[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                base = (node.module or "").split(".")
                if node.level:
                    base = inside[: len(inside) + 1 - node.level] + base
                elif base[0] == "hub_compat":
                    base = base[1:]
                else:
                    continue
                for alias in node.names:
                    both = [
                        ".".join(filter(None, base + more))
                        for more in ([alias.name], [])
                    ]
                    yield _module(name), next(m for m in both if m in modules)


def test_every_arrow_points_down() -> None:
    """No wing imports one that stands on it, and none of the same floor."""
    level = {w: i for i, floor in enumerate(_FLOORS) for w in (floor.split() or [""])}
    wrong = [
        (one, other)
        for one, other in sorted(set(_arrows()))
        if _wing(one) != _wing(other) and level[_wing(one)] <= level[_wing(other)]
    ]
    assert wrong == []


@pytest.mark.skipif(INSTALLED, reason="the installed wheel is under test")
def test_the_map_has_every_wing_and_pass(root: Path) -> None:
    """ARCHITECTURE.md is a page, and its table and list have all there are."""
    page = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert page.count("\n") <= 120
    wings = [wing.replace(".", "/") for floor in _FLOORS for wing in floor.split()]
    named = set(re.findall(r"`(?:hub_compat/)?(\w+(?:/\w+)*)/?`", page))
    assert [w for w in wings if w not in named and w + "/__init__" not in named] == []
    tree = ast.parse((root / "converters" / "pipeline.py").read_text(encoding="utf-8"))
    passes = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "passes"
        for alias in node.names
    }
    assert passes - {"invariants"} - named == set()


def test_no_files_import_each_other() -> None:
    """Not on a detour either."""
    arrows: Dict[str, Set[str]] = {}
    for one, other in _arrows():
        arrows.setdefault(one, set()).add(other)

    def reachable(start: str) -> Set[str]:
        found: Set[str] = set()
        stack = [start]
        while stack:
            for module in arrows.get(stack.pop(), set()) - found:
                found.add(module)
                stack.append(module)
        return found

    assert [module for module in sorted(arrows) if module in reachable(module)] == []


def test_no_function_of_the_compiler_is_long() -> None:
    """A screen holds each of them."""
    long = [
        (name, node.name)
        for name, path in _package().items()
        if name.startswith("converters/")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        # Python 3.7 does not say where a function ends.
        if isinstance(node, ast.FunctionDef) and hasattr(node, "end_lineno")
        if node.end_lineno - node.lineno >= 60
    ]
    assert long == []


def _attributes_asked_for(node: ast.AST) -> List[str]:
    """``x.name``, and ``getattr(x, "name")``."""
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in ("getattr", "hasattr", "setattr"):
            return [s for s in map(_string, node.args[1:2]) if s is not None]
    return []


def _string(node: ast.AST) -> Optional[str]:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def test_private_names_of_frameworks_are_in_the_same_files() -> None:
    """Elsewhere, no attribute is asked for that is private and not our own."""
    trees = {
        name: ast.parse(path.read_text(encoding="utf-8"))
        for name, path in _package().items()
    }
    nodes = [(name, node) for name, tree in trees.items() for node in ast.walk(tree)]
    # Of a NamedTuple, what load() hangs on an object, and Python's own.
    own = {"_asdict", "_fields", "_replace", "_hub_compat_state", "_is_hub_module_v1"}
    own |= {"_getframe", "_hub_compat_part"}
    for _, node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                own.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    found = {
        (name, asked)
        for name, node in nodes
        for asked in _attributes_asked_for(node)
        if asked.startswith("_") and not asked.startswith("__") and asked not in own
    }
    assert {name.split("/")[0] for name, _ in found} <= {"_tf"}, sorted(found)


def test_every_module_postpones_annotations() -> None:
    """Without the future import, annotations like `list[str]` break Python 3.7."""
    missing = [
        name
        for name, path in _package().items()
        if name != "__main__.py"
        and "from __future__ import annotations" not in path.read_text(encoding="utf-8")
    ]
    assert missing == []


def test_the_package_is_typed() -> None:
    """Type checkers read the annotations only where py.typed lies."""
    assert (PACKAGE / "py.typed").exists()


# Each stands behind a public name, and is imported when that is first used.
_EACH_FIRST = """
import importlib, sys
import hub_compat._tf

for name in (
    "attachments converters.verify converters.tf1_model converters.lowering detector "
    "_keras.embedded exporter loader saver"
).split():
    for other in list(sys.modules):
        if other.startswith("hub_compat.") and other != "hub_compat._tf":
            del sys.modules[other]
    importlib.import_module("hub_compat." + name)
"""


@pytest.mark.tensorflow
def test_what_is_imported_late_can_be_imported_first() -> None:
    """Modules that need each other work in no order by chance."""
    import subprocess
    import sys

    code = "import sys; sys.path[:0] = {!r}\n".format(sys.path) + _EACH_FIRST
    subprocess.run([sys.executable, "-c", code], check=True)
