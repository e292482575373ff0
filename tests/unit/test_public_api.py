"""What `import hub_compat` offers, and what it must not do."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hub_compat
from hub_compat import errors

# All of it, and nothing else: a name that comes or goes is a line of CHANGELOG.
PUBLIC = [
    "ConversionReport",
    "Detection",
    "Format",
    "ImageModuleInfo",
    "KerasLayer",
    "LatestModuleExporter",
    "Module",
    "ModuleSpec",
    "VerificationReport",
    "add_signature",
    "attach_image_module_info",
    "attach_message",
    "convert",
    "create_module_spec",
    "create_module_spec_from_saved_model",
    "detect",
    "errors",
    "eval_function_for_module",
    "export_reusable",
    "get_attached_message",
    "get_expected_image_size",
    "get_num_image_channels",
    "image_embedding_column",
    "load",
    "load_module_spec",
    "register_module_for_export",
    "register_resolver",
    "resolve",
    "save",
    "sparse_text_embedding_column",
    "text_embedding_column",
    "text_embedding_column_v2",
    "verify",
]


def _run(code: str, tmp_path: object) -> str:
    """Runs code in a new interpreter that finds the same hub_compat."""
    package_parent = os.path.dirname(os.path.dirname(hub_compat.__file__))
    environ = dict(os.environ, PYTHONPATH=package_parent, PYTHONDONTWRITEBYTECODE="1")
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=str(tmp_path),
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return result.stdout.decode()


# Installed first in sys.meta_path, so that it also catches importlib.
BLOCKER = """
import sys

class Blocker:
    names = {"keras", "tensorflow", "tensorflow_hub", "tf_keras", "pkg_resources",
             "google.protobuf"}

    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ImportError("blocked: " + name)
        return None

sys.meta_path.insert(0, Blocker())
"""


def test_all_is_sorted_and_complete() -> None:
    """__all__ lists the public names, each once, in order."""
    assert hub_compat.__all__ == PUBLIC


def test_type_checkers_see_what_there_is() -> None:
    """The block for type checkers names all that is served late."""
    tree = ast.parse(Path(hub_compat.__file__).read_text(encoding="utf-8"))
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    names = [
        alias.asname
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(filter(None, names)) == PUBLIC


# What tensorflow_hub 0.12 and 0.15 have for TensorFlow 1.
OF_TENSORFLOW_HUB = [
    "LatestModuleExporter",
    "Module",
    "ModuleSpec",
    "add_signature",
    "attach_image_module_info",
    "attach_message",
    "create_module_spec",
    "create_module_spec_from_saved_model",
    "eval_function_for_module",
    "get_expected_image_size",
    "get_num_image_channels",
    "image_embedding_column",
    "load_module_spec",
    "register_module_for_export",
    "sparse_text_embedding_column",
    "text_embedding_column",
    "text_embedding_column_v2",
]


def test_the_page_on_migration_has_every_name(root: Path) -> None:
    """Each name of tensorflow_hub is public here, and in the table."""
    assert set(OF_TENSORFLOW_HUB) <= set(PUBLIC)
    page = root / "docs" / "how-to" / "migrate-from-hub-module.md"
    text = page.read_text(encoding="utf-8")
    lacking = [n for n in OF_TENSORFLOW_HUB if not re.search("`" + n + r"\b", text)]
    assert lacking == []


def test_other_names_are_errors() -> None:
    """They are errors of Python's own."""
    with pytest.raises(AttributeError, match="'Modules'$"):
        getattr(hub_compat, "Modules")  # noqa: B009
    with pytest.raises(ImportError, match="cannot import name 'Modules'"):
        exec("from hub_compat import Modules", {})


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_resolve(name: str) -> None:
    """Every public name can be had, and has a docstring."""
    if name not in ("errors", "register_resolver", "resolve"):
        pytest.importorskip("tensorflow")
    found = getattr(hub_compat, name)
    # protobuf makes this class, without a docstring.
    assert found.__doc__ or name == "ImageModuleInfo"


def test_dir_shows_the_lazy_names() -> None:
    """Completion in a shell offers names that are not loaded yet."""
    assert set(hub_compat.__all__) <= set(dir(hub_compat))


def test_unknown_names_are_attribute_errors() -> None:
    """A typo raises what hasattr() and doctest expect."""
    with pytest.raises(AttributeError, match="no_such_name"):
        hub_compat.no_such_name  # noqa: B018


def test_the_lazy_names_are_their_modules_own() -> None:
    """The package's names are the very objects of the modules behind them."""
    import hub_compat.formats

    assert hub_compat.Format is hub_compat.formats.Format
    assert hub_compat.errors is errors


def test_star_import_of_errors_matches_the_tree() -> None:
    """errors.__all__ lists every exception, and each is in the drawn tree."""
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert sorted(errors.__all__) == errors.__all__
    assert set(errors.__all__) == classes
    for name in classes:
        assert name in (errors.__doc__ or "")
        assert issubclass(getattr(errors, name), errors.HubCompatError)


def test_import_loads_no_framework(tmp_path: object) -> None:
    """Importing the package, its detector and its command line needs none."""
    code = BLOCKER + textwrap.dedent(
        """
        import hub_compat, hub_compat.cli, hub_compat.errors
        hub_compat.detect, hub_compat.Format, hub_compat.Detection, dir(hub_compat)
        assert not [m for m in sys.modules if m.split(".")[0] in Blocker.names]
        print("clean")
        """
    )
    assert _run(code, tmp_path) == "clean\n"


def test_import_has_no_side_effects(tmp_path: object) -> None:
    """No environment variable or warning filter; of flags, TensorFlow Hub's two."""
    code = """
        import os, sys, warnings
        from absl import flags, logging
        own = {"tfhub_cache_dir", "tfhub_model_load_format"}
        before = (dict(os.environ), list(warnings.filters), set(flags.FLAGS) | own)
        import hub_compat, hub_compat.cli
        hub_compat.detect
        after = (dict(os.environ), list(warnings.filters), set(flags.FLAGS))
        assert before == after
        print("clean")
    """
    assert _run(code, tmp_path) == "clean\n"


def test_import_is_fast(tmp_path: object) -> None:
    """`import hub_compat` stays under 50 ms; the best of five, on a busy machine."""
    code = """
        import time
        start = time.perf_counter()
        import hub_compat
        print(time.perf_counter() - start)
    """
    assert min(float(_run(code, tmp_path)) for _ in range(5)) < 0.05


def test_without_tensorflow_the_error_says_what_to_install(tmp_path: object) -> None:
    """MissingDependencyError names the pip command, and is an ImportError."""
    code = BLOCKER + textwrap.dedent(
        """
        from hub_compat.errors import MissingDependencyError
        try:
            import hub_compat._tf
        except MissingDependencyError as error:
            assert isinstance(error, ImportError)
            print(error)
        """
    )
    assert "pip install" in _run(code, tmp_path)
