"""README.md and the pages beside it: what they show runs, or is what the files have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hub_compat as hub

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for folder in (ROOT, ROOT / "docs")
    for page in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
)
# The comment before a block of code says which file it is of.
_QUOTED = re.compile(r"<!-- (all of|from) (\S+) -->\n+```\w*\n(.*?)```", re.DOTALL)


@pytest.mark.tensorflow
@pytest.mark.tf2
def test_the_first_example_runs(tmp_path: Path) -> None:
    """README's first example runs as it stands, in a clone of the repository."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert example is not None
    # As in this process: the installed package, or that of the checkout.
    here = str(Path(hub.__file__).resolve().parent.parent)
    (tmp_path / "testdata").symlink_to(ROOT / "testdata")
    found = subprocess.run(
        [sys.executable, "-c", example.group(1)],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=here),
        capture_output=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr.decode()
    assert found.stdout.decode().strip().endswith("TF1_HUB_MODULE")
    assert (tmp_path / "saved_model_dir" / "saved_model.pb").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    """A relative link of a page leads to a file of the repository."""
    text = re.sub(
        r"```.*?```|`[^`\n]*`",
        "",
        (ROOT / page).read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", text)
    gone = [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert gone == []


@pytest.mark.parametrize("page", PAGES)
def test_quoted_code_is_that_of_the_files(page: str) -> None:
    """Code that a page quotes is in the file, word by word."""
    page_text = (ROOT / page).read_text(encoding="utf-8")
    quoted = _QUOTED.findall(page_text)
    for how, name, code in quoted:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert code == text if how == "all of" else code in text, name
    assert len(quoted) == len(re.findall(r"<!-- (?:all of|from) ", page_text))


def test_the_how_to_pages_quote_code() -> None:
    """So the test before this one compares something."""
    text = (ROOT / "docs" / "how-to" / "write-a-pass.md").read_text(encoding="utf-8")
    assert len(_QUOTED.findall(text)) == 5
