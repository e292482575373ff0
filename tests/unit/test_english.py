"""What people read is plain English: short sentences, and words of the glossary."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

import hub_compat
import hub_compat.converters

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(hub_compat.__file__).resolve().parent
MOST_WORDS = 25
# Words that were coined here, and what docs/glossary.md has in their place.
COINED: Dict[str, str] = {
    r"tangles?": "connected component",
    r"takers?": "user of a tensor",
    r"(first|last|each|every) turns?|turns of (a|the) loop": "iteration",
    r"look-?alikes?": "near misses",
    r"own gradients?|gradients? of (its|their|your) own": "custom gradient",
    r"(is|are|was|were) left out": "skipped",
    r"half of (it|the module) was fetched": "fetched in part",
    r"costs itself": "only that one is skipped",
}


def _sentences(text: str) -> List[str]:
    """The sentences of a Markdown page, outside of code, tables and comments."""
    text = re.sub(r"^```.*?^```", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "\n", text, flags=re.DOTALL)
    text = re.sub(r"^\|.*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^#.*$", "\n", text, flags=re.MULTILINE)
    # Code and links are words; a full stop in them ends no sentence.
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", lambda m: m.group(1).replace(".", ""), text)
    text = re.sub(r"\*\*", "", text)
    blocks = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", "\n" + text)
    sentences = []
    for block in blocks:
        flat = " ".join(block.split())
        sentences += re.split(r"(?<=[.?!])[)\"]?\s+(?=[\"(]?[A-Za-z0-9])", flat)
    return [sentence for sentence in sentences if sentence]


def _words(sentence: str) -> int:
    return len(re.findall(r"[\w'/.-]*\w", sentence))


# Not those that a command writes out of docstrings and results.
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES += ["docs/{}.md".format(name) for name in ("glossary", "releasing", "stability")]
for folder in ("docs/design", "docs/how-to"):
    PAGES += sorted(folder + "/" + page.name for page in (ROOT / folder).glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page: str) -> None:
    """No sentence of the pages that people wrote has over 25 words."""
    text = (ROOT / page).read_text(encoding="utf-8")
    long = [s for s in _sentences(text) if _words(s) > MOST_WORDS]
    assert long == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_the_words_of_the_field(page: str) -> None:
    """No page has a word that was coined here."""
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    found = [c for c in COINED if re.search(r"\b(?:{})\b".format(c), text, re.I)]
    assert found == []


def test_the_glossary_is_short() -> None:
    """At most thirty terms, each once."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\| (?!term |---)([^|]+) \|", text, re.MULTILINE)
    assert 0 < len(terms) == len(set(terms)) <= 30


def test_long_sentences_are_found() -> None:
    """Over lines, in lists, and past code with full stops in it."""
    words = "word " * 20
    text = "Short. {}\nand `a.b. C` [d. E](f. G) and more of it.\n\n- {}. Yes.\n"
    assert [_words(s) for s in _sentences(text.format(words, words))] == [1, 28, 20, 1]


def _messages(path: Path) -> Iterator[str]:
    """The texts of a file that are not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # A string that stands alone is a docstring.
    alone = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in alone and " " in node.value:
                yield node.value
        elif isinstance(node, getattr(ast, "Str", ())) and id(node) not in alone:
            yield node.s  # Python 3.7 has constants by kind.


def test_messages_have_the_words_of_the_field() -> None:
    """No message has a word that was coined here."""
    folders = [PACKAGE, Path(hub_compat.converters.__file__).resolve().parent]
    messages = {
        (path.name, message)
        for folder in folders
        for path in folder.rglob("*.py")
        for message in _messages(path)
    }
    found = [
        (name, message, COINED[coined])
        for coined in COINED
        for name, message in sorted(messages)
        if re.search(r"\b(?:{})\b".format(coined), message, re.IGNORECASE)
    ]
    assert found == []


def test_messages_have_short_sentences() -> None:
    """No sentence of an error has over 25 words; the received value ends it."""
    folders = [PACKAGE, Path(hub_compat.converters.__file__).resolve().parent]
    long = [
        (path.name, sentence)
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        for message in _messages(path)
        if "Received: " in message
        for sentence in re.split(r"(?<=[.?!])\s+", message)
        if _words(sentence) > MOST_WORDS
    ]
    assert long == []
